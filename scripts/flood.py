#!/usr/bin/env python3
"""Floods callvault with ten times as many senders as it has places, and looks at what each of them got.

    scripts/flood.py --seconds 60

Senders on 127.0.0.1 push notices as fast as they are answered, over 5,120 connections at once (a listener has 512 places); some hundred more
send half a head or a body byte by byte. Meanwhile an honest sender on 127.0.0.2 pushes a notice every quarter of a second. Afterwards:

* every notice that got a success answer is a row (none is missing);
* every other answer was 503 with Retry-After;
* the honest sender was answered with success each time, within a second;
* the process never held more than 256 MiB.

Ends with 1 when one of these is not so.
"""

import argparse
import asyncio
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare_ledger import default_binary  # noqa: E402
from kill_loop import free_port  # noqa: E402

TOKEN = "hook-token-of-the-flood"
PLACES = 512
LIMIT_MIB, HONEST_S = 256, 1.0


def message(call):
    body = json.dumps({"spec": "cdr/1", "event_id": f"e-{call}", "event_type": "call.ended", "occurred_at": "2026-04-05T20:31:50+08:00",
                       "source": {"provider": "freeswitch", "account": "pbx"}, "call": {"id": call}}).encode()
    return (f"POST /hooks/pbx/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


class Flood:
    def __init__(self, port, seconds):
        self.port, self.until = port, time.monotonic() + seconds
        self.stored, self.answers, self.wrong = [], Counter(), []
        self.honest = []
        self.number = 0

    async def ask(self, call, address, within):
        """Status and head of the answer; None when the connection ended without one."""
        reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0)), within)
        try:
            writer.write(message(call))
            answer = await asyncio.wait_for(reader.read(), within)
        finally:
            writer.close()
        if not answer:
            return None, b""
        return int(answer.split(b" ", 2)[1]), answer.split(b"\r\n\r\n", 1)[0].lower()

    async def sender(self):
        while time.monotonic() < self.until:
            self.number += 1
            call = f"flood-{self.number}"
            try:
                status, head = await self.ask(call, "127.0.0.1", 30)
            except (OSError, asyncio.TimeoutError) as error:
                self.answers[type(error).__name__] += 1
                await asyncio.sleep(0.2)
                continue
            self.answers[status] += 1
            if status == 200:
                self.stored.append(call)
            elif status == 503:
                if b"retry-after:" not in head:
                    self.wrong.append("a 503 without Retry-After")
                await asyncio.sleep(0.5)
            elif status is not None:
                self.wrong.append(f"an answer {status}")

    async def half(self, slowly):
        """Half a head, or a body that drips; begins again when it is cut off."""
        while time.monotonic() < self.until:
            try:
                reader, writer = await asyncio.wait_for(
                    asyncio.open_connection("127.0.0.1", self.port, local_addr=("127.0.0.1", 0)), 30)
                whole = message("never")
                writer.write(whole[:-20] if slowly else whole[:40])
                left = list(whole[-20:])
                while time.monotonic() < self.until:
                    if slowly and len(left) > 1:
                        writer.write(bytes([left.pop(0)]))
                    done = await asyncio.wait([asyncio.ensure_future(reader.read(1000))], timeout=2)
                    if done[0]:
                        break
                    for task in done[1]:
                        task.cancel()
                writer.close()
            except (OSError, asyncio.TimeoutError):
                await asyncio.sleep(0.2)

    async def honest_sender(self):
        number = 0
        while time.monotonic() < self.until:
            number += 1
            call = f"honest-{number}"
            began = time.monotonic()
            try:
                status, _ = await self.ask(call, "127.0.0.2", 30)
            except (OSError, asyncio.TimeoutError) as error:
                status = type(error).__name__
            self.honest.append((time.monotonic() - began, status))
            if status == 200:
                self.stored.append(call)
            await asyncio.sleep(0.25)

    async def run(self, senders, halves):
        tasks = [self.sender() for _ in range(senders)]
        tasks += [self.half(number % 2 == 0) for number in range(halves)]
        await asyncio.gather(*tasks)


