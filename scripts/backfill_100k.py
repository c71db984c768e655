#!/usr/bin/env python3
"""Backfills a long history from a simulated vendor, kills the walk three times, and lets live recordings pass it.

    scripts/backfill_100k.py --recordings 100000

Knows the built binary, its command line and its API, and plays a vendor of its own: Feiyu as its manual describes it, with
short recordings that are made when they are asked for. The vendor writes down every question and every download, so its
word counts, not callvault's. Shown at the end: the forecast and what it came to; every recording archived once with the
bytes that the vendor gave; nothing asked or downloaded twice; each live recording archived while history was waiting.
Ends with 1 and leaves the folder when one of these fails. The access copies of history come later and are not waited for.

With `--kill-serve N` the service is killed N times as well; then what it had in hand may be asked for once more.
"""

import argparse
import asyncio
import hashlib
import http.client
import json
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare_ledger import Callvault, default_binary  # noqa: E402

APP_ID, APP_TOKEN = "5B1A0000000000000000000000000001", "7C2B0000000000000000000000000002"
HOOK_TOKEN = "backfill-hook-token-0001"
SOURCE = "feiyu-h"
HANDS = 16
KILLS = 3
# Rows that a killed walk may have told and not yet noted.
ROWS = 256
# Half a second of noise at 8 kHz, the same for all; each recording carries its own name before it.
NOISE = random.Random(1).randbytes(8000)


def recording(call_id):
    name = call_id.encode() + b"\0" * (2 - len(call_id) % 2)
    info = b"INFOICMT" + struct.pack("<I", len(name)) + name
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    body += b"LIST" + struct.pack("<I", len(info)) + info
    body += b"data" + struct.pack("<I", len(NOISE)) + NOISE
    return b"RIFF" + struct.pack("<I", len(body)) + body


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def signature(ti):
    return hashlib.md5((APP_ID + APP_TOKEN + ti).encode()).hexdigest().upper()


