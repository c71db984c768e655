//! What a store promises to the pipeline, the jobs and the pages: create once, read back, list.
//!
//! What a newcomer gets wrong: an answer of "stored" proves nothing. Only [`Archive::read_back`] makes
//! an [`ArchiveProof`], and without a proof nothing may call a recording archived.

use std::error::Error;
use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use crate::domain::clock::Timestamp;
use crate::domain::digest::{Fingerprint, Hasher};
use crate::domain::keys::ObjectKey;
use crate::domain::proof::{ArchiveProof, Mismatch};
use crate::domain::retry::RetryAdvice;

/// Where the bytes of a new object come from.
#[derive(Debug, Clone)]
pub enum Source<'a> {
    File(&'a Path),
    Bytes(Bytes),
}

/// A put that ended well. It is a claim of the store, not yet a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The store's name for exactly these bytes, where it keeps versions.
    pub version_id: Option<String>,
}

/// What all bytes of an object came to, as the store gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    pub fingerprint: Fingerprint,
    /// Which version was read, where the store keeps versions.
    pub version_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Without the configured prefix.
    pub key: ObjectKey,
    pub bytes: u64,
}

/// A stretch of an object, both ends counted in bytes from 0 and both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    pub start: u64,
    pub end_inclusive: u64,
}

impl ByteRange {
    /// The same stretch cut at the end of an object of `total_bytes`; `None` when nothing is left.
    pub fn within(self, total_bytes: u64) -> Option<Self> {
        let end_inclusive = self.end_inclusive.min(total_bytes.checked_sub(1)?);
        (self.start <= end_inclusive).then_some(Self {
            start: self.start,
            end_inclusive,
        })
    }

    /// How many bytes it covers; 0 when the end lies before the start.
    pub fn bytes(self) -> u64 {
        self.end_inclusive
            .saturating_add(1)
            .saturating_sub(self.start)
    }
}

/// An object on its way out.
pub struct ObjectReader {
    /// Length of the whole object, also when only a range of it was asked for.
    pub total_bytes: u64,
    /// Ends in an error when the store delivers fewer bytes than it announced.
    pub body: BoxStream<'static, Result<Bytes, ArchiveError>>,
}

impl fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectReader")
            .field("total_bytes", &self.total_bytes)
            .finish_non_exhaustive()
    }
}

/// How bad a finding of the probe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Work goes on; a person should know.
    Warn,
    /// Nothing may be archived here.
    Refuse,
}

/// One thing about the store that a person should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFinding {
    /// Stable, for scripts and the runbook.
    pub code: &'static str,
    pub severity: Severity,
    pub what: String,
    pub what_to_do: String,
}

/// Something that a store can do or cannot, as it was just tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Ability {
    /// Stable, for scripts: `create_only`, `legal_hold` and so on.
    pub name: &'static str,
    pub has: bool,
    /// What follows from that for the archive.
    pub follows: &'static str,
}

/// Uploads in parts that nobody ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenUploads {
    /// Given up just now.
    pub given_up: u64,
    /// Younger than asked for, so perhaps still under way.
    pub left: u64,
}

/// A store of objects that are created once and never changed.
///
/// One suite (`tests/it/archive.rs`) holds every implementor to these promises.
#[async_trait]
pub trait Archive: Send + Sync + fmt::Debug {
    /// Names the store for people; holds no secret.
    fn describe(&self) -> String;

    /// The folder of this machine where the objects lie, if they do.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Creates, never overwrites.
    ///
    /// An object that is already there with the same fingerprint is success (it may be our own earlier
    /// put whose answer was lost); other content is [`ArchiveErrorKind::Conflict`]. Bytes that differ from
    /// `expected` are never published: [`ArchiveErrorKind::Mismatch`].
    async fn put(
        &self,
        key: &ObjectKey,
        source: Source<'_>,
        expected: &Fingerprint,
        mime: &str,
    ) -> Result<Stored, ArchiveError>;

