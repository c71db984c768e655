//! Reads what others than a source's vendor tell of its calls: imported rows, `cdr/1` lines, party
//! directories, ids to look for. The same for every kind of source.
//!
//! What a newcomer gets wrong: these words never outweigh the vendor's. They add what it does not tell, and a
//! recording is expected by them only where the vendor has said nothing of the call.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::call::{CallFacts, Direction, Party};
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::WorkClass;
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, DirectoryEntry, Reading, placeholder};
use crate::providers::cdr::{facts, message};
use crate::providers::contract::Provider;

/// Topics of our own. No vendor can push to them: theirs are letters and digits.
pub mod topic {
    /// A row of a table: [`super::Row`].
    pub const CALL: &str = "callvault.call";
    /// A `cdr/1` message.
    pub const CDR: &str = "callvault.cdr";
    /// An entry of a party directory.
    pub const PARTY: &str = "callvault.party";
    /// A call whose recordings are wanted, found by backfill: [`super::Row`].
    pub const WANTED: &str = "callvault.wanted";
}

/// Facts of one call as a foreign system told them, in one spelling whatever file they came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    pub provider_call_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parties: Vec<Party>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub correlation_ids: Vec<String>,
    /// Columns that have no meaning of their own here.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub custom: Map<String, Value>,
}

/// A header of our own; no vendor's is kept under this name.
const CLASS: &str = "callvault-class";

/// What a notice found by backfill announces waits behind what is live.
pub fn marked_backfill(mut notice: Notice) -> Notice {
    notice
        .headers
        .push((CLASS.to_owned(), "backfill".to_owned()));
    notice
}

pub fn is_backfill(notice: &Notice) -> bool {
    notice.headers.iter().any(|(name, _)| name == CLASS)
}

/// The facts of a notice under one of our own topics; `None`: it is the vendor's, its adapter reads it.
pub fn read(notice: &Notice, provider: &dyn Provider) -> Option<Result<Reading, String>> {
    match notice.topic.as_str() {
        topic::CALL => Some(row(notice, provider, None)),
        topic::WANTED => Some(row(notice, provider, Some(WorkClass::Backfill))),
        topic::CDR => Some(cdr(notice, provider)),
        topic::PARTY => Some(party(notice)),
        _ => None,
    }
}

fn row(
    notice: &Notice,
    provider: &dyn Provider,
    class: Option<WorkClass>,
) -> Result<Reading, String> {
    let row: Row = serde_json::from_slice(&notice.body).map_err(|error| error.to_string())?;
    if row.provider_call_id.is_empty() {
        return Err("no provider_call_id".to_owned());
    }
    let number = |role: &str| {
        let party = row
            .parties
            .iter()
            .find(|party| party.role.as_deref() == Some(role))?;
        party.number.clone()
    };
    let call = CallFacts {
        started_at: row.started_at,
        answered_at: row.answered_at,
        ended_at: row.ended_at,
        duration_ms: row.duration_ms,
        direction: row.direction,
        caller: number("caller"),
        callee: number("callee"),
        recorded: row.recorded,
        correlation_ids: row.correlation_ids,
        custom: row.custom,
        parties: row.parties,
        ..CallFacts::new(row.provider_call_id)
    };
    Ok(Reading {
        recordings: expected(&call, provider, class),
        calls: vec![call],
        ..Reading::default()
    })
}

/// The recordings to look for: by the vendor's own rule where its calls' ids are enough, else one without a
/// name, which a question for the call's recordings fills.
pub fn expected(
    call: &CallFacts,
    provider: &dyn Provider,
    class: Option<WorkClass>,
) -> Vec<Announced> {
    if call.recorded == Some(false) {
        return Vec::new();
    }
    let mut expected = provider.expected(call);
    if expected.is_empty() && provider.capabilities().asks() {
        expected.push(Announced {
            provider_call_id: call.provider_call_id.clone(),
            aliases: vec![placeholder(&call.provider_call_id)],
            ..Announced::default()
        });
    }
    for one in &mut expected {
        one.unless_told = call.recorded.is_none();
        one.class = class.or(one.class);
    }
    expected
}

/// A message about a call of this source, told by another system.
fn cdr(notice: &Notice, provider: &dyn Provider) -> Result<Reading, String> {
    if provider.capabilities().speaks_cdr {
        return provider.read(notice);
    }
    let told = message::parse(&notice.body, notice.arrived_at)?;
    Ok(about(&told, provider))
}

/// What a `cdr/1` message of another system says of a call of `provider`'s.
pub fn about(told: &message::Message, provider: &dyn Provider) -> Reading {
    if told.event == message::EventType::Unknown {
        return Reading {
            ignored: Some(format!(
                "event type {:?} is none we act on",
                told.event_text
            )),
            ..Reading::default()
        };
    }
    let call = facts::call(told, false, &[]);
    let named = facts::recordings(told, false);
    // Where the vendor is asked for recordings by the call's id, its own names for them are the right ones.
    let by_vendor = expected(&call, provider, None);
    let recordings = match (named.is_empty(), by_vendor.is_empty()) {
        (_, false) => by_vendor,
        _ => named,
    };
    Reading {
        calls: vec![call],
        recordings,
        ..Reading::default()
    }
}

fn party(notice: &Notice) -> Result<Reading, String> {
    let entry: DirectoryEntry =
        serde_json::from_slice(&notice.body).map_err(|error| error.to_string())?;
    if entry.id.is_empty() {
        return Err("no id".to_owned());
    }
    Ok(Reading {
        directory: vec![entry],
        ..Reading::default()
    })
}
