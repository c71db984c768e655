//! Putting an object so that it is created once, whatever happens to the answer.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::ChecksumMode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use md5::Digest as _;

use super::errors::Failure;
use super::lock::{self, lock_headers};
use super::{Conditional, S3Archive, SINGLE_PUT_BYTES, multipart, real_version};
use crate::archive::contract::{ArchiveError, ArchiveErrorKind, Source, Stored};
use crate::domain::digest::{Fingerprint, Hasher, Sha256};
use crate::domain::keys::ObjectKey;

/// Times that a put is sent anew after a refusal that left the key empty (each with the SDK's own retries).
const ROUNDS: u32 = 3;
/// The wait before a second round: 409 means that another write of the same key has not ended.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(200);

/// What a put sends; can be sent any number of times.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Bytes(Bytes),
    File(PathBuf),
}

/// The hashes that go along with a stretch of bytes as headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    sha256: Sha256,
    /// A put under a lock asks for it (AWS, "Object Lock considerations"), a store that looks at no SHA-256 looks at
    /// this (Ceph RGW 16), and a part that an earlier try left is known by it.
    md5: [u8; 16],
}

impl Sums {
    pub(super) fn sha256_header(&self) -> String {
        BASE64_STANDARD.encode(self.sha256.as_bytes())
    }

    /// As an ETag of a part shows it, without quotation marks.
    pub(super) fn md5_hex(&self) -> String {
        self.md5.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn md5_header(&self) -> String {
        BASE64_STANDARD.encode(self.md5)
    }
}

impl Body {
    /// A stream of one stretch; from a file it is read as it is sent, so memory does not grow with it.
    pub(super) async fn stretch(&self, sums: &Sums) -> Result<ByteStream, ArchiveError> {
        match self {
            Self::Bytes(bytes) => {
                // `measure` cut the stretches out of these very bytes.
                let start = usize::try_from(sums.offset).unwrap_or(usize::MAX);
                let length = usize::try_from(sums.bytes).unwrap_or(usize::MAX);
                let end = start.saturating_add(length).min(bytes.len());
                Ok(ByteStream::from(bytes.slice(start.min(end)..end)))
            }
            Self::File(path) => ByteStream::read_from()
                .path(path)
                .offset(sums.offset)
                .length(Length::Exact(sums.bytes))
                .build()
                .await
                .map_err(|e| local_error(path, io::Error::other(e))),
        }
    }

    /// Hashes everything once, as a whole and by stretch, and holds the whole against `expected`.
    ///
    /// A wrong local file must not take a key that can never be written again.
    async fn measure(
        &self,
        expected: &Fingerprint,
        stretch_bytes: u64,
    ) -> Result<Vec<Sums>, ArchiveError> {
        let (body, expected) = (self.clone(), *expected);
        let work = move || match &body {
            Self::Bytes(bytes) => measured(&mut &bytes[..], &expected, stretch_bytes),
            Self::File(path) => File::open(path)
                .map_err(|e| local_error(path, e))
                .and_then(|mut file| measured(&mut file, &expected, stretch_bytes)),
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
            Err(ArchiveError::new(ArchiveErrorKind::Other, "hashing broke off").with_source(e))
        })
    }
}

fn measured(
    source: &mut dyn Read,
    expected: &Fingerprint,
    stretch_bytes: u64,
) -> Result<Vec<Sums>, ArchiveError> {
    let mut whole = Hasher::new();
    let mut sums: Vec<Sums> = Vec::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let (mut part, mut md5) = (Hasher::new(), md5::Md5::new());
        let offset = whole.bytes();
        while part.bytes() < stretch_bytes {
            let room = (stretch_bytes - part.bytes()).min(chunk.len() as u64);
            let room = usize::try_from(room).unwrap_or(chunk.len());
            match source.read(&mut chunk[..room]) {
                Ok(0) => break,
                Ok(n) => {
                    whole.update(&chunk[..n]);
                    part.update(&chunk[..n]);
                    md5.update(&chunk[..n]);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(local_error(Path::new("to archive"), e)),
            }
        }
        let part = part.finish();
        // An object without bytes still has one stretch; otherwise an empty one is the end.
        if part.bytes > 0 || sums.is_empty() {
            sums.push(Sums {
                offset,
                bytes: part.bytes,
                sha256: part.sha256,
                md5: md5.finalize().into(),
            });
        }
        if part.bytes < stretch_bytes {
            break;
        }
    }
    let found = whole.finish();
    if found != *expected {
        return Err(ArchiveError::new(
            ArchiveErrorKind::Mismatch,
            format!(
                "the local bytes are {} with sha256 {}, expected {} with {}",
                found.bytes, found.sha256, expected.bytes, expected.sha256
            ),
        ));
    }
    Ok(sums)
}

