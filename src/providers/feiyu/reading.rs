//! The facts of a stored Feiyu push: call, legs, numbers, and the recording that it announces.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::call::{CallFacts, LegFacts, Party};
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::Clocks;
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Reading};
use crate::domain::recording::Part;

use super::form::Form;
use super::push::{Kind, LONGEST_ID, PROOF_FIELDS, moment};
use super::settings::Settings;

/// Longest id of another system that is searchable; longer ones stay in `custom` alone.
const LONGEST_CORRELATION_ID: usize = 256;
/// The customer's own call id: it may repeat, so it finds calls and never joins them.
const APP_CALL_ID: &str = "appCallId";

pub fn read(notice: &Notice, settings: &Settings) -> Result<Reading, String> {
    let form = Form::of(&notice.method, &notice.query, &notice.body);
    let (_, call_id) = form
        .first_of(&settings.fields.call_id)
        .filter(|(_, id)| id.len() <= LONGEST_ID)
        .ok_or("no call id among the fields")?;
    let kind = Kind::of(&form, &notice.topic, settings);
    if let Kind::Unknown(action) = &kind {
        let shown: String = action.chars().take(60).collect();
        return Ok(Reading {
            ignored: Some(format!("action {shown:?} is in no list")),
            ..Reading::default()
        });
    }
    let mut push = Push::new(&form, settings, call_id);
    let mut reading = Reading::default();
    let ended_before = push.take_times();
    match kind {
        Kind::Cdr => {
            push.take_cdr();
            if push.call.recorded == Some(true) {
                reading.recordings.push(Announced {
                    confirmed: push.call.talked == Some(true),
                    clocks: Clocks {
                        ready_after: Some(
                            ended_before
                                .unwrap_or(notice.arrived_at)
                                .plus(settings.first_try_after),
                        ),
                        // The vendor's time to keep it follows the call as all its notices tell it.
                        ..Clocks::default()
                    },
                    ..push.announced()
                });
            }
        }
        Kind::Recording => reading.recordings.push(Announced {
            confirmed: true,
            ready_now: true,
            clocks: Clocks {
                // Without an end the CDR's own ready-after stays what it is.
                ready_after: ended_before.map(|end| end.plus(settings.first_try_after)),
                ..Clocks::default()
            },
            ..push.announced()
        }),
        Kind::Auth => push.take_authorisation(),
        Kind::Unknown(_) => {}
    }
    push.keep_the_rest();
    reading.calls.push(push.call);
    Ok(reading)
}

/// What to ask for when only a foreign system told of the call.
pub fn expected(call: &CallFacts, first_try_after: Duration) -> Vec<Announced> {
    let call_id = &call.provider_call_id;
    if call_id.is_empty() || call_id.len() > LONGEST_ID {
        return Vec::new();
    }
    vec![Announced {
        provider_call_id: call_id.clone(),
        provider_recording_id: Some(call_id.clone()),
        aliases: vec![call_id.clone()],
        part: Part::Mixed,
        handle: json!({ "call_ids": [call_id] }),
        clocks: Clocks {
            ready_after: call.ended_at.map(|end| end.plus(first_try_after)),
            ..Clocks::default()
        },
        ..Announced::default()
    }]
}

/// A push while it is read: fields move from the form into the facts, the rest ends in `custom`.
struct Push<'a> {
    form: &'a Form,
    settings: &'a Settings,
    call: CallFacts,
    /// Names all legs of one call-back, `group:{dialBackId}`.
    group: Option<String>,
    used: BTreeSet<String>,
    notes: Vec<String>,
}

impl<'a> Push<'a> {
    fn new(form: &'a Form, settings: &'a Settings, call_id: String) -> Self {
        let mut push = Self {
            form,
            settings,
            call: CallFacts::new(call_id),
            group: None,
            used: ["appId", "ver"]
                .into_iter()
                .chain(PROOF_FIELDS)
                .map(str::to_owned)
                .collect(),
            notes: Vec::new(),
        };
        push.used.extend(settings.fields.action.iter().cloned());
        push.used.extend(settings.fields.call_id.iter().cloned());
        for name in form.repeated() {
            push.notes.push(format!("repeated field {name}"));
        }
        push.take_other_ids();
        push
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let value = self.form.get(name)?;
        self.used.insert(name.to_owned());
        Some(value).filter(|value| !value.is_empty())
    }

    fn take_first(&mut self, names: &[String]) -> Option<(String, String)> {
        let (name, value) = self.form.first_of(names)?;
        self.used.insert(name.to_owned());
        Some((name.to_owned(), value))
    }

    fn take_other_ids(&mut self) {
        for name in &self.settings.fields.group_id {
            let Some(id) = self.form.get(name).filter(|id| !id.is_empty()) else {
                continue;
            };
            if id.len() > LONGEST_CORRELATION_ID {
                continue;
            }
            self.used.insert(name.clone());
            if name != APP_CALL_ID && self.group.is_none() {
                self.group = Some(format!("group:{id}"));
            }
            if !self.call.correlation_ids.contains(&id) {
                self.call.correlation_ids.push(id);
            }
        }
        // Either leg's id may name the joined call later on.
        if let Some(group) = &self.group {
            self.call.aliases = vec![group.clone(), self.call.provider_call_id.clone()];
        }
    }

