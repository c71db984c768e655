//! Locks, holds and open uploads, against a store that really has them: Ceph RGW, started by `scripts/ceph_rgw.sh`.

use std::sync::Arc;

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use callvault::archive::contract::{Archive as _, ArchiveErrorKind, OpenUploads, Source};
use callvault::archive::disk::DiskArchive;
use callvault::domain::clock::{Clock as _, SystemClock};
use callvault::domain::digest::Fingerprint;
use callvault::domain::keys::ObjectKey;
use callvault::jobs::{holds, leftovers};
use serde_json::Value;

use crate::db::{at, on_both};
use crate::fixity::bench;
use crate::support::s3::{big_file, ceph, open_configured, raw_client};

const HOUR: i64 = 3600 * 1000;

fn full(settings: &Value, key: &str) -> String {
    format!("{}{key}", settings["prefix"].as_str().unwrap())
}

#[tokio::test]
async fn nobody_deletes_a_locked_version_and_what_is_laid_over_it_hides_nothing() {
    for mode in ["governance", "compliance"] {
        let Some(mut settings) = ceph("LOCK_BUCKET") else {
            return;
        };
        settings["object_lock"] = mode.into();
        settings["lock_for"] = "1d".into();
        let archive = open_configured(settings.clone()).await;
        let (key, bytes) = (ObjectKey::stored("a/original.wav"), b"what was said");
        let expected = Fingerprint::of(bytes);
        let source = || Source::Bytes(bytes.to_vec().into());
        let stored = archive
            .put(&key, source(), &expected, "audio/wav")
            .await
            .unwrap();
        let version = stored.version_id.unwrap();
        let (client, bucket) = (raw_client(&settings), settings["bucket"].as_str().unwrap());
        let at = full(&settings, key.as_str());
        let gone = client
            .delete_object()
            .bucket(bucket)
            .key(&at)
            .version_id(&version);
        let refused = gone.send().await.unwrap_err();
        assert_eq!(refused.code(), Some("AccessDenied"), "{mode}");
        if mode == "compliance" {
            let gone = client
                .delete_object()
                .bucket(bucket)
                .key(&at)
                .version_id(&version);
            let refused = gone.bypass_governance_retention(true).send().await;
            assert_eq!(refused.unwrap_err().code(), Some("AccessDenied"));
        }
        // Over it and before it: our version is still what it was.
        let over = client.put_object().bucket(bucket).key(&at);
        over.body(ByteStream::from_static(b"lies"))
            .send()
            .await
            .unwrap();
        client
            .delete_object()
            .bucket(bucket)
            .key(&at)
            .send()
            .await
            .unwrap();
        let proof = archive.read_back(&key, Some(&version), &expected).await;
        assert_eq!(
            proof.unwrap().version_id(),
            Some(version.as_str()),
            "{mode}"
        );
    }
}

#[test]
fn a_held_recording_is_held_with_what_comes_later_until_it_is_lifted() {
    let Some(settings) = ceph("LOCK_BUCKET") else {
        return;
    };
    let settings = &settings;
    on_both(|house| async move {
        let mut settings = settings.clone();
        settings["prefix"] = format!("it-{}/", callvault::domain::ids::new_id(at(0))).into();
        let archive = Arc::new(open_configured(settings.clone()).await);
        let bench = bench(house, archive.clone(), Default::default(), Box::new(())).await;
        let (db, store) = (&bench.house.db, archive.as_ref());
        let [original, manifest] = bench.sound("held", at(0)).await;
        let [free, _] = bench.sound("free", at(0)).await;
        let id = original
            .as_str()
            .rsplit('/')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        db.place_hold(id, "case 7", "cli:tests", at(1))
            .await
            .unwrap();
        // As it is after a crash between the index and the store: the chore carries it there.
        let before = db.holds().await.unwrap();
        assert_eq!((before[0].objects, before[0].held), (2, 0));
        assert_eq!(holds::apply(db, store, None, at(1)).await.unwrap(), 2);
        assert_eq!(holds::apply(db, store, None, at(1)).await.unwrap(), 0);
        for key in [&original, &manifest] {
            assert!(store.is_held(key, None).await.unwrap(), "{key}");
        }
        assert!(!store.is_held(&free, None).await.unwrap());
        let held = db.objects_of(id).await.unwrap();
        let of_original = held.iter().find(|object| object.key == original);
        let version = of_original
            .and_then(|object| object.version_id.clone())
            .unwrap();
        let client = raw_client(&settings);
        let gone = client
            .delete_object()
            .bucket(settings["bucket"].as_str().unwrap())
            .key(full(&settings, original.as_str()))
            .version_id(version)
            .bypass_governance_retention(true);
        let refused = gone.clone().send().await.unwrap_err();
        assert_eq!(refused.code(), Some("AccessDenied"));

        let lifted = holds::lift(db, store, id, "cli:tests").await.unwrap();
        assert_eq!(lifted, Some(2));
        assert!(db.holds().await.unwrap().is_empty());
        assert!(!store.is_held(&original, None).await.unwrap());
        assert_eq!(holds::lift(db, store, id, "cli:tests").await.unwrap(), None);
        gone.send().await.unwrap();
    });
}

