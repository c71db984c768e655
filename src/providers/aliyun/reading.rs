//! The facts of a stored Alibaba message, element by element: one that cannot be read does not spoil the others.

use std::time::Duration;

use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::domain::call::{CallFacts, LegFacts, Party};
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::Clocks;
use crate::domain::digest::Hasher;
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Reading};
use crate::domain::recording::Part;

use super::link;
use super::loose::{self, Element};
use super::message::{self, Use};

/// Longest call id that is taken; the documented one has up to 100 characters.
pub const LONGEST_ID: usize = 512;
/// Longest id of another system that is searchable; longer ones stay in `custom` alone.
const LONGEST_CORRELATION_ID: usize = 256;

/// What reading needs of the source's settings.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    pub zone: Tz,
    /// Only when configured; by default the link's life is all that is known.
    pub provider_keeps: Option<Duration>,
    /// The account's key is configured, so that number protection can be asked.
    pub can_ask: bool,
}

impl Reader {
    pub fn read(&self, notice: &Notice) -> Result<Reading, String> {
        let known = message::of_topic(&notice.topic)
            .ok_or_else(|| format!("{:?} is no message type", notice.topic))?;
        if let Use::Ignored(why) = known.used_as {
            return Ok(Reading {
                ignored: Some(why.to_owned()),
                ..Reading::default()
            });
        }
        let elements = elements(&notice.body)?;
        let mut reading = Reading::default();
        let count = elements.len();
        if elements.is_empty() {
            reading.ignored = Some("an empty batch".to_owned());
        }
        for (index, value) in elements.into_iter().enumerate() {
            if let Err(why) = self.read_element(known.used_as, value, notice, &mut reading) {
                reading.unreadable.push(format!("element {index}: {why}"));
            }
        }
        if count > 0 && reading == Reading::default() {
            reading.ignored = Some("short messages, not calls".to_owned());
        }
        Ok(reading)
    }

    fn read_element(
        &self,
        used_as: Use,
        value: Value,
        notice: &Notice,
        reading: &mut Reading,
    ) -> Result<(), String> {
        let mut element = Element::of(value).ok_or("not an object")?;
        match used_as {
            Use::Recording => self.recording(&mut element, notice, reading)?,
            Use::Cdr => reading.calls.push(self.cdr(&mut element)?),
            Use::RtcCdr => reading.calls.push(self.rtc_cdr(&mut element)?),
            Use::ProtectedCdr => return self.protected_cdr(element, notice, reading),
            Use::ProtectedRecording => return self.protected_recording(element, reading),
            Use::Ignored(_) => return Ok(()),
        }
        if let Some(call) = reading.calls.last_mut() {
            call.custom.extend(element.rest());
        }
        Ok(())
    }

    /// aliyun.md, sections 2.1 and 2.8 (`AlicomAgentCallRecord` writes camelCase).
    fn recording(
        &self,
        element: &mut Element,
        notice: &Notice,
        reading: &mut Reading,
    ) -> Result<(), String> {
        let mut call = CallFacts::new(call_id(element, &["call_id", "callId"])?);
        call.started_at = element.time(&["start_time", "startTime"], self.zone);
        call.ended_at = element.time(&["end_time", "endTime"], self.zone);
        call.duration_ms = element.seconds_as_ms("duration");
        // A sample shows duration 0 together with an address, so 0 says nothing here.
        call.talked = call.duration_ms.filter(|ms| *ms > 0).map(|_| true);
        call.hangup_cause = element.text("status_code");
        take_customer_id(element, &["out_id", "outId"], &mut call);
        let file = element.text_of(&["record_file", "recordFile"]);
        call.recorded = Some(file.is_some());
        let link = file.as_deref().map(link::read).transpose();
        if let Ok(Some(link)) = &link {
            reading.recordings.push(Announced {
                provider_call_id: call.provider_call_id.clone(),
                aliases: vec![format!(
                    "{}|{}",
                    call.provider_call_id,
                    link::place(&link.url)
                )],
                part: Part::Unknown,
                link: Some(link.clone()),
                clocks: Clocks {
                    ready_after: None,
                    link_until: link.until,
                    gone_at: self.gone_at(call.ended_at.unwrap_or(notice.arrived_at)),
                },
                ready_now: true,
                confirmed: true,
                ..Announced::default()
            });
        }
        reading.calls.push(call);
        link.map(|_| ())
            .map_err(|why| format!("record_file: {why}"))
    }

    fn gone_at(&self, from: Timestamp) -> Option<Timestamp> {
        Some(from.plus(self.provider_keeps?))
    }

