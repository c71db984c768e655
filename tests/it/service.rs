//! The service as it runs for months: reloaded, with parts that panic, with notices that nobody takes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callvault::domain::clock::{Clock, SystemClock};
use callvault::domain::digest::Sha256;
use callvault::domain::ids::new_id;
use callvault::domain::notice::{Door, Notice};
use callvault::pipeline::intake::Intake;
use callvault::spool::Spool;
use callvault::spool::journal::Journal;
use callvault::worker::{crew, schedule};
use sea_orm::ConnectionTrait as _;
use tokio_util::sync::CancellationToken;

use crate::support::house::program;
use crate::support::http::get_with;
use crate::support::web::WebHouse;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the test, however that ends.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until<T>(mut what: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = what().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "did not happen in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn write_config(dir: &Path, token: &str) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\napi_token = \"{token}\"\n[database]\nurl = \"sqlite://callvault.db\"\n\
         [archive]\nkind = \"directory\"\npath = \"archive\"\n[spool]\npath = \"spool\"\n"
    );
    std::fs::write(dir.join("callvault.toml"), text).unwrap();
}

#[tokio::test]
async fn sighup_takes_a_new_api_token_and_refuses_a_bad_file() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = ("first-token-of-tests", "second-token-of-tests");
    write_config(dir.path(), first);
    let log = dir.path().join("serve.log");
    let child = Command::new(program())
        .arg("--config")
        .arg(dir.path().join("callvault.toml"))
        .arg("serve")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let served = Served(child);
    let hang_up = || {
        let pid = rustix::process::Pid::from_child(&served.0);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    };
    let said = || std::fs::read_to_string(&log).unwrap();
    let at = until(async || {
        let text = said();
        let (_, rest) = text.split_once("pages and API at http://")?;
        rest.split_once('/')?.0.parse().ok()
    })
    .await;
    let status = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        get_with(at, "/api/v1/status", &headers)
            .await
            .status
            .as_u16()
    };
    assert_eq!((status(first).await, status(second).await), (200, 403));

    write_config(dir.path(), second);
    hang_up();
    until(async || said().contains("configuration read again").then_some(())).await;
    assert_eq!((status(first).await, status(second).await), (403, 200));

    // Too short a token: the whole file is refused, and that is said.
    write_config(dir.path(), "short");
    hang_up();
    until(async || said().contains("configuration not taken").then_some(())).await;
    assert_eq!((status("short").await, status(second).await), (403, 200));
    assert!(!said().contains("token-of-tests"), "{}", said());
}

#[tokio::test]
async fn a_loop_that_panics_stops_the_process_and_a_chore_that_panics_is_a_failed_run() {
    let stop = CancellationToken::new();
    let work = tokio::spawn(async { panic!("a part of the service panics") });
    crew::guarded("part", work, stop.clone()).await;
    assert!(stop.is_cancelled());

    let house = WebHouse::open().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let chore: schedule::Chore = Arc::new(move || {
        let run = counted.fetch_add(1, Ordering::Relaxed);
        assert!(run > 0, "the first run panics");
        Box::pin(async { Ok("done".to_owned()) })
    });
    let chores = vec![schedule::Scheduled {
        name: "panics-once",
        cron: "* * * * * *".to_owned(),
        chore,
    }];
    let stop = CancellationToken::new();
    let clock = Arc::new(SystemClock);
    let ticking = tokio::spawn(schedule::run(
        house.db.clone(),
        clock,
        "tests".into(),
        chores,
        stop.clone(),
    ));
    until(async || (runs.load(Ordering::Relaxed) > 1).then_some(())).await;
    stop.cancel();
    ticking.await.unwrap().unwrap();
    house.stop().await;
}

