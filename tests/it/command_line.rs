//! Commands as a shell and its pipes see them.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use callvault::domain::call::CallFacts;
use serde_json::Value;

use crate::support::house::program;
use crate::support::web::WebHouse;

fn callvault(dir: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .arg("--config")
        .arg(dir.join("callvault.toml"))
        .args(args)
        .current_dir(dir);
    command
}

fn configure(dir: &std::path::Path, text: &str) {
    std::fs::write(dir.join("callvault.toml"), text).unwrap();
}

const DATABASE: &str = "[database]\nurl = \"sqlite://callvault.db\"\n[archive]\nkind = \"directory\"\n\
    path = \"archive\"\n[spool]\npath = \"spool\"\n";

#[test]
fn with_json_even_the_window_is_json() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), DATABASE);
    let asked = ["search", "--from", "2024-03-05", "--json"];
    let done = callvault(dir.path(), &asked).output().unwrap();
    assert!(done.status.success());
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "");
    let told = String::from_utf8(done.stderr).unwrap();
    let window: Value = serde_json::from_str(told.trim()).unwrap();
    assert_eq!(window["window"]["from"], "2024-03-05T00:00:00.000Z");
    assert_eq!(window["window"]["to"], Value::Null);
    let done = callvault(dir.path(), &asked[..3]).output().unwrap();
    let told = String::from_utf8(done.stdout).unwrap();
    assert!(told.starts_with("from 2024-03-05T"), "{told}");
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_a_command_quietly() {
    let house = WebHouse::open().await;
    configure(house.dir.path(), DATABASE);
    let call = CallFacts {
        provider_call_id: "call-1".into(),
        ..CallFacts::default()
    };
    house.learn(call, Some("rec-1")).await;
    // More than any pipe holds.
    house.archive_next(&vec![7; 4 << 20], None).await;
    let dir = house.dir.path();
    // `check_marker` of `get` needs an archive that the database knows.
    for args in [&["get", "rec-1"][..], &["show", "rec-1"][..]] {
        let mut child = callvault(dir, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let told: Vec<String> = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map(Result::unwrap)
            .collect();
        assert_eq!(child.wait().unwrap().code(), Some(141), "{args:?} {told:?}");
        assert_eq!(told, [] as [&str; 0], "{args:?}");
    }
    house.stop().await;
}

#[test]
fn a_start_that_is_refused_leaves_nothing_in_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), DATABASE);
    // `get` opens the whole house: the first time it makes the marker.
    let done = callvault(dir.path(), &["get", "nothing"]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let archive = dir.path().join("archive");
    assert!(archive.join("_callvault/archive.json").is_file());
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::create_dir(&archive).unwrap();
    let done = callvault(dir.path(), &["--json", "get", "nothing"])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&done.stderr).unwrap();
    assert_eq!(told["error"]["code"], "archive_marker_missing");
    assert_eq!(std::fs::read_dir(&archive).unwrap().count(), 0);
}

#[test]
fn an_unreachable_database_is_named_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    configure(
        dir.path(),
        "[database]\nurl = \"postgres://vault:very-secret@127.0.0.1:1/calls\"\n",
    );
    let done = callvault(dir.path(), &["search"]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let told = String::from_utf8(done.stderr).unwrap();
    for part in ["127.0.0.1:1/calls", "refused"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("very-secret"), "{told}");
}

#[test]
fn check_finds_a_backup_folder_that_takes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let codes = || {
        let done = callvault(dir.path(), &["check", "--json"])
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        let codes = findings
            .iter()
            .map(|one| one["code"].as_str().unwrap().to_owned());
        codes.collect::<Vec<_>>()
    };
    configure(
        dir.path(),
        &format!("{DATABASE}[backup]\npath = \"copies\"\n"),
    );
    assert!(!codes().contains(&"backup_not_writable".to_owned()));
    assert!(
        dir.path()
            .join("copies")
            .read_dir()
            .unwrap()
            .next()
            .is_none()
    );
    // A file where the folder should be stops root as well.
    std::fs::remove_dir(dir.path().join("copies")).unwrap();
    std::fs::write(dir.path().join("copies"), "x").unwrap();
    assert!(codes().contains(&"backup_not_writable".to_owned()));
}
