//! Which way both databases go for what the program asks them: nothing it does often may walk over a big table.
//!
//! The statements are those that were really sent: every operation runs once, somebody listens, and what was heard is
//! explained. How many rows an index holds is counted, so that an index over the few rows that wait may be read whole.

use std::collections::HashSet;
use std::future::Future;

use callvault::db::explain::{Asked, listen};
use callvault::db::recordings::{Classes, Count, Settle};
use callvault::db::search::Query;
use callvault::domain::call::Direction;
use callvault::domain::clock::Timestamp;
use callvault::domain::rights::Scope;

use crate::db::*;

const CALLS: i64 = 20_000;
/// Tables that grow with the archive, and the names that statements give them.
const BIG: [(&str, &[&str]); 6] = [
    ("recording", &["recording", "r"]),
    ("call", &["call", "c"]),
    ("search_key", &["search_key", "k"]),
    ("archive_object", &["archive_object", "o"]),
    ("call_tag", &["call_tag", "t"]),
    ("notice", &["notice", "n"]),
];

/// Calls over a year: every hundredth waits, every twentieth has no recording, some have notes and tags.
async fn fill(house: &House) {
    let is_postgres = house.db.backend_name() == "postgres";
    let numbers = if is_postgres {
        format!("generate_series(0::bigint, {}) as g(n)", CALLS - 1)
    } else {
        format!(
            "(with recursive g(n) as (select 0 union all select n + 1 from g where n < {}) select n from g) g",
            CALLS - 1
        )
    };
    let id = |kind: u8| {
        if is_postgres {
            format!("lpad((n * 10 + {kind})::text, 32, '0')::uuid")
        } else {
            format!("cast(printf('%016d', n * 10 + {kind}) as blob)")
        }
    };
    let (call, recording, object, notice) = (id(1), id(2), id(3), id(4));
    let (yes, bytes) = match is_postgres {
        true => ("true", "sha256(n::text::bytea)"),
        false => ("1", "randomblob(32)"),
    };
    let start = at(0).ms() - 365 * DAY;
    let time = format!("({start} + n * {})", 365 * DAY / CALLS);
    let source = "'s' || (n % 10)";
    let state =
        "case when n % 100 = 7 then 'pending' when n % 1000 = 1 then 'lost' else 'archived' end";
    let key = |kind: &str, value: &str| {
        format!(
            "insert into search_key (kind, value, call_id, at_ms) select '{kind}', {value}, {call}, {time} from {numbers}"
        )
    };
    for sql in [
        format!(
            "insert into call (call_id, source, kind, provider_call_id, facts, direction, duration_ms, arrived_at_ms, \
             at_ms, has_recording) select {call}, {source}, 'feiyu', 'c' || n, \
             '{{\"provider_call_id\":\"c\",\"aliases\":[],\"correlation_ids\":[],\"parties\":[],\"custom\":{{}},\"legs\":[],\"is_cdr\":true}}', \
             case when n % 50 = 0 then 'internal' when n % 2 = 0 then 'inbound' else 'outbound' end, \
             n % 7200 * 1000, {time}, {time}, n % 20 <> 3 from {numbers}"
        ),
        key("n", "'8' || (n * 7919 % 100000)"),
        key("e", "'+86139' || (n * 7919 % 100000)"),
        key("w", "'name' || (n % 300)"),
        key("p", "'agent' || (n % 300)"),
        key("i", "'c' || n"),
        format!(
            "insert into recording (recording_id, call_id, source, kind, part, handle, link_renewable, gone_at_ms, \
             deadline_at_ms, arrived_at_ms, at_ms, found_by, archived_at_ms, state, state_since_ms, notes, work_class, \
             available_at_ms) select {recording}, {call}, {source}, 'feiyu', 'full', '{{}}', {yes}, {time} + {gone}, {time} + {gone}, \
             {time}, {time}, 'push', case when n % 100 <> 7 and n % 1000 <> 1 then {time} + 1000 end, {state}, {time}, \
             case when n % 10 = 0 then '[\"short\"]' when n % 100 = 1 then '[\"dtmf\",\"short\"]' else '[]' end, \
             case when n % 100 = 7 then 2 end, {time} from {numbers} where n % 20 <> 3",
            gone = 400 * DAY
        ),
        format!(
            "insert into archive_object (object_id, recording_id, role, n, object_key, size_bytes, sha256, mime, \
             created_at_ms, verified_at_ms) select {object}, {recording}, 'original', 1, 'a/' || n, 1000, {bytes}, \
             'audio/x-wav', {time}, {time} from {numbers} where n % 20 <> 3"
        ),
        format!(
            "insert into call_tag (call_id, tag, author, made_at_ms, at_ms) select {call}, 'tag' || (n % 7), 'a', {time}, {time} \
             from {numbers} where n % 4 = 0"
        ),
        format!(
            "insert into notice (notice_id, source, kind, door, topic, method, query, headers, body, sha256, dedup_key, \
             arrived_at_ms, result, available_at_ms) select {notice}, {source}, 'feiyu', 'push', '', 'POST', '', '[]', {bytes}, \
             {bytes}, 'k' || n, {time}, case when n % 1000 = 9 then 'waiting' else 'read' end, {time} from {numbers}"
        ),
    ] {
        house.sql(&sql).await;
    }
}

