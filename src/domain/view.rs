//! What the command line and the API show: the JSON shapes of the contract, field by field, in its order.
//!
//! Pure data. The database room fills them in, `web` and `cli` only write them out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::call::{LegFacts, Party};
use super::clock::Timestamp;
use super::digest::Sha256;
use super::recording::{Part, Role};

/// The state of a line that stands for a call without any recording.
pub const STATE_NONE: &str = "none";

/// A recording, or (with `recording_id: null` and state `none`) a call without any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingView {
    pub recording_id: Option<Uuid>,
    pub call_id: Uuid,
    pub source: String,
    pub kind: String,
    pub provider_call_id: String,
    pub provider_recording_id: Option<String>,
    pub correlation_ids: Vec<String>,
    pub part: Part,
    /// A state of `domain::recording`, or [`STATE_NONE`].
    pub state: String,
    pub reason: Option<String>,
    pub attempts: u32,
    /// When work on it is due next; `null` when nothing is.
    pub next_try_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub duration_ms: Option<i64>,
    /// `inbound`, `outbound` or `internal`.
    pub direction: Option<String>,
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
    /// Where a list that continues after this line begins (`--after`, `after=`).
    pub cursor: String,
}

impl RecordingView {
    /// The access copy exists, or a note or reason says why it never will.
    pub fn access_is_explained(&self) -> bool {
        use super::media::note;
        let explains = |code: &str| {
            matches!(
                code,
                note::NO_AUDIO
                    | note::HE_AAC_UNSUPPORTED
                    | note::UNSUPPORTED_CODEC
                    | note::UNDECODABLE
                    | note::TRANSCODE_GAVE_UP
                    | note::ENCRYPTED
            )
        };
        self.access.is_some()
            || self.notes.iter().any(|code| explains(code))
            || self.reason.as_deref().is_some_and(explains)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OriginalView {
    pub key: String,
    pub bytes: u64,
    pub sha256: Sha256,
    pub mime: String,
    pub codec: Option<String>,
    pub sample_rate_hz: Option<u32>,
    pub channels: Option<u16>,
    pub duration_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessView {
    pub key: String,
    pub bytes: u64,
    pub sha256: Sha256,
    pub sample_rate_hz: Option<u32>,
    pub channels: Option<u16>,
    pub duration_ms: Option<i64>,
}

/// All that is known of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShowView {
    pub call: CallView,
    pub recordings: Vec<ShownRecording>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallView {
    pub call_id: Uuid,
    pub source: String,
    pub provider_call_id: String,
    pub correlation_ids: Vec<String>,
    pub started_at: Option<Timestamp>,
    pub answered_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub duration_ms: Option<i64>,
    pub direction: Option<String>,
    pub caller: Option<String>,
    pub callee: Option<String>,
    pub parties: Vec<Party>,
    pub custom: serde_json::Map<String, Value>,
    pub legs: Vec<LegFacts>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShownRecording {
    #[serde(flatten)]
    pub recording: RecordingView,
    pub objects: Vec<ObjectView>,
    pub history: Vec<HistoryView>,
    pub notices: Vec<NoticeView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectView {
    pub role: Role,
    pub n: u32,
    pub key: String,
    pub bytes: u64,
    pub sha256: Sha256,
    pub version_id: Option<String>,
    /// When it was last read back and was what it must be.
    pub verified_at: Option<Timestamp>,
    pub made_from: Option<Sha256>,
    pub tool: Option<String>,
    pub settings: Option<Value>,
    pub mime: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryView {
    pub at: Timestamp,
    /// `null` for the first line: the recording became known.
    pub from: Option<String>,
    pub to: String,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeView {
    pub notice_id: Uuid,
    pub arrived_at: Timestamp,
    pub door: String,
    pub topic: String,
    pub sha256: Sha256,
    /// `waiting`, `read`, `ignored` or `unreadable`.
    pub result: String,
}

/// Where a stored object is to be fetched from; not part of an output.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredObject {
    pub recording_id: Uuid,
    pub call_id: Uuid,
    pub source: String,
    pub state: String,
    pub role: Role,
    pub key: String,
    pub version_id: Option<String>,
    pub bytes: u64,
    pub sha256: Sha256,
    pub mime: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    pub now: Timestamp,
    pub version: String,
    pub queues: QueuesView,
    /// Arrival of the oldest notice that is not read or recording that is not archived.
    pub oldest_work_at: Option<Timestamp>,
    pub least_slack: Option<LeastSlack>,
    /// The database does not know the spool: the caller fills this in.
    pub spool: SpoolView,
    pub sources: Vec<SourceView>,
    pub alarms: Vec<AlarmView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuesView {
    pub notices: NoticesView,
    /// How many recordings are in each state; every state is named.
    pub recordings: BTreeMap<String, u64>,
    pub transcode_waiting: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticesView {
    pub waiting: u64,
    pub unreadable: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeastSlack {
    pub seconds: i64,
    pub recording_id: Uuid,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolView {
    pub used_bytes: u64,
    pub limit_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    pub source: String,
    pub kind: String,
    /// By door, `push queue poll import folder`; only doors that were used.
    pub doors: BTreeMap<String, DoorView>,
    pub archived: u64,
    /// Recordings that polling found and no other door had announced.
    pub found_by_sweep: u64,
    pub last_notice_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorView {
    pub notices: u64,
    pub repeated: u64,
    pub refused: u64,
}

/// Something a person should see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmView {
    pub code: String,
    pub source: Option<String>,
    pub count: u64,
    pub since: Option<Timestamp>,
    pub what: String,
    #[serde(rename = "do")]
    pub remedy: String,
}
