//! FreeSWITCH's call records and events as messages of our own contract (pbx-cdr.md, sections 1 and 2).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::call::Direction;
use crate::domain::clock::Timestamp;

use super::body::Record;
use super::message::{Call, EventType, Fate, Locator, Message, Person, Recording};

/// A record of `mod_json_cdr` or `mod_xml_cdr`; the error is its stable reason.
pub fn record(record: &Record, extra_variables: &[String]) -> Result<Message, String> {
    let variable = |name: &str| filled(&record.variables, name);
    let uuid = variable("uuid").ok_or("missing:variables.uuid")?;
    let mut message = Message::native("freeswitch", EventType::CallEnded, &uuid);
    if record.has_duplicate_keys {
        message.flags.insert("duplicate_key");
    }
    message.host.clone_from(&record.switchname);
    let told = |name: &str| filled(&record.profile, name).or_else(|| variable(name));
    let flags = &mut message.flags;
    let mut number = |name: &str| {
        let seconds: f64 = variable(name)?.parse().ok()?;
        if seconds < 0.0 || !seconds.is_finite() {
            flags.insert("bad_number");
            return None;
        }
        Some((seconds * 1000.0).round() as i64)
    };
    let mut call = Call {
        id: uuid.clone(),
        group_id: variable("call_uuid").or_else(|| variable("bridge_uuid")),
        direction: variable("direction").and_then(|text| Direction::parse(&text)),
        caller: Person {
            number: told("caller_id_number"),
            name: told("caller_id_name"),
        },
        callee: Person {
            number: told("destination_number"),
            name: None,
        },
        started_at: time(record, "start"),
        answered_at: time(record, "answer"),
        ended_at: time(record, "end"),
        duration_ms: number("duration"),
        billable_ms: number("billsec"),
        hangup_cause: variable("hangup_cause"),
        ..Call::default()
    };
    if call.started_at > call.ended_at && call.ended_at.is_some() {
        call.duration_ms = None;
        message.flags.insert("suspect_time");
    }
    call.disposition = Some(disposition(&call).to_owned());
    let discarded = variable("RECORD_DISCARDED").as_deref() == Some("true");
    let recorded_s = number_of(variable("record_seconds"));
    let channels = if variable("RECORD_STEREO").as_deref() == Some("true") {
        Some(2)
    } else {
        None
    };
    for place in places(record, &uuid, extra_variables) {
        let Some(locator) = locator(&place) else {
            message.flags.insert("not_fetchable");
            continue;
        };
        let n = message.recordings.len() + 1;
        message.recordings.push(Recording {
            id: if n == 1 {
                uuid.clone()
            } else {
                format!("{uuid}#{n}")
            },
            fate: if discarded {
                Fate::Discarded
            } else {
                Fate::Ready
            },
            channels,
            ..Recording::at(locator)
        });
    }
    if message.recordings.is_empty() && recorded_s > 0.0 && !discarded {
        call.recorded = Some(true);
    }
    message.occurred_at = call.ended_at.unwrap_or(message.occurred_at);
    message.call = call;
    Ok(message)
}

/// An event of `mod_amqp`: values are not encoded.
pub fn event(root: &Value) -> Result<Message, String> {
    let text = |name: &str| {
        let text = root.get(name)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let name = text("Event-Name").ok_or("missing:Event-Name")?;
    let id = text("Unique-ID").ok_or("missing:Unique-ID")?;
    let micros = |name: &str| micros(&text(name)?);
    let event = match name.as_str() {
        "CHANNEL_HANGUP_COMPLETE" => EventType::CallEnded,
        "RECORD_STOP" => EventType::RecordingReady,
        _ => EventType::Unknown,
    };
    let mut message = Message::native("freeswitch", event, &id);
    message.event_text = name;
    message.host = text("FreeSWITCH-Hostname");
    message.occurred_at = micros("Event-Date-Timestamp").unwrap_or(message.occurred_at);
    message.call.group_id = text("Channel-Call-UUID");
    if event == EventType::RecordingReady {
        let path = text("Record-File-Path").ok_or("missing:Record-File-Path")?;
        match locator(&path) {
            Some(locator) => message.recordings.push(Recording::at(locator)),
            None => {
                message.flags.insert("not_fetchable");
            }
        }
        return Ok(message);
    }
    let call = &mut message.call;
    call.hangup_cause = text("Hangup-Cause").or_else(|| text("variable_hangup_cause"));
    call.direction = text("variable_direction").and_then(|text| Direction::parse(&text));
    call.caller = Person {
        number: text("Caller-Caller-ID-Number"),
        name: text("Caller-Caller-ID-Name"),
    };
    call.callee.number = text("Caller-Destination-Number");
    call.started_at = micros("Caller-Channel-Created-Time");
    call.answered_at = micros("Caller-Channel-Answered-Time");
    call.ended_at = micros("Caller-Channel-Hangup-Time");
    call.billable_ms = seconds(text("variable_billsec"));
    call.duration_ms = seconds(text("variable_duration"));
    call.disposition = Some(disposition(call).to_owned());
    Ok(message)
}

fn filled(from: &BTreeMap<String, String>, name: &str) -> Option<String> {
    from.get(name).filter(|text| !text.is_empty()).cloned()
}

fn number_of(text: Option<String>) -> f64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

fn seconds(text: Option<String>) -> Option<i64> {
    let seconds: f64 = text?.parse().ok()?;
    (seconds >= 0.0 && seconds.is_finite()).then_some((seconds * 1000.0).round() as i64)
}

/// Microseconds since 1970; 0 did not happen.
fn micros(text: &str) -> Option<Timestamp> {
    let micros: i64 = text.parse().ok()?;
    (micros > 0).then(|| Timestamp::from_ms(micros / 1000))
}

fn time(record: &Record, what: &str) -> Option<Timestamp> {
    let exact = record.variables.get(&format!("{what}_uepoch"));
    exact.and_then(|text| micros(text)).or_else(|| {
        let seconds: i64 = record
            .variables
            .get(&format!("{what}_epoch"))?
            .parse()
            .ok()?;
        (seconds > 0).then(|| Timestamp::from_ms(seconds.saturating_mul(1000)))
    })
}

fn disposition(call: &Call) -> &'static str {
    if call.answered_at.is_some() {
        return "answered";
    }
    match call.hangup_cause.as_deref().unwrap_or_default() {
        "NO_ANSWER" | "NO_USER_RESPONSE" | "ALLOTTED_TIMEOUT" => "no_answer",
        "USER_BUSY" => "busy",
        "ORIGINATOR_CANCEL" | "LOSE_RACE" => "cancelled",
        "NORMAL_CIRCUIT_CONGESTION" | "SWITCH_CONGESTION" => "congestion",
        "NORMAL_CLEARING" | "" => "unknown",
        _ => "failed",
    }
}

