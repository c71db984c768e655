//! An S3 store that loses answers, lies, breaks off and stands still: nothing is lost, nothing is believed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callvault::archive::contract::{
    Archive as _, ArchiveError, ArchiveErrorKind, Severity, Source, Stored,
};
use callvault::archive::s3::{Patience, S3Archive};
use callvault::domain::clock::{Clock as _, ManualClock, SharedClock, SystemClock};
use callvault::domain::digest::Fingerprint;
use callvault::domain::keys::ObjectKey;
use callvault::domain::retry::RetryAdvice;
use http::Method;

use crate::support::s3::{S3TestServer, ceph, s3_server, short_patience};
use crate::support::s3_faults::{Fault, FaultyS3, faulty};

const AT: &str = "a/object";

async fn rig() -> (FaultyS3, S3Archive) {
    let faulty = faulty(s3_server().await).await;
    let archive = faulty.server.archive("").await;
    // What a running process knows after its first probe; puts then send nothing but the put.
    archive.probe().await;
    (faulty, archive)
}

async fn put_bytes(archive: &S3Archive, bytes: &'static [u8]) -> Result<Stored, ArchiveError> {
    let source = Source::Bytes(Bytes::from_static(bytes));
    let key = ObjectKey::stored(AT);
    let expected = Fingerprint::of(bytes);
    archive.put(&key, source, &expected, "audio/wav").await
}

async fn read_back(archive: &S3Archive, bytes: &[u8]) -> Result<(), ArchiveError> {
    let key = ObjectKey::stored(AT);
    let proof = archive.read_back(&key, None, &Fingerprint::of(bytes)).await;
    proof.map(|_| ())
}

#[tokio::test]
async fn an_answer_lost_after_the_store_did_it_is_no_loss_and_no_conflict() {
    let (faulty, archive) = rig().await;
    faulty.once(Method::PUT, AT, Fault::LoseAnswer);
    put_bytes(&archive, b"abc").await.unwrap();
    read_back(&archive, b"abc").await.unwrap();
    assert_eq!(faulty.unmet(), 0);
}

#[tokio::test]
async fn every_answer_lost_is_settled_by_looking() {
    let (faulty, archive) = rig().await;
    faulty.always(Method::PUT, AT, Fault::LoseAnswer);
    put_bytes(&archive, b"abc").await.unwrap();
    read_back(&archive, b"abc").await.unwrap();
}

#[tokio::test]
async fn a_precondition_that_failed_on_our_own_write_is_success() {
    let (faulty, archive) = rig().await;
    faulty.once(
        Method::PUT,
        AT,
        Fault::AnswerAfter(412, "PreconditionFailed"),
    );
    put_bytes(&archive, b"abc").await.unwrap();
    assert_eq!(faulty.count(&Method::PUT, AT), 1);
    assert_eq!(faulty.unmet(), 0);
}

#[tokio::test]
async fn a_conflict_answer_with_nothing_stored_is_put_again() {
    let (faulty, archive) = rig().await;
    faulty.once(
        Method::PUT,
        AT,
        Fault::AnswerInstead(409, "ConditionalRequestConflict"),
    );
    put_bytes(&archive, b"abc").await.unwrap();
    read_back(&archive, b"abc").await.unwrap();
    assert_eq!(faulty.count(&Method::PUT, AT), 2);
}

#[tokio::test]
async fn a_store_that_always_says_taken_but_holds_nothing_is_never_believed() {
    let (faulty, archive) = rig().await;
    faulty.always(
        Method::PUT,
        AT,
        Fault::AnswerInstead(412, "PreconditionFailed"),
    );
    let error = put_bytes(&archive, b"abc").await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::Unavailable);
    assert_eq!(error.advice(), RetryAdvice::Backoff);
}

#[tokio::test]
async fn another_object_in_the_way_is_a_conflict_also_when_answers_are_lost() {
    let (faulty, archive) = rig().await;
    put_bytes(&archive, b"first").await.unwrap();
    faulty.always(Method::PUT, AT, Fault::LoseAnswer);
    let error = put_bytes(&archive, b"other").await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::Conflict);
    assert_eq!(error.advice(), RetryAdvice::Never);
    read_back(&archive, b"first").await.unwrap();
}

