//! The facts of a stored message copy, or of an answer that we asked for: each generation in its own words.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::domain::call::{CallFacts, Party};
use crate::domain::notice::Notice;
use crate::domain::reading::Reading;
use crate::domain::recording::Part;

use super::file::{File, Track, Ways};
use super::loose;
use super::shape::Shape;

/// One file of the query by channel: `{"channelId":"…","fileInfo":{…}}`.
pub const TOPIC_FILE: &str = "media-file";
/// One entry of the video store's list, as it stands there.
pub const TOPIC_VIDEO: &str = "vod-video";

/// Longest id of another system that is searchable.
const LONGEST_CORRELATION_ID: usize = 256;

pub fn read(notice: &Notice) -> Result<Reading, String> {
    match notice.topic.as_str() {
        TOPIC_FILE => return asked_file(&notice.body),
        TOPIC_VIDEO => return listed_video(&notice.body),
        _ => {}
    }
    match Shape::of(&notice.body)? {
        Shape::Empty => Ok(ignored("the vendor's check of the address")),
        chat if chat.is_chat() => Ok(ignored("a chat or login, no call")),
        Shape::Av1 { event, fields } => av1(&event, &fields),
        Shape::G2 { event, data } => g2(&event, &data),
        Shape::Room { event, body } => match event.as_str() {
            "RTC_RECORD" | "MEETING_RECORD" => Ok(files(vec![body], Ways::default())),
            _ => Ok(ignored(&format!("{} is kept and not read", shown(&event)))),
        },
        Shape::Meeting { event, body } => old_meeting(&event, &body),
    }
}

fn ignored(why: &str) -> Reading {
    Reading {
        ignored: Some(why.to_owned()),
        ..Reading::default()
    }
}

/// An event's name as text of bounded length.
fn shown(event: &str) -> String {
    let start: String = event.chars().take(40).collect();
    format!("event {start:?}")
}

fn av1(event: &str, fields: &Map<String, Value>) -> Result<Reading, String> {
    let tells_caller = Ways {
        tells_caller: true,
        ..Ways::default()
    };
    match event {
        "5" => Ok(Reading {
            calls: vec![report(fields)?],
            ..Reading::default()
        }),
        "6" => {
            let list = fields
                .get("fileinfo")
                .or_else(|| fields.get("fileInfo"))
                .and_then(loose::elements)
                .ok_or("no fileinfo that can be read")?;
            Ok(file_list(list, tells_caller))
        }
        "13" => Ok(ignored(
            "members who come and go; the call report tells them",
        )),
        other => Ok(ignored(&format!(
            "{} of the first generation is not known; kept",
            shown(other)
        ))),
    }
}

fn file_list(list: Vec<Value>, ways: Ways) -> Reading {
    let mut broken = Vec::new();
    let mut read = Vec::new();
    for (index, value) in list.iter().enumerate() {
        match loose::unpacked(value) {
            Value::Object(file) => read.push(file),
            _ => broken.push(format!("file {index}: not an object")),
        }
    }
    let mut reading = files(read, ways);
    if !broken.is_empty() {
        reading.ignored = None;
        reading.unreadable.extend(broken);
    }
    reading
}

/// netease.md, section 3.1. `duration` is the sum over all members; they talked as long as the longest of them.
fn report(of: &Map<String, Value>) -> Result<CallFacts, String> {
    let id = loose::text(of, &["channelId", "channelid"])
        .filter(|id| id.len() <= 512)
        .ok_or("no channelId")?;
    let mut call = CallFacts::new(id);
    // An interim report of a long call never replaces what the final one says.
    call.is_cdr = loose::truth(of, &["running"]) != Some(true);
    call.started_at = loose::time(of, &["createtime", "createTime"]);
    let members: Vec<Map<String, Value>> = of
        .get("members")
        .and_then(loose::elements)
        .unwrap_or_default()
        .iter()
        .filter_map(|member| match loose::unpacked(member) {
            Value::Object(member) => Some(member),
            _ => None,
        })
        .collect();
    let longest = members
        .iter()
        .filter_map(|member| loose::seconds_as_ms(member, &["duration"]))
        .max();
    let sum = loose::seconds_as_ms(of, &["duration"]);
    let is_group = loose::truth(of, &["live"]) == Some(true);
    // Without members the sum is of two, where it is no group's.
    call.duration_ms = longest.or_else(|| sum.map(|sum| if is_group { sum } else { sum / 2 }));
    let status = loose::text(of, &["status"]);
    call.talked = Some(
        call.duration_ms.is_some_and(|ms| ms > 0)
            && sum != Some(0)
            && members.len() != 1
            && status.as_deref() != Some("SINGLE_PARTICIPATE"),
    );
    call.hangup_cause.clone_from(&status);
    let is_pair = members.len() == 2 && !is_group;
    for member in &members {
        let is_caller = loose::truth(member, &["caller"]) == Some(true);
        call.parties.extend(party(
            match (is_caller, is_pair) {
                (true, _) => "caller",
                (false, true) => "callee",
                (false, false) => "party",
            },
            loose::text(member, &["accid"]),
        ));
    }
    call.correlation_ids.extend(correlation(of, "ext"));
    for name in ["type", "live", "ext"] {
        if let Some(text) = loose::text(of, &[name]) {
            call.custom.insert(name.to_owned(), text.into());
        }
    }
    if let Some(sum) = sum {
        call.custom
            .insert("duration_of_all_s".to_owned(), json!(sum / 1000));
    }
    if !members.is_empty() {
        call.custom.insert("members".to_owned(), json!(members));
    }
    Ok(call)
}

