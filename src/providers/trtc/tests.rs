//! What the vendor's callbacks and answers do that no table holds.

mod bucket;
mod finds;
mod vectors;

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::domain::clock::ManualClock;
use crate::domain::digest::Sha256;
use crate::domain::notice::Door;
use crate::domain::recording::Part;
use crate::providers::contract::Refusal;
use crate::providers::http::GuardedClient;

const APP: &str = "1400567890";
const KEY: &str = "k7Qw2Zx9Lm4Rt8Vb";
const ARRIVED: i64 = 1_700_000_200_500;

fn built(keys: &str) -> Result<Arc<dyn Provider>, SettingsError> {
    let table: toml::Table = keys.parse().unwrap();
    let (common, own) = CommonSettings::split("trtc-main", &TrtcKind.defaults(), table)?;
    let clock = ManualClock::at(Timestamp::from_ms(ARRIVED));
    let ctx = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    TrtcKind.build(common, own, &ctx)
}

fn source(more: &str) -> Arc<dyn Provider> {
    built(&format!(
        "sdk_app_id = {APP}\ncallback_key = \"{KEY}\"\nhook_token = \"0123456789abcdef\"\n{more}"
    ))
    .unwrap()
}

fn settings(more: &str) -> Settings {
    let table = format!(
        "sdk_app_id = {APP}\ncallback_key = \"{KEY}\"\nhook_token = \"0123456789abcdef\"\n{more}"
    );
    let (common, own) =
        CommonSettings::split("trtc-main", &TrtcKind.defaults(), table.parse().unwrap()).unwrap();
    Settings::read(own, &common).unwrap()
}

