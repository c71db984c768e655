#!/usr/bin/env python3
"""Measures the memory of one process while large recordings are in flight: at most 200 MiB, and constant in their length.

    scripts/memory.py --recordings 16 --megabytes 700

A server of this script makes the audio as it is asked for (silence with a number in it, so that every file is another one), waits with the
last megabyte of each until all are in flight together, and then lets them go. callvault fetches, keeps, reads back and archives them in a
folder on the disk. The same is done first with short recordings. The parent's peak (VmHWM in /proc) is what counts; its decoder children are
processes of their own and are shown beside it. Ends with 1 above the bar, when a recording is not archived, or when its bytes are others.
"""

import argparse
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare_ledger import default_binary  # noqa: E402
from kill_loop import free_port  # noqa: E402

TOKEN = "hook-token-of-the-memory-script"
BLOCK = 1 << 20
LIMIT_MIB, GROWTH_MIB = 200, 40


def head(data_bytes):
    """8 kHz, 16 bit, one channel."""
    return (b"RIFF" + struct.pack("<I", 36 + data_bytes) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
            + b"data" + struct.pack("<I", data_bytes))


class Files:
    def __init__(self, recordings, megabytes):
        self.recordings, self.data = recordings, megabytes * 1_000_000
        self.together = threading.Barrier(recordings)
        self.most = 0
        self.lock = threading.Lock()
        self.now = 0

    def blocks(self, number):
        first = head(self.data) + struct.pack("<H", number) + bytes(998)
        yield first
        left, zeros = self.data - 1000, bytes(BLOCK)
        while left > 0:
            part = zeros[:min(left, BLOCK)]
            left -= len(part)
            yield part

    def size(self):
        return 44 + self.data

    def sha256(self, number):
        digest = hashlib.sha256()
        for block in self.blocks(number):
            digest.update(block)
        return digest.hexdigest()


def serve(files):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            number = int(self.path.strip("/").split(".")[0])
            self.send_response(200)
            self.send_header("Content-Type", "audio/wav")
            self.send_header("Content-Length", str(files.size()))
            self.end_headers()
            with files.lock:
                files.now += 1
                files.most = max(files.most, files.now)
            last = None
            for block in files.blocks(number):
                if last is not None:
                    self.wfile.write(last)
                last = block
            # All but the last piece of all of them is on the way now.
            try:
                files.together.wait(timeout=25)
            except threading.BrokenBarrierError:
                pass
            self.wfile.write(last)
            with files.lock:
                files.now -= 1

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def memory(pid, field):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def children(pid):
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def round_of(args, folder, megabytes):
    """Gives the parent's peak in MiB, or says what went wrong."""
    files = Files(args.recordings, megabytes)
    server = serve(files)
    place = f"127.0.0.1:{server.server_address[1]}"
    port = free_port()
    config = folder / "callvault.toml"
    config.write_text(
        f'[server]\nlisten = "127.0.0.1:{port}"\n[database]\nurl = "sqlite://callvault.db"\n'
        f'[archive]\nkind = "directory"\npath = "archive"\n[spool]\npath = "spool"\nlimit = "40GB"\n'
        f'[worker]\nrecordings = {args.recordings}\ntranscodes = 1\n'
        f'[sources.pbx]\nkind = "cdr"\nhook_token = "{TOKEN}"\nallow_hosts = ["{place}"]\nhttp_links = "allow"\n'
        f'allow_private_addresses = true\nmax_recording = "2GB"\n')
    config.chmod(0o600)
    log = open(folder / "serve.log", "ab")
    process = subprocess.Popen([args.binary, "--config", str(config), "serve"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
    try:
        base = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{base}/healthz", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        for number in range(args.recordings):
            told = {"spec": "cdr/1", "event_id": f"e{number}", "event_type": "call.ended", "occurred_at": "2026-04-05T20:31:50+08:00",
                    "source": {"provider": "freeswitch", "account": "pbx"}, "call": {"id": f"call-{number}"},
                    "recordings": [{"id": f"r{number}", "state": "ready", "locator": {"type": "url", "url": f"http://{place}/{number}.wav"}}]}
            request = urllib.request.Request(f"{base}/hooks/pbx/{TOKEN}", json.dumps(told).encode(), {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=30)
        peak = child = 0.0
        until = time.monotonic() + args.within_s
        archived = []
        while time.monotonic() < until and process.poll() is None:
            peak = max(peak, memory(process.pid, "VmHWM"))
            for pid in children(process.pid):
                try:
                    child = max(child, memory(pid, "VmHWM"))
                except OSError:
                    pass
            archived = rows(folder)
            if len(archived) == args.recordings:
                break
            time.sleep(1)
        if process.poll() is not None:
            raise RuntimeError(f"callvault ended with {process.returncode}, see {folder}/serve.log")
        if len(archived) != args.recordings:
            raise RuntimeError(f"{len(archived)} of {args.recordings} archived within {args.within_s} s")
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()
        server.shutdown()
    expected = sorted(files.sha256(number) for number in range(args.recordings))
    if sorted(archived) != expected:
        raise RuntimeError("archived bytes are not those that were served")
    if files.most < args.recordings:
        raise RuntimeError(f"only {files.most} of {args.recordings} were in flight together")
    print(f"{args.recordings} recordings of {megabytes} MB in flight together: parent at most {peak:.0f} MiB, largest decoder child {child:.0f} MiB",
          flush=True)
    return peak


def rows(folder):
    """Hashes of archived originals, read from the archive's index."""
    import sqlite3
    try:
        index = sqlite3.connect(f"file:{folder}/callvault.db?mode=ro", uri=True, timeout=10)
        found = index.execute("select hex(o.sha256) from archive_object o join recording r on r.recording_id = o.recording_id "
                              "where r.state = 'archived' and o.role = 'original'").fetchall()
        index.close()
    except sqlite3.Error:
        return []
    return [row[0].lower() for row in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=16)
    parser.add_argument("--megabytes", type=int, default=700)
    parser.add_argument("--short-megabytes", type=int, default=7, help="what the first round takes, to compare with")
    parser.add_argument("--within-s", type=int, default=1800)
    parser.add_argument("--data", help="a folder on a real disk (default: a temporary one); what is made there is removed")
    parser.add_argument("--binary", default=default_binary(), help="callvault (else $CALLVAULT_BIN, target/release)")
    args = parser.parse_args()
    if args.data:
        os.makedirs(args.data, exist_ok=True)
    peaks = []
    for megabytes in (args.short_megabytes, args.megabytes):
        folder = Path(tempfile.mkdtemp(prefix="callvault-memory-", dir=args.data))
        try:
            peaks.append(round_of(args, folder, megabytes))
        except (RuntimeError, OSError) as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if max(peaks) >= LIMIT_MIB or peaks[1] - peaks[0] > GROWTH_MIB:
        print(f"FAILED: the bar is {LIMIT_MIB} MiB, and {GROWTH_MIB} MiB between short and long", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
