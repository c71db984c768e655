#!/usr/bin/env python3
"""Throws damaged recordings at decoder children and holds them to their limits.

    scripts/audio_mutants.py --count 10000            # the fixtures, and CALLVAULT_SAMPLES where it is set

Each mutant is a fixture with flipped bits, foreign bytes, numbers at their extremes, pieces cut, doubled or joined with another
file. For every one the child must answer within the time limit, live on, stay under 64 MiB, and write an access copy exactly when it
says so and some sample was decoded. Ends with 1 and keeps the mutant when not. The same seed makes the same mutants.
"""

import argparse
import json
import os
import pathlib
import random
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
EXTREMES = [b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1", b"\1\0\0\0", b"\x80\0\0\0"]
RAW = {".ul": "mulaw/8000/1", ".al": "alaw/8000/1", ".g722": "g722/16000/1", ".g729": "g729/8000/1", ".gsm": "gsm/8000/1"}


def mutate(rng, sources):
    name, data = rng.choice(sources)
    bytes_ = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not bytes_:
            break
        # Half of the damage goes where headers are.
        reach = len(bytes_) if rng.random() < 0.5 else min(len(bytes_), 256)
        at = rng.randrange(reach)
        kind = rng.randrange(7)
        if kind == 0:
            bytes_[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            extreme = rng.choice(EXTREMES)
            bytes_[at : at + 4] = extreme
        elif kind == 2:
            bytes_[at : at + rng.randint(1, 2000)] = rng.randbytes(rng.randint(0, 2000))
        elif kind == 3:
            del bytes_[at:]
        elif kind == 4:
            piece = bytes_[at : at + rng.randint(1, 5000)]
            bytes_[at:at] = piece * rng.randint(1, 3)
        elif kind == 5:
            other = rng.choice(sources)[1]
            bytes_[at:] = other[rng.randrange(max(1, len(other))) :]
        else:
            for _ in range(rng.randint(1, 50)):
                bytes_[rng.randrange(len(bytes_))] = rng.randrange(256)
    return name, bytes(bytes_[: 4 << 20])


class Child:
    def __init__(self, program):
        self.process = subprocess.Popen([program, "decoder-child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={})
        self.hear(30)

    def hear(self, seconds):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            raise TimeoutError(f"no answer within {seconds} s")
        line = self.process.stdout.readline()
        if not line:
            raise ChildProcessError(f"the child died: {self.process.wait()}")
        return json.loads(line)

    def ask(self, work):
        request = {"cpu_seconds": 30, "work": work}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return self.hear(60)

    def peak_kib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1])
        return 0

    def end(self):
        self.process.kill()
        self.process.wait()


def work(folder, raw):
    return {"transcode": {
        "input": str(folder / "input"), "raw": raw, "mp3": str(folder / "a.mp3"), "waveform": str(folder / "a.json"),
        "settings": {}, "tags": {"recording_id": None, "call_id": None, "started_at": None, "ended_at": None},
    }}


def judge(folder, answer):
    report = answer.get("report")
    if report is None:
        return f"no report: {answer}"
    access, mp3 = report["access"], folder / "a.mp3"
    decoded = (report["original"] or {}).get("frames", 0)
    if access is None:
        if mp3.exists() or (folder / "a.json").exists():
            return "a file without an access copy"
        return None if report["no_access_reason"] else "no reason"
    if decoded == 0:
        return "an access copy that pretends"
    if mp3.exists() == report.get("access_is_original", False):
        return "mp3 and report disagree"
    return None if (folder / "a.json").exists() else "no waveform"


def run(program, number, share, seed, sources, keep, totals, lock):
    rng = random.Random(f"{seed}/{number}")
    child, peak = None, 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for n in range(share):
            name, mutant = mutate(rng, sources)
            (folder / "input").write_bytes(mutant)
            for old in ("a.mp3", "a.json"):
                (folder / old).unlink(missing_ok=True)
            raw = RAW.get(pathlib.Path(name).suffix)
            begun = time.monotonic()
            try:
                child = child or Child(program)
                answer = child.ask(work(folder, raw))
                problem = judge(folder, answer)
                peak = max(peak, child.peak_kib())
                if peak > 64 * 1024:
                    problem = f"{peak} KiB"
            except (TimeoutError, ChildProcessError, BrokenPipeError) as error:
                problem, answer = str(error), {}
                child.end()
                child = None
            took = time.monotonic() - begun
            with lock:
                totals["done"] += 1
                totals["made"] += bool(answer.get("report", {}).get("access"))
                totals["slowest"] = max(totals["slowest"], took)
                totals["peak"] = max(totals["peak"], peak)
                if problem:
                    kept = keep / f"{number}-{n}-{name}"
                    shutil.copy(folder / "input", kept)
                    totals["problems"].append(f"{kept}: {problem}")
                    print(totals["problems"][-1], flush=True)
    if child:
        child.end()


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--count", type=int, default=10_000)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--children", type=int, default=2)
    args.add_argument("--program", default=os.environ.get("CALLVAULT_BIN", HERE / "target/release/callvault"))
    args.add_argument("--keep", type=pathlib.Path, default=pathlib.Path("mutants"), help="where mutants that broke something are kept")
    args = args.parse_args()
    folders = [HERE / "tests/fixtures/audio"]
    if samples := os.environ.get("CALLVAULT_SAMPLES"):
        folders.append(pathlib.Path(samples))
    files = sorted(f for folder in folders for f in folder.rglob("*") if f.is_file() and f.suffix not in (".rs", ".sh", ".py", ".md", ".tsv"))
    sources = [(f.name, f.read_bytes()) for f in files]
    args.keep.mkdir(exist_ok=True)
    totals, lock = {"done": 0, "made": 0, "slowest": 0.0, "peak": 0, "problems": []}, threading.Lock()
    share = args.count // args.children
    threads = [threading.Thread(target=run, args=(args.program, i, share, args.seed, sources, args.keep, totals, lock)) for i in range(args.children)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{totals['done']} mutants of {len(sources)} files in {time.monotonic() - begun:.0f} s: {totals['made']} with an access copy, "
          f"slowest {totals['slowest']:.2f} s, most memory {totals['peak'] / 1024:.1f} MiB, {len(totals['problems'])} problems")
    if not totals["problems"]:
        shutil.rmtree(args.keep)
    sys.exit(1 if totals["problems"] else 0)


if __name__ == "__main__":
    main()
