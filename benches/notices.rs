//! Durable notices per second: many senders, one database, every answer after the commit.
//!
//! `cargo bench --bench notices [-- --seconds 5 --senders 64]`, on PostgreSQL with its address in
//! `CALLVAULT_BENCH_DATABASE`. Beside it, in the same run and on the same disk: how many single appends
//! of the same size the disk makes durable one by one.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use callvault::db::{Database, settings::Settings};
use callvault::domain::clock::{Clock as _, SharedClock, SystemClock};
use callvault::domain::digest::Sha256;
use callvault::domain::ids::new_id;
use callvault::domain::notice::{Door, Notice};
use callvault::domain::secret::Secret;

const BODY: &str = "action=callhangup&appId=A1B2C3D4E5F60718293A4B5C6D7E8F90&appCallId=order-7781&callStartTime=1712346012000&callEndTime=1712346600000&stopReason=2&trueShowNumberType=1&trueIfRecord=1&ti=1712346600123&au=97D6A76CE3FEE6A080F38629A352AB4A&fyCallId=";

fn main() {
    let seconds = option("--seconds").unwrap_or(5);
    let senders = option("--senders").unwrap_or(64);
    let dir = tempfile::tempdir_in(".").expect("a folder beside the sources");
    let alone = disk_alone(dir.path(), Duration::from_secs(2));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut took = runtime.block_on(flood(dir.path(), seconds, senders));
    took.sort_unstable();
    let rate = took.len() as f64 / seconds as f64;
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!("{senders} senders, {seconds} s");
    println!(
        "durable notices   {rate:>8.0}/s   p50 {:.1} ms   p99 {:.1} ms   max {:.1} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    println!(
        "disk, one by one  {alone:>8.0}/s   ratio {:.2}",
        rate / alone
    );
}

fn option(name: &str) -> Option<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.nth(1)?.parse().ok()
}

/// Appends of one notice's size, each made durable before the next.
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

async fn flood(dir: &std::path::Path, seconds: u64, senders: u64) -> Vec<Duration> {
    let clock: SharedClock = Arc::new(SystemClock);
    let url = std::env::var("CALLVAULT_BENCH_DATABASE");
    let settings = Settings {
        url: Secret::new(url.unwrap_or_else(|_| "sqlite://bench.db".to_owned())),
        auto_migrate: Some(true),
    };
    let db = Database::connect(&settings, dir, clock)
        .await
        .expect("a database");
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..senders {
        let (db, stop) = (db.clone(), stop.clone());
        tasks.spawn(async move {
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let notice = notice(sender, took.len());
                let begun = Instant::now();
                db.add_notice(notice).await.expect("the notice is kept");
                took.push(begun.elapsed());
            }
            took
        });
    }
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    tasks.join_all().await.concat()
}

fn notice(sender: u64, n: usize) -> Notice {
    let now = SystemClock.now();
    let notice_id = new_id(now);
    let body = format!("{BODY}{sender:08x}{n:08x}{}%40fy", notice_id.simple());
    let sha256 = Sha256::of(body.as_bytes());
    Notice {
        notice_id,
        source: "bench".to_owned(),
        kind: "feiyu".to_owned(),
        door: Door::Push,
        topic: "cdr".to_owned(),
        method: "POST".to_owned(),
        query: String::new(),
        headers: vec![(
            "content-type".to_owned(),
            "application/x-www-form-urlencoded".to_owned(),
        )],
        body: body.into_bytes(),
        arrived_at: now,
        sha256,
        dedup_key: sha256.hex(),
        unreadable: None,
    }
}
