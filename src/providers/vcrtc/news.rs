//! What we find out by ourselves and how it is told to the intake: one small JSON body for each piece of news.

use serde_json::{Map, Value, json};

use crate::domain::clock::Timestamp;
use crate::providers::contract::Told;

use super::answer::Entry;

/// We started this recording.
pub const OPENED: &str = "opened";
/// A room records, by somebody else's hand as far as we know.
pub const WATCHED: &str = "watched";
/// A recording that was on is on no more.
pub const STOPPED: &str = "stopped";
/// The vendor could not start it: no file will come.
pub const FAILED: &str = "failed";
/// What `getRecords` says of a recording.
pub const ENTRY: &str = "entry";

/// A recording in a room; `meeting` is the first recording of its meeting.
#[derive(Clone, Copy, Debug)]
pub struct InRoom<'a> {
    pub room: &'a str,
    pub record_id: &'a str,
    pub meeting: &'a str,
}

pub fn in_room(topic: &str, what: InRoom<'_>, more: Value) -> Told {
    let mut body = json!({
        "conferenceKey": what.room,
        "recordId": what.record_id,
        "meeting": what.meeting,
    });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    Told {
        topic: topic.to_owned(),
        body: body.to_string().into(),
        dedup_key: format!("{topic}:{}:{}", what.room, what.record_id),
        unreadable: None,
    }
}

/// An entry as the vendor told it, without its address; with the moment at which its size was seen.
pub fn entry(entry: &Entry, room: &str, meeting: &str, now: Timestamp) -> Told {
    let mut body: Map<String, Value> = entry.told.clone();
    // As text, whatever the vendor made of them.
    body.insert("recordId".to_owned(), entry.record_id.as_str().into());
    body.insert("conferenceKey".to_owned(), room.into());
    body.insert("meeting".to_owned(), meeting.into());
    body.insert("seenAt".to_owned(), now.ms().into());
    let text = |at: Option<Timestamp>| at.map_or(0, Timestamp::ms);
    Told {
        topic: ENTRY.to_owned(),
        body: Value::Object(body).to_string().into(),
        dedup_key: format!(
            "{ENTRY}:{}:{}:{}:{}",
            entry.record_id,
            text(entry.started_at),
            text(entry.ended_at),
            entry.size.unwrap_or(0),
        ),
        unreadable: None,
    }
}
