//! A `MediaInfo` of the media store (document 266), as `SearchMedia` and `DescribeMediaInfos` give it.

use serde_json::{Value, json};

use crate::domain::call::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::reading::Reading;

use super::loose;
use super::reading::{File, ignored, party};
use super::settings::Settings;

/// The parts of a `MediaInfo` that are used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Media {
    pub file_id: String,
    pub name: Option<String>,
    pub url: Option<String>,
    pub created: Option<Timestamp>,
    pub expires: Option<Timestamp>,
    pub source: String,
    pub app: Option<String>,
    pub room: Option<String>,
    pub task: Option<String>,
    pub users: Vec<String>,
    pub stream_id: Option<String>,
    pub size: Option<u64>,
    pub duration_ms: Option<i64>,
    /// The store has looked into the file.
    pub is_known: bool,
    /// Pictures, and certainly no sound.
    pub is_silent: bool,
}

impl Media {
    pub fn of(value: &Value) -> Option<Self> {
        let basic = &value["BasicInfo"];
        let source = &basic["SourceInfo"];
        let trtc = &source["TrtcRecordInfo"];
        let live = &source["LiveRecordInfo"];
        let meta = &value["MetaData"];
        let seconds = meta["Duration"].as_f64().filter(|s| (0.0..1e7).contains(s));
        let users = trtc["UserIds"].as_array();
        let is_empty = |list: &Value| list.as_array().is_some_and(Vec::is_empty);
        let has_any = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
        Some(Self {
            file_id: loose::id(&value["FileId"])?,
            name: loose::id(&basic["Name"]),
            url: loose::text(&basic["MediaUrl"]),
            created: loose::date(&basic["CreateTime"]),
            // The year 9999 means never.
            expires: loose::text(&basic["ExpireTime"])
                .filter(|text| !text.starts_with("9999"))
                .and_then(|text| Timestamp::parse(&text)),
            source: loose::text(&source["SourceType"]).unwrap_or_default(),
            app: loose::id(&trtc["SdkAppId"]),
            room: loose::id(&trtc["RoomId"]),
            task: loose::id(&trtc["TaskId"]),
            users: users.into_iter().flatten().filter_map(loose::id).collect(),
            stream_id: loose::id(&live["StreamId"]),
            size: meta["Size"].as_u64(),
            duration_ms: seconds.map(|s| (s * 1000.0).round() as i64),
            is_known: meta.is_object(),
            is_silent: is_empty(&meta["AudioStreamSet"]) && has_any(&meta["VideoStreamSet"]),
        })
    }

    /// An address that can be tried.
    pub fn is_ready(&self) -> bool {
        self.url.is_some() && self.is_known
    }

    /// When the file's sound began, at the latest: the file is made after the end.
    pub fn began(&self) -> Option<Timestamp> {
        Some(self.created?.plus_ms(-self.duration_ms?))
    }

    /// What may change about it, without addresses.
    pub fn dedup_key(&self) -> String {
        format!(
            "media:{}:{}:{}:{}",
            self.file_id,
            self.is_ready(),
            self.size.unwrap_or(0),
            self.expires.map_or(0, Timestamp::ms)
        )
    }
}

/// `{"media": MediaInfo, "call": id}`; `call` where we asked for one call and this is of it.
pub fn read(body: &Value, settings: &Settings) -> Result<Reading, String> {
    let media = Media::of(&body["media"]).ok_or("a media item without FileId")?;
    let is_ours = match media.source.as_str() {
        "TrtcRecord" | "WebPageRecord" => media
            .app
            .as_ref()
            .is_none_or(|app| settings.app(app).is_some()),
        "Record" => !settings.legacy_keys.is_empty(),
        _ => false,
    };
    if !is_ours {
        return ignored(format!(
            "a media item of source {:?}, or of another application",
            media.source.chars().take(40).collect::<String>()
        ));
    }
    let mut file = File {
        app: media
            .app
            .clone()
            .unwrap_or_else(|| settings.apps[0].id.clone()),
        task: media.task.clone(),
        room: media.room.clone(),
        file_id: Some(media.file_id.clone()),
        name: media.name.clone(),
        url: media.url.clone(),
        confirmed: true,
        ready_now: media.is_ready(),
        gone_at: media.expires,
        ..File::default()
    };
    let known = file.names();
    file.media_id = known
        .media_id
        .clone()
        .or_else(|| known.mixed.filter(|is_so| *is_so).map(|_| "mix".to_owned()));
    file.user = match media.users.as_slice() {
        [only] if known.mixed != Some(true) => Some(only.clone()),
        _ => known.user(),
    };
    if known.mixed.is_none() && file.user.is_none() {
        file.media_id = Some("unknown".to_owned());
    }
    let asked = loose::id(&body["call"]);
    let own = media
        .task
        .clone()
        .or_else(|| Some(format!("{}@{}", media.stream_id.as_ref()?, media.file_id)))
        .unwrap_or_else(|| format!("vod/{}", media.file_id));
    let mut call = CallFacts::new(asked.clone().unwrap_or_else(|| own.clone()));
    if asked.is_some() && media.task.is_some() {
        call.aliases.push(own.clone());
    }
    call.made_up = media.task.is_none() && call.provider_call_id == own;
    call.started_at = media.began();
    call.recorded = Some(true);
    call.parties = media.users.iter().cloned().map(party).collect();
    if let Some(room) = &media.room {
        call.custom.insert("room".to_owned(), json!(room));
        call.custom.insert("sdk_app_id".to_owned(), json!(file.app));
    }
    let mut reading = Reading::default();
    if file.has_sound() && !media.is_silent {
        reading
            .recordings
            .push(file.announced(&call.provider_call_id));
    } else {
        let key = format!("without_sound:{}", media.file_id);
        call.custom.insert(key, json!({ "file": media.name }));
    }
    reading.calls.push(call);
    Ok(reading)
}
