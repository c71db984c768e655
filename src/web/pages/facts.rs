//! What is known of a call and a recording, as names and values for people.

use chrono_tz::Tz;

use super::row;
use super::text::Lang;
use super::words;
use crate::domain::clock::Timestamp;
use crate::domain::recording::{Part, Role};
use crate::domain::view::{CallView, RecordingDetail, RecordingView};

#[derive(Debug)]
pub struct Fact {
    pub name: &'static str,
    pub value: String,
    /// An id or a hash: set in type that can be compared letter by letter.
    pub is_code: bool,
}

struct Facts(Vec<Fact>);

impl Facts {
    fn add(&mut self, name: &'static str, value: Option<String>) {
        self.push(name, value, false);
    }

    fn code(&mut self, name: &'static str, value: Option<String>) {
        self.push(name, value, true);
    }

    fn push(&mut self, name: &'static str, value: Option<String>, is_code: bool) {
        if let Some(value) = value
            .map(|value| row::shown(&value))
            .filter(|value| !value.is_empty())
        {
            self.0.push(Fact {
                name,
                value,
                is_code,
            });
        }
    }
}

pub fn facts(call: &CallView, detail: Option<&RecordingDetail>, zone: Tz, lang: Lang) -> Vec<Fact> {
    let t = lang.text();
    let mut facts = Facts(Vec::new());
    let time = |at: Option<Timestamp>| at.map(|at| words::full(at, zone));
    facts.add(t.f_began, time(call.started_at));
    facts.add(t.f_answered, time(call.answered_at));
    facts.add(t.f_ended, time(call.ended_at));
    facts.add(t.f_hung_up, call.hangup_cause.clone());
    for party in &call.parties {
        let parts = [&party.name, &party.number, &party.id];
        let parts: Vec<_> = parts
            .into_iter()
            .flatten()
            .map(|part| row::shown(part))
            .collect();
        let role = party.role.as_deref();
        let role = role.map(|role| format!(" ({})", party_role(role, lang)));
        let role = role.unwrap_or_default();
        facts.add(t.f_party, Some(format!("{}{role}", parts.join(", "))));
    }
    facts.code(t.f_call_name, Some(call.provider_call_id.clone()));
    facts.code(t.f_correlation, Some(call.correlation_ids.join(", ")));
    facts.code(t.f_call_id, Some(call.call_id.to_string()));
    let Some(detail) = detail else {
        return facts.0;
    };
    let recording = &detail.recording;
    facts.code(
        t.f_recording_id,
        recording.recording_id.map(|id| id.to_string()),
    );
    facts.code(t.f_recording_name, recording.provider_recording_id.clone());
    if let Some(original) = &recording.original {
        let sound = original.codec.as_ref().map(|codec| {
            let rate = original.sample_rate_hz.map(|rate| format!(", {rate} Hz"));
            let channels = match original.channels {
                Some(1) => format!(", {}", t.one_channel),
                Some(n) => format!(", {n} {}", t.channels),
                None => String::new(),
            };
            format!("{codec}{}{channels}", rate.unwrap_or_default())
        });
        facts.add(
            t.f_original,
            Some(sound.unwrap_or_else(|| original.mime.clone())),
        );
        facts.add(t.f_length, original.duration_ms.map(words::length));
    }
    // How many files the original is made of, where it is more than one.
    let originals = detail
        .objects
        .iter()
        .filter(|object| object.role == Role::Original);
    let (files, bytes) = originals.fold((0_u64, 0_u64), |(files, bytes), object| {
        (files + 1, bytes + object.bytes)
    });
    facts.add(
        t.f_files,
        (files > 1).then(|| format!("{files}, {}", words::size(bytes))),
    );
    facts.0
}

/// When what must be done, and when it was.
pub fn clocks(recording: &RecordingView, zone: Tz, lang: Lang) -> Vec<Fact> {
    let t = lang.text();
    let mut facts = Facts(Vec::new());
    let time = |at: Option<Timestamp>| at.map(|at| words::full(at, zone));
    let waits = recording.archived_at.is_none();
    facts.add(t.f_arrived, time(Some(recording.arrived_at)));
    facts.add(t.f_archived, time(recording.archived_at));
    facts.add(
        t.f_slack,
        recording.slack_s.map(|slack| words::span(slack, lang)),
    );
    facts.add(
        t.f_tries,
        (recording.attempts > 0).then(|| recording.attempts.to_string()),
    );
    facts.add(t.f_next_try, time(recording.next_try_at.filter(|_| waits)));
    facts.add(t.f_link_dies, time(recording.link_until.filter(|_| waits)));
    facts.add(t.f_deleted, time(recording.gone_at));
    facts.0
}

fn party_role(role: &str, lang: Lang) -> &str {
    match role {
        "caller" => lang.pick("caller", "主叫"),
        "callee" => lang.pick("callee", "被叫"),
        "agent" => lang.pick("agent", "坐席"),
        other => other,
    }
}

/// A call that has no recording, as a line of its own.
pub fn without_recording(call: &CallView) -> RecordingView {
    RecordingView {
        recording_id: None,
        call_id: call.call_id,
        source: call.source.clone(),
        kind: String::new(),
        provider_call_id: call.provider_call_id.clone(),
        provider_recording_id: None,
        correlation_ids: Vec::new(),
        part: Part::Unknown,
        state: "none".to_owned(),
        reason: None,
        attempts: 0,
        next_try_at: None,
        started_at: call.started_at,
        ended_at: call.ended_at,
        duration_ms: call.duration_ms,
        direction: call.direction,
        caller: call.caller.clone(),
        callee: call.callee.clone(),
        parties: call.parties.clone(),
        arrived_at: call.arrived_at,
        ready_after: None,
        link_until: None,
        gone_at: None,
        archived_at: None,
        slack_s: None,
        original: None,
        access: None,
        notes: Vec::new(),
        cursor: String::new(),
    }
}

/// The call of a line, for tests of templates.
#[cfg(test)]
pub fn sample_call(view: &RecordingView) -> CallView {
    CallView {
        call_id: view.call_id,
        source: view.source.clone(),
        aliases: Vec::new(),
        provider_call_id: view.provider_call_id.clone(),
        correlation_ids: view.correlation_ids.clone(),
        started_at: view.started_at,
        answered_at: view.started_at,
        ended_at: view.ended_at,
        duration_ms: view.duration_ms,
        direction: view.direction,
        caller: view.caller.clone(),
        callee: view.callee.clone(),
        parties: view.parties.clone(),
        custom: serde_json::Value::Null,
        legs: Vec::new(),
        hangup_cause: None,
        arrived_at: view.arrived_at,
        notices: Vec::new(),
    }
}