fn posted(headers: &[(&str, &str)], query: &str, body: &str) -> Incoming {
    Incoming {
        topic: String::new(),
        method: "POST".to_owned(),
        query: query.to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned()))
            .collect(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn signed(key: &str, body: &str) -> Incoming {
    use base64::Engine as _;
    let sign = base64::engine::general_purpose::STANDARD
        .encode(sign::hmac_sha256(key.as_bytes(), body.as_bytes()));
    posted(&[("SdkAppId", APP), ("Sign", &sign)], "", body)
}

fn notice(topic: &str, incoming: &Incoming) -> Notice {
    Notice {
        notice_id: Uuid::nil(),
        source: "trtc-main".to_owned(),
        kind: KIND.to_owned(),
        door: Door::Push,
        topic: topic.to_owned(),
        method: incoming.method.clone(),
        query: incoming.query.clone(),
        headers: incoming.headers.clone(),
        body: incoming.body.to_vec(),
        arrived_at: Timestamp::from_ms(ARRIVED),
        sha256: Sha256::of(&incoming.body),
        dedup_key: String::new(),
        unreadable: None,
    }
}

fn read(provider: &dyn Provider, body: &Value) -> Reading {
    let incoming = posted(&[("SdkAppId", APP)], "", &body.to_string());
    provider.read(&notice("", &incoming)).unwrap()
}

fn told(provider: &dyn Provider, topic: &str, body: &Value) -> Reading {
    let incoming = posted(&[], "", &body.to_string());
    provider.read(&notice(topic, &incoming)).unwrap()
}

fn key_of(provider: &dyn Provider, incoming: &Incoming) -> String {
    match provider.admit(incoming, Timestamp::from_ms(ARRIVED)) {
        Admission::Accept { dedup_key, .. } => dedup_key,
        refused => panic!("{refused:?}"),
    }
}

fn file_event(room: Value, name: &str) -> Value {
    json!({"EventGroupId": 3, "EventType": 311, "CallbackTs": 1_700_000_200_345_i64, "EventInfo": {
        "RoomId": room, "EventMsTs": 1_700_000_200_123_i64, "TaskId": "task-1", "Payload": {
            "Status": 0, "TencentVod": {"UserId": "agent_17", "TrackType": "audio", "MediaId": "main",
            "FileId": 5_285_890_812_345_678_901_u64, "CacheFile": name,
            "VideoUrl": "https://1500000001.vod-qcloud.com/x/f0.aac?t=65&us=a&sign=b",
            "StartTimeStamp": 1_700_000_100_456_i64, "EndTimeStamp": 1_700_000_160_789_i64}}}})
}

#[test]
fn a_repeat_is_known_by_what_it_says_and_not_by_its_own_time() {
    let provider = source("");
    let body = |ts: i64, sign: &str| {
        let mut body = file_event(json!("desk-17"), "a.aac");
        body["CallbackTs"] = json!(ts);
        let url = format!("https://1500000001.vod-qcloud.com/x/f0.aac?t=65&us=a&sign={sign}");
        body["EventInfo"]["Payload"]["TencentVod"]["VideoUrl"] = json!(url);
        signed(KEY, &body.to_string())
    };
    let first = key_of(&*provider, &body(1, "b"));
    assert_eq!(first, key_of(&*provider, &body(2, "b")));
    assert_eq!(first, key_of(&*provider, &body(2, "another")));
    let other = signed(KEY, &file_event(json!("desk-18"), "a.aac").to_string());
    assert_ne!(first, key_of(&*provider, &other));
}

#[test]
fn ids_keep_every_digit_and_addresses_every_byte() {
    let reading = read(&*source(""), &file_event(json!("desk-17"), "a.aac"));
    let recording = &reading.recordings[0];
    assert_eq!(
        recording.provider_recording_id.as_deref(),
        Some("5285890812345678901")
    );
    assert_eq!(
        recording.link.as_ref().unwrap().url,
        "https://1500000001.vod-qcloud.com/x/f0.aac?t=65&us=a&sign=b"
    );
    assert!(recording.aliases.iter().all(|name| !name.contains("sign=")));
}

#[test]
fn a_right_signature_over_another_body_is_refused_and_a_right_one_over_nonsense_is_kept() {
    let provider = source("");
    let now = Timestamp::from_ms(ARRIVED);
    let mut forged = signed(KEY, &file_event(json!("desk-17"), "a.aac").to_string());
    forged.body = Bytes::from(file_event(json!("desk-18"), "a.aac").to_string());
    let refused = Admission::Refuse(Refusal::Signature);
    assert_eq!(provider.admit(&forged, now), refused);
    let nonsense = provider.admit(&signed(KEY, "{\"EventGroupId\":"), now);
    assert!(
        matches!(&nonsense, Admission::Accept { unreadable: Some(why), .. } if why.contains("not JSON")),
        "{nonsense:?}"
    );
    assert_eq!(provider.reply(Outcome::Unreadable).status, 200);
}

#[test]
fn two_keys_are_right_while_one_is_being_replaced() {
    let provider = built(&format!(
        "sdk_app_id = \"{APP}\"\ncallback_key = [\"old1\", \"{KEY}\"]\napps.1400567891.callback_key = \"other\""
    ))
    .unwrap();
    let now = Timestamp::from_ms(ARRIVED);
    let body = file_event(json!(7), "a.aac").to_string();
    let is_taken =
        |incoming: &Incoming| matches!(provider.admit(incoming, now), Admission::Accept { .. });
    assert!(is_taken(&signed("old1", &body)) && is_taken(&signed(KEY, &body)));
    assert!(!is_taken(&signed("other", &body)));
    let mut second = signed("other", &body);
    second.headers[0].1 = "1400567891".to_owned();
    assert!(is_taken(&second));
}

#[test]
fn what_proves_nothing_is_taken_only_by_opt_in_and_with_a_token() {
    let body = file_event(json!("desk-17"), "a.aac").to_string();
    let wrapped = json!({ "CallId": "b7", "Callback": file_event(json!("desk-17"), "a.aac") });
    let query =
        format!("SdkAppid={APP}&CallbackCommand=Call.CallbackAfterRecordChanged&contenttype=json");
    let plain = posted(&[("SdkAppId", APP)], "", &body);
    let wrapper = posted(&[], &query, &wrapped.to_string());
    let now = Timestamp::from_ms(ARRIVED);
    let is_taken = |provider: &dyn Provider, incoming: &Incoming| {
        matches!(provider.admit(incoming, now), Admission::Accept { .. })
    };
    let strict = source("");
    assert!(!is_taken(&*strict, &plain) && !is_taken(&*strict, &wrapper));
    let open = source("unsigned_wrapper = true");
    assert!(!is_taken(&*open, &plain) && is_taken(&*open, &wrapper));
    assert!(open.capabilities().token_required);
    let token = "hook_token = \"0123456789abcdef\"\n";
    let unsigned = built(&format!("sdk_app_id = {APP}\nunsigned = true\n{token}")).unwrap();
    assert!(is_taken(&*unsigned, &plain) && unsigned.capabilities().token_required);
    for (keys, key) in [
        (format!("sdk_app_id = {APP}\nunsigned = true"), "hook_token"),
        (
            format!("sdk_app_id = {APP}\ncallback_key = \"{KEY}\"\nlegacy_key = \"x\""),
            "hook_token",
        ),
        (format!("sdk_app_id = {APP}"), "callback_key"),
        (
            format!("sdk_app_id = {APP}\ncallback_key = \"\""),
            "callback_key",
        ),
        ("callback_key = \"x\"".to_owned(), "sdk_app_id"),
        (
            format!("sdk_app_id = {APP}\ncallback_key = \"x\"\nsecret_id = \"a\""),
            "secret_key",
        ),
    ] {
        assert_eq!(built(&keys).unwrap_err().key, key, "{keys}");
    }
}

#[test]
fn the_call_kit_gets_its_own_answer() {
    let provider = source("");
    let stored = Outcome::Stored {
        stored: 1,
        repeated: 0,
    };
    let answer = |outcome, query: &str| {
        let incoming = Incoming {
            query: query.to_owned(),
            ..Incoming::default()
        };
        provider.answer(outcome, &incoming)
    };
    let query = "SdkAppid=1400567890&CallbackCommand=Call.CallbackAfterCloudRecordingChanged";
    assert_eq!(
        answer(stored, query).body,
        "{\"ActionStatus\":\"OK\",\"ErrorCode\":0,\"ErrorInfo\":\"\"}"
    );
    assert_eq!(answer(stored, "").body, "{\"code\":0}");
    // A proxy may drop the query; the wrapper is told by its body too.
    let wrapped = Incoming {
        body: br#"{"CallbackCommand":"Call","Callback":{"EventGroupId":3}}"#
            .as_slice()
            .into(),
        ..Incoming::default()
    };
    let body = provider.answer(stored, &wrapped).body;
    assert!(body.contains("ActionStatus"), "{body}");
    let refused = Outcome::Refused(Refusal::Signature);
    assert_eq!(answer(refused, query).status, 403);
    assert_eq!(answer(Outcome::Unavailable, "").status, 503);
}

#[test]
fn a_number_and_a_text_of_the_same_digits_are_two_rooms() {
    let place = |more: &str, room: Value, name: &str| {
        let reading = read(&*source(more), &file_event(room, name));
        reading.calls[0].place.clone().unwrap().name
    };
    let plain = "1400567890_20222_UserId_s_YWdlbnRfMTc._UserId_e_main.aac";
    let coded = "1400567890_MjAyMjI._UserId_s_YWdlbnRfMTc._UserId_e_main.aac";
    let (number, text) = ("room/1400567890/number/20222", "room/1400567890/text/20222");
    assert_eq!(place("", json!(20222), plain), number);
    // The vendor's own samples write a numeric room as text.
    assert_eq!(place("", json!("20222"), plain), number);
    assert_eq!(place("", json!("20222"), coded), text);
    assert_eq!(place("room_ids = \"text\"", json!("20222"), plain), text);
    assert_eq!(
        place("room_ids = \"number\"", json!("20222"), coded),
        number
    );
    // Without a file's name a number as text is looked for under both.
    let event = json!({"EventGroupId": 1, "EventType": 102, "EventInfo": {"RoomId": "20222", "EventTs": 1_700_000_191}});
    let place = read(&*source(""), &event).calls[0].place.clone().unwrap();
    assert_eq!(
        (place.name.as_str(), place.or.as_deref()),
        (text, Some(number))
    );
    let room = |id: &str, is_text| reading::Room {
        app: APP.to_owned(),
        id: id.to_owned(),
        is_text,
        is_unsure: false,
    };
    assert_eq!(room("20222", false).life(7), "1400567890_20222_7");
    assert_eq!(room("20222", true).life(7), "1400567890_\"20222\"_7");
    assert_eq!(room("desk-17", true).life(7), "1400567890_desk-17_7");
}

#[test]
fn the_older_311_lies_in_the_payload_with_seconds() {
    let body = json!({"EventGroupId": 8, "EventType": 311, "EventInfo": {"RoomId": "web", "EventTs": "1700000200",
        "TaskId": "task-2", "Payload": {"Status": 0, "UserId": "", "TrackType": "audio_video",
        "FileId": "77", "VideoUrl": "http://1500000001.vod2.myqcloud.com/a/f0.mp4", "CacheFile": "x.mp4",
        "BeginTimeStamp": 1_700_000_100}}});
    let reading = read(&*source(""), &body);
    assert_eq!(
        reading.calls[0].started_at,
        Some(Timestamp::from_ms(1_700_000_100_000))
    );
    assert_eq!(reading.recordings[0].part, Part::Mixed);
}

#[test]
fn pictures_without_sound_are_facts_and_no_recording() {
    let mut body = file_event(json!("desk-17"), "a.mp4");
    body["EventInfo"]["Payload"]["TencentVod"]["TrackType"] = json!("video");
    let reading = read(&*source(""), &body);
    assert!(reading.recordings.is_empty() && reading.ignored.is_none());
    assert!(
        reading.calls[0]
            .custom
            .contains_key("without_sound:5285890812345678901")
    );
}

#[test]
fn a_playlist_in_the_bucket_is_announced_when_it_begins() {
    let body = json!({"EventGroupId": 3, "EventType": 307, "EventInfo": {"RoomId": "desk-17", "EventMsTs": 1_700_000_100_000_i64,
        "TaskId": "task-3", "Payload": {"FileName": "1400567890_ZGVzay0xNw...m3u8", "UserId": "", "TrackType": "audio",
        "BeginTimeStamp": 1_700_000_100_000_i64}}});
    let reading = read(&*source(""), &body);
    let recording = &reading.recordings[0];
    assert!(recording.confirmed && !recording.ready_now);
    assert_eq!(
        recording.handle["cos_names"][0],
        "1400567890_ZGVzay0xNw...m3u8"
    );
    assert_eq!(recording.part, Part::Mixed);
}

#[test]
fn strange_bodies_are_refused_in_words_and_never_panic() {
    let provider = source("legacy_key = \"x\"");
    for body in [
        "[]",
        "7",
        "{\"EventGroupId\":3}",
        "{\"EventGroupId\":3,\"EventType\":311,\"EventInfo\":{}}",
        "{\"EventGroupId\":3,\"EventType\":310,\"EventInfo\":{\"TaskId\":\"a\",\"Payload\":{\"FileList\":null}}}",
        "{\"EventGroupId\":1,\"EventType\":101,\"EventInfo\":{\"RoomId\":{},\"EventTs\":-1}}",
        "{\"event_type\":100}",
        "{\"Callback\":{\"EventGroupId\":\"x\"}}",
    ] {
        let incoming = posted(&[("SdkAppId", APP)], "", body);
        let read = provider.read(&notice("", &incoming));
        assert!(read.is_err(), "{body} {read:?}");
    }
    for topic in [reading::MEDIA_INFO, reading::TASK_FILE] {
        for body in [
            "{}",
            "[]",
            "{\"media\":{\"FileId\":1.5}}",
            "{\"app\":1,\"task\":{}}",
        ] {
            let incoming = posted(&[], "", body);
            assert!(provider.read(&notice(topic, &incoming)).is_err(), "{body}");
        }
    }
}

#[test]
fn a_listed_file_of_an_old_application_is_its_callbacks_recording_under_a_made_up_call() {
    let provider = source("legacy_key = \"x\"");
    let callback = "{\"event_type\":100,\"appid\":1,\"file_id\":\"77\",\"stream_id\":\"s_main\",\"start_time\":1700000000}";
    let told = provider.read(&notice("", &posted(&[], "", callback)));
    let told = told.unwrap();
    let listed = |call: &str| {
        let body = json!({
            "media": {"FileId": "77", "BasicInfo": {"SourceInfo": {
                "SourceType": "Record", "LiveRecordInfo": {"StreamId": "s_main"},
            }}},
            "call": Some(call).filter(|call| !call.is_empty()),
        });
        let incoming = posted(&[], "", &body.to_string());
        provider
            .read(&notice(reading::MEDIA_INFO, &incoming))
            .unwrap()
    };
    let by_list = listed("");
    assert!(by_list.calls[0].made_up && !told.calls[0].made_up);
    let alias = &by_list.recordings[0].aliases;
    assert!(
        told.recordings[0]
            .aliases
            .iter()
            .any(|name| alias.contains(name))
    );
    // Asked for one call, it is of that call.
    assert!(!listed("room-1").calls[0].made_up);
    assert!(listed(&by_list.calls[0].provider_call_id).calls[0].made_up);
}

#[test]
fn neither_keys_nor_signatures_are_printed() {
    let provider =
        source("secret_id = \"AKIDx\"\nsecret_key = \"s3cretkey\"\nlegacy_key = \"l3gacy\"");
    let shown = format!("{provider:?}");
    for secret in [KEY, "s3cretkey", "l3gacy", "0123456789abcdef"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
