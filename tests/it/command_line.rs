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
