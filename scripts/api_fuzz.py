#!/usr/bin/env python3
"""Holds `/api/v1` to its own OpenAPI document, with a fuzzer, as each role.

Archives some simulated calls (`callvault demo --once`), serves them, makes a token of each role, and lets schemathesis send what the document
allows and what it forbids: no answer may be a failure of the server, a status, a type or a body that the document does not name; what is sent
right must be taken, what is sent wrong must not. Needs the package `schemathesis`:

  python3 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install schemathesis==4.32.5
  /tmp/fuzz/bin/python scripts/api_fuzz.py --bin target/release/callvault

The seed is fixed: two runs send the same. Exit status 0 only when nothing was found for any role.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROLES = ["administrator", "officer", "auditor", "listener"]
# Findings that are a matter of taste; each with its reason.
LEFT_OUT = {
    # `ignored_auth` asks again without credentials and from this machine: the door has its own matrix (tests/it/rights.rs).
    "ignored_auth",
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def get(base, path, token):
    request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def post(base, path, token, body):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(base + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def wait_until_ready(base, server, log):
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(base + "/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"the server does not answer\n{log.read_text()}")


def settings(base, token, path):
    """Real ids, so that more is tried than that nothing is there."""
    recordings = get(base, "/api/v1/recordings?state=archived&limit=3", token)["items"]
    calls = [item["call_id"] for item in recordings]
    markers = [
        post(base, f"/api/v1/recordings/{item['recording_id']}/markers", token, {"offset_ms": 1, "text": "fuzz"})["marker_id"]
        for item in recordings
    ]
    sources = [item["source"] for item in get(base, "/api/v1/sources", token)["items"]]
    jobs = [item["name"] for item in get(base, "/api/v1/schedule", token)["items"]]
    ids = {
        "/api/v1/recordings/{id}": [item["recording_id"] for item in recordings],
        "/api/v1/calls/{id}": calls,
        "/api/v1/markers/{id}": markers,
    }
    # A cursor that this server gave; any other is refused, as it should be.
    cursor = get(base, "/api/v1/recordings?limit=1", token)["next"]
    lines = ["[[operations]]", "include-path-regex = \"^/api/v1/recordings([.](csv|ndjson))?$\"", f"parameters = {{ \"query.after\" = [{json.dumps(cursor)}] }}", ""]
    for prefix, values in ids.items():
        pattern = "^" + re.escape(prefix)
        lines += ["[[operations]]", f"include-path-regex = {json.dumps(pattern)}", f"parameters = {{ \"path.id\" = {json.dumps(values)} }}", ""]
    # Of accounts only one that nothing depends on; sources and jobs exist.
    for prefix, values in (("/api/v1/accounts/", ["fuzzed"]), ("/api/v1/sources/", sources[:1]), ("/api/v1/schedule/", jobs[:1])):
        pattern = "^" + re.escape(prefix)
        lines += ["[[operations]]", f"include-path-regex = {json.dumps(pattern)}", f"parameters = {{ \"path.name\" = {json.dumps(values or ['none'])} }}", ""]
    path.write_text("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.environ.get("CALLVAULT_BIN", "target/debug/callvault"))
    parser.add_argument("--examples", type=int, default=20, help="for each operation, as administrator; other roles get a quarter")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--roles", nargs="*", default=ROLES, choices=ROLES)
    options = parser.parse_args()
    fuzzer = Path(sys.executable).with_name("schemathesis")
    if not fuzzer.exists():
        sys.exit("schemathesis is not in this Python's environment; see --help")
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder), Path(folder) / "server.log"
        run([options.bin, "demo", "--once", "--calls", "6", "--data", data / "demo"])
        base = f"http://127.0.0.1:{free_port()}"
        environment = os.environ | {
            "CALLVAULT__SERVER__LISTEN": base.removeprefix("http://"),
            # How many requests a token may send is not what is looked at here.
            "CALLVAULT__ACCESS__TOKEN_REQUESTS_PER_MINUTE": "0",
        }
        tool = [options.bin, "--config", data / "demo" / "callvault.toml"]
        for account, role in (("keeper", "administrator"), ("fuzzed", "listener")):
            run([*tool, "account", "add", account, "--role", role, "--generate"], env=environment)
        tokens = {}
        for role in ROLES:
            told = run([*tool, "--json", "account", "token", "add", f"fuzz-{role}", "--role", role, "--expires", "1d"], env=environment)
            tokens[role] = json.loads(told)["token"]
        with log.open("w") as written:
            server = subprocess.Popen([*tool, "serve"], env=environment, stdout=written, stderr=written)
        failed = []
        try:
            wait_until_ready(base, server, log)
            time.sleep(1)  # The workers name their jobs as they start.
            settings(base, tokens["administrator"], data / "schemathesis.toml")
            for role in options.roles:
                began = time.monotonic()
                examples = options.examples if role == "administrator" else max(1, options.examples // 4)
                command = [
                    fuzzer, "--config-file", data / "schemathesis.toml", "run", f"{base}/api/v1/openapi.json",
                    "--header", f"Authorization: Bearer {tokens[role]}",
                    "--seed", str(options.seed), "--max-examples", str(examples), "--generation-deterministic",
                    # No database holds it in a text: it is refused wherever it comes, which a schema cannot say of every text.
                    "--generation-allow-x00", "false",
                    "--exclude-checks", ",".join(sorted(LEFT_OUT)),
                    "--phases", "examples,coverage,fuzzing" if role == "administrator" else "fuzzing",
                    "--continue-on-failure", "--no-color", "--warnings", "off", "--request-timeout", "30",
                ]
                print(f"== as {role}", flush=True)
                done = subprocess.run(command, cwd=data)
                if done.returncode:
                    failed.append(role)
                print(f"== as {role}: {'found something' if done.returncode else 'nothing found'} in {time.monotonic() - began:.0f} s", flush=True)
            if server.poll() is not None:
                failed.append("the server ended")
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
                try:
                    server.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    server.kill()
        panics = [line for line in log.read_text().splitlines() if "panicked" in line]
        for line in panics:
            print(line)
        if failed or panics:
            print(f"FAILED: {', '.join(failed) or 'panics'}")
            return 1
        print("nothing found")
        return 0


if __name__ == "__main__":
    sys.exit(main())
