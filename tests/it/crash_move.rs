//! A move to a bucket dies at every named point, with an object that goes up in parts, and goes on: one archive, nothing open.
//!
//! `cargo test --features failpoints --test it crash_move`

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

use callvault::archive::contract::{Archive as _, OpenUploads};
use callvault::domain::clock::{Clock as _, SystemClock};
use callvault::domain::digest::Fingerprint;
use callvault::domain::ids::new_id;
use callvault::domain::keys::ObjectKey;

use crate::support::house::program;
use crate::support::s3::{big_file, ceph, open_configured};

const KILL: i32 = 9;
const HOUR: i64 = 3600 * 1000;

#[tokio::test]
async fn a_move_and_an_upload_in_parts_that_are_killed_go_on_and_leave_nothing_open() {
    let Some(settings) = ceph("BUCKET") else {
        return;
    };
    let text = |name: &str| settings[name].as_str().unwrap();
    for point in [
        "mpu_orig.created",
        "mpu_orig.part",
        "mpu_orig.complete_lost",
        "archive_move.copied",
        "archive_move.before_switch",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("callvault.toml");
        let own = "[database]\nurl = \"sqlite://callvault.db\"\n[archive]\npath = \"archive\"\n[spool]\npath = \"spool\"\n";
        std::fs::write(&config, own).unwrap();
        let prefix = format!("it-{}/", new_id(SystemClock.now()));
        let new = dir.path().join("new.toml");
        let bucket = format!(
            "[archive]\nkind = \"s3\"\nendpoint = \"{}\"\nbucket = \"{}\"\nprefix = \"{prefix}\"\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\n",
            text("endpoint"),
            text("bucket"),
            text("access_key_id"),
            text("secret_access_key"),
        );
        std::fs::write(&new, bucket).unwrap();
        let run = |args: &[&str], dies_at: Option<&str>| -> Output {
            let mut command = Command::new(program());
            command.arg("--config").arg(&config).args(args);
            if let Some(point) = dies_at {
                command.env("CALLVAULT_DIE_AT", point);
            }
            command.output().unwrap()
        };
        // The first command makes database and marker.
        run(&["get", "nothing"], None);
        let backups = dir.path().join("archive/_callvault/backups");
        std::fs::create_dir_all(&backups).unwrap();
        let (big, expected) = big_file(&backups);
        std::fs::write(backups.join("small"), b"small").unwrap();
        let order = ["--json", "archive", "move", "--to", new.to_str().unwrap()];
        let died = run(&order, Some(point));
        assert_eq!(died.status.signal(), Some(KILL), "{point}: {died:?}");
        let done = run(&order, None);
        assert_eq!(done.status.code(), Some(0), "{point}: {done:?}");
        let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(
            (&told["switched"], &told["verified"]),
            (&true.into(), &2.into()),
            "{point}"
        );

        let mut settings = settings.clone();
        settings["prefix"] = prefix.into();
        let archive = open_configured(settings).await;
        let at = |name: &str| ObjectKey::backup(name);
        archive
            .read_back(&at("big"), None, &expected)
            .await
            .unwrap();
        let small = Fingerprint::of(b"small");
        archive.read_back(&at("small"), None, &small).await.unwrap();
        let later = SystemClock.now().plus_ms(HOUR);
        let left = archive.give_up_uploads(later).await.unwrap();
        assert_eq!(left, OpenUploads::default(), "{point}: open uploads");
        assert_eq!(std::fs::metadata(&big).unwrap().len(), expected.bytes);
        let done = run(&["--json", "get", "nothing"], None);
        let told = String::from_utf8(done.stderr).unwrap();
        assert!(told.contains("archive_moved"), "{point}: {told}");
    }
}
