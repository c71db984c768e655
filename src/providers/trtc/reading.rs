//! The facts of a stored callback or answer: rooms, parties, and the files that a recording task made.
//!
//! What a newcomer gets wrong: room ids are used again and again, so an event belongs to the room's life
//! that holds its time, and only event 101 says when a life began. Files are known by their task.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::domain::call::{CallFacts, LegFacts, Party, Place};
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::Clocks;
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Link, Reading};
use crate::domain::recording::Part;

use super::loose;
use super::names::FileName;
use super::push::{self, Family};
use super::settings::{RoomIds, Settings};
use super::{bucket, legacy, media};

/// News under these names come from our own questions.
pub const MEDIA_INFO: &str = "media_info";
pub const TASK_FILE: &str = "task_file";

pub fn read(notice: &Notice, settings: &Settings) -> Result<Reading, String> {
    let body: Value =
        serde_json::from_slice(&notice.body).map_err(|error| format!("not JSON: {error}"))?;
    match notice.topic.as_str() {
        MEDIA_INFO => return media::read(&body, settings),
        bucket::BUCKET_FILE => return bucket::read(&body, settings),
        TASK_FILE => return task_file(&body, settings, notice.arrived_at),
        _ => {}
    }
    let header = notice
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("sdkappid"))
        .map(|(_, value)| value.as_str());
    let app = push::app_id(header, &notice.query, settings);
    match Family::of(body) {
        Family::Event(event) => Event::of(event, app, settings)?.read(),
        Family::Wrapper(wrapper, event) => {
            let mut event = Event::of(event, app, settings)?;
            event.call_id = wrapper.get("CallId").and_then(loose::id);
            event.read()
        }
        Family::Legacy(body) => legacy::read(&body, settings),
        Family::Other => Err("none of the vendor's callbacks".to_owned()),
    }
}

pub fn ignored(why: impl Into<String>) -> Result<Reading, String> {
    Ok(Reading {
        ignored: Some(why.into()),
        ..Reading::default()
    })
}

/// A room of one application; the number 7 and the text "7" are two rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub app: String,
    pub id: String,
    pub is_text: bool,
    /// Digits that came as text, and nothing says which of the two they are.
    pub is_unsure: bool,
}

impl Room {
    pub fn of(
        app: &str,
        value: &Value,
        file: Option<&FileName>,
        settings: &Settings,
    ) -> Option<Self> {
        let id = loose::id(value)?;
        let is_digits = id.bytes().all(|b| b.is_ascii_digit());
        let mut is_unsure = false;
        let is_text = match settings.room_ids {
            _ if !is_digits => true,
            RoomIds::Text => true,
            RoomIds::Number => false,
            RoomIds::Auto if !value.is_string() => false,
            RoomIds::Auto => file.and_then(FileName::has_text_room).unwrap_or_else(|| {
                is_unsure = true;
                true
            }),
        };
        Some(Self {
            app: app.to_owned(),
            id,
            is_text,
            is_unsure,
        })
    }

    /// Where a moment was; a number that came as text is looked for under both.
    pub fn place(&self, at: Timestamp, opens: bool) -> Place {
        let named = |kind: &str| format!("room/{}/{kind}/{}", self.app, self.id);
        Place {
            name: named(if self.is_text { "text" } else { "number" }),
            or: self.is_unsure.then(|| named("number")),
            at,
            opens,
        }
    }

    /// The vendor's own form, `CommId`; a text of digits stands in quotes so that it differs from the number.
    pub fn life(&self, began_s: i64) -> String {
        format!("{}_{}", self.shown(), began_s)
    }

    /// A life whose beginning is not known, only a second of it.
    pub fn life_around(&self, second: i64) -> String {
        format!("{}_~{second}", self.shown())
    }

    fn shown(&self) -> String {
        let is_digits = self.id.bytes().all(|b| b.is_ascii_digit());
        if self.is_text && is_digits {
            format!("{}_\"{}\"", self.app, self.id)
        } else {
            format!("{}_{}", self.app, self.id)
        }
    }
}

