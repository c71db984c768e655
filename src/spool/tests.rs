//! Scratch files, their limit and the sweep.

use super::*;
use crate::domain::digest::Fingerprint;
use crate::domain::units::ByteSize;

fn settings(dir: &Path, limit_bytes: u64) -> Settings {
    Settings {
        path: dir.join("spool"),
        limit: ByteSize::from_bytes(limit_bytes),
    }
}

async fn spool(limit_bytes: u64) -> (tempfile::TempDir, Spool) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(&settings(dir.path(), limit_bytes), Path::new("/"))
        .await
        .unwrap();
    (dir, spool)
}

const ID: Uuid = Uuid::from_u128(7);

#[tokio::test]
async fn a_scratch_file_is_hashed_on_the_way_and_goes_with_its_owner() {
    let (_dir, spool) = spool(1 << 30).await;
    let mut scratch = spool.scratch(ID, 3, 0).await.unwrap();
    for piece in [&b"ab"[..], b"", b"c"] {
        scratch.write(piece).await.unwrap();
    }
    assert_eq!(scratch.finish().await.unwrap(), Fingerprint::of(b"abc"));
    assert_eq!(fs::read(scratch.path()).unwrap(), b"abc");
    assert_eq!(scratch.head(2).await.unwrap(), b"ab");
    assert_eq!(scratch.head(9).await.unwrap(), b"abc");
    let name = scratch.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(name, format!("{ID}.3.part"));
    assert_eq!(spool.usage().await.unwrap().used_bytes, 3);
    drop(scratch);
    assert_eq!(spool.usage().await.unwrap().used_bytes, 0);
    assert_eq!(spool.reserved_bytes(), 0);
}

#[tokio::test]
async fn a_restart_forgets_what_was_written() {
    let (_dir, spool) = spool(1 << 30).await;
    let mut scratch = spool.scratch(ID, 3, 0).await.unwrap();
    scratch.write(&vec![1; 600_000]).await.unwrap();
    scratch.restart().await.unwrap();
    assert_eq!(scratch.written(), 0);
    scratch.write(b"abc").await.unwrap();
    assert_eq!(scratch.finish().await.unwrap(), Fingerprint::of(b"abc"));
    assert_eq!(fs::read(scratch.path()).unwrap(), b"abc");
    // And once more after it was finished.
    scratch.restart().await.unwrap();
    scratch.write(b"de").await.unwrap();
    assert_eq!(scratch.finish().await.unwrap(), Fingerprint::of(b"de"));
    assert_eq!(fs::read(scratch.path()).unwrap(), b"de");
}

#[tokio::test]
async fn the_limit_holds_over_all_files_and_room_comes_back() {
    let (_dir, spool) = spool(3 << 20).await;
    let known = spool.scratch(ID, 1, 2 << 20).await.unwrap();
    let mut unknown = spool.scratch(ID, 2, 0).await.unwrap();
    let too_much = spool.scratch(ID, 3, (1 << 20) + 1).await;
    assert!(matches!(too_much, Err(SpoolError::Full { .. })));
    unknown.write(&vec![0; 1 << 20]).await.unwrap();
    let over = unknown.write(b"x").await;
    assert!(matches!(over, Err(SpoolError::Full { limit_bytes, .. }) if limit_bytes == 3 << 20));
    drop(known);
    unknown.restart().await.unwrap();
    unknown.write(&vec![0; 2 << 20]).await.unwrap();
    assert_eq!(spool.reserved_bytes(), 2 << 20);
    drop(unknown);
    assert_eq!(spool.reserved_bytes(), 0);
}

#[tokio::test]
async fn the_last_bytes_fit_exactly() {
    let (_dir, spool) = spool(1_500_000).await;
    let mut scratch = spool.scratch(ID, 1, 0).await.unwrap();
    scratch.write(&vec![0; 1_500_000]).await.unwrap();
    assert!(scratch.write(b"x").await.is_err());
}

