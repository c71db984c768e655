"""Fills a database with calls in SQL: what `ten_million.py` measures on.

The schema is made by `callvault migrate up`. Indexes are dropped while rows go in and made again from the database's own
words; `fill` ends with an error when the schema is not what it was. Every value follows from the call's number by
arithmetic, so both databases hold the same calls, and a search knows what it may ask for.
"""

import re
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

SOURCES = 20
AGENTS = 200  # of each source
YEARS = 3
END_MS = 1_790_000_000_000  # 2026-09-21
SPAN_MS = YEARS * 365 * 86_400_000
START_MS = END_MS - SPAN_MS
SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
GIVEN = "伟 芳 娜 敏 静 秀英 丽 强 磊 军 洋 勇 艳 杰 娟 涛 明 超 秀兰 霞 平 刚 桂英 建国 志强 海燕 晓东 雪梅 文博 子涵".split()
FIRST = "Anna Ben Clara David Emma Felix Grace Henry Irene James Karen Louis Maria Nora Oscar Paula Ruth Simon Tina Victor".split()
LAST = "Smith Jones Miller Davis Garcia Wilson Moore Taylor Brown Clark Lewis Young Allen King Wright Hill Green Baker Nelson Carter".split()
KINDS = ["feiyu", "yunxin", "trtc", "twilio"]
NOTES = ['["short"]', '["one_way_audio"]', '["digital_silence"]', '["mostly_silent"]', '["dtmf"]', '["clipped"]',
         '["short","digital_silence"]', '["decode_errors"]', '["truncated_audio"]', '["dtmf","one_way_audio"]', '["undecodable"]']
TAGS = "complaint refund vip legal 投诉 回访 training fraud urgent follow-up 退款 praise".split()

# The columns of a call, each from those before it; `h(k)` is a number below 2^26 that looks random.
COLUMNS = [
    ("s", "h(1) % 1000 * (h(1) % 1000) * {SOURCES} / 1000000"),
    ("at_ms", "{START_MS} + n * {STEP} + h(2) % {STEP}"),
    ("d", "h(3) % 1000"),
    ("secs", "3 + (h(4) % 1000) * (h(4) % 1000) / 1000 * (h(4) % 1000) / 1000 * 7200 / 1000"),
    ("cust", "h(5) % {CUSTOMERS}"),
    ("agent", "h(6) % {AGENTS} * (h(7) % {AGENTS}) / {AGENTS}"),
    ("line", "h(8) % 5"),
    ("recorded", "h(9) % 100 < 94"),
    ("st", "h(10) % 1000"),
    ("nt", "h(11) % 1000"),
    ("tg", "h(12) % 1000"),
]
CUSTOMER = "('1' || (30 + cust * 7 % 70) || substr(cast(100000000 + cust * 7919 % 100000000 as text), 2))"
HOTLINE = "('+86571' || (88000000 + s * 100 + line))"
PREFIX = "(case when s % 2 = 0 then '+86' else '' end)"
DIRECTION = "(case when d < 550 then 'inbound' when d < 920 then 'outbound' when d < 930 then 'internal' end)"
STATE = ("(case when n > {N} - {N} / 500 and st < 500 then 'pending' when st < 4 then 'lost' when st < 6 then 'quarantined'"
         " when st < 16 then 'absent' else 'archived' end)")
WAITS = "(case when {state} = 'pending' then 2 end)".replace("{state}", STATE)


def pick(words, index):
    """A word by number, as an expression that both databases take."""
    cases = " ".join(f"when {i} then '{word}'" for i, word in enumerate(words))
    return f"(case ({index}) {cases} end)"


SURNAME, GIVEN_NAME = pick(SURNAMES, "(agent * 7 + s) % 20"), pick(GIVEN, "(agent + s * 13) % 30")
FIRST_NAME, LAST_NAME = pick(FIRST, "(agent * 7 + s) % 20"), pick(LAST, "(agent + s * 13) / 20 % 20")
NAME = f"(case when s % 4 = 3 then {FIRST_NAME} || ' ' || {LAST_NAME} else {SURNAME} || {GIVEN_NAME} end)"
CALL_NAME = "('c' || substr(cast(100000000000 + n * 7 as text), 2))"
SOURCE = "('line-' || substr(cast(100 + s as text), 2))"
KIND = pick(KINDS, "s % 4")
INBOUND = "(d % 2 = 0)"
CALLER = f"(case when {INBOUND} then {PREFIX} || {CUSTOMER} else {HOTLINE} end)"
CALLEE = f"(case when {INBOUND} then {HOTLINE} else {PREFIX} || {CUSTOMER} end)"
TALK = "(case when tg % 10 = 0 then 'false' else 'true' end)"


