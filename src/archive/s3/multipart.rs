//! Objects above 64 MiB go up in parts, read from the file as they are sent.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::errors::Failure;
use super::lock::lock_headers;
use super::put::{Body, Sums};
use super::{Conditional, S3Archive, real_version};
use crate::archive::contract::{ArchiveError, Stored};
use crate::domain::keys::ObjectKey;

const PART_BYTES: u64 = 16 << 20;
/// S3 takes 10,000 parts.
const MOST_PARTS: u64 = 10_000;
const PARTS_AT_ONCE: usize = 3;

/// 16 MiB, and more for objects that would not fit into 10,000 parts of that.
pub(super) fn part_bytes(object_bytes: u64) -> u64 {
    PART_BYTES.max(object_bytes.div_ceil(MOST_PARTS))
}

/// An upload in parts that has begun. Dropping it tells the store to forget the parts, also when the
/// future was cancelled; what a killed process leaves is removed by the next put of the same key.
struct OpenUpload {
    client: Client,
    bucket: String,
    full_key: String,
    id: String,
    ended: bool,
}

impl Drop for OpenUpload {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let abort = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.full_key)
            .upload_id(&self.id);
        let full_key = self.full_key.clone();
        runtime.spawn(async move {
            if let Err(e) = abort.send().await {
                let why = Failure::of(e);
                tracing::warn!(key = %full_key, %why, "an unfinished upload could not be given up");
            }
        });
    }
}

/// One try. The outer error is ours (a local file that cannot be read), the inner one the store's.
pub(super) async fn put(
    archive: &S3Archive,
    key: &ObjectKey,
    body: &Body,
    parts: &[Sums],
    mime: &str,
) -> Result<Result<Stored, Failure>, ArchiveError> {
    let full_key = archive.full_key(key)?;
    forget_leftovers(archive, &full_key).await;
    let (lock_mode, lock_until) = lock_headers(archive);
    let begun = archive
        .client
        .create_multipart_upload()
        .bucket(&archive.bucket)
        .key(&full_key)
        .content_type(mime)
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .set_object_lock_mode(lock_mode)
        .set_object_lock_retain_until_date(lock_until)
        .send()
        .await;
    let id = match begun {
        Ok(begun) => begun.upload_id.unwrap_or_default(),
        Err(e) => return Ok(Err(Failure::of(e))),
    };
    let mut upload = OpenUpload {
        client: archive.client.clone(),
        bucket: archive.bucket.clone(),
        full_key,
        id,
        ended: false,
    };
    fail::fail_point!("mpu_orig.created");
    let sent: Result<Vec<CompletedPart>, PartFailure> = stream::iter((1..).zip(parts.to_vec()))
        .map(|(number, sums)| put_part(archive, &upload, number, body, sums))
        .buffered(PARTS_AT_ONCE)
        .try_collect()
        .await;
    let completed = match sent {
        Ok(completed) => completed,
        Err(PartFailure::Store(failure)) => return Ok(Err(failure)),
        Err(PartFailure::Local(error)) => return Err(error),
    };
    let ended = complete(archive, &upload, completed).await;
    // A completion in doubt may still be under way: aborting it could end a good one half-way, and
    // `look` decides what became of it.
    upload.ended = match &ended {
        Ok(_) => true,
        Err(failure) => failure.status.is_none(),
    };
    Ok(ended)
}

enum PartFailure {
    Store(Failure),
    Local(ArchiveError),
}

async fn put_part(
    archive: &S3Archive,
    upload: &OpenUpload,
    number: i32,
    body: &Body,
    sums: Sums,
) -> Result<CompletedPart, PartFailure> {
    fail::fail_point!("mpu_orig.part");
    let patience =
        aws_sdk_s3::config::Config::builder().timeout_config(archive.patience.timeouts(sums.bytes));
    let answer = archive
        .client
        .upload_part()
        .bucket(&upload.bucket)
        .key(&upload.full_key)
        .upload_id(&upload.id)
        .part_number(number)
        .content_length(i64::try_from(sums.bytes).unwrap_or(i64::MAX))
        .checksum_sha256(sums.sha256_header())
        .set_content_md5(sums.md5_header())
        .body(body.stretch(&sums).await.map_err(PartFailure::Local)?)
        .customize()
        .config_override(patience)
        .send()
        .await
        .map_err(|e| PartFailure::Store(Failure::of(e)))?;
    Ok(CompletedPart::builder()
        .part_number(number)
        .set_e_tag(answer.e_tag)
        .checksum_sha256(sums.sha256_header())
        .build())
}

/// The answer's ETag is worth nothing (Ceph RGW 16 sends an empty one), so nobody reads it.
async fn complete(
    archive: &S3Archive,
    upload: &OpenUpload,
    parts: Vec<CompletedPart>,
) -> Result<Stored, Failure> {
    let if_none_match = (archive.conditional() != Conditional::Rejected).then(|| "*".to_owned());
    // The store joins the parts before it answers, which takes its time.
    let patience =
        aws_sdk_s3::config::Config::builder().timeout_config(archive.patience.timeouts(PART_BYTES));
    let answer = archive
        .client
        .complete_multipart_upload()
        .bucket(&upload.bucket)
        .key(&upload.full_key)
        .upload_id(&upload.id)
        .set_if_none_match(if_none_match)
        .multipart_upload(
            CompletedMultipartUpload::builder()
                .set_parts(Some(parts))
                .build(),
        )
        .customize()
        .config_override(patience)
        .send()
        .await
        .map_err(Failure::of)?;
    fail::fail_point!("mpu_orig.complete_lost");
    Ok(Stored {
        version_id: real_version(answer.version_id),
    })
}

/// Gives up earlier uploads of the same key: a process that was killed left them, or a worker that has
/// lost its lease still sends, and then it finds the object that we put.
///
/// Best effort: not every store can list uploads (s3s-fs answers 501).
async fn forget_leftovers(archive: &S3Archive, full_key: &str) {
    let listed = archive
        .client
        .list_multipart_uploads()
        .bucket(&archive.bucket)
        .prefix(full_key)
        .send()
        .await;
    let uploads = listed.map(|page| page.uploads.unwrap_or_default());
    for leftover in uploads.unwrap_or_default() {
        if leftover.key.as_deref() != Some(full_key) {
            continue;
        }
        let _ = archive
            .client
            .abort_multipart_upload()
            .bucket(&archive.bucket)
            .key(full_key)
            .set_upload_id(leftover.upload_id)
            .send()
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_needs_more_parts_than_a_store_takes() {
        assert_eq!(part_bytes(65 << 20), PART_BYTES);
        for bytes in [1_u64 << 40, 5 << 40] {
            assert!(bytes.div_ceil(part_bytes(bytes)) <= MOST_PARTS);
        }
    }
}
