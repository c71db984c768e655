//! Recordings claimed and settled per second: several workers, one queue.
//!
//! `cargo bench --bench queue [-- --recordings 8000 --workers 4 --batch 16]`, on PostgreSQL with its
//! address in `CALLVAULT_BENCH_DATABASE`; one that `scripts/ten_million.py --only-fill` made is a full one. A settle is what
//! a worker does at the end of a try; each is a transaction of its own, so the disk's flushes and the database's own small
//! commits are counted beside it in the same run. On SQLite one worker stands for the one process.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callvault::db::readings::SourceFacts;
use callvault::db::recordings::{Classes, Count, Settle};
use callvault::db::{Database, settings::Settings};
use callvault::domain::call::CallFacts;
use callvault::domain::clock::{Clock as _, SharedClock, SystemClock};
use callvault::domain::digest::Sha256;
use callvault::domain::ids::new_id;
use callvault::domain::notice::{Door, Notice};
use callvault::domain::reading::{Announced, Reading};
use callvault::domain::secret::Secret;

const LEASE: Duration = Duration::from_secs(60);
/// Recordings that one notice announces while the queue is filled.
const IN_ONE_NOTICE: usize = 200;

fn main() {
    let recordings = option("--recordings").unwrap_or(8000);
    let workers = option("--workers").unwrap_or(4);
    let batch = option("--batch").unwrap_or(16);
    let dir = tempfile::tempdir_in(".").expect("a folder beside the sources");
    let alone = disk_alone(dir.path(), Duration::from_secs(2));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let db = open(dir.path()).await;
        let source = format!("bench{}", new_id(SystemClock.now()).simple());
        let source = source[..24].to_owned();
        fill(&db, &source, recordings).await;
        let rows = db.count_recordings().await.expect("a count");
        let commits = commits_alone(&db, workers * batch, Duration::from_secs(3)).await;
        let begun = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..workers {
            let (db, source) = (db.clone(), source.clone());
            tasks.spawn(async move { work(&db, &source, worker, batch).await });
        }
        let done: usize = tasks.join_all().await.into_iter().sum();
        let rate = done as f64 / begun.elapsed().as_secs_f64();
        assert_eq!(done, recordings, "each is claimed once");
        println!(
            "{}: {workers} workers, {recordings} recordings among {rows}, {batch} a claim",
            db.backend_name()
        );
        println!("claimed and settled  {rate:>8.0}/s");
        println!(
            "small commits alone  {commits:>8.0}/s   ratio {:.2}",
            rate / commits
        );
        println!(
            "disk, one by one     {alone:>8.0}/s   ratio {:.2}",
            rate / alone
        );
    });
}

fn option(name: &str) -> Option<usize> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.nth(1)?.parse().ok()
}

fn disk_alone(dir: &std::path::Path, time: Duration) -> f64 {
    let mut file = std::fs::File::create(dir.join("alone")).expect("a file");
    let begun = Instant::now();
    let mut appends = 0;
    while begun.elapsed() < time {
        file.write_all(&[7; 1024]).expect("room");
        file.sync_data().expect("a disk that keeps its word");
        appends += 1;
    }
    f64::from(appends) / begun.elapsed().as_secs_f64()
}

/// What the database does at most: as many tiny transactions at once as settles would be.
async fn commits_alone(db: &Database, at_once: usize, time: Duration) -> f64 {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..at_once {
        let db = db.clone();
        tasks.spawn(async move {
            let name = format!("bench_{n}");
            let mut commits = 0_u32;
            while begun.elapsed() < time {
                let written = db.set_installation(&name, &commits.to_string()).await;
                written.expect("a commit");
                commits += 1;
            }
            db.forget_installation(&name).await.expect("a commit");
            commits
        });
    }
    let commits: u32 = tasks.join_all().await.into_iter().sum();
    f64::from(commits) / begun.elapsed().as_secs_f64()
}

async fn open(dir: &std::path::Path) -> Database {
    let clock: SharedClock = Arc::new(SystemClock);
    let url = std::env::var("CALLVAULT_BENCH_DATABASE");
    let settings = Settings {
        url: Secret::new(url.unwrap_or_else(|_| "sqlite://bench.db".to_owned())),
        auto_migrate: Some(true),
    };
    let db = Database::connect(&settings, dir, clock);
    db.await.expect("a database")
}

async fn fill(db: &Database, source: &str, recordings: usize) {
    let facts = SourceFacts {
        kind: "feiyu".to_owned(),
        link_renewable: true,
        provider_keeps_ms: Some(30 * 86_400_000),
        expect_recordings: false,
        expect_within_ms: None,
    };
    let mut made = 0;
    while made < recordings {
        let now = SystemClock.now();
        let upto = (made + IN_ONE_NOTICE).min(recordings);
        let mut reading = Reading::default();
        for n in made..upto {
            let mut call = CallFacts::new(format!("{source}-{n}"));
            call.started_at = Some(now.plus_ms(-60_000));
            call.ended_at = Some(now);
            call.caller = Some(format!("+86139{n:08}"));
            reading.recordings.push(Announced {
                provider_call_id: call.provider_call_id.clone(),
                aliases: vec![call.provider_call_id.clone()],
                ready_now: true,
                confirmed: true,
                ..Announced::default()
            });
            reading.calls.push(call);
        }
        let body = format!("{source} {made}").into_bytes();
        let notice = Notice {
            notice_id: new_id(now),
            source: source.to_owned(),
            kind: "feiyu".to_owned(),
            door: Door::Push,
            topic: String::new(),
            method: "POST".to_owned(),
            query: String::new(),
            headers: Vec::new(),
            sha256: Sha256::of(&body),
            dedup_key: Sha256::of(&body).hex(),
            body,
            arrived_at: now,
            unreadable: None,
        };
        db.add_notice(notice).await.expect("the notice is kept");
        let names = [source.to_owned()];
        let claimed = db.claim_notices(1, "bench", &names, now, LEASE).await;
        let claimed = claimed.expect("an inbox");
        db.apply_reading(&claimed[0], &facts, &reading, now)
            .await
            .expect("rows");
        made = upto;
    }
}

async fn work(db: &Database, source: &str, worker: usize, batch: usize) -> usize {
    let instance = format!("worker-{worker}");
    let names = [source.to_owned()];
    let mut done = 0;
    loop {
        let now = SystemClock.now();
        let claimed = db
            .claim(now, &instance, LEASE, batch, &names, Classes::All)
            .await
            .expect("a queue");
        if claimed.is_empty() {
            return done;
        }
        // All in flight at once, as a worker's recordings are.
        let settles = claimed.into_iter().map(|leased| async move {
            let later = Settle::Retry {
                at: now.plus_ms(3_600_000),
                reason: "not_ready".to_owned(),
                count: Count::NotReady,
            };
            db.settle(&leased.lease, later, now).await
        });
        for settled in futures::future::join_all(settles).await {
            settled.expect("a settle");
            done += 1;
        }
    }
}
