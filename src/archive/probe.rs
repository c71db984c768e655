//! Asks a store what it can do before anything depends on it: a feature asked for is not a feature had.
//!
//! Writes only constant content under `_callvault/probe-*`, create-only, and never deletes: the first run
//! makes the objects, every later one expects to be told that they exist. A bucket that says so to a conditional put
//! has looked at the right to put first; a directory makes a temporary file beside them, which goes at once.

use std::os::unix::fs::PermissionsExt as _;

use aws_sdk_s3::operation::get_bucket_versioning::GetBucketVersioningOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockEnabled};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use md5::Digest as _;

use super::contract::{Archive as _, ArchiveErrorKind, ProbeFinding, Severity, Source};
use super::disk::DiskArchive;
use super::s3::{Conditional, Failure, S3Archive, lock_headers, multipart};
use crate::domain::digest::{Fingerprint, Sha256};
use crate::domain::keys::ObjectKey;

/// The same in every version of the program, or the second run would find a conflict.
const CONTENT: &[u8] = b"callvault probe, safe to keep\n";
const OTHER_CONTENT: &[u8] = b"callvault probe, never stored\n";
/// S3 refuses requests that are 15 minutes off; signatures and retention dates suffer earlier.
const MOST_SKEW_MS: i64 = 5 * 60 * 1000;
/// Less free space than this is worth a word.
const LITTLE_SPACE_BYTES: u64 = 1 << 30;

fn warn(code: &'static str, what: impl Into<String>, what_to_do: &str) -> ProbeFinding {
    ProbeFinding {
        code,
        severity: Severity::Warn,
        what: what.into(),
        what_to_do: what_to_do.to_owned(),
    }
}

fn refuse(code: &'static str, what: impl Into<String>, what_to_do: &str) -> ProbeFinding {
    ProbeFinding {
        severity: Severity::Refuse,
        ..warn(code, what, what_to_do)
    }
}

/// Rights, room, and whether a name that is taken stays taken.
pub(super) async fn of_directory(archive: &DiskArchive) -> Vec<ProbeFinding> {
    let root = archive.root();
    let mut findings = Vec::new();
    match tokio::fs::metadata(root).await {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                findings.push(warn(
                    "archive_open_to_others",
                    format!("{} has mode {mode:03o}", root.display()),
                    "run chmod 700 on it, so that only callvault's user reads recordings",
                ));
            }
        }
        Err(e) => {
            findings.push(warn(
                "archive_unreachable",
                format!("{} cannot be looked at: {e}", root.display()),
                "mount the disk or mend [archive] path",
            ));
            return findings;
        }
    }
    if let Ok(space) = rustix::fs::statvfs(root) {
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < LITTLE_SPACE_BYTES {
            findings.push(warn(
                "archive_space_low",
                format!("{} has {} MiB left", root.display(), free >> 20),
                "free some space or move the archive to a larger disk",
            ));
        }
    }
    let key = ObjectKey::probe("create");
    let put = async |content: &'static [u8]| {
        let bytes = Source::Bytes(Bytes::from_static(content));
        let expected = Fingerprint::of(content);
        archive.put(&key, bytes, &expected, "text/plain").await
    };
    let taken_in = match put(CONTENT).await {
        Ok(_) => archive.makes_files().await,
        Err(e) => Err(e),
    };
    if let Err(e) = taken_in {
        findings.push(warn(
            "archive_not_writable",
            super::s3::chain(&e),
            "nothing is lost, recordings wait until it can be written",
        ));
        return findings;
    }
    let taken = put(OTHER_CONTENT).await.map_err(|e| e.kind());
    if taken != Err(ArchiveErrorKind::Conflict) {
        findings.push(warn(
            "conditional_writes_ignored",
            format!("{} let an object be put over another", root.display()),
            "use a local file system (ext4, xfs) for the archive",
        ));
    }
    findings
}