class Vendor:
    """Two pages: the question for an address, and the file behind it."""

    def __init__(self, port, ledger):
        self.port = port
        self.ledger = open(ledger, "a", buffering=1 << 16)

    def answer(self, method, target, body):
        path, _, query = target.partition("?")
        if path == "/api/getRecordDownUrl" and method == "POST":
            fields = dict(urllib.parse.parse_qsl(body.decode()))
            call = fields.get("fyCallId") or fields.get("callId", "")
            ti = fields.get("ti", "")
            fresh = ti.isdigit() and abs(time.time() * 1000 - int(ti)) < 30 * 60 * 1000
            if fields.get("appId") != APP_ID or not fresh or fields.get("au") != signature(ti):
                return "application/json", b'{"resultCode":"100001","resultMsg":"signature wrong"}'
            self.ledger.write(f"ask {call}\n")
            address = f"http://127.0.0.1:{self.port}/rec/{call.removesuffix('@fy')}.wav?e={int(time.time()) + 1800}"
            return "application/json", json.dumps({"resultCode": "0", "resultMsg": "ok", "result": address}).encode()
        if path.startswith("/rec/") and method == "GET" and query:
            call = path.removeprefix("/rec/").removesuffix(".wav") + "@fy"
            self.ledger.write(f"file {call}\n")
            return "audio/x-wav", recording(call)
        return None

    async def talk(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line, *headers = head.decode("latin-1").split("\r\n")
                method, target, _ = line.split(" ")
                named = dict(header.lower().split(": ", 1) for header in headers if ": " in header)
                body = await reader.readexactly(int(named.get("content-length", 0)))
                found = self.answer(method, target, body)
                status = "200 OK" if found else "404 Not Found"
                mime, content = found or ("text/plain", b"")
                writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {mime}\r\nContent-Length: {len(content)}\r\n\r\n".encode())
                writer.write(content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    async def serve(self):
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        async with await asyncio.start_server(self.talk, "127.0.0.1", self.port, backlog=1024):
            await ended.wait()
        self.ledger.close()


class Run:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.binary = args.bin
        self.port, self.vendor_port = free_port(), free_port()
        self.config = folder / "callvault.toml"
        self.ledger = folder / "vendor.log"
        self.serve = None
        self.live = []
        self.stopping = threading.Event()
        self.failures = []
        self.over = None

    def write(self):
        self.config.write_text(f"""
[server]
listen = "127.0.0.1:{self.port}"
[database]
url = "sqlite://callvault.db"
[archive]
kind = "directory"
path = "archive"
[spool]
path = "spool"
[worker]
recordings = {HANDS}
[log]
level = "warn"
[sources.{SOURCE}]
kind = "feiyu"
base_url = "http://127.0.0.1:{self.vendor_port}"
app_id = "{APP_ID}"
app_token = "{APP_TOKEN}"
auth_profile = "v2_au"
hook_token = "{HOOK_TOKEN}"
first_try_after = "1s"
provider_keeps = "30d"
requests_per_second = {self.args.rate}
codes.not_ready = ["100023"]
codes.gone = ["100024"]
codes.auth = ["100001"]
allow_hosts = ["127.0.0.1:{self.vendor_port}"]
allow_private_addresses = true
http_links = "allow"
""")
        with open(self.folder / "ids.csv", "w") as ids:
            ids.write("ended_at,provider_call_id\n")
            now = datetime.now(timezone.utc)
            for n in range(self.args.recordings):
                ended = now - timedelta(days=1, seconds=n * 19 * 86400 // self.args.recordings)
                ids.write(f"{ended:%Y-%m-%dT%H:%M:%SZ},h{n}@fy\n")

    def start(self):
        log = open(self.folder / "serve.log", "ab")
        self.serve = subprocess.Popen([self.binary, "--config", str(self.config), "serve"],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                self.get("/healthz")
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"serve does not answer, see {self.folder}/serve.log")

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return json.loads(body) if body.startswith(b"{") else body

    def status(self):
        return self.get("/api/v1/status")

    def backfill(self, *more):
        return subprocess.Popen(
            [self.binary, "--config", str(self.config), "--json", "backfill", "--source", SOURCE, "--ids",
             str(self.folder / "ids.csv"), *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def report(self, *more):
        done = self.backfill(*more)
        out, _ = done.communicate()
        if done.returncode != 0:
            raise RuntimeError(f"backfill ended with {done.returncode}: {out}")
        return json.loads(out)

    def told(self):
        doors = self.status()["sources"][0]["doors"]
        return doors.get("import", {}).get("notices", 0)

    def archived(self):
        return self.status()["queues"]["recordings"].get("archived", 0)

    def announce(self):
        """Live recordings, one after the other: announced, and looked for until each is archived."""
        number = 0
        while not self.stopping.wait(self.args.live_every):
            call = f"l{number}@fy"
            number += 1
            ti = str(int(time.time() * 1000))
            form = urllib.parse.urlencode(
                {"action": "recordEnd", "fyCallId": call, "appId": APP_ID, "ti": ti, "au": signature(ti)})
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("POST", f"/hooks/{SOURCE}/{HOOK_TOKEN}", form,
                                   {"Content-Type": "application/x-www-form-urlencoded"})
                if connection.getresponse().status != 200:
                    continue
            except OSError:
                # Killed in this moment.
                continue
            begun = time.monotonic()
            self.live.append([call, begun, None, None])

    def watch(self):
        """Notes when live recordings are in, and how much history waited then."""
        while not self.stopping.is_set():
            for entry in [entry for entry in self.live if entry[2] is None]:
                try:
                    found = self.get(f"/api/v1/recordings?state=archived&q={urllib.parse.quote(entry[0])}")
                    if found["items"]:
                        entry[2] = time.monotonic() - entry[1]
                        entry[3] = self.args.recordings - (self.archived() - sum(e[2] is not None for e in self.live))
                except (OSError, ValueError, KeyError):
                    pass
            time.sleep(0.2)

    def demand(self, holds, what):
        print(("  ok    " if holds else "  FAIL  ") + what, flush=True)
        if not holds:
            self.failures.append(what)

    def go(self):
        args = self.args
        self.write()
        vendor = subprocess.Popen([sys.executable, __file__, "--vendor", str(self.vendor_port), str(self.ledger)])
        try:
            self.start()
            forecast = self.report("--dry-run")["forecast"]
            begun, begun_at = time.monotonic(), datetime.now(timezone.utc)
            done_at = datetime.fromisoformat(forecast["done_at"])
            told_s = (done_at - begun_at).total_seconds()
            print(f"forecast: {forecast['recordings']} recordings, {forecast['questions']} questions at {args.rate:g} a second, "
                  f"done in {told_s:.0f} s", flush=True)
            for work in (self.announce, self.watch):
                threading.Thread(target=work, daemon=True).start()
            cut = []
            for kill in range(1, KILLS + 1):
                walk = self.backfill()
                while walk.poll() is None and self.told() < args.recordings * kill // (KILLS + 1):
                    time.sleep(0.2)
                if walk.poll() is not None:
                    raise RuntimeError("the walk was over before it was killed: take more recordings")
                walk.kill()
                walk.wait()
                cut.append(self.told())
                print(f"killed the walk with SIGKILL after {cut[-1]} of {args.recordings} were told", flush=True)
            last = self.report()
            print(f"the walk is over after {time.monotonic() - begun:.0f} s: {last['walked']} walked by the last run, "
                  f"{last['repeated']} told before", flush=True)
            kills, shown = 0, time.monotonic()
            while True:
                live = sum(entry[2] is not None for entry in self.live)
                done = self.archived() - live
                if done >= args.recordings:
                    break
                if kills < args.kill_serve and done >= args.recordings * (kills + 1) // (args.kill_serve + 1):
                    self.serve.kill()
                    self.serve.wait()
                    kills += 1
                    print(f"killed the service with SIGKILL after {done} were archived", flush=True)
                    self.start()
                if time.monotonic() - shown > 30:
                    shown = time.monotonic()
                    print(f"  {shown - begun:5.0f} s: {done} archived, {done / (shown - begun):.0f} a second; "
                          f"{live} live", flush=True)
                time.sleep(2)
            self.over = time.monotonic()
            took_s = self.over - begun
            print(f"all archived after {took_s:.0f} s, {args.recordings / took_s:.0f} a second", flush=True)
            self.stopping.set()
            self.settle()
            lines = Callvault(self.binary, self.folder).lines("search", "--limit", "0", "--source", SOURCE)
            self.serve.terminate()
            self.serve.wait()
        finally:
            self.stopping.set()
            for process in (self.serve, vendor):
                if process and process.poll() is None:
                    process.terminate()
                    process.wait()
        self.judge(lines, last, forecast, told_s, took_s)

    def settle(self):
        """Until the last live recordings are in."""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            found = self.status()["queues"]["recordings"]
            if not found.get("pending", 0) and not found.get("staged", 0):
                return
            time.sleep(0.5)

    def judge(self, lines, last, forecast, told_s, took_s):
        args = self.args
        self.demand(forecast["recordings"] == args.recordings and forecast["lost_already"] == 0,
                    f"the forecast counts {forecast['recordings']} and no loss")
        print(f"        forecast {told_s:.0f} s, took {took_s:.0f} s ({took_s / told_s:.2f} of it)")
        self.demand(last["went_on_from"] is not None and last["repeated"] <= ROWS * KILLS,
                    f"the last run went on at line {last['went_on_from']}, {last['repeated']} of its rows were told before")
        self.demand(last["walked"] < args.recordings * 2 // 3, f"it walked {last['walked']} rows, not all again")
        states = Counter(line["state"] for line in lines)
        calls = Counter(line["provider_call_id"] for line in lines)
        self.demand(set(states) == {"archived"} and len(lines) == args.recordings + len(self.live),
                    f"{len(lines)} recordings: {dict(states)}")
        self.demand(max(calls.values()) == 1, "each call has one recording")
        wrong = [line["provider_call_id"] for line in lines if line["state"] == "archived" and
                 line["original"]["sha256"] != hashlib.sha256(recording(line["provider_call_id"])).hexdigest()]
        self.demand(not wrong, f"all have the vendor's bytes {wrong[:3] or ''}")
        asked = Counter(self.ledger.read_text().split("\n"))
        asked.pop("", None)
        for what in ("ask", "file"):
            each = {line: n for line, n in asked.items() if line.startswith(what + " ")}
            again = sum(each.values()) - len(each)
            self.demand(len(each) == len(lines) and again <= HANDS * args.kill_serve,
                        f"the vendor's log: {len(each)} recordings {'asked for' if what == 'ask' else 'downloaded'}, "
                        f"{again} a second time")
        passed = [entry for entry in self.live if entry[2] is not None and entry[3] > 0]
        waits = sorted(entry[2] for entry in passed)
        # The last were announced when history was nearly over: later than any other had to wait, and two looks.
        late = [entry for entry in self.live if entry not in passed]
        within = max(waits, default=0) + 4
        self.demand(passed and all(self.over - entry[1] < within for entry in late),
                    f"{len(passed)} of {len(self.live)} live recordings were archived while history waited, "
                    f"the others were announced in its last {within:.0f} s")
        if waits:
            middle = passed[len(passed) // 2]
            print(f"        after {waits[len(waits) // 2]:.1f} s (median), {waits[-1]:.1f} s at most, of which 1 s is the vendor's own wait; "
                  f"{middle[3]} of history waited when {middle[0]} was in")


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--vendor":
        asyncio.run(Vendor(int(sys.argv[2]), sys.argv[3]).serve())
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=default_binary())
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=100, help="the vendor's limit: questions a second")
    parser.add_argument("--live-every", type=float, default=2, help="seconds between two live recordings")
    parser.add_argument("--kill-serve", type=int, default=0, help="kill the service so often, too")
    parser.add_argument("--data", help="a new folder, left there [default: one that is removed after success]")
    args = parser.parse_args()
    folder = Path(args.data or tempfile.mkdtemp(prefix="callvault-backfill-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(args, folder)
    run.go()
    if run.failures:
        print(f"FAILED; everything lies in {folder}")
        return 1
    if not args.data:
        shutil.rmtree(folder)
    print("all as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
