//! What people and scripts see: the JSON of CONTRACTS section 1, field by field, in its order.
//!
//! Pure data: the database fills it, the command line and the API print it. Fields may be added, none
//! is renamed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::call::{Direction, LegFacts, Party};
use super::clock::Timestamp;
use super::digest::Sha256;
use super::recording::{Part, Role};

/// A line of `search`, an item of the API. A call without any recording is such a line too, with
/// `recording_id: null` and state `none`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RecordingView {
    pub recording_id: Option<Uuid>,
    pub call_id: Uuid,
    pub source: String,
    pub kind: String,
    pub provider_call_id: String,
    pub provider_recording_id: Option<String>,
    pub correlation_ids: Vec<String>,
    pub part: Part,
    /// A state of `domain::recording::State`, or `none`.
    pub state: String,
    pub reason: Option<String>,
    pub attempts: u32,
    pub next_try_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub duration_ms: Option<i64>,
    pub direction: Option<Direction>,
    pub caller: Option<String>,
    pub callee: Option<String>,
    pub parties: Vec<Party>,
    pub arrived_at: Timestamp,
    pub ready_after: Option<Timestamp>,
    pub link_until: Option<Timestamp>,
    pub gone_at: Option<Timestamp>,
    pub archived_at: Option<Timestamp>,
    pub slack_s: Option<i64>,
    pub original: Option<OriginalView>,
    pub access: Option<AccessView>,
    pub notes: Vec<String>,
    /// Where the list goes on after this line.
    pub cursor: String,
}

