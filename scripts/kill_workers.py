#!/usr/bin/env python3
"""Kills one of several workers with SIGKILL every few seconds while calls come in, on PostgreSQL and S3.

    scripts/kill_workers.py --calls 200 --workers 3

One `callvault web`, several `callvault worker`, simulated vendors and an S3 store (`examples/s3_server`, or any store in
CALLVAULT_TEST_S3_ENDPOINT) run as processes of their own, each worker with a spool of its own, as on several machines. Every
0 to 3 s one worker is killed and another takes its place; every tenth time it is frozen past its lease instead (SIGSTOP, the
take-over by another, SIGCONT). Afterwards three ledgers must agree: the vendors' (every call archived once with its bytes), the
store's (each object with the hash of its row) and the database's (each row with its object). Ends with 1 when they do not.

PostgreSQL is the server in CALLVAULT_TEST_POSTGRES (default postgres://postgres@127.0.0.1:5432/postgres); a database of its own
is made there and dropped after success. `psql` must be on the path.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare_ledger import Callvault, default_binary, sha256_of  # noqa: E402
from kill_loop import VENDORS, free_port  # noqa: E402

SPEED = 450
BUCKET, PREFIX = "recordings", "calls/"
ACCESS_KEY, SECRET_KEY = "kill-workers", "kill-workers-secret-0123456789"
# Longer than a lease (60 s), so that another worker takes over.
FROZEN_S = 75


class Process:
    def __init__(self, name, command, log, **more):
        self.name = name
        self.log = open(log, "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=self.log, **more)

    def is_alive(self):
        return self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self):
        if self.is_alive():
            self.process.terminate()
            try:
                self.process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


class Run:
    def __init__(self, args):
        self.args = args
        self.folder = Path(args.data or tempfile.mkdtemp(prefix="callvault-kill-workers-")).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.dice = random.Random(args.seed)
        self.admin = os.environ.get("CALLVAULT_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres")
        self.database = f"callvault_kill_{os.getpid()}_{int(time.time())}"
        self.url = f"{self.admin.rsplit('/', 1)[0]}/{self.database}"
        self.port = free_port()
        self.processes, self.workers, self.frozen = [], [], []
        self.spools = 0
        self.kills = self.freezes = 0

    def sql(self, text, database=None):
        done = subprocess.run(["psql", "-w", database or self.url, "-qtA", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", text],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"psql: {done.stderr.strip()}")
        return [line.split("\t") for line in done.stdout.splitlines() if line]

    def start(self, name, *command, **more):
        process = Process(name, [str(part) for part in command], self.folder / f"{name}.log", **more)
        self.processes.append(process)
        return process

    def start_store(self):
        self.store = None
        endpoint = os.environ.get("CALLVAULT_TEST_S3_ENDPOINT") if self.args.foreign_store else None
        if endpoint:
            self.bucket = os.environ["CALLVAULT_TEST_S3_BUCKET"]
            self.keys = os.environ["CALLVAULT_TEST_S3_ACCESS_KEY"], os.environ["CALLVAULT_TEST_S3_SECRET_KEY"]
            return endpoint
        self.store, self.bucket, self.keys = self.folder / "store", BUCKET, (ACCESS_KEY, SECRET_KEY)
        server = self.start("store", self.args.s3_server, "--data", self.store, "--bucket", BUCKET, "--access-key", ACCESS_KEY,
                            "--secret-key", SECRET_KEY, stdout=subprocess.PIPE, text=True)
        line = server.process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"the store did not start, see {self.folder}/store.log")
        return line

    def write_config(self, endpoint, vendors):
        self.config_text = (
            f'[server]\nlisten = "127.0.0.1:{self.port}"\n\n[database]\nurl = "{self.url}"\nauto_migrate = true\n\n'
            f'[archive]\nkind = "s3"\nbucket = "{self.bucket}"\nprefix = "{PREFIX}"\nregion = "us-east-1"\nendpoint = "{endpoint}"\n'
            f'force_path_style = true\naccess_key_id = "{self.keys[0]}"\nsecret_access_key = "{self.keys[1]}"\n\n'
            '[log]\nformat = "json"\nlevel = "info"\n\n[worker]\nrecordings = 8\ntranscodes = 1\n\n'
            + "\n".join(vendors))
        self.config("web")

    def config(self, name):
        """A process has a spool of its own, as on a machine of its own."""
        file = self.folder / f"{name}.toml"
        file.write_text(self.config_text + f'\n[spool]\npath = "spool-{name}"\n')
        file.chmod(0o600)
        return file

    def start_worker(self):
        name = f"worker-{self.spools}"
        self.spools += 1
        worker = self.start(name, self.args.binary, "--config", self.config(name), "worker", stdout=subprocess.DEVNULL)
        self.workers.append(worker)

    def start_vendors(self):
        """Each prints its block at once and makes its calls when callvault answers: its first notices are tried again."""
        blocks, share = [], -(-self.args.calls // self.args.vendors)
        self.vendors = []
        for number in range(self.args.vendors):
            kind, more = VENDORS[number % len(VENDORS)]
            vendor = self.start(f"vendor-{number}", self.args.binary, "--json", "simulate", kind, *more, "--source", f"{kind}-{number}",
                                "--push-to", f"http://127.0.0.1:{self.port}", "--calls", share, "--seed", self.args.seed + number,
                                "--speed", SPEED, "--every-ms", self.args.every_ms, "--mishaps", self.args.mishaps,
                                "--ledger", self.folder / "served.ndjson", stdout=subprocess.PIPE, text=True)
            first = vendor.process.stdout.readline()
            if not first:
                raise RuntimeError(f"{vendor.name} did not start, see {self.folder}/{vendor.name}.log")
            blocks.append(json.loads(first)["config"])
            vendor.summary = None
            threading.Thread(target=self.finish, args=(vendor,), daemon=True).start()
            self.vendors.append(vendor)
        return blocks

    def finish(self, vendor):
        line = vendor.process.stdout.readline()
        if line:
            vendor.summary = json.loads(line)

    def one_kill(self):
        self.thaw()
        worker = self.workers.pop(self.dice.randrange(len(self.workers)))
        if not worker.is_alive():
            raise RuntimeError(f"{worker.name} ended by itself with {worker.process.returncode}, see {self.folder}/{worker.name}.log")
        if self.args.freeze and self.kills % 10 == 9 and not self.frozen:
            worker.process.send_signal(signal.SIGSTOP)
            self.frozen.append((time.monotonic() + FROZEN_S, worker))
            self.freezes += 1
        else:
            worker.kill()
        self.kills += 1
        self.start_worker()

    def thaw(self, all_of_them=False):
        """A worker that wakes long after its lease must change nothing; it goes on as one of the workers and then stops."""
        now, left = time.monotonic(), []
        for until, worker in self.frozen:
            if now >= until or all_of_them:
                time.sleep(max(0, until - now))
                worker.process.send_signal(signal.SIGCONT)
                time.sleep(3)
                worker.stop()
            else:
                left.append((until, worker))
        self.frozen = left

    def is_settled(self):
        if any(vendor.summary is None for vendor in self.vendors):
            return False
        left = self.sql("select (select count(*) from recording where work_class is not null) "
                        "+ (select count(*) from notice where result = 'waiting')")
        return left == [["0"]]

    def run(self):
        print(f"data in {self.folder}, database {self.database}", flush=True)
        self.sql(f"create database {self.database}", self.admin)
        began = time.monotonic()
        wrong = []
        try:
            endpoint = self.start_store()
            self.write_config(endpoint, self.start_vendors())
            self.start("web", self.args.binary, "--config", self.folder / "web.toml", "web", stdout=subprocess.DEVNULL)
            time.sleep(1)
            for _ in range(self.args.workers):
                self.start_worker()
            until = began + self.args.within_s
            while not self.is_settled():
                if time.monotonic() > until:
                    wrong.append(f"not settled after {self.args.within_s} s")
                    break
                time.sleep(self.dice.uniform(0, 3))
                self.one_kill()
                if self.kills % 20 == 0:
                    done = self.sql("select count(*) from recording where state = 'archived'")[0][0]
                    print(f"{self.kills} kills, {done} archived, {time.monotonic() - began:.0f} s", flush=True)
            self.thaw(all_of_them=True)
            if self.freezes:
                time.sleep(2)
            took = time.monotonic() - began
            for worker in self.workers:
                worker.stop()
            wrong += self.what_is_wrong()
        finally:
            for process in reversed(self.processes):
                if process.is_alive():
                    process.process.send_signal(signal.SIGCONT)
                process.stop()
        print(f"{self.kills} kills, {self.freezes} of them freezes, {self.archived} archived once, {self.objects} objects and as many rows, "
              f"{took:.0f} s, seed {self.args.seed}")
        if wrong:
            print("\n".join(wrong[:40]), file=sys.stderr)
            print(f"FAILED ({len(wrong)}), everything is left in {self.folder} and {self.database}", file=sys.stderr)
            return 1
        self.sql(f"drop database {self.database} with (force)", self.admin)
        return 0

    def what_is_wrong(self):
        wrong = self.against_vendors()
        rows = {key: (digest, int(size), verified) for key, digest, size, verified in self.sql(
            "select object_key, encode(sha256, 'hex'), size_bytes, verified_at_ms is not null from archive_object")}
        self.objects = len(rows)
        wrong += [f"row without a proof: {key}" for key, row in rows.items() if row[2] != "t"]
        wrong += self.against_store(rows)
        staged = self.sql("select recording_id from recording where state = 'staged'")
        wrong += [f"still staged: {row[0]}" for row in staged]
        # Files of killed workers stay in their spools until a process starts there; of these none may be left.
        for worker in self.workers:
            spool = self.folder / f"spool-{worker.name}"
            wrong += [f"left in the spool: {path}" for path in spool.rglob("*") if path.is_file() and path.stat().st_size > 0]
        return wrong

    def against_vendors(self):
        wrong = []
        originals = Counter()
        for source, digest in self.sql(
                "select r.source, encode(o.sha256, 'hex') from archive_object o join recording r on r.recording_id = o.recording_id "
                "where o.role = 'original' and r.state = 'archived'"):
            originals[(source, digest)] += 1
        self.archived = sum(originals.values())
        expected = Counter()
        with open(self.folder / "served.ndjson") as ledger:
            for raw in ledger:
                line = json.loads(raw)
                if line["expect"] == "archived":
                    expected[(line["source"], line["sha256"])] += 1
        for key, count in (expected - originals).items():
            wrong.append(f"lost: {key[0]} {key[1][:16]}, {count} times")
        for key, count in (originals - expected).items():
            wrong.append(f"too often: {key[0]} {key[1][:16]}, {count} times")
        if not expected:
            wrong.append("the vendors made nothing")
        return wrong

    def against_store(self, rows):
        if self.store is None:
            return self.by_reading_back()
        wrong = []
        root = self.store / self.bucket / PREFIX
        found = {str(path.relative_to(root)): path for path in root.rglob("*")
                 if path.is_file() and not path.name.startswith(".") and path.relative_to(root).parts[0] != "_callvault"}
        # A put whose answer was lost together with its worker leaves the right bytes under the right key: no row, no harm; here none may be.
        wrong += [f"object without a row: {key}" for key in sorted(found.keys() - rows.keys())]
        wrong += [f"row without an object: {key}" for key in sorted(rows.keys() - found.keys())]
        for key in rows.keys() & found.keys():
            if (sha256_of(found[key]), found[key].stat().st_size) != rows[key][:2]:
                wrong.append(f"another content than its row says: {key}")
        return wrong

    def by_reading_back(self):
        """A store that cannot be looked into: callvault reads each original back and compares."""
        callvault = Callvault(self.args.binary, self.folder)
        callvault.config = self.folder / "web.toml"
        wrong = []
        for row in self.sql("select recording_id from recording where state = 'archived'"):
            done = callvault.run("get", row[0], "-o", str(self.folder / "read-back"))
            if done.returncode != 0:
                wrong.append(f"cannot be read back: {row[0]}: {done.stderr.strip()}")
        return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--calls", type=int, default=200, help="calls that can be archived, over all vendors")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--vendors", type=int, default=4)
    parser.add_argument("--every-ms", type=int, default=200, help="between two calls of a vendor")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mishaps", default="fair", help="none, fair or storm")
    parser.add_argument("--freeze", action="store_true", help="freeze every tenth worker past its lease instead of killing it")
    parser.add_argument("--within-s", type=int, default=3600)
    parser.add_argument("--foreign-store", action="store_true", help="use the store in CALLVAULT_TEST_S3_ENDPOINT")
    parser.add_argument("--s3-server", default=str(root / "target" / "debug" / "examples" / "s3_server"))
    parser.add_argument("--data", help="a new folder (default: a temporary one, removed after success)")
    parser.add_argument("--binary", default=default_binary(), help="callvault (else $CALLVAULT_BIN, target/release)")
    args = parser.parse_args()
    run = Run(args)
    try:
        code = run.run()
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        print(f"FAILED: {error}\neverything is left in {run.folder} and {run.database}", file=sys.stderr)
        return 1
    if code == 0 and not args.data:
        shutil.rmtree(run.folder, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
