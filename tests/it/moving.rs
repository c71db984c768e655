//! `archive move`: all of it, proved, resumed, refused; and whether an archive and a database belong together.

use std::collections::BTreeMap;
use std::sync::Arc;

use callvault::app::House;
use callvault::archive::contract::{Archive, ArchiveErrorKind};
use callvault::archive::disk::DiskArchive;
use callvault::archive::marker::read_mark;
use callvault::config::Config;
use callvault::db::moving::PLACE;
use callvault::domain::clock::{Clock as _, SystemClock};
use callvault::domain::digest::Fingerprint;
use callvault::domain::ids::new_id;
use callvault::domain::keys::ObjectKey;
use callvault::jobs::leftovers;
use callvault::jobs::moving::{MoveError, Mover, Report};
use callvault::simulator::VendorKind;
use futures::StreamExt as _;
use serde_json::Value;

use crate::db::at;
use crate::fixity::{Bench, on_all};
use crate::journeys::{all_as_planned_and_written, options};
use crate::support::disk::SmallDisk;
use crate::support::house::{TestHouse, program};
use crate::support::moody::Moody;
use crate::support::s3::s3_server;

fn quiet(_: &Report) {}

fn mover(bench: &Bench, to: Arc<dyn Archive>) -> Mover {
    Mover {
        db: bench.house.db.clone(),
        from: bench.archive.clone(),
        to,
        scratch: bench.house.folder().join("scratch"),
        clock: bench.house.clock.clone(),
        despite_damage: false,
    }
}

/// A bucket for what lies in a directory, and the other way round.
async fn elsewhere(bench: &Bench) -> (Arc<dyn Archive>, Box<dyn std::any::Any>) {
    if bench.archive.folder().is_some() {
        let server = s3_server().await;
        let archive = Arc::new(server.archive("moved/").await);
        return (archive, Box::new(server));
    }
    let root = bench.house.folder().join("moved");
    (
        Arc::new(DiskArchive::open(&root).await.unwrap()),
        Box::new(()),
    )
}

/// What lies in an archive, but what belongs to the place itself.
async fn content(archive: &dyn Archive) -> BTreeMap<String, Fingerprint> {
    let mut found = BTreeMap::new();
    let mut list = archive.list("");
    while let Some(object) = list.next().await {
        let key = object.unwrap().key;
        if !key.stays_behind() {
            let measured = archive.measure(&key, None).await.unwrap();
            found.insert(key.to_string(), measured.fingerprint);
        }
    }
    found
}

#[test]
fn everything_is_copied_while_others_work_and_switched_when_they_are_gone() {
    on_all(async |bench| {
        for n in 0..5 {
            bench.sound(&format!("call-{n}"), at(0)).await;
        }
        bench
            .archived("long", &vec![7; 5 << 20], at(0), |_| {})
            .await;
        bench
            .put(&ObjectKey::backup("yesterday.db"), b"a copy of the index")
            .await;
        let (to, _kept) = elsewhere(&bench).await;
        let (db, mover) = (&bench.house.db, mover(&bench, to.clone()));
        let serving = new_id(at(0));
        db.register_process(serving, "here", "serve", at(0))
            .await
            .unwrap();
        let report = mover.run(&quiet).await.unwrap();
        assert_eq!((report.copied, report.without_row), (13, 1), "{report:?}");
        assert!(!report.switched && report.findings.is_empty());
        assert_eq!(report.running[0].process_id, serving);
        assert_eq!(db.installation(PLACE).await.unwrap(), None);

        // What came meanwhile, and nothing else, is copied before the switch.
        bench.sound("later", at(0)).await;
        db.forget_process(serving).await.unwrap();
        let old = content(bench.archive.as_ref()).await;
        let report = mover.run(&quiet).await.unwrap();
        assert_eq!(
            (report.copied, report.verified, report.switched),
            (2, 15, true)
        );
        assert_eq!(content(to.as_ref()).await, old);
        assert_eq!(content(bench.archive.as_ref()).await, old, "left whole");

        let before = read_mark(bench.archive.as_ref()).await.unwrap().unwrap();
        let after = read_mark(to.as_ref()).await.unwrap().unwrap();
        assert_eq!(before.archive_id, after.archive_id);
        assert_ne!(before.place, after.place);
        let place = db.installation(PLACE).await.unwrap();
        assert_eq!(place, after.place.map(|place| place.to_string()));
        // The rows fit the new place to the last byte.
        bench.house.clock.set(at(1));
        let fixity = callvault::jobs::fixity::Fixity {
            archive: to.clone(),
            ..bench.fixity("90d")
        };
        let read = fixity.all(&|_| {}).await.unwrap();
        assert_eq!(
            (read.structure, read.checked, read.damaged),
            (Some(14), 14, 0)
        );
        // And nobody moves it on top of itself.
        let again = mover.run(&quiet).await;
        assert!(matches!(again, Err(MoveError::IsAnArchive(_))), "{again:?}");
    });
}

