//! Recordings as the pipeline knows them: rows in domain types, and the values it hands back.

use serde_json::Value;
use uuid::Uuid;

use crate::domain::call::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::{Clocks, WorkClass};
use crate::domain::digest::{Fingerprint, Sha256};
use crate::domain::keys::{Folder, ObjectKey};
use crate::domain::reading::Link;
use crate::domain::recording::{Part, Role, State};

/// The right to work on one recording. Every write names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub recording_id: Uuid,
    /// One more at each claim: an older token writes nothing.
    pub token: i64,
}

/// A claimed recording with all that was known of it at that moment.
#[derive(Clone, Debug)]
pub struct Leased {
    pub lease: Lease,
    pub loaded: Loaded,
}

/// A recording with everything that stands around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub row: RecordingRow,
    /// By role and number.
    pub objects: Vec<ObjectRow>,
    /// The names under which the source announces it, sorted.
    pub aliases: Vec<String>,
    /// SHA-256 of the notices that announced it, in order of arrival.
    pub notices: Vec<Sha256>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecordingRow {
    pub recording_id: Uuid,
    pub call_id: Uuid,
    pub source: String,
    pub kind: String,
    /// With the legs.
    pub call: CallFacts,
    pub call_arrived_at: Timestamp,
    pub provider_recording_id: Option<String>,
    pub part: Part,
    pub handle: Value,
    pub link: Option<Link>,
    /// A dead address can be asked for again.
    pub link_renewable: bool,
    pub clocks: Clocks,
    pub arrived_at: Timestamp,
    pub deadline_at: Timestamp,
    /// When the vendor confirmed that the file exists.
    pub confirmed_at: Option<Timestamp>,
    pub archived_at: Option<Timestamp>,
    pub state: State,
    pub reason: Option<String>,
    /// Verdicts on the bytes.
    pub attempts: u32,
    /// Leases that ran out before it was archived.
    pub lapses: u32,
    pub not_ready_tries: u32,
    /// Failures in a row of provider, storage, database or disk: for the backoff.
    pub failures: u32,
    pub work_class: Option<WorkClass>,
    pub access_due: bool,
    pub access_tries: u32,
    /// Leases that ran out in the transcode phase.
    pub access_lapses: u32,
    /// A fact changed after the newest manifest was written.
    pub manifest_due: bool,
    /// It was short, and the second look is due.
    pub recheck_due: bool,
    /// Fixed when first staged.
    pub folder: Option<Folder>,
    pub notes: Vec<String>,
    /// Rises with every change of a fact; a manifest names the version it was made from.
    pub facts_version: i64,
    /// The older recording that this one turned out to be.
    pub same_as: Option<Uuid>,
    /// When its sound began, by the vendor's stamp.
    pub began_at: Option<Timestamp>,
    /// The vendor's id of the one person whose voice it is.
    pub party: Option<String>,
    /// How often a look at the call's joint access copy was asked for, and up to which of them it was had.
    pub pair_wanted: i64,
    pub pair_done: i64,
}

/// A stored object; without `verified_at` only planned, or put and not read back.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectRow {
    pub object_id: Uuid,
    pub role: Role,
    pub n: u32,
    pub key: ObjectKey,
    pub bytes: u64,
    pub sha256: Sha256,
    pub mime: String,
    pub version_id: Option<String>,
    pub codec: Option<String>,
    pub sample_rate_hz: Option<u32>,
    pub channels: Option<u16>,
    pub duration_ms: Option<i64>,
    pub created_at: Timestamp,
    pub verified_at: Option<Timestamp>,
    pub made_from: Option<Sha256>,
    pub tool: Option<String>,
    pub settings: Option<Value>,
}

impl ObjectRow {
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            sha256: self.sha256,
            bytes: self.bytes,
        }
    }
}

/// An object about to be put.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// Manifests name their own row; all others get an id with their row.
    pub object_id: Option<Uuid>,
    pub role: Role,
    /// Ignored for originals, which are numbered in the order they are staged.
    pub n: u32,
    pub key: ObjectKey,
    pub bytes: u64,
    pub sha256: Sha256,
    pub mime: String,
    pub made_from: Option<Sha256>,
    pub tool: Option<String>,
    pub settings: Option<Value>,
    pub created_at: Timestamp,
    /// For manifests: `RecordingRow::facts_version` of the load it was made from. Without it the
    /// version at the time of the insert counts.
    pub facts_version: Option<i64>,
}

impl NewObject {
    /// An empty one to be filled with `..`.
    pub fn default_at(now: Timestamp) -> Self {
        Self {
            object_id: None,
            role: Role::Original,
            n: 1,
            key: ObjectKey::stored(""),
            bytes: 0,
            sha256: Sha256::of(b""),
            mime: String::new(),
            made_from: None,
            tool: None,
            settings: None,
            created_at: now,
            facts_version: None,
        }
    }
}

/// What decoding found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFacts {
    pub codec: String,
    pub sample_rate_hz: u32,
    pub channels: u16,
    pub duration_ms: i64,
    /// What was measured in an original, for its `settings` under this name; the rest of them stays.
    pub analysis: Option<serde_json::Value>,
}

/// Which work a process takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classes {
    /// What is not archived yet.
    Archive,
    /// Access copies and later manifests.
    AccessOnly,
    All,
}

/// What a try counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// A verdict on the bytes: these alone lead to quarantine.
    Attempt,
    /// The vendor has not made the file yet.
    NotReady,
    /// Somebody was away.
    Failure,
    Nothing,
}

/// The end of a lease, and what happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    Retry {
        at: Timestamp,
        reason: String,
        count: Count,
    },
    /// A person decides; tried again at `retry_at` all the same.
    Quarantine {
        reason: String,
        retry_at: Timestamp,
    },
    Absent {
        reason: String,
    },
    Lost {
        reason: String,
        evidence: String,
    },
    /// Nothing more to do now. An archived recording keeps what is due; any other is free again.
    Done,
    /// The access copy exists, or a note says why it never will.
    AccessDone,
    AccessGaveUp {
        reason: String,
    },
    AccessLater {
        at: Timestamp,
        reason: String,
        /// A fault of the decoder, not of somebody who was away.
        counts: bool,
    },
}