    /// Reads all bytes from the store and compares them. The only way to a proof.
    async fn read_back(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
        expected: &Fingerprint,
    ) -> Result<ArchiveProof, ArchiveError>;

    /// Reads all bytes from the store and says what they are, for a check that names what it finds. Without a
    /// version the newest one is read.
    async fn measure(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
    ) -> Result<Measured, ArchiveError> {
        let mut reader = self.open(key, version, None).await?;
        let mut hasher = Hasher::new();
        while let Some(piece) = reader.body.next().await {
            hasher.update(&piece?);
        }
        Ok(Measured {
            fingerprint: hasher.finish(),
            version_id: None,
        })
    }

    /// Streams an object, or a range of it (cut at the object's end). A range that starts behind the end
    /// is an error of kind [`ArchiveErrorKind::Other`].
    async fn open(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
        range: Option<ByteRange>,
    ) -> Result<ObjectReader, ArchiveError>;

    /// `None` when there is no such object.
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, ArchiveError>;

    /// Objects whose key starts with `prefix`, in the byte order of their keys.
    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, ArchiveError>>;

    /// Looks at what the store can and cannot do. Trouble on the way is itself a finding.
    ///
    /// Writes constant content under `_callvault/probe-*`, once, and never deletes it.
    async fn probe(&self) -> Vec<ProbeFinding>;

    /// What the last [`Self::probe`] of this value found that the store can do.
    fn abilities(&self) -> Vec<Ability> {
        Vec::new()
    }

    /// Puts a legal hold on these very bytes, or lifts it: while it lies there nobody deletes them, whatever his
    /// rights and whatever the lock's end. Looked at afterwards, because a store may say yes and do nothing.
    ///
    /// [`ArchiveErrorKind::NotOffered`] where the store knows no holds.
    async fn set_hold(
        &self,
        key: &ObjectKey,
        _version: Option<&str>,
        _on: bool,
    ) -> Result<(), ArchiveError> {
        Err(ArchiveError::new(
            ArchiveErrorKind::NotOffered,
            format!(
                "{} offers no legal hold, so {key} cannot be held; use a bucket with object lock",
                self.describe()
            ),
        ))
    }

    /// Whether a legal hold lies on these bytes.
    async fn is_held(
        &self,
        _key: &ObjectKey,
        _version: Option<&str>,
    ) -> Result<bool, ArchiveError> {
        Ok(false)
    }

    /// Gives up uploads in parts that began before `before` and were not ended; the parts cost money.
    ///
    /// [`ArchiveErrorKind::NotOffered`] where the store cannot list them.
    async fn give_up_uploads(&self, _before: Timestamp) -> Result<OpenUploads, ArchiveError> {
        Ok(OpenUploads::default())
    }
}

/// What went wrong, in our words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveErrorKind {
    /// No such object.
    NotFound,
    /// Another object lies under this key. Nothing was changed.
    Conflict,
    /// The bytes are not the expected ones.
    Mismatch,
    /// No space, or over quota.
    Full,
    /// The store cannot be written to.
    ReadOnly,
    /// Credentials or rights do not suffice.
    Refused,
    /// The store does not answer, or answers that it cannot now.
    Unavailable,
    TimedOut,
    /// The store cannot do what was asked for, now or later.
    NotOffered,
    Other,
}