#[test]
fn damaged_and_missing_objects_are_named_and_hold_up_the_switch() {
    on_all(async |bench| {
        let [flipped, _] = bench.sound("flipped", at(0)).await;
        let [missing, _] = bench.sound("missing", at(0)).await;
        bench.sound("fine", at(0)).await;
        bench.write(&flipped, b"flippee");
        std::fs::remove_file(bench.file(&missing)).unwrap();
        let (to, _kept) = elsewhere(&bench).await;
        let mut mover = mover(&bench, to.clone());
        let report = mover.run(&quiet).await.unwrap();
        let named = |report: &Report| {
            let mut named: Vec<_> = report
                .findings
                .iter()
                .map(|f| (f.code, f.key.clone()))
                .collect();
            named.sort();
            named
        };
        let expected = [
            ("object_damaged", flipped.to_string()),
            ("object_missing", missing.to_string()),
        ];
        assert_eq!(named(&report), expected);
        assert!(report.findings[0].what.len() > 10, "{report:?}");
        assert_eq!((report.switched, report.copied), (false, 4));
        assert!(read_mark(to.as_ref()).await.unwrap().is_none());
        assert!(!content(to.as_ref()).await.contains_key(flipped.as_str()));

        mover.despite_damage = true;
        let report = mover.run(&quiet).await.unwrap();
        assert_eq!(named(&report), expected);
        assert_eq!((report.switched, report.copied), (true, 1));
        let there = content(to.as_ref()).await;
        assert_eq!(
            there.get(flipped.as_str()),
            Some(&Fingerprint::of(b"flippee"))
        );
        assert_eq!(there.len(), 5);
    });
}

#[test]
fn a_move_that_breaks_off_goes_on_with_what_is_not_there_yet() {
    on_all(async |bench| {
        for n in 0..20 {
            bench.sound(&format!("call-{n}"), at(0)).await;
        }
        let keys: Vec<String> = content(bench.archive.as_ref()).await.into_keys().collect();
        let (inner, _kept) = elsewhere(&bench).await;
        let to = Moody::over(inner.clone());
        to.fails(&keys[30], ArchiveErrorKind::Unavailable);
        let first = mover(&bench, to.clone());
        let broken = first.run(&quiet).await;
        assert!(matches!(broken, Err(MoveError::To(_))), "{broken:?}");
        let moved = bench.house.db.count_moved().await.unwrap();
        assert!((1..40).contains(&moved), "{moved}");
        // Another place would begin anew: this one is still its end.
        to.is_fine();
        to.read.lock().unwrap().clear();
        let report = first.run(&quiet).await.unwrap();
        assert_eq!((report.copied, report.verified), (40 - moved, 40));
        assert!(report.switched);
    });
}