/// Rights, conditional puts, checksums, clock, privacy, versions and lock.
///
/// What it learns about conditional puts, `put` goes by from then on.
pub(super) async fn of_bucket(archive: &S3Archive) -> Vec<ProbeFinding> {
    let mut findings = Vec::new();
    if let Err(failure) = creates_only_once(archive, &mut findings).await {
        if failure.code.as_deref() == Some("RequestTimeTooSkewed") {
            findings.push(skew_finding(archive.store_clock.skew_ms()));
            return findings;
        }
        let is_bucket_missing = failure.code.as_deref() == Some("NoSuchBucket");
        let (code, what_to_do) = match failure.kind() {
            _ if is_bucket_missing => ("bucket_missing", "make it, or mend [archive] bucket"),
            ArchiveErrorKind::Unavailable | ArchiveErrorKind::TimedOut => (
                "archive_unreachable",
                "check [archive] endpoint and the network; recordings wait meanwhile",
            ),
            ArchiveErrorKind::Refused => (
                "archive_refused",
                "check the bucket's name, the credentials and their right to put objects",
            ),
            ArchiveErrorKind::Full => ("archive_full", "free some space or raise the quota"),
            _ => ("archive_not_writable", "see the store's own log"),
        };
        let what = format!("{} refused a probe: {failure}", archive.describe());
        findings.push(warn(code, what, what_to_do));
        if failure.status.is_none() || is_bucket_missing {
            return findings;
        }
    }
    if let Some(skew_ms) = archive.store_clock.skew_ms()
        && skew_ms.abs() > MOST_SKEW_MS
    {
        findings.push(skew_finding(Some(skew_ms)));
    }
    verifies_checksums(archive, &mut findings).await;
    can_be_read(archive, &mut findings).await;
    is_private(archive, &mut findings).await;
    keeps_versions(archive, &mut findings).await;
    offers_lock(archive, &mut findings).await;
    archive.learn("uploads_listed", multipart::are_listed(archive).await);
    findings
}

fn skew_finding(skew_ms: Option<i64>) -> ProbeFinding {
    let what = match skew_ms {
        Some(ms) => format!("the store's clock is {} s from this machine's", ms / 1000),
        None => "the store refuses this machine's time".to_owned(),
    };
    refuse(
        "clock_skew",
        what,
        "set both clocks by NTP; the limit is 5 minutes",
    )
}

/// Sends a probe object under the configured prefix, create-only, with its true or a given checksum.
async fn send(
    archive: &S3Archive,
    key: &ObjectKey,
    checksum: &Sha256,
    locked: bool,
) -> Result<(), Failure> {
    send_with(archive, key, checksum, CONTENT, locked).await
}

/// The same with the MD5 of `md5_of`.
async fn send_with(
    archive: &S3Archive,
    key: &ObjectKey,
    checksum: &Sha256,
    md5_of: &[u8],
    locked: bool,
) -> Result<(), Failure> {
    let (lock_mode, lock_until) = if locked {
        lock_headers(archive)
    } else {
        (None, None)
    };
    let if_none_match = (archive.conditional() != Conditional::Rejected).then(|| "*".to_owned());
    let md5 = BASE64_STANDARD.encode(md5::Md5::digest(md5_of));
    archive
        .client
        .put_object()
        .bucket(&archive.bucket)
        .key(archive.probe_key(key))
        .set_if_none_match(if_none_match)
        .content_type("text/plain")
        .checksum_sha256(BASE64_STANDARD.encode(checksum.as_bytes()))
        .content_md5(md5)
        .set_object_lock_mode(lock_mode)
        .set_object_lock_retain_until_date(lock_until)
        .body(ByteStream::from_static(CONTENT))
        .send()
        .await
        .map(|_| ())
        .map_err(Failure::of)
}