impl RecordingView {
    /// The recording will never have an access copy, and says why.
    pub fn access_is_explained(&self) -> bool {
        use super::media::note;
        [
            note::NO_AUDIO,
            note::HE_AAC_UNSUPPORTED,
            note::UNSUPPORTED_CODEC,
            note::UNDECODABLE,
            note::TRANSCODE_GAVE_UP,
            note::ENCRYPTED,
        ]
        .iter()
        .any(|code| self.notes.iter().any(|note| note == code))
    }
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OriginalView {
    pub key: String,
    pub bytes: u64,
    pub sha256: Sha256,
    pub mime: String,
    /// Null until decoded, like the four below.
    pub codec: Option<String>,
    pub sample_rate_hz: Option<u32>,
    pub channels: Option<u16>,
    pub duration_ms: Option<i64>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AccessView {
    pub key: String,
    pub bytes: u64,
    pub sha256: Sha256,
    pub sample_rate_hz: Option<u32>,
    pub channels: Option<u16>,
    pub duration_ms: Option<i64>,
}

/// The answer of `show`: a call with all its recordings.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ShowView {
    pub call: CallView,
    /// Both parties' recordings in one stereo file, caller left, where the vendor gives each party its own.
    pub call_access: Option<AccessView>,
    pub recordings: Vec<RecordingDetail>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CallView {
    pub call_id: Uuid,
    pub source: String,
    pub provider_call_id: String,
    /// Other names by which the vendor knows the call; some are made of two of its ids.
    pub aliases: Vec<String>,
    pub correlation_ids: Vec<String>,
    pub started_at: Option<Timestamp>,
    pub answered_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub duration_ms: Option<i64>,
    pub direction: Option<Direction>,
    pub caller: Option<String>,
    pub callee: Option<String>,
    pub parties: Vec<Party>,
    pub custom: Value,
    pub legs: Vec<LegFacts>,
    pub hangup_cause: Option<String>,
    pub arrived_at: Timestamp,
    /// Notices that spoke of the call.
    pub notices: Vec<NoticeView>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RecordingDetail {
    #[serde(flatten)]
    pub recording: RecordingView,
    pub objects: Vec<ObjectView>,
    pub history: Vec<HistoryView>,
    pub notices: Vec<NoticeView>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ObjectView {
    pub role: Role,
    pub n: u32,
    pub key: String,
    pub bytes: u64,
    pub sha256: Sha256,
    pub mime: String,
    pub version_id: Option<String>,
    pub verified_at: Option<Timestamp>,
    pub made_from: Option<Sha256>,
    pub tool: Option<String>,
    pub settings: Option<Value>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HistoryView {
    pub at: Timestamp,
    pub from: Option<String>,
    pub to: String,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NoticeView {
    pub notice_id: Uuid,
    pub arrived_at: Timestamp,
    pub door: String,
    pub topic: String,
    pub sha256: Sha256,
    pub result: String,
    /// Why it was not read, or not wholly (`in part: ...`), or ignored.
    pub detail: Option<String>,
}

/// The answer of `status`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StatusView {
    pub now: Timestamp,
    pub version: String,
    pub queues: Queues,
    pub oldest_work_at: Option<Timestamp>,
    pub least_slack: Option<LeastSlack>,
    pub spool: SpoolView,
    pub sources: Vec<SourceStatus>,
    pub alarms: Vec<Alarm>,
}

#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Queues {
    pub notices: NoticeQueue,
    /// By state; every state is there, zero too.
    pub recordings: BTreeMap<String, u64>,
    pub transcode_waiting: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct NoticeQueue {
    pub waiting: u64,
    pub unreadable: u64,
    /// Read, but for elements that make no sense.
    pub unreadable_in_part: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LeastSlack {
    pub seconds: i64,
    pub recording_id: Uuid,
}

#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct SpoolView {
    pub used_bytes: u64,
    pub limit_bytes: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SourceStatus {
    pub source: String,
    pub kind: String,
    pub doors: BTreeMap<String, DoorCounts>,
    pub archived: u64,
    pub found_by_sweep: u64,
    pub last_notice_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct DoorCounts {
    pub notices: u64,
    pub repeated: u64,
    pub refused: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Alarm {
    pub code: String,
    pub source: Option<String>,
    pub count: u64,
    pub since: Option<Timestamp>,
    pub what: String,
    #[serde(rename = "do")]
    pub remedy: String,
}

/// How much of the archive was read lately. Part of the answer of `fixity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FixityCoverage {
    /// Objects that the index says are in the archive.
    pub objects: u64,
    pub bytes: u64,
    /// Of these, read and found right within the period.
    pub checked_objects: u64,
    pub checked_bytes: u64,
    /// When the object that waits longest was last read and found right.
    pub oldest_unchecked_at: Option<Timestamp>,
    pub oldest_unchecked_key: Option<String>,
    /// Objects that are known to be damaged.
    pub damaged: u64,
}

/// A stored object that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FixityFinding {
    pub code: String,
    pub source: String,
    pub recording_id: Uuid,
    pub role: String,
    pub key: String,
    pub what: String,
    pub since: Timestamp,
    pub checked_at: Timestamp,
}

/// A second of a recording that somebody marked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Marker {
    pub marker_id: Uuid,
    pub recording_id: Uuid,
    /// From the beginning of the sound.
    pub offset_ms: i64,
    pub text: String,
    /// Who made it, as the audit trail names people.
    pub author: String,
    pub made_at: Timestamp,
}

/// What somebody wrote about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeskNote {
    pub note_id: Uuid,
    pub call_id: Uuid,
    pub text: String,
    pub author: String,
    pub made_at: Timestamp,
}

/// A word that people put on calls, and on how many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TagView {
    pub tag: String,
    pub calls: u64,
}

/// A search that its owner keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SavedSearch {
    pub search_id: Uuid,
    pub name: String,
    /// As the search page's address has it behind `?`.
    pub query: String,
    pub made_at: Timestamp,
}

/// Notices that came within one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct HourCount {
    pub from: Timestamp,
    pub notices: u64,
}

/// Recordings that are not yet archived and that their provider deletes within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ExpiryBucket {
    /// Fewer hours than this are left, and at least as many as in the class before; null for all that is longer.
    pub below_hours: Option<i64>,
    /// False for those of which nobody knows an end.
    pub is_known: bool,
    pub recordings: u64,
}

/// Why recordings of a source wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WaitReason {
    pub source: String,
    pub reason: String,
    pub recordings: u64,
    /// When the first of them was told of.
    pub since: Option<Timestamp>,
}

/// The answer of `operations`: the status, and what stands behind it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OperationsView {
    pub status: StatusView,
    /// `ok` or `away`.
    pub parts: BTreeMap<String, String>,
    pub notices_by_hour: Vec<HourCount>,
    pub time_to_expiry: Vec<ExpiryBucket>,
    pub wait_reasons: Vec<WaitReason>,
    pub quarantined: Vec<RecordingView>,
    pub nearest_loss: Vec<RecordingView>,
}