fn party(role: &str, id: Option<String>) -> Option<Party> {
    Some(Party {
        role: Some(role.to_owned()),
        id: Some(id?),
        ..Party::default()
    })
}

/// The customer's own value or room name: an id to search by.
fn correlation(of: &Map<String, Value>, name: &str) -> Option<String> {
    loose::text(of, &[name]).filter(|text| text.len() <= LONGEST_CORRELATION_ID)
}

/// netease.md, section 4.
fn g2(event: &str, data: &Map<String, Value>) -> Result<Reading, String> {
    let what = match event {
        "3" => return Ok(files(vec![data.clone()], Ways::default())),
        "1" | "2" | "4" | "5" | "8" => event,
        other => {
            return Ok(ignored(&format!(
                "{} of RTC 2.0 is kept and not read",
                shown(other)
            )));
        }
    };
    let id = loose::text(data, &["channelId", "channelid"])
        .filter(|id| id.len() <= 512)
        .ok_or("no channelId")?;
    let mut call = CallFacts::new(id);
    call.correlation_ids
        .extend(correlation(data, "channelName"));
    // One of the vendor's samples misspells it.
    call.started_at = loose::time(data, &["createtime", "creaetime", "createTime"]);
    match what {
        // The nearest to a call report that this generation has.
        "2" => {
            call.is_cdr = true;
            call.ended_at = loose::time(data, &["timestamp"]);
        }
        // Its fields are not published: what looks like a length is one.
        "8" => {
            call.is_cdr = true;
            call.duration_ms = loose::seconds_as_ms(data, &["duration"]);
        }
        "4" | "5" => {
            let user = loose::text(data, &["user"]);
            let uid = loose::text(data, &["uid"]).filter(|uid| uid != "0");
            if let Some(uid) = &uid {
                let who = user.clone().unwrap_or_else(|| uid.clone());
                call.custom.insert(format!("uid {uid}"), who.into());
            }
            call.parties.extend(party("party", user.or(uid)));
            if what == "5" {
                call.duration_ms = loose::seconds_as_ms(data, &["duration"]);
            }
        }
        _ => {}
    }
    Ok(Reading {
        calls: vec![call],
        ..Reading::default()
    })
}

/// netease.md, section 4, last paragraph.
fn old_meeting(event: &str, body: &Map<String, Value>) -> Result<Reading, String> {
    if event != "7" {
        return Ok(ignored(&format!(
            "msgType {} is kept and not read",
            shown(event)
        )));
    }
    let list = body
        .get("fileInfo")
        .or_else(|| body.get("fileinfo"))
        .and_then(loose::elements)
        .ok_or("no fileInfo that can be read")?;
    let counted = Ways {
        mix_is_counted: true,
        ..Ways::default()
    };
    Ok(file_list(list, counted))
}

