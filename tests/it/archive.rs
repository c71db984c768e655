//! What every store promises (`archive/contract.rs`), asked of each store in turn.
//!
//! A directory, an S3 server in this process, Ceph RGW where it was started (`scripts/ceph_rgw.sh`), and the store that `CALLVAULT_TEST_S3_ENDPOINT` (with
//! `_ACCESS_KEY`, `_SECRET_KEY`, `_BUCKET`) names. With `CALLVAULT_REQUIRE_SERVERS=1` its absence is a failure.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use callvault::archive::contract::{
    Archive, ArchiveError, ArchiveErrorKind, ByteRange, ObjectReader, Severity, Source,
};
use callvault::archive::disk::DiskArchive;
use callvault::archive::marker::{read_marker, read_or_create_marker};
use callvault::archive::open_archive;
use callvault::archive::settings::Settings;
use callvault::domain::clock::{Clock as _, SharedClock, SystemClock};
use callvault::domain::digest::Fingerprint;
use callvault::domain::ids::new_id;
use callvault::domain::keys::ObjectKey;
use futures::StreamExt as _;

use crate::support::s3::{big_file, ceph, configured, open_configured, s3_server};

type FileOf = Box<dyn Fn(&str) -> PathBuf>;

/// A store and what a test may do behind its back.
struct Store {
    name: &'static str,
    archive: Arc<dyn Archive>,
    /// Where the bytes of a key really lie, when that can be reached.
    file_of: Option<FileOf>,
    /// Whether a name that is taken stays taken when two write at once. s3s-fs looks, then writes.
    is_atomic: bool,
    _kept: Box<dyn std::any::Any>,
}

async fn stores() -> Vec<Store> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("archive");
    let disk_root = root.clone();
    let disk = Store {
        name: "directory",
        archive: Arc::new(DiskArchive::open(&root).await.unwrap()),
        file_of: Some(Box::new(move |key| disk_root.join(key))),
        is_atomic: true,
        _kept: Box::new(dir),
    };
    let server = s3_server().await;
    let (bucket, kept) = (server.dir.path().join(&server.bucket), server.dir.clone());
    let s3 = Store {
        name: "s3s-fs",
        archive: Arc::new(server.archive("calls/").await),
        file_of: Some(Box::new(move |key| bucket.join("calls").join(key))),
        is_atomic: false,
        _kept: Box::new(kept),
    };
    let mut all = vec![disk, s3];
    all.extend(configured_store().await);
    if let Some(settings) = ceph("BUCKET") {
        all.push(Store {
            name: "Ceph RGW",
            archive: Arc::new(open_configured(settings).await),
            file_of: None,
            is_atomic: true,
            _kept: Box::new(()),
        });
    }
    all
}

async fn configured_store() -> Option<Store> {
    let Some(settings) = configured("BUCKET") else {
        let required = std::env::var("CALLVAULT_REQUIRE_SERVERS").is_ok_and(|v| v == "1");
        assert!(
            !required,
            "CALLVAULT_TEST_S3_ENDPOINT and _BUCKET are not set"
        );
        eprintln!("skipped: the store in CALLVAULT_TEST_S3_ENDPOINT (not set)");
        return None;
    };
    Some(Store {
        name: "configured",
        archive: Arc::new(open_configured(settings).await),
        file_of: None,
        is_atomic: false,
        _kept: Box::new(()),
    })
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::stored(text)
}

async fn put(archive: &dyn Archive, at: &str, bytes: &'static [u8]) -> Result<(), ArchiveError> {
    let source = Source::Bytes(Bytes::from_static(bytes));
    let expected = Fingerprint::of(bytes);
    archive
        .put(&key(at), source, &expected, "audio/mpeg")
        .await
        .map(|_| ())
}

async fn read(reader: ObjectReader) -> Vec<u8> {
    let pieces: Vec<_> = reader.body.collect().await;
    pieces
        .into_iter()
        .flat_map(|piece| piece.unwrap())
        .collect()
}

async fn list(archive: &dyn Archive, prefix: &str) -> Vec<(String, u64)> {
    let listed: Vec<_> = archive.list(prefix).collect().await;
    listed
        .into_iter()
        .map(|info| info.unwrap())
        .map(|info| (info.key.as_str().to_owned(), info.bytes))
        .collect()
}