    /// Start, answer, end and length; gives the end, from which the vendor's clocks count.
    fn take_times(&mut self) -> Option<Timestamp> {
        let settings = self.settings;
        let start = self.take_time(&settings.fields.start);
        let end = self.take_time(&settings.fields.end);
        let call = &mut self.call;
        call.started_at = start.at;
        call.ended_at = end.at;
        match (start.at, end.at) {
            (Some(start), Some(end)) if end > start => {
                call.answered_at = Some(start);
                call.duration_ms = Some(end.since_ms(start));
                call.talked = Some(true);
            }
            // Equal times: nobody talked (feiyu.md, section 4.1).
            (Some(start), Some(end)) if end == start => {
                call.duration_ms = Some(0);
                call.talked = Some(false);
            }
            (Some(_), Some(_)) => self.notes.push("the end is before the start".to_owned()),
            (None, _) if start.is_zero => call.talked = Some(false),
            _ => {}
        }
        self.call.ended_at
    }

    fn take_time(&mut self, names: &[String]) -> FieldTime {
        let Some((name, value)) = self.take_first(names) else {
            return FieldTime::default();
        };
        match moment(&value) {
            Some(moment) => {
                if moment.in_seconds {
                    self.notes.push(format!("{name} is in seconds"));
                }
                FieldTime {
                    at: Some(moment.at),
                    is_zero: false,
                }
            }
            None => {
                let is_zero = value.trim().parse() == Ok(0_i64);
                if !is_zero {
                    self.notes.push(format!("{name} is no time"));
                    self.used.remove(&name);
                }
                FieldTime { at: None, is_zero }
            }
        }
    }

    fn take_cdr(&mut self) {
        let settings = self.settings;
        self.call.is_cdr = true;
        if let Some((name, value)) = self.take_first(&settings.fields.recorded.names) {
            let value = value.trim();
            if settings.fields.recorded.yes.iter().any(|yes| yes == value) {
                self.call.recorded = Some(true);
            } else if settings.fields.recorded.no.iter().any(|no| no == value) {
                self.call.recorded = Some(false);
            } else {
                self.notes.push(format!("{name} is neither yes nor no"));
                self.used.remove(&name);
            }
        }
        self.call.hangup_cause = self
            .take("stopReason")
            .or_else(|| self.take("hangupReason"));
        self.take_numbers();
        if self.group.is_some() {
            let call = &self.call;
            self.call.legs = vec![LegFacts {
                provider_leg_id: call.provider_call_id.clone(),
                caller: call.caller.clone(),
                callee: call.callee.clone(),
                started_at: call.started_at,
                answered_at: call.answered_at,
                ended_at: call.ended_at,
                duration_ms: call.duration_ms,
                hangup_cause: call.hangup_cause.clone(),
            }];
        }
    }

    /// Numbers and accounts; that recording was asked for is a note, not a fact about the call.
    fn take_authorisation(&mut self) {
        self.call.talked = None;
        let settings = self.settings;
        if let Some((_, value)) = self.take_first(&settings.fields.recorded.names) {
            let asked = settings.fields.recorded.yes.contains(&value);
            self.call
                .custom
                .insert("recording_requested".to_owned(), json!(asked));
        }
        self.take_numbers();
    }

    fn take_numbers(&mut self) {
        self.call.caller = self.take("caller");
        self.call.callee = self.take("callee");
        let account = self
            .take("fyAccountId")
            .or_else(|| self.take("appAccountId"));
        for (role, id, number) in [
            ("caller", account, self.call.caller.clone()),
            ("callee", None, self.call.callee.clone()),
        ] {
            if id.is_some() || number.is_some() {
                self.call.parties.push(Party {
                    role: Some(role.to_owned()),
                    id,
                    name: None,
                    number,
                });
            }
        }
    }

    /// One file per call; a call-back's file may be asked for under either leg's id.
    fn announced(&self) -> Announced {
        let call_id = &self.call.provider_call_id;
        let mut aliases = vec![call_id.clone()];
        aliases.extend(self.group.clone());
        Announced {
            provider_call_id: call_id.clone(),
            call_aliases: self.call.aliases.clone(),
            // A leg's id names the leg, not the joint file.
            provider_recording_id: self.group.is_none().then(|| call_id.clone()),
            aliases,
            part: Part::Mixed,
            handle: json!({ "call_ids": [call_id] }),
            ..Announced::default()
        }
    }

    fn keep_the_rest(&mut self) {
        for name in self.form.names() {
            if !self.used.contains(name) {
                let value = self.form.get(name).unwrap_or_default();
                self.call.custom.insert(name.to_owned(), Value::from(value));
            }
        }
        if !self.notes.is_empty() {
            self.call
                .custom
                .insert("_notes".to_owned(), json!(self.notes));
        }
    }
}

#[derive(Clone, Copy, Default)]
struct FieldTime {
    at: Option<Timestamp>,
    /// Written as 0: the vendor says that there was no such moment.
    is_zero: bool,
}
