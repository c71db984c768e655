#!/usr/bin/env python3
"""Asks several S3 stores what they can do, by callvault's own probe, and keeps the table in docs/storage.md true.

    cargo build --example s3_server
    scripts/ceph_rgw.sh up DIR PORT            its variables in the environment
    python3 -m venv V; V/bin/pip install 'moto[server]==5.2.5'
    scripts/s3_stores.py --bin target/release/callvault --s3s target/debug/examples/s3_server --moto V/bin/moto_server [--write]

Without --write it ends with 1 when the page says anything else than what was found. A store whose program is not given is
left out, and its column is not looked at.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs/storage.md"
BEGIN, END = "<!-- made by scripts/s3_stores.py -->\n", "<!-- end -->\n"
STORES = ["Ceph RGW 16.2", "moto 5.2", "s3s-fs 0.14"]
NAMES = {
    "create_only": "Conditional creates (`If-None-Match: *`)",
    "create_only_versions": "The same in a bucket with versions",
    "sha256_checked": "A wrong `x-amz-checksum-sha256` is refused",
    "md5_checked": "A wrong `Content-MD5` is refused",
    "versions": "Versions",
    "object_lock": "Object lock",
    "legal_hold": "Legal hold",
    "uploads_listed": "Open uploads are listed",
    "lock_kept": "A lock that is asked for is on the object afterwards",
    "signature_checked": "A wrong secret is refused",
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(url):
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nothing answers at {url}")


def probe(bin, folder, store, extra=""):
    config = Path(folder) / "callvault.toml"
    lines = "".join(f'{key} = "{value}"\n' for key, value in store.items())
    config.write_text(f'[archive]\nkind = "s3"\n{lines}{extra}')
    os.chmod(config, 0o600)
    done = subprocess.run([bin, "--config", str(config), "--json", "archive", "probe"], capture_output=True, text=True, timeout=300)
    if done.returncode not in (0, 3):
        sys.exit(f"archive probe of {store['endpoint']} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def look(bin, folder, store, bucket, lock_bucket):
    """What one store can do. The prefix is new: a probe's objects stay, and tell the next one what an earlier one knew."""
    plain = {**store, "bucket": bucket, "prefix": f"table-{time.time_ns()}-plain/"}
    create_only = [a["has"] for a in probe(bin, folder, plain)["abilities"] if a["name"] == "create_only"]
    store = {**store, "bucket": lock_bucket, "prefix": f"table-{time.time_ns()}/"}
    told = {a["name"]: a["has"] for a in probe(bin, folder, store)["abilities"]}
    told["create_only_versions"] = told.get("create_only") if told.get("versions") else None
    told["create_only"] = create_only[0] if create_only else None
    locked = {**store, "prefix": f"table-{time.time_ns()}-locked/"}
    found = probe(bin, folder, locked, 'object_lock = "governance"\nlock_for = "1d"\n')
    told["lock_kept"] = not any(f["code"] == "object_lock_not_offered" for f in found["findings"])
    stranger = {**store, "secret_access_key": "not-the-secret-0123456789"}
    found = probe(bin, folder, stranger)
    told["signature_checked"] = any(f["code"] == "archive_refused" for f in found["findings"])
    return told


def table(found):
    lines = ["| | " + " | ".join(STORES) + " |", "|---|" + "---|" * len(STORES)]
    for key, name in NAMES.items():
        cells = []
        for store in STORES:
            has = found.get(store, {}).get(key)
            known = store in found
            cells.append("?" if not known else "-" if has is None else "yes" if has else "no")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bin", default=os.environ.get("CALLVAULT_BIN", "target/release/callvault"))
    options.add_argument("--s3s")
    options.add_argument("--moto")
    options.add_argument("--write", action="store_true")
    options = options.parse_args()
    bin = str(Path(options.bin).resolve())
    found, started = {}, []
    with tempfile.TemporaryDirectory() as folder:
        try:
            if os.environ.get("CALLVAULT_TEST_CEPH_ENDPOINT"):
                of = lambda name: os.environ[f"CALLVAULT_TEST_CEPH_{name}"]
                store = {"endpoint": of("ENDPOINT"), "access_key_id": of("ACCESS_KEY"), "secret_access_key": of("SECRET_KEY")}
                found[STORES[0]] = look(bin, folder, store, of("BUCKET"), of("LOCK_BUCKET"))
            if options.moto:
                port = free_port()
                log = open(Path(folder) / "moto.log", "w")
                started.append(subprocess.Popen([options.moto, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log))
                endpoint = f"http://127.0.0.1:{port}"
                wait(endpoint)
                # It looks at no signature, so a bucket needs none.
                headers = {"x-amz-bucket-object-lock-enabled": "true", "authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"}
                urllib.request.urlopen(urllib.request.Request(f"{endpoint}/locked", method="PUT", headers=headers), timeout=30)
                headers.pop("x-amz-bucket-object-lock-enabled")
                urllib.request.urlopen(urllib.request.Request(f"{endpoint}/recordings", method="PUT", headers=headers), timeout=30)
                store = {"endpoint": endpoint, "access_key_id": "anybody", "secret_access_key": "anything-0123456789"}
                found[STORES[1]] = look(bin, folder, store, "recordings", "locked")
            if options.s3s:
                server = subprocess.Popen([options.s3s, "--listen", "127.0.0.1:0", "--data", f"{folder}/s3s", "--bucket", "recordings", "--access-key", "table-key", "--secret-key", "table-secret-0123456789"], stdout=subprocess.PIPE, text=True)
                started.append(server)
                store = {"endpoint": server.stdout.readline().strip(), "access_key_id": "table-key", "secret_access_key": "table-secret-0123456789"}
                found[STORES[2]] = look(bin, folder, store, "recordings", "recordings")
        finally:
            for process in started:
                process.terminate()
                process.wait()
    if not found:
        sys.exit("no store was given; see --help")
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    old, after = rest.split(END)
    new = table(found)
    if options.write:
        PAGE.write_text(before + BEGIN + new + END + after)
        print(new)
        return
    wrong = []
    for line_old, line_new in zip(old.splitlines(), new.splitlines()):
        said, saw = line_old.split("|"), line_new.split("|")
        wrong += [f"{saw[1].strip()}, {STORES[n - 2]}: the page says {said[n].strip()}, found {saw[n].strip()}" for n in range(2, len(saw) - 1) if saw[n].strip() not in ("?", said[n].strip())]
    if wrong or len(old.splitlines()) != len(new.splitlines()):
        sys.exit("docs/storage.md is not what was found (--write mends it):\n  " + "\n  ".join(wrong))
    print(f"docs/storage.md is true for {', '.join(found)}")


if __name__ == "__main__":
    main()
