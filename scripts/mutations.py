#!/usr/bin/env python3
"""Takes out one protection at a time, and looks whether the test that must notice goes red.

    scripts/mutations.py                 each by itself: one build for each
    scripts/mutations.py --only flush    those whose name holds the word
    scripts/mutations.py --together      all in one build, their tests one after the other: quicker, and a weaker proof

A mutation is a line of the sources and what stands there instead. A line that is gone or is there twice is a failure of this script: whoever
changes such a line changes it here too. The files are put back whatever happens. Ends with 1 when a test stays green.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Name; the edits (file, what stands there, what stands there instead); the tests of which one must fail.
MUTATIONS = [
    ("token check of the lease",
     [("src/db/lease.rs", "recording_id = $1 and lease_token = $2 \\\n             and lease_owner is not null{}",
       "recording_id = $1 and lease_token >= $2 \\\n             and lease_owner is not null{}")],
     ["db_work::a_lost_lease_cannot_publish_or_settle"]),
    ("conditional create",
     [("src/archive/disk/place.rs", "to, RenameFlags::NOREPLACE) {", "to, RenameFlags::empty()) {")],
     ["archive::of_many_that_put_at_once_all_agree_or_conflict", "archive::another_object_under_a_taken_key_is_a_conflict_and_changes_nothing"]),
    ("reading back",
     [("src/domain/proof.rs", "if *expected == read_back {", "if *expected == read_back || read_back.bytes > 0 {")],
     ["archive_faults::a_flipped_bit_gets_no_proof"]),
    ("flush of the journal",
     [("src/spool/journal/writer.rs", "        self.file.sync_data()?;\n", "")],
     ["power_cut::what_was_said_to_be_kept_survives_a_power_cut"]),
    ("flush of the archive",
     [("src/archive/disk/place.rs", "        self.file.sync_all()?;\n        match rename", "        match rename"),
      ("src/archive/disk/place.rs", "    File::open(folder)?.sync_all()", "    File::open(folder).map(|_| ())")],
     ["power_cut::what_was_said_to_be_kept_survives_a_power_cut"]),
    ("unique key of a notice",
     [("migration/src/m0001_notices.rs", "create unique index notice_source_dedup_key", "create index notice_source_dedup_key"),
      ("src/db/batch.rs", "on conflict (source, dedup_key) do nothing returning notice_id", "returning notice_id")],
     ["db_notices::a_repeated_notice_is_counted_and_stored_once"]),
    ("order of commit and answer",
     [("src/db/batch.rs", "    txn.commit().await?;\n    Ok(added)\n",
       "    tokio::spawn(async move {\n        tokio::time::sleep(Duration::from_secs(2)).await;\n        txn.commit().await\n    });\n    Ok(added)\n")],
     ["db_notices::many_callers_share_commits_and_every_notice_is_there_afterwards"]),
]


class Broken(Exception):
    pass


def mutated(edits, texts):
    """The texts with the edits made."""
    for file, there, instead in edits:
        text = texts.get(file) or (ROOT / file).read_text()
        if text.count(there) != 1:
            raise Broken(f"{file}: this must be there once and is there {text.count(there)} times:\n{there}")
        texts[file] = text.replace(there, instead)
    return texts


def cargo(*arguments):
    return subprocess.run(["cargo", "test", "--quiet", "--test", "it", *arguments], cwd=ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def is_red(test):
    done = cargo(test, "--", "--exact")
    if "running 1 test" not in done.stdout:
        raise Broken(f"there is no test {test}, or it does not build:\n{done.stdout[-3000:]}")
    if "SKIPPED" in done.stdout or "skipped:" in done.stdout:
        raise Broken(f"{test} was skipped: {done.stdout[-500:]}")
    return done.returncode != 0


def play(mutations):
    """Names of the mutations that no test noticed."""
    texts = {}
    for _, edits, _ in mutations:
        texts = mutated(edits, texts)
    before = {file: (ROOT / file).read_text() for file in texts}
    try:
        for file, text in texts.items():
            (ROOT / file).write_text(text)
        built = cargo("--no-run")
        if built.returncode != 0:
            raise Broken(f"it does not build:\n{built.stdout[-3000:]}")
        green = []
        for name, _, tests in mutations:
            red = [test for test in tests if is_red(test)]
            print(f"without {name}: {'red: ' + ', '.join(red) if red else 'GREEN: ' + ', '.join(tests)}", flush=True)
            if not red:
                green.append(name)
        return green
    finally:
        for file, text in before.items():
            (ROOT / file).write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutations whose name holds this")
    parser.add_argument("--together", action="store_true", help="all in one build")
    args = parser.parse_args()
    chosen = [one for one in MUTATIONS if args.only in one[0]]
    began, green = time.monotonic(), []
    try:
        for group in ([chosen] if args.together else [[one] for one in chosen]):
            green += play(group)
    except Broken as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print(f"{len(chosen)} protections taken out, {len(chosen) - len(green)} noticed, {time.monotonic() - began:.0f} s")
    return 1 if green or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
