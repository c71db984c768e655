#!/usr/bin/env python3
"""Compares a folder's ledger with what callvault says, for anyone who wants to believe neither.

    scripts/compare_ledger.py callvault-demo

It knows the folder's `served.ndjson`, which the simulated vendors wrote, and the command line (`search`, `show`,
`get`); it opens neither database nor archive. For every line of the ledger: state as expected, archived exactly once,
and the original fetched, hashed and measured here. A call whose parties were joined has its joint copy, fetched and hashed too. Ends with 1 and a table when they disagree.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class Callvault:
    """The command line on one folder."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.config = Path(folder) / "callvault.toml"

    def run(self, *args):
        command = [self.binary, "--config", str(self.config), "--json", *args]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def lines(self, *args):
        done = self.run(*args)
        if done.returncode != 0:
            raise RuntimeError(f"callvault {' '.join(args)}: exit {done.returncode}: {done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]

    def show(self, an_id):
        return self.lines("show", "--", an_id)[0]

    def get(self, an_id, role, path):
        done = self.run("get", "--role", role, "-o", str(path), "--", an_id)
        if done.returncode != 0:
            raise RuntimeError(f"callvault get {an_id} --role {role}: exit {done.returncode}: {done.stderr.strip()}")


def default_binary():
    root = Path(__file__).resolve().parent.parent
    return os.environ.get("CALLVAULT_BIN") or str(root / "target" / "release" / "callvault")


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def mp3_frame_ms(rate_hz):
    """One MP3 frame: 1152 samples from 32 kHz on (MPEG-1), 576 below (MPEG-2 and 2.5)."""
    samples = 1152 if rate_hz >= 32000 else 576
    return samples * 1000 / rate_hz


def names(recording):
    found = [recording.get("provider_call_id"), recording.get("provider_recording_id")]
    return {name for name in found + list(recording.get("correlation_ids") or []) if name}


def is_another_name(callvault, hit, an_id):
    """Some vendors give each leg of a call an id of its own, or several to the call; it goes by one of them."""
    call = callvault.show(hit["call_id"])["call"]
    return an_id in call["aliases"] or any(leg["provider_leg_id"] == an_id for leg in call["legs"])


def found_for(callvault, line):
    # Some vendors' ids begin with a dash.
    hits = callvault.lines("search", "--source", line["source"], "--limit", "0", "--", line["provider_call_id"])
    wanted = {line["provider_call_id"]}
    if line.get("provider_recording_id"):
        wanted.add(line["provider_recording_id"])
    # A call may go by another of its names than the one that the ledger wrote down.
    mine = [hit for hit in hits if names(hit) & wanted or is_another_name(callvault, hit, line["provider_call_id"])]
    if line.get("provider_recording_id") and len(mine) > 1:
        exact = [hit for hit in mine if hit.get("provider_recording_id") == line["provider_recording_id"]]
        mine = exact or mine
    if line["expect"] == "archived" and len(mine) > 1:
        # Several recordings of one call, a line for each: told apart by their bytes. One too many is a stranger below.
        same = [hit for hit in mine if (hit.get("original") or {}).get("sha256") == line["sha256"]]
        mine = same or mine
    return mine


def judge(callvault, line):
    """What is wrong with one line of the ledger: a list of (what, expected, found)."""
    try:
        hits = found_for(callvault, line)
    except RuntimeError as error:
        return [("search", "an answer", str(error))], None
    recordings = [hit for hit in hits if hit.get("recording_id")]
    expect = line["expect"]
    states = sorted(f"{hit['state']}" + (f" ({hit['reason']})" if hit.get("reason") else "") for hit in hits)
    if expect == "none":
        # Nobody told of a recording, so there is none: the call at most.
        return [("state", "none", ", ".join(states))] if recordings else [], None
    if len(recordings) != 1:
        return [("recordings", f"one, {expect}", f"{len(recordings)}: {', '.join(states) or 'nothing found'}")], None
    recording = recordings[0]
    if recording["state"] != expect:
        return [("state", expect, states[0])], recording["recording_id"]
    if expect != "archived":
        has_objects = recording.get("original") or recording.get("access")
        return [("objects", "none", "an object")] if has_objects else [], None
    return judge_archived(callvault, line, recording), recording["recording_id"]


def judge_archived(callvault, line, recording):
    wrong = []

    def expect(what, wanted, found):
        if wanted != found:
            wrong.append((what, str(wanted), str(found)))

    original = recording.get("original")
    if original is None:
        return [("original", "an object", "null")]
    expect("sha256", line["sha256"], original["sha256"])
    expect("bytes", line["bytes"], original["bytes"])
    check_duration(line, recording, original, wrong)
    recording_id = recording["recording_id"]
    try:
        shown = callvault.show(recording_id)
        same = [one for one in shown["recordings"] if one["recording_id"] == recording_id]
        expect("shown", 1, len(same))
        originals = [o for one in same for o in one["objects"] if o["role"] == "original"]
        if "mpegurl" in original["mime"]:
            # A playlist and its segments are originals of one recording.
            expect("playlist and segments", True, len(originals) > 1)
        else:
            expect("originals", 1, len(originals))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "original"
            check_joint(callvault, recording, shown, Path(folder), expect)
            callvault.get(recording_id, "original", path)
            expect("bytes fetched", line["bytes"], path.stat().st_size)
            expect("sha256 fetched", line["sha256"], sha256_of(path))
    except (RuntimeError, OSError, KeyError) as error:
        wrong.append(("fetch", "the original", repr(error)))
    return wrong


def check_joint(callvault, recording, shown, folder, expect):
    """The call's own access copy, where a note says that the parties were joined, and none where it says that they were not."""
    joint, notes = shown["call_access"], set(recording["notes"])
    is_paired = bool({"paired", "paired_by_beginnings"} & notes)
    if is_paired or {"other_party_missing", "not_paired"} & notes:
        expect("joint copy", is_paired, joint is not None)
    if not is_paired or joint is None:
        return
    call_id = recording["call_id"]
    folder_name, name = joint["key"].rsplit("/", 1)
    expect("joint copy's folder", f"call-{call_id}", folder_name.rsplit("/", 1)[1])
    expect("joint copy's name", True, re.fullmatch(r"access-\d{4}\.mp3", name) is not None)
    path = folder / "joint.mp3"
    callvault.get(call_id, "access", path)
    expect("joint copy's sha256 fetched", joint["sha256"], sha256_of(path))


def check_duration(line, recording, original, wrong):
    wanted, found = line.get("duration_ms"), original.get("duration_ms")
    if wanted is None:
        return  # The ledger does not know; whatever was decoded is news, not a disagreement.
    if found is None:
        # Not decoded: allowed only where a note says why.
        if not recording.get("notes"):
            wrong.append(("duration_ms", str(wanted), "null without a note"))
        return
    allowed = mp3_frame_ms(original.get("sample_rate_hz") or 8000) + 1
    if abs(found - wanted) > allowed:
        wrong.append(("duration_ms", f"{wanted} within {allowed:.0f}", str(found)))


def strangers(callvault, lines, known):
    """Archived recordings of the ledger's sources that no line of the ledger accounts for."""
    sources = {line["source"] for line in lines}
    archived = callvault.lines("search", "--state", "archived", "--limit", "0")
    return [hit for hit in archived if hit["source"] in sources and hit["recording_id"] not in known]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="holds callvault.toml and served.ndjson")
    parser.add_argument("--ledger", help="another ledger than FOLDER/served.ndjson")
    parser.add_argument("--binary", default=default_binary(), help="callvault (else $CALLVAULT_BIN, target/release)")
    args = parser.parse_args()

    callvault = Callvault(args.binary, args.folder)
    ledger = Path(args.ledger or Path(args.folder) / "served.ndjson")
    lines = [json.loads(line) for line in ledger.read_text().splitlines() if line.strip()]
    if not lines:
        print(f"{ledger} holds no line", file=sys.stderr)
        return 1
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        verdicts = list(pool.map(lambda line: judge(callvault, line), lines))

    rows, known, counts = [], set(), {}
    for number, (line, (wrong, recording_id)) in enumerate(zip(lines, verdicts), start=1):
        counts[line["expect"]] = counts.get(line["expect"], 0) + 1
        if recording_id:
            known.add(recording_id)
        for what, wanted, found in wrong:
            rows.append((str(number), line["source"], line["provider_call_id"], "+".join(line["mishaps"]) or "-", what, wanted, found))
    for hit in strangers(callvault, lines, known):
        rows.append(("-", hit["source"], str(hit["provider_call_id"]), "-", "archived", "a line in the ledger", hit["recording_id"]))

    if rows:
        header = ("line", "source", "call", "mishaps", "what", "expected", "found")
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        for row in [header, *rows]:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        print(f"{len(rows)} disagreements in {len(lines)} lines", file=sys.stderr)
        return 1
    told = ", ".join(f"{count} {expect}" for expect, count in sorted(counts.items()))
    print(f"ledger and callvault agree on {len(lines)} lines: {told}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, OSError) as error:
        sys.exit(str(error))