/// Files of one message; those of one channel belong to one call.
fn files(list: Vec<Map<String, Value>>, ways: Ways) -> Reading {
    let mut reading = Reading::default();
    let mut found: Vec<(File, Map<String, Value>)> = Vec::new();
    for (index, fields) in list.into_iter().enumerate() {
        match File::read(&fields, ways) {
            Ok(file) => found.push((file, fields)),
            Err(why) => reading.unreadable.push(format!("file {index}: {why}")),
        }
    }
    let channels: BTreeSet<String> = found
        .iter()
        .filter(|(file, _)| file.left_aside().is_none())
        .map(|(file, _)| file.channel.clone())
        .collect();
    let left_aside: Vec<(String, String)> = found
        .iter()
        .filter_map(|(file, _)| Some((file.channel.clone(), file.left_aside()?)))
        .collect();
    for channel in channels {
        let mut call = CallFacts::new(&channel);
        call.recorded = Some(true);
        let of_call: Vec<&(File, Map<String, Value>)> = found
            .iter()
            .filter(|(file, _)| file.channel == channel && file.left_aside().is_none())
            .collect();
        let is_pair = is_pair(of_call.iter().map(|(file, _)| file));
        for (file, fields) in of_call {
            let part = part(file, is_pair);
            let role = match part {
                Part::Caller => Some("caller"),
                Part::Callee => Some("callee"),
                // An account, not a bare user number: the events of the room name it the same.
                Part::Party if fields.contains_key("userUuid") => Some("party"),
                _ => None,
            };
            if let Some(role) = role {
                call.parties.extend(party(role, file.user.clone()));
            }
            let room =
                correlation(fields, "channelName").or_else(|| correlation(fields, "roomUuid"));
            call.correlation_ids
                .extend(room.filter(|room| !call.correlation_ids.contains(room)));
            for name in ["requestId", "roomArchiveId", "taskId"] {
                if let Some(text) = loose::text(fields, &[name]) {
                    call.custom.insert(name.to_owned(), text.into());
                }
            }
            call.custom
                .insert(format!("file {}", file.label()), file.facts());
            reading.recordings.push(file.clone().announced(part, true));
        }
        for (_, why) in left_aside.iter().filter(|(of, _)| *of == channel) {
            call.custom
                .insert(format!("left aside {}", hash_of(why)), why.as_str().into());
        }
        call.parties.dedup();
        reading.calls.push(call);
    }
    if reading.calls.is_empty() && reading.unreadable.is_empty() {
        reading.ignored = Some(match left_aside.first() {
            Some((_, why)) => why.clone(),
            None => "no file in it".to_owned(),
        });
    }
    reading
}

/// A short stable name for a text, so that the same fact has the same key.
fn hash_of(text: &str) -> String {
    crate::domain::digest::Sha256::of(text.as_bytes()).short()
}

/// Exactly two users, one of whom began the call: then the other one was called.
fn is_pair<'a>(files: impl Iterator<Item = &'a File>) -> bool {
    let mut users = BTreeSet::new();
    let mut callers = BTreeSet::new();
    for file in files.filter(|file| file.track == Track::Single) {
        if let Some(user) = &file.user {
            users.insert(user);
            if file.is_caller {
                callers.insert(user);
            }
        }
    }
    users.len() == 2 && callers.len() == 1
}

fn part(file: &File, is_pair: bool) -> Part {
    match file.track {
        Track::Mixed => Part::Mixed,
        Track::Single if file.is_caller => Part::Caller,
        Track::Single if is_pair && file.user.is_some() => Part::Callee,
        Track::Single if file.user.is_some() => Part::Party,
        Track::Screen => Part::Party,
        _ => Part::Unknown,
    }
}

/// netease.md, section 6: `createTime`, `objectName` and `url` are all that is known of an answer's file.
fn asked_file(body: &[u8]) -> Result<Reading, String> {
    let Value::Object(mut told) = loose::parse(body)? else {
        return Err("not an object".to_owned());
    };
    let channel = loose::text(&told, &["channelId"]).ok_or("no channelId")?;
    let Some(Value::Object(mut file)) = told.remove("fileInfo") else {
        return Err("no fileInfo".to_owned());
    };
    file.insert("channelId".to_owned(), channel.into());
    Ok(of_unknown_part(files(vec![file], Ways::default())))
}

/// Its address lives a short while and its `status` may still say "in work": it is asked for by `vid`.
fn listed_video(body: &[u8]) -> Result<Reading, String> {
    let Value::Object(mut video) = loose::parse(body)? else {
        return Err("not an object".to_owned());
    };
    let is_ready = loose::count(&video, &["status"]) == Some(40);
    // In the store `type` is a category, not a kind of file.
    for name in ["url", "type", "mix", "user", "uid"] {
        video.remove(name);
    }
    // Then only the call is certain; the query by channel tells its files apart.
    let is_any_piece = File::read(&video, Ways::default()).is_ok_and(|file| file.is_any_piece());
    let mut reading = of_unknown_part(files(vec![video], Ways::default()));
    if is_any_piece {
        reading.recordings.clear();
    }
    for recording in &mut reading.recordings {
        recording.ready_now = is_ready;
    }
    Ok(reading)
}

/// Only the events say whose file it is; a mix is told by its name.
fn of_unknown_part(mut reading: Reading) -> Reading {
    for call in &mut reading.calls {
        call.custom.retain(|name, _| !name.starts_with("file "));
    }
    for recording in &mut reading.recordings {
        if recording.part != Part::Mixed {
            recording.part = Part::Unknown;
            // What the store calls creation is when it was put there.
            recording.began_at = None;
        }
    }
    reading
}
