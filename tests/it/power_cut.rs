//! The power goes: what was said to be kept is there all the same.
//!
//! A real file system (ext4 in a file, through a loop device) is filled by journal, archive and database. Its image is
//! then copied as it lies, without unmounting or flushing anything: what only the kernel's memory held is not in the
//! copy, just as after a power cut. The copy is mounted (ext4 replays its own journal) and looked at.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use callvault::archive::contract::{Archive as _, Source};
use callvault::archive::disk::DiskArchive;
use callvault::db::Database;
use callvault::domain::clock::SystemClock;
use callvault::domain::digest::Fingerprint;
use callvault::domain::keys::ObjectKey;
use callvault::domain::notice::Notice;
use callvault::domain::secret::Secret;
use callvault::spool::journal::Journal;

use crate::service::notice;

/// Mounted as long as it lives.
struct Disk {
    image: PathBuf,
    on: tempfile::TempDir,
}

fn run(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

impl Disk {
    fn make(image: PathBuf) -> Option<Self> {
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(64 << 20).unwrap();
        drop(file);
        run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]).then_some(())?;
        Self::mount(image)
    }

    fn mount(image: PathBuf) -> Option<Self> {
        let on = tempfile::tempdir().unwrap();
        // The file system itself writes nothing for ten minutes but what it is told to.
        let args = [
            "-o",
            "loop,commit=600",
            image.to_str().unwrap(),
            on.path().to_str().unwrap(),
        ];
        run("mount", &args).then_some(())?;
        Some(Self { image, on })
    }

    fn path(&self) -> &Path {
        self.on.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a pool may still be closing its files.
        run("umount", &["-l", self.on.path().to_str().unwrap()]);
    }
}

async fn database(dir: &Path) -> Database {
    let settings = callvault::db::settings::Settings {
        url: Secret::new("sqlite://callvault.db"),
        ..callvault::db::settings::Settings::default()
    };
    Database::connect(&settings, dir, Arc::new(SystemClock))
        .await
        .unwrap()
}

const BYTES: &[u8] = &[7; 300_000];

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_to_be_kept_survives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(dir.path().join("disk.img")) else {
        println!("SKIPPED: this user may not mount an ext4 of its own");
        return;
    };
    let key = ObjectKey::stored("source/2026/04/05/one/original-1.wav");
    let journal = Journal::<Notice>::open(&disk.path().join("journal"))
        .await
        .unwrap();
    let archive = DiskArchive::open(&disk.path().join("archive"))
        .await
        .unwrap();
    let db = database(disk.path()).await;
    // All that is made by opening is on the disk; what follows must get there by itself.
    assert!(run("sync", &["-f", disk.path().to_str().unwrap()]));
    journal.append(notice("in the journal")).await.unwrap();
    let expected = Fingerprint::of(BYTES);
    archive
        .put(
            &key,
            Source::Bytes(bytes::Bytes::from_static(BYTES)),
            &expected,
            "audio/wav",
        )
        .await
        .unwrap();
    db.add_notice(notice("in the database")).await.unwrap();

    let cut = dir.path().join("cut.img");
    std::fs::copy(&disk.image, &cut).unwrap();
    let after = Disk::mount(cut).expect("a file system that can be mounted");
    let journal = Journal::<Notice>::open(&after.path().join("journal"))
        .await
        .unwrap();
    let keys = std::sync::Mutex::new(Vec::new());
    journal
        .drain(async |batch: Vec<Notice>| {
            let found = batch.into_iter().map(|notice| notice.dedup_key);
            keys.lock().unwrap().extend(found);
            Ok::<_, String>(Vec::new())
        })
        .await
        .unwrap();
    assert_eq!(*keys.lock().unwrap(), ["in the journal"]);
    let object = after.path().join("archive").join(key.to_string());
    assert_eq!(std::fs::read(object).unwrap_or_default(), BYTES);
    let db_after = database(after.path()).await;
    assert_eq!(db_after.count_notices_of("desk").await.unwrap(), 1);
}
