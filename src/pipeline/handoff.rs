//! The trays between the stages, and the verdict that a stage gives when it cannot hand on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::archive::contract::Archive;
use crate::db::Database;
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::digest::Fingerprint;
use crate::domain::keys::ObjectKey;
use crate::domain::media::AccessSettings;
use crate::domain::pieces::Pieces;
use crate::domain::recording::reason;
use crate::domain::retry::{LONGEST_WAIT, backoff};
use crate::pipeline::decoder::DecoderCrew;
use crate::providers::contract::{Address, LocalFile};
use crate::providers::http::{GuardedClient, WebAddress};
use crate::providers::sources::Sources;
use crate::spool::{Scratch, Spool};

/// What every stage may use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tools {
    pub db: Database,
    pub archive: Arc<dyn Archive>,
    pub spool: Spool,
    pub client: Arc<GuardedClient>,
    pub decoder: Arc<DecoderCrew>,
    pub sources: Sources,
    pub clock: SharedClock,
    pub access: AccessSettings,
}

/// Where a recording can be had at this moment.
#[derive(Clone, Debug)]
pub enum Place {
    Web(Address),
    Disk(LocalFile),
}

impl Place {
    pub fn expected_bytes(&self) -> Option<u64> {
        match self {
            Self::Web(address) => address.expected_bytes,
            Self::Disk(file) => file.expected_bytes,
        }
    }
}

/// The original in the spool: complete, flushed, hashed on the way.
#[derive(Debug)]
pub struct Fetched {
    pub scratch: Scratch,
    pub fingerprint: Fingerprint,
    pub plain_http: bool,
    /// The compression that the server put on the bytes although it was asked not to.
    pub packed: Option<String>,
    pub announced: Announced,
    /// Where it came from, after all redirects; `None` from a disk of this machine.
    pub at: Option<WebAddress>,
}

/// What the vendor said of the bytes beforehand.
#[derive(Clone, Debug, Default)]
pub struct Announced {
    pub bytes: Option<u64>,
    /// Any of these; empty: none was announced.
    pub md5: Vec<[u8; 16]>,
    /// In hex.
    pub sha256: Option<String>,
}

/// The original with what its bytes say of themselves.
#[derive(Debug)]
pub struct Inspected {
    pub scratch: Scratch,
    pub fingerprint: Fingerprint,
    pub ext: String,
    pub mime: String,
    /// Codes of `domain::media::note`.
    pub notes: Vec<String>,
    /// The other files of the recording, when what was fetched is a playlist.
    pub beside: Option<Beside>,
}

/// What a playlist named: the recording's sound, and whatever else was needed to find it.
#[derive(Debug)]
pub struct Beside {
    /// Each once, in the order they were fetched.
    pub files: Vec<BesideFile>,
    pub pieces: Pieces,
    /// The bytes of the fetched segments, one behind the other.
    pub joined: Scratch,
    /// The joined bytes are the sound as it plays: no segment twice, no stretches of files.
    pub plays: bool,
}

#[derive(Debug)]
pub struct BesideFile {
    pub held: Held,
    pub fingerprint: Fingerprint,
    pub ext: String,
    pub mime: String,
}

/// Where the bytes of a file beside a playlist are.
#[derive(Debug)]
pub enum Held {
    Bytes(Bytes),
    /// Offset in the joined scratch file; the fingerprint tells how many.
    Joined(u64),
}

/// An object that is about to be put: its row is written first.
#[derive(Clone, Debug)]
pub struct Planned {
    pub key: ObjectKey,
    pub fingerprint: Fingerprint,
    pub mime: String,
}

/// Why a stage could not hand on, and what follows from it for the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something other than the bytes: never counts towards quarantine.
    Later { reason: &'static str, wait: Wait },
    /// The vendor has not made it yet.
    NotReady { wait: Duration },
    /// A judgement on the bytes: counts towards quarantine.
    BadBytes {
        reason: &'static str,
        detail: String,
    },
    /// The vendor will not give it (any more).
    Gone {
        reason: &'static str,
        evidence: String,
    },
    /// A person has to look at once.
    Quarantine {
        reason: &'static str,
        detail: String,
    },
    /// Another worker holds the lease now; nothing more may be written.
    LeaseLost,
}

/// When to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Growing with the failures of this recording.
    Backoff,
    Exactly(Duration),
}

impl Verdict {
    pub fn later(reason: &'static str) -> Self {
        Verdict::Later {
            reason,
            wait: Wait::Backoff,
        }
    }

    pub fn later_after(reason: &'static str, wait: Duration) -> Self {
        Verdict::Later {
            reason,
            wait: Wait::Exactly(wait.min(LONGEST_WAIT)),
        }
    }
}

impl Wait {
    /// The moment of the next try; what dies before the full wait is over is tried at half of the
    /// time that is left, so that a long wait never sleeps past a deadline.
    pub fn until(self, failures: u32, now: Timestamp, deadline: Timestamp) -> Timestamp {
        let wait = match self {
            Wait::Backoff => backoff(failures, rand::random()),
            Wait::Exactly(wait) => wait,
        };
        capped(wait, now, deadline)
    }
}

/// `wait`, but at most half of the time left before `deadline` (not below five seconds).
pub fn capped(wait: Duration, now: Timestamp, deadline: Timestamp) -> Timestamp {
    let left = deadline.since_ms(now);
    let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    if left > 0 && wait >= left {
        now.plus_ms((left / 2).max(5_000).min(wait))
    } else {
        now.plus_ms(wait)
    }
}

impl From<crate::db::DbError> for Verdict {
    fn from(error: crate::db::DbError) -> Self {
        if error.is_lease_lost() {
            return Verdict::LeaseLost;
        }
        tracing::warn!(%error, "database did not take a step");
        Verdict::later(reason::DATABASE_UNAVAILABLE)
    }
}

impl From<crate::archive::contract::ArchiveError> for Verdict {
    fn from(error: crate::archive::contract::ArchiveError) -> Self {
        use crate::archive::contract::ArchiveErrorKind as K;
        tracing::warn!(code = error.kind().code(), %error, "archive did not take a step");
        match error.kind() {
            K::Conflict | K::Mismatch => Verdict::later(reason::ARCHIVE_CONFLICT),
            _ => Verdict::later(reason::ARCHIVE_UNAVAILABLE),
        }
    }
}

impl From<crate::spool::SpoolError> for Verdict {
    fn from(error: crate::spool::SpoolError) -> Self {
        tracing::warn!(%error, "spool did not take a step");
        Verdict::later(reason::SPOOL_FULL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_never_sleeps_past_the_deadline() {
        let now = Timestamp::from_ms(0);
        let hour = Duration::from_secs(3600);
        assert_eq!(
            capped(hour, now, Timestamp::from_ms(10_000_000)).ms(),
            3_600_000
        );
        assert_eq!(capped(hour, now, Timestamp::from_ms(600_000)).ms(), 300_000);
        assert_eq!(capped(hour, now, Timestamp::from_ms(4_000)).ms(), 5_000);
        assert_eq!(capped(hour, now, Timestamp::from_ms(-1)).ms(), 3_600_000);
        assert_eq!(
            capped(Duration::from_secs(1), now, Timestamp::from_ms(500)).ms(),
            1_000
        );
    }
}
