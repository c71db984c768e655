//! Processes that work on one queue: stopped, killed, frozen, with a wrong clock, of two versions.
//!
//! Leases end by a change of the row, not by waiting: what is tested is what happens then.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use callvault::app::{self, House, Parts, StartOptions};
use callvault::config::Config;
use callvault::db::recordings::Classes;
use callvault::domain::clock::{Clock, SystemClock, Timestamp};
use callvault::pipeline::ingest::LEASE;
use callvault::worker::lease_loop;
use rustix::process::Signal;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement};
use tokio_util::sync::CancellationToken;

use crate::outage::Site;
use crate::support::house::program;
use crate::support::pbx::{Pbx, Process, until};
use crate::support::postgres;
use crate::support::shelf::Mood;
use crate::support::wire::{self, Wire};

fn config(url: &str, spool: &str, pbx: &Pbx) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{url}\"\nauto_migrate = true\n\
         [archive]\nkind = \"directory\"\npath = \"archive\"\n[spool]\npath = \"{spool}\"\n{}",
        pbx.block()
    )
}

const SQLITE: &str = "sqlite://callvault.db";

async fn raw_sqlite(dir: &Path) -> DatabaseConnection {
    let file = dir.join("callvault.db");
    Database::connect(format!("sqlite://{}", file.display()))
        .await
        .unwrap()
}

/// The first row as one text; `None` when there is none, or no table yet.
async fn row(db: &DatabaseConnection, sql: &str) -> Option<String> {
    let asked = Statement::from_string(db.get_database_backend(), sql);
    db.query_one_raw(asked)
        .await
        .ok()??
        .try_get_by_index(0)
        .ok()
}

