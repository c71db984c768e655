#!/usr/bin/env python3
"""Fills a database with millions of calls, and measures every filter of the search over the API of a running service.

    scripts/ten_million.py --folder /big/disk/sqlite
    scripts/ten_million.py --folder /big/disk/postgres --database postgres://callvault@127.0.0.1/ten_million

Needs the built binary; for PostgreSQL an empty database of its own, with psql and pg_dump. Each million of calls takes about
3 GB, and more while it is filled; `--calls 1000000` is a tenth. A folder that is filled already is measured
again as it is. How the calls are made, `ten_million_fill.py` says.

Each filter is asked alone and with a time of 90 days, with different values, on the first and on the hundredth page (by
the cursor, 50 lines a page; where a search has fewer lines, on its last page); then combinations, accounts that see a part, the page in HTML, and the
numbers of the operators. Printed are the median, the 95th percentile and the longest; a 95th percentile over the bar (100 ms, combinations
1 s, first paint 200 ms) is marked, and ends the script with 1.
"""

import argparse
import hashlib
import http.client
import json
import random
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import ten_million_fill as fill  # noqa: E402
from compare_ledger import default_binary  # noqa: E402

LINES, PAGE, DAY = 50, 100, 86_400_000
ALONE_MS, TOGETHER_MS, PAINT_MS = 100, 1000, 200
# A listener of two sources, one of a team's phones, and one of a small team on a small source.
SCOPES = {
    "two sources": {"sources": ["line-07", "line-19"], "numbers": [], "parties": []},
    "30 parties": {"sources": [], "numbers": [], "parties": [f"agent4-{n}" for n in range(30)]},
    "a hotline, a source": {"sources": ["line-12"], "numbers": ["+8657188001201"], "parties": []},
}


def say(text):
    print(text, flush=True)