def honest_process(port, seconds):
    """In a process of its own, so that it does not wait for the flood's own loop."""
    flood = Flood(port, seconds)
    asyncio.run(flood.honest_sender())
    print(json.dumps({"honest": flood.honest, "stored": flood.stored}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--senders", type=int, default=10 * PLACES)
    parser.add_argument("--halves", type=int, default=400, help="senders of half heads and dripping bodies")
    parser.add_argument("--data", help="a new folder (default: a temporary one, removed after success)")
    parser.add_argument("--binary", default=default_binary(), help="callvault (else $CALLVAULT_BIN, target/release)")
    parser.add_argument("--honest-port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.honest_port:
        return honest_process(args.honest_port, args.seconds)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = Path(args.data or tempfile.mkdtemp(prefix="callvault-flood-"))
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "callvault.toml"
    config.write_text(f'[server]\nlisten = "127.0.0.1:{port}"\n[database]\nurl = "sqlite://callvault.db"\n[archive]\nkind = "directory"\n'
                      f'path = "archive"\n[spool]\npath = "spool"\n[log]\nlevel = "error"\n'
                      f'[sources.pbx]\nkind = "cdr"\nhook_token = "{TOKEN}"\n')
    config.chmod(0o600)
    log = open(folder / "serve.log", "ab")
    serve = subprocess.Popen([args.binary, "--config", str(config), "serve"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
    wrong = []
    try:
        for _ in range(600):
            try:
                asyncio.run(Flood(port, 1).ask("first", "127.0.0.1", 5))
                break
            except (OSError, asyncio.TimeoutError):
                time.sleep(0.1)
        flood = Flood(port, args.seconds)
        honest = subprocess.Popen([sys.executable, __file__, "--honest-port", str(port), "--seconds", str(args.seconds)], stdout=subprocess.PIPE)
        asyncio.run(flood.run(args.senders, args.halves))
        told = json.loads(honest.communicate(timeout=120)[0])
        flood.honest, flood.stored = told["honest"], flood.stored + told["stored"]
        # What came while the database was slow lies in the journal for a moment.
        for _ in range(240):
            if not list((folder / "spool" / "journal").glob("journal-*")):
                break
            time.sleep(0.5)
        peak = next(int(line.split()[1]) / 1024 for line in Path(f"/proc/{serve.pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    finally:
        serve.terminate()
        try:
            serve.wait(timeout=60)
        except subprocess.TimeoutExpired:
            wrong.append("it did not end when told to")
            serve.kill()
        log.close()
    index = sqlite3.connect(folder / "callvault.db")
    bodies = index.execute("select cast(body as text) from notice where source = 'pbx'").fetchall()
    rows = {json.loads(body)["call"]["id"] for (body,) in bodies}
    missing = [call for call in flood.stored if call not in rows]
    if missing:
        wrong.append(f"{len(missing)} notices got a success answer and are not there, such as {missing[0]}")
    late = [(took, status) for took, status in flood.honest if status != 200 or took > HONEST_S]
    if late or not flood.honest:
        wrong.append(f"the honest sender was served late or not {len(late)} of {len(flood.honest)} times, worst {max(late, default=None)}")
    if peak > LIMIT_MIB:
        wrong.append(f"{peak:.0f} MiB")
    if not flood.answers[503]:
        wrong.append("nobody was turned away: this was no flood")
    wrong += sorted(set(flood.wrong))
    times = sorted(took for took, _ in flood.honest)
    print(f"{args.senders} senders and {args.halves} halves for {args.seconds} s: {flood.answers[200]} stored ({flood.answers[200] / args.seconds:.0f} a second), "
          f"{flood.answers[503]} turned away with 503, {sum(n for key, n in flood.answers.items() if not isinstance(key, int))} without an answer; honest sender {len(times)} times, "
          f"median {times[len(times) // 2] * 1000:.0f} ms, worst {times[-1] * 1000:.0f} ms; at most {peak:.0f} MiB")
    if wrong:
        print("FAILED:\n" + "\n".join(wrong) + f"\neverything is left in {folder}", file=sys.stderr)
        return 1
    if not args.data:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
