//! The states of a recording, and every way from one to another.
//!
//! `transition` is one `match` without a wildcard; its whole table is pinned by a test.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Known, its original not yet in the archive.
    Pending,
    /// The original's key and hash are in the row; bytes may be on their way to the archive.
    Staged,
    /// Original and first manifest were read back from the archive and are what they must be.
    Archived,
    /// Retention is over; the sweep may remove it.
    Expired,
    /// Removed from the archive.
    Purged,
    /// Never made by the vendor.
    Absent,
    /// Existed, and we were too late. Only with evidence.
    Lost,
    /// A person decides.
    Quarantined,
}

impl State {
    pub const ALL: [State; 8] = [
        State::Pending,
        State::Staged,
        State::Archived,
        State::Expired,
        State::Purged,
        State::Absent,
        State::Lost,
        State::Quarantined,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Staged => "staged",
            State::Archived => "archived",
            State::Expired => "expired",
            State::Purged => "purged",
            State::Absent => "absent",
            State::Lost => "lost",
            State::Quarantined => "quarantined",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can happen to a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The bytes are in the spool, their hash and key are about to be written to the row.
    Stage,
    /// Original and manifest were read back: an `ArchiveProof` exists for both.
    Publish,
    /// The vendor will not give it, and never confirmed that it exists.
    NeverMade,
    /// The vendor will not give it any more, and had confirmed that it existed.
    GoneAtProvider,
    /// Verdicts on the bytes ran out of tries.
    Quarantine,
    /// A person, or the daily try of a quarantined recording, starts again.
    Retry,
    /// A new sign of life from the vendor: an announcement after it was given up.
    Announced,
}

impl Event {
    pub const ALL: [Event; 7] = [
        Event::Stage,
        Event::Publish,
        Event::NeverMade,
        Event::GoneAtProvider,
        Event::Quarantine,
        Event::Retry,
        Event::Announced,
    ];
}

/// The state after `event`, or `None` when the event cannot happen in `state`.
pub const fn transition(state: State, event: Event) -> Option<State> {
    use Event as E;
    use State as S;
    match (state, event) {
        (S::Pending | S::Staged | S::Quarantined, E::Stage) => Some(S::Staged),
        (S::Archived | S::Expired | S::Purged | S::Absent | S::Lost, E::Stage) => None,

        (S::Staged, E::Publish) => Some(S::Archived),
        (
            S::Pending
            | S::Archived
            | S::Expired
            | S::Purged
            | S::Absent
            | S::Lost
            | S::Quarantined,
            E::Publish,
        ) => None,

        (S::Pending | S::Quarantined, E::NeverMade) => Some(S::Absent),
        (S::Staged | S::Archived | S::Expired | S::Purged | S::Absent | S::Lost, E::NeverMade) => {
            None
        }

        (S::Pending | S::Staged | S::Quarantined, E::GoneAtProvider) => Some(S::Lost),
        (S::Archived | S::Expired | S::Purged | S::Absent | S::Lost, E::GoneAtProvider) => None,

        (S::Pending | S::Staged, E::Quarantine) => Some(S::Quarantined),
        (S::Quarantined, E::Quarantine) => Some(S::Quarantined),
        (S::Archived | S::Expired | S::Purged | S::Absent | S::Lost, E::Quarantine) => None,

        (S::Pending, E::Retry) => Some(S::Pending),
        (S::Staged, E::Retry) => Some(S::Staged),
        (S::Quarantined | S::Absent | S::Lost, E::Retry) => Some(S::Pending),
        (S::Archived | S::Expired | S::Purged, E::Retry) => None,

        (S::Absent | S::Lost, E::Announced) => Some(S::Pending),
        (S::Pending, E::Announced) => Some(S::Pending),
        (S::Staged, E::Announced) => Some(S::Staged),
        (S::Archived, E::Announced) => Some(S::Archived),
        (S::Expired, E::Announced) => Some(S::Expired),
        (S::Purged, E::Announced) => Some(S::Purged),
        (S::Quarantined, E::Announced) => Some(S::Quarantined),
    }
}

/// Which part of the conversation a recording holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Mixed,
    Caller,
    Callee,
    Party,
    #[default]
    Unknown,
}

