#!/usr/bin/env python3
"""Kills `callvault serve` with SIGKILL at random moments while calls come in, and shows that nothing was lost.

    scripts/kill_loop.py --kills 200 --calls 200

Simulated vendors run as processes of their own and are left alone; `serve` is killed and started again, over and over.
Its log says which recording is in which stage (target `callvault::stage`); each kill is counted for every stage in
which it cut a recording short. Most moments are random; when a stage is still without a kill near the end, the loop waits
until the log shows it and kills then. Afterwards: the ledger agrees line by line, spool empty, no object without a
row, no row without an object, nothing staged, no stage spared. Ends with 1 and leaves the folder when one of these fails.
"""

import argparse
import http.client
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare_ledger import Callvault, default_binary, sha256_of  # noqa: E402

STAGES = ["resolve", "fetch", "inspect", "store", "index", "transcode"]
MUST_BE_KILLED = ["resolve", "fetch", "store", "index", "transcode"]
VENDORS = [("feiyu", []), ("aliyun", []), ("feiyu", ["--v3"]), ("aliyun", [])]
# A vendor's 15 minutes take 2 s. Its patience with an address that is down does not shrink below some seconds.
SPEED = 450
# Between two calls of a vendor, so that there is some work at most moments.
EVERY_MS = 400
READY_WITHIN_S = 30
SETTLED_WITHIN_S = 240


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stages:
    """Which recording is in which stage, by the log of one `serve`."""

    def __init__(self):
        self.condition = threading.Condition()
        self.now = {}
        self.lines = 0

    def read(self, stream, copy):
        for raw in stream:
            copy.write(raw)
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if line.get("target") != "callvault::stage":
                continue
            fields = line.get("fields", line)
            with self.condition:
                self.lines += 1
                if fields["stage"] in STAGES:
                    self.now[fields["recording"]] = fields["stage"]
                else:
                    self.now.pop(fields["recording"], None)
                self.condition.notify_all()

    def wait_for(self, stage, within_s):
        """Until a recording is in `stage` (or in any, for None); False when none was in time."""
        def seen():
            return bool(self.now) if stage is None else stage in self.now.values()

        with self.condition:
            return self.condition.wait_for(seen, within_s)

    def cut(self):
        with self.condition:
            return dict(self.now)


class Serve:
    def __init__(self, loop):
        self.loop = loop
        self.stages = Stages()
        self.process = subprocess.Popen(
            [loop.binary, "--config", str(loop.config), "serve"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.log = open(loop.folder / "serve.log", "ab")
        self.reader = threading.Thread(target=self.stages.read, args=(self.process.stderr, self.log), daemon=True)
        self.reader.start()

    def wait_ready(self):
        until = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"serve ended by itself with {self.process.returncode}, see {self.loop.folder}/serve.log")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.loop.port, timeout=1)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError(f"serve was not ready within {READY_WITHIN_S} s, see {self.loop.folder}/serve.log")

    def kill(self):
        """SIGKILL; gives what it cut short."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.log.close()
        return self.stages.cut()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        self.reader.join()
        self.log.close()


class Vendor:
    """One simulated vendor in its own process; makes its calls at once and serves until it is stopped."""

    def __init__(self, loop, number, calls):
        kind, more = VENDORS[number % len(VENDORS)]
        self.source = f"{kind}-{number + 1}"
        self.log = open(loop.folder / "vendors.log", "ab")
        self.process = subprocess.Popen(
            [loop.binary, "--json", "simulate", kind, *more, "--source", self.source,
             "--push-to", f"http://127.0.0.1:{loop.port}", "--calls", str(calls), "--seed", str(loop.seed + number),
             "--speed", str(SPEED), "--every-ms", str(EVERY_MS), "--mishaps", loop.mishaps, "--ledger", str(loop.ledger)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)
        first = self.process.stdout.readline()
        if not first:
            raise RuntimeError(f"the simulated vendor {self.source} did not start, see {loop.folder}/vendors.log")
        with open(loop.config, "a") as config:
            config.write("\n" + json.loads(first)["config"])
        self.summary = None
        threading.Thread(target=self.finish, daemon=True).start()

    def finish(self):
        line = self.process.stdout.readline()
        if line:
            self.summary = json.loads(line)

    def is_done(self):
        """Every notice was taken or given up."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the simulated vendor {self.source} ended by itself")
        return self.summary is not None

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)
        self.log.close()


