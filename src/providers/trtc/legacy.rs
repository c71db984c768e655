//! The recording of old applications, through the live product: `event_type` 100 (documents 647/16823, 267/47026).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::parse;
use serde_json::{Value, json};

use crate::domain::call::CallFacts;
use crate::domain::reading::{Announced, Reading};
use crate::domain::recording::Part;

use super::loose;
use super::reading::{Room, ignored, link, party};
use super::settings::Settings;

pub fn read(body: &Value, settings: &Settings) -> Result<Reading, String> {
    let kind = loose::number(&body["event_type"]).ok_or("no event_type")?;
    if kind != 100 {
        // 0, 1, 200, 332 and 341 share the address.
        return ignored(format!("event_type {kind} is no recording"));
    }
    let account = loose::id(&body["appid"]).unwrap_or_default();
    let file_id = ["file_id", "record_file_id"]
        .iter()
        .find_map(|name| loose::id(&body[*name]))
        .ok_or("no file_id")?;
    let stream = ["stream_id", "channel_id"]
        .iter()
        .find_map(|name| loose::id(&body[*name]));
    let start = loose::moment(&body["start_time"]);
    let end = loose::moment(&body["end_time"]);
    let (user, own_id) = stream_param(body["stream_param"].as_str().unwrap_or_default());
    let task = loose::id(&body["task_id"]);
    let id = match (&stream, start) {
        (Some(stream), Some(start)) => format!("{stream}@{}", start.ms() / 1000),
        (Some(stream), None) => format!("{stream}@{file_id}"),
        (None, _) => format!("vod/{file_id}"),
    };
    let mut call = CallFacts::new(id);
    call.made_up = stream.is_none() || start.is_none();
    call.started_at = start;
    call.ended_at = end;
    call.recorded = Some(true);
    call.parties.extend(user.clone().map(party));
    call.correlation_ids.extend(own_id);
    if let Some(task) = task.filter(|task| task != "0") {
        call.aliases.push(task.clone());
        call.custom.insert("live_task_id".to_owned(), json!(task));
    }
    if let Some((room, at)) = stream
        .as_deref()
        .and_then(|stream| room_of(stream, user.as_deref(), settings))
        .zip(start)
    {
        call.place = Some(room.place(at, false));
        call.custom.insert("sdk_app_id".to_owned(), json!(room.app));
        call.custom.insert("room".to_owned(), json!(room.id));
    }
    let recording = Announced {
        provider_call_id: call.provider_call_id.clone(),
        provider_recording_id: Some(file_id.clone()),
        aliases: vec![
            format!("tencent/{account}/legacy/{file_id}"),
            format!("vod/{file_id}"),
        ],
        part: if user.is_some() {
            Part::Party
        } else {
            Part::Unknown
        },
        handle: json!({ "file_ids": [file_id], "legacy": true }),
        link: body["video_url"].as_str().and_then(link),
        clocks: crate::domain::deadlines::Clocks {
            ready_after: end.map(|end| end.plus(settings.ready_after)),
            ..Default::default()
        },
        ready_now: true,
        confirmed: true,
        ..Announced::default()
    };
    Ok(Reading {
        calls: vec![call],
        recordings: vec![recording],
        ..Reading::default()
    })
}

/// The user (Base64) and the customer's own record id.
pub fn stream_param(query: &str) -> (Option<String>, Option<String>) {
    let mut user = None;
    let mut own_id = None;
    for (name, value) in parse(query.as_bytes()) {
        let value = value.into_owned();
        match name.as_ref() {
            "userid" => {
                // A `+` of Base64 that nobody encoded arrives as a blank.
                let raw = value.replace(' ', "+");
                user = STANDARD
                    .decode(raw)
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok());
            }
            "userdefinerecordid" => own_id = Some(value),
            _ => {}
        }
    }
    let short = |text: Option<String>| {
        text.filter(|text| !text.is_empty() && text.len() <= loose::LONGEST_ID)
    };
    (short(user), short(own_id))
}

/// `sdkappid_roomid_userid_streamType`, where the application is ours.
fn room_of(stream: &str, user: Option<&str>, settings: &Settings) -> Option<Room> {
    let (app, rest) = stream.split_once('_')?;
    settings.app(app)?;
    let room = match user.and_then(|user| rest.find(&format!("_{user}_"))) {
        Some(at) => &rest[..at],
        None => rest.split('_').next()?,
    };
    Room::of(app, &Value::String(room.to_owned()), None, settings)
}