class Service:
    """`callvault web` on the folder: the process that serves pages and API, without workers beside it."""

    def __init__(self, args):
        self.args = args
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.config = args.folder / "callvault.toml"
        self.config.write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\n\n[database]\nurl = "{args.database}"\n\n'
            '[archive]\nkind = "directory"\npath = "archive"\n\n[spool]\npath = "spool"\n\n[access]\ntoken_requests_per_minute = 0\n'
        )
        self.process = None
        self.connection = None

    def run(self, *words):
        subprocess.run([self.args.bin, "--config", str(self.config), *words], check=True, stdout=subprocess.DEVNULL)

    def start(self):
        log = open(self.args.folder / "web.log", "w")
        self.process = subprocess.Popen([self.args.bin, "--config", str(self.config), "web"], stdout=log, stderr=log)
        end = time.monotonic() + 120
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.get("/readyz")[0] in (200, 503):
                    return
            except OSError:
                self.connection = None
            time.sleep(0.1)
        raise SystemExit(f"callvault web did not start: see {self.args.folder / 'web.log'}")

    def get(self, path, token=None):
        """Status, body, and milliseconds until all of it was there."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            self.connection.connect()
            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        begun = time.perf_counter()
        try:
            self.connection.request("GET", path, headers=headers)
            answer = self.connection.getresponse()
            body = answer.read()
        except (http.client.HTTPException, OSError):
            self.connection = None
            raise OSError("no answer") from None
        return answer.status, body, (time.perf_counter() - begun) * 1000

    def search(self, token=None, **query):
        path = "/api/v1/recordings?" + urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        status, body, ms = self.get(path, token)
        if status == 503:
            return None, ms
        if status != 200:
            raise SystemExit(f"{path}: {status} {body[:300]!r}")
        return json.loads(body), ms

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=30)


class Table:
    def __init__(self):
        self.lines, self.missed = [], []

    def add(self, name, times, bar, lines=None):
        times = sorted(times)
        p95 = times[min(len(times) - 1, int(len(times) * 0.95))]
        mark = "" if p95 < bar else "  MISSED"
        if mark:
            self.missed.append(name)
        found = "" if lines is None else f"{lines:,.0f}"
        self.lines.append((name, found, times[len(times) // 2], p95, times[-1], bar, mark))
        say(f"{name:<52} {found:>7} {times[len(times) // 2]:>8.1f} {p95:>8.1f} {times[-1]:>8.1f}{mark}")

    def markdown(self):
        head = "| asked | lines on it | median ms | 95th percentile | longest | bar |\n|---|---|---|---|---|---|\n"
        rows = (f"| {n} | {f} | {m:.1f} | {p:.1f} | {x:.1f} | {bar}{mark.lower()} |" for n, f, m, p, x, bar, mark in self.lines)
        return head + "\n".join(rows)


def rfc(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000))


def filters(total, n, dice):
    """(name, values): what a person would look for, taken from calls that are there; some of it common, some rare."""
    calls = [fill.call(dice.randrange(total), total) for _ in range(n)]
    agents = [dice.choice(calls) for _ in range(n)]

    def every(name, values):
        values = list(values)
        return name, [values[i % len(values)] for i in range(n)]

    return [
        every("source", ({"source": f"line-{s:02}"} for s in range(fill.SOURCES))),
        every("direction", ({"direction": d} for d in ("inbound", "outbound", "internal"))),
        every("party, a whole name", ({"party": c["name"]} for c in agents)),
        every("party, the start of a name", ({"party": c["name"][:1 if c["name"][0] > "z" else 3]} for c in agents)),
        every("party, an id", ({"party": c["agent"]} for c in agents)),
        every("number in full, a customer's", ({"number": c["exact"]} for c in calls)),
        every("number in full, a hotline", ({"number": c["hotline"]} for c in calls)),
        every("last four digits", ({"number": c["number"][-4:]} for c in calls)),
        every("external id", ({"q": c["id"]} for c in calls)),
        every("duration, at least", ({"min_duration": f"{s}s"} for s in (1, 60, 600, 1800, 3600, 5400, 7100, 9000))),
        every("duration, between", ({"min_duration": f"{s}s", "max_duration": f"{s + 20}s"} for s in range(5, 7000, 350))),
        every("state", ({"state": s} for s in ("archived", "pending", "lost", "quarantined", "absent", "none", "staged", "expired"))),
        every("note", ({"note": x} for x in ("short", "one_way_audio", "clipped", "undecodable", "dtmf", "encrypted", "digital_silence"))),
        every("tag", ({"tag": t} for t in fill.TAGS + ["nobodys"])),
        every("box: four digits", ({"q": c["number"][-4:]} for c in calls)),
        every("box: a name", ({"q": c["name"]} for c in agents)),
        every("box: the start of an id", ({"q": c["id"][:k]} for c, k in zip(calls, [3, 5, 7, 8, 9, 10] * n))),
        every("box: nothing there", ({"q": f"zzz{c['id']}"} for c in calls)),
    ]


def together(total, n, dice):
    calls = [fill.call(dice.randrange(total), total) for _ in range(n)]
    return [
        ("four digits and a rough day", [{"q": c["number"][-4:], "from": rfc(c["at_ms"] - 3 * DAY), "to": rfc(c["at_ms"] + 3 * DAY)} for c in calls]),
        ("name and direction", [{"party": c["name"], "direction": dice.choice(["inbound", "internal"])} for c in calls]),
        ("name and source", [{"party": c["name"], "source": c["source"]} for c in calls]),
        ("name and another source", [{"party": c["name"], "source": f"line-{dice.randrange(20):02}"} for c in calls]),
        ("hotline and a long call", [{"number": c["hotline"], "min_duration": "3600s"} for c in calls]),
        ("hotline and quarantined", [{"number": c["hotline"], "state": "quarantined"} for c in calls]),
        ("source and lost", [{"source": c["source"], "state": "lost"} for c in calls]),
        ("source and internal", [{"source": c["source"], "direction": "internal"} for c in calls]),
        ("source, inbound, over ten minutes", [{"source": c["source"], "direction": "inbound", "min_duration": "600s"} for c in calls]),
        ("note and source", [{"note": dice.choice(["undecodable", "short"]), "source": c["source"]} for c in calls]),
        ("tag and name", [{"tag": dice.choice(fill.TAGS), "party": c["name"]} for c in calls]),
        ("tag, outbound, over a minute", [{"tag": dice.choice(fill.TAGS), "direction": "outbound", "min_duration": "60s"} for c in calls]),
        ("two words", [{"q": f"{c['name']} {c['number'][-4:]}"} for c in calls]),
        ("pending and short, a day", [{"state": "pending", "max_duration": "60s", "from": rfc(fill.END_MS - 2 * DAY)} for c in calls]),
    ]


def measure(service, table, total, n, dice):
    def asked(name, values, bar, token=None, pages=True):
        first, later, found, later_lines = [], [], [], []
        for value in values:
            page, ms = service.search(token, limit=LINES, **value)
            first.append(ms)
            if page is None:
                found.append(0)
                continue
            found.append(len(page["items"]))
            if pages and page["next"]:
                at, lines = page["next"], LINES
                while at and lines < LINES * (PAGE - 1):
                    step, _ = service.search(token, limit=min(1000, LINES * (PAGE - 1) - lines), after=at, **value)
                    if step is None or not step["items"]:
                        break
                    lines += len(step["items"])
                    if lines < LINES * (PAGE - 1) and not step["next"]:
                        # Its last page.
                        at = step["items"][max(0, len(step["items"]) - LINES - 1)]["cursor"]
                        break
                    at = step["next"]
                page, ms = service.search(token, limit=LINES, after=at, **value)
                later.append(ms)
                later_lines.append(0 if page is None else len(page["items"]))
        table.add(f"{name}, first page", first, bar, sum(found) / len(found))
        if later:
            table.add(f"{name}, hundredth page", later, bar, sum(later_lines) / len(later_lines))

    def days():
        to = dice.randrange(fill.START_MS + 90 * DAY, fill.END_MS)
        return {"from": rfc(to - 90 * DAY), "to": rfc(to)}

    asked("nothing", [{}] * n, ALONE_MS)
    asked("90 days", [days() for _ in range(n)], ALONE_MS)
    for name, values in filters(total, n, dice):
        asked(name, values, ALONE_MS)
        asked(f"{name}, 90 days", [value | days() for value in values], ALONE_MS)
    for name, values in together(total, n, dice):
        asked(name, values, TOGETHER_MS, pages=False)
    for name, token in service.tokens.items():
        scoped = filters(total, n, dice)
        asked(f"sees {name}: nothing", [{}] * n, TOGETHER_MS, token)
        for what, values in scoped:
            if what in ("last four digits", "party, the start of a name", "state", "direction", "tag"):
                asked(f"sees {name}: {what}", values, TOGETHER_MS, token, pages=False)
    paths = {"first paint of the search page": "/", "search page, four digits": "/?q=1234", "operations page": "/operations",
             "API: status": "/api/v1/status", "metrics": "/metrics"}
    for name, path in paths.items():
        times, size = [], 0
        for _ in range(n if path.startswith("/?") or path == "/" else 5):
            status, body, ms = service.get(path)
            times.append(ms if status == 200 else 60_000)
            size = len(body)
        table.add(f"{name} ({size / 1024:.0f} KB)", times, PAINT_MS if path == "/" else TOGETHER_MS)


def add_tokens(args):
    """Rows of tokens: there is no account, so this machine itself still reads everything."""
    tokens = {}
    for i, (name, scope) in enumerate(SCOPES.items()):
        token = f"ten-million-{i}"
        digest = hashlib.sha256(token.encode()).digest()
        row = (bytes([9] * 15 + [i]), digest, f"ten-million-{i}", "listener", json.dumps(scope), 0, "ten_million.py")
        if args.database.startswith("postgres"):
            fill.psql(args.database, "insert into api_token (token_id, token_sha256, name, role, scope, created_at_ms, created_by) values "
                      f"('{row[0].hex()}', '\\x{row[1].hex()}', '{row[2]}', '{row[3]}', '{row[4]}', 0, '{row[6]}') on conflict do nothing")
        else:
            db = sqlite3.connect(args.folder / "callvault.db")
            db.execute("insert or ignore into api_token (token_id, token_sha256, name, role, scope, created_at_ms, created_by) "
                       "values (?, ?, ?, ?, ?, ?, ?)", row)
            db.commit()
            db.close()
        tokens[name] = token
    return tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for configuration and SQLite's file; made when it is not there")
    parser.add_argument("--database", default="sqlite://callvault.db")
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--values", type=int, default=20, help="different values of each filter")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--bin", default=default_binary())
    parser.add_argument("--only-fill", action="store_true")
    parser.add_argument("--markdown", type=Path, help="writes the table there as well")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    service = Service(args)
    service.run("migrate", "up")
    postgres = args.database.startswith("postgres")
    count = "select count(*) from (select 1 from call limit 1) c"
    if postgres:
        is_empty = fill.psql(args.database, count) == "0"
    else:
        is_empty = sqlite3.connect(args.folder / "callvault.db").execute(count).fetchone()[0] == 0
    if is_empty:
        if postgres:
            fill.fill_postgres(args.database, args.calls, say)
        else:
            fill.fill_sqlite(str(args.folder / "callvault.db"), args.calls, say)
    if args.only_fill:
        return
    service.tokens = add_tokens(args)
    table = Table()
    try:
        service.start()
        say(f"{'asked':<52} {'lines':>7} {'median':>8} {'95 %':>8} {'longest':>8}  ms")
        measure(service, table, args.calls, args.values, random.Random(args.seed))
    finally:
        service.stop()
    if args.markdown:
        args.markdown.write_text(table.markdown() + "\n")
    if table.missed:
        say(f"{len(table.missed)} missed the bar: {'; '.join(table.missed)}")
        sys.exit(1)
    say("all within the bars")


if __name__ == "__main__":
    main()
