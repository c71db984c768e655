//! The vendor's check vectors, and input that no table of the page holds.

mod asks;

use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use super::ask::{Judgement, judge};
use super::names::{Form, parse};
use super::*;
use crate::domain::clock::ManualClock;
use crate::domain::notice::Door;
use crate::domain::recording::Part;
use crate::domain::secret::Secret;
use crate::providers::http::GuardedClient;

const APP_KEY: &str = "7d3e5a90c1b24f68a9d0e1f2c3b4a596";
const APP_SECRET: &str = "5c0ffee1d3a7";
const NOW: Timestamp = Timestamp::from_ms(1_700_000_200_500);

fn vectors(group: &str) -> Vec<Value> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/providers/yunxin/vectors.json"
    );
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let found = all[group].as_array().unwrap().clone();
    assert!(!found.is_empty());
    found
}

fn vector(group: &str, id: &str) -> Value {
    let all = vectors(group);
    all.into_iter().find(|one| one["id"] == id).unwrap()
}

fn source(more: &str) -> Arc<dyn Provider> {
    let keys = format!("app_key = \"{APP_KEY}\"\napp_secret = \"{APP_SECRET}\"\n{more}");
    let (common, own) =
        CommonSettings::split("yunxin-main", &YunxinKind.defaults(), keys.parse().unwrap())
            .unwrap();
    let clock = ManualClock::at(NOW);
    let ctx = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    YunxinKind.build(common, own, &ctx).unwrap()
}

fn incoming(vector: &Value) -> Incoming {
    let headers = vector["headers"].as_object().unwrap().iter();
    Incoming {
        method: "POST".to_owned(),
        headers: headers
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect(),
        body: Bytes::from(vector["body"].as_str().unwrap().to_owned()),
        ..Incoming::default()
    }
}

