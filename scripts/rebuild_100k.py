#!/usr/bin/env python3
"""Fills an archive with recordings as callvault writes them, and times `callvault rebuild --from-archive` on it.

    scripts/rebuild_100k.py --bin target/release/callvault --count 100000 --within 600

A folder of a real recording, made by a short demo, is the pattern: each copy has its own ids, names, numbers, times and
original, and the hashes that belong to them. Ends with 1 when a recording is missing or the time was not kept. With --damage N,
N originals are taken away and N manifests are spoilt first, and each must be named.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def call(bin, config, *args):
    done = subprocess.run([bin, "--config", config, "--json", *args], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def pattern(bin, folder):
    """The first manifest of a recording with one original, as text, and the marker."""
    subprocess.run([bin, "demo", "--once", "--calls", "4", "--data", folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for path in sorted((Path(folder) / "archive").glob("*/*/*/*/*/manifest-0001.json")):
        manifest = json.loads(path.read_text())
        originals = [o for o in manifest["objects"] if o["role"] == "original"]
        if len(originals) == 1 and len(manifest["objects"]) == 1 and not manifest.get("united_into"):
            return path.read_text(), manifest
    sys.exit("the demo made no recording with one original")


def write(root, text, manifest, n):
    """One recording; gives the keys of its original and its manifest."""
    ids = sorted(set(UUID.findall(text)))
    moment = 1_700_000_000_000 + n * 1000
    for known in ids:
        # Version 7, as ours are: the moment, then what tells them apart.
        digest = hashlib.sha256(f"{known}{n}".encode()).hexdigest()
        own = f"{moment:012x}7{digest[:3]}8{digest[3:6]}{digest[6:18]}"
        text = text.replace(known, str(uuid.UUID(own)))
    content = f"RIFF recording {n}\n".encode()
    original = manifest["objects"][0]
    sha256 = hashlib.sha256(content).hexdigest()
    text = text.replace(original["sha256"], sha256).replace(original["sha256"][:16], sha256[:16])
    told = json.loads(text)
    told["objects"][0]["bytes"] = len(content)
    recording = told["recording"]
    for names in (told["call"], recording):
        for key, value in list(names.items()):
            if key.startswith("provider_") and isinstance(value, str):
                names[key] = f"{value}-{n}"
    recording["aliases"] = [f"{alias}-{n}" for alias in recording["aliases"]]
    told["notices"] = [hashlib.sha256(f"{notice}{n}".encode()).hexdigest() for notice in told["notices"]]
    folder = root / told["folder"]
    folder.mkdir(parents=True)
    (root / told["objects"][0]["key"]).write_bytes(content)
    path = folder / "manifest-0001.json"
    path.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    return root / told["objects"][0]["key"], path


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bin", default=os.environ.get("CALLVAULT_BIN", "target/release/callvault"))
    options.add_argument("--count", type=int, default=100_000)
    options.add_argument("--within", type=float, default=600, help="seconds")
    options.add_argument("--damage", type=int, default=10)
    options.add_argument("--data", help="an empty folder; a temporary one by default")
    options.add_argument("--database", default="sqlite://callvault.db")
    options = options.parse_args()
    bin = str(Path(options.bin).resolve())
    data = Path(options.data or tempfile.mkdtemp(prefix="callvault-rebuild-")).resolve()
    data.mkdir(exist_ok=True)
    try:
        text, manifest = pattern(bin, str(data / "pattern"))
        config = data / "callvault.toml"
        config.write_text(f'[database]\nurl = "{options.database}"\nauto_migrate = true\n[archive]\nkind = "directory"\npath = "archive"\n[spool]\npath = "spool"\n')
        root = data / "archive"
        (root / "_callvault").mkdir(parents=True)
        os.chmod(root, 0o700)
        shutil.copy(data / "pattern/archive/_callvault/archive.json", root / "_callvault/archive.json")
        begun = time.monotonic()
        made = [write(root, text, manifest, n) for n in range(options.count)]
        print(f"{options.count} recordings made in {time.monotonic() - begun:.0f} s")
        step = max(1, options.count // max(1, options.damage * 2))
        missing = [original for original, _ in made[::step]][: options.damage]
        spoilt = [path for _, path in made[step // 2 :: step]][: options.damage]
        for path in missing:
            path.unlink()
        for path in spoilt:
            path.write_bytes(path.read_bytes()[:-20])
        begun = time.monotonic()
        code, out, err = call(bin, config, "rebuild", "--from-archive")
        took = time.monotonic() - begun
        if code not in (0, 3):
            sys.exit(f"rebuild ended with {code}: {err}")
        report = json.loads(out)
        named = {(f["code"], f["key"]) for f in report["findings"]}
        wanted = {("object_missing", str(p.relative_to(root))) for p in missing}
        wanted |= {("manifest_unreadable", str(p.relative_to(root))) for p in spoilt}
        wrong = []
        if report["recordings"] != options.count - len(spoilt):
            wrong.append(f"{report['recordings']} recordings, expected {options.count - len(spoilt)}")
        if named != wanted:
            wrong.append(f"named {len(named)} findings, expected {len(wanted)}: {sorted(named ^ wanted)[:3]}")
        if took > options.within:
            wrong.append(f"it took longer than {options.within:.0f} s")
        print(f"{report['recordings']} recordings rebuilt in {took:.1f} s, {report['recordings'] / took:.0f} a second; {len(named)} findings named")
        code, out, _ = call(bin, config, "search", "--limit", "1")
        if code != 0 or not out.strip():
            wrong.append("search finds none of them")
        if wrong:
            sys.exit("; ".join(wrong))
    finally:
        if not options.data:
            shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
