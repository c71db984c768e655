//! Object lock and legal hold: asked for, and looked after, because a store may take the headers and do nothing.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode,
};

use super::S3Archive;
use super::errors::Failure;
use crate::archive::contract::{ArchiveError, ArchiveErrorKind, Stored};
use crate::archive::settings::ObjectLock;
use crate::domain::keys::ObjectKey;
use crate::domain::retry::RetryAdvice;

/// An upload in parts is locked when it begins, and may have been begun by a process that was killed since.
const SLACK_MS: i64 = 25 * 3600 * 1000;

/// What the store protects an object with, as headers; nothing when no lock is configured.
pub(in crate::archive) fn lock_headers(
    archive: &S3Archive,
) -> (Option<ObjectLockMode>, Option<DateTime>) {
    let mode = match archive.lock {
        ObjectLock::Off => return (None, None),
        ObjectLock::Governance => ObjectLockMode::Governance,
        ObjectLock::Compliance => ObjectLockMode::Compliance,
    };
    let until = archive
        .store_clock
        .clock()
        .now()
        .plus(archive.lock_for.unwrap_or_default());
    (Some(mode), Some(DateTime::from_millis(until.ms())))
}

/// After this the object is locked in the configured mode, when a lock is configured at all.
///
/// Ceph RGW 16 takes the lock headers when an upload in parts begins and keeps nothing of them; the lock
/// is then set afterwards. One that cannot be had is an error: the object stays, and the next put of
/// it tries again.
///
/// `is_new`: put just now, so the lock must last as long as was asked for; one that was found there keeps the
/// lock that it got when it was put.
pub(super) async fn ensure(
    archive: &S3Archive,
    key: &ObjectKey,
    stored: &Stored,
    is_new: bool,
) -> Result<(), ArchiveError> {
    let (Some(mode), Some(until)) = lock_headers(archive) else {
        return Ok(());
    };
    let now = archive.store_clock.clock().now().ms();
    let least_ms = match (is_new, until.to_millis()) {
        (true, Ok(until)) => until - SLACK_MS,
        _ => now,
    };
    if is_locked(archive, key, stored, &mode, least_ms).await? {
        return Ok(());
    }
    let retention = ObjectLockRetention::builder()
        .mode(ObjectLockRetentionMode::from(mode.as_str()))
        .retain_until_date(until)
        .build();
    let set = archive
        .client
        .put_object_retention()
        .bucket(&archive.bucket)
        .key(archive.full_key(key)?)
        .set_version_id(stored.version_id.clone())
        .retention(retention)
        .send()
        .await
        .map_err(Failure::of);
    let why = match set {
        Ok(_) if is_locked(archive, key, stored, &mode, least_ms).await? => return Ok(()),
        Ok(_) => "it said yes and did nothing".to_owned(),
        Err(failure) => failure.to_string(),
    };
    let what = format!(
        "the store keeps {key} without the lock that was asked for ({why}); use a bucket with object lock, \
         or set [archive] object_lock = \"off\""
    );
    // Never dropped: a person mends the bucket or the setting, and the recording waits for that.
    Err(ArchiveError::new(ArchiveErrorKind::Other, what).with_advice(RetryAdvice::Backoff))
}

async fn is_locked(
    archive: &S3Archive,
    key: &ObjectKey,
    stored: &Stored,
    mode: &ObjectLockMode,
    least_ms: i64,
) -> Result<bool, ArchiveError> {
    let head = archive
        .client
        .head_object()
        .bucket(&archive.bucket)
        .key(archive.full_key(key)?)
        .set_version_id(stored.version_id.clone())
        .send()
        .await
        .map_err(|e| Failure::of(e).into_error(format_args!("looking at the lock of {key}")))?;
    let until = head.object_lock_retain_until_date;
    let until = until.and_then(|until| until.to_millis().ok());
    Ok(
        until.is_some_and(|until| until >= least_ms)
            && head.object_lock_mode.as_ref() == Some(mode),
    )
}

/// See [`crate::archive::contract::Archive::set_hold`].
pub(super) async fn set_hold(
    archive: &S3Archive,
    key: &ObjectKey,
    version: Option<&str>,
    on: bool,
) -> Result<(), ArchiveError> {
    let status = if on {
        ObjectLockLegalHoldStatus::On
    } else {
        ObjectLockLegalHoldStatus::Off
    };
    archive
        .client
        .put_object_legal_hold()
        .bucket(&archive.bucket)
        .key(archive.full_key(key)?)
        .set_version_id(version.map(str::to_owned))
        .legal_hold(ObjectLockLegalHold::builder().status(status).build())
        .send()
        .await
        .map_err(|e| of_hold(Failure::of(e), key))?;
    if is_held(archive, key, version).await? == on {
        return Ok(());
    }
    Err(ArchiveError::new(
        ArchiveErrorKind::NotOffered,
        format!(
            "the store said yes to a legal hold on {key} and did nothing; use a bucket with object lock"
        ),
    ))
}

/// See [`crate::archive::contract::Archive::is_held`].
pub(super) async fn is_held(
    archive: &S3Archive,
    key: &ObjectKey,
    version: Option<&str>,
) -> Result<bool, ArchiveError> {
    let answer = archive
        .client
        .get_object_legal_hold()
        .bucket(&archive.bucket)
        .key(archive.full_key(key)?)
        .set_version_id(version.map(str::to_owned))
        .send()
        .await
        .map_err(Failure::of);
    match answer {
        Ok(answer) => {
            Ok(answer.legal_hold.and_then(|hold| hold.status)
                == Some(ObjectLockLegalHoldStatus::On))
        }
        // No hold was ever put on it (AWS, Ceph RGW).
        Err(failure)
            if failure.code.as_deref() == Some("NoSuchObjectLockConfiguration")
                || failure.code.as_deref() == Some("ObjectLockConfigurationNotFoundError") =>
        {
            Ok(false)
        }
        Err(failure) => Err(of_hold(failure, key)),
    }
}

/// A bucket without object lock answers 400, 405 or 501, as it likes.
fn of_hold(failure: Failure, key: &ObjectKey) -> ArchiveError {
    let is_refused = matches!(
        failure.code.as_deref(),
        Some("NoSuchKey" | "NoSuchVersion" | "NoSuchBucket")
    );
    if !is_refused && matches!(failure.status, Some(400 | 404 | 405 | 409 | 501)) {
        return ArchiveError::new(
            ArchiveErrorKind::NotOffered,
            format!(
                "the store offers no legal hold for {key} ({failure}); use a bucket with object lock"
            ),
        );
    }
    failure.into_error(format_args!("the legal hold of {key}"))
}