fn kind<T: std::fmt::Debug>(result: Result<T, ArchiveError>) -> ArchiveErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn an_object_is_stored_and_proved_by_reading_it_back() {
    for store in stores().await {
        let archive = &*store.archive;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("original.part");
        std::fs::write(&file, b"from a file").unwrap();
        for (at, source, content) in [
            (
                "a/1/bytes",
                Source::Bytes(Bytes::from_static(b"abc")),
                &b"abc"[..],
            ),
            ("a/1/file", Source::File(&file), b"from a file"),
            ("a/1/empty", Source::Bytes(Bytes::new()), b""),
            ("a/1/ü name", Source::Bytes(Bytes::from_static(b"x")), b"x"),
        ] {
            let expected = Fingerprint::of(content);
            let stored = archive
                .put(&key(at), source, &expected, "audio/wav")
                .await
                .unwrap_or_else(|e| panic!("{}: {at}: {e}", store.name));
            let version = stored.version_id.as_deref();
            let proof = archive
                .read_back(&key(at), version, &expected)
                .await
                .unwrap();
            assert_eq!((proof.key(), proof.fingerprint()), (&key(at), &expected));
            let head = archive.head(&key(at)).await.unwrap().unwrap();
            assert_eq!((head.key, head.bytes), (key(at), expected.bytes));
            let reader = archive.open(&key(at), version, None).await.unwrap();
            assert_eq!(reader.total_bytes, expected.bytes);
            assert_eq!(read(reader).await, content, "{}: {at}", store.name);
        }
    }
}

#[tokio::test]
async fn the_same_object_twice_is_success() {
    for store in stores().await {
        put(&*store.archive, "a/same", b"abc").await.unwrap();
        put(&*store.archive, "a/same", b"abc").await.unwrap();
        assert_eq!(list(&*store.archive, "a/").await, [("a/same".into(), 3)]);
    }
}

#[tokio::test]
async fn another_object_under_a_taken_key_is_a_conflict_and_changes_nothing() {
    for store in stores().await {
        put(&*store.archive, "a/taken", b"abc").await.unwrap();
        for other in [&b"abd"[..], b"longer than before", b""] {
            let refused = put(&*store.archive, "a/taken", other).await;
            assert_eq!(kind(refused), ArchiveErrorKind::Conflict, "{}", store.name);
        }
        let expected = Fingerprint::of(b"abc");
        let at = key("a/taken");
        store.archive.read_back(&at, None, &expected).await.unwrap();
    }
}

#[tokio::test]
async fn bytes_that_are_not_the_expected_ones_are_never_published() {
    for store in stores().await {
        for content in [&b"abd"[..], b"abcd", b""] {
            let source = Source::Bytes(Bytes::from_static(content));
            let refused = store
                .archive
                .put(
                    &key("a/wrong"),
                    source,
                    &Fingerprint::of(b"abc"),
                    "audio/wav",
                )
                .await;
            assert_eq!(kind(refused), ArchiveErrorKind::Mismatch, "{}", store.name);
        }
        assert_eq!(store.archive.head(&key("a/wrong")).await.unwrap(), None);
        assert_eq!(list(&*store.archive, "").await, []);
    }
}

#[tokio::test]
async fn a_byte_that_changed_in_the_store_is_found_on_reading_back() {
    for store in stores().await {
        let Some(file_of) = &store.file_of else {
            continue;
        };
        put(&*store.archive, "a/rot", b"abcdef").await.unwrap();
        let expected = Fingerprint::of(b"abcdef");
        for (rotten, name) in [
            (&b"abcdeF"[..], "flipped"),
            (b"abcde", "cut"),
            (b"abcdefg", "grown"),
        ] {
            std::fs::write(file_of("a/rot"), rotten).unwrap();
            let proof = store
                .archive
                .read_back(&key("a/rot"), None, &expected)
                .await;
            assert_eq!(
                kind(proof),
                ArchiveErrorKind::Mismatch,
                "{} {name}",
                store.name
            );
        }
    }
}

#[tokio::test]
async fn a_range_is_served_and_cut_at_the_end() {
    for store in stores().await {
        put(&*store.archive, "a/range", b"0123456789")
            .await
            .unwrap();
        let open = |start, end_inclusive| {
            let range = ByteRange {
                start,
                end_inclusive,
            };
            let archive = store.archive.clone();
            async move { archive.open(&key("a/range"), None, Some(range)).await }
        };
        for (start, end, content) in [
            (0, 0, &b"0"[..]),
            (2, 5, b"2345"),
            (9, 9, b"9"),
            (7, 5000, b"789"),
            (0, 9, b"0123456789"),
        ] {
            let reader = open(start, end).await.unwrap();
            assert_eq!(reader.total_bytes, 10);
            assert_eq!(read(reader).await, content, "{} {start}-{end}", store.name);
        }
        assert_eq!(
            kind(open(10, 12).await),
            ArchiveErrorKind::Other,
            "{}",
            store.name
        );
    }
}