    /// aliyun.md, section 2.2. It never says whether the call was recorded.
    fn cdr(&self, element: &mut Element) -> Result<CallFacts, String> {
        let mut call = CallFacts::new(call_id(element, &["call_id", "callId"])?);
        call.is_cdr = true;
        let sent = element.time(&["originate_time"], self.zone);
        let rang = element.time(&["ring_time"], self.zone);
        call.answered_at = element.time(&["start_time"], self.zone);
        call.ended_at = element.time(&["end_time"], self.zone);
        call.started_at = sent.or(rang).or(call.answered_at);
        call.duration_ms = element.seconds_as_ms("duration");
        call.talked = call.duration_ms.map(|ms| ms > 0);
        call.caller = element.text("caller");
        call.callee = element.text("callee");
        call.hangup_cause = element.text("status_code");
        call.parties = parties(&call.caller, &call.callee);
        take_customer_id(element, &["out_id"], &mut call);
        for (leg, is_caller) in [("a", true), ("b", false)] {
            let name = |what: &str| format!("{leg}_{what}");
            let sent = element.time(&[&name("originate_time")], self.zone);
            let rang = element.time(&[&name("ring_time")], self.zone);
            let facts = LegFacts {
                provider_leg_id: leg.to_owned(),
                answered_at: element.time(&[&name("start_time")], self.zone),
                ended_at: element.time(&[&name("end_time")], self.zone),
                duration_ms: element.seconds_as_ms(&name("duration")),
                started_at: sent.or(rang),
                ..LegFacts::default()
            };
            let says_something = facts.started_at.is_some()
                || facts.answered_at.is_some()
                || facts.ended_at.is_some()
                || facts.duration_ms.is_some();
            if says_something {
                call.legs.push(LegFacts {
                    caller: call.caller.clone().filter(|_| is_caller),
                    callee: call.callee.clone().filter(|_| !is_caller),
                    ..facts
                });
            }
        }
        Ok(call)
    }

    /// aliyun.md, section 2.3: the page does not say at which level the call's own members stand.
    fn rtc_cdr(&self, element: &mut Element) -> Result<CallFacts, String> {
        let mut detail = element
            .value("detail")
            .and_then(Element::of)
            .unwrap_or_default();
        let call_id =
            call_id(element, &["channelId"]).or_else(|_| call_id(&mut detail, &["channelId"]))?;
        let mut call = CallFacts::new(call_id);
        call.is_cdr = true;
        let inbound = detail
            .value("callInInfo")
            .or_else(|| element.value("callInInfo"));
        let outbound = detail
            .value("callOutInfo")
            .or_else(|| element.value("callOutInfo"));
        call.legs.extend(self.rtc_leg(inbound, "in"));
        let outbound = match outbound {
            Some(Value::Array(legs)) => legs,
            one => one.into_iter().collect(),
        };
        for (index, leg) in outbound.into_iter().enumerate() {
            let name = format!("out-{}", index + 1);
            call.legs.extend(self.rtc_leg(Some(leg), &name));
        }
        self.rtc_whole_call(&mut call, element, &mut detail);
        for mut level in [detail, std::mem::take(element)] {
            take_customer_id(&mut level, &["extend"], &mut call);
            call.custom.extend(level.rest());
        }
        Ok(call)
    }

    fn rtc_leg(&self, value: Option<Value>, name: &str) -> Option<LegFacts> {
        let mut leg = Element::of(value?)?;
        Some(LegFacts {
            // One endpoint's participation, where the vendor names it.
            provider_leg_id: leg
                .text("uuid")
                .filter(|id| id.len() <= LONGEST_ID)
                .unwrap_or_else(|| name.to_owned()),
            caller: leg.text("caller"),
            callee: leg.text("callee"),
            started_at: leg.time(&["startTime"], self.zone),
            answered_at: None,
            ended_at: leg.time(&["endTime"], self.zone),
            duration_ms: leg.seconds_as_ms("duration"),
            hangup_cause: None,
        })
    }