async fn creates_only_once(
    archive: &S3Archive,
    findings: &mut Vec<ProbeFinding>,
) -> Result<(), Failure> {
    let key = ObjectKey::probe("create");
    let truth = Sha256::of(CONTENT);
    let mut answer = send(archive, &key, &truth, true).await;
    if answer.is_ok() {
        answer = send(archive, &key, &truth, true).await;
    }
    match answer {
        Ok(()) => {
            archive.set_conditional(Conditional::Ignored);
            archive.learn("create_only", false);
            findings.push(warn(
                "conditional_writes_ignored",
                "the store puts an object over another although If-None-Match forbids it",
                "callvault looks before it writes; turn on versioning so that nothing can be replaced",
            ));
            Ok(())
        }
        Err(failure) if failure.is_taken() => {
            archive.set_conditional(Conditional::Honoured);
            archive.learn("create_only", true);
            Ok(())
        }
        Err(failure) if failure.is_not_implemented() => {
            archive.set_conditional(Conditional::Rejected);
            archive.learn("create_only", false);
            findings.push(warn(
                "conditional_writes_rejected",
                "the store does not know If-None-Match",
                "callvault looks before it writes; turn on versioning so that nothing can be replaced",
            ));
            // Made without the header, for the questions that read it.
            match archive.head(&key).await {
                Ok(None) => send(archive, &key, &truth, true).await,
                _ => Ok(()),
            }
        }
        Err(failure) => Err(failure),
    }
}

/// Sends a wrong checksum, then looks whether the object is there all the same: made by a store that does
/// not look at checksums, by one that looks too late (s3s-fs 0.14), or on an earlier run by either.
async fn verifies_checksums(archive: &S3Archive, findings: &mut Vec<ProbeFinding>) {
    if archive.conditional() == Conditional::Rejected {
        return;
    }
    let key = ObjectKey::probe("checksum");
    let sent = send(archive, &key, &Sha256::of(OTHER_CONTENT), false).await;
    let kept = was_kept(archive, &key, sent).await;
    archive.learn("sha256_checked", !kept);
    let key = ObjectKey::probe("md5");
    let sent = send_with(archive, &key, &Sha256::of(CONTENT), OTHER_CONTENT, false).await;
    archive.learn("md5_checked", !was_kept(archive, &key, sent).await);
    if kept {
        findings.push(warn(
            "checksums_ignored",
            "the store keeps an object whose SHA-256 is not the one announced",
            "nothing to do: every object is read back and compared before it counts",
        ));
    }
}

async fn was_kept(archive: &S3Archive, key: &ObjectKey, sent: Result<(), Failure>) -> bool {
    match sent {
        Ok(()) => true,
        Err(failure) => failure.is_taken() || matches!(archive.head(key).await, Ok(Some(_))),
    }
}

async fn can_be_read(archive: &S3Archive, findings: &mut Vec<ProbeFinding>) {
    let key = ObjectKey::probe("create");
    if let Err(e) = archive.fingerprint(&key, None).await
        && e.kind() == ArchiveErrorKind::Refused
    {
        findings.push(warn(
            "archive_read_refused",
            e.to_string(),
            "allow s3:GetObject; without it nothing can be verified",
        ));
    }
    let listed = archive
        .client
        .list_objects_v2()
        .bucket(&archive.bucket)
        .prefix(archive.probe_key(&key))
        .max_keys(1)
        .send()
        .await
        .map_err(Failure::of);
    if let Err(failure) = listed
        && failure.kind() == ArchiveErrorKind::Refused
    {
        findings.push(warn(
            "archive_list_refused",
            format!("listing was refused: {failure}"),
            "allow s3:ListBucket; rebuild and fixity walk the bucket",
        ));
    }
}

/// Tries what anybody could: reading and listing without credentials. Then asks for the policy.
async fn is_private(archive: &S3Archive, findings: &mut Vec<ProbeFinding>) {
    let key = archive.probe_key(&ObjectKey::probe("create"));
    let read = archive
        .public
        .get_object()
        .bucket(&archive.bucket)
        .key(&key);
    let list = archive
        .public
        .list_objects_v2()
        .bucket(&archive.bucket)
        .max_keys(1);
    let policy = archive
        .client
        .get_bucket_policy_status()
        .bucket(&archive.bucket);
    let what = if read.send().await.is_ok() {
        "anybody can read its objects without credentials"
    } else if list.send().await.is_ok() {
        "anybody can list it without credentials"
    } else if policy.send().await.is_ok_and(|answer| {
        answer
            .policy_status
            .and_then(|status| status.is_public)
            .unwrap_or(false)
    }) {
        "its policy makes it public"
    } else {
        return;
    };
    findings.push(refuse(
        "bucket_public",
        format!("the bucket {} is public: {what}", archive.bucket),
        "block public access to the bucket; recordings are personal data",
    ));
}

