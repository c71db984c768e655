//! The facts of a stored notice: the customer's word, or our own news.

use serde_json::{Map, Value, json};

use crate::domain::call::{CallFacts, LegFacts};
use crate::domain::clock::Timestamp;
use crate::domain::digest::Hasher;
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Reading};
use crate::domain::recording::Part;
use crate::providers::contract::{Admission, Refusal};

use super::answer::{Entry, is_pin, record_id};
use super::loose;
use super::news;
use super::settings::Settings;

/// The longest name of a room that is taken.
const LONGEST_ROOM: usize = 200;
/// Members that have a place of their own.
const MODELLED: [&str; 10] = [
    "recordId",
    "conferenceKey",
    "startTime",
    "stopTime",
    "fileSize",
    "downUrl",
    "meeting",
    "meetingId",
    "seenAt",
    "alreadyOn",
];

/// The customer's application posts `{conferenceKey, recordId}`; anything else is not stored.
pub fn admit(body: &[u8]) -> Admission {
    let refused = Admission::Refuse(Refusal::Unusable);
    let Some((fields, _)) = loose::object(body) else {
        return refused;
    };
    let (Some(room), Some(id)) = (room(&fields), record_id(&fields)) else {
        return refused;
    };
    // PINs are secrets that nobody asked for: what holds one is not kept (vcrtc.md, section 7.15).
    if fields.keys().any(|name| is_pin(name)) {
        return refused;
    }
    let mut hasher = Hasher::new();
    for part in [
        room,
        id,
        loose::text(fields.get("event")).unwrap_or_default(),
    ] {
        hasher.update(part.as_bytes());
        hasher.update(b"\0");
    }
    Admission::Accept {
        dedup_key: hasher.finish().sha256.hex(),
        unreadable: None,
    }
}

fn room(fields: &Map<String, Value>) -> Option<String> {
    loose::text(fields.get("conferenceKey")).filter(|room| room.len() <= LONGEST_ROOM)
}

pub fn read(notice: &Notice, settings: &Settings) -> Result<Reading, String> {
    let (fields, _) = loose::object(&notice.body).ok_or("not a JSON object")?;
    let id = record_id(&fields).ok_or("no record id")?;
    let room = room(&fields).ok_or("no conferenceKey")?;
    let text = |name: &str| loose::text(fields.get(name));
    let mut call = CallFacts::new(id.as_str());
    call.callee = Some(room.clone());
    // The recording's id names its call too: a meeting has none of its own (vcrtc.md, section 8).
    call.aliases = vec![id.clone()];
    if let Some(first) = text("meeting") {
        call.aliases.push(first);
    }
    if let Some(meeting) = text("meetingId") {
        call.aliases.push(format!("meeting:{room}:{meeting}"));
    }
    call.recorded = Some(true);
    call.custom
        .insert("direction".to_owned(), "conference".into());
    for (name, value) in &fields {
        if !MODELLED.contains(&name.as_str()) && !is_pin(name) && !value.is_null() {
            call.custom.insert(name.clone(), value.clone());
        }
    }
    let mut handle = json!({ "conference_key": room });
    let mut announced = Announced {
        provider_recording_id: Some(id.clone()),
        aliases: vec![id.clone()],
        part: Part::Mixed,
        ..Announced::default()
    };
    match notice.topic.as_str() {
        "" => {
            handle["told"] = true.into();
            announced.ready_now = text("event").is_some_and(|event| event == "stopped");
        }
        news::OPENED => handle["opened"] = true.into(),
        news::WATCHED => {
            if loose::flag(fields.get("alreadyOn")) {
                handle["already_on"] = true.into();
            }
        }
        news::STOPPED => announced.ready_now = true,
        news::FAILED => {
            call.recorded = None;
            handle["failed"] = text("failedReason").unwrap_or_default().into();
            announced.ready_now = true;
        }
        news::ENTRY => {
            let entry = Entry::of(&Value::Object(fields.clone()), settings.time_zone)
                .ok_or("no entry of getRecords")?;
            let seen_at = fields.get("seenAt").and_then(Value::as_i64);
            entry_facts(&mut call, &entry, &room);
            announced.confirmed = entry.size.is_some_and(|size| size > 0);
            if let (Some(size), Some(at)) = (entry.size, seen_at) {
                handle["seen"] = json!({ size.to_string(): at });
            }
        }
        other => return Err(format!("no such topic: {other:?}")),
    }
    announced.handle = handle;
    announced
        .provider_call_id
        .clone_from(&call.provider_call_id);
    announced.call_aliases.clone_from(&call.aliases);
    call.aliases.dedup();
    Ok(Reading {
        calls: vec![call],
        recordings: vec![announced],
        ..Reading::default()
    })
}

/// Times and length; the room with the start is the call's name from now on (vcrtc.md, section 8).
fn entry_facts(call: &mut CallFacts, entry: &Entry, room: &str) {
    call.is_cdr = true;
    if let Some(start) = &entry.start_text {
        call.provider_call_id = format!("{room} {start}");
    }
    call.started_at = entry.started_at;
    call.ended_at = entry
        .ended_at
        .filter(|end| entry.started_at.is_none_or(|start| *end >= start));
    call.duration_ms = match (call.started_at, call.ended_at) {
        (Some(start), Some(end)) => Some(end.since_ms(start)),
        _ => None,
    };
    call.talked = entry.size.is_some_and(|size| size > 0).then_some(true);
    // A meeting that was recorded in pieces shows them as legs, in the order of their starts.
    call.legs = vec![LegFacts {
        provider_leg_id: entry.record_id.clone(),
        callee: Some(room.to_owned()),
        started_at: call.started_at,
        ended_at: call.ended_at,
        duration_ms: call.duration_ms,
        ..LegFacts::default()
    }];
}

/// What to ask for when only a foreign system told of the call, by a record id.
pub fn expected(call: &CallFacts) -> Vec<Announced> {
    let id = &call.provider_call_id;
    let digits = id.bytes().filter(u8::is_ascii_hexdigit).count();
    let others = id.bytes().filter(|byte| *byte != b'-').count();
    // A UUID, or 32 hexadecimal digits (the manual's samples have both).
    if digits != 32 || others != 32 {
        return Vec::new();
    }
    vec![Announced {
        provider_call_id: id.clone(),
        provider_recording_id: Some(id.clone()),
        aliases: vec![id.clone()],
        part: Part::Mixed,
        handle: json!({}),
        ..Announced::default()
    }]
}

/// When this size was seen first, as a stored notice says.
pub fn seen_at(handle: &Value, size: u64) -> Option<Timestamp> {
    let at = handle.get("seen")?.get(size.to_string())?.as_i64()?;
    Some(Timestamp::from_ms(at))
}