#[test]
fn a_disk_that_is_too_small_is_told_before_and_a_full_one_on_the_way() {
    on_all(async |bench| {
        let Some(disk) = SmallDisk::mount("3m") else {
            return;
        };
        let to = Arc::new(DiskArchive::open(&disk.path().join("new")).await.unwrap());
        let mover = mover(&bench, to.clone());
        // No row speaks of it, so nobody can know beforehand.
        bench
            .put(&ObjectKey::backup("index.db"), &vec![1; 4 << 20])
            .await;
        bench.sound("small", at(0)).await;
        match mover.run(&quiet).await {
            Err(MoveError::To(error)) => assert_eq!(error.kind(), ArchiveErrorKind::Full),
            other => panic!("{other:?}"),
        }
        assert_eq!(content(to.as_ref()).await.len(), 2, "nothing half");
        bench
            .archived("long", &vec![7; 5 << 20], at(0), |_| {})
            .await;
        match mover.run(&quiet).await {
            Err(MoveError::NoRoom { needed, free, .. }) => {
                assert!(needed >= 5 << 20 && free < 3 << 20, "{needed} {free}");
            }
            other => panic!("{other:?}"),
        }
        assert!(read_mark(to.as_ref()).await.unwrap().is_none());
    });
}

#[test]
fn objects_without_a_row_are_reported_until_they_have_one() {
    on_all(async |bench| {
        bench.sound("known", at(0)).await;
        let stray = ObjectKey::stored("feiyu/2024/01/01/nobody/original-00.wav");
        bench.put(&stray, b"whose?").await;
        bench
            .put(&ObjectKey::backup("index.db"), b"no recording's")
            .await;
        let (db, archive) = (&bench.house.db, bench.archive.as_ref());
        let found = leftovers::find_orphans(db, archive, at(1)).await.unwrap();
        assert_eq!(found, (3, 1));
        let orphans = db.orphans(10).await.unwrap();
        assert_eq!((&orphans[0].key, orphans[0].bytes), (&stray, 6));
        let alarms = db.status_view(at(2)).await.unwrap().alarms;
        let alarm = alarms.iter().find(|a| a.code == "archive_orphans").unwrap();
        assert!(alarm.what.contains(stray.as_str()) && alarm.count == 1);
        std::fs::remove_file(bench.file(&stray)).unwrap();
        leftovers::find_orphans(db, archive, at(3)).await.unwrap();
        assert!(db.orphans(10).await.unwrap().is_empty());
    });
}

fn callvault(dir: &std::path::Path, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(program());
    command
        .arg("--config")
        .arg(dir.join("callvault.toml"))
        .args(args)
        .stdin(std::process::Stdio::null());
    command
}

/// The error code of a command that ends with 1.
fn refusal(dir: &std::path::Path, args: &[&str]) -> (String, String) {
    let done = callvault(dir, args).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{args:?}: {done:?}");
    let told: Value = serde_json::from_slice(&done.stderr).unwrap();
    let text = |name: &str| told["error"][name].as_str().unwrap().to_owned();
    (text("code"), text("do"))
}