#[tokio::test]
async fn a_store_without_holds_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let archive = DiskArchive::open(folder.path()).await.unwrap();
    let key = ObjectKey::stored("a/b");
    let error = archive.set_hold(&key, None, true).await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::NotOffered);
    assert!(error.to_string().contains("object lock"), "{error}");
    if let Some(settings) = ceph("BUCKET") {
        let archive = open_configured(settings).await;
        let bytes = || Source::Bytes(b"x".to_vec().into());
        archive
            .put(&key, bytes(), &Fingerprint::of(b"x"), "audio/wav")
            .await
            .unwrap();
        let error = archive.set_hold(&key, None, true).await.unwrap_err();
        assert_eq!(error.kind(), ArchiveErrorKind::NotOffered, "{error}");
    }
}

#[tokio::test]
async fn an_upload_that_a_killed_process_left_goes_on_at_the_parts_that_are_right() {
    let Some(settings) = ceph("BUCKET") else {
        return;
    };
    let archive = open_configured(settings.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let (big, expected) = big_file(folder.path());
    let bytes = std::fs::read(&big).unwrap();
    let (client, bucket) = (raw_client(&settings), settings["bucket"].as_str().unwrap());
    let at = full(&settings, "a/big");
    let begin = async |mark: &str| {
        let begun = client.create_multipart_upload().bucket(bucket).key(&at);
        let begun = begun.metadata("begun-by", mark).send().await.unwrap();
        begun.upload_id.unwrap()
    };
    let send = async |id: &str, number: i32, bytes: Vec<u8>| {
        let part = client.upload_part().bucket(bucket).key(&at).upload_id(id);
        part.part_number(number)
            .body(bytes.into())
            .send()
            .await
            .unwrap();
    };
    const PART: usize = 16 << 20;
    // Nothing in it, parts of another file, and one with two good parts and a bad one.
    begin("nobody").await;
    let other = begin("another").await;
    send(&other, 1, vec![1; PART]).await;
    let ours = begin("the killed process").await;
    send(&ours, 1, bytes[..PART].to_vec()).await;
    send(&ours, 2, vec![2; PART]).await;
    send(&ours, 3, bytes[2 * PART..3 * PART].to_vec()).await;

    let key = ObjectKey::stored("a/big");
    let stored = archive
        .put(&key, Source::File(&big), &expected, "audio/wav")
        .await
        .unwrap();
    archive
        .read_back(&key, stored.version_id.as_deref(), &expected)
        .await
        .unwrap();
    let head = client
        .head_object()
        .bucket(bucket)
        .key(&at)
        .send()
        .await
        .unwrap();
    let mark = head.metadata.unwrap_or_default();
    assert_eq!(
        mark.get("begun-by").map(String::as_str),
        Some("the killed process")
    );
    let later = SystemClock.now().plus_ms(HOUR);
    let left = archive.give_up_uploads(later).await.unwrap();
    assert_eq!(left, OpenUploads::default(), "all others were given up");
}

#[tokio::test]
async fn open_uploads_that_nobody_tries_again_are_given_up_after_a_day() {
    let Some(settings) = ceph("BUCKET") else {
        return;
    };
    let archive = open_configured(settings.clone()).await;
    let (client, bucket) = (raw_client(&settings), settings["bucket"].as_str().unwrap());
    for n in 0..3 {
        let at = full(&settings, &format!("a/{n}"));
        client
            .create_multipart_upload()
            .bucket(bucket)
            .key(at)
            .send()
            .await
            .unwrap();
    }
    let now = SystemClock.now();
    let report = leftovers::give_up_uploads(&archive, now).await.unwrap();
    let expected = OpenUploads {
        given_up: 0,
        left: 3,
    };
    assert_eq!(report, Some(expected), "they may still be under way");
    let tomorrow = now.plus_ms(25 * HOUR);
    let report = leftovers::give_up_uploads(&archive, tomorrow)
        .await
        .unwrap();
    assert_eq!(
        report,
        Some(OpenUploads {
            given_up: 3,
            left: 0
        })
    );
    let report = leftovers::give_up_uploads(&archive, tomorrow)
        .await
        .unwrap();
    assert_eq!(report, Some(OpenUploads::default()));
}

#[tokio::test]
async fn what_ceph_can_do_is_found_and_said() {
    // Version 16 forgets conditions where a bucket keeps versions; then the archive looks before it writes.
    for (bucket, is_plain) in [("BUCKET", true), ("LOCK_BUCKET", false)] {
        let Some(settings) = ceph(bucket) else {
            return;
        };
        let archive = open_configured(settings).await;
        archive.probe().await;
        let abilities = archive.abilities();
        let told: Vec<_> = abilities.iter().map(|a| (a.name, a.has)).collect();
        for expected in [
            ("create_only", is_plain),
            ("sha256_checked", false),
            ("md5_checked", true),
            ("versions", !is_plain),
            ("object_lock", !is_plain),
            ("legal_hold", !is_plain),
            ("uploads_listed", true),
        ] {
            assert!(told.contains(&expected), "{expected:?} in {told:?}");
        }
    }
}