impl ArchiveErrorKind {
    /// A stable word for metrics, reasons and the runbook.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "archive_not_found",
            Self::Conflict => "archive_conflict",
            Self::Mismatch => "archive_mismatch",
            Self::Full => "archive_full",
            Self::ReadOnly => "archive_read_only",
            Self::Refused => "archive_refused",
            Self::Unavailable => "archive_unavailable",
            Self::TimedOut => "archive_timed_out",
            Self::NotOffered => "archive_not_offered",
            Self::Other => "archive_failed",
        }
    }

    /// About this one object; anything else may be over in a moment, or hold for all of them.
    pub fn is_of_the_object(self) -> bool {
        match self {
            Self::NotFound | Self::Conflict | Self::Mismatch | Self::NotOffered | Self::Other => {
                true
            }
            Self::Full | Self::ReadOnly | Self::Refused | Self::Unavailable | Self::TimedOut => {
                false
            }
        }
    }

    /// May be over in a moment: nothing is known about the object that was asked for.
    pub fn is_passing(self) -> bool {
        !self.is_of_the_object() && self != Self::Refused
    }

    fn usual_advice(self) -> RetryAdvice {
        match self {
            Self::NotFound | Self::Conflict | Self::Mismatch | Self::NotOffered | Self::Other => {
                RetryAdvice::Never
            }
            // Each of these ends when a person or the store mends it; the recording waits.
            Self::Full | Self::ReadOnly | Self::Refused | Self::Unavailable | Self::TimedOut => {
                RetryAdvice::Backoff
            }
        }
    }
}

/// A failed call to a store: what kind, when to try again, what was tried on what, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct ArchiveError {
    kind: ArchiveErrorKind,
    advice: RetryAdvice,
    context: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ArchiveError {
    /// `context` says what was tried on what, and for a person's errors what to do; no secrets.
    pub fn new(kind: ArchiveErrorKind, context: impl Into<String>) -> Self {
        Self {
            kind,
            advice: kind.usual_advice(),
            context: context.into(),
            source: None,
        }
    }

    #[must_use]
    pub fn with_advice(mut self, advice: RetryAdvice) -> Self {
        self.advice = advice;
        self
    }

    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The text with its causes, for a person.
    pub fn whole(&self) -> String {
        let mut text = self.to_string();
        let mut cause = Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    pub fn kind(&self) -> ArchiveErrorKind {
        self.kind
    }

    pub fn advice(&self) -> RetryAdvice {
        self.advice
    }
}

impl From<Mismatch> for ArchiveError {
    fn from(mismatch: Mismatch) -> Self {
        Self::new(ArchiveErrorKind::Mismatch, mismatch.to_string())
    }
}

/// Refuses keys that could leave the store's folder or that differ between a disk and a bucket.
///
/// Keys come from `domain::keys`, but also from rows and manifests, and those are foreign enough.
pub(in crate::archive) fn check_key(key: &ObjectKey) -> Result<(), ArchiveError> {
    let text = key.as_str();
    let sound = !text.is_empty()
        && text.len() <= 900
        && !text.contains('\\')
        && !text.chars().any(char::is_control)
        && text
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 255);
    if sound {
        return Ok(());
    }
    Err(ArchiveError::new(
        ArchiveErrorKind::Other,
        format!("the key {text:?} is not a name this archive can hold"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_leave_the_archive_are_refused() {
        for bad in [
            "",
            "/etc/passwd",
            "a/../b",
            "..",
            "../a",
            "a/..",
            "a//b",
            "a/",
            "./a",
            "a/./b",
            "a\\b",
            "a\0b",
            "a\nb",
        ] {
            assert!(check_key(&ObjectKey::stored(bad)).is_err(), "{bad:?}");
        }
        for good in [
            "a",
            "a/b.c",
            "_callvault/archive.json",
            "a/..b/c..",
            "a/b c/ü",
        ] {
            assert!(check_key(&ObjectKey::stored(good)).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_range_is_cut_at_the_end_of_the_object() {
        let range = |start, end_inclusive| ByteRange {
            start,
            end_inclusive,
        };
        assert_eq!(range(0, 99).within(10), Some(range(0, 9)));
        assert_eq!(range(3, 5).within(10), Some(range(3, 5)));
        assert_eq!(range(9, 9).within(10).map(ByteRange::bytes), Some(1));
        assert_eq!(range(10, 12).within(10), None);
        assert_eq!(range(5, 3).within(10), None);
        assert_eq!(range(0, 0).within(0), None);
        assert_eq!(
            range(0, u64::MAX).within(u64::MAX).map(ByteRange::bytes),
            Some(u64::MAX)
        );
    }
}
