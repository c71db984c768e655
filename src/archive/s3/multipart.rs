//! Objects above 64 MiB go up in parts, read from the file as they are sent.
//!
//! What a newcomer gets wrong: a process that was killed leaves its upload open. The next put of the object goes on
//! with it, and takes a part for sent only where the store's own hash of it is the one we made of the file.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::errors::Failure;
use super::lock::lock_headers;
use super::put::{Body, Sums};
use super::{Conditional, S3Archive, real_version};
use crate::archive::contract::{ArchiveError, ArchiveErrorKind, OpenUploads, Stored};
use crate::domain::clock::Timestamp;
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
/// future was cancelled; what a killed process leaves the next put of the same key goes on with.
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
    let (id, there) = match left_open(archive, &full_key, parts).await {
        Some((id, there)) => {
            tracing::info!(key = %key, parts = there.len(), of = parts.len(), "an upload that broke off goes on");
            (id, there)
        }
        None => match begin(archive, &full_key, mime).await {
            Ok(id) => (id, BTreeMap::new()),
            Err(failure) => return Ok(Err(failure)),
        },
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
        .map(|(number, sums)| {
            let there = there.get(&number).cloned();
            let upload = &upload;
            async move {
                match there {
                    Some(part) => Ok(part),
                    None => put_part(archive, upload, number, body, sums).await,
                }
            }
        })
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
        .content_md5(sums.md5_header())
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

async fn begin(archive: &S3Archive, full_key: &str, mime: &str) -> Result<String, Failure> {
    let (lock_mode, lock_until) = lock_headers(archive);
    let begun = archive
        .client
        .create_multipart_upload()
        .bucket(&archive.bucket)
        .key(full_key)
        .content_type(mime)
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .set_object_lock_mode(lock_mode)
        .set_object_lock_retain_until_date(lock_until)
        .send()
        .await
        .map_err(Failure::of)?;
    Ok(begun.upload_id.unwrap_or_default())
}

/// An upload of the same key that somebody began and did not end, with those of its parts that are what the file
/// has there. The others are given up, and one without such parts as well.
///
/// A worker that has lost its lease may still send to it: the same bytes, and whoever completes second finds
/// the object. Best effort: not every store can list uploads (s3s-fs answers 501).
async fn left_open(
    archive: &S3Archive,
    full_key: &str,
    parts: &[Sums],
) -> Option<(String, BTreeMap<i32, CompletedPart>)> {
    let mut best: Option<(String, BTreeMap<i32, CompletedPart>)> = None;
    for upload in open_uploads(archive, full_key).await.ok()? {
        if upload.full_key != full_key {
            continue;
        }
        let there = parts_of(archive, &upload, parts).await.unwrap_or_default();
        let most = best.as_ref().map_or(0, |(_, there)| there.len());
        let worse = if there.len() > most {
            best.replace((upload.id, there)).map(|(id, _)| id)
        } else {
            Some(upload.id)
        };
        if let Some(id) = worse {
            let _ = abort(archive, full_key, &id).await;
        }
    }
    best
}

/// Which parts of an upload have the length and the hash of the file's.
async fn parts_of(
    archive: &S3Archive,
    upload: &Leftover,
    parts: &[Sums],
) -> Result<BTreeMap<i32, CompletedPart>, Failure> {
    let mut there = BTreeMap::new();
    let mut pages = archive
        .client
        .list_parts()
        .bucket(&archive.bucket)
        .key(&upload.full_key)
        .upload_id(&upload.id)
        .into_paginator()
        .send();
    while let Some(page) = pages.next().await {
        for part in page.map_err(Failure::of)?.parts.unwrap_or_default() {
            let number = part.part_number.unwrap_or_default();
            let index = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
            let Some(sums) = index.and_then(|index| parts.get(index)) else {
                // Cut otherwise: nothing of it fits.
                return Ok(BTreeMap::new());
            };
            let e_tag = part.e_tag.as_deref().unwrap_or_default().trim_matches('"');
            let is_same = match part
                .checksum_sha256
                .as_deref()
                .filter(|sum| !sum.is_empty())
            {
                Some(sum) => sum == sums.sha256_header(),
                None => e_tag.eq_ignore_ascii_case(&sums.md5_hex()),
            };
            if is_same && part.size.and_then(|n| u64::try_from(n).ok()) == Some(sums.bytes) {
                let part = CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(part.e_tag)
                    .checksum_sha256(sums.sha256_header())
                    .build();
                there.insert(number, part);
            }
        }
    }
    Ok(there)
}

/// An upload that was begun and not ended.
struct Leftover {
    full_key: String,
    id: String,
    begun_at: Option<Timestamp>,
}

/// All open uploads whose key starts with `prefix`.
async fn open_uploads(archive: &S3Archive, prefix: &str) -> Result<Vec<Leftover>, Failure> {
    let mut found = Vec::new();
    let (mut key_marker, mut id_marker) = (None, None);
    loop {
        let page = archive
            .client
            .list_multipart_uploads()
            .bucket(&archive.bucket)
            .prefix(prefix)
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker)
            .send()
            .await
            .map_err(Failure::of)?;
        for upload in page.uploads.unwrap_or_default() {
            let begun_at = upload.initiated.and_then(|at| at.to_millis().ok());
            if let (Some(full_key), Some(id)) = (upload.key, upload.upload_id) {
                found.push(Leftover {
                    full_key,
                    id,
                    begun_at: begun_at.map(Timestamp::from_ms),
                });
            }
        }
        let next = (page.next_key_marker, page.next_upload_id_marker);
        if page.is_truncated != Some(true) || next.0.is_none() {
            return Ok(found);
        }
        (key_marker, id_marker) = next;
    }
}

async fn abort(archive: &S3Archive, full_key: &str, id: &str) -> Result<(), Failure> {
    archive
        .client
        .abort_multipart_upload()
        .bucket(&archive.bucket)
        .key(full_key)
        .upload_id(id)
        .send()
        .await
        .map(|_| ())
        .map_err(Failure::of)
}

/// Whether the store tells of open uploads at all, for the probe.
pub(in crate::archive) async fn are_listed(archive: &S3Archive) -> bool {
    let prefix = archive.probe_key(&ObjectKey::probe("uploads"));
    open_uploads(archive, &prefix).await.is_ok()
}

/// See [`crate::archive::contract::Archive::give_up_uploads`].
pub(super) async fn give_up(
    archive: &S3Archive,
    before: Timestamp,
) -> Result<OpenUploads, ArchiveError> {
    let open = open_uploads(archive, &archive.prefix).await;
    let open = open.map_err(|failure| match failure.is_not_implemented() {
        true => ArchiveError::new(
            ArchiveErrorKind::NotOffered,
            "the store does not tell of open uploads; set a lifecycle rule that aborts them",
        ),
        false => failure.into_error("listing open uploads"),
    })?;
    let mut report = OpenUploads::default();
    for upload in open {
        if upload.begun_at.is_none_or(|at| at >= before) {
            report.left += 1;
            continue;
        }
        match abort(archive, &upload.full_key, &upload.id).await {
            Ok(()) => report.given_up += 1,
            // Ended meanwhile by somebody else.
            Err(failure) if failure.is_missing() => {}
            Err(failure) => {
                return Err(
                    failure.into_error(format_args!("giving up an upload of {}", upload.full_key))
                );
            }
        }
    }
    Ok(report)
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