/// Where the recordings lie: the first variable that says so, then what the applications wrote beside it.
fn places(record: &Record, uuid: &str, extra_variables: &[String]) -> Vec<String> {
    let variable = |name: &str| filled(&record.variables, name);
    let folder = variable("record_path");
    let by_name = |name: String| {
        let folder = folder.as_deref()?;
        Some(format!("{}/{name}", folder.trim_end_matches('/')))
    };
    let last_session = || {
        let is_record = variable("last_app").as_deref() == Some("record_session");
        variable("last_arg")
            .filter(|_| is_record)
            .map(|data| session_path(&data))
    };
    let mut places: Vec<String> = variable("record_name")
        .and_then(by_name)
        .or_else(|| {
            let ext = variable("record_ext").unwrap_or_else(|| "wav".to_owned());
            by_name(format!("{uuid}.{ext}"))
        })
        .or_else(|| variable("cc_record_filename"))
        .or_else(last_session)
        .or_else(|| variable("sofia_record_file"))
        .or_else(|| variable("conference_recording"))
        .into_iter()
        .collect();
    for (name, data) in &record.applications {
        let place = match name.as_str() {
            "record_session" => session_path(data),
            "record" => first_word(data),
            _ => continue,
        };
        if !place.is_empty() && !places.contains(&place) {
            places.push(place);
        }
    }
    if places.is_empty() {
        places.extend(extra_variables.iter().find_map(|name| variable(name)));
    }
    places
}

/// A block of options in front is no path.
fn without_options(data: &str) -> &str {
    let data = data.trim();
    match data.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        Some((_, rest)) => rest.trim(),
        None => data,
    }
}

/// `record_session` takes the whole text, but for a time limit ` +<digits>` at its end.
fn session_path(data: &str) -> String {
    let data = without_options(data);
    match data.rsplit_once(" +") {
        Some((path, limit)) if !limit.is_empty() && limit.bytes().all(|b| b.is_ascii_digit()) => {
            path.trim_end().to_owned()
        }
        _ => data.to_owned(),
    }
}

/// `record` takes the first word, quotes respected.
fn first_word(data: &str) -> String {
    let data = without_options(data);
    match data.chars().next() {
        Some(quote @ ('"' | '\'')) => data[1..].split(quote).next().unwrap_or_default().to_owned(),
        _ => data
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

/// A path, absolute or below a root, or a web address; other schemes cannot be fetched.
pub fn locator(place: &str) -> Option<Locator> {
    match place.split_once("://") {
        Some(("http" | "https", _)) => {
            let parsed = url::Url::parse(place).ok()?;
            let has_user = !parsed.username().is_empty() || parsed.password().is_some();
            (!has_user).then(|| Locator::Url(place.to_owned()))
        }
        Some(_) => None,
        None if place.contains('\0') => None,
        None => Some(Locator::File(place.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_the_applications_read_them() {
        for (data, expected) in [
            ("/rec/sales team/a b.wav +3600", "/rec/sales team/a b.wav"),
            ("{record_stereo=true}/rec/a.wav", "/rec/a.wav"),
            ("/rec/a +b.wav", "/rec/a +b.wav"),
        ] {
            assert_eq!(session_path(data), expected);
        }
        assert_eq!(first_word("/rec/2.wav 60 200 3"), "/rec/2.wav");
        assert_eq!(first_word("'/rec/a b.wav' 60"), "/rec/a b.wav");
        assert_eq!(locator("shout://x/y"), None);
        assert_eq!(locator("https://u:p@x/y"), None);
        assert_eq!(
            locator("C:\\a.wav"),
            Some(Locator::File("C:\\a.wav".into()))
        );
    }
}