/// A file of a recording task, from whatever told of it.
#[derive(Clone, Debug, Default)]
pub struct File {
    pub app: String,
    pub task: Option<String>,
    pub room: Option<String>,
    pub user: Option<String>,
    pub media_id: Option<String>,
    pub track: Option<String>,
    pub file_id: Option<String>,
    pub name: Option<String>,
    pub url: Option<String>,
    /// In the customer's bucket, where `name` is the end of its key.
    pub in_cos: bool,
    pub confirmed: bool,
    pub ready_now: bool,
    pub ready_after: Option<Timestamp>,
    pub gone_at: Option<Timestamp>,
    /// When its sound began, by the event of the file.
    pub began_at: Option<Timestamp>,
}

impl File {
    pub fn names(&self) -> FileName {
        FileName::of(self.name.as_deref().unwrap_or_default())
    }

    /// Picture without sound: its facts are kept, there is nothing to archive.
    pub fn has_sound(&self) -> bool {
        let track = self.track.clone().or_else(|| self.names().track_type);
        track.as_deref() != Some("video")
    }

    /// tencent.md, section 8.3.
    pub fn part(&self) -> Part {
        match (self.media_id.as_deref(), &self.user) {
            (Some("mix"), _) | (None, None) => Part::Mixed,
            (_, Some(_)) => Part::Party,
            (Some(_), None) => Part::Unknown,
        }
    }

    /// tencent.md, section 8.4, and the media store's own id alone: a search result may know no more.
    pub fn aliases(&self) -> Vec<String> {
        let mut aliases = Vec::new();
        if let Some(task) = &self.task {
            let named = [&self.file_id, &self.name];
            for name in named.into_iter().flatten() {
                aliases.push(format!("tencent/{}/{task}/{name}", self.app));
            }
        }
        if let Some(file_id) = &self.file_id {
            aliases.push(format!("vod/{file_id}"));
        }
        aliases
    }

    pub fn announced(&self, provider_call_id: &str) -> Announced {
        let list = |one: Option<&String>| one.into_iter().cloned().collect::<Vec<_>>();
        let name = self.name.as_ref();
        Announced {
            provider_call_id: provider_call_id.to_owned(),
            provider_recording_id: self.file_id.clone().or_else(|| self.name.clone()),
            aliases: self.aliases(),
            part: self.part(),
            began_at: self.began_at,
            party: self.user.clone().filter(|_| self.part() == Part::Party),
            handle: json!({
                "app": self.app,
                "task": self.task,
                "room": self.room,
                "file_ids": list(self.file_id.as_ref()),
                "names": list(name.filter(|_| !self.in_cos)),
                "cos_names": list(name.filter(|_| self.in_cos)),
            }),
            link: self.url.as_deref().and_then(link),
            clocks: Clocks {
                ready_after: self.ready_after,
                link_until: None,
                gone_at: self.gone_at,
            },
            ready_now: self.ready_now,
            confirmed: self.confirmed,
            ..Announced::default()
        }
    }
}

/// An http or https address; anything else is as good as none.
pub fn link(url: &str) -> Option<Link> {
    let url = url.trim();
    let scheme = url.split_once("://")?.0.to_ascii_lowercase();
    (matches!(scheme.as_str(), "http" | "https") && url.len() <= 8 * 1024).then(|| Link {
        url: url.to_owned(),
        until: None,
    })
}

/// An event while it is read.
struct Event<'a> {
    settings: &'a Settings,
    app: String,
    group: i64,
    kind: i64,
    info: Map<String, Value>,
    at: Option<Timestamp>,
    /// Of the call kit.
    call_id: Option<String>,
}

impl<'a> Event<'a> {
    fn of(event: Value, app: Option<String>, settings: &'a Settings) -> Result<Self, String> {
        let app = app.ok_or("no SdkAppId, and the source has several applications")?;
        let group = loose::number(&event["EventGroupId"]).ok_or("no EventGroupId")?;
        let kind = loose::number(&event["EventType"]).ok_or("no EventType")?;
        let info = match event.get("EventInfo") {
            Some(Value::Object(info)) => info.clone(),
            _ => return Err("no EventInfo".to_owned()),
        };
        let at = ["EventMsTs", "EventTs"]
            .iter()
            .find_map(|name| loose::moment(info.get(*name)?));
        Ok(Self {
            settings,
            app,
            group,
            kind,
            info,
            at,
            call_id: None,
        })
    }