fn local_error(path: &Path, e: io::Error) -> ArchiveError {
    let what = format!("reading the local file {}", path.display());
    ArchiveError::new(ArchiveErrorKind::Other, what).with_source(e)
}

/// See [`crate::archive::contract::Archive::put`].
pub(super) async fn put(
    archive: &S3Archive,
    key: &ObjectKey,
    source: Source<'_>,
    expected: &Fingerprint,
    mime: &str,
) -> Result<Stored, ArchiveError> {
    let (stored, is_new) = put_or_find(archive, key, source, expected, mime).await?;
    lock::ensure(archive, key, &stored, is_new).await?;
    Ok(stored)
}

/// What lies under the key, and whether this call put it there for certain.
async fn put_or_find(
    archive: &S3Archive,
    key: &ObjectKey,
    source: Source<'_>,
    expected: &Fingerprint,
    mime: &str,
) -> Result<(Stored, bool), ArchiveError> {
    let body = match source {
        Source::Bytes(bytes) => Body::Bytes(bytes),
        Source::File(path) => Body::File(path.to_path_buf()),
    };
    let in_parts = expected.bytes > SINGLE_PUT_BYTES;
    let stretch = if in_parts {
        multipart::part_bytes(expected.bytes)
    } else {
        // One more than the whole, so that a longer file is still one stretch and a mismatch.
        expected.bytes + 1
    };
    let sums = body.measure(expected, stretch).await?;
    // Looking first is all the protection there is where the header has no effect; and it saves a long
    // upload that was done before.
    let look_first = in_parts || archive.conditional() != Conditional::Honoured;
    if look_first && let Some(stored) = look(archive, key, expected).await? {
        return Ok((stored, false));
    }
    let mut rounds_left = ROUNDS;
    loop {
        rounds_left -= 1;
        let sent = match &sums[..] {
            [only] if !in_parts => put_once(archive, key, &body, only, mime).await?,
            parts => multipart::put(archive, key, &body, parts, mime).await?,
        };
        let failure = match sent {
            Ok(stored) => return Ok((stored, true)),
            Err(failure) => failure,
        };
        let may_repeat = rounds_left > 0;
        if may_repeat
            && failure.is_not_implemented()
            && archive.conditional() == Conditional::Unknown
        {
            // The store knows no conditional put: the key was looked at above, so go without.
            archive.set_conditional(Conditional::Rejected);
            continue;
        }
        if !failure.leaves_doubt() {
            return Err(failure.into_error(format_args!("putting {key}")));
        }
        match look(archive, key, expected).await {
            Ok(Some(stored)) => return Ok((stored, false)),
            Ok(None) if may_repeat && failure.asks_for_another_round() => {
                tokio::time::sleep(BETWEEN_ROUNDS).await;
            }
            Err(e) if e.kind() == ArchiveErrorKind::Conflict => return Err(e),
            // Still empty, or the look failed as well: the put's own failure says more.
            Ok(None) | Err(_) => return Err(unsettled(failure, key)),
        }
    }
}

/// The key is empty, or could not be looked at: whatever the store answered, trying again later is right.
fn unsettled(failure: Failure, key: &ObjectKey) -> ArchiveError {
    let was_taken = failure.is_taken();
    let error = failure.into_error(format_args!("putting {key}"));
    if was_taken {
        return ArchiveError::new(
            ArchiveErrorKind::Unavailable,
            format!("{error}, yet nothing lies under that key"),
        );
    }
    error
}

