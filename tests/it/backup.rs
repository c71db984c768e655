//! Backups of an SQLite database, and what comes back after the worst day.
//!
//! Failure: a backup that is not whole under its name, a recording that is lost after a restore, an
//! object without a row. Not a failure: that the vendor is asked again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use callvault::archive::contract::ArchiveErrorKind;
use callvault::archive::disk::DiskArchive;
use callvault::db::Database;
use callvault::domain::secret::Secret;
use callvault::jobs::backup::{Backups, Settings};
use callvault::jobs::rebuild;
use callvault::pipeline::inbox;
use callvault::providers::contract::{Capabilities, Provider};
use callvault::providers::sources::Sources;
use callvault::simulator::{Options, VendorKind};

use crate::db::{DAY, House, at, notice, sqlite};
use crate::fixity::{Bench, on_all};
use crate::journeys::{all_as_planned_and_written, options, rows_of};
use crate::support::disk::SmallDisk;
use crate::support::house::{TestHouse, program, stored_keys};
use crate::support::moody::Moody;
use crate::support::shelf::Shelf;

async fn run(config: &Path, args: &[&str]) -> std::process::Output {
    tokio::process::Command::new(program())
        .arg("--config")
        .arg(config)
        .args(args)
        .current_dir(config.parent().unwrap())
        .output()
        .await
        .unwrap()
}

async fn succeeds(house: &TestHouse, args: &[&str]) {
    let ran = run(&house.config_file(), args).await;
    assert!(ran.status.success(), "{args:?}: {ran:?}");
}

/// The database is gone, and the backup takes its place.
async fn restore(house: &mut TestHouse, backup: &Path) {
    house.stop().await;
    let file = house.path().join("callvault.db");
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", file.display()));
    }
    std::fs::copy(backup, &file).unwrap();
    house.start().await;
    house
        .until(async |house| match house.house().db.restored_from().await {
            Ok(None) => Ok(()),
            other => Err(format!("the archive is not read yet: {other:?}")),
        })
        .await;
}

