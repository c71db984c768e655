//! The archive in an S3-compatible bucket.
//!
//! What a newcomer gets wrong: a refusal is no proof that nothing was written, and 200 none that the right
//! thing was. 412 may be our own earlier write, 409 may mean that nothing was stored, a lost answer may
//! be either: the key is looked at, then decided (`s3/put.rs`).

mod abilities;
mod client;
mod errors;
mod lock;
pub(super) mod multipart;
mod put;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

pub use self::client::Patience;
use self::client::StoreClock;
pub(super) use self::errors::{Failure, chain};
pub(super) use self::lock::lock_headers;
use super::contract::{
    Ability, Archive, ArchiveError, ArchiveErrorKind, ByteRange, Measured, ObjectInfo,
    ObjectReader, OpenUploads, ProbeFinding, Source, Stored, check_key,
};
use super::disk::{exactly, range_error};
use super::probe;
use super::settings::{ObjectLock, Settings};
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::digest::{Fingerprint, Hasher};
use crate::domain::keys::ObjectKey;
use crate::domain::proof::ArchiveProof;

/// Larger objects go up in parts.
const SINGLE_PUT_BYTES: u64 = 64 << 20;

#[derive(Debug)]
pub struct S3Archive {
    pub(super) client: Client,
    /// Without credentials: shows what anybody may do with the bucket.
    pub(super) public: Client,
    pub(super) bucket: String,
    prefix: String,
    endpoint: Option<String>,
    pub(super) lock: ObjectLock,
    lock_for: Option<std::time::Duration>,
    pub(super) store_clock: StoreClock,
    patience: Patience,
    conditional: AtomicU8,
    learned: Mutex<Vec<Ability>>,
}

/// Whether the store honours `If-None-Match: *` on a put; the probe finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Conditional {
    /// Not known yet: the header is sent, and the key is looked at first all the same.
    Unknown,
    Honoured,
    /// Accepted without effect: looking first is what is left; the database keeps keys unique.
    Ignored,
    /// Answered with 501: not sent any more.
    Rejected,
}

impl S3Archive {
    /// Prepares a client; sends nothing but what the credential chain may ask for.
    pub async fn open(settings: &Settings, clock: SharedClock) -> Result<Self, ArchiveError> {
        Self::open_with(settings, clock, Patience::default()).await
    }

    pub async fn open_with(
        settings: &Settings,
        clock: SharedClock,
        patience: Patience,
    ) -> Result<Self, ArchiveError> {
        settings
            .validate()
            .map_err(|what| ArchiveError::new(ArchiveErrorKind::Other, what))?;
        let store_clock = StoreClock::new(clock);
        let (client, public) = client::connect(settings, &patience, &store_clock).await;
        Ok(Self {
            client,
            public,
            bucket: settings.bucket.clone().unwrap_or_default(),
            prefix: settings.prefix.clone().unwrap_or_default(),
            endpoint: settings.endpoint.clone(),
            lock: settings.object_lock,
            lock_for: settings.lock_for.map(|span| span.duration()),
            store_clock,
            patience,
            conditional: AtomicU8::new(Conditional::Unknown as u8),
            learned: Mutex::default(),
        })
    }

    pub(super) fn conditional(&self) -> Conditional {
        match self.conditional.load(Ordering::Relaxed) {
            1 => Conditional::Honoured,
            2 => Conditional::Ignored,
            3 => Conditional::Rejected,
            _ => Conditional::Unknown,
        }
    }

    pub(super) fn set_conditional(&self, found: Conditional) {
        self.conditional.store(found as u8, Ordering::Relaxed);
    }

    /// Written down by the probe; what is asked again is replaced.
    pub(super) fn learn(&self, name: &'static str, has: bool) {
        let mut learned = self.learned.lock().unwrap_or_else(|e| e.into_inner());
        learned.retain(|known| known.name != name);
        learned.extend(abilities::ability(name, has));
    }

    /// The key as the bucket knows it.
    pub(super) fn full_key(&self, key: &ObjectKey) -> Result<String, ArchiveError> {
        check_key(key)?;
        let full = format!("{}{key}", self.prefix);
        // S3 limits keys to 1,024 bytes.
        if full.len() > 1024 {
            return Err(ArchiveError::new(
                ArchiveErrorKind::Other,
                format!("the key {full} is longer than a bucket allows"),
            ));
        }
        Ok(full)
    }