#[tokio::test]
async fn a_run_that_was_asked_for_is_run_once_without_its_cron_line() {
    let house = WebHouse::open().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let chore: schedule::Chore = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok("done".to_owned()) })
    });
    // Once in a year, and never while this test runs.
    let chores = vec![schedule::Scheduled {
        name: "rare",
        cron: "0 0 0 29 2 *".to_owned(),
        chore,
    }];
    let stop = CancellationToken::new();
    let ticking: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|instance| {
            tokio::spawn(schedule::run(
                house.db.clone(),
                Arc::new(SystemClock),
                instance.into(),
                chores.clone(),
                stop.clone(),
            ))
        })
        .collect();
    until(async || {
        let jobs = house.db.jobs().await.unwrap();
        jobs.iter().any(|job| job.name == "rare").then_some(())
    })
    .await;
    let now = SystemClock.now();
    assert!(
        house
            .db
            .ask_for_run("rare", "account:ann", now)
            .await
            .unwrap()
    );
    let told = until(async || {
        let runs = house.db.last_runs("rare", 5).await.unwrap();
        runs.into_iter().find(|run| run.finished_at.is_some())
    })
    .await;
    assert_eq!(told.result.as_deref(), Some("done"));
    assert!(house.db.jobs().await.unwrap()[0].asked_at.is_none());
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    stop.cancel();
    for ticking in ticking {
        ticking.await.unwrap().unwrap();
    }
    house.stop().await;
}

pub fn notice(key: &str) -> Notice {
    let now = SystemClock.now();
    Notice {
        notice_id: new_id(now),
        source: "desk".into(),
        kind: "feiyu".into(),
        door: Door::Push,
        topic: String::new(),
        method: "POST".into(),
        query: String::new(),
        headers: Vec::new(),
        body: key.into(),
        sha256: Sha256::of(key.as_bytes()),
        dedup_key: key.to_owned(),
        arrived_at: now,
        unreadable: None,
    }
}

/// When what was refused is tried again.
enum Again {
    Later,
    Start,
}

#[tokio::test]
async fn a_notice_that_the_database_refuses_for_good_is_parked_and_the_others_go_on() {
    parked_and_tried_again(Again::Later).await;
    parked_and_tried_again(Again::Start).await;
}

async fn parked_and_tried_again(way: Again) {
    let house = WebHouse::open().await;
    let url = format!(
        "sqlite://{}",
        house.dir.path().join("callvault.db").display()
    );
    let raw = sea_orm::Database::connect(&url).await.unwrap();
    raw.execute_unprepared(
        "create trigger refuses before insert on notice when new.dedup_key = 'odd' \
         begin select raise(abort, 'not to my taste'); end",
    )
    .await
    .unwrap();
    let folder = house.dir.path().join("elsewhere");
    let settings = callvault::spool::Settings {
        path: folder.clone(),
        ..callvault::spool::Settings::default()
    };
    let spool = Spool::open(&settings, house.dir.path()).await.unwrap();
    let open = async || Arc::new(Journal::open(&folder.join("journal")).await.unwrap());
    let journal = open().await;
    let intake = Intake::new(house.db.clone(), journal.clone(), house.clock.clone());
    for key in ["one", "odd", "two"] {
        journal.append(notice(key)).await.unwrap();
    }
    assert_eq!(intake.drain_journal().await, Ok(2));
    journal.append(notice("three")).await.unwrap();
    assert_eq!(intake.drain_journal().await, Ok(1));
    assert_eq!(house.db.count_notices_of("desk").await.unwrap(), 3);
    let usage = spool.usage().await.unwrap();
    assert_eq!(usage.parked_notices, 1);
    let alarm = callvault::jobs::alarms::parked(usage).unwrap();
    assert_eq!((alarm.code.as_str(), alarm.count), ("notices_parked", 1));

    // What refused it was mended: an hour later it is tried again, and so does the next start.
    raw.execute_unprepared("drop trigger refuses")
        .await
        .unwrap();
    let minutes = |n: i64| house.clock.advance_ms(n * 60_000);
    minutes(59);
    assert_eq!(intake.drain_journal().await, Ok(0));
    match way {
        Again::Later => {
            minutes(1);
            assert_eq!(intake.drain_journal().await, Ok(1));
        }
        Again::Start => {
            drop((journal, intake));
            let intake = Intake::new(house.db.clone(), open().await, house.clock.clone());
            assert_eq!(intake.drain_journal().await, Ok(1));
        }
    }
    assert_eq!(house.db.count_notices_of("desk").await.unwrap(), 4);
    assert_eq!(spool.usage().await.unwrap().parked_notices, 0);
    house.stop().await;
}
