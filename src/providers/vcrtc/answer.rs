//! What an answer of the recording interface means, decided in the order of vcrtc.md, section 4.

use chrono_tz::Tz;
use serde_json::{Map, Value};

use crate::domain::clock::Timestamp;

use super::loose;

/// Codes of vcrtc.md, section 2.4, that we act upon.
pub const ALREADY_ON: &str = "200003";
/// The room is known and nothing is recorded there: not open, not on, no such meeting.
pub const NOTHING_ON: [&str; 3] = ["200006", "200007", "200008"];
/// The longest id that we take; the samples have 32 or 36 characters.
const LONGEST_ID: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// `data`, and whether the body was read by the tolerant pass.
    Ok {
        data: Value,
        tolerant: bool,
    },
    /// The key is wrong or of another tenant.
    AuthFailed {
        code: String,
    },
    BadRequest {
        code: String,
        message: String,
    },
    Refused {
        code: String,
        message: String,
    },
    /// The vendor's front or a fault of its server: no word on the matter.
    Transport {
        code: Option<String>,
        what: String,
    },
}

impl Answer {
    pub fn of(status: u16, body: &[u8]) -> Self {
        if matches!(status, 401 | 403) {
            return Answer::AuthFailed {
                code: format!("http {status}"),
            };
        }
        let senseless = |code: Option<String>, what: String| Answer::Transport { code, what };
        if status != 200 {
            return senseless(None, format!("status {status}"));
        }
        let Some((mut answer, tolerant)) = loose::object(body) else {
            return senseless(None, "a body that is no JSON object".to_owned());
        };
        let Some(code) = loose::text(answer.get("code")) else {
            return senseless(None, "an answer without a code".to_owned());
        };
        let state = loose::text(answer.get("state"));
        let message = || {
            let message = loose::text(answer.get("message")).unwrap_or_default();
            message.chars().take(80).collect::<String>()
        };
        match code.as_str() {
            "403" => Answer::AuthFailed { code },
            "500" => senseless(Some(code), "a fault of the vendor's server".to_owned()),
            "400" => Answer::BadRequest {
                message: message(),
                code,
            },
            "200" if state.is_none_or(|state| state == "1") => Answer::Ok {
                data: answer.shift_remove("data").unwrap_or_default(),
                tolerant,
            },
            _ => Answer::Refused {
                message: message(),
                code,
            },
        }
    }
}

/// One recording as `getRecords` tells it.
#[derive(Clone, PartialEq)]
pub struct Entry {
    pub record_id: String,
    pub room: Option<String>,
    pub tenant: Option<String>,
    /// As received; names the call.
    pub start_text: Option<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub size: Option<u64>,
    /// Signed: used at once, byte for byte, and never kept.
    pub url: Option<String>,
    /// Times that are there and are no times.
    pub unreadable_times: u32,
    /// All members but the address.
    pub told: Map<String, Value>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({}, {:?} bytes)", self.record_id, self.size)
    }
}

impl Entry {
    pub fn of(value: &Value, zone: Tz) -> Option<Self> {
        let fields = value.as_object()?;
        let record_id = record_id(fields)?;
        let mut unreadable_times = 0;
        let mut time = |name: &str| {
            let text = loose::text(fields.get(name))?;
            let at = loose::time(&text, zone);
            unreadable_times += u32::from(at.is_none());
            at
        };
        let (started_at, ended_at) = (time("startTime"), time("stopTime"));
        let mut told = fields.clone();
        told.retain(|name, _| name != "downUrl" && !is_pin(name));
        Some(Self {
            room: loose::text(fields.get("conferenceKey")),
            tenant: loose::text(fields.get("entId")),
            start_text: loose::text(fields.get("startTime")).filter(|_| started_at.is_some()),
            size: loose::size(fields.get("fileSize")),
            // Not trimmed, not decoded: a signature covers the very bytes.
            url: fields
                .get("downUrl")
                .and_then(Value::as_str)
                .filter(|url| !url.trim().is_empty())
                .map(str::to_owned),
            record_id,
            started_at,
            ended_at,
            unreadable_times,
            told,
        })
    }

    /// Whether the file may be there: stopped, not before its start, with a size and an address.
    pub fn is_complete(&self) -> bool {
        let stopped = match (self.started_at, self.ended_at) {
            (Some(start), Some(end)) => end >= start,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        stopped && self.size.is_some_and(|size| size > 0) && self.url.is_some()
    }
}

/// The id in `recordId`, text or number.
pub fn record_id(fields: &Map<String, Value>) -> Option<String> {
    loose::text(fields.get("recordId")).filter(|id| id.len() <= LONGEST_ID)
}

/// Members that hold the PIN of a room: never kept, never shown.
pub fn is_pin(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["hostpwd", "guestpwd", "joinpwd", "pin", "pwd", "password"].contains(&name.as_str())
}

/// The answer's entries, told apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entries {
    /// The one that was asked for, by its id alone.
    pub wanted: Option<Entry>,
    /// Others of this room (or of any, when no room is known) and tenant.
    pub others: Vec<Entry>,
    /// Of other rooms and tenants, and what is no entry at all.
    pub ignored: u32,
    pub unreadable_times: u32,
}

impl Entries {
    /// `data` of `getRecords`: a list, one object, or nothing.
    pub fn of(
        data: &Value,
        asked: &str,
        is_our_room: impl Fn(&str) -> bool,
        tenant: Option<&str>,
        zone: Tz,
    ) -> Self {
        let mut found = Self::default();
        let items: &[Value] = match data {
            Value::Array(items) => items,
            Value::Object(_) => std::slice::from_ref(data),
            _ => &[],
        };
        for item in items {
            let Some(entry) = Entry::of(item, zone) else {
                found.ignored += 1;
                continue;
            };
            let of_other_room = entry.room.as_deref().is_some_and(|room| !is_our_room(room));
            let of_other_tenant = tenant.is_some_and(|tenant| {
                entry
                    .tenant
                    .as_deref()
                    .is_some_and(|theirs| theirs != tenant)
            });
            if of_other_room || of_other_tenant {
                found.ignored += 1;
                continue;
            }
            found.unreadable_times += entry.unreadable_times;
            if entry.record_id == asked {
                found.wanted.get_or_insert(entry);
            } else {
                found.others.push(entry);
            }
        }
        found.others.sort_by_key(|entry| entry.started_at);
        found
    }
}

/// What `getLiveRecStatus` says of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub recording: bool,
    pub record_id: Option<String>,
    /// Starting failed: no file will come.
    pub failed: Option<String>,
}

impl Status {
    /// None when the answer is about another room, or about nothing.
    pub fn of(data: &Value, room: &str) -> Option<Self> {
        let fields = data.as_object()?;
        let theirs = loose::text(fields.get("conferenceKey"));
        if theirs.is_some_and(|theirs| theirs != room) {
            return None;
        }
        Some(Self {
            recording: loose::flag(fields.get("record")),
            record_id: record_id(fields),
            failed: loose::text(fields.get("failedReason")),
        })
    }
}