#[tokio::test]
async fn objects_are_listed_by_prefix_in_the_order_of_their_keys() {
    for store in stores().await {
        for at in [
            "b/2024/1",
            "a/2024/01/x",
            "a/2024/01-y",
            "a/2024/02/z",
            "ab",
        ] {
            put(&*store.archive, at, b"abc").await.unwrap();
        }
        let keys = async |prefix: &str| {
            let listed = list(&*store.archive, prefix).await;
            listed.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        let all = [
            "a/2024/01-y",
            "a/2024/01/x",
            "a/2024/02/z",
            "ab",
            "b/2024/1",
        ];
        assert_eq!(keys("").await, all, "{}", store.name);
        assert_eq!(keys("a/").await, all[..3], "{}", store.name);
        assert_eq!(keys("a/2024/01").await, all[..2], "{}", store.name);
        assert_eq!(keys("nothing/").await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    for store in stores().await {
        let at = key("a/nowhere");
        let expected = Fingerprint::of(b"abc");
        assert_eq!(store.archive.head(&at).await.unwrap(), None);
        let proof = store.archive.read_back(&at, None, &expected).await;
        assert_eq!(kind(proof), ArchiveErrorKind::NotFound, "{}", store.name);
        let range = ByteRange {
            start: 0,
            end_inclusive: 1,
        };
        for range in [None, Some(range)] {
            let opened = store.archive.open(&at, None, range).await;
            assert_eq!(kind(opened), ArchiveErrorKind::NotFound, "{}", store.name);
        }
    }
}

#[tokio::test]
async fn keys_that_leave_the_archive_are_refused() {
    for store in stores().await {
        for bad in [
            "../x",
            "a/../../x",
            "/etc/x",
            "a//b",
            "a/",
            "",
            "a/.",
            "a\\b",
            "a\nb",
        ] {
            let archive = &*store.archive;
            let refused = put(archive, bad, b"abc").await;
            assert_eq!(
                kind(refused),
                ArchiveErrorKind::Other,
                "{} {bad:?}",
                store.name
            );
            assert!(
                archive.head(&key(bad)).await.is_err(),
                "{} {bad:?}",
                store.name
            );
            assert!(archive.open(&key(bad), None, None).await.is_err());
        }
    }
}

#[tokio::test]
async fn of_many_that_put_at_once_all_agree_or_conflict() {
    for store in stores().await {
        let same = (0..8).map(|_| put(&*store.archive, "a/race", b"abc"));
        for result in futures::future::join_all(same).await {
            result.unwrap_or_else(|e| panic!("{}: {e}", store.name));
        }
        if !store.is_atomic {
            continue;
        }
        let contents: [&'static [u8]; 4] = [b"one", b"two", b"three", b"four"];
        let different = contents.map(|content| put(&*store.archive, "a/duel", content));
        let results = futures::future::join_all(different).await;
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "{}", store.name);
        let lost = results.into_iter().filter_map(Result::err);
        assert!(
            lost.map(|e| e.kind())
                .all(|kind| kind == ArchiveErrorKind::Conflict)
        );
    }
}

#[tokio::test]
async fn an_object_of_many_parts_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let (path, expected) = big_file(folder.path());
    for store in stores().await {
        let archive = &*store.archive;
        let at = key("a/big");
        for _ in 0..2 {
            archive
                .put(&at, Source::File(&path), &expected, "audio/wav")
                .await
                .unwrap_or_else(|e| panic!("{}: {e}", store.name));
        }
        archive.read_back(&at, None, &expected).await.unwrap();
        let conflict = put(archive, "a/big", b"abc").await;
        assert_eq!(kind(conflict), ArchiveErrorKind::Conflict, "{}", store.name);
        let range = ByteRange {
            start: (16 << 20) - 8,
            end_inclusive: (16 << 20) + 7,
        };
        let reader = archive.open(&at, None, Some(range)).await.unwrap();
        assert_eq!(reader.total_bytes, expected.bytes);
        assert_eq!(read(reader).await.len(), 16);
    }
}

#[tokio::test]
async fn the_marker_is_written_once_and_the_same_for_all() {
    for store in stores().await {
        let archive = &*store.archive;
        assert_eq!(read_marker(archive).await.unwrap(), None);
        let now = SystemClock.now();
        let first = new_id(now);
        assert_eq!(
            read_or_create_marker(archive, first, now).await.unwrap(),
            first
        );
        let second = read_or_create_marker(archive, new_id(now), now)
            .await
            .unwrap();
        assert_eq!(second, first, "{}", store.name);
        assert_eq!(read_marker(archive).await.unwrap(), Some(first));
        assert_eq!(list(archive, "").await[0].0, "_callvault/archive.json");
    }
}

#[tokio::test]
async fn a_foreign_marker_is_refused_with_the_way_out() {
    for store in stores().await {
        put(&*store.archive, "_callvault/archive.json", b"{}")
            .await
            .unwrap();
        let error = read_marker(&*store.archive).await.unwrap_err();
        assert!(error.to_string().contains("point [archive] at"), "{error}");
    }
}

#[tokio::test]
async fn the_probe_finds_the_same_on_every_run_and_refuses_no_sound_store() {
    for store in stores().await {
        let first = store.archive.probe().await;
        let second = store.archive.probe().await;
        assert_eq!(first, second, "{}", store.name);
        let refused = first
            .iter()
            .filter(|found| found.severity == Severity::Refuse);
        assert_eq!(refused.count(), 0, "{}: {first:?}", store.name);
        let codes: Vec<_> = first.iter().map(|found| found.code).collect();
        match store.name {
            "directory" => assert_eq!(codes, Vec::<&str>::new()),
            // It checks sums only after the object is in place: refused, and there all the same.
            "s3s-fs" => assert_eq!(codes, ["checksums_ignored", "versioning_not_offered"]),
            _ => eprintln!("{}: {codes:?}", store.archive.describe()),
        }
        // Puts go on as before, now with what the probe has learnt.
        put(&*store.archive, "a/after", b"abc").await.unwrap();
        let taken = put(&*store.archive, "a/after", b"abd").await;
        assert_eq!(kind(taken), ArchiveErrorKind::Conflict, "{}", store.name);
    }
}

/// Needs a bucket with object lock, which s3s-fs cannot offer: `CALLVAULT_TEST_S3_LOCK_BUCKET` in the
/// configured store (Ceph RGW has it).
#[tokio::test]
async fn objects_are_put_under_the_lock_that_is_configured() {
    let Some(mut settings) = configured("LOCK_BUCKET") else {
        eprintln!("skipped: no bucket with object lock in CALLVAULT_TEST_S3_LOCK_BUCKET");
        return;
    };
    settings["object_lock"] = "governance".into();
    settings["lock_for"] = "1d".into();
    let archive = open_configured(settings).await;
    let findings = archive.probe().await;
    let refused = findings
        .iter()
        .filter(|found| found.severity == Severity::Refuse);
    assert_eq!(refused.count(), 0, "{findings:?}");
    let folder = tempfile::tempdir().unwrap();
    let (big, expected) = big_file(folder.path());
    let small = folder.path().join("small");
    std::fs::write(&small, b"abc").unwrap();
    for (at, file, expected) in [
        ("a/big", &big, expected),
        ("a/small", &small, Fingerprint::of(b"abc")),
    ] {
        let (at, source) = (key(at), Source::File(file));
        let stored = archive
            .put(&at, source, &expected, "audio/wav")
            .await
            .unwrap();
        let version = stored.version_id.expect("a lock comes with versions");
        let proof = archive
            .read_back(&at, Some(&version), &expected)
            .await
            .unwrap();
        assert_eq!(proof.version_id(), Some(version.as_str()));
    }
    let conflict = put(&archive, "a/small", b"abd").await;
    assert_eq!(kind(conflict), ArchiveErrorKind::Conflict);
}

#[tokio::test]
async fn the_settings_choose_the_store_and_relative_paths_count_from_the_file() {
    let base = tempfile::tempdir().unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let archive = open_archive(&Settings::default(), base.path(), clock.clone())
        .await
        .unwrap();
    put(&*archive, "a/b", b"abc").await.unwrap();
    assert!(base.path().join("callvault-data/archive/a/b").is_file());

    let server = s3_server().await;
    let archive = open_archive(&server.settings("p/"), base.path(), clock)
        .await
        .unwrap();
    put(&*archive, "a/b", b"abc").await.unwrap();
    assert!(server.file_of("p/", "a/b").is_file());
    assert!(!archive.describe().contains(&server.secret));
    assert!(!format!("{archive:?}").contains(&server.secret));
}
