//! Asterisk's call records as messages of our own contract (pbx-cdr.md, section 3).

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use serde_json::Value;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;

use super::freeswitch::locator;
use super::message::{EventType, Fate, Locator, Message, Person, Recording};

/// Before this an answer did not happen: 2000-01-01T00:00:00Z.
const FIRST_ANSWER_MS: i64 = 946_684_800_000;

/// A record as `cdr_amqp` writes it, with the names of the AMI event as well. `body` names what has no id.
pub fn record(root: &Value, body: &[u8], zone: Tz) -> Result<Message, String> {
    let text = |names: &[&str]| {
        names.iter().find_map(|name| match root.get(name)? {
            Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let linked = text(&["linkedid", "LinkedID", "Linkedid"]);
    let id = match (text(&["uniqueid", "UniqueID", "Uniqueid"]), &linked) {
        (Some(unique), _) => unique,
        (None, Some(linked)) => format!("{linked}~{}", &Sha256::of(body).hex()[..12]),
        (None, None) => return Err("missing:linkedid".to_owned()),
    };
    let mut message = Message::native("asterisk", EventType::CallEnded, &id);
    let flags = &mut message.flags;
    let mut time = |names: &[&str]| {
        let written = text(names)?;
        let read = moment(&written, zone);
        if read.is_none() {
            flags.insert("bad_time");
        }
        read
    };
    let call = &mut message.call;
    call.started_at = time(&["start", "StartTime"]);
    call.answered_at =
        time(&["answer", "AnswerTime"]).filter(|answered| answered.ms() >= FIRST_ANSWER_MS);
    call.ended_at = time(&["end", "EndTime"]);
    let mut seconds = |names: &[&str]| {
        let seconds: Option<f64> = text(names)?.parse().ok();
        let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
        if seconds.is_none() {
            flags.insert("bad_number");
        }
        seconds.map(|seconds| (seconds * 1000.0).round() as i64)
    };
    call.duration_ms = seconds(&["durationsec", "duration", "Duration"]);
    call.billable_ms = seconds(&["billsec", "BillableSeconds"]);
    if call.started_at > call.ended_at && call.ended_at.is_some() {
        call.duration_ms = None;
        flags.insert("suspect_time");
    }
    call.group_id = linked;
    call.caller = Person {
        number: text(&["src", "Source"]),
        name: text(&["clid", "CallerID"]).and_then(|clid| quoted(&clid)),
    };
    call.callee.number = text(&["dst", "Destination"]);
    let written = text(&["disposition", "Disposition"]).unwrap_or_default();
    let known = written.to_uppercase().replace('_', " ");
    call.disposition = Some(
        match known.as_str() {
            "ANSWERED" => "answered",
            "NO ANSWER" => "no_answer",
            "BUSY" => "busy",
            "FAILED" => "failed",
            "CONGESTION" => "congestion",
            _ => "unknown",
        }
        .to_owned(),
    );
    message.occurred_at = call.ended_at.unwrap_or(message.occurred_at);
    // No variant carries the recording by itself; systems on top add a column, or use a customer's field.
    let hint = text(&["recordingfile"]).or_else(|| {
        let field = text(&["userfield", "UserField"])?;
        let is_place = field.starts_with('/') || field.contains("://");
        is_place.then_some(field)
    });
    if let Some(hint) = hint {
        match locator(&hint) {
            Some(locator @ (Locator::Url(_) | Locator::File(_))) => {
                message.recordings.push(Recording {
                    id,
                    fate: Fate::Ready,
                    ..Recording::at(locator)
                });
            }
            _ => {
                message.flags.insert("not_fetchable");
            }
        }
    }
    Ok(message)
}

/// The quoted part of `"Name" <number>`.
fn quoted(clid: &str) -> Option<String> {
    let rest = clid.trim().strip_prefix('"')?;
    let name = rest[..rest.rfind('"')?].replace("\\\"", "\"");
    (!name.is_empty()).then_some(name)
}

fn moment(text: &str, zone: Tz) -> Option<Timestamp> {
    for format in ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%z"] {
        if let Ok(at) = DateTime::parse_from_str(text, format) {
            return Some(Timestamp::from_ms(at.timestamp_millis()));
        }
    }
    if let Some(at) = Timestamp::parse(text) {
        return Some(at);
    }
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    let local = formats
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?;
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => {
            Some(Timestamp::from_ms(at.timestamp_millis()))
        }
        LocalResult::None => None,
    }
}
