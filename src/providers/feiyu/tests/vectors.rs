//! Every check value that is published with the vendor's page.

use base64::Engine;

use super::super::answer::Answer;
use super::*;

fn vectors() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/providers/feiyu/vectors.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn list<'a>(vectors: &'a Value, name: &str) -> &'a Vec<Value> {
    vectors[name].as_array().unwrap()
}

#[test]
fn signatures_are_those_of_the_vectors() {
    let vectors = vectors();
    for vector in list(&vectors, "signatures") {
        let text = |name: &str| vector[name].as_str().unwrap();
        let id = text("id");
        let settings = settings(text("app_id"), text("app_token"), text("profile"));
        assert_eq!(
            push::signature(&settings, text("time")),
            text("digest"),
            "{id}"
        );
        let Some(received) = vector["received"].as_str() else {
            continue;
        };
        let body = format!(
            "fyCallId=c%40fy&appId={}&ti={}&au={received}",
            text("app_id"),
            text("time")
        );
        let now = Timestamp::from_ms(text("time").parse().unwrap());
        let admission = push::admit(&posted("cdr", &body), &settings, now);
        let matched = matches!(admission, Admission::Accept { .. });
        assert_eq!(matched, vector["expect_match"].as_bool().unwrap(), "{id}");
    }
}

#[test]
fn pushes_end_as_the_vectors_say() {
    let vectors = vectors();
    for vector in list(&vectors, "pushes") {
        let id = vector["id"].as_str().unwrap();
        let text = |name: &str| vector[name].as_str().unwrap_or_default();
        let profile = match text("account") {
            "v2" => "v2_au",
            _ => "v3_signature",
        };
        let more = match vector["stale_push"].as_str() {
            Some(policy) => format!("stale_push = \"{policy}\""),
            None => String::new(),
        };
        let provider = account(profile, &more);
        let incoming = Incoming {
            topic: match text("path_kind") {
                "cdr" => "cdr".to_owned(),
                _ => "recording".to_owned(),
            },
            method: text("method").to_owned(),
            query: text("query").to_owned(),
            headers: vec![("content-type".to_owned(), text("content_type").to_owned())],
            body: Bytes::copy_from_slice(text("body").as_bytes()),
        };
        let arrived = vector["received_at_ms"].as_i64().unwrap();
        let expect = &vector["expect"];
        let outcome = match provider.admit(&incoming, Timestamp::from_ms(arrived)) {
            Admission::Accept { unreadable, .. } => {
                assert_eq!(unreadable, None, "{id}");
                Outcome::Stored {
                    stored: 1,
                    repeated: 0,
                }
            }
            Admission::AcceptEach(_) => panic!("Feiyu sends no batches"),
            Admission::Dismiss => panic!("nothing of Feiyu's is dismissed"),
            Admission::Refuse(refusal) => Outcome::Refused(refusal),
        };
        let reply = provider.reply(outcome);
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(json!(reply.status), expect["http_status"], "{id}");
        assert_eq!(answer["resultCode"], expect["ack_code"], "{id}");
        if expect["effect"] == "none" {
            assert!(matches!(outcome, Outcome::Refused(_)), "{id}");
            continue;
        }
        let reading = provider.read(&notice(&incoming, arrived)).unwrap();
        assert_reading(id, &reading, expect, arrived);
    }
}

fn assert_reading(id: &str, reading: &Reading, expect: &Value, arrived: i64) {
    let effect = expect["effect"].as_str().unwrap();
    if effect == "stored_only" {
        assert!(
            reading.ignored.is_some() && reading.calls.is_empty(),
            "{id}"
        );
        assert!(reading.recordings.is_empty(), "{id}");
        return;
    }
    let call = &reading.calls[0];
    assert_eq!(json!(call.provider_call_id), expect["call_id"], "{id}");
    assert_eq!(call.is_cdr, expect["kind"] == "cdr", "{id}");
    assert_eq!(call.custom.get("_notes"), None, "{id}");
    if call.is_cdr {
        let correlation = call.correlation_ids.first();
        assert_eq!(json!(correlation), expect["correlation_id"], "{id}");
        assert_eq!(json!(call.recorded), expect["recorded"], "{id}");
        assert_eq!(ms(call.started_at), expect["started_at_ms"], "{id}");
        assert_eq!(ms(call.ended_at), expect["ended_at_ms"], "{id}");
        assert_eq!(ms(call.answered_at), expect["answered_at_ms"], "{id}");
        assert_eq!(json!(call.hangup_cause), expect["hangup_cause"], "{id}");
        let custom = call.custom.get("appServerExtraData");
        assert_eq!(json!(custom), expect["custom_data"], "{id}");
    }
    if effect == "store_cdr" {
        assert!(reading.recordings.is_empty(), "{id}");
        return;
    }
    let recording = &reading.recordings[0];
    let ready_after = recording.clocks.ready_after.map_or(arrived, Timestamp::ms);
    assert_eq!(
        json!(ready_after.max(arrived)),
        expect["poll_not_before_ms"],
        "{id}"
    );
    assert_eq!(recording.ready_now, !call.is_cdr, "{id}");
    assert_eq!(recording.confirmed, call.talked != Some(false), "{id}");
    // The vendor's 30 days follow the call as all its notices together tell it.
    assert_eq!(recording.clocks.gone_at, None, "{id}");
}

#[test]
fn answers_mean_what_the_vectors_say() {
    let vectors = vectors();
    for vector in list(&vectors, "record_url_answers") {
        let id = vector["id"].as_str().unwrap();
        let mut keys = toml::Table::new();
        keys.insert("app_id".to_owned(), APP_ID.into());
        keys.insert("app_token".to_owned(), APP_TOKEN.into());
        if let Some(codes) = vector.get("codes") {
            let codes = toml::Value::try_from(codes).unwrap();
            keys.insert("codes".to_owned(), codes);
        }
        let settings = Settings::read(keys, "feiyu-main").unwrap();
        let body = match vector["body_base64"].as_str() {
            Some(text) => base64::prelude::BASE64_STANDARD.decode(text).unwrap(),
            None => vector["body"].as_str().unwrap().as_bytes().to_vec(),
        };
        let status = u16::try_from(vector["http_status"].as_u64().unwrap()).unwrap();
        let expect = &vector["expect"];
        let (outcome, code, url) = match Answer::of(status, &body, &settings) {
            Answer::Ready(url) => ("Ready", None, Some(url)),
            Answer::NotReady(code) => ("NotReady", code, None),
            Answer::Gone(code) => ("Gone", code, None),
            Answer::CredentialsRefused(code) => ("AuthFailed", code, None),
            Answer::Throttled(_) => ("Throttled", None, None),
            Answer::Senseless(_) => ("TransportError", None, None),
        };
        assert_eq!(outcome, expect["outcome"], "{id}");
        assert_eq!(json!(url), expect["url"], "{id}");
        assert_eq!(json!(code), expect["provider_code"], "{id}");
        if let Some(until) = expect["valid_until_ms"].as_i64() {
            let asked = vector["asked_at_ms"].as_i64().unwrap();
            let until = Timestamp::from_ms(until);
            assert_eq!(
                Timestamp::from_ms(asked).plus(settings.url_ttl),
                until,
                "{id}"
            );
        }
    }
}