#[tokio::test]
async fn a_store_that_cannot_now_is_asked_again_and_then_waited_for() {
    let (faulty, archive) = rig().await;
    faulty.once(Method::PUT, AT, Fault::AnswerInstead(503, "SlowDown"));
    faulty.once(Method::PUT, AT, Fault::AnswerInstead(500, "InternalError"));
    put_bytes(&archive, b"abc").await.unwrap();
    assert_eq!(faulty.unmet(), 0);

    let (faulty, archive) = rig().await;
    faulty.always(Method::PUT, AT, Fault::AnswerInstead(503, "SlowDown"));
    let error = put_bytes(&archive, b"abc").await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::Unavailable);
    assert_eq!(error.advice(), RetryAdvice::After(Duration::from_secs(7)));
}

#[tokio::test]
async fn missing_rights_and_full_stores_are_told_apart() {
    for (status, code, kind) in [
        (403, "AccessDenied", ArchiveErrorKind::Refused),
        (403, "QuotaExceeded", ArchiveErrorKind::Full),
        (404, "NoSuchBucket", ArchiveErrorKind::Refused),
        (507, "XMinioStorageFull", ArchiveErrorKind::Full),
    ] {
        let (faulty, archive) = rig().await;
        faulty.always(Method::PUT, AT, Fault::AnswerInstead(status, code));
        let error = put_bytes(&archive, b"abc").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.advice(), RetryAdvice::Backoff, "{error}");
    }
}

#[tokio::test]
async fn a_store_that_says_yes_and_keeps_nothing_gets_no_proof() {
    let (faulty, archive) = rig().await;
    faulty.once(Method::PUT, AT, Fault::AnswerInstead(200, ""));
    put_bytes(&archive, b"abc").await.unwrap();
    let error = read_back(&archive, b"abc").await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::NotFound);
}

#[tokio::test]
async fn a_flipped_bit_gets_no_proof() {
    let (faulty, archive) = rig().await;
    put_bytes(&archive, b"abc").await.unwrap();
    faulty.once(Method::GET, AT, Fault::FlipBit);
    let error = read_back(&archive, b"abc").await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::Mismatch);
    read_back(&archive, b"abc").await.unwrap();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_again_and_is_never_a_mismatch() {
    let (faulty, archive) = rig().await;
    put_bytes(&archive, b"abcdef").await.unwrap();
    faulty.once(Method::GET, AT, Fault::CutBody(3));
    read_back(&archive, b"abcdef").await.unwrap();
    assert_eq!(faulty.unmet(), 0);
    faulty.always(Method::GET, AT, Fault::CutBody(3));
    let error = read_back(&archive, b"abcdef").await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::Unavailable);
    // Also for those who stream it: the end of the pieces is an error, not an end.
    let reader = archive
        .open(&ObjectKey::stored(AT), None, None)
        .await
        .unwrap();
    let pieces: Vec<_> = futures::StreamExt::collect(reader.body).await;
    assert!(pieces.last().unwrap().is_err());
}

#[tokio::test]
async fn a_store_that_stands_still_is_given_up() {
    let (faulty, _) = rig().await;
    let hasty = Patience {
        answer: Duration::from_millis(300),
        stalled: Duration::from_millis(300),
        tries: 1,
        ..short_patience()
    };
    let clock: SharedClock = Arc::new(SystemClock);
    let settings = faulty.server.settings("");
    let archive = S3Archive::open_with(&settings, clock, hasty).await.unwrap();
    faulty.always(Method::PUT, AT, Fault::Stall);
    let error = put_bytes(&archive, b"abcdef").await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::TimedOut);

    let (faulty, patient) = rig().await;
    put_bytes(&patient, b"abcdef").await.unwrap();
    let settings = faulty.server.settings("");
    let clock: SharedClock = Arc::new(SystemClock);
    let archive = S3Archive::open_with(&settings, clock, hasty).await.unwrap();
    faulty.always(Method::GET, AT, Fault::StallBody(3));
    let error = read_back(&archive, b"abcdef").await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::TimedOut, "{error}");
}

/// Just above the limit for a single put.
fn big_content() -> Bytes {
    Bytes::from(vec![7; (64 << 20) + 1])
}

async fn put_big(archive: &S3Archive) -> Result<Stored, ArchiveError> {
    let content = big_content();
    let expected = Fingerprint::of(&content);
    let key = ObjectKey::stored(AT);
    archive
        .put(&key, Source::Bytes(content), &expected, "audio/wav")
        .await
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_success() {
    let (faulty, archive) = rig().await;
    faulty.always(Method::POST, "uploadId=", Fault::LoseAnswer);
    put_big(&archive).await.unwrap();
    let expected = Fingerprint::of(&big_content());
    let key = ObjectKey::stored(AT);
    archive.read_back(&key, None, &expected).await.unwrap();
}

#[tokio::test]
async fn a_success_that_carries_an_error_is_no_success() {
    let (faulty, archive) = rig().await;
    faulty.always(
        Method::POST,
        "uploadId=",
        Fault::AnswerInstead(200, "InternalError"),
    );
    let error = put_big(&archive).await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::Unavailable, "{error}");
    assert_eq!(archive.head(&ObjectKey::stored(AT)).await.unwrap(), None);
}