class KillLoop:
    def __init__(self, args):
        self.binary, self.mishaps, self.seed = args.binary, args.mishaps, args.seed
        self.kills_wanted, self.calls_wanted = args.kills, args.calls
        self.folder = Path(args.data or tempfile.mkdtemp(prefix="callvault-kill-loop-")).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise RuntimeError(f"{self.folder} is not empty")
        self.config, self.ledger = self.folder / "callvault.toml", self.folder / "served.ndjson"
        self.port = free_port()
        self.config.write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\n\n[database]\nurl = "sqlite://callvault.db"\n\n'
            '[archive]\nkind = "directory"\npath = "archive"\n\n[spool]\npath = "spool"\n\n'
            '[log]\nformat = "json"\nlevel = "info,callvault::stage=debug"\n')
        self.callvault = Callvault(self.binary, self.folder)
        self.dice = random.Random(args.seed)
        self.vendors, self.calls_made = [], 0
        # Kills that cut at least one recording short in the stage, and how many recordings that were.
        self.kills_in = dict.fromkeys(STAGES, 0)
        self.recordings_in = dict.fromkeys(STAGES, 0)
        self.kills = self.idle_kills = 0

    # The calls come in batches, each from a vendor of its own, so that there is work all the way.

    def add_vendor(self):
        batch = max(1, min(20, self.calls_wanted // 10 or 1))
        left = self.calls_wanted - self.calls_made
        calls = min(batch, left) if left > 0 else min(batch, 5)
        self.vendors.append(Vendor(self, len(self.vendors), calls))
        self.calls_made += calls

    def status(self):
        done = self.callvault.run("status")
        if done.returncode not in (0, 3):
            raise RuntimeError(f"callvault status: exit {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def waiting(self):
        queues = self.status()["queues"]
        states = queues["recordings"]
        return (states.get("pending", 0) + states.get("staged", 0) + queues["notices"]["waiting"]
                + queues["transcode_waiting"])

    def run(self):
        print(f"data in {self.folder}", flush=True)
        began = time.monotonic()
        serve = None
        try:
            # A few more when a stage was never hit.
            while self.kills < self.kills_wanted or (self.spared() and self.kills < 2 * self.kills_wanted):
                if self.should_add_vendor():
                    self.add_vendor()
                serve = Serve(self)
                self.one_kill(serve)
                serve = None
            serve = Serve(self)
            serve.wait_ready()
            while self.calls_made < self.calls_wanted:
                self.add_vendor()
                serve.stop()
                serve = Serve(self)
                serve.wait_ready()
            self.wait_settled()
            serve.stop()
            serve = None
            took = time.monotonic() - began
            wrong = self.what_is_wrong()
        finally:
            if serve:
                serve.kill()
            for vendor in self.vendors:
                vendor.stop()
        self.report(took, wrong)
        return 1 if wrong else 0

    def should_add_vendor(self):
        if not self.vendors:
            return True
        if self.kills * self.calls_wanted >= self.calls_made * self.kills_wanted:
            return True
        return self.vendors[-1].is_done() and self.kills % 3 == 0 and self.waiting() <= 2

    def one_kill(self, serve):
        moment = self.dice.random()
        spared = self.spared()
        if moment < 0.1:
            # While it starts, whatever it does then.
            time.sleep(self.dice.uniform(0, 0.3))
        else:
            serve.wait_ready()
            if spared and self.kills > self.kills_wanted * 0.6:
                serve.stages.wait_for(self.dice.choice(spared), 6)
            else:
                self.random_moment(serve)
        cut = serve.kill()
        self.kills += 1
        for stage in STAGES:
            count = sum(1 for each in cut.values() if each == stage)
            self.recordings_in[stage] += count
            self.kills_in[stage] += count > 0
        self.idle_kills += not cut
        told = ", ".join(f"{sum(1 for each in cut.values() if each == s)} {s}" for s in STAGES if s in cut.values())
        print(f"kill {self.kills}: {told or 'no recording in work'}", flush=True)

    def spared(self):
        return [stage for stage in MUST_BE_KILLED if self.kills_in[stage] == 0]

    def random_moment(self, serve):
        """Some moment within the first second, moved on to where a recording is in work, if one is soon."""
        time.sleep(self.dice.uniform(0, 1) ** 2)
        for _ in range(20):
            if not serve.stages.wait_for(None, 3):
                return
            time.sleep(self.dice.uniform(0, 0.08))
            if serve.stages.cut():
                return

    def wait_settled(self):
        until = time.monotonic() + SETTLED_WITHIN_S
        quiet = 0
        while time.monotonic() < until:
            done = all(vendor.is_done() for vendor in self.vendors)
            # Twice in a row: between a notice and its recording nothing waits for a moment.
            quiet = quiet + 1 if done and self.waiting() == 0 else 0
            if quiet >= 2:
                return
            time.sleep(0.5)
        print(f"not settled after {SETTLED_WITHIN_S} s", file=sys.stderr)

    def what_is_wrong(self):
        wrong = []
        given_up = sum(vendor.summary["notices"]["given_up"] for vendor in self.vendors if vendor.summary)
        if given_up:
            wrong.append(f"the vendors gave up {given_up} notices: callvault was down at each of their tries")
        compare = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("compare_ledger.py")), str(self.folder), "--binary", self.binary],
            stdin=subprocess.DEVNULL, capture_output=True, text=True)
        print(compare.stdout, end="", flush=True)
        if compare.returncode != 0:
            wrong.append(f"the ledger disagrees: {compare.stderr.strip()}")
        wrong += self.leftovers()
        for stage in MUST_BE_KILLED:
            if self.kills_in[stage] == 0:
                wrong.append(f"no kill fell into {stage}")
        return wrong

    def leftovers(self):
        """The spool and the archive as they lie on the disk, against what `show` says."""
        wrong = [f"left in the spool: {path.relative_to(self.folder)}" for path in self.spool_files()]
        recordings = [hit for hit in self.callvault.lines("search", "--limit", "0") if hit["recording_id"]]
        wrong += [f"still staged: {hit['recording_id']}" for hit in recordings if hit["state"] == "staged"]
        rows = {}
        for hit in recordings:
            for shown in self.callvault.show(hit["recording_id"])["recordings"]:
                for row in shown["objects"]:
                    rows[row["key"]] = row
        archive = self.folder / "archive"
        on_disk = {
            str(path.relative_to(archive)): path
            for path in archive.rglob("*")
            if path.is_file() and path.relative_to(archive).parts[0] != "_callvault"
        }
        wrong += [f"object without a row: {key}" for key in sorted(on_disk.keys() - rows.keys())]
        wrong += [f"row without an object: {key}" for key in sorted(rows.keys() - on_disk.keys())]
        for key in rows.keys() & on_disk.keys():
            if sha256_of(on_disk[key]) != rows[key]["sha256"]:
                wrong.append(f"another hash than its row says: {key}")
        self.objects = len(on_disk)
        return wrong

    def spool_files(self):
        """What holds bytes; lock files of processes are empty."""
        return [path for path in (self.folder / "spool").rglob("*") if path.is_file() and path.stat().st_size > 0]

    def report(self, took, wrong):
        print(f"\n{'stage':<12}{'kills':>8}{'recordings cut short':>24}")
        for stage in STAGES:
            print(f"{stage:<12}{self.kills_in[stage]:>8}{self.recordings_in[stage]:>24}")
        print(f"{'none':<12}{self.idle_kills:>8}")
        print(f"{self.kills} kills, {self.calls_made} calls, {len(self.vendors)} vendors, {took:.0f} s, seed {self.seed}")
        if wrong:
            print("\n".join(wrong), file=sys.stderr)
            print(f"FAILED, everything is left in {self.folder}", file=sys.stderr)
        else:
            print(f"all archived once, spool empty, {self.objects} objects and as many rows, nothing staged")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--calls", type=int, default=200, help="calls that can be archived, over all vendors")
    parser.add_argument("--seed", type=int, default=1, help="of the calls and of the moments")
    parser.add_argument("--mishaps", default="fair", help="none, fair or storm")
    parser.add_argument("--data", help="an empty or new folder (default: a temporary one, removed after success)")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder after success")
    parser.add_argument("--binary", default=default_binary(), help="callvault (else $CALLVAULT_BIN, target/release)")
    args = parser.parse_args()

    loop = KillLoop(args)
    try:
        code = loop.run()
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        print(f"FAILED: {error}\neverything is left in {loop.folder}", file=sys.stderr)
        return 1
    if code == 0 and not args.data and not args.keep:
        shutil.rmtree(loop.folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