    fn get(&self, name: &str) -> &Value {
        self.info.get(name).unwrap_or(&Value::Null)
    }

    fn payload(&self, name: &str) -> &Value {
        self.get("Payload").get(name).unwrap_or(&Value::Null)
    }

    fn room(&self, file: Option<&FileName>) -> Option<Room> {
        Room::of(&self.app, self.get("RoomId"), file, self.settings)
    }

    fn user(&self) -> Option<String> {
        loose::id(self.get("UserId"))
    }

    fn read(self) -> Result<Reading, String> {
        match (self.group, self.kind) {
            (1, 101..=105) | (2, 203 | 204) => self.in_the_room(),
            (2, 201..=206) => ignored("picture on or off is no fact of a call"),
            (3, 301 | 302 | 305 | 312) => self.recorder(),
            (3, 304 | 307) => self.playlist(),
            (3, 310) => self.stored_in_cos(),
            (3 | 8, 311) => self.committed(),
            (3, 303 | 306 | 308 | 309) | (8, 312) => {
                ignored("a step of the recording that says nothing of its files")
            }
            (group, kind) => ignored(format!("group {group}, type {kind} is not read")),
        }
    }

    /// tencent.md, section 3.1: who was in the room, and when.
    fn in_the_room(self) -> Result<Reading, String> {
        let room = self.room(None).ok_or("no RoomId")?;
        let at = self.at.ok_or("no time")?;
        let second = at.ms().div_euclid(1000);
        let opens = self.kind == 101;
        let mut call = CallFacts::new(room.life(second));
        if opens {
            call.place = Some(room.place(Timestamp::from_ms(second * 1000), true));
            call.is_cdr = true;
            call.started_at = Some(at);
        } else {
            // Of a life whose beginning this event does not tell.
            call.provider_call_id = room.life_around(second);
            call.place = Some(room.place(at, false));
        }
        if self.kind == 102 {
            call.ended_at = Some(at);
        }
        let is_recorder = |user: &String| {
            let mut prefixes = self.settings.recorder_prefixes.iter();
            prefixes.any(|prefix| !prefix.is_empty() && user.starts_with(prefix))
        };
        if let Some(user) = self.user().filter(|user| !is_recorder(user)) {
            let moment = |kind| Some(at).filter(|_| self.kind == kind);
            call.legs.push(LegFacts {
                provider_leg_id: user.clone(),
                started_at: moment(103),
                answered_at: moment(203),
                ended_at: moment(104),
                hangup_cause: loose::text(self.get("Reason")).filter(|_| self.kind == 104),
                ..LegFacts::default()
            });
            call.parties.push(party(user));
        }
        self.keep(&mut call, &room);
        Ok(Reading {
            calls: vec![call],
            ..Reading::default()
        })
    }

    fn keep(&self, call: &mut CallFacts, room: &Room) {
        call.custom.insert("sdk_app_id".to_owned(), json!(self.app));
        call.custom.insert("room".to_owned(), json!(room.id));
    }

    /// The call that a recording task belongs to; `within` is a moment of the call itself.
    fn call_of_task(
        &self,
        within: Option<Timestamp>,
        file: Option<&FileName>,
    ) -> Result<CallFacts, String> {
        let task = loose::id(self.get("TaskId"));
        let id = self.call_id.clone().or_else(|| task.clone());
        let room = self.room(file);
        let id = match (id, &room, within) {
            (Some(id), _, _) => id,
            (None, Some(room), Some(at)) => room.life_around(at.ms().div_euclid(1000)),
            (None, _, _) => return Err("neither TaskId nor room".to_owned()),
        };
        let mut call = CallFacts::new(id);
        call.aliases.extend(task);
        // The place may give the call another name; the recordings of this notice still know this one.
        call.aliases.push(call.provider_call_id.clone());
        // The call kit's own id is the better name (tencent.md, section 4).
        call.is_cdr = self.call_id.is_some();
        call.correlation_ids.extend(self.call_id.clone());
        if let Some(room) = room {
            call.place = within.map(|at| room.place(at, false));
            self.keep(&mut call, &room);
        }
        Ok(call)
    }

