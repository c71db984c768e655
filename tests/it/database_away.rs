//! PostgreSQL is cut off, restarted, silent, read-only, or answers nobody hears; and what comes meanwhile.
//!
//! Failure: a vendor sees a difference, a notice is not there afterwards, or a recording is archived not at all or
//! twice. Not a failure: how long a recording waits.

use std::net::SocketAddr;
use std::time::Duration;

use callvault::simulator::{Options, VendorKind};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};

use crate::journeys::{all_as_planned_and_written, options};
use crate::support::cluster::Cluster;
use crate::support::house::TestHouse;
use crate::support::http::get;
use crate::support::pbx::{Pbx, Process, until};
use crate::support::postgres::{self, TestDatabase};
use crate::support::web::WebHouse;
use crate::support::wire::{Mood, Wire};

const DIRECTORY: &str = "[archive]\nkind = \"directory\"\npath = \"archive\"\n";

fn vendor(source: &str, calls: usize) -> (VendorKind, Options) {
    (VendorKind::Feiyu, options(source, &vec!["none"; calls]))
}

async fn house_on(url: &str, vendors: Vec<(VendorKind, Options)>) -> (TestHouse, Pbx) {
    let pbx = Pbx::open().await;
    let sections = format!("{DIRECTORY}{}", pbx.block());
    (TestHouse::open_on(vendors, url, &sections).await, pbx)
}

fn at(house: &TestHouse) -> SocketAddr {
    house.running.as_ref().unwrap().addresses.main.unwrap()
}