/// One recording, all that may change about it.
const WHOLE_ROW: &str = "select state || ' ' || lease_token || ' ' || coalesce(lease_owner, '-') || ' ' || lapses || ' ' \
    || coalesce(notes, '-') || ' ' || archived_at_ms || ' ' \
    || (select count(*) from archive_object) || ' ' || (select count(*) from recording_event) from recording";

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_stop_hands_its_work_back() {
    let dir = tempfile::tempdir().unwrap();
    let pbx = Pbx::open().await;
    let mut serve = Process::start(dir.path(), "serve", "serve", &config(SQLITE, "spool", &pbx));
    let door = serve.address().await;
    pbx.push(door, "one", Some("/held/one")).await;
    until("the file is being fetched", async || {
        (pbx.was_asked("/held/one") == 1).then_some(())
    })
    .await;
    serve.signal(Signal::TERM);
    let ended = serve.ended().await;
    assert!(
        ended.is_some_and(|status| status.success()),
        "{}",
        serve.said()
    );
    let db = raw_sqlite(dir.path()).await;
    let now = SystemClock.now().ms();
    let left = format!(
        "select coalesce(lease_owner, 'nobody') || ' ' || (available_at_ms <= {now}) || ' ' || lapses from recording"
    );
    assert_eq!(row(&db, &left).await.unwrap(), "nobody 1 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_database_is_silent_ends_all_the_same() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (wire, url) = Wire::to(&database.url).await;
    let pbx = Pbx::open().await;
    let mut serve = Process::start(dir.path(), "serve", "serve", &config(&url, "spool", &pbx));
    let door = serve.address().await;
    pbx.push(door, "one", Some("/held/one")).await;
    until("the file is being fetched", async || {
        (pbx.was_asked("/held/one") == 1).then_some(())
    })
    .await;
    wire.set(wire::Mood::BlackHole);
    serve.signal(Signal::TERM);
    assert!(serve.ended().await.is_some(), "{}", serve.said());
}

/// What one worker held when it died or froze is taken over by another, on "another machine" (a spool of its own).
async fn taken_over(
    dir: &Path,
    pbx: &Pbx,
    path: &str,
    how: Signal,
) -> (Process, Process, DatabaseConnection) {
    let mut web = Process::start(dir, "web", "web", &config(SQLITE, "spool-web", pbx));
    let door = web.address().await;
    let first = Process::start(dir, "first", "worker", &config(SQLITE, "spool-first", pbx));
    pbx.push(door, "one", Some(path)).await;
    until("the first is fetching", async || {
        (pbx.was_asked(path) == 1).then_some(())
    })
    .await;
    first.signal(how);
    let second = Process::start(
        dir,
        "second",
        "worker",
        &config(SQLITE, "spool-second", pbx),
    );
    let db = raw_sqlite(dir).await;
    // A minute goes by: the lease is over, by its own end and not a moment sooner.
    db.execute_unprepared(&format!(
        "update recording set available_at_ms = available_at_ms - {}",
        LEASE.as_millis()
    ))
    .await
    .unwrap();
    until("the second has archived it", async || {
        let done = "select state from recording where state = 'archived' and work_class is null";
        row(&db, done).await
    })
    .await;
    let lapses = row(&db, "select cast(lapses as text) from recording").await;
    assert_eq!(lapses.as_deref(), Some("1"));
    (first, second, db)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_killed_worker_is_taken_over_on_another_machine() {
    let dir = tempfile::tempdir().unwrap();
    let pbx = Pbx::open().await;
    taken_over(dir.path(), &pbx, "/held/one", Signal::KILL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_after_its_lease_was_taken_over_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let pbx = Pbx::open().await;
    let (first, _second, db) = taken_over(dir.path(), &pbx, "/held/one", Signal::STOP).await;
    let before = row(&db, WHOLE_ROW).await.unwrap();
    let files = crate::support::house::spool_files(&dir.path().join("archive"));
    first.signal(Signal::CONT);
    // It gets the rest of its file and goes on, as if nothing had happened meanwhile.
    pbx.release();
    until("it finds its lease lost", async || {
        first.said().contains("lease lost").then_some(())
    })
    .await;
    assert_eq!(row(&db, WHOLE_ROW).await.unwrap(), before);
    let after = crate::support::house::spool_files(&dir.path().join("archive"));
    assert_eq!(after, files);
}

/// The machine's clock, off by so much.
#[derive(Debug)]
struct Off(i64);

impl Clock for Off {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_ms(self.0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_clock_is_off_claims_nothing_and_says_so() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let pbx = Pbx::open().await;
    let mut web = Process::start(
        dir.path(),
        "web",
        "web",
        &config(&database.url, "spool-web", &pbx),
    );
    let door = web.address().await;
    pbx.push(door, "one", Some("/one")).await;
    let db = Database::connect(&database.url).await.unwrap();
    let work = async |off: i64, spool: &str| {
        let file = dir.path().join(format!("{spool}.toml"));
        std::fs::write(&file, config(&database.url, spool, &pbx)).unwrap();
        let clock = Arc::new(Off(off));
        let house = House::open(Config::load(Some(&file)).unwrap(), clock).await;
        let options = StartOptions {
            decoder_program: Some(program()),
            ..StartOptions::default()
        };
        app::start(house.unwrap(), Parts::WORKER, options)
            .await
            .unwrap()
    };
    for (n, off) in [6_000, -6_000, 26 * 3_600_000].into_iter().enumerate() {
        let worker = work(off, &format!("spool-{n}")).await;
        until("it says that its clock is off", async || {
            row(&db, "select doing from fault where doing like 'clock%'").await
        })
        .await;
        // A worker that may claim looks every second.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let claims = "select cast((select sum(lease_token) from notice) + (select count(*) from recording) as text)";
        assert_eq!(row(&db, claims).await.as_deref(), Some("0"), "{off} ms off");
        worker.stop().await;
        db.execute_unprepared("delete from fault").await.unwrap();
    }
    let worker = work(1_000, "spool-right").await;
    until("a worker with a fair clock has done it", async || {
        row(&db, "select state from recording where state = 'archived'").await
    })
    .await;
    worker.stop().await;
}

/// Set to another time while everything runs.
#[derive(Debug, Default)]
struct Jumping(AtomicI64);

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_ms(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_by_hours_in_the_middle_of_work_loses_and_doubles_nothing() {
    const CALLS: usize = 24;
    let dir = tempfile::tempdir().unwrap();
    let pbx = Pbx::open().await;
    let file = dir.path().join("callvault.toml");
    std::fs::write(&file, config(SQLITE, "spool", &pbx)).unwrap();
    let clock = Arc::new(Jumping::default());
    let house = House::open(Config::load(Some(&file)).unwrap(), clock.clone()).await;
    let options = StartOptions {
        decoder_program: Some(program()),
        ..StartOptions::default()
    };
    let running = app::start(house.unwrap(), Parts::ALL, options)
        .await
        .unwrap();
    let door = running.addresses.main.unwrap();
    for n in 0..CALLS {
        pbx.push(door, &format!("c{n}"), Some(&format!("/c{n}")))
            .await;
        // Back by a day and by ten minutes, then ahead: the last time is the latest.
        let hours = [-24.0, -0.2, 24.0, 24.5][n * 4 / CALLS];
        let jump = (hours * 3_600_000.0) as i64;
        clock.0.store(jump, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    // Whatever was left to a lease of another time is free by now.
    clock.0.store(26 * 3_600_000, Ordering::SeqCst);
    let db = raw_sqlite(dir.path()).await;
    let done = format!(
        "select 'yes' where (select count(*) from recording where state = 'archived' and work_class is null) = {CALLS}"
    );
    until("all are archived", async || row(&db, &done).await).await;
    running.stop().await;
    let originals = "select count(*) || ' ' || count(distinct recording_id) from archive_object where role = 'original'";
    assert_eq!(
        row(&db, originals).await.unwrap(),
        format!("{CALLS} {CALLS}")
    );
    let unproven = "select cast(count(*) as text) from archive_object where verified_at_ms is null";
    assert_eq!(row(&db, unproven).await.unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_over_one_recording_costs_no_other_and_counts_as_a_lapse() {
    let (site, shelves) = Site::open([("long", "30d"), ("short", "7d")]).await;
    shelves[0].set(Mood::PanicsOverOne);
    let now = site.clock.now();
    for call in ["bad", "one", "two"] {
        site.tell(&shelves[0], call, now).await;
    }
    let names = site.tools.sources.names();
    while callvault::pipeline::inbox::read_waiting(&site.tools.db, &site.tools.sources, "i1", now)
        .await
        .unwrap()
        > 0
    {}
    let stop = CancellationToken::new();
    let working = tokio::spawn(lease_loop::run(
        site.tools.clone(),
        "i1".into(),
        1,
        Arc::default(),
        Arc::new(AtomicBool::new(true)),
        stop.clone(),
    ));
    until("the others are archived", async || {
        let states = site.states("long").await;
        states.contains(&("archived".to_owned(), 2)).then_some(())
    })
    .await;
    stop.cancel();
    working.await.unwrap();
    site.clock
        .advance_ms(i64::try_from(LEASE.as_millis()).unwrap());
    let later = site.clock.now();
    let again = site
        .tools
        .db
        .claim(later, "i2", LEASE, 9, &names, Classes::Archive)
        .await
        .unwrap();
    let lapses: Vec<u32> = again
        .iter()
        .map(|leased| leased.loaded.row.lapses)
        .collect();
    assert_eq!(lapses, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_go_on_while_a_newer_version_grows_every_table() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let pbx = Pbx::open().await;
    let mut serve = Process::start(
        dir.path(),
        "serve",
        "serve",
        &config(&database.url, "spool", &pbx),
    );
    let door = serve.address().await;
    let db = Database::connect(&database.url).await.unwrap();
    let archived = async |n: usize| {
        let sql = format!(
            "select 'yes' where (select count(*) from recording where state = 'archived' and work_class is null) = {n}"
        );
        until("all are archived", async || row(&db, &sql).await).await
    };
    for n in 0..4 {
        pbx.push(door, &format!("old-{n}"), Some(&format!("/old-{n}")))
            .await;
    }
    archived(4).await;
    // What a newer version's migrations may do: add.
    db.execute_unprepared(
        "do $$ declare t record; begin for t in select tablename from pg_tables where schemaname = 'public' loop \
         execute format('alter table %I add column tomorrow text', t.tablename); end loop; end $$; \
         create table of_tomorrow (id int); \
         insert into seaql_migrations (version, applied_at) values ('m9999_of_tomorrow', 0);",
    )
    .await
    .unwrap();
    for n in 0..4 {
        let answer = pbx
            .push(door, &format!("new-{n}"), Some(&format!("/new-{n}")))
            .await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    }
    archived(8).await;
    let lapses = row(&db, "select cast(sum(lapses) as text) from recording").await;
    assert_eq!(lapses.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_cut_anywhere_has_changed_nothing() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (wire, url) = Wire::to(&database.url).await;
    let settings = callvault::db::settings::Settings {
        url: callvault::domain::secret::Secret::new(url),
        auto_migrate: Some(true),
    };
    let raw = Database::connect(&database.url).await.unwrap();
    let tables = "select cast(count(*) as text) from pg_tables where schemaname = 'public'";
    let clock = Arc::new(SystemClock);
    let mut cuts = 0;
    // Pieces of some hundred; the last cut lies behind the last piece.
    for before in (0..).step_by(7) {
        wire.count_anew();
        wire.set(wire::Mood::CutBefore(before));
        let opened = callvault::db::Database::connect(&settings, dir.path(), clock.clone()).await;
        if opened.is_ok() {
            break;
        }
        cuts += 1;
        // The server ends the transaction when it notices.
        until("nothing is there", async || {
            (row(&raw, tables).await.as_deref() == Some("0")).then_some(())
        })
        .await;
    }
    assert!(cuts > 10, "only {cuts} cuts");
    assert_ne!(row(&raw, tables).await.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_of_a_file_that_is_killed_has_done_all_or_nothing() {
    let (mut none, mut all) = (0, 0);
    let pbx = Pbx::open().await;
    for round in 0..14_u64 {
        let dir = tempfile::tempdir().unwrap();
        let text = config(SQLITE, "spool", &pbx);
        let mut up = Process::start_with(dir.path(), "up", &["migrate", "up"], &text, &[]);
        tokio::time::sleep(Duration::from_millis(8 * round * round)).await;
        let _ = up.child.kill();
        let _ = up.child.wait();
        if !dir.path().join("callvault.db").exists() {
            none += 1;
            continue;
        }
        let db = raw_sqlite(dir.path()).await;
        let tables = "select cast(count(*) as text) from sqlite_master where type = 'table' and name in ('recording', 'notice', 'seaql_migrations')";
        match row(&db, tables).await.as_deref() {
            Some("0") => none += 1,
            Some("3") => {
                let mut again =
                    Process::start_with(dir.path(), "again", &["migrate", "up"], &text, &[]);
                assert!(again.ended().await.unwrap().success());
                all += 1;
            }
            other => panic!("half a schema: {other:?}"),
        }
    }
    println!("{none} times nothing, {all} times all");
    assert!(none > 0);
}