    /// As [`Self::full_key`] for the probe's own keys, which are always sound.
    pub(super) fn probe_key(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
        range: Option<ByteRange>,
    ) -> Result<GetObjectOutput, ArchiveError> {
        self.client
            .get_object()
            .bucket(&self.bucket)
            .key(self.full_key(key)?)
            .set_version_id(version.map(str::to_owned))
            .set_range(range.map(|r| format!("bytes={}-{}", r.start, r.end_inclusive)))
            .send()
            .await
            .map_err(|e| Failure::of(e).into_error(format_args!("reading {key}")))
    }

    /// Reads the whole object and hashes it; a read that breaks off is tried once more.
    pub(super) async fn fingerprint(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
    ) -> Result<(Fingerprint, Option<String>), ArchiveError> {
        match self.fingerprint_once(key, version).await {
            Err(e)
                if matches!(
                    e.kind(),
                    ArchiveErrorKind::Unavailable | ArchiveErrorKind::TimedOut
                ) =>
            {
                self.fingerprint_once(key, version).await
            }
            other => other,
        }
    }

    async fn fingerprint_once(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
    ) -> Result<(Fingerprint, Option<String>), ArchiveError> {
        let answer = self.get(key, version, None).await?;
        let announced = announced_length(key, answer.content_length)?;
        let mut body = pieces(key, announced, answer.body);
        let mut hasher = Hasher::new();
        while let Some(piece) = body.next().await {
            hasher.update(&piece?);
        }
        Ok((hasher.finish(), real_version(answer.version_id)))
    }
}

/// Stores without versions say "null" or nothing.
pub(super) fn real_version(version: Option<String>) -> Option<String> {
    version.filter(|version| !version.is_empty() && version != "null")
}

fn announced_length(key: &ObjectKey, length: Option<i64>) -> Result<u64, ArchiveError> {
    length
        .and_then(|length| u64::try_from(length).ok())
        .ok_or_else(|| {
            ArchiveError::new(
                ArchiveErrorKind::Unavailable,
                format!("the store announced no length for {key}"),
            )
        })
}

fn pieces(
    key: &ObjectKey,
    wanted: u64,
    body: ByteStream,
) -> BoxStream<'static, Result<bytes::Bytes, ArchiveError>> {
    let key = key.clone();
    let body = stream::unfold(Some(body), move |body| {
        let key = key.clone();
        async move {
            let mut body = body?;
            match body.next().await? {
                Ok(piece) => Some((Ok(piece), Some(body))),
                Err(e) => {
                    let text = errors::chain(&e);
                    let kind = if text.contains("minimum throughput") {
                        ArchiveErrorKind::TimedOut
                    } else {
                        ArchiveErrorKind::Unavailable
                    };
                    let error = ArchiveError::new(kind, format!("reading {key} broke off: {text}"));
                    Some((Err(error), None))
                }
            }
        }
    });
    exactly(wanted, body.boxed())
}

