//! Every vector of the vendor's page, and what a room's news come to.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Entries, Status};
use super::session::{LoginFailed, cloud_basic, session_of};
use super::*;
use crate::domain::clock::ManualClock;
use crate::domain::digest::Sha256;
use crate::domain::notice::Door;
use crate::providers::http::GuardedClient;

const NOW: Timestamp = Timestamp::from_ms(1_712_346_600_000);
const ID: &str = "5b1e3c52-8f0a-4f0e-9d7e-0c5f6a1b2c3d";

fn vectors() -> Value {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/providers/vcrtc/vectors.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn each(group: &str) -> Vec<Value> {
    let vectors = vectors()[group].as_array().unwrap().clone();
    assert!(vectors.len() >= 3, "{group}");
    vectors
}

fn source(more: &str) -> Result<Vcrtc, SettingsError> {
    let keys = format!(
        "hook_token = \"0123456789abcdef\"\napi_server = \"http://127.0.0.1:9\"\nauth_value = \"key-of-52\"\n{more}"
    );
    let kind = VcrtcKind;
    let (common, own) = CommonSettings::split("zj", &kind.defaults(), keys.parse().unwrap())?;
    let clock = ManualClock::at(NOW);
    let ctx = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    let settings = Settings::read(own, &common.name)?;
    Ok(Vcrtc {
        asker: Asker::new(ctx.api(&common), ctx.clock.clone(), &settings),
        clock: ctx.clock,
        watch: Watch::default(),
        sizes: Mutex::default(),
        common,
        settings,
    })
}

fn notice(topic: &str, body: &[u8]) -> Notice {
    Notice {
        notice_id: uuid::Uuid::nil(),
        source: "zj".to_owned(),
        kind: KIND.to_owned(),
        door: Door::Queue,
        topic: topic.to_owned(),
        method: String::new(),
        query: String::new(),
        headers: vec![],
        sha256: Sha256::of(body),
        body: body.to_vec(),
        arrived_at: NOW,
        dedup_key: String::new(),
        unreadable: None,
    }
}

#[test]
fn the_cloud_header_is_plain_base64_with_its_padding() {
    for vector in each("cloud_basic_headers") {
        let text = |name: &str| vector[name].as_str().unwrap();
        assert_eq!(
            cloud_basic(text("account"), text("password")),
            text("header_value"),
            "{}",
            vector["id"]
        );
    }
}

#[test]
fn every_answer_of_get_records_is_read_as_the_page_says() {
    for vector in each("get_records") {
        let id = &vector["id"];
        let expect = &vector["expect"];
        let status = vector["http_status"].as_u64().unwrap() as u16;
        let body = vector["body"].as_str().unwrap();
        let answer = Answer::of(status, body.as_bytes());
        let (outcome, code) = match &answer {
            Answer::Ok { .. } => ("Ok", Some("200")),
            Answer::AuthFailed { code } => ("AuthFailed", Some(code.as_str())),
            Answer::BadRequest { code, .. } => ("BadRequest", Some(code.as_str())),
            Answer::Refused { code, .. } => ("Refused", Some(code.as_str())),
            Answer::Transport { code, .. } => ("TransportError", code.as_deref()),
        };
        assert_eq!(outcome, expect["outcome"], "{id}");
        assert_eq!(code, expect["code"].as_str(), "{id}");
        let Answer::Ok { data, tolerant } = answer else {
            continue;
        };
        assert_eq!(
            tolerant,
            expect["tolerant_parse"].as_bool().unwrap_or(false),
            "{id}"
        );
        let room = vector["room"].as_str();
        let zone = vector["time_zone"].as_str().unwrap().parse().unwrap();
        let found = Entries::of(
            &data,
            vector["asked_record_id"].as_str().unwrap(),
            |theirs| room.is_none_or(|room| room == theirs),
            vector["tenant"].as_str(),
            zone,
        );
        assert_eq!(json!(found.ignored), expect["ignored"], "{id}");
        let others: Vec<_> = found.others.iter().map(|entry| &entry.record_id).collect();
        assert_eq!(json!(others), expect["other_record_ids"], "{id}");
        let shown = found.wanted.map(|entry| {
            let time = |at: Option<Timestamp>| at.map(|at| at.to_string().replace(".000Z", "Z"));
            json!({
                "record_id": entry.record_id,
                "started_at": time(entry.started_at),
                "ended_at": time(entry.ended_at),
                "size_bytes": entry.size,
                "url": entry.url,
                "complete": entry.is_complete(),
            })
        });
        assert_eq!(json!(shown), expect["match"], "{id}");
    }
}

#[test]
fn every_state_of_a_room_is_read_as_the_page_says() {
    for vector in each("get_live_rec_status") {
        let body = vector["body"].to_string();
        let Answer::Ok { data, .. } = Answer::of(200, body.as_bytes()) else {
            panic!("{vector}");
        };
        let expect = &vector["expect"];
        let status = Status::of(&data, "1866").unwrap();
        assert_eq!(json!(status.recording), expect["recording"]);
        assert_eq!(json!(status.record_id), expect["record_id"]);
        assert_eq!(status.failed.is_some(), expect["state"] == "failed");
    }
    let as_text = json!({ "conferenceKey": 1866, "record": "true", "recordId": ID });
    assert!(Status::of(&as_text, "1866").unwrap().recording);
    assert_eq!(Status::of(&as_text, "1867"), None, "another room");
    assert_eq!(Status::of(&Value::Null, "1866"), None);
}

#[test]
fn a_login_counts_by_its_code_and_its_object() {
    for vector in each("logins") {
        let session = session_of(200, vector["body"].to_string().as_bytes());
        let expect = &vector["expect"];
        assert_eq!(session.is_ok(), expect["ok"] == true, "{vector}");
        if let Ok(session) = session {
            assert_eq!(json!(session), expect["session_id"]);
        }
    }
    let without = session_of(200, br#"{"code":"200","results":"ok"}"#);
    assert!(matches!(without, Err(LoginFailed::Refused(_))));
    assert!(matches!(
        session_of(200, b"<html>"),
        Err(LoginFailed::Senseless(_))
    ));
}

#[test]
fn only_a_room_and_an_id_without_pins_are_taken() {
    let vcrtc = source("").unwrap();
    let admit = |body: &str| {
        let incoming = Incoming {
            body: Bytes::from(body.to_owned()),
            ..Incoming::default()
        };
        vcrtc.admit(&incoming, NOW)
    };
    let key = |body: &str| match admit(body) {
        Admission::Accept { dedup_key, .. } => dedup_key,
        refused => panic!("{body}: {refused:?}"),
    };
    let told = format!(r#"{{"conferenceKey":"1866","recordId":"{ID}"}}"#);
    let as_number = format!(r#"{{"recordId":"{ID}","conferenceKey":1866,}}"#);
    assert_eq!(key(&told), key(&as_number));
    let stopped = told.replace("}", r#","event":"stopped"}"#);
    assert_ne!(key(&told), key(&stopped));
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"conferenceKey":"1866"}"#,
        r#"{"recordId":"x"}"#,
        r#"{"conferenceKey":"","recordId":"x"}"#,
        r#"{"conferenceKey":{},"recordId":"x"}"#,
        r#"{"conferenceKey":"1866","recordId":"x","hostpwd":"4711"}"#,
    ] {
        assert_eq!(admit(bad), Admission::Refuse(Refusal::Unusable), "{bad}");
    }
    assert_eq!(vcrtc.reply(Outcome::Refused(Refusal::Unusable)).status, 400);
    let watching = source("mode = [\"watch\"]").unwrap();
    let incoming = Incoming {
        body: Bytes::from(told),
        ..Incoming::default()
    };
    assert_eq!(
        watching.admit(&incoming, NOW),
        Admission::Refuse(Refusal::Unusable)
    );
}

#[test]
fn an_entry_names_the_call_and_keeps_no_address() {
    let vcrtc = source("time_zone = \"Asia/Shanghai\"").unwrap();
    let data = json!([{
        "recordId": ID, "conferenceKey": 1866, "entId": 52, "startTime": "2024-04-06 03:40:12",
        "stopTime": "2024-04-06 04:31:47", "fileSize": "102779700", "hostpwd": "4711",
        "downUrl": "http://bucket.example.test/1866.mp4?sign=abc%2Bdef/ghi=", "cid": 9
    }]);
    let zone = vcrtc.settings.time_zone;
    let entries = Entries::of(&data, ID, |_| true, None, zone);
    let entry = entries.wanted.unwrap();
    vcrtc.tell(&entry, "1866", "first", NOW);
    let told = vcrtc.watch.waiting_entries().remove(0);
    let body = String::from_utf8(told.body.to_vec()).unwrap();
    assert!(!body.contains("sign") && !body.contains("4711"), "{body}");
    assert!(!told.dedup_key.contains("sign"));
    let reading = vcrtc.read(&notice(&told.topic, &told.body)).unwrap();
    let call = &reading.calls[0];
    assert_eq!(call.provider_call_id, "1866 2024-04-06 03:40:12");
    assert_eq!(call.aliases, [ID, "first"]);
    assert_eq!(call.started_at, Timestamp::parse("2024-04-05T19:40:12Z"));
    assert_eq!(call.duration_ms, Some(3_095_000));
    assert_eq!(call.callee.as_deref(), Some("1866"));
    assert_eq!(call.custom["entId"], 52);
    assert!(call.is_cdr);
    let recording = &reading.recordings[0];
    assert!(recording.confirmed);
    assert_eq!(recording.provider_recording_id.as_deref(), Some(ID));
    assert_eq!(reading::seen_at(&recording.handle, 102_779_700), Some(NOW));
    assert_eq!(reading::seen_at(&recording.handle, 102_779_701), None);
}

#[test]
fn a_failed_start_is_no_recording_of_the_call() {
    let vcrtc = source("").unwrap();
    let body = json!({ "conferenceKey": "1866", "recordId": ID, "meeting": ID, "failedReason": "no recorder" });
    let reading = vcrtc
        .read(&notice(news::FAILED, body.to_string().as_bytes()))
        .unwrap();
    assert_eq!(reading.calls[0].recorded, None);
    assert!(!reading.recordings[0].confirmed);
    assert_eq!(reading.recordings[0].handle["failed"], "no recorder");
    assert!(
        vcrtc
            .read(&notice("unheard_of", body.to_string().as_bytes()))
            .is_err()
    );
}

#[test]
fn only_what_we_started_or_were_told_of_is_ours() {
    for (handle, ours) in [
        (json!({ "opened": true }), true),
        (json!({ "opened": true, "already_on": true }), true),
        (json!({ "told": true }), true),
        (json!({ "told": true, "already_on": true }), false),
        (json!({ "already_on": true }), false),
        (json!({ "conference_key": "1866" }), false),
        (json!({ "opened": "true" }), false),
        (Value::Null, false),
    ] {
        assert_eq!(Vcrtc::is_ours(&handle), ours, "{handle}");
    }
}

#[test]
fn pieces_of_a_meeting_follow_one_another() {
    let entry = |id: &str, room: &str, start: &str, stop: &str| {
        json!({ "recordId": id, "conferenceKey": room, "startTime": format!("2024-04-05 {start}:00"),
                "stopTime": format!("2024-04-05 {stop}:00"), "fileSize": 1, "downUrl": "http://x" })
    };
    let data = json!([
        entry("c", "1866", "10:33", "10:50"),
        entry("a", "1866", "10:00", "10:10"),
        entry("b", "1866", "10:12", "10:30"),
        entry("d", "1866", "11:30", "11:40"),
        entry("e", "1867", "10:51", "10:55"),
    ]);
    let entries = Entries::of(&data, "", |_| true, None, chrono_tz::Tz::UTC);
    let gap = Duration::from_secs(300);
    let first = |id: &str| {
        let entry = entries.others.iter().find(|entry| entry.record_id == id);
        meeting_of(entry.unwrap(), &entries.others, gap)
    };
    assert_eq!(
        ["a", "b", "c", "d", "e"].map(first),
        ["a", "a", "a", "d", "e"]
    );
}

#[test]
fn a_wrong_setting_says_which_and_what_to_do() {
    for (more, key) in [
        ("time_zone = \"Beijing\"", "time_zone"),
        ("mode = []", "mode"),
        ("mode = [\"start\"]", "rooms"),
        ("rooms = [\"\"]", "rooms"),
        ("settle_time = \"0s\"", "settle_time"),
        ("retry_plan = []", "retry_plan"),
        ("paths.open = \"open\"", "paths.open"),
        ("login.enabled = true", "login.enabled"),
        ("auth_header = \"a b\"", "auth_header"),
        ("mode = [\"wach\"]", "mode"),
    ] {
        let error = source(more).unwrap_err();
        assert!(error.key.starts_with(key), "{more}: {error}");
    }
    assert!(source("rooms = [1866]\nent_id = 52").is_ok());
    let shown = format!("{:?}", source("").unwrap());
    assert!(!shown.contains("key-of-52"));
}

#[test]
fn only_an_id_of_a_recording_is_asked_for_by_itself() {
    let vcrtc = source("").unwrap();
    let expected = |id: &str| vcrtc.expected(&CallFacts::new(id)).len();
    assert_eq!(expected(ID), 1);
    assert_eq!(expected("aaaaaaaabbbbccccddddeeeeeeeeeeee"), 1);
    assert_eq!(expected("1866 2024-04-05 19:40:12"), 0);
    assert_eq!(expected(""), 0);
}