impl Part {
    pub const fn as_str(self) -> &'static str {
        match self {
            Part::Mixed => "mixed",
            Part::Caller => "caller",
            Part::Callee => "callee",
            Part::Party => "party",
            Part::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Self {
        [Self::Mixed, Self::Caller, Self::Callee, Self::Party]
            .into_iter()
            .find(|part| part.as_str() == text)
            .unwrap_or_default()
    }
}

/// The stored object's part in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
// An account's role is a schema by that name already.
#[schema(as = ObjectRole)]
pub enum Role {
    Original,
    Access,
    Waveform,
    Manifest,
    /// Two parties' recordings of a call in one stereo file: the call's own access copy, in the call's folder.
    CallAccess,
    /// An object of a recording that turned out to be this one after both were archived; it stays in the
    /// folder in which it was made.
    Duplicate,
}

impl Role {
    pub const ALL: [Role; 6] = [
        Role::Original,
        Role::Access,
        Role::Waveform,
        Role::Manifest,
        Role::CallAccess,
        Role::Duplicate,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Original => "original",
            Role::Access => "access",
            Role::Waveform => "waveform",
            Role::Manifest => "manifest",
            Role::CallAccess => "call_access",
            Role::Duplicate => "duplicate",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// Stable codes that say why a recording is where it is: in rows, pages, metrics and the runbook.
pub mod reason {
    /// The vendor has not made the file yet.
    pub const NOT_READY: &str = "not_ready";
    /// The address that came with the notice has no file yet; the vendor is asked next.
    pub const LINK_NOT_READY: &str = "link_not_ready";
    /// The file should be there by the vendor's own rules, and does not come.
    pub const PROVIDER_STUCK: &str = "provider_stuck";
    /// The CDR came, its recording's announcement did not, and the vendor cannot be asked.
    pub const RECORDING_NOT_ANNOUNCED: &str = "recording_not_announced";
    /// The address points to a host outside `allow_hosts`.
    pub const HOST_NOT_ALLOWED: &str = "host_not_allowed";
    /// The address is a loopback, private, link-local or metadata address.
    pub const ADDRESS_FORBIDDEN: &str = "address_forbidden";
    /// The address died; a new one is asked for.
    pub const LINK_EXPIRED: &str = "link_expired";
    /// The vendor said to slow down.
    pub const THROTTLED: &str = "throttled";
    /// The vendor refused our credentials.
    pub const CREDENTIALS_REFUSED: &str = "credentials_refused";
    /// The vendor did not answer, or not as it should.
    pub const PROVIDER_UNREACHABLE: &str = "provider_unreachable";
    /// Fewer bytes came than were announced.
    pub const TRUNCATED: &str = "truncated";
    /// The body is a page or an error document, not a recording.
    pub const NOT_A_RECORDING: &str = "not_a_recording";
    /// The body had no bytes.
    pub const EMPTY_BODY: &str = "empty_body";
    /// The body is larger than `max_recording` allows.
    pub const TOO_LARGE: &str = "too_large";
    /// The archive did not take or give the object.
    pub const ARCHIVE_UNAVAILABLE: &str = "archive_unavailable";
    /// Another object lies at the key, or what was read back differs.
    pub const ARCHIVE_CONFLICT: &str = "archive_conflict";
    /// The database did not take a step.
    pub const DATABASE_UNAVAILABLE: &str = "database_unavailable";
    /// No room in the spool.
    pub const SPOOL_FULL: &str = "spool_full";
    /// The vendor says that the file is gone.
    pub const GONE: &str = "gone";
    /// The vendor's time to keep it is over.
    pub const EXPIRED_AT_PROVIDER: &str = "expired_at_provider";
    /// The vendor stayed "not ready" beyond `ready_deadline` and nobody had talked.
    pub const NEVER_MADE: &str = "never_made";
    /// The source is not in the configuration any more.
    pub const SOURCE_UNCONFIGURED: &str = "source_unconfigured";
    /// A second look at a recording that was shorter than announced.
    pub const SHORT: &str = "short";
    /// The decoder child died over the file, or gave no answer.
    pub const DECODER_FAILED: &str = "decoder_failed";
    /// No decoder child can be started.
    pub const DECODER_UNAVAILABLE: &str = "decoder_unavailable";
    /// In the history: the vendor's copy was deleted after ours was verified.
    pub const DELETED_AT_PROVIDER: &str = "deleted_at_provider";
    /// The decoder gave up on the file.
    pub const TRANSCODE_GAVE_UP: &str = "transcode_gave_up";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_of_states_and_events() {
        let mut table = String::new();
        for state in State::ALL {
            for event in Event::ALL {
                let after = transition(state, event).map_or("-", State::as_str);
                table.push_str(&format!("{state} + {event:?} = {after}\n"));
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn only_a_publish_makes_archived() {
        for state in State::ALL {
            for event in Event::ALL {
                if transition(state, event) == Some(State::Archived) {
                    assert!(event == Event::Publish || state == State::Archived);
                }
            }
        }
    }

    #[test]
    fn what_is_archived_never_becomes_lost_or_absent() {
        for event in Event::ALL {
            let after = transition(State::Archived, event);
            assert!(matches!(after, None | Some(State::Archived)));
        }
    }
}