/// The total in `Content-Range: bytes 0-9/100` (RFC 9110, section 14.4), when it answers `range`.
fn total_of_range(content_range: &str, range: ByteRange) -> Option<(u64, ByteRange)> {
    let (span, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = span.split_once('-')?;
    let total = total.trim().parse().ok()?;
    let served = ByteRange {
        start: start.trim().parse().ok()?,
        end_inclusive: end.trim().parse().ok()?,
    };
    (range.within(total)? == served).then_some((total, served))
}

#[async_trait]
impl Archive for S3Archive {
    fn describe(&self) -> String {
        let at = self.endpoint.as_deref().unwrap_or("AWS");
        // An address may carry a user's name and password.
        let at = at.rsplit_once('@').map_or(at, |(_, host)| host);
        format!("bucket {} at {at}, prefix {:?}", self.bucket, self.prefix)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        source: Source<'_>,
        expected: &Fingerprint,
        mime: &str,
    ) -> Result<Stored, ArchiveError> {
        put::put(self, key, source, expected, mime).await
    }

    async fn read_back(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
        expected: &Fingerprint,
    ) -> Result<ArchiveProof, ArchiveError> {
        let (found, answered) = self.fingerprint(key, version).await?;
        let version = version.map(str::to_owned).or(answered);
        Ok(ArchiveProof::compare(
            key.clone(),
            version,
            expected,
            found,
        )?)
    }

    async fn measure(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
    ) -> Result<Measured, ArchiveError> {
        let (fingerprint, version_id) = self.fingerprint(key, version).await?;
        Ok(Measured {
            fingerprint,
            version_id,
        })
    }

    async fn open(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
        range: Option<ByteRange>,
    ) -> Result<ObjectReader, ArchiveError> {
        let Some(range) = range else {
            let answer = self.get(key, version, None).await?;
            let total_bytes = announced_length(key, answer.content_length)?;
            return Ok(ObjectReader {
                total_bytes,
                body: pieces(key, total_bytes, answer.body),
            });
        };
        let answer = match self.get(key, version, Some(range)).await {
            Ok(answer) => answer,
            // 416 has no kind of its own; the length tells it from other refusals.
            Err(e) if e.kind() == ArchiveErrorKind::Other => {
                return match self.head(key).await? {
                    Some(info) if range.within(info.bytes).is_none() => {
                        Err(range_error(key, range, info.bytes))
                    }
                    _ => Err(e),
                };
            }
            Err(e) => return Err(e),
        };
        let served = answer.content_range.as_deref();
        let Some((total_bytes, served)) = served.and_then(|text| total_of_range(text, range))
        else {
            return Err(ArchiveError::new(
                ArchiveErrorKind::Other,
                format!(
                    "the store answered {:?} to bytes {}-{} of {key}",
                    served.unwrap_or("no range"),
                    range.start,
                    range.end_inclusive
                ),
            ));
        };
        Ok(ObjectReader {
            total_bytes,
            body: pieces(key, served.bytes(), answer.body),
        })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, ArchiveError> {
        let answer = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.full_key(key)?)
            .send()
            .await
            .map_err(Failure::of);
        match answer {
            Ok(answer) => Ok(Some(ObjectInfo {
                key: key.clone(),
                bytes: announced_length(key, answer.content_length)?,
            })),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure.into_error(format_args!("looking at {key}"))),
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, ArchiveError>> {
        let full = format!("{}{prefix}", self.prefix);
        let pages = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(&full)
            .into_paginator()
            .send();
        stream::unfold(Some(pages), move |pages| {
            let full = full.clone();
            async move {
                let mut pages = pages?;
                match pages.next().await? {
                    Ok(page) => {
                        let objects = page.contents.unwrap_or_default();
                        let infos: Vec<_> = objects
                            .into_iter()
                            .filter_map(|object| {
                                let key = object.key?;
                                let key = key.strip_prefix(&self.prefix)?;
                                Some(Ok(ObjectInfo {
                                    key: ObjectKey::stored(key),
                                    bytes: u64::try_from(object.size?).ok()?,
                                }))
                            })
                            .collect();
                        Some((stream::iter(infos), Some(pages)))
                    }
                    Err(e) => {
                        let error = Failure::of(e).into_error(format_args!("listing {full}"));
                        Some((stream::iter(vec![Err(error)]), None))
                    }
                }
            }
        })
        .flatten()
        .boxed()
    }

    async fn probe(&self) -> Vec<ProbeFinding> {
        probe::of_bucket(self).await
    }

    fn abilities(&self) -> Vec<Ability> {
        let learned = self.learned.lock().unwrap_or_else(|e| e.into_inner());
        learned.clone()
    }

    async fn set_hold(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
        on: bool,
    ) -> Result<(), ArchiveError> {
        lock::set_hold(self, key, version, on).await
    }

    async fn is_held(&self, key: &ObjectKey, version: Option<&str>) -> Result<bool, ArchiveError> {
        lock::is_held(self, key, version).await
    }

    async fn give_up_uploads(&self, before: Timestamp) -> Result<OpenUploads, ArchiveError> {
        multipart::give_up(self, before).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_range_that_was_asked_for_is_taken() {
        let range = |start, end_inclusive| ByteRange {
            start,
            end_inclusive,
        };
        let total = |text, r| total_of_range(text, r).map(|(total, _)| total);
        assert_eq!(total("bytes 0-9/100", range(0, 9)), Some(100));
        assert_eq!(total("bytes 90-99/100", range(90, 1000)), Some(100));
        for wrong in [
            "bytes 1-9/100",
            "bytes 0-8/100",
            "bytes 0-9/*",
            "0-9/100",
            "bytes */100",
            "",
        ] {
            assert_eq!(total(wrong, range(0, 9)), None, "{wrong:?}");
        }
    }
}