#[tokio::test]
async fn a_sweep_takes_files_of_dead_leases_and_nothing_else() {
    let (_dir, spool) = spool(1 << 30).await;
    let mine = spool.scratch(ID, 1, 0).await.unwrap();
    let derived = spool.derived(ID, 1, "mp3").unwrap();
    let other = Uuid::from_u128(8);
    for name in [
        format!("{other}.4.part"),
        format!("{other}.4.1.part"),
        format!("{other}.5.mp3"),
        "instance-x.lock".to_owned(),
        format!("{other}.part"),
        "journal-note.txt".to_owned(),
    ] {
        fs::write(spool.dir().join(name), b"abc").unwrap();
    }
    let swept = spool
        .sweep(|recording_id, token| (recording_id, token) == (other, 5))
        .await
        .unwrap();
    assert_eq!(swept, Swept { files: 2, bytes: 6 });
    assert!(mine.path().exists() && derived.path().exists());
    let swept = spool.sweep(|_, _| false).await.unwrap();
    assert_eq!(swept, Swept { files: 1, bytes: 3 });
    assert!(spool.dir().join("instance-x.lock").exists());
    assert!(spool.dir().join(format!("{other}.part")).exists());
    assert!(spool.dir().join("journal-note.txt").exists());
}

#[tokio::test]
async fn two_files_under_one_lease_do_not_meet() {
    let (_dir, spool) = spool(1 << 30).await;
    let first = spool.scratch(ID, 1, 0).await.unwrap();
    let second = spool.scratch(ID, 1, 0).await.unwrap();
    assert_ne!(first.path(), second.path());
    let name = second.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(lease_of(name), Some((ID, 1)));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("spool"), b"a file").unwrap();
    let error = Spool::open(&settings(dir.path(), 1), Path::new("/"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "spool_failed");
    let full = SpoolError::io("writing", dir.path(), io::ErrorKind::StorageFull.into());
    assert_eq!(full.code(), "spool_full");
    assert!(full.to_string().contains("[spool] path"));
    let read_only = io::ErrorKind::ReadOnlyFilesystem.into();
    let read_only = SpoolError::io("writing", dir.path(), read_only);
    assert_eq!(read_only.code(), "spool_read_only");
}

#[test]
fn the_settings_have_the_promised_defaults() {
    let settings: Settings = serde_json::from_str("{}").unwrap();
    assert_eq!(settings.limit_bytes(), 20 << 30);
    assert_eq!(
        settings.dir(Path::new("/etc/callvault")),
        Path::new("/etc/callvault/callvault-data/spool")
    );
    assert!(serde_json::from_str::<Settings>(r#"{"limits": "1GiB"}"#).is_err());
}

#[tokio::test]
async fn a_secured_file_outlives_its_lease_and_counts_against_the_limit() {
    let (_dir, spool) = spool(1000).await;
    let mut scratch = spool.scratch(ID, 3, 0).await.unwrap();
    scratch.write(&[7; 700]).await.unwrap();
    let whole = scratch.finish().await.unwrap();
    scratch.secure(&whole).await.unwrap();
    assert_eq!(spool.reserved_bytes(), 0);
    let held = spool.take_kept(ID, &whole).await.unwrap();
    assert!(matches!(held, Kept::Held), "{held:?}");
    drop(scratch);
    assert_eq!(spool.kept().await.unwrap(), [(ID, whole.sha256)]);
    // No sweep of leases takes it, and nothing is written over the limit because of it.
    assert_eq!(spool.sweep(|_, _| false).await.unwrap(), Swept::default());
    assert!(!spool.has_plenty());
    assert!(matches!(
        spool.scratch(ID, 4, 400).await,
        Err(SpoolError::Full { .. })
    ));
    let Kept::Taken(mut scratch) = spool.take_kept(ID, &whole).await.unwrap() else {
        panic!("not taken");
    };
    assert_eq!(spool.drop_kept(ID, &whole.sha256).await.unwrap(), None);
    assert_eq!(fs::read(scratch.path()).unwrap(), [7; 700]);
    scratch.release();
    drop(scratch);
    assert_eq!(spool.usage().await.unwrap().used_bytes, 0);
    spool.scratch(ID, 4, 400).await.unwrap();
}

#[tokio::test]
async fn a_kept_file_that_is_not_what_its_name_says_is_no_use() {
    let (_dir, spool) = spool(1 << 20).await;
    let mut scratch = spool.scratch(ID, 3, 0).await.unwrap();
    scratch.write(b"abc").await.unwrap();
    let whole = scratch.finish().await.unwrap();
    scratch.secure(&whole).await.unwrap();
    fs::write(scratch.path(), b"abd").unwrap();
    drop(scratch);
    let taken = spool.take_kept(ID, &whole).await.unwrap();
    assert!(matches!(taken, Kept::Nothing), "{taken:?}");
    assert_eq!(spool.kept().await.unwrap(), []);
}
