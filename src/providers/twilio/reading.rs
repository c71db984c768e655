//! The facts of a stored notice: a callback, an entry of the list, or a call's own facts.

use chrono::DateTime;
use serde_json::{Map, Value, json};

use crate::domain::call::{CallFacts, Direction};
use crate::domain::clock::Timestamp;
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Reading};
use crate::domain::recording::Part;

use super::hook::{Fields, fields_of};
use super::settings::is_sid;

/// What `getRecordings` and the metadata of one recording say.
pub const LISTED: &str = "listed";
/// What `Calls/{sid}.json` says.
pub const CALL: &str = "call";

/// One recording, wherever it was told of.
#[derive(Debug, Default)]
struct Told {
    account: String,
    recording: String,
    /// `CallSid`, else `ConferenceSid`.
    call: Option<String>,
    conference: Option<String>,
    status: String,
    started: Option<Timestamp>,
    seconds: Option<i64>,
    channels: Option<i64>,
    error: Option<String>,
}

pub fn read(notice: &Notice) -> Result<Reading, String> {
    match notice.topic.as_str() {
        "" => callback(notice),
        LISTED => entry(&notice.body),
        CALL => call(&notice.body),
        other => Err(format!("no such topic: {other:?}")),
    }
}

fn callback(notice: &Notice) -> Result<Reading, String> {
    let content_type = notice
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map_or("", |(_, value)| value);
    let fields = fields_of(&notice.query, content_type, &notice.body);
    let field = |name: &str| {
        fields
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    };
    let told = Told {
        account: field("AccountSid").unwrap_or_default().to_owned(),
        recording: field("RecordingSid").unwrap_or_default().to_owned(),
        call: field("CallSid").map(str::to_owned),
        conference: field("ConferenceSid").map(str::to_owned),
        status: field("RecordingStatus").unwrap_or_default().to_owned(),
        started: field("RecordingStartTime").and_then(rfc2822),
        seconds: field("RecordingDuration").and_then(whole_seconds),
        channels: field("RecordingChannels").and_then(|text| text.parse().ok()),
        error: field("ErrorCode").filter(|c| *c != "0").map(str::to_owned),
    };
    facts(told, custom(&fields))
}

/// What is not modelled. Addresses are built anew, so none is kept.
fn custom(fields: &Fields) -> Map<String, Value> {
    const MODELLED: [&str; 9] = [
        "AccountSid",
        "RecordingSid",
        "CallSid",
        "RecordingStatus",
        "RecordingUrl",
        "RecordingStartTime",
        "RecordingDuration",
        "ErrorCode",
        "bodySHA256",
    ];
    fields
        .iter()
        .filter(|(name, value)| !MODELLED.contains(&name.as_str()) && !value.is_empty())
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect()
}

fn entry(body: &[u8]) -> Result<Reading, String> {
    let entry: Map<String, Value> =
        serde_json::from_slice(body).map_err(|e| format!("not JSON: {e}"))?;
    let text = |name: &str| text(&entry, name);
    let told = Told {
        account: text("account_sid").unwrap_or_default(),
        recording: text("sid").unwrap_or_default(),
        call: text("call_sid"),
        conference: text("conference_sid"),
        status: text("status").unwrap_or_default(),
        started: text("start_time").and_then(|text| rfc2822(&text)),
        seconds: text("duration").and_then(|text| whole_seconds(&text)),
        channels: text("channels").and_then(|text| text.parse().ok()),
        error: text("error_code").filter(|code| code != "0"),
    };
    let mut custom = Map::new();
    for name in [
        "source",
        "channels",
        "price",
        "price_unit",
        "encryption_details",
    ] {
        if let Some(value) = entry.get(name).filter(|value| !value.is_null()) {
            custom.insert(name.to_owned(), value.clone());
        }
    }
    let mut reading = facts(told, custom)?;
    for recording in &mut reading.recordings {
        recording.handle["listed"] = true.into();
    }
    Ok(reading)
}