def agent_name(s, agent):
    if s % 4 == 3:
        return f"{FIRST[(agent * 7 + s) % 20]} {LAST[(agent + s * 13) // 20 % 20]}"
    return SURNAMES[(agent * 7 + s) % 20] + GIVEN[(agent + s * 13) % 30]


def h(n, k):
    x = (n * 2654435761 + k * 320824117) % 4294967296
    x = (x * 1103515245 + 12345 + x // 65536) % 4294967296
    return x // 64


def call(n, total):
    """The values of call `n` that a search may ask for."""
    cust = h(n, 5) % customers(total)
    s = h(n, 1) % 1000 * (h(n, 1) % 1000) * SOURCES // 1000000
    agent = h(n, 6) % AGENTS * (h(n, 7) % AGENTS) // AGENTS
    customer = f"1{30 + cust * 7 % 70}{cust * 7919 % 100000000:08}"
    return {
        "source": f"line-{s:02}",
        "name": agent_name(s, agent),
        "agent": f"agent{s}-{agent}",
        "number": customer,
        "exact": "+86" + customer if s % 2 == 0 else customer,
        "hotline": f"+86571{88000000 + s * 100 + h(n, 8) % 5}",
        "id": f"c{n * 7:011}",
        "at_ms": START_MS + n * (SPAN_MS // total),
    }


def customers(total):
    return max(total // 6, 10)


def filled(text, total):
    def hashed(match):
        k = int(match.group(1)) * 320824117
        x = f"((n * 2654435761 + {k}) % 4294967296)"
        return f"((({x} * 1103515245 + 12345 + {x} / 65536) % 4294967296) / 64)"

    values = {"SOURCES": SOURCES, "AGENTS": AGENTS, "START_MS": START_MS, "STEP": SPAN_MS // total, "N": total,
              "CUSTOMERS": customers(total)}
    text = re.sub(r"\bh\((\d+)\)", hashed, text)
    for name, value in values.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def tables(dialect, total):
    """(table, `insert ... select` from `fill`) in an order without foreign keys."""
    time_text, uid, rev, empty, js = dialect["time"], dialect["uid"], dialect["rev"], dialect["bytes"], dialect["json"]
    call_id, recording_id, object_id = uid("at_ms + 40000", "n", 1), uid("at_ms + 41000", "n", 2), uid("at_ms + 99000", "n", 3)
    start, end = time_text("at_ms"), time_text("at_ms + secs * 1000")
    facts = (f"'{{\"provider_call_id\":\"' || {CALL_NAME} || '\",\"aliases\":[],\"correlation_ids\":[],\"started_at\":\"' || {start} || "
             f"'\",\"answered_at\":null,\"ended_at\":\"' || {end} || '\",\"duration_ms\":' || (secs * 1000) || ',\"direction\":' || "
             f"{js(DIRECTION)} || ',\"caller\":\"' || {CALLER} || '\",\"callee\":\"' || {CALLEE} || "
             f"'\",\"parties\":[{{\"role\":\"agent\",\"id\":\"agent' || s || '-' || agent || '\",\"name\":\"' || {NAME} || '\"}}],"
             f"\"hangup_cause\":null,\"recorded\":null,\"talked\":' || {TALK} || ',\"custom\":{{}},\"legs\":[],\"is_cdr\":true}}'")
    notes = pick(NOTES, "nt * nt / 250 % 11 + (case when nt % 29 = 0 then 10 else 0 end) * 0")
    archived = f"({STATE} = 'archived')"
    key = "insert into search_key (kind, value, call_id, recording_id, at_ms) select"
    keys = [
        (f"{key} 'n', {rev(f'{PREFIX} || {CUSTOMER}')}, {call_id}, null, at_ms from fill", None),
        (f"{key} 'n', {rev(HOTLINE)}, {call_id}, null, at_ms from fill", None),
        (f"{key} 'e', {PREFIX} || {CUSTOMER}, {call_id}, null, at_ms from fill where s % 2 = 0", None),
        (f"{key} 'e', {HOTLINE}, {call_id}, null, at_ms from fill", None),
        (f"{key} 'w', lower({NAME}), {call_id}, null, at_ms from fill", None),
        (f"{key} 'w', lower({FIRST_NAME}), {call_id}, null, at_ms from fill where s % 4 = 3", None),
        (f"{key} 'w', lower({LAST_NAME}), {call_id}, null, at_ms from fill where s % 4 = 3", None),
        (f"{key} 'p', 'agent' || s || '-' || agent, {call_id}, null, at_ms from fill", None),
        (f"{key} 'i', {CALL_NAME}, {call_id}, null, at_ms from fill", None),
        (f"{key} 'i', {dialect['text_id'](recording_id)}, {call_id}, {recording_id}, at_ms from fill where recorded", None),
    ]
    return {
        "call": [f"insert into call (call_id, source, kind, provider_call_id, facts, direction, started_at_ms, duration_ms, "
                 f"arrived_at_ms, at_ms, has_recording) select {call_id}, {SOURCE}, {KIND}, {CALL_NAME}, {facts}, {DIRECTION}, "
                 f"at_ms, secs * 1000, at_ms + 40000, at_ms, recorded from fill"],
        "call_tag": [f"insert into call_tag (call_id, tag, author, made_at_ms{dialect['tag_at'][0]}) select {call_id}, "
                     f"{pick(TAGS, 'tg * agent % 12')}, 'desk', at_ms + 86400000{dialect['tag_at'][1]} from fill where tg < 10"],
        "call_note": [f"insert into call_note (note_id, call_id, body, author, made_at_ms) select {uid('at_ms + 86400000', 'n', 4)}, "
                      f"{call_id}, 'asked to be called back', 'desk', at_ms + 86400000 from fill where tg = 11"],
        "recording": [f"insert into recording (recording_id, call_id, source, kind, part, handle, link_renewable, gone_at_ms, "
                      f"deadline_at_ms, arrived_at_ms, at_ms, found_by, archived_at_ms, state, state_since_ms, notes, folder, "
                      f"work_class, available_at_ms) select {recording_id}, {call_id}, {SOURCE}, {KIND}, 'full', '{{}}', "
                      f"{dialect['true']}, at_ms + 2592000000, at_ms + 2592000000, at_ms + 41000, at_ms, "
                      f"case when h(2) % 50 = 0 then 'poll' else 'push' end, case when {archived} then at_ms + 99000 end, "
                      f"{STATE}, at_ms + 99000, case when nt < 100 then {notes} else '[]' end, "
                      f"{SOURCE} || '/' || substr({start}, 1, 10) || '/' || n, {WAITS}, at_ms + 41000 from fill where recorded"],
        "archive_object": [f"insert into archive_object (object_id, recording_id, role, n, object_key, size_bytes, sha256, mime, "
                           f"codec, sample_rate_hz, channels, duration_ms, created_at_ms, verified_at_ms) select {object_id}, "
                           f"{recording_id}, 'original', 1, {SOURCE} || '/' || substr({start}, 1, 10) || '/' || n || '/original.wav', "
                           f"secs * 16000, {empty}, 'audio/x-wav', 'pcm', 8000, 1, secs * 1000, at_ms + 99000, at_ms + 99000 "
                           f"from fill where recorded and {archived}"],
        "search_key": [sql for sql, _ in keys],
    }


def fill_select(total, lowest, numbers):
    """`fill` as a query: each column may use those before it."""
    inner = numbers
    simple = [(name, filled(text, total)) for name, text in COLUMNS]
    del lowest
    columns = ", ".join(f"{text} as {name}" for name, text in simple)
    return f"select n, {columns} from {inner}"


# ---- SQLite ---------------------------------------------------------------------------------------------------------


def fill_sqlite(path, total, say):
    before = sqlite_schema(path)
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=off", "synchronous=off", "cache_size=-1500000", "locking_mode=exclusive", "foreign_keys=off"):
        db.execute(f"pragma {pragma}").fetchall()

    def uid(ms, n, kind):
        return (ms << 80 | 7 << 76 | 2 << 62 | kind << 56 | n).to_bytes(16, "big")

    def text_id(blob):
        x = blob.hex()
        return f"{x[:8]}-{x[8:12]}-{x[12:16]}-{x[16:20]}-{x[20:]}"

    def when(ms):
        whole = time.gmtime(ms // 1000)
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', whole)}.{ms % 1000:03}Z"

    db.create_function("uid", 3, uid, deterministic=True)
    db.create_function("text_id", 1, text_id, deterministic=True)
    db.create_function("rfc", 1, when, deterministic=True)
    db.create_function("rev", 1, lambda text: text.lstrip("+")[::-1], deterministic=True)
    tag_at = (", at_ms", ", at_ms") if " at_ms" in before["call_tag"][2] else ("", "")
    dialect = {
        "time": lambda ms: f"rfc({ms})", "uid": lambda ms, n, kind: f"uid({ms}, {n}, {kind})", "rev": lambda text: f"rev({text})",
        "bytes": "randomblob(32)", "json": lambda text: f"coalesce('\"' || {text} || '\"', 'null')", "true": "1",
        "text_id": lambda blob: f"text_id({blob})", "tag_at": tag_at,
    }
    indexes = db.execute("select name, sql from sqlite_master where type = 'index' and sql is not null").fetchall()
    for name, _ in indexes:
        db.execute(f"drop index {name}")
    # Its key is by word, not by time: row by row it would be written all over the file. The table goes without
    # its key while it is filled; the index made afterwards is then named as the key's own.
    key_sql = db.execute("select sql from sqlite_master where name = 'search_key'").fetchone()[0]
    plain = re.sub(r",\s*primary key \(kind, value, call_id\)", "", key_sql)
    assert plain != key_sql, "the key of search_key has changed: mend this script"
    db.execute("drop table search_key")
    db.execute(plain)
    inserts = tables(dialect, total)
    db.execute("create temp table fill (n integer primary key, " + ", ".join(f"{name} int" for name, _ in COLUMNS) + ")")
    begun, batch = time.monotonic(), 200_000
    for low in range(0, total, batch):
        high = min(low + batch, total)
        db.execute("begin")
        db.execute("delete from fill")
        numbers = f"(with recursive c(n) as (select {low} union all select n + 1 from c where n + 1 < {high}) select n from c)"
        db.execute(f"insert into fill {fill_select(total, low, numbers)}")
        for statements in inserts.values():
            for statement in statements:
                db.execute(filled(statement, total))
        db.execute("commit")
        if (low // batch) % 5 == 4:
            say(f"sqlite: {high:,} calls after {time.monotonic() - begun:.0f} s")
    db.execute("pragma cache_size=-2000000")
    db.execute("create unique index tenm_key on search_key (kind, value, call_id)")
    db.execute("pragma writable_schema=on")
    db.execute("update sqlite_master set sql = ? where name = 'search_key' and type = 'table'", [key_sql])
    db.execute("update sqlite_master set sql = null, name = 'sqlite_autoindex_search_key_1' where name = 'tenm_key'")
    db.execute("pragma writable_schema=reset")
    db.close()
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=off", "synchronous=off", "cache_size=-2000000"):
        db.execute(f"pragma {pragma}").fetchall()
    for name, sql in indexes:
        begun_index = time.monotonic()
        db.execute(sql)
        if time.monotonic() - begun_index > 20:
            say(f"sqlite: index {name} in {time.monotonic() - begun_index:.0f} s")
    for s in range(SOURCES):
        db.execute("insert into source_seen values (?, ?, ?, ?)", [f"line-{s:02}", KINDS[s % 4], START_MS, END_MS])
    db.execute("pragma journal_mode=wal").fetchall()
    db.close()
    if sqlite_schema(path) != before:
        raise SystemExit("the schema is not what the migrations made: mend this script")
    say(f"sqlite: filled with {total:,} calls in {time.monotonic() - begun:.0f} s")


def sqlite_schema(path):
    db = sqlite3.connect(path)
    rows = db.execute("select name, type, tbl_name, sql from sqlite_master").fetchall()
    db.close()
    return {row[0]: row[1:] for row in rows if not row[0].startswith("sqlite_stat")}


# ---- PostgreSQL -----------------------------------------------------------------------------------------------------


def psql(url, *statements, one=False):
    command = ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", url]
    for statement in statements:
        command += ["-c", statement]
    if one:
        command.insert(1, "-1")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"psql: {done.stderr.strip()[:2000]}")
    return done.stdout.strip()


def postgres_schema(url, *sections):
    text = subprocess.run(["pg_dump", "-d", url, "--schema-only", *sections], capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def fill_postgres(url, total, say):
    before = postgres_schema(url)
    later = postgres_schema(url, "--section=post-data")
    begun = time.monotonic()
    wanted = ["call", "call_tag", "call_note", "recording", "archive_object", "search_key"]
    names = ", ".join(f"'{name}'" for name in wanted)
    # Keys and indexes of these tables, and what points to them from elsewhere.
    constraints = psql(url, "select 'alter table ' || conrelid::regclass || ' drop constraint ' || conname from pg_constraint "
                       "where contype = 'f' and confrelid::regclass::text in ('call', 'recording')")
    constraints += "\n" + psql(url, "select 'alter table ' || conrelid::regclass || ' drop constraint ' || conname from pg_constraint "
                               f"where contype in ('p', 'u') and conrelid::regclass::text in ({names})")
    dropped = [line for line in constraints.splitlines() if line]
    psql(url, *dropped)
    indexes = psql(url, f"select 'drop index ' || indexname from pg_indexes where schemaname = current_schema() and tablename in ({names})")
    psql(url, *[line for line in indexes.splitlines() if line])
    tag_at = (", at_ms", ", at_ms") if psql(url, "select 1 from information_schema.columns where table_name = 'call_tag' and "
                                            "column_name = 'at_ms'") else ("", "")

    def uid(ms, n, kind):
        tail = f"lpad(to_hex(({kind}::bigint << 56) | ({n})), 15, '0')"
        return f"(lpad(to_hex(({ms})::bigint), 12, '0') || '7000' || '8' || {tail})::uuid"

    dialect = {
        "time": lambda ms: f"to_char(to_timestamp(({ms}) / 1000.0) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
        "uid": uid, "rev": lambda text: f"reverse(ltrim({text}, '+'))", "bytes": "sha256(n::text::bytea)",
        "json": lambda text: f"coalesce('\"' || {text} || '\"', 'null')", "true": "true", "text_id": lambda value: f"{value}::text",
        "tag_at": tag_at,
    }
    inserts = tables(dialect, total)
    batch = max(total // 10, 100_000)

    def one_table(name):
        for low in range(0, total, batch):
            high = min(low + batch, total)
            numbers = f"generate_series({low}::bigint, {high - 1}::bigint) as g(n)"
            fill = f"with fill as materialized ({fill_select(total, low, numbers)}) "
            for statement in inserts[name]:
                psql(url, fill + filled(statement, total))
        say(f"postgres: {name} after {time.monotonic() - begun:.0f} s")

    jobs = [["search_key"], ["call", "call_tag", "call_note"], ["recording", "archive_object"]]
    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(lambda names: [one_table(name) for name in names], jobs))
    # Only what is missing is made again; the rest of the dump is there already.
    there = set(psql(url, "select conname from pg_constraint union select indexname from pg_indexes").splitlines())
    statements = [s.strip() for s in re.sub(r"^--.*$", "", later, flags=re.M).split(";\n")]
    todo = []
    for statement in statements:
        named = re.search(r"(?:ADD CONSTRAINT|CREATE (?:UNIQUE )?INDEX) (\S+)", statement)
        if named and named.group(1) not in there:
            todo.append((2 if "FOREIGN KEY" in statement else 0 if "ADD CONSTRAINT" in statement else 1, statement))
    for order in (0, 1, 2):
        several = [statement for at, statement in todo if at == order]
        with ThreadPoolExecutor(2 if order < 2 else 1) as pool:
            list(pool.map(lambda statement: psql(url, "set maintenance_work_mem = '512MB'", statement), several))
        say(f"postgres: keys and indexes, part {order + 1} of 3, after {time.monotonic() - begun:.0f} s")
    for s in range(SOURCES):
        psql(url, f"insert into source_seen (source, kind, first_seen_at_ms, last_notice_at_ms) values ('line-{s:02}', '{KINDS[s % 4]}', {START_MS}, {END_MS})")
    # What autovacuum does by itself within a minute or two after so much came in.
    psql(url, "vacuum analyze")
    if postgres_schema(url) != before:
        raise SystemExit("the schema is not what the migrations made: mend this script")
    say(f"postgres: filled with {total:,} calls in {time.monotonic() - begun:.0f} s")