/// What one operation sent.
async fn heard<T>(
    what: &'static str,
    all: &mut Vec<(&'static str, Asked)>,
    asking: impl Future<Output = T>,
) -> T {
    let (answer, asked) = listen(asking).await;
    assert!(!asked.is_empty(), "{what} asked nothing");
    all.extend(asked.into_iter().map(|asked| (what, asked)));
    answer
}

/// What is wrong with a plan: a big table that is read from end to end. `counts` may do that with an index alone.
fn wrong(plan: &[String], sql: &str, small: &HashSet<String>, counts: bool) -> Option<String> {
    let big = |name: &str| BIG.iter().any(|(_, names)| names.contains(&name));
    // A list in its order, of which a page is taken.
    let pages = sql.contains("order by") && sql.contains("limit") && !sql.contains("group by");
    for (i, step) in plan.iter().enumerate() {
        let step = step.trim().trim_start_matches("-> ").trim();
        let words: Vec<&str> = step.split_whitespace().collect();
        let behind = |word: &str| {
            let at = words.iter().position(|w| *w == word)?;
            words.get(at + 1).copied()
        };
        // What a sub-select hands out goes by the name of the table that it reads.
        let is_handed = |name: &str| {
            let made = [format!("CO-ROUTINE {name}"), format!("MATERIALIZE {name}")];
            plan.iter().any(|line| made.contains(line))
        };
        if words.first() == Some(&"SCAN") && !(words.len() == 2 && is_handed(words[1])) {
            let index = behind("INDEX");
            let alone = step.contains("COVERING INDEX");
            let is_fine =
                index.is_some_and(|index| small.contains(index) || pages || (counts && alone));
            if big(words[1]) && !is_fine {
                return Some(step.to_owned());
            }
        }
        if step.contains("Seq Scan on") && behind("on").is_some_and(big) {
            return Some(step.to_owned());
        }
        if let (Some(index), true) = (behind("using"), step.contains("Scan")) {
            let has_condition = plan[i + 1..]
                .iter()
                .take_while(|line| !line.contains("->"))
                .any(|line| line.contains("Index Cond"));
            let alone = step.contains("Index Only Scan");
            let is_fine = has_condition || small.contains(index) || pages || (counts && alone);
            if behind("on").is_some_and(big) && !is_fine {
                return Some(step.to_owned());
            }
        }
    }
    None
}

fn searches() -> Vec<(&'static str, Query)> {
    let days = |query: Query| Query {
        from: Some(at(0).plus_ms(-200 * DAY)),
        to: Some(at(0).plus_ms(-110 * DAY)),
        ..query
    };
    let none = Query::default;
    let text = |text: &str| Some(text.to_owned());
    let alone = vec![
        ("search", none()),
        (
            "search by source",
            Query {
                source: text("s3"),
                ..none()
            },
        ),
        (
            "search by direction",
            Query {
                direction: Some(Direction::Internal),
                ..none()
            },
        ),
        (
            "search by a name",
            Query {
                party: text("name1"),
                ..none()
            },
        ),
        (
            "search by a name's start",
            Query {
                party: text("n"),
                ..none()
            },
        ),
        (
            "search by a number",
            Query {
                number: text("+861397919"),
                ..none()
            },
        ),
        (
            "search by four digits",
            Query {
                number: text("9197"),
                ..none()
            },
        ),
        (
            "search by an id",
            Query {
                text: "c77".into(),
                ..none()
            },
        ),
        (
            "search by a state",
            Query {
                state: text("lost"),
                ..none()
            },
        ),
        (
            "search by a common state",
            Query {
                state: text("archived"),
                ..none()
            },
        ),
        (
            "search for bare calls",
            Query {
                state: text("none"),
                ..none()
            },
        ),
        (
            "search by a duration",
            Query {
                min_duration_ms: Some(7_100_000),
                ..none()
            },
        ),
        (
            "search by a common duration",
            Query {
                min_duration_ms: Some(1000),
                ..none()
            },
        ),
        (
            "search by a note",
            Query {
                note: text("dtmf"),
                ..none()
            },
        ),
        (
            "search by a tag",
            Query {
                tag: text("tag3"),
                ..none()
            },
        ),
        (
            "search in a scope of sources",
            Query {
                scope: Scope {
                    sources: vec!["s1".into(), "s2".into()],
                    ..Scope::default()
                },
                ..none()
            },
        ),
        (
            "search in a scope of parties and numbers",
            Query {
                scope: Scope {
                    parties: vec!["agent1".into(), "agent2".into()],
                    numbers: vec!["77".into()],
                    ..Scope::default()
                },
                ..none()
            },
        ),
        (
            "search by source, direction and name",
            Query {
                source: text("s2"),
                direction: Some(Direction::Inbound),
                party: text("name12"),
                ..none()
            },
        ),
    ];
    let mut all = alone.clone();
    all.extend(alone.into_iter().map(|(what, query)| (what, days(query))));
    all
}

#[test]
fn nothing_that_is_asked_often_walks_over_a_big_table() {
    on_both(async |house| {
        fill(&house).await;
        let db = &house.db;
        let now: Timestamp = at(1);
        let sources: Vec<String> = (0..10).map(|n| format!("s{n}")).collect();
        // Statistics of nothing lead nowhere; SQLite has none in production, and PostgreSQL always some.
        if db.backend_name() == "postgres" {
            db.analyze().await.unwrap();
        }
        let mut asked = Vec::new();
        for (what, query) in searches() {
            let page = heard(what, &mut asked, db.search(&query, None, 20))
                .await
                .unwrap();
            if let Some(next) = page.next {
                heard(what, &mut asked, db.search(&query, Some(&next), 20))
                    .await
                    .unwrap();
            }
        }
        let mut counts = Vec::new();
        heard("status", &mut counts, db.status_view(now))
            .await
            .unwrap();
        heard("counts by source", &mut counts, db.count_by_source())
            .await
            .unwrap();
        heard("least slack", &mut counts, db.least_slack_by_source(now))
            .await
            .unwrap();
        heard("fixity coverage", &mut counts, db.fixity_coverage(now))
            .await
            .unwrap();
        heard("kept objects", &mut counts, db.count_kept())
            .await
            .unwrap();
        heard("tags", &mut counts, db.tags()).await.unwrap();

        heard("time to expiry", &mut asked, db.time_to_expiry(now))
            .await
            .unwrap();
        heard("reasons", &mut asked, db.wait_reasons())
            .await
            .unwrap();
        heard("open work", &mut asked, db.open_work())
            .await
            .unwrap();
        heard("nearest loss", &mut asked, db.nearest_loss(25))
            .await
            .unwrap();
        heard("put aside", &mut asked, db.put_aside(25))
            .await
            .unwrap();
        heard("dying", &mut asked, db.dying(DAY, now))
            .await
            .unwrap();
        heard("next due", &mut asked, db.next_due_at())
            .await
            .unwrap();
        heard("live leases", &mut asked, db.live_leases(now))
            .await
            .unwrap();
        heard(
            "dead leases",
            &mut asked,
            db.free_dead_leases("nobody", now),
        )
        .await
        .unwrap();
        heard("deadlines", &mut asked, db.open_deadlines("s1", 100))
            .await
            .unwrap();
        heard("found by the sweep", &mut asked, db.found_by_sweep("s1"))
            .await
            .unwrap();
        heard("waiting notices", &mut asked, db.notices_wait("s1"))
            .await
            .unwrap();
        heard("calls to ask", &mut asked, db.count_not_announced(now))
            .await
            .unwrap();
        let page = heard("fixity by key", &mut asked, db.kept_by_key(None, 50))
            .await
            .unwrap();
        heard("fixity by key", &mut asked, db.kept_by_key(page.last(), 50))
            .await
            .unwrap();
        let page = heard("fixity by age", &mut asked, db.kept_by_age(now, None, 50))
            .await
            .unwrap();
        heard(
            "fixity by age",
            &mut asked,
            db.kept_by_age(now, page.last(), 50),
        )
        .await
        .unwrap();
        heard("damaged", &mut asked, db.kept_damaged(now, 50))
            .await
            .unwrap();
        heard(
            "claim of notices",
            &mut asked,
            db.claim_notices(4, "one", &sources, now, LEASE),
        )
        .await
        .unwrap();
        let claim = db.claim(now, "one", LEASE, 3, &sources, Classes::All);
        let leased = heard("claim", &mut asked, claim).await.unwrap();
        assert_eq!(leased.len(), 3, "recordings wait");
        let later = Settle::Retry {
            at: now.plus_ms(DAY),
            reason: "not_ready".to_owned(),
            count: Count::NotReady,
        };
        heard(
            "settle",
            &mut asked,
            db.settle(&leased[0].lease, later, now),
        )
        .await
        .unwrap();
        let absent = Settle::Absent {
            reason: "never_made".to_owned(),
        };
        heard(
            "settle",
            &mut asked,
            db.settle(&leased[1].lease, absent, now),
        )
        .await
        .unwrap();
        heard("heartbeat", &mut asked, db.heartbeat(&leased[2].lease, now))
            .await
            .unwrap();
        heard("release", &mut asked, db.release(&leased[2].lease, now))
            .await
            .unwrap();
        let id = leased[0].lease.recording_id;
        heard("a recording", &mut asked, db.show_recording(id))
            .await
            .unwrap();

        // As production plans, and once more with the statistics that somebody may have asked for.
        let mut plans = Vec::new();
        let mut sizes = Vec::new();
        for pass in 0..2 {
            for (list, may_count) in [(&asked, false), (&counts, true)] {
                for (what, asked) in list {
                    plans.push((
                        *what,
                        asked.sql.clone(),
                        db.plan(asked).await.unwrap(),
                        may_count,
                    ));
                }
            }
            if pass == 0 {
                sizes = db.analyze().await.unwrap();
            }
        }
        let small: HashSet<String> = sizes
            .iter()
            .filter(|(table, _, rows)| {
                BIG.iter().any(|(name, _)| name == table) && *rows < CALLS / 10
            })
            .map(|(_, index, _)| index.clone())
            .collect();
        assert!(
            small.len() < sizes.len() / 2,
            "most indexes hold most rows: {sizes:?}"
        );
        let found: Vec<String> = plans
            .iter()
            .filter_map(|(what, sql, plan, may_count)| {
                let step = wrong(plan, sql, &small, *may_count)?;
                Some(format!("{what}: {step}\n  {sql}\n  {}", plan.join("\n  ")))
            })
            .collect();
        assert!(
            found.is_empty(),
            "{}: {} of {} plans walk over a big table:\n{}",
            db.backend_name(),
            found.len(),
            plans.len(),
            found.join("\n")
        );
        assert!(
            plans.len() > 200,
            "only {} statements were heard",
            plans.len()
        );
    });
}

/// The judge itself: a question that no index answers is found out.
#[test]
fn a_walk_over_a_table_is_noticed() {
    let small: HashSet<String> = ["recording_work".to_owned()].into();
    let plan = |steps: &[&str]| steps.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let bad = [
        plan(&["SCAN r"]),
        plan(&["SCAN recording USING INDEX recording_at"]),
        plan(&[
            "Aggregate",
            "  ->  Seq Scan on recording",
            "        Filter: (x)",
        ]),
        plan(&[
            "  ->  Index Scan using recording_at on recording r",
            "        Filter: (x)",
        ]),
    ];
    for steps in &bad {
        assert!(
            wrong(steps, "select 1", &small, true).is_some(),
            "{steps:?}"
        );
    }
    let good = [
        plan(&["SCAN recording USING INDEX recording_work"]),
        plan(&["SEARCH r USING INDEX recording_at (at_ms<?)", "SCAN m"]),
        plan(&[
            "  ->  Index Scan using recording_at on recording r",
            "        Index Cond: (x)",
        ]),
    ];
    for steps in &good {
        assert!(
            wrong(steps, "select 1", &small, false).is_none(),
            "{steps:?}"
        );
    }
}