fn signed(body: &str) -> Incoming {
    let time = "1700000200123";
    let sum = sign::of_copy(&Secret::new(APP_SECRET), body.as_bytes(), time);
    Incoming {
        method: "POST".to_owned(),
        headers: [("appkey", APP_KEY), ("curtime", time), ("checksum", &sum)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..Incoming::default()
    }
}

fn notice(topic: &str, body: &[u8]) -> Notice {
    Notice {
        notice_id: Uuid::nil(),
        source: "yunxin-main".to_owned(),
        kind: KIND.to_owned(),
        door: Door::Push,
        topic: topic.to_owned(),
        method: "POST".to_owned(),
        query: String::new(),
        headers: Vec::new(),
        body: body.to_vec(),
        arrived_at: NOW,
        sha256: Sha256::of(body),
        dedup_key: String::new(),
        unreadable: None,
    }
}

fn read(body: &str) -> Reading {
    source("").read(&notice("", body.as_bytes())).unwrap()
}

#[test]
fn every_check_sum_of_a_copy_is_judged_as_the_vectors_say() {
    let provider = source("");
    for vector in vectors("callback_auth") {
        let admission = provider.admit(&incoming(&vector), NOW);
        let accepted =
            matches!(admission, Admission::Accept { ref unreadable, .. } if unreadable.is_none());
        assert_eq!(Some(accepted), vector["expect_valid"].as_bool(), "{vector}");
        // Nothing is too old.
        let in_a_year = NOW.plus_ms(365 * 86_400_000);
        assert_eq!(provider.admit(&incoming(&vector), in_a_year), admission);
        if vector["expect_action"] == "address_check" {
            let body = vector["body"].as_str().unwrap();
            assert!(read(body).ignored.unwrap().contains("address"));
        }
    }
}

#[test]
fn every_check_sum_of_a_question_is_made_as_the_vectors_say() {
    for vector in vectors("server_api_checksum") {
        let text = |name: &str| vector[name].as_str().unwrap().to_owned();
        let time: i64 = text("cur_time").parse().unwrap();
        let made = sign::of_question(
            APP_KEY,
            &Secret::new(text("app_secret")),
            &text("nonce"),
            Timestamp::from_ms(time * 1000),
        );
        let sum = &made[3].1;
        // The wrong ones of the table are what we never make; one is wrong by its nonce's length alone.
        let is_ours =
            *sum == text("check_sum") && text("nonce").len() <= 128 && time < 10_000_000_000;
        assert_eq!(Some(is_ours), vector["expect_valid"].as_bool(), "{vector}");
    }
}

#[test]
fn every_file_name_says_what_the_vectors_say() {
    for vector in vectors("file_names") {
        let name = vector["file_name"].as_str().unwrap();
        let (said, expect) = (parse(name), &vector["expect"]);
        let form = match said.form {
            Form::G2Single => "g2_single",
            Form::G2Mixed => "g2_mixed",
            Form::G2Live => "g2_live",
            Form::Av1Mixed => "av1_mixed",
            Form::Opaque => "opaque",
        };
        let found = serde_json::json!({
            "form": form, "uid": said.uid, "task_id": said.task_id, "channel_id": said.channel,
            "created_at_ms": said.created_ms, "piece": said.piece, "mixed": said.mixed, "ext": said.ext,
        });
        assert_eq!(&found, expect, "{name}");
    }
}

#[test]
fn every_payload_reads_as_the_vectors_say() {
    let provider = source("");
    for vector in vectors("payloads") {
        let admission = provider.admit(&incoming(&vector), NOW);
        let body = vector["body"].as_str().unwrap();
        let reading = read(body);
        let expect = &vector["expect"];
        if expect["event_type"] == "1" {
            assert_eq!(admission, Admission::Dismiss, "a chat's text is never kept");
        } else {
            assert!(matches!(admission, Admission::Accept { .. }), "{vector}");
        }
        let expected = expect["recordings"].as_array().unwrap();
        assert_eq!(reading.recordings.len(), expected.len(), "{vector}");
        for (found, expected) in reading.recordings.iter().zip(expected) {
            let channel = expected["channel_id"].as_str().unwrap();
            assert_eq!(found.provider_call_id, channel);
            assert_eq!(
                found.provider_recording_id.as_deref(),
                expected["vid"].as_str()
            );
            assert_eq!(
                found.link.as_ref().unwrap().url,
                expected["url"].as_str().unwrap()
            );
            assert_eq!(found.handle["track"], expected["track"]);
            assert_eq!(found.handle["user"], expected["user"]);
            assert_eq!(found.handle["piece"], expected["piece"]);
            assert_eq!(found.handle["md5"][0], expected["md5"]);
            assert_eq!(found.handle["bytes"][0], expected["size_bytes"]);
            // The key's own parts, and the address' last one, each name the recording.
            let key = format!(
                "{channel}/{}#{}",
                expected["file_name"].as_str().unwrap(),
                expected["piece"]
            );
            let by_address = format!("{channel}/{}", expected["url_name"].as_str().unwrap());
            for name in [key, by_address] {
                assert!(
                    found.aliases.contains(&name),
                    "{name} in {:?}",
                    found.aliases
                );
            }
            let call = reading
                .calls
                .iter()
                .find(|c| c.provider_call_id == channel)
                .unwrap();
            let facts = &call.custom[&format!("file {}", expected["file_name"].as_str().unwrap())];
            let made = Timestamp::parse(facts["created_at"].as_str().unwrap()).unwrap();
            assert_eq!(Some(made.ms()), expected["created_at_ms"].as_i64());
        }
        for expected in expect["calls"].as_array().unwrap() {
            let call = &reading.calls[0];
            assert_eq!(
                call.provider_call_id,
                expected["channel_id"].as_str().unwrap()
            );
            assert_eq!(
                call.started_at.map(Timestamp::ms),
                expected["started_at_ms"].as_i64()
            );
            assert_eq!(
                call.duration_ms,
                expected["talk_time_s"].as_i64().map(|s| s * 1000)
            );
            assert_eq!(
                call.custom["duration_of_all_s"],
                expected["reported_duration_s"]
            );
            assert_eq!(call.hangup_cause.as_deref(), expected["status"].as_str());
            assert_eq!(call.talked, expected["answered"].as_bool());
            assert_eq!(call.is_cdr, expected["interim"] == false);
            assert_eq!(
                call.correlation_ids.first().map(String::as_str),
                expected["ext"].as_str()
            );
            for (party, member) in call
                .parties
                .iter()
                .zip(expected["members"].as_array().unwrap())
            {
                assert_eq!(party.id.as_deref(), member["user"].as_str());
                let is_caller = party.role.as_deref() == Some("caller");
                assert_eq!(Some(is_caller), member["caller"].as_bool());
            }
        }
    }
}

#[test]
fn parts_are_told_by_the_callers_mark_and_only_of_a_pair() {
    let parts = |body: &str| -> Vec<Part> {
        read(body)
            .recordings
            .iter()
            .map(|recording| recording.part)
            .collect()
    };
    let pair = vector("payloads", "ne-pl-003")["body"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(parts(&pair), [Part::Caller, Part::Callee, Part::Mixed]);
    // Three in a room: whoever did not begin the call is a party of it.
    let file = |user: &str, more: &str| {
        format!(
            r#"{{"channelid":"62901","filename":"{user}-62901-0.aac","url":"http://a.vod.126.net/{user}.aac","user":"{user}"{more}}}"#
        )
    };
    let three = format!(
        "[{},{},{}]",
        file("a", r#","caller":"true""#),
        file("b", ""),
        file("c", "")
    );
    let body = serde_json::json!({"eventType": "6", "fileinfo": three}).to_string();
    assert_eq!(parts(&body), [Part::Caller, Part::Party, Part::Party]);
    let alone = serde_json::json!({"eventType": "6", "fileinfo": file("b", "")}).to_string();
    assert_eq!(parts(&alone), [Part::Party]);
}

#[test]
fn one_message_may_hold_files_of_several_channels_and_some_that_are_no_sound() {
    let list = serde_json::json!([
        {"channelid": "6290737000999801234", "filename": "a.aac", "url": "http://a.vod.126.net/a.aac", "user": "a"},
        {"channelid": "6290737000999801235", "filename": "b.aac", "url": "http://a.vod.126.net/b.aac", "user": "b"},
        {"channelid": "6290737000999801235", "filename": "w.gz", "url": "http://a.vod.126.net/w.gz", "type": "gz"},
        {"channelid": "6290737000999801235", "filename": "c.aac", "url": "ftp://a/c.aac"},
        "no object",
    ]);
    // JSON text in JSON text in JSON text.
    let mut packed = Value::String(list.to_string());
    for _ in 0..2 {
        let body = serde_json::json!({"eventType": "6", "fileinfo": packed}).to_string();
        let reading = read(&body);
        assert_eq!(reading.calls.len(), 2);
        assert_eq!(reading.recordings.len(), 2);
        assert_eq!(reading.unreadable.len(), 2, "{:?}", reading.unreadable);
        let custom = &reading.calls[1].custom;
        assert!(
            custom
                .values()
                .any(|fact| fact == "w.gz: a whiteboard, no sound")
        );
        packed = Value::String(packed.to_string());
    }
    let only = serde_json::json!({"eventType": "6", "fileinfo": [
        {"channelid": "6290737000999801235", "filename": "w.gz", "url": "http://a.vod.126.net/w.gz", "type": "gz"},
    ]});
    assert_eq!(
        read(&only.to_string()).ignored.as_deref(),
        Some("w.gz: a whiteboard, no sound")
    );
}

#[test]
fn both_callback_kinds_name_the_same_recording() {
    let names = |id: &str| {
        read(vector("payloads", id)["body"].as_str().unwrap()).recordings[0]
            .aliases
            .clone()
    };
    assert_eq!(names("ne-pl-004"), names("ne-pl-008"));
    // The query by channel, for a file whose name and address differ.
    let asked = r#"{"channelId":"6290737000999801234","fileInfo":{"createTime":1700000123000,"objectName":"0-6290737000999801234-0-mix.mp4","url":"http://jdvexample.vod.126.net/jdvexample/0-6290737000999801234-0-mix.mp4"}}"#;
    let asked = source("")
        .read(&notice(reading::TOPIC_FILE, asked.as_bytes()))
        .unwrap();
    assert_eq!(asked.recordings[0].part, Part::Mixed);
    let known = names("ne-pl-011");
    assert!(
        asked.recordings[0]
            .aliases
            .iter()
            .any(|alias| known.contains(alias))
    );
}

#[test]
fn event_numbers_of_another_generation_and_unknown_ones_do_no_harm() {
    for (body, ignored) in [
        (
            r#"{"eventType":905,"data":{"channelId":600712345678901}}"#,
            true,
        ),
        (
            r#"{"eventType":6,"data":{"channelId":600712345678901,"fileinfo":"[]"}}"#,
            true,
        ),
        (r#"{"eventType":"3","accid":"a"}"#, true),
        (r#"{"eventType":"77","channelId":"1"}"#, true),
        (
            r#"{"requestId":"r","eventType":"MEETING_DURATION","timestamp":1,"body":{}}"#,
            true,
        ),
        (r#"{"msgType":8,"msgBody":{"fileInfo":{}}}"#, true),
        (
            r#"{"eventType":5,"data":{"channelId":600712345678901,"duration":60,"uid":7}}"#,
            false,
        ),
        (
            r#"{"eventType":"2","data":{"channelId":"600712345678901"}}"#,
            false,
        ),
    ] {
        let reading = read(body);
        assert!(reading.recordings.is_empty(), "{body}");
        assert_eq!(reading.ignored.is_some(), ignored, "{body}: {reading:?}");
    }
    // Both spellings, and a number where text is documented.
    let opened =
        read(r#"{"eventType":1,"data":{"channelId":600712345678901,"creaetime":1700000099000}}"#);
    assert_eq!(
        opened.calls[0].started_at,
        Some(Timestamp::from_ms(1_700_000_099_000))
    );
    let counted = read(
        r#"{"msgType":7,"msgBody":{"fileInfo":{"filename":"0-51153883300000-2-mix.mp4","mix":1,"size":12,"url":"http://a.nosdn.127.net/x.mp4"}}}"#,
    );
    assert_eq!(counted.recordings[0].part, Part::Mixed);
    assert_eq!(counted.recordings[0].provider_call_id, "51153883300000");
    let single = read(
        r#"{"msgType":7,"msgBody":{"fileInfo":{"filename":"a.aac","mix":2,"accountId":"u","url":"http://a.nosdn.127.net/a.aac","vid":8}}}"#,
    );
    assert_eq!(single.recordings[0].part, Part::Party);
    assert_eq!(
        single.recordings[0].provider_call_id, "unknown:8",
        "a call of its own"
    );
}

#[test]
fn a_final_report_is_never_replaced_by_an_interim_one() {
    let report = |running: bool, status: &str, s: u32| {
        let body = serde_json::json!({"eventType": "5", "channelId": "62901", "running": running,
            "status": status, "duration": (2 * s).to_string(),
            "members": format!(r#"[{{"accid":"a","duration":{s},"caller":true}},{{"accid":"b","duration":{s}}}]"#)});
        read(&body.to_string()).calls.remove(0)
    };
    let (interim, last) = (report(true, "UNKNOWN", 600), report(false, "SUCCESS", 900));
    for [first, second] in [[&interim, &last], [&last, &interim]] {
        let mut call = first.clone();
        call.merge(second);
        assert_eq!(call.hangup_cause.as_deref(), Some("SUCCESS"));
        assert_eq!((call.duration_ms, call.talked), (Some(900_000), Some(true)));
        assert_eq!(call.custom["duration_of_all_s"], 1800);
    }
}

#[test]
fn a_right_check_sum_over_a_broken_body_is_kept_and_answered_with_success() {
    let provider = source("");
    for body in ["{\"eventType\":", "[1]", "\u{1}", "{\"no\":\"event\"}"] {
        let admission = provider.admit(&signed(body), NOW);
        assert!(
            matches!(
                admission,
                Admission::Accept {
                    unreadable: Some(_),
                    ..
                }
            ),
            "{body}: {admission:?}"
        );
        let mut other = signed(body);
        other.body = Bytes::from(format!("{body} "));
        assert_eq!(
            provider.admit(&other, NOW),
            Admission::Refuse(Refusal::Signature)
        );
    }
    let reply = provider.reply(Outcome::Unreadable);
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (200, r#"{"code":200}"#)
    );
    let reply = provider.reply(Outcome::Refused(Refusal::Signature));
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (403, r#"{"code":414}"#)
    );
}

#[test]
fn every_answer_of_the_server_is_judged_by_status_and_code() {
    for vector in vectors("server_api_answers") {
        let status = u16::try_from(vector["http_status"].as_u64().unwrap()).unwrap();
        let judged = judge(status, vector["body"].as_str().unwrap().as_bytes());
        let fits = match vector["expect"]["outcome"].as_str().unwrap() {
            "ok" | "not_ready" | "unavailable" => matches!(judged, Judgement::Done(_)),
            "auth_or_param" => matches!(judged, Judgement::Refused(_)),
            "rate_limited" => matches!(judged, Judgement::Throttled(_)),
            other => panic!("{other}"),
        };
        assert!(fits, "{vector}: {judged:?}");
    }
    assert!(matches!(judge(200, b"<html>"), Judgement::Away(_)));
    assert!(matches!(judge(502, b"{\"code\":200}"), Judgement::Away(_)));
    assert!(matches!(
        judge(200, b"{\"code\":404}"),
        Judgement::NoneThere(_)
    ));
    assert!(matches!(
        judge(200, b"{\"code\":\"403\"}"),
        Judgement::Refused(_)
    ));
    assert!(matches!(judge(200, b"{}"), Judgement::Senseless(_)));
}