/// Pushes calls and holds each answer against the one that a database at its best gave. A journal on a disk that is
/// busy with other things may be late (503): then the vendor comes again, and that must be the exception.
async fn push_and_compare(house: &TestHouse, pbx: &Pbx, calls: std::ops::Range<usize>) {
    let (all, mut late) = (calls.len(), 0);
    for n in calls {
        let mut tries = 0;
        loop {
            let answer = pbx.push(at(house), &format!("c{n}"), None).await;
            let told = (answer.status.as_u16(), answer.text());
            match told {
                (200, r#"{"stored":1,"repeated":0}"#) => break,
                (200, r#"{"stored":0,"repeated":1}"#) if tries > 0 => break,
                (503, _) if tries < 10 => tries += 1,
                other => panic!("call {n}: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        late += usize::from(tries > 0);
    }
    assert!(late < all, "{late} of {all} answers came late");
}

async fn all_are_there(house: &TestHouse, calls: u64) {
    house
        .until(
            async |house| match house.house().db.count_notices_of("pbx").await {
                Ok(n) if n == calls => Ok(()),
                other => Err(format!("of {calls} notices {other:?}")),
            },
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_cut_off_costs_no_notice_and_no_recording() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let (wire, url) = Wire::to(&database.url).await;
    let (house, pbx) = house_on(&url, vec![vendor("feiyu-t", 6)]).await;
    push_and_compare(&house, &pbx, 0..3).await;
    let calling = async {
        house.make_calls().await;
    };
    let cutting = async {
        for (round, mood) in [
            Mood::Reset,
            Mood::Slow(Duration::from_millis(400)),
            Mood::Reset,
        ]
        .into_iter()
        .enumerate()
        {
            wire.set(mood);
            let first = 3 + round * 4;
            push_and_compare(&house, &pbx, first..first + 4).await;
            wire.set(Mood::Fine);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::join!(calling, cutting);
    all_are_there(&house, 15).await;
    all_as_planned_and_written(&house).await;
    house.finish().await;
}

/// No reset tells anybody: each question that is open then, and each connection, is given up by a time of our own.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_vanished_without_a_word_holds_nobody_for_ever() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let (wire, url) = Wire::to(&database.url).await;
    let (house, pbx) = house_on(&url, vec![vendor("feiyu-t", 3)]).await;
    push_and_compare(&house, &pbx, 0..2).await;
    wire.set(Mood::BlackHole);
    push_and_compare(&house, &pbx, 2..6).await;
    // The loops ask again and again: whoever asks now is silenced too.
    tokio::time::sleep(Duration::from_secs(3)).await;
    wire.set(Mood::Fine);
    house.make_calls().await;
    all_are_there(&house, 6).await;
    all_as_planned_and_written(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_whose_answer_is_lost_are_made_once() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let (wire, url) = Wire::to(&database.url).await;
    let (house, pbx) = house_on(&url, vec![vendor("one", 6), vendor("two", 6)]).await;
    wire.set(Mood::CutAfterCommit(3));
    push_and_compare(&house, &pbx, 0..10).await;
    house.vendors[0].make_calls().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after_commits = wire.cuts();
    assert!(after_commits >= 5, "{after_commits} commits cut");
    wire.set(Mood::Truncate(25));
    house.vendors[1].make_calls().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(wire.cuts() > after_commits, "no answer was cut");
    wire.set(Mood::Fine);
    all_are_there(&house, 10).await;
    all_as_planned_and_written(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_or_is_read_only_is_waited_for() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (house, pbx) = house_on(&cluster.url(), vec![vendor("feiyu-t", 4)]).await;
    push_and_compare(&house, &pbx, 0..2).await;
    let admin = Database::connect(cluster.url()).await.unwrap();
    for word in ["on", "off"] {
        let text = format!("alter system set default_transaction_read_only = {word}");
        admin.execute_unprepared(&text).await.unwrap();
        admin
            .execute_unprepared("select pg_reload_conf()")
            .await
            .unwrap();
        if word == "on" {
            push_and_compare(&house, &pbx, 2..6).await;
            assert_eq!(house.vendors.len(), 1);
        }
    }
    drop(admin);
    let calling = async { house.make_calls().await };
    let restarting = async {
        for round in 0..2 {
            tokio::task::block_in_place(|| cluster.stop_at_once());
            push_and_compare(&house, &pbx, 6 + round * 3..9 + round * 3).await;
            tokio::task::block_in_place(|| cluster.again());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::join!(calling, restarting);
    all_are_there(&house, 12).await;
    all_as_planned_and_written(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_database_nor_journal_is_a_503_that_says_when_to_come_again() {
    let house = WebHouse::open().await;
    let pbx = ["/hooks/desk/cdr", crate::web_hooks::CDR];
    let push = async || {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        crate::support::http::ask(house.at, http::Method::POST, pbx[0], &form, pbx[1]).await
    };
    let file = house.dir.path().join("callvault.db");
    // One connection: what it begins, it ends.
    let mut one = sea_orm::ConnectOptions::new(format!("sqlite://{}", file.display()));
    one.max_connections(1);
    let raw = Database::connect(one).await.unwrap();
    // Somebody holds the database; and where the journal would be is something else.
    raw.execute_unprepared("begin immediate").await.unwrap();
    let journal = house.dir.path().join("spool/journal");
    std::fs::remove_dir_all(&journal).unwrap();
    std::fs::write(&journal, "in the way").unwrap();
    let answer = push().await;
    assert_eq!(answer.status.as_u16(), 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), "5");
    // With a journal the vendor sees no difference.
    std::fs::remove_file(&journal).unwrap();
    std::fs::create_dir(&journal).unwrap();
    let answer = push().await;
    let told = (answer.status.as_u16(), answer.text());
    assert_eq!(told, (200, r#"{"resultCode":0,"resultMsg":"ok"}"#));
    let kept = std::fs::read_dir(&journal).unwrap().count();
    assert_eq!(kept, 1, "one file of the journal");
    raw.execute_unprepared("rollback").await.unwrap();
    house.stop().await;
}

fn config(url: &str, archive: &str, pbx: &Pbx) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{url}\"\nauto_migrate = true\n\
         [archive]\nkind = \"directory\"\npath = \"{archive}\"\n[spool]\npath = \"spool\"\n{}",
        pbx.block()
    )
}

async fn count(database: &TestDatabase, sql: &str) -> Option<i64> {
    let raw: DatabaseConnection = Database::connect(&database.url).await.ok()?;
    let asked = Statement::from_string(DbBackend::Postgres, sql);
    let row = raw.query_one_raw(asked).await.ok()??;
    row.try_get_by_index(0).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_while_the_database_is_away_opens_the_doors_and_goes_on_when_it_comes() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (wire, url) = Wire::to(&database.url).await;
    let pbx = Pbx::open().await;
    wire.set(Mood::Reset);
    let mut serve = Process::start(dir.path(), "serve", "serve", &config(&url, "archive", &pbx));
    let door = serve.address().await;
    let answer = pbx.push(door, "early", Some("/early")).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let ready = get(door, "/readyz").await;
    assert_eq!(
        (ready.status.as_u16(), &ready.json()["database"]),
        (503, &"away".into())
    );
    assert_eq!(get(door, "/healthz").await.status.as_u16(), 200);

    wire.set(Mood::Fine);
    let archived = "select count(*) from recording where state = 'archived'";
    until("the recording is archived", async || {
        (count(&database, archived).await == Some(1)).then_some(())
    })
    .await;
    let ready = until("ready", async || {
        let ready = get(door, "/readyz").await;
        (ready.status.as_u16() == 200).then_some(ready)
    })
    .await;
    assert_eq!(ready.json()["database"], "ok");
    serve.signal(rustix::process::Signal::TERM);
    assert!(serve.ended().await.unwrap().success());

    // The same start with another archive: the doors open, and what the database says then is obeyed.
    wire.set(Mood::Reset);
    let other = config(&url, "another", &pbx);
    let mut serve = Process::start(dir.path(), "other", "serve", &other);
    let door = serve.address().await;
    assert_eq!(pbx.push(door, "late", None).await.status.as_u16(), 200);
    wire.set(Mood::Fine);
    assert_eq!(serve.ended().await.unwrap().code(), Some(1));
    assert!(
        serve.said().contains("belongs to archive"),
        "{}",
        serve.said()
    );
    let notices = "select count(*) from notice where source = 'pbx'";
    assert_eq!(
        count(&database, notices).await,
        Some(1),
        "nothing was let through"
    );

    // Its notice is in the journal still, and the right process takes it over.
    let mut serve = Process::start(dir.path(), "again", "serve", &config(&url, "archive", &pbx));
    until("the journal is drained", async || {
        (count(&database, notices).await == Some(2)).then_some(())
    })
    .await;
    serve.signal(rustix::process::Signal::TERM);
    assert!(serve.ended().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_wrong_password_or_an_unknown_schema_ends_at_once() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let pbx = Pbx::open().await;
    let refused = async |name: &str, parts: &str, url: &str, word: &str| {
        let mut process = Process::start(dir.path(), name, parts, &config(url, "archive", &pbx));
        assert_eq!(process.ended().await.unwrap().code(), Some(1), "{name}");
        assert!(process.said().contains(word), "{name}: {}", process.said());
    };
    let missing = format!("{}_missing", database.url);
    refused("missing", "serve", &missing, "does not exist").await;
    let mut first = Process::start(
        dir.path(),
        "first",
        "worker",
        &config(&database.url, "archive", &pbx),
    );
    until("the schema is there", async || {
        count(&database, "select count(*) from recording").await
    })
    .await;
    first.signal(rustix::process::Signal::TERM);
    assert!(first.ended().await.is_some());
    let raw = Database::connect(&database.url).await.unwrap();
    raw.execute_unprepared(
        "insert into seaql_migrations (version, applied_at) values ('m9999_of_tomorrow', 0)",
    )
    .await
    .unwrap();
    for parts in ["worker", "web", "serve"] {
        refused(
            &format!("newer-{parts}"),
            parts,
            &database.url,
            "m9999_of_tomorrow",
        )
        .await;
    }
}