async fn put_once(
    archive: &S3Archive,
    key: &ObjectKey,
    body: &Body,
    sums: &Sums,
    mime: &str,
) -> Result<Result<Stored, Failure>, ArchiveError> {
    let full_key = archive.full_key(key)?;
    let (lock_mode, lock_until) = lock_headers(archive);
    let if_none_match = (archive.conditional() != Conditional::Rejected).then(|| "*".to_owned());
    let patience =
        aws_sdk_s3::config::Config::builder().timeout_config(archive.patience.timeouts(sums.bytes));
    let answer = archive
        .client
        .put_object()
        .bucket(&archive.bucket)
        .key(full_key)
        .set_if_none_match(if_none_match)
        .content_type(mime)
        .content_length(i64::try_from(sums.bytes).unwrap_or(i64::MAX))
        .checksum_sha256(sums.sha256_header())
        .content_md5(sums.md5_header())
        .set_object_lock_mode(lock_mode)
        .set_object_lock_retain_until_date(lock_until)
        .body(body.stretch(sums).await?)
        .customize()
        .config_override(patience)
        .send()
        .await
        .map_err(Failure::of);
    Ok(answer.map(|answer| Stored {
        version_id: real_version(answer.version_id),
    }))
}

/// Whether the expected object lies under the key: `None` when nothing does, an error of kind Conflict when
/// something else does.
///
/// The store's own SHA-256 is believed here, because `read_back` follows; without one (a store that keeps
/// none, or the composite sum of an upload in parts) the object is read.
pub(super) async fn look(
    archive: &S3Archive,
    key: &ObjectKey,
    expected: &Fingerprint,
) -> Result<Option<Stored>, ArchiveError> {
    let answer = archive
        .client
        .head_object()
        .bucket(&archive.bucket)
        .key(archive.full_key(key)?)
        .checksum_mode(ChecksumMode::Enabled)
        .send()
        .await
        .map_err(Failure::of);
    let head = match answer {
        Ok(head) => head,
        Err(failure) if failure.is_missing() => return Ok(None),
        Err(failure) => return Err(failure.into_error(format_args!("looking at {key}"))),
    };
    let version_id = real_version(head.version_id);
    let bytes = head.content_length.and_then(|n| u64::try_from(n).ok());
    let is_same = if bytes.is_some_and(|bytes| bytes != expected.bytes) {
        false
    } else {
        match head.checksum_sha256.as_deref().and_then(sha256_of_header) {
            Some(sha256) => sha256 == expected.sha256,
            None => archive.fingerprint(key, version_id.as_deref()).await?.0 == *expected,
        }
    };
    if is_same {
        return Ok(Some(Stored { version_id }));
    }
    Err(ArchiveError::new(
        ArchiveErrorKind::Conflict,
        format!("{key} is taken by another object; nothing is overwritten"),
    ))
}

/// A composite checksum ends in "-" and the number of parts, and is no hash of the whole.
fn sha256_of_header(text: &str) -> Option<Sha256> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    Some(Sha256::from_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_measured_in_stretches_and_as_a_whole() {
        let bytes = vec![7_u8; 1000];
        let expected = Fingerprint::of(&bytes);
        let lengths = |stretch| {
            let sums = measured(&mut &bytes[..], &expected, stretch).unwrap();
            sums.iter().map(|s| (s.offset, s.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(lengths(1001), [(0, 1000)]);
        assert_eq!(lengths(1000), [(0, 1000)]);
        assert_eq!(lengths(400), [(0, 400), (400, 400), (800, 200)]);
        let nothing = measured(&mut &b""[..], &Fingerprint::of(b""), 1).unwrap();
        assert_eq!((nothing.len(), nothing[0].bytes), (1, 0));
    }

    #[test]
    fn other_local_bytes_are_not_sent() {
        let error = measured(&mut &b"abd"[..], &Fingerprint::of(b"abc"), 4).unwrap_err();
        assert_eq!(error.kind(), ArchiveErrorKind::Mismatch);
    }

    #[test]
    fn a_composite_checksum_is_not_taken_for_a_hash() {
        let whole = BASE64_STANDARD.encode([9; 32]);
        assert_eq!(sha256_of_header(&whole), Some(Sha256::from_bytes([9; 32])));
        assert_eq!(sha256_of_header(&format!("{whole}-3")), None);
        assert_eq!(sha256_of_header(""), None);
    }
}