fn run(dir: &std::path::Path, args: &[&str]) -> (Option<i32>, Value) {
    let done = callvault(dir, args).output().unwrap();
    let told = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&done.stderr)));
    (done.status.code(), told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_moves_an_archive_and_only_the_place_that_counts_is_opened() {
    let mut house = TestHouse::open(vec![(
        VendorKind::Feiyu,
        options("feiyu-t", &["none", "none", "none"]),
    )])
    .await;
    house.make_calls().await;
    all_as_planned_and_written(&house).await;
    let dir = house.path().to_owned();
    let old = std::fs::read_to_string(house.config_file()).unwrap();
    let new = "[archive]\nkind = \"directory\"\npath = \"moved\"\n";
    std::fs::write(dir.join("new.toml"), new).unwrap();
    let file = dir.join("new.toml");
    let order = ["--json", "archive", "move", "--to", file.to_str().unwrap()];
    let (code, told) = run(&dir, &order);
    assert_eq!(
        (code, &told["switched"]),
        (Some(3), &Value::Bool(false)),
        "{told}"
    );
    assert_eq!(told["running"][0]["parts"], "serve");
    house.stop().await;
    let (code, told) = run(&dir, &order);
    assert_eq!(
        (code, &told["switched"]),
        (Some(0), &Value::Bool(true)),
        "{told}"
    );

    // The old place is whole and not the archive any more.
    let (code, remedy) = refusal(&dir, &["--json", "get", "nothing"]);
    assert_eq!(code, "archive_moved");
    assert!(remedy.contains("[archive]"), "{remedy}");
    let (code, remedy) = refusal(&dir, &order);
    assert_eq!(code, "archive_moved");
    assert!(remedy.contains("already"), "{remedy}");
    let moved = old.replace("path = \"archive\"", "path = \"moved\"");
    std::fs::write(house.config_file(), &moved).unwrap();
    let (code, told) = run(&dir, &["--json", "fixity", "--all"]);
    assert_eq!(
        (code, &told["damaged"]),
        (Some(0), &Value::from(0)),
        "{told}"
    );
    house.start_again().await;
    house.stop().await;

    // A fresh database does not begin beside a full archive; what fills it is named, and does.
    let fresh = moved.replace("callvault.db", "fresh.db");
    std::fs::write(house.config_file(), &fresh).unwrap();
    let (code, remedy) = refusal(&dir, &["--json", "get", "nothing"]);
    assert_eq!(code, "archive_not_indexed");
    assert!(remedy.contains("rebuild --from-archive"), "{remedy}");
    let (_, told) = run(&dir, &["--json", "check"]);
    assert!(
        told["findings"].to_string().contains("archive_not_indexed"),
        "{told}"
    );
    let (code, told) = run(&dir, &["--json", "rebuild", "--from-archive"]);
    assert_eq!(
        (code, &told["recordings"]),
        (Some(0), &Value::from(3)),
        "{told}"
    );
    let (code, _) = run(&dir, &["--json", "fixity", "--all"]);
    assert_eq!(code, Some(0));
    // The rebuilt database knows the place as well.
    std::fs::write(house.config_file(), old.replace("callvault.db", "fresh.db")).unwrap();
    assert_eq!(
        refusal(&dir, &["--json", "get", "nothing"]).0,
        "archive_moved"
    );
}

#[tokio::test]
async fn another_archive_than_the_one_that_is_remembered_refuses_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = |database: &str, archive: &str| {
        let file = dir.path().join("callvault.toml");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"sqlite://{database}.db\"\n[archive]\npath = \"{archive}\"\n[spool]\npath = \"spool\"\n"
        );
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file)).unwrap()
    };
    let open = |config| House::open(config, Arc::new(SystemClock));
    open(config("one", "first")).await.unwrap();
    open(config("two", "second")).await.unwrap();
    let error = open(config("one", "second")).await.unwrap_err();
    assert_eq!(error.code, "other_archive");
    let ids = [("one", "first"), ("two", "second")].map(|(_, archive)| {
        let text = std::fs::read(dir.path().join(archive).join("_callvault/archive.json")).unwrap();
        let marker: Value = serde_json::from_slice(&text).unwrap();
        marker["archive_id"].as_str().unwrap().to_owned()
    });
    assert!(ids.iter().all(|id| error.what.contains(id)), "{error}");
    for way_out in ["[archive]", "[database]", "rebuild --from-archive"] {
        assert!(error.remedy.contains(way_out), "{error}");
    }
    // And the right ones still open.
    let house = open(config("one", "first")).await.unwrap();
    assert!(
        house
            .db
            .running_processes(SystemClock.now())
            .await
            .unwrap()
            .is_empty()
    );
}
