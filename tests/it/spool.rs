//! The journal of notices when its process is killed, and disks that are full.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use callvault::spool::journal::Journal;
use callvault::spool::{Settings, Spool};
use uuid::Uuid;

use crate::support::disk::SmallDisk;

const CHILD: &str = "CALLVAULT_TEST_JOURNAL_CHILD";

/// Not a test of its own: what the killed process of the next test runs.
#[test]
fn journal_writer_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let journal = Journal::<u64>::open(Path::new(&dir)).await.unwrap();
        for n in (0..u64::MAX).step_by(4) {
            let four = (n..n + 4).map(|n| journal.append(n));
            for result in futures::future::join_all(four).await {
                result.unwrap();
            }
            println!("acknowledged {n}");
        }
    });
}

#[tokio::test]
async fn every_acknowledged_entry_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut delivered = BTreeSet::new();
    for round in 0..5_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "spool::journal_writer_until_it_is_killed",
            ])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = BTreeSet::new();
        let enough = usize::try_from(5 + round * 20).unwrap();
        for line in lines {
            let line = line.unwrap();
            if let Some((_, n)) = line.split_once("acknowledged ") {
                let n: u64 = n.parse().unwrap();
                acknowledged.extend(n..n + 4);
            }
            if acknowledged.len() >= enough * 4 {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let journal = Journal::<u64>::open(dir.path()).await.unwrap();
        delivered.clear();
        journal
            .drain(|batch: Vec<u64>| {
                delivered.extend(batch);
                std::future::ready(Ok::<_, String>(Vec::new()))
            })
            .await
            .unwrap();
        assert!(acknowledged.is_subset(&delivered), "round {round}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_work_goes_on_when_there_is_room_again() {
    use bytes::Bytes;
    use callvault::archive::contract::{Archive as _, ArchiveErrorKind, Source};
    use callvault::archive::disk::DiskArchive;
    use callvault::domain::digest::Fingerprint;
    use callvault::domain::keys::ObjectKey;

    let Some(disk) = SmallDisk::mount("1m") else {
        return;
    };
    let settings = Settings {
        path: disk.path().join("spool"),
        ..Settings::default()
    };
    let spool = Spool::open(&settings, Path::new("/")).await.unwrap();
    let mut scratch = spool.scratch(Uuid::from_u128(1), 1, 0).await.unwrap();
    let written = scratch.write(&vec![0; 2 << 20]).await;
    let finished = match written {
        Ok(()) => scratch.finish().await.map(|_| ()),
        Err(e) => Err(e),
    };
    assert_eq!(finished.unwrap_err().code(), "spool_full");

    // The disk is full now: nothing gets in, nothing is half there.
    let journal = Journal::<String>::open(&disk.path().join("spool/journal")).await;
    let journal = journal.unwrap();
    let refused = journal.append("x".repeat(100_000)).await.unwrap_err();
    assert_eq!(refused.code(), "spool_full");
    drop(scratch);

    let archive = DiskArchive::open(&disk.path().join("archive"))
        .await
        .unwrap();
    let key = ObjectKey::stored("a/b");
    let put = async |bytes: usize| {
        let bytes = Bytes::from(vec![1; bytes]);
        let expected = Fingerprint::of(&bytes);
        archive
            .put(&key, Source::Bytes(bytes), &expected, "audio/wav")
            .await
    };
    let full = put(2 << 20).await.unwrap_err();
    assert_eq!(full.kind(), ArchiveErrorKind::Full);
    assert!(full.to_string().contains("no space left"), "{full}");
    assert_eq!(archive.head(&key).await.unwrap(), None);

    put(1000).await.unwrap();
    journal.append("entry".to_owned()).await.unwrap();
    let mut entries = Vec::new();
    journal
        .drain(|batch: Vec<String>| {
            entries.extend(batch);
            std::future::ready(Ok::<_, String>(Vec::new()))
        })
        .await
        .unwrap();
    assert_eq!(entries, ["entry"]);
}