async fn keeps_versions(archive: &S3Archive, findings: &mut Vec<ProbeFinding>) {
    let answer = archive
        .client
        .get_bucket_versioning()
        .bucket(&archive.bucket)
        .send()
        .await
        .map_err(Failure::of);
    let is_on =
        |answer: &GetBucketVersioningOutput| answer.status == Some(BucketVersioningStatus::Enabled);
    archive.learn("versions", answer.as_ref().is_ok_and(is_on));
    let advice = "turn on versioning, so that a deleted or replaced object can be brought back";
    match answer {
        Ok(answer) if answer.status == Some(BucketVersioningStatus::Enabled) => {}
        Ok(_) => findings.push(warn(
            "versioning_off",
            format!("the bucket {} keeps no versions", archive.bucket),
            advice,
        )),
        Err(failure) if failure.is_not_implemented() => findings.push(warn(
            "versioning_not_offered",
            "the store offers no versioning",
            "rely on backups of the bucket",
        )),
        Err(failure) => findings.push(warn(
            "versioning_unknown",
            format!("the bucket's versioning could not be asked for: {failure}"),
            "allow s3:GetBucketVersioning",
        )),
    }
}

/// A lock that is asked for and not had must not look like one (s3s-fs 0.14 takes the headers silently).
async fn offers_lock(archive: &S3Archive, findings: &mut Vec<ProbeFinding>) {
    let enabled = archive
        .client
        .get_object_lock_configuration()
        .bucket(&archive.bucket)
        .send()
        .await
        .map_err(Failure::of)
        .map(|answer| {
            answer
                .object_lock_configuration
                .and_then(|lock| lock.object_lock_enabled)
                == Some(ObjectLockEnabled::Enabled)
        });
    archive.learn("object_lock", matches!(enabled, Ok(true)));
    archive.learn(
        "legal_hold",
        matches!(enabled, Ok(true)) && takes_hold(archive).await,
    );
    let Some(mode) = lock_headers(archive).0 else {
        return;
    };
    let key = ObjectKey::probe("lock");
    let put = send(archive, &key, &Sha256::of(CONTENT), true).await;
    let head = archive
        .client
        .head_object()
        .bucket(&archive.bucket)
        .key(archive.probe_key(&key))
        .send()
        .await
        .map_err(Failure::of);
    let why = match (enabled, put, head) {
        (Ok(true), _, Ok(head))
            if head.object_lock_retain_until_date.is_some()
                && head.object_lock_mode.as_ref() == Some(&mode) =>
        {
            return;
        }
        (Ok(false), ..) => "object lock is not turned on for it".to_owned(),
        (Err(failure), ..) => format!("asked for its object lock, the store answered {failure}"),
        (_, Err(failure), _) if !failure.is_taken() => {
            format!("a locked object was refused: {failure}")
        }
        (.., Ok(_)) => format!(
            "an object put with mode {} came out without it",
            mode.as_str()
        ),
        (.., Err(failure)) => format!("a locked object could not be looked at: {failure}"),
    };
    archive.learn("object_lock", false);
    findings.push(refuse(
        "object_lock_not_offered",
        format!("the bucket {} offers no lock: {why}", archive.bucket),
        "make a bucket with object lock, or set [archive] object_lock = \"off\"",
    ));
}

/// Puts a hold on a probe object and takes it away again.
async fn takes_hold(archive: &S3Archive) -> bool {
    let key = ObjectKey::probe("hold");
    match send(archive, &key, &Sha256::of(CONTENT), false).await {
        Ok(()) => {}
        Err(failure) if failure.is_taken() => {}
        Err(_) => return false,
    }
    let held = archive.set_hold(&key, None, true).await;
    held.is_ok() && archive.set_hold(&key, None, false).await.is_ok()
}