    fn recorder(self) -> Result<Reading, String> {
        // The recorder comes while the room lives; it may leave, and upload, after its end.
        let within = self.at.filter(|_| self.kind == 301);
        let mut call = self.call_of_task(within, None)?;
        let code = |name: &str| loose::number(self.payload(name));
        let (key, code) = match self.kind {
            301 => ("recorder_status", code("Status")),
            302 => ("recorder_leave_code", code("LeaveCode")),
            // The Chinese page says Status, the English one LeaveCode.
            305 => ("upload_status", code("Status").or(code("LeaveCode"))),
            _ => ("vod_upload_status", code("Status")),
        };
        if let Some(code) = code {
            call.custom.insert(key.to_owned(), json!(code));
        }
        if self.kind == 301 {
            call.recorded = Some(code != Some(1)).filter(|is_so| *is_so);
        }
        Ok(Reading {
            calls: vec![call],
            ..Reading::default()
        })
    }

    /// A playlist was begun in the bucket: it is a recording once it has its end.
    fn playlist(self) -> Result<Reading, String> {
        let payload = self.get("Payload");
        let name = ["FileName", "FileList"]
            .iter()
            .find_map(|name| match payload.get(*name)? {
                Value::Array(names) => loose::id(names.first()?),
                one => loose::id(one),
            })
            .ok_or("no file name")?;
        let file = File {
            track: loose::text(&payload["TrackType"]),
            user: loose::id(&payload["UserId"]),
            in_cos: true,
            confirmed: true,
            ready_after: self.at.map(|at| at.plus(self.settings.ready_after)),
            ..self.file(name)
        };
        let begun = loose::moment(&payload["BeginTimeStamp"]);
        self.announce(vec![(file, begun, None)])
    }

    fn file(&self, name: String) -> File {
        let known = FileName::of(&name);
        File {
            app: self.app.clone(),
            task: loose::id(self.get("TaskId")),
            room: loose::id(self.get("RoomId")),
            user: known.user(),
            media_id: known
                .media_id
                .clone()
                .or_else(|| known.mixed.filter(|is_so| *is_so).map(|_| "mix".to_owned())),
            name: Some(name),
            ..File::default()
        }
    }

    /// 310: in the customer's bucket. May come several times; each tells what is new.
    fn stored_in_cos(self) -> Result<Reading, String> {
        let payload = self.get("Payload");
        let status = loose::number(&payload["Status"]).unwrap_or(0);
        let mut files = Vec::new();
        let mut add = |name: String, told: Option<&Value>| {
            let mut file = File {
                in_cos: true,
                confirmed: status == 0,
                ready_now: status == 0,
                ready_after: self.at.map(|at| at.plus(self.settings.ready_after)),
                ..self.file(name)
            };
            let mut times = (None, None);
            if let Some(told) = told {
                file.user = loose::id(&told["UserId"]);
                file.track = loose::text(&told["TrackType"]);
                file.media_id = loose::text(&told["MediaId"]).or(file.media_id);
                times = (
                    loose::moment(&told["StartTimeStamp"]),
                    loose::moment(&told["EndTimeStamp"]),
                );
            }
            files.push((file, times.0, times.1));
        };
        let messages = payload["FileMessage"].as_array();
        for told in messages.into_iter().flatten() {
            if let Some(name) = loose::id(&told["FileName"]) {
                add(name, Some(told));
            }
        }
        let is_told = |name: &str| {
            let mut messages = messages.into_iter().flatten();
            messages.any(|told| told["FileName"] == name)
        };
        for name in payload["FileList"].as_array().into_iter().flatten() {
            if let Some(name) = loose::id(name).filter(|name| !is_told(name)) {
                add(name, None);
            }
        }
        if files.is_empty() {
            return Err("no file is named".to_owned());
        }
        self.announce(files)
    }

