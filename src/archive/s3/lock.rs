//! Object lock: asked for with each put, and looked after, because a store may take the headers and do nothing.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode};

use super::S3Archive;
use super::errors::Failure;
use crate::archive::contract::{ArchiveError, ArchiveErrorKind, Stored};
use crate::archive::settings::ObjectLock;
use crate::domain::keys::ObjectKey;
use crate::domain::retry::RetryAdvice;

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
pub(super) async fn ensure(
    archive: &S3Archive,
    key: &ObjectKey,
    stored: &Stored,
) -> Result<(), ArchiveError> {
    let (Some(mode), Some(until)) = lock_headers(archive) else {
        return Ok(());
    };
    if is_locked(archive, key, stored, &mode).await? {
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
        Ok(_) if is_locked(archive, key, stored, &mode).await? => return Ok(()),
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
    Ok(
        head.object_lock_retain_until_date.is_some()
            && head.object_lock_mode.as_ref() == Some(mode),
    )
}
