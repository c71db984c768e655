//! The project's own contract `cdr/1`: one message is one event about one call leg (pbx-cdr.md, section 4).
//!
//! What a newcomer gets wrong: a refusal is for ever, so only what the page calls a refusal is one. What can
//! be dropped without losing the recording is dropped with a flag.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::domain::call::Direction;
use crate::domain::clock::Timestamp;

use super::json::{self, Fault};

pub const LARGEST: usize = 256 * 1024;
const MOST_RECORDINGS: usize = 32;
const MOST_ATTRIBUTES: usize = 64;
const LONGEST_ATTRIBUTE: usize = 1024;
const LARGEST_RAW: usize = 64 * 1024;
/// An event further ahead of our clock than this has a wrong clock.
const AHEAD_MS: i64 = 10 * 60 * 1000;
/// 2000-01-01T00:00:00Z.
const EARLIEST_MS: i64 = 946_684_800_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    CallEnded,
    CallUpdated,
    RecordingReady,
    RecordingProcessing,
    RecordingAbsent,
    RecordingFailed,
    RecordingDeleted,
    Unknown,
}

impl EventType {
    fn of(text: &str) -> Self {
        match text {
            "call.ended" => Self::CallEnded,
            "call.updated" => Self::CallUpdated,
            "recording.ready" => Self::RecordingReady,
            "recording.processing" => Self::RecordingProcessing,
            "recording.absent" => Self::RecordingAbsent,
            "recording.failed" => Self::RecordingFailed,
            "recording.deleted" => Self::RecordingDeleted,
            _ => Self::Unknown,
        }
    }

    /// The message is about the call itself.
    pub fn is_cdr(self) -> bool {
        matches!(self, Self::CallEnded | Self::CallUpdated)
    }
}

/// Where a recording lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locator {
    Url(String),
    File(String),
    Object {
        bucket: String,
        key: String,
        version: Option<String>,
    },
    /// The vendor's own adapter asks.
    Provider,
}

/// What a producer says of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Processing,
    Ready,
    Absent,
    Failed,
    Discarded,
    Deleted,
}

impl Fate {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Ready => "ready",
            Self::Absent => "absent",
            Self::Failed => "failed",
            Self::Discarded => "discarded",
            Self::Deleted => "deleted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Processing,
            Self::Ready,
            Self::Absent,
            Self::Failed,
            Self::Discarded,
            Self::Deleted,
        ]
        .into_iter()
        .find(|fate| fate.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Empty: without one.
    pub id: String,
    /// The producer names recordings for ever; else it counts them, and their place is their name.
    pub is_named: bool,
    pub fate: Fate,
    pub locator: Option<Locator>,
    pub expires_at: Option<Timestamp>,
    pub channels: Option<u64>,
    pub channel_map: Vec<String>,
    pub duration_ms: Option<i64>,
    pub size_bytes: Option<u64>,
    pub sha256: Option<String>,
    pub started_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Person {
    pub number: Option<String>,
    pub name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    pub id: String,
    pub group_id: Option<String>,
    pub direction: Option<Direction>,
    /// As written, where it is no direction of ours (`conference`).
    pub direction_text: Option<String>,
    pub caller: Person,
    pub callee: Person,
    pub started_at: Option<Timestamp>,
    pub answered_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub duration_ms: Option<i64>,
    pub billable_ms: Option<i64>,
    pub disposition: Option<String>,
    pub hangup_cause: Option<String>,
    pub recorded: Option<bool>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub provider: String,
    pub account: String,
    pub host: Option<String>,
    pub event_id: String,
    pub event: EventType,
    pub event_text: String,
    pub occurred_at: Timestamp,
    pub call: Call,
    pub recordings: Vec<Recording>,
    pub attributes: Map<String, Value>,
    pub flags: BTreeSet<&'static str>,
}

impl Recording {
    /// A file that lies there, ready, named by its place alone.
    pub fn at(locator: Locator) -> Self {
        Self {
            id: String::new(),
            is_named: false,
            fate: Fate::Ready,
            locator: Some(locator),
            expires_at: None,
            channels: None,
            channel_map: Vec::new(),
            duration_ms: None,
            size_bytes: None,
            sha256: None,
            started_at: None,
        }
    }
}

impl Message {
    /// What a telephone system says in its own format, as if it had used ours.
    pub fn native(provider: &str, event: EventType, call_id: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            account: String::new(),
            host: None,
            event_id: String::new(),
            event,
            event_text: String::new(),
            occurred_at: Timestamp::from_ms(0),
            call: Call {
                id: call_id.to_owned(),
                ..Call::default()
            },
            recordings: Vec::new(),
            attributes: Map::new(),
            flags: BTreeSet::new(),
        }
    }

    /// Equal for the same event of the same producer (rule 2).
    pub fn dedup_key(&self) -> String {
        format!("cdr:{}/{}:{}", self.provider, self.account, self.event_id)
    }
}