    /// 311: committed to the media store; the older page puts its fields directly into the payload.
    fn committed(self) -> Result<Reading, String> {
        let payload = self.get("Payload");
        let status = loose::number(&payload["Status"]).unwrap_or(0);
        let told = match payload.get("TencentVod") {
            Some(told @ Value::Object(_)) => told,
            _ => payload,
        };
        let file_id = loose::id(&told["FileId"]);
        let url = loose::text(&told["VideoUrl"]);
        let name = loose::id(&told["CacheFile"]);
        if file_id.is_none() && url.is_none() && name.is_none() {
            return Err("neither FileId nor address nor CacheFile".to_owned());
        }
        let is_good = status == 0 && file_id.is_some();
        let mut file = self.file(name.clone().unwrap_or_default());
        file.name = name;
        file.user = loose::id(&told["UserId"]);
        file.media_id = loose::text(&told["MediaId"]);
        file.track = loose::text(&told["TrackType"]);
        let file = File {
            file_id,
            url,
            confirmed: is_good,
            ready_now: is_good,
            ready_after: self.at.map(|at| at.plus(self.settings.ready_after)),
            ..file
        };
        let start = loose::moment(&told["StartTimeStamp"])
            .or_else(|| loose::moment(&told["BeginTimeStamp"]));
        let end = loose::moment(&told["EndTimeStamp"]);
        self.announce(vec![(file, start, end)])
    }

    fn announce(
        self,
        files: Vec<(File, Option<Timestamp>, Option<Timestamp>)>,
    ) -> Result<Reading, String> {
        let begun = files.iter().filter_map(|(_, start, _)| *start).min();
        let hint = files.first().map(|(file, _, _)| file.names());
        let mut call = self.call_of_task(begun, hint.as_ref())?;
        call.started_at = begun;
        call.ended_at = files.iter().filter_map(|(_, _, end)| *end).max();
        let mut reading = Reading::default();
        for (mut file, start, end) in files {
            file.began_at = start;
            if let Some(user) = &file.user {
                call.parties.push(party(user.clone()));
            }
            if file.has_sound() {
                call.recorded = Some(true);
                reading
                    .recordings
                    .push(file.announced(&call.provider_call_id));
            } else {
                keep_picture(&mut call, &file, start, end);
            }
        }
        reading.calls.push(call);
        Ok(reading)
    }
}

/// `video` only: there is no sound to archive, and the file is not forgotten.
pub fn keep_picture(
    call: &mut CallFacts,
    file: &File,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
) {
    let name = file.file_id.as_ref().or(file.name.as_ref());
    let key = format!("without_sound:{}", name.cloned().unwrap_or_default());
    let facts = json!({
        "user": file.user, "file": file.name,
        "started_at": start.map(|at| at.to_string()), "ended_at": end.map(|at| at.to_string()),
    });
    call.custom.insert(key, facts);
}

pub fn party(user: String) -> Party {
    Party {
        id: Some(user),
        ..Party::default()
    }
}

/// An entry of `DescribeCloudRecording`'s list: a file of a task that still lives.
fn task_file(body: &Value, settings: &Settings, arrived: Timestamp) -> Result<Reading, String> {
    let app = loose::id(&body["app"]).ok_or("no application")?;
    let task = loose::id(&body["task"]).ok_or("no task")?;
    let told = &body["file"];
    let name = loose::id(&told["FileName"]).ok_or("no FileName")?;
    let known = FileName::of(&name);
    let mixed = known.mixed.filter(|is_so| *is_so);
    let file = File {
        app,
        user: loose::id(&told["UserId"]).or_else(|| known.user()),
        media_id: known.media_id.or_else(|| mixed.map(|_| "mix".to_owned())),
        track: loose::text(&told["TrackType"]),
        task: Some(task.clone()),
        name: Some(name),
        in_cos: true,
        confirmed: true,
        ready_after: Some(
            arrived
                .plus(Duration::from_secs(30))
                .min(arrived.plus(settings.ready_after)),
        ),
        ..File::default()
    };
    let mut call = CallFacts::new(task);
    call.started_at = loose::moment(&told["BeginTimeStamp"]);
    call.parties.extend(file.user.clone().map(party));
    let mut reading = Reading::default();
    if file.has_sound() {
        reading
            .recordings
            .push(file.announced(&call.provider_call_id));
    } else {
        keep_picture(&mut call, &file, None, None);
    }
    reading.calls.push(call);
    Ok(reading)
}
