//! What only a directory has: modes, leftovers, folders that cannot be written to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bytes::Bytes;
use callvault::archive::contract::{Archive as _, ArchiveError, ArchiveErrorKind, Source};
use callvault::archive::disk::DiskArchive;
use callvault::domain::digest::Fingerprint;
use callvault::domain::keys::ObjectKey;
use callvault::domain::retry::RetryAdvice;

async fn put(archive: &DiskArchive, at: &str) -> Result<(), ArchiveError> {
    let source = Source::Bytes(Bytes::from_static(b"abc"));
    let expected = Fingerprint::of(b"abc");
    let key = ObjectKey::stored(at);
    archive
        .put(&key, source, &expected, "audio/wav")
        .await
        .map(|_| ())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn only_the_owner_can_read_recordings() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("deep/er/archive");
    let archive = DiskArchive::open(&root).await.unwrap();
    put(&archive, "feiyu/2024/x").await.unwrap();
    assert_eq!(mode(&root.join("feiyu/2024/x")), 0o600);
    for folder in [".", "feiyu", "feiyu/2024", "_callvault", "_callvault/tmp"] {
        assert_eq!(mode(&root.join(folder)), 0o700, "{folder}");
    }
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_put() {
    let base = tempfile::tempdir().unwrap();
    let archive = DiskArchive::open(base.path()).await.unwrap();
    put(&archive, "a/b").await.unwrap();
    let source = Source::Bytes(Bytes::from_static(b"abd"));
    let key = ObjectKey::stored("a/c");
    let expected = Fingerprint::of(b"abc");
    let wrong = archive.put(&key, source, &expected, "audio/wav").await;
    assert!(wrong.is_err());
    let left = fs::read_dir(base.path().join("_callvault/tmp")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn unfinished_files_of_dead_writers_are_swept_and_those_of_living_ones_stay() {
    let base = tempfile::tempdir().unwrap();
    let tmp = base.path().join("_callvault/tmp");
    fs::create_dir_all(&tmp).unwrap();
    fs::write(tmp.join("1-0.part"), b"dead").unwrap();
    let living = fs::File::create(tmp.join("2-0.part")).unwrap();
    living.lock().unwrap();
    let archive = DiskArchive::open(base.path()).await.unwrap();
    assert!(!tmp.join("1-0.part").exists());
    assert!(tmp.join("2-0.part").exists());
    // A name left by an earlier process with our number does not stop a put.
    fs::write(tmp.join(format!("{}-0.part", std::process::id())), b"dead").unwrap();
    put(&archive, "a/b").await.unwrap();
}

#[tokio::test]
async fn the_tmp_folder_holds_no_objects() {
    let base = tempfile::tempdir().unwrap();
    let archive = DiskArchive::open(base.path()).await.unwrap();
    fs::create_dir_all(base.path().join("_callvault/tmp")).unwrap();
    fs::write(base.path().join("_callvault/tmp/x.part"), b"abc").unwrap();
    assert!(put(&archive, "_callvault/tmp/y").await.is_err());
    let listed: Vec<_> = futures::StreamExt::collect(archive.list("")).await;
    assert_eq!(listed.len(), 0);
}

#[tokio::test]
async fn a_directory_that_others_can_read_is_worth_a_warning() {
    let base = tempfile::tempdir().unwrap();
    let archive = DiskArchive::open(base.path()).await.unwrap();
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let codes: Vec<_> = archive.probe().await.iter().map(|f| f.code).collect();
    assert_eq!(codes, ["archive_open_to_others"]);
}

/// Runs on a thread (and those it starts) that has no rights of root, so that modes count.
fn as_nobody(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        work();
    });
    thread.join().unwrap();
}

#[test]
fn a_directory_that_cannot_be_written_to_can_be_read_and_says_what_to_do() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("archive");
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    runtime().block_on(async {
        let archive = DiskArchive::open(&root).await.unwrap();
        put(&archive, "a/b").await.unwrap();
        // What the probe puts is there from now on.
        archive.probe().await;
    });
    for folder in [
        base.path(),
        &root,
        &root.join("a"),
        &root.join("_callvault"),
    ] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
    }
    fs::set_permissions(
        root.join("_callvault/tmp"),
        fs::Permissions::from_mode(0o555),
    )
    .unwrap();
    for file in ["a/b", "_callvault/probe-create"] {
        fs::set_permissions(root.join(file), fs::Permissions::from_mode(0o444)).unwrap();
    }
    as_nobody(move || {
        runtime().block_on(async {
            let archive = DiskArchive::open(&root).await.unwrap();
            let expected = Fingerprint::of(b"abc");
            let key = ObjectKey::stored("a/b");
            archive.read_back(&key, None, &expected).await.unwrap();
            let error = put(&archive, "a/c").await.unwrap_err();
            assert_eq!(error.kind(), ArchiveErrorKind::ReadOnly);
            assert_eq!(error.advice(), RetryAdvice::Backoff);
            assert!(error.to_string().contains("chown"), "{error}");
            let codes: Vec<_> = archive.probe().await.iter().map(|f| f.code).collect();
            assert_eq!(codes, ["archive_open_to_others", "archive_not_writable"]);

            let missing = DiskArchive::open(&root.join("deeper")).await.unwrap_err();
            assert_eq!(missing.kind(), ArchiveErrorKind::ReadOnly);
        });
    });
    let _ = fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755));
}