fn facts(told: Told, custom: Map<String, Value>) -> Result<Reading, String> {
    if !is_sid(&told.recording, "RE") {
        return Err("no RecordingSid".to_owned());
    }
    let id = told
        .call
        .as_ref()
        .or(told.conference.as_ref())
        .unwrap_or(&told.recording);
    let mut call = CallFacts::new(id.as_str());
    call.aliases = vec![told.recording.clone()];
    if told.call.is_some() {
        call.correlation_ids.extend(told.conference.clone());
    }
    call.custom = custom;
    let mut handle = json!({ "account": told.account });
    if let Some(channels) = told.channels {
        handle["channels"] = channels.into();
    }
    let mut announced = Announced {
        provider_recording_id: Some(told.recording.clone()),
        aliases: vec![told.recording.clone()],
        part: Part::Mixed,
        ..Announced::default()
    };
    match told.status.as_str() {
        "completed" => {
            handle["completed"] = true.into();
            announced.confirmed = true;
            announced.ready_now = true;
            call.recorded = Some(true);
            call.started_at = told.started;
            // The recording's own length; the call's facts widen it.
            call.duration_ms = told.seconds.map(|seconds| seconds * 1000);
            call.ended_at = told
                .started
                .zip(call.duration_ms)
                .map(|(start, ms)| start.plus_ms(ms));
            call.talked = told.seconds.map(|seconds| seconds > 0);
        }
        "in-progress" | "paused" | "stopped" | "processing" => {
            call.recorded = Some(true);
            call.started_at = told.started;
        }
        closed @ ("absent" | "failed" | "deleted") => {
            let code = told.error.unwrap_or_default();
            handle["closed"] = format!("{closed} {code}").trim_end().into();
            announced.ready_now = true;
        }
        other => {
            let shown: String = other.chars().take(40).collect();
            return Ok(Reading {
                ignored: Some(format!("status {shown:?} is in no list")),
                ..Reading::default()
            });
        }
    }
    announced.handle = handle;
    announced
        .provider_call_id
        .clone_from(&call.provider_call_id);
    announced.call_aliases.clone_from(&call.aliases);
    Ok(Reading {
        calls: vec![call],
        recordings: vec![announced],
        ..Reading::default()
    })
}

/// `Calls/{sid}.json`, with the recording for whose sake it was asked for.
fn call(body: &[u8]) -> Result<Reading, String> {
    let told: Map<String, Value> =
        serde_json::from_slice(body).map_err(|e| format!("not JSON: {e}"))?;
    let text = |name: &str| text(&told, name);
    let sid = text("sid").filter(|sid| is_sid(sid, "CA"));
    let mut call = CallFacts::new(sid.ok_or("no call sid")?);
    call.is_cdr = true;
    call.caller = text("from");
    call.callee = text("to");
    call.started_at = text("start_time").and_then(|text| rfc2822(&text));
    call.ended_at = text("end_time").and_then(|text| rfc2822(&text));
    call.duration_ms = text("duration")
        .and_then(|text| whole_seconds(&text))
        .map(|seconds| seconds * 1000);
    call.direction = text("direction").and_then(|direction| match direction.as_str() {
        "inbound" | "trunking-terminating" => Some(Direction::Inbound),
        other if other.starts_with("outbound") || other == "trunking-originating" => {
            Some(Direction::Outbound)
        }
        _ => None,
    });
    call.hangup_cause = text("status");
    call.correlation_ids.extend(text("parent_call_sid"));
    for name in ["direction", "answered_by", "caller_name", "forwarded_from"] {
        if let Some(value) = text(name) {
            call.custom.insert(name.to_owned(), value.into());
        }
    }
    let mut recordings = Vec::new();
    if let Some(recording) = text("recording_sid").filter(|sid| is_sid(sid, "RE")) {
        recordings.push(Announced {
            provider_call_id: call.provider_call_id.clone(),
            provider_recording_id: Some(recording.clone()),
            aliases: vec![recording],
            part: Part::Mixed,
            handle: json!({ "call_told": true }),
            ..Announced::default()
        });
    }
    Ok(Reading {
        calls: vec![call],
        recordings,
        ..Reading::default()
    })
}

/// A text or a number as text; empty and null are nothing.
fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    let text = match object.get(name)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// RFC 2822 with its offset, whatever it is.
pub fn rfc2822(text: &str) -> Option<Timestamp> {
    let at = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    let ms = at.timestamp_millis();
    (0..=253_402_300_799_999)
        .contains(&ms)
        .then(|| Timestamp::from_ms(ms))
}

/// `-1` means that the vendor does not know.
fn whole_seconds(text: &str) -> Option<i64> {
    let seconds: i64 = text.trim().parse().ok()?;
    (0..=315_360_000).contains(&seconds).then_some(seconds)
}

/// What to ask for when only a foreign system told of a recording by its sid.
pub fn expected(call: &CallFacts) -> Vec<Announced> {
    let sid = &call.provider_call_id;
    if !is_sid(sid, "RE") {
        return Vec::new();
    }
    vec![Announced {
        provider_call_id: sid.clone(),
        provider_recording_id: Some(sid.clone()),
        aliases: vec![sid.clone()],
        part: Part::Mixed,
        handle: json!({}),
        ..Announced::default()
    }]
}