#[tokio::test]
async fn every_put_and_every_part_carries_the_sha256_of_its_bytes() {
    let (faulty, archive) = rig().await;
    put_bytes(&archive, b"abc").await.unwrap();
    assert_eq!(faulty.sums("x-id=PutObject").last(), Some(&true));
    let content = big_content();
    let expected = Fingerprint::of(&content);
    let key = ObjectKey::stored("a/big");
    let source = Source::Bytes(content);
    archive
        .put(&key, source, &expected, "audio/wav")
        .await
        .unwrap();
    assert_eq!(faulty.sums("partNumber="), [true; 5]);
}

/// Ceph, for a store that looks before it keeps: s3s-fs looks when the object is in place already.
#[tokio::test]
async fn a_body_that_changed_on_the_way_is_refused_by_the_store_and_sent_again() {
    let Some(settings) = ceph("BUCKET") else {
        return;
    };
    let text = |name: &str| settings[name].as_str().unwrap().to_owned();
    let server = S3TestServer {
        endpoint: text("endpoint"),
        access_key: text("access_key_id"),
        secret: text("secret_access_key"),
        bucket: text("bucket"),
        dir: Arc::new(tempfile::tempdir().unwrap()),
    };
    let faulty = faulty(server).await;
    let archive = faulty.server.archive(&text("prefix")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small");
    std::fs::write(&file, b"abcdef").unwrap();
    let expected = Fingerprint::of(b"abcdef");
    for (at, source) in [
        ("b/file", Source::File(&file)),
        ("b/bytes", Source::Bytes(Bytes::from_static(b"abcdef"))),
    ] {
        let key = ObjectKey::stored(at);
        faulty.once(Method::PUT, at, Fault::FlipSentBit);
        archive
            .put(&key, source, &expected, "audio/wav")
            .await
            .unwrap();
        assert_eq!(faulty.unmet(), 0, "{at}");
        archive.read_back(&key, None, &expected).await.unwrap();
    }
    faulty.always(Method::PUT, "c/file", Fault::FlipSentBit);
    let key = ObjectKey::stored("c/file");
    let error = archive
        .put(&key, Source::File(&file), &expected, "audio/wav")
        .await;
    assert_eq!(error.unwrap_err().kind(), ArchiveErrorKind::Mismatch);
    assert_eq!(archive.head(&key).await.unwrap(), None);
}

#[tokio::test]
async fn an_upload_that_fails_half_way_is_given_up_in_the_store_too() {
    let (faulty, archive) = rig().await;
    faulty.always(
        Method::PUT,
        "partNumber=3",
        Fault::AnswerInstead(403, "AccessDenied"),
    );
    let error = put_big(&archive).await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::Refused);
    // The upload is given up by a task of its own.
    let mut looks = 0;
    while faulty.count(&Method::DELETE, "uploadId=") == 0 {
        looks += 1;
        assert!(looks < 1000, "the upload was not given up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(archive.head(&ObjectKey::stored(AT)).await.unwrap(), None);
}

#[tokio::test]
async fn a_store_without_conditional_puts_is_used_by_looking_first() {
    let (faulty, _) = rig().await;
    // Not probed: it is the put that finds out.
    let archive = faulty.server.archive("").await;
    faulty.once(Method::PUT, AT, Fault::AnswerInstead(501, "NotImplemented"));
    put_bytes(&archive, b"abc").await.unwrap();
    let error = put_bytes(&archive, b"abd").await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::Conflict);
    // The second never got as far as a put.
    assert_eq!(faulty.count(&Method::PUT, AT), 2);
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_warned_about_and_looked_at_first() {
    let faulty = faulty(s3_server().await).await;
    let archive = faulty.server.archive("").await;
    faulty.always(Method::PUT, "probe-create", Fault::AnswerInstead(200, ""));
    faulty.always(Method::PUT, "probe-checksum", Fault::AnswerInstead(200, ""));
    let codes: Vec<_> = archive.probe().await.iter().map(|f| f.code).collect();
    assert!(codes.contains(&"conditional_writes_ignored"), "{codes:?}");
    assert!(codes.contains(&"checksums_ignored"), "{codes:?}");
    put_bytes(&archive, b"abc").await.unwrap();
    let error = put_bytes(&archive, b"abd").await.unwrap_err();
    assert_eq!(error.kind(), ArchiveErrorKind::Conflict);
    assert_eq!(faulty.count(&Method::PUT, AT), 1);
}

#[tokio::test]
async fn a_clock_that_is_off_by_more_than_five_minutes_is_refused() {
    let server = s3_server().await;
    for (off_ms, refused) in [(6 * 60_000, true), (-6 * 60_000, true), (4 * 60_000, false)] {
        let clock = ManualClock::at(SystemClock.now().plus_ms(off_ms));
        let archive = S3Archive::open_with(&server.settings(""), clock, short_patience())
            .await
            .unwrap();
        let findings = archive.probe().await;
        let skew = findings.iter().find(|found| found.code == "clock_skew");
        assert_eq!(skew.is_some(), refused, "{off_ms}: {findings:?}");
        assert!(skew.is_none_or(|found| found.severity == Severity::Refuse));
    }
}

#[tokio::test]
async fn a_right_to_put_that_was_taken_away_is_said_although_the_probe_lies_there() {
    let faulty = faulty(s3_server().await).await;
    let archive = faulty.server.archive("").await;
    let before: Vec<_> = archive.probe().await.iter().map(|f| f.code).collect();
    assert!(!before.contains(&"archive_refused"), "{before:?}");
    let denied = Fault::AnswerInstead(403, "AccessDenied");
    faulty.always(Method::PUT, "probe-create", denied);
    let after: Vec<_> = archive.probe().await.iter().map(|f| f.code).collect();
    assert!(after.contains(&"archive_refused"), "{after:?}");
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_said_and_nothing_else_is_asked() {
    let faulty = faulty(s3_server().await).await;
    let archive = faulty.server.archive("").await;
    let missing = Fault::AnswerInstead(404, "NoSuchBucket");
    faulty.always(Method::PUT, "probe-create", missing);
    let codes: Vec<_> = archive.probe().await.iter().map(|f| f.code).collect();
    assert_eq!(codes, ["bucket_missing"]);
}

#[tokio::test]
async fn a_bucket_that_anybody_can_read_is_refused() {
    let (faulty, archive) = rig().await;
    faulty.always(Method::GET, "probe-create", Fault::AnswerInstead(200, ""));
    let findings = archive.probe().await;
    let public = findings.iter().find(|found| found.code == "bucket_public");
    assert_eq!(public.map(|found| found.severity), Some(Severity::Refuse));
}

#[tokio::test]
async fn a_lock_that_is_asked_for_and_not_offered_is_refused() {
    let server = s3_server().await;
    let mut settings = server.settings("");
    settings.object_lock = callvault::archive::settings::ObjectLock::Compliance;
    settings.lock_for = Some("7y".parse().unwrap());
    let clock: SharedClock = Arc::new(SystemClock);
    let archive = S3Archive::open_with(&settings, clock, short_patience())
        .await
        .unwrap();
    let findings = archive.probe().await;
    let lock = findings
        .iter()
        .find(|found| found.code == "object_lock_not_offered");
    assert_eq!(
        lock.map(|found| found.severity),
        Some(Severity::Refuse),
        "{findings:?}"
    );

    // And whoever puts all the same is told: s3s-fs takes the headers and keeps nothing of them.
    let error = put_bytes(&archive, b"abc").await.unwrap_err();
    assert_eq!(error.advice(), RetryAdvice::Backoff);
    assert!(error.to_string().contains("lock"), "{error}");
}

#[tokio::test]
async fn a_store_that_is_away_is_a_finding_and_wrong_credentials_are_another() {
    let server = s3_server().await;
    let mut settings = server.settings("");
    settings.secret_access_key = Some(callvault::domain::secret::Secret::new("wrong"));
    let clock: SharedClock = Arc::new(SystemClock);
    let archive = S3Archive::open_with(&settings, clock.clone(), short_patience())
        .await
        .unwrap();
    let findings = archive.probe().await;
    assert_eq!(findings[0].code, "archive_refused", "{findings:?}");
    assert!(findings.iter().all(|found| !found.what.contains("wrong")));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let archive = S3Archive::open_with(&settings, clock, short_patience())
        .await
        .unwrap();
    let codes: Vec<_> = archive.probe().await.iter().map(|f| f.code).collect();
    assert_eq!(codes, ["archive_unreachable"]);
}
