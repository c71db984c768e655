//! What a `cdr/1` message says in our words: facts of its call, and its recordings.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::domain::call::{CallFacts, LegFacts, Party};
use crate::domain::deadlines::Clocks;
use crate::domain::reading::{Announced, Link, masked_url, placeholder};
use crate::domain::recording::Part;

use super::message::{Call, Fate, Locator, Message, Person, Recording};

/// Longest value that is searchable as an id.
const LONGEST_CORRELATION_ID: usize = 256;

/// The facts of the call. `is_own`: the message is of the source that the call belongs to, and not of a
/// foreign system that knows something about another one's call.
pub fn call(message: &Message, is_own: bool, searchable: &[String]) -> CallFacts {
    let told = &message.call;
    let mut call = CallFacts::new(&told.id);
    call.is_cdr = is_own && message.event.is_cdr();
    call.aliases.extend(group(told).filter(|_| is_own));
    call.started_at = told.started_at;
    call.answered_at = told.answered_at;
    call.ended_at = told.ended_at;
    call.duration_ms = told.duration_ms.or_else(|| between(told, &message.flags));
    call.direction = told.direction;
    call.hangup_cause.clone_from(&told.hangup_cause);
    call.recorded = told.recorded;
    call.talked = talked(told);
    call.caller.clone_from(&told.caller.number);
    call.callee.clone_from(&told.callee.number);
    call.parties = [("caller", &told.caller), ("callee", &told.callee)]
        .into_iter()
        .filter_map(|(role, person)| party(role, person))
        .collect();
    let mut note = |name: &str, value: Value| {
        call.custom.insert(name.to_owned(), value);
    };
    if let Some(disposition) = &told.disposition {
        note("disposition", json!(disposition));
    }
    if let Some(direction) = &told.direction_text {
        note("direction", json!(direction));
    }
    if let Some(billable) = told.billable_ms {
        note("billable_ms", json!(billable));
    }
    if let Some(host) = &message.host {
        note("host", json!(host));
    }
    if !message.attributes.is_empty() {
        note("attributes", Value::Object(message.attributes.clone()));
    }
    if !message.flags.is_empty() {
        note("flags", json!(message.flags));
    }
    call.correlation_ids = searchable
        .iter()
        .filter_map(|name| match message.attributes.get(name)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        })
        .filter(|text| !text.is_empty() && text.len() <= LONGEST_CORRELATION_ID)
        .collect();
    if is_own && told.group_id.is_some() && call.is_cdr {
        call.legs.push(LegFacts {
            provider_leg_id: told.id.clone(),
            caller: call.caller.clone(),
            callee: call.callee.clone(),
            started_at: call.started_at,
            answered_at: call.answered_at,
            ended_at: call.ended_at,
            duration_ms: call.duration_ms,
            hangup_cause: call.hangup_cause.clone(),
        });
        // The leg that began the call names its ends; another leg's numbers are its own.
        if told.group_id.as_deref() != Some(told.id.as_str()) {
            call.caller = None;
            call.callee = None;
        }
    }
    call
}

/// All legs of one call go by this name.
fn group(call: &Call) -> Option<String> {
    Some(format!("group:{}", call.group_id.as_ref()?))
}

/// From start to end, where no length is told. Not where one was told and is no number, or a time is suspect.
fn between(told: &Call, flags: &BTreeSet<&'static str>) -> Option<i64> {
    if ["bad_number", "bad_time", "suspect_time"]
        .iter()
        .any(|flag| flags.contains(flag))
    {
        return None;
    }
    let length = told.ended_at?.since_ms(told.started_at?);
    (length >= 0).then_some(length)
}

fn talked(call: &Call) -> Option<bool> {
    match (call.billable_ms, call.disposition.as_deref()) {
        (Some(billable), _) => Some(billable > 0),
        (None, Some("answered")) => Some(true),
        (None, Some("unknown") | None) => call.answered_at.map(|_| true),
        (None, Some(_)) => Some(false),
    }
}

fn party(role: &str, person: &Person) -> Option<Party> {
    (person.number.is_some() || person.name.is_some()).then(|| Party {
        role: Some(role.to_owned()),
        id: None,
        name: person.name.clone(),
        number: person.number.clone(),
    })
}

/// The message's recordings; one that is still to be named when the call says "recorded" and no more.
pub fn recordings(message: &Message, is_own: bool) -> Vec<Announced> {
    let call = &message.call;
    let aliases: Vec<String> = group(call).filter(|_| is_own).into_iter().collect();
    let told = message.recordings.iter();
    let mut announced: Vec<Announced> = told
        .map(|told| recording(message, told, &aliases))
        .collect();
    if announced.is_empty() && is_own && call.recorded == Some(true) {
        announced.push(Announced {
            provider_call_id: call.id.clone(),
            call_aliases: aliases,
            aliases: vec![placeholder(&call.id)],
            confirmed: talked(call) == Some(true),
            ..Announced::default()
        });
    }
    announced
}

fn recording(message: &Message, told: &Recording, call_aliases: &[String]) -> Announced {
    let mut said = json!({
        "at": message.occurred_at.ms(),
        "fate": told.fate.as_str(),
    });
    let mut aliases = Vec::new();
    if told.is_named || told.locator.is_none() {
        aliases.push(told.id.clone());
    }
    let mut link = None;
    match &told.locator {
        None => {}
        Some(Locator::Url(url)) => {
            said["locator"] = json!("url");
            if !told.is_named {
                aliases.push(format!("url:{}", masked_url(url).trim_end_matches("?…")));
            }
            link = Some(Link {
                url: url.clone(),
                until: told.expires_at,
            });
        }
        Some(Locator::File(path)) => {
            said["locator"] = json!("file");
            said["path"] = json!(path);
            aliases.push(format!("file:{path}"));
        }
        Some(Locator::Object {
            bucket,
            key,
            version,
        }) => {
            said["locator"] = json!("object");
            said["bucket"] = json!(bucket);
            said["key"] = json!(key);
            if let Some(version) = version {
                said["version"] = json!(version);
            }
            aliases.push(format!("object:{bucket}/{key}"));
        }
        Some(Locator::Provider) => said["locator"] = json!("provider"),
    }
    for (name, value) in [
        ("bytes", told.size_bytes.map(Value::from)),
        ("sha256", told.sha256.as_ref().map(|hash| json!(hash))),
    ] {
        if let Some(value) = value {
            said[name] = value;
        }
    }
    let is_ready = told.fate == Fate::Ready;
    Announced {
        provider_call_id: message.call.id.clone(),
        call_aliases: call_aliases.to_vec(),
        provider_recording_id: Some(told.id.clone()).filter(|id| !id.is_empty()),
        aliases,
        part: part(told),
        began_at: told.started_at,
        handle: json!({ "said": [said] }),
        version: told.sha256.clone(),
        clocks: Clocks {
            // Of an address it is the address's own end.
            gone_at: told.expires_at.filter(|_| link.is_none()),
            ..Clocks::default()
        },
        link,
        ready_now: is_ready,
        confirmed: is_ready || told.fate == Fate::Processing,
        ..Announced::default()
    }
}

fn part(told: &Recording) -> Part {
    match (told.channels, told.channel_map.as_slice()) {
        (_, [one]) => match one.as_str() {
            "caller" => Part::Caller,
            "callee" => Part::Callee,
            _ => Part::Unknown,
        },
        (Some(1), []) | (_, [_, _, ..]) => Part::Mixed,
        (Some(channels), []) if channels > 1 => Part::Mixed,
        _ => Part::Unknown,
    }
}