/// Reads a message; the error is the stable reason of its refusal. Times are judged against `now`. The
/// account is the caller's to know.
pub fn parse(body: &[u8], now: Timestamp) -> Result<Message, String> {
    if body.len() > LARGEST {
        return Err("too_large".to_owned());
    }
    let document = json::parse(body).map_err(|fault| match fault {
        Fault::NotJson => "not_json".to_owned(),
        Fault::TooDeep => "too_deep".to_owned(),
    })?;
    let Value::Object(root) = document.value else {
        return Err("not_json".to_owned());
    };
    let mut flags = BTreeSet::new();
    if document.has_duplicate_keys {
        flags.insert("duplicate_key");
    }
    let spec = required(&root, "spec", "spec", 64, |_| true)?;
    if !is_ours(&spec) {
        return Err("unsupported_spec".to_owned());
    }
    let event_id = required(&root, "event_id", "event_id", 128, |text| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:@".contains(&b))
    })?;
    let event_text = required(&root, "event_type", "event_type", 128, |_| true)?;
    let occurred_at = required(&root, "occurred_at", "occurred_at", 64, |_| true)?;
    let occurred_at =
        Timestamp::parse(&occurred_at).ok_or_else(|| "bad_value:occurred_at".to_owned())?;
    let none = Map::new();
    let source = object(&root, "source")?.unwrap_or(&none);
    let provider = required(source, "provider", "source.provider", 32, is_slug)?;
    let account = required(source, "account", "source.account", 128, |_| true)?;
    let told = object(&root, "call")?.unwrap_or(&none);
    let call_id = required(told, "id", "call.id", 256, |_| true)?;
    let event = EventType::of(&event_text);
    let mut reader = Reader {
        flags: &mut flags,
        now,
    };
    reader.judge(occurred_at);
    let call = reader.call(call_id, told);
    let recordings = reader.recordings(&root, event)?;
    let attributes = reader.attributes(root.get("attributes"));
    if let Some(raw) = root.get("raw")
        && raw.to_string().len() > LARGEST_RAW
    {
        flags.insert("raw_dropped");
    }
    Ok(Message {
        provider,
        account,
        host: text(source, "host"),
        event_id,
        event,
        event_text,
        occurred_at,
        call,
        recordings,
        attributes,
        flags,
    })
}

/// `cdr/1` or `cdr/1.<n>`.
fn is_ours(spec: &str) -> bool {
    match spec.strip_prefix("cdr/1") {
        Some("") => true,
        Some(rest) => rest
            .strip_prefix('.')
            .is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit())),
        None => false,
    }
}

fn is_slug(text: &str) -> bool {
    !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A text member that must be there, not empty, not longer than `longest` characters, and fitting.
fn required(
    from: &Map<String, Value>,
    name: &str,
    full: &str,
    longest: usize,
    fits: impl Fn(&str) -> bool,
) -> Result<String, String> {
    match from.get(name) {
        None | Some(Value::Null) => Err(format!("missing:{full}")),
        Some(Value::String(text))
            if !text.is_empty() && text.chars().count() <= longest && fits(text) =>
        {
            Ok(text.clone())
        }
        Some(_) => Err(format!("bad_value:{full}")),
    }
}

fn object<'a>(
    from: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, String> {
    match from.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(members)) => Ok(Some(members)),
        Some(_) => Err(format!("bad_value:{name}")),
    }
}

