//! Why the spool did not take something.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::retry::RetryAdvice;

#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The limit of `[spool]`; room comes back as files in flight are archived.
    #[error(
        "the spool has no room for {asked_bytes} more bytes: {reserved_bytes} of {limit_bytes} are taken \
         ([spool] limit)"
    )]
    Full {
        reserved_bytes: u64,
        asked_bytes: u64,
        limit_bytes: u64,
    },
    #[error("{what} {path}: no space left on the disk; free some or move [spool] path", path = path.display())]
    DiskFull {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{what} {path}: this user may not write there; give it the folder or move [spool] path", path = path.display())]
    ReadOnly {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{what} {path}", path = path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("an entry for the journal cannot be written as JSON")]
    Entry(#[source] serde_json::Error),
    #[error("the journal refuses an entry of {bytes} bytes, its limit is {limit_bytes}")]
    EntryTooLong { bytes: u64, limit_bytes: u64 },
    /// The process is ending.
    #[error("the spool has stopped")]
    Stopped,
}

impl SpoolError {
    pub(super) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { what, path, source }
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { what, path, source }
            }
            _ => Self::Io { what, path, source },
        }
    }

    /// A stable word for reasons, metrics and the runbook.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } | Self::DiskFull { .. } => "spool_full",
            Self::ReadOnly { .. } => "spool_read_only",
            Self::Io { .. } | Self::Stopped => "spool_failed",
            Self::Entry(_) | Self::EntryTooLong { .. } => "journal_refused",
        }
    }

    pub fn advice(&self) -> RetryAdvice {
        match self {
            Self::Entry(_) | Self::EntryTooLong { .. } => RetryAdvice::Never,
            _ => RetryAdvice::Backoff,
        }
    }
}