/// Every call has its recording once, and each object its row.
async fn nothing_is_lost(house: &TestHouse) {
    succeeds(house, &["sync"]).await;
    all_as_planned_and_written(house).await;
    let db = &house.house().db;
    let recordings = db.count_recordings().await.unwrap();
    assert_eq!(recordings, house.ledger().len() as u64);
    let known = db.all_object_keys().await.unwrap();
    let known = known.into_iter().map(|key| key.to_string()).collect();
    assert_eq!(stored_keys(house.house().archive.as_ref()).await, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn yesterdays_backup_todays_archive_and_a_sweep_lose_nothing() {
    let silent = Options {
        announce: false,
        ..options("silent-t", &["none", "none", "none"])
    };
    let announced = options("twilio-t", &["none", "late", "twice", "none"]);
    let mut house = TestHouse::open(vec![
        (VendorKind::Twilio, announced),
        (VendorKind::Twilio, silent),
    ])
    .await;
    house.make_calls().await;
    // In the middle of work: rows that are waiting, under way and done.
    let busy = house.path().join("busy.db");
    succeeds(&house, &["backup", "-o", busy.to_str().unwrap()]).await;
    nothing_is_lost(&house).await;
    let calm = house.path().join("calm.db");
    succeeds(&house, &["backup", "-o", calm.to_str().unwrap()]).await;
    // After the backups: archived, told of and found; and what only the vendor knows.
    house.make_calls().await;
    nothing_is_lost(&house).await;
    house.vendors[1].make_calls().await.unwrap();
    let before = stored_keys(house.house().archive.as_ref()).await;

    for backup in [&calm, &busy] {
        restore(&mut house, backup).await;
        nothing_is_lost(&house).await;
        let now = stored_keys(house.house().archive.as_ref()).await;
        assert!(now.is_superset(&before));
        let originals = now.iter().filter(|key| key.contains("/original-"));
        assert_eq!(originals.count(), house.ledger().len(), "none came twice");
    }
    house.finish().await;
}

/// What a person does on PostgreSQL, where no copy knows that it is one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_added_by_hand_and_told() {
    let none = options("twilio-t", &["none", "none"]);
    let mut house = TestHouse::open(vec![(VendorKind::Twilio, none)]).await;
    let old = house.path().join("old.db");
    succeeds(&house, &["backup", "-o", old.to_str().unwrap()]).await;
    house.make_calls().await;
    nothing_is_lost(&house).await;
    house.stop().await;
    // An original whose process died before anything told whose it is.
    let stray =
        "twilio-t/2024/03/05/018e0c00-0000-7000-8000-000000000000/original-0011223344556677.wav";
    let stray = house.path().join("archive").join(stray);
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::write(&stray, "RIFF").unwrap();
    let file = house.path().join("callvault.db");
    // All three: a process that is still closing the old file must not write into the new one.
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", file.display()));
    }
    std::fs::copy(&old, &file).unwrap();
    let rebuild = ["rebuild", "--from-archive", "--missing", "--json"];
    let ran = run(&house.config_file(), &rebuild).await;
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(ran.status.code(), Some(3), "{report}");
    assert_eq!(report["recordings"], 2, "{report}");
    assert_eq!(report["findings"][0]["code"], "no_manifest", "{report}");
    std::fs::remove_file(&stray).unwrap();
    let ran = run(&house.config_file(), &rebuild).await;
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(
        (ran.status.code(), &report["manifests"]),
        (Some(0), &0.into())
    );
    house.start().await;
    nothing_is_lost(&house).await;
    house.finish().await;
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_whole_while_others_write() {
    let house = sqlite(Some(true)).await;
    let (db, stop) = (house.db.clone(), tokio_util::sync::CancellationToken::new());
    let stopped = stop.clone();
    let writing = tokio::spawn(async move {
        let mut n = 0;
        while !stopped.is_cancelled() {
            db.add_notice(notice("feiyu-main", at(n))).await.unwrap();
            n += 1;
        }
        n
    });
    let folder = house.folder().join("copies");
    std::fs::create_dir(&folder).unwrap();
    while house.number("select count(*) from notice").await < 20 {
        tokio::task::yield_now().await;
    }
    let before = house.number("select count(*) from notice").await;
    let target = folder.join("copy.db");
    let copied = house.db.copy_to(&target, at(0)).await.unwrap();
    let after = house.number("select count(*) from notice").await;
    stop.cancel();
    writing.await.unwrap();
    let mode = std::fs::metadata(&target).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(names(&folder), ["copy.db"], "nothing is left beside it");
    assert_eq!(copied.bytes, std::fs::metadata(&target).unwrap().len());
    let held = rows_of(&target, "notice").await.len() as i64;
    assert!((before..=after).contains(&held), "{before} {held} {after}");
    // It opens as a database with the schema of this version, and knows what it is.
    let settings = callvault::db::settings::Settings {
        url: Secret::new("sqlite://copies/copy.db"),
        auto_migrate: Some(false),
    };
    let copy = Database::connect(&settings, house.folder(), house.clock.clone())
        .await
        .unwrap();
    assert_eq!(copy.restored_from().await.unwrap(), Some(at(0).to_string()));
    assert_eq!(house.db.restored_from().await.unwrap(), None);
}

fn backups(house: &House, settings: Settings, archive: Option<PathBuf>) -> Backups {
    Backups {
        db: house.db.clone(),
        settings,
        base_dir: house.folder().to_owned(),
        archive_folder: archive,
        clock: house.clock.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_refused_with_what_to_do() {
    let house = sqlite(Some(true)).await;
    let archive = house.folder().join("archive");
    std::fs::create_dir_all(archive.join("a")).unwrap();
    std::fs::write(house.folder().join("file"), "mine").unwrap();
    let backups = backups(&house, Settings::default(), Some(archive.clone()));
    let refused = async |target: PathBuf| backups.write(&target).await.unwrap_err();
    let taken = refused(house.folder().join("file")).await;
    assert_eq!(taken.code, "backup_exists");
    let mine = std::fs::read(house.folder().join("file")).unwrap();
    assert_eq!(mine, b"mine", "nothing is overwritten");
    let itself = refused(house.folder().join("data/callvault.db")).await;
    assert_eq!(itself.code, "backup_exists");
    for inside in ["new.db", "a/new.db"] {
        let inside = refused(archive.join(inside)).await;
        assert_eq!(inside.code, "backup_in_archive");
    }
    for no_folder in ["missing/new.db", "file/new.db"] {
        let no_folder = refused(house.folder().join(no_folder)).await;
        assert_eq!(no_folder.code, "backup_not_writable", "{no_folder}");
    }
    let Some(disk) = SmallDisk::mount("64k") else {
        return;
    };
    let full = refused(disk.path().join("new.db")).await;
    assert_eq!(full.code, "backup_disk_full", "{full}");
    assert!(names(disk.path()).is_empty(), "nothing half is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_when_it_is_due_and_the_newest_are_kept() {
    let house = sqlite(Some(true)).await;
    let archive = DiskArchive::open(&house.folder().join("archive"))
        .await
        .unwrap();
    let settings = Settings {
        keep: 2,
        archive: true,
        ..Settings::default()
    };
    let backups = backups(&house, settings, None);
    let folder = house.folder().join("data/backups");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("of-somebody-else.db"), "").unwrap();
    for day in 0..4 {
        house.clock.set(at(0).plus_ms(day * DAY));
        let made = backups.scheduled(&archive).await.unwrap().unwrap();
        assert!(made.archived_as.is_some());
        assert_eq!(made.removed, u32::from(day >= 2));
        house.clock.set(at(1).plus_ms(day * DAY));
        assert!(backups.scheduled(&archive).await.unwrap().is_none());
    }
    assert_eq!(
        names(&folder),
        [
            ".lock",
            "callvault-20240307T040000Z.db",
            "callvault-20240308T040000Z.db",
            "of-somebody-else.db"
        ]
    );
    let archived = names(&house.folder().join("archive/_callvault/backups"));
    assert_eq!(archived.len(), 4, "nothing is deleted from the archive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_fails_is_an_alarm_until_one_is_made() {
    let house = sqlite(Some(true)).await;
    let archive = Arc::new(
        DiskArchive::open(&house.folder().join("archive"))
            .await
            .unwrap(),
    );
    let blocked = house.folder().join("blocked");
    std::fs::write(&blocked, "").unwrap();
    let settings = Settings {
        path: Some("blocked".into()),
        ..Settings::default()
    };
    let backups = backups(&house, settings, None);
    let alarms = async || {
        let sources = callvault::providers::sources::Sources::new([]);
        let mut alarms = Vec::new();
        callvault::jobs::alarms::faults(&house.db, &sources, at(0), &mut alarms)
            .await
            .unwrap();
        alarms
            .into_iter()
            .map(|alarm| alarm.code)
            .collect::<Vec<_>>()
    };
    assert!(backups.scheduled(archive.as_ref()).await.is_err());
    assert_eq!(alarms().await, ["backup_failed"]);
    std::fs::remove_file(&blocked).unwrap();
    // Not a day later: at the next tick.
    assert!(backups.scheduled(archive.as_ref()).await.unwrap().is_some());
    assert_eq!(alarms().await, [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_brought_up_after_a_copy_of_what_is_there() {
    let house = sqlite(Some(true)).await;
    let beside = || {
        let names = names(&house.folder().join("data")).into_iter();
        names
            .filter(|name| name.contains(".before-"))
            .collect::<Vec<_>>()
    };
    let step_back = async || {
        house.sql("drop table backfill").await;
        house
            .sql("delete from seaql_migrations where version = 'm0013_backfill'")
            .await;
    };
    step_back().await;
    house.neighbour().await;
    assert!(beside().is_empty(), "an empty database is not copied");
    step_back().await;
    house
        .db
        .add_notice(notice("feiyu-main", at(0)))
        .await
        .unwrap();
    let db = house.neighbour().await;
    assert!(
        db.migration_status()
            .await
            .unwrap()
            .iter()
            .all(|step| step.applied)
    );
    let copies = beside();
    assert_eq!(copies, ["callvault.before-m0013_backfill.db"]);
    let copy = house.folder().join("data").join(&copies[0]);
    assert_eq!(rows_of(&copy, "notice").await.len(), 1);
    let steps = rows_of(&copy, "seaql_migrations").await;
    assert!(
        !steps.iter().any(|step| step.contains("m0013")),
        "{steps:?}"
    );
    house.neighbour().await;
    assert_eq!(beside().len(), 1, "nothing to bring up, nothing to copy");
    // A start that fails after its copy, again and again.
    let whole = std::fs::read(&copy).unwrap();
    for minute in 1..4 {
        house.clock.set(at(minute));
        step_back().await;
        house.neighbour().await;
    }
    assert_eq!(beside().len(), 1, "one copy a step");
    assert_eq!(std::fs::read(&copy).unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_backups_within_one_second_have_names_of_their_own() {
    let house = sqlite(Some(true)).await;
    let backups = backups(&house, Settings::default(), None);
    let first = backups.next_file().unwrap();
    backups.write(&first).await.unwrap();
    let second = backups.next_file().unwrap();
    backups.write(&second).await.unwrap();
    assert!(
        first < second && first.exists() && second.exists(),
        "{first:?} {second:?}"
    );
}

#[test]
fn postgresql_is_told_of_its_own_tools() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("callvault.toml");
    std::fs::write(
        &config,
        "[database]\nurl = \"postgres://nobody@127.0.0.1:9/none\"\n",
    )
    .unwrap();
    let ran = Command::new(program())
        .arg("--config")
        .arg(&config)
        .args(["backup", "--json"])
        .output()
        .unwrap();
    let error: serde_json::Value = serde_json::from_slice(&ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(error["error"]["code"], "backup_postgres");
    let remedy = error["error"]["do"].as_str().unwrap();
    assert!(
        remedy.contains("pg_dump") && remedy.contains("base backup"),
        "{remedy}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_away_gets_the_same_copy_later_and_no_second_one_is_made() {
    let house = sqlite(Some(true)).await;
    let at_archive = house.folder().join("archive");
    let archive = DiskArchive::open(&at_archive).await.unwrap();
    let settings = Settings {
        keep: 2,
        archive: true,
        ..Settings::default()
    };
    let backups = backups(&house, settings, None);
    let folder = house.folder().join("data/backups");
    let copies = || {
        names(&folder)
            .into_iter()
            .filter(|name| name.ends_with(".db"))
            .collect::<Vec<_>>()
    };
    // Where the folder of the copies would be made lies a file: nothing goes in.
    let block = at_archive.join("_callvault");
    std::fs::create_dir_all(&at_archive).unwrap();
    std::fs::write(&block, "").unwrap();
    for tick in 0..6 {
        house.clock.set(at(10 * tick));
        let failed = backups.scheduled(&archive).await.unwrap_err();
        assert_eq!(failed.code, "backup_not_archived");
        assert_eq!(copies(), ["callvault-20240305T040000Z.db"], "tick {tick}");
    }
    let fault = house.db.faults().await.unwrap().remove(0);
    assert_eq!(
        (fault.code.as_str(), fault.since),
        ("backup_not_archived", at(0))
    );
    std::fs::remove_file(&block).unwrap();
    house.clock.set(at(60));
    let made = backups.scheduled(&archive).await.unwrap().unwrap();
    assert!(made.file.ends_with("callvault-20240305T040000Z.db"));
    let archived = names(&block.join("backups"));
    assert_eq!(archived.len(), 1);
    assert!(
        archived[0].starts_with("20240305T040000Z-"),
        "as of its making: {archived:?}"
    );
    assert_eq!(house.db.faults().await.unwrap(), []);
    assert!(backups.scheduled(&archive).await.unwrap().is_none());
    // A copy that went before the archive was back holds up nothing.
    std::fs::rename(&block, house.folder().join("aside")).unwrap();
    std::fs::write(&block, "").unwrap();
    house.clock.set(at(0).plus_ms(DAY));
    assert!(backups.scheduled(&archive).await.is_err());
    std::fs::remove_file(folder.join("callvault-20240306T040000Z.db")).unwrap();
    assert!(backups.scheduled(&archive).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_just_made_stays_when_older_ones_have_names_from_a_time_to_come() {
    let house = sqlite(Some(true)).await;
    let archive = DiskArchive::open(&house.folder().join("archive"))
        .await
        .unwrap();
    let settings = Settings {
        keep: 2,
        ..Settings::default()
    };
    let backups = backups(&house, settings, None);
    // The clock ran two days ahead, and was set right.
    for day in [-1, 2, 3, 0, 1] {
        house.clock.set(at(0).plus_ms(day * DAY));
        let made = backups.scheduled(&archive).await.unwrap().unwrap();
        assert!(made.file.exists(), "day {day}");
    }
    let mut kept = names(&house.folder().join("data/backups"));
    kept.retain(|name| name.ends_with(".db"));
    assert_eq!(
        kept,
        [
            "callvault-20240305T040000Z.db",
            "callvault-20240306T040000Z.db"
        ]
    );
}

/// A database as it was before its three recordings came, over the archive that has them.
async fn restored(bench: &Bench) -> Database {
    let target = bench.house.folder().join("copy.db");
    bench.house.db.copy_to(&target, at(0)).await.unwrap();
    for call in ["a", "b", "c"] {
        bench.sound(call, at(1)).await;
    }
    let settings = callvault::db::settings::Settings {
        url: Secret::new("sqlite://copy.db"),
        auto_migrate: Some(false),
    };
    let clock = bench.house.clock.clone();
    let db = Database::connect(&settings, bench.house.folder(), clock)
        .await
        .unwrap();
    db.add_notice(notice("shelf", at(2))).await.unwrap();
    db
}

#[test]
fn an_archive_that_is_away_puts_the_restore_off_and_a_damaged_manifest_is_not_forgotten() {
    on_all(async |bench| {
        if bench.house.db.file().is_none() {
            return;
        }
        let db = restored(&bench).await;
        let shelf = Shelf::new("", Capabilities::default());
        let sources = Sources::new([shelf as Arc<dyn Provider>]);
        let read = async || {
            inbox::read_waiting(&db, &sources, "i1", at(3))
                .await
                .unwrap()
        };
        let archive = Moody::over(bench.archive.clone());
        let complete = async || rebuild::complete(&db, archive.as_ref(), at(3), |_| {}).await;
        // Away for one manifest alone, in whatever way: nothing is concluded, and no notice is read meanwhile.
        for kind in [
            ArchiveErrorKind::Unavailable,
            ArchiveErrorKind::TimedOut,
            ArchiveErrorKind::Refused,
        ] {
            archive.fails("manifest-", kind);
            assert!(complete().await.is_err(), "{kind:?}");
            assert!(db.restore_waits().await.unwrap());
            assert_eq!(read().await, 0, "whoever asks");
        }
        // Damaged: named, and the others are taken in; work begins, and the mark stays.
        archive.fails("manifest-", ArchiveErrorKind::Mismatch);
        let report = complete().await.unwrap();
        let codes: Vec<&str> = report.findings.iter().map(|one| one.code).collect();
        assert_eq!(codes, ["manifest_unreadable", "no_manifest"].repeat(3));
        assert_eq!(report.recordings, 0);
        assert!(report.leaves_out());
        rebuild::completed(&db, &report).await.unwrap();
        assert!(!db.restore_waits().await.unwrap());
        assert!(db.restored_from().await.unwrap().is_some());
        assert_eq!(read().await, 1);
        // A copy of it waits for the archive again.
        let later = bench.house.folder().join("later.db");
        bench.house.clock.set(at(60));
        db.copy_to(&later, at(60)).await.unwrap();
        let marks = rows_of(&later, "installation").await;
        assert!(
            marks.iter().any(|row| row.contains(&at(60).to_string())),
            "{marks:?}"
        );
        archive.is_fine();
        let report = complete().await.unwrap();
        assert_eq!((report.recordings, report.findings.len()), (3, 0));
        rebuild::completed(&db, &report).await.unwrap();
        assert_eq!(db.restored_from().await.unwrap(), None);
    });
}

#[test]
fn a_recording_that_a_worker_is_at_is_left_to_it() {
    on_all(async |bench| {
        if bench.house.db.file().is_none() {
            return;
        }
        let [_, manifest] = bench.sound("a", at(0)).await;
        let db = &bench.house.db;
        // The index knows less than the archive, and a worker has just begun with it.
        bench
            .house
            .sql(&format!(
                "update recording set state = 'pending', lease_owner = 'i1', available_at_ms = {}",
                at(2).ms()
            ))
            .await;
        bench.house.sql("delete from archive_object").await;
        let report = rebuild::complete(db, bench.archive.as_ref(), at(1), |_| {})
            .await
            .unwrap();
        assert_eq!(report.findings[0].code, "in_work", "{report:?}");
        assert!(report.leaves_out());
        // Its lease ran out.
        let report = rebuild::complete(db, bench.archive.as_ref(), at(90), |_| {})
            .await
            .unwrap();
        assert_eq!(
            (report.completed, report.findings.len()),
            (1, 0),
            "{report:?} {manifest}"
        );
    });
}
