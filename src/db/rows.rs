//! Rows of the tables as domain values.

use uuid::Uuid;

use crate::domain::call::{CallFacts, LegFacts};
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::{Clocks, WorkClass};
use crate::domain::digest::Sha256;
use crate::domain::keys::{Folder, ObjectKey};
use crate::domain::notice::{Door, Notice};
use crate::domain::reading::Link;
use crate::domain::recording::{Part, Role, State};

use super::error::DbError;
use super::recordings::{ObjectRow, RecordingRow};

pub(super) fn at(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(Timestamp::from_ms)
}

pub(super) fn ms(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::ms)
}

pub(super) fn sha256(bytes: &[u8]) -> Result<Sha256, DbError> {
    <[u8; 32]>::try_from(bytes)
        .map(Sha256::from_bytes)
        .map_err(|_| DbError::unknown("hash of length", bytes.len()))
}

pub(super) fn state(text: &str) -> Result<State, DbError> {
    State::parse(text).ok_or_else(|| DbError::unknown("state", text))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, DbError> {
    serde_json::from_str(text).map_err(|error| DbError::unknown("json", error))
}

/// Our own values always have a JSON form; were one without, nothing would be better than to lose the rest.
pub(super) fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

pub(super) fn small(n: i64) -> u32 {
    u32::try_from(n.max(0)).unwrap_or(u32::MAX)
}

pub(super) fn class(n: Option<i64>) -> Option<WorkClass> {
    match n {
        Some(2) => Some(WorkClass::Live),
        Some(3) => Some(WorkClass::Backfill),
        Some(4) => Some(WorkClass::Access),
        _ => None,
    }
}

pub(super) fn notice(row: entity::notice::Model) -> Result<Notice, DbError> {
    Ok(Notice {
        notice_id: row.notice_id,
        source: row.source,
        kind: row.kind,
        door: Door::parse(&row.door).ok_or_else(|| DbError::unknown("door", &row.door))?,
        topic: row.topic,
        method: row.method,
        query: row.query,
        headers: json(&row.headers)?,
        body: row.body,
        arrived_at: Timestamp::from_ms(row.arrived_at_ms),
        sha256: sha256(&row.sha256)?,
        dedup_key: row.dedup_key,
        unreadable: None,
    })
}

/// A call's facts with its legs, these by start and id.
pub(super) fn call_facts(facts: &str, legs: Vec<LegFacts>) -> Result<CallFacts, DbError> {
    let mut facts: CallFacts = json(facts)?;
    facts.legs = legs;
    facts.legs.sort_by(|a, b| {
        (a.started_at, &a.provider_leg_id).cmp(&(b.started_at, &b.provider_leg_id))
    });
    Ok(facts)
}

pub(super) fn clocks(row: &entity::recording::Model) -> Clocks {
    Clocks {
        ready_after: at(row.ready_after_ms),
        link_until: at(row.link_until_ms),
        gone_at: at(row.gone_at_ms),
    }
}

pub(super) fn recording(
    row: entity::recording::Model,
    call: CallFacts,
    call_arrived_at_ms: i64,
    now: Timestamp,
) -> Result<RecordingRow, DbError> {
    Ok(RecordingRow {
        clocks: clocks(&row),
        recording_id: row.recording_id,
        call_id: row.call_id,
        call,
        call_arrived_at: Timestamp::from_ms(call_arrived_at_ms),
        part: Part::parse(&row.part),
        handle: json(&row.handle)?,
        link: row.link_url.map(|url| Link {
            url,
            until: at(row.link_url_until_ms),
        }),
        link_renewable: row.link_renewable,
        arrived_at: Timestamp::from_ms(row.arrived_at_ms),
        deadline_at: Timestamp::from_ms(row.deadline_at_ms),
        confirmed_at: at(row.confirmed_at_ms),
        archived_at: at(row.archived_at_ms),
        state: state(&row.state)?,
        reason: row.reason,
        attempts: small(row.attempts),
        lapses: small(row.lapses),
        not_ready_tries: small(row.not_ready_tries),
        failures: small(row.failures),
        work_class: class(row.work_class),
        access_due: row.access_due,
        access_tries: small(row.access_tries),
        access_lapses: small(row.access_lapses),
        manifest_due: row.manifest_due,
        recheck_due: row.recheck_at_ms.is_some_and(|at| at <= now.ms()),
        folder: row.folder.map(Folder::stored),
        notes: json(&row.notes)?,
        facts_version: row.facts_version,
        same_as: row.same_as,
        began_at: at(row.began_at_ms),
        party: row.party,
        pair_wanted: row.pair_wanted,
        pair_done: row.pair_done,
        provider_recording_id: row.provider_recording_id,
        source: row.source,
        kind: row.kind,
    })
}

pub(super) fn object(row: entity::archive_object::Model) -> Result<(Uuid, ObjectRow), DbError> {
    let object = ObjectRow {
        object_id: row.object_id,
        role: Role::parse(&row.role).ok_or_else(|| DbError::unknown("role", &row.role))?,
        n: small(row.n),
        key: ObjectKey::stored(row.object_key),
        bytes: u64::try_from(row.size_bytes).unwrap_or(0),
        sha256: sha256(&row.sha256)?,
        mime: row.mime,
        version_id: row.version_id,
        codec: row.codec,
        sample_rate_hz: row.sample_rate_hz.map(small),
        channels: row.channels.and_then(|n| u16::try_from(n).ok()),
        duration_ms: row.duration_ms,
        created_at: Timestamp::from_ms(row.created_at_ms),
        verified_at: at(row.verified_at_ms),
        made_from: row.made_from.as_deref().map(sha256).transpose()?,
        tool: row.tool,
        settings: row.settings.as_deref().map(json).transpose()?,
    };
    Ok((row.recording_id, object))
}