/// An optional text; numbers are written as producers may write them.
fn text(from: &Map<String, Value>, name: &str) -> Option<String> {
    match from.get(name)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

struct Reader<'a> {
    flags: &'a mut BTreeSet<&'static str>,
    now: Timestamp,
}

impl Reader<'_> {
    fn judge(&mut self, at: Timestamp) {
        if at.ms() < EARLIEST_MS || at.since_ms(self.now) > AHEAD_MS {
            self.flags.insert("suspect_time");
        }
    }

    fn time(&mut self, from: &Map<String, Value>, name: &str) -> Option<Timestamp> {
        match from.get(name)? {
            Value::Null => None,
            Value::String(text) if text.is_empty() => None,
            value => {
                let read = value.as_str().and_then(Timestamp::parse);
                match read {
                    Some(at) => self.judge(at),
                    None => {
                        self.flags.insert("bad_time");
                    }
                }
                read
            }
        }
    }

    fn number(&mut self, from: &Map<String, Value>, name: &str) -> Option<f64> {
        let value = from.get(name)?;
        let read = match value {
            Value::Null => return None,
            Value::String(text) if text.trim().is_empty() => return None,
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_f64(),
        };
        let read = read.filter(|number: &f64| number.is_finite() && *number >= 0.0);
        if read.is_none() {
            self.flags.insert("bad_number");
        }
        read
    }

    fn seconds(&mut self, from: &Map<String, Value>, name: &str) -> Option<i64> {
        // Saturates: a number of that size is no duration, and no overflow either.
        self.number(from, name).map(|s| (s * 1000.0).round() as i64)
    }

    fn whole(&mut self, from: &Map<String, Value>, name: &str) -> Option<u64> {
        self.number(from, name).map(|number| number as u64)
    }

    fn call(&mut self, id: String, told: &Map<String, Value>) -> Call {
        let mut call = Call {
            id,
            group_id: text(told, "group_id"),
            caller: person(told.get("caller")),
            callee: person(told.get("callee")),
            started_at: self.time(told, "started_at"),
            answered_at: self.time(told, "answered_at"),
            ended_at: self.time(told, "ended_at"),
            duration_ms: self.seconds(told, "duration_s"),
            billable_ms: self.seconds(told, "billable_s"),
            hangup_cause: text(told, "hangup_cause"),
            recorded: told.get("recorded").and_then(Value::as_bool),
            ..Call::default()
        };
        if let Some(written) = text(told, "direction") {
            call.direction = Direction::parse(&written);
            match written.as_str() {
                _ if call.direction.is_some() => {}
                "conference" | "unknown" => call.direction_text = Some(written),
                _ => {
                    self.flags.insert("unknown_enum");
                }
            }
        }
        if let Some(written) = text(told, "disposition") {
            const KNOWN: [&str; 7] = [
                "answered",
                "no_answer",
                "busy",
                "failed",
                "cancelled",
                "congestion",
                "unknown",
            ];
            call.disposition = Some(if KNOWN.contains(&written.as_str()) {
                written
            } else {
                self.flags.insert("unknown_enum");
                "unknown".to_owned()
            });
        }
        call
    }

    fn recordings(
        &mut self,
        root: &Map<String, Value>,
        event: EventType,
    ) -> Result<Vec<Recording>, String> {
        let told = match root.get("recordings") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(told)) => told,
            Some(_) => return Err("bad_value:recordings".to_owned()),
        };
        if told.len() > MOST_RECORDINGS {
            return Err("too_many_recordings".to_owned());
        }
        let mut recordings: Vec<Recording> = Vec::new();
        for one in told {
            let Value::Object(one) = one else {
                return Err("bad_value:recordings[]".to_owned());
            };
            let recording = self.recording(one, event)?;
            match recordings.iter_mut().find(|known| known.id == recording.id) {
                Some(known) => {
                    self.flags.insert("duplicate_recording_id");
                    *known = recording;
                }
                None => recordings.push(recording),
            }
        }
        Ok(recordings)
    }

    fn recording(
        &mut self,
        told: &Map<String, Value>,
        event: EventType,
    ) -> Result<Recording, String> {
        let bad = |member: &str| format!("bad_value:recordings[].{member}");
        let id = required(told, "id", "recordings[].id", 256, |_| true)?;
        let fate = match told.get("state") {
            // The event says it for them all.
            None | Some(Value::Null) if event == EventType::RecordingDeleted => Fate::Deleted,
            None | Some(Value::Null) => return Err("missing:recordings[].state".to_owned()),
            Some(Value::String(text)) => match Fate::parse(text) {
                Some(Fate::Deleted) | None => return Err(bad("state")),
                Some(_) if event == EventType::RecordingDeleted => Fate::Deleted,
                Some(fate) => fate,
            },
            Some(_) => return Err(bad("state")),
        };
        let locator = match told.get("locator") {
            None | Some(Value::Null) => None,
            Some(told) => Some(locator(told)?),
        };
        if fate == Fate::Ready && locator.is_none() {
            return Err("missing:recordings[].locator".to_owned());
        }
        let sha256 = match told.get("sha256") {
            None | Some(Value::Null) => None,
            Some(Value::String(text))
                if text.len() == 64
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) =>
            {
                Some(text.clone())
            }
            Some(_) => return Err(bad("sha256")),
        };
        let names = told.get("channel_map").and_then(Value::as_array);
        Ok(Recording {
            id,
            is_named: true,
            fate,
            locator,
            sha256,
            expires_at: self.time(told, "expires_at"),
            channels: self.whole(told, "channels"),
            channel_map: names
                .into_iter()
                .flatten()
                .filter_map(|name| Some(name.as_str()?.to_owned()))
                .take(16)
                .collect(),
            duration_ms: self.seconds(told, "duration_s"),
            size_bytes: self.whole(told, "size_bytes"),
            started_at: self.time(told, "started_at"),
        })
    }

    fn attributes(&mut self, told: Option<&Value>) -> Map<String, Value> {
        let mut kept = Map::new();
        let told = match told {
            None | Some(Value::Null) => return kept,
            Some(Value::Object(told)) => told,
            Some(_) => {
                self.flags.insert("attributes_trimmed");
                return kept;
            }
        };
        for (name, value) in told {
            let fits = match value {
                Value::String(text) => text.chars().count() <= LONGEST_ATTRIBUTE,
                Value::Number(_) | Value::Bool(_) => true,
                _ => false,
            };
            if fits && kept.len() < MOST_ATTRIBUTES && name.len() <= LONGEST_ATTRIBUTE {
                kept.insert(name.clone(), value.clone());
            } else {
                self.flags.insert("attributes_trimmed");
            }
        }
        kept
    }
}

fn person(told: Option<&Value>) -> Person {
    match told {
        Some(Value::Object(told)) => Person {
            number: text(told, "number"),
            name: text(told, "name"),
        },
        _ => Person::default(),
    }
}

fn locator(told: &Value) -> Result<Locator, String> {
    let bad = || "bad_value:recordings[].locator".to_owned();
    let told = told.as_object().ok_or_else(bad)?;
    let member = |name: &str| {
        let text = told.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).ok_or_else(bad)
    };
    match member("type")? {
        "url" => {
            let address = member("url")?;
            let parsed = url::Url::parse(address).map_err(|_| bad())?;
            if !matches!(parsed.scheme(), "http" | "https") {
                return Err(bad());
            }
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Err("url_userinfo".to_owned());
            }
            Ok(Locator::Url(address.to_owned()))
        }
        "file" => {
            let path = member("path")?;
            if !path.starts_with('/') {
                return Err(bad());
            }
            Ok(Locator::File(path.to_owned()))
        }
        "object" => Ok(Locator::Object {
            bucket: member("bucket")?.to_owned(),
            key: member("key")?.to_owned(),
            version: member("version").ok().map(str::to_owned),
        }),
        "provider" => Ok(Locator::Provider),
        _ => Err(bad()),
    }
}