    /// The call's own members where there are any, else what the legs say together.
    fn rtc_whole_call(&self, call: &mut CallFacts, top: &mut Element, detail: &mut Element) {
        let mut text = |name: &str| top.text(name).or_else(|| detail.text(name));
        call.caller = text("caller");
        call.callee = text("callee");
        let zone = self.zone;
        let mut time = |name: &str| {
            top.time(&[name], zone)
                .or_else(|| detail.time(&[name], zone))
        };
        call.started_at = time("startTime");
        call.ended_at = time("endTime");
        call.duration_ms = top
            .seconds_as_ms("duration")
            .or_else(|| detail.seconds_as_ms("duration"));
        let legs = &call.legs;
        let first = |pick: fn(&LegFacts) -> Option<String>| legs.iter().find_map(pick);
        if call.caller.is_none() {
            call.caller = first(|leg| leg.caller.clone());
        }
        if call.callee.is_none() {
            call.callee = first(|leg| leg.callee.clone());
        }
        if call.started_at.is_none() {
            call.started_at = legs.iter().filter_map(|leg| leg.started_at).min();
        }
        if call.ended_at.is_none() {
            call.ended_at = legs.iter().filter_map(|leg| leg.ended_at).max();
        }
        if call.duration_ms.is_none() {
            call.duration_ms = legs.iter().filter_map(|leg| leg.duration_ms).max();
        }
        call.talked = call.duration_ms.map(|ms| ms > 0);
        call.parties = parties(&call.caller, &call.callee);
        for leg in legs.iter().filter(|leg| leg.provider_leg_id != "in") {
            let known = call.parties.iter().any(|party| party.number == leg.callee);
            if leg.callee.is_some() && !known {
                call.parties.extend(parties(&None, &leg.callee));
            }
        }
    }
}

fn elements(body: &[u8]) -> Result<Vec<Value>, String> {
    match loose::parse(body)? {
        Value::Array(elements) => Ok(elements),
        object @ Value::Object(_) => Ok(vec![object]),
        _ => Err("neither an array nor an object".to_owned()),
    }
}

/// The key by which a repeat of a message is known, whichever door it comes through; an error says why the body
/// cannot be read at all.
///
/// One element is one message, alone in an array or bare, and with however fresh a signature in its addresses: their
/// place and their end count. Of a batch the bytes count, its elements are told apart when they are read.
pub fn key(message_type: &str, body: &[u8]) -> Result<String, String> {
    let elements = elements(body)?;
    let mut hasher = Hasher::new();
    hasher.update(message_type.as_bytes());
    match elements.as_slice() {
        [one] => {
            let mut text = String::from("\u{1}");
            unsigned(one, &mut text);
            hasher.update(text.as_bytes());
        }
        _ => {
            hasher.update(b"\0");
            hasher.update(body);
        }
    }
    Ok(hasher.finish().sha256.hex())
}

/// A value as text that does not change with the order of members or the signature of an address.
fn unsigned(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in members {
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                unsigned(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            items.iter().for_each(|item| unsigned(item, out));
            out.push(']');
        }
        Value::String(text) => {
            let link = link::read(text).ok().filter(|_| text.contains('?'));
            let text = match link {
                Some(link) => format!("{} {:?}", link::place(&link.url), link.until),
                None => text.clone(),
            };
            out.push_str(&Value::from(text).to_string());
        }
        other => out.push_str(&other.to_string()),
    }
    out.push(',');
}

pub fn call_id(element: &mut Element, names: &[&str]) -> Result<String, String> {
    match element.text_of(names) {
        Some(id) if id.len() <= LONGEST_ID => Ok(id),
        Some(id) => Err(format!("{} of {} bytes", names[0], id.len())),
        None => Err(format!("no {}", names[0])),
    }
}

/// The customer's own value: an id to search by, and readable when it is JSON inside a text.
pub fn take_customer_id(element: &mut Element, names: &[&'static str], call: &mut CallFacts) {
    for name in names {
        let Some(value) = element.value(name) else {
            continue;
        };
        let text = match &value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let packed = match &value {
            Value::String(text) if text.trim_start().starts_with(['{', '[']) => {
                loose::parse(text.as_bytes()).ok()
            }
            Value::Object(_) | Value::Array(_) => Some(value.clone()),
            _ => None,
        };
        if let Some(packed) = packed {
            call.custom.insert((*name).to_owned(), packed);
        } else if text.len() > LONGEST_CORRELATION_ID {
            call.custom.insert((*name).to_owned(), json!(text));
        }
        if text.len() <= LONGEST_CORRELATION_ID && !call.correlation_ids.contains(&text) {
            call.correlation_ids.push(text);
        }
    }
}

fn parties(caller: &Option<String>, callee: &Option<String>) -> Vec<Party> {
    [("caller", caller), ("callee", callee)]
        .into_iter()
        .filter_map(|(role, number)| {
            Some(Party {
                role: Some(role.to_owned()),
                number: Some(number.clone()?),
                ..Party::default()
            })
        })
        .collect()
}
