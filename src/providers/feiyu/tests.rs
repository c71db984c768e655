//! Every published check value of the vendor's page, and what pushes do that no table holds.

use std::collections::HashMap;
use std::sync::Mutex;

use base64::Engine;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::answer::Answer;
use super::*;
use crate::domain::clock::ManualClock;
use crate::domain::digest::Sha256;
use crate::domain::notice::Door;
use crate::domain::retry::RetryAdvice;
use crate::providers::contract::Refusal;
use crate::providers::http::GuardedClient;

const APP_ID: &str = "A1B2C3D4E5F60718293A4B5C6D7E8F90";
const APP_TOKEN: &str = "0F1E2D3C4B5A69788796A5B4C3D2E1F0";
/// When the vectors' CDR arrives.
const ARRIVED: i64 = 1_712_346_600_500;

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

fn built(keys: &str) -> Result<Arc<dyn Provider>, SettingsError> {
    let table: toml::Table = keys.parse().unwrap();
    let (common, own) = CommonSettings::split("feiyu-main", &FeiyuKind.defaults(), table)?;
    let clock = ManualClock::at(Timestamp::from_ms(ARRIVED));
    let ctx = BuildContext {
        client: Arc::new(GuardedClient::new(clock.clone())),
        clock,
    };
    FeiyuKind.build(common, own, &ctx)
}

fn source(more: &str) -> Arc<dyn Provider> {
    built(&format!(
        "app_id = \"{APP_ID}\"\napp_token = \"{APP_TOKEN}\"\nhook_token = \"0123456789abcdef\"\n{more}"
    ))
    .unwrap()
}

fn account(profile: &str, more: &str) -> Arc<dyn Provider> {
    source(&format!("auth_profile = \"{profile}\"\n{more}"))
}

fn settings(app_id: &str, app_token: &str, profile: &str) -> Settings {
    let keys =
        format!("app_id = \"{app_id}\"\napp_token = \"{app_token}\"\nauth_profile = \"{profile}\"");
    Settings::read(keys.parse().unwrap(), "feiyu-main").unwrap()
}

fn posted(topic: &str, body: &str) -> Incoming {
    Incoming {
        topic: topic.to_owned(),
        method: "POST".to_owned(),
        query: String::new(),
        headers: Vec::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn notice(incoming: &Incoming, arrived: i64) -> Notice {
    Notice {
        notice_id: Uuid::nil(),
        source: "feiyu-main".to_owned(),
        kind: KIND.to_owned(),
        door: Door::Push,
        topic: incoming.topic.clone(),
        method: incoming.method.clone(),
        query: incoming.query.clone(),
        headers: incoming.headers.clone(),
        body: incoming.body.to_vec(),
        arrived_at: Timestamp::from_ms(arrived),
        sha256: Sha256::of(&incoming.body),
        dedup_key: String::new(),
        unreadable: None,
    }
}

fn read(provider: &dyn Provider, topic: &str, body: &str) -> Reading {
    let reading = provider.read(&notice(&posted(topic, body), ARRIVED));
    reading.unwrap()
}

fn dedup_key(provider: &dyn Provider, incoming: &Incoming) -> String {
    match provider.admit(incoming, Timestamp::from_ms(ARRIVED)) {
        Admission::Accept { dedup_key, .. } => dedup_key,
        refused => panic!("{refused:?}"),
    }
}

/// A v2 push with a right signature.
fn signed(fields: &str, ti: i64) -> String {
    let settings = settings(APP_ID, APP_TOKEN, "v2_au");
    let au = push::signature(&settings, &ti.to_string());
    format!("{fields}&appId={APP_ID}&ti={ti}&au={au}")
}

fn ms(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| at.ms().into())
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
    let from = call.ended_at.map_or(arrived, Timestamp::ms);
    let gone_at = Timestamp::from_ms(from + 30 * 24 * 3600 * 1000);
    assert_eq!(recording.clocks.gone_at, Some(gone_at), "{id}");
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

#[test]
fn a_push_sent_again_with_a_fresh_signature_is_a_repeat() {
    let provider = source("");
    let fields = "action=callhangup&fyCallId=c%40fy&trueIfRecord=1&appServerExtraData=%D6%D0";
    let first = dedup_key(&*provider, &posted("cdr", &signed(fields, ARRIVED)));
    let body = signed(fields, ARRIVED + 9000);
    assert_eq!(dedup_key(&*provider, &posted("", &body)), first);
    let asked = Incoming {
        method: "GET".to_owned(),
        query: body.replace("%40", "@"),
        body: Bytes::new(),
        ..posted("cdr", "")
    };
    assert_eq!(dedup_key(&*provider, &asked), first);
    // GBK bytes are told apart although both read as U+FFFD.
    let other = fields.replace("%D6%D0", "%D6%D1");
    let other = posted("cdr", &signed(&other, ARRIVED));
    assert_ne!(dedup_key(&*provider, &other), first);
    let shouted = fields.replace("c%40fy", "C%40fy");
    let shouted = posted("cdr", &signed(&shouted, ARRIVED));
    assert_ne!(dedup_key(&*provider, &shouted), first);
}

#[test]
fn refusals_come_in_order() {
    let provider = source("");
    for (topic, body, expected) in [
        (
            "unknown",
            signed("fyCallId=c", ARRIVED),
            Refusal::UnknownTopic,
        ),
        ("cdr", "{\"fyCallId\":\"c\"}".to_owned(), Refusal::Unusable),
        (
            "cdr",
            format!("fyCallId=&appId={APP_ID}"),
            Refusal::Unusable,
        ),
        (
            "cdr",
            signed(&format!("fyCallId={}", "c".repeat(513)), ARRIVED),
            Refusal::Unusable,
        ),
        ("cdr", "fyCallId=c".to_owned(), Refusal::UnknownAccount),
        (
            "cdr",
            format!("fyCallId=c&appId={APP_ID}&ti=1&au=é"),
            Refusal::Signature,
        ),
    ] {
        let admission = provider.admit(&posted(topic, &body), Timestamp::from_ms(ARRIVED));
        assert_eq!(admission, Admission::Refuse(expected), "{topic} {body}");
    }
}

#[test]
fn odd_fields_are_noted_and_kept() {
    let body = "action=callhangup&fyCallId=c+d%2Be@fy&fyCallId=other&callStartTime=1712346012\
                &callEndTime=soon&trueIfRecord=maybe&desk=7&caller=%2B86139";
    let reading = read(&*source(""), "", body);
    let call = &reading.calls[0];
    assert_eq!(call.provider_call_id, "c d+e@fy");
    assert_eq!(ms(call.started_at), json!(1_712_346_012_000_i64));
    assert_eq!(
        (call.ended_at, call.recorded, call.talked),
        (None, None, None)
    );
    assert_eq!(call.caller.as_deref(), Some("+86139"));
    assert_eq!(
        Value::Object(call.custom.clone()),
        json!({"callEndTime": "soon", "desk": "7", "trueIfRecord": "maybe", "_notes": [
            "repeated field fyCallId", "callStartTime is in seconds",
            "callEndTime is no time", "trueIfRecord is neither yes nor no"]})
    );
    assert!(reading.recordings.is_empty());
}

#[test]
fn a_recorded_call_that_never_began_confirms_nothing() {
    let body =
        "action=callhangup&fyCallId=c&callStartTime=0&callEndTime=1712346600000&trueIfRecord=1";
    let reading = read(&*source(""), "", body);
    assert_eq!(reading.calls[0].talked, Some(false));
    assert!(!reading.recordings[0].confirmed);
    // Without any end the vendor's clocks count from arrival.
    let reading = read(
        &*source(""),
        "",
        "action=callhangup&fyCallId=c&trueIfRecord=1",
    );
    let ready_after = reading.recordings[0].clocks.ready_after;
    assert_eq!(ms(ready_after), json!(ARRIVED + 900_000));
    assert_eq!(reading.calls[0].talked, None);
}

#[test]
fn a_forwarded_authorisation_gives_numbers_and_decides_nothing() {
    let body = "action=directCall&fyCallId=c&caller=13900000001&callee=13900000002&fyAccountId=F1\
                &ifRecord=1&callType=3&appCallId=o-1";
    let reading = read(&*source(""), "auth", body);
    assert!(reading.recordings.is_empty());
    let call = &reading.calls[0];
    assert_eq!(
        (call.is_cdr, call.recorded, call.talked),
        (false, None, None)
    );
    assert_eq!(call.caller.as_deref(), Some("13900000001"));
    assert_eq!(call.callee.as_deref(), Some("13900000002"));
    assert_eq!(call.parties.len(), 2);
    assert_eq!(call.custom["recording_requested"], true);
    assert_eq!(call.correlation_ids, ["o-1"]);
    // On another path the same push has no effect.
    assert!(read(&*source(""), "", body).ignored.is_some());
}

#[test]
fn legs_of_a_call_back_join_into_one_call_with_one_recording() {
    let provider = account("v3_signature", "");
    let leg = |id: &str| {
        format!(
            "callId={id}%40fy&dialBackId=D9&isRecorded=Y&startTime=1712346012000&endTime=1712346600000"
        )
    };
    // No action and no topic: what ended is a CDR.
    let mut first = read(&*provider, "", &leg("A"));
    let second = read(&*provider, "cdr", &leg("B"));
    assert!(first.calls[0].aliases.contains(&"group:D9".to_owned()));
    assert!(first.calls[0].merge(&second.calls[0]));
    let call = &first.calls[0];
    assert_eq!(call.aliases, ["group:D9", "A@fy", "B@fy"]);
    let legs: Vec<_> = call.legs.iter().map(|leg| &leg.provider_leg_id).collect();
    assert_eq!(legs, ["A@fy", "B@fy"]);
    assert_eq!(first.recordings[0].aliases, ["A@fy", "group:D9"]);
    assert_eq!(second.recordings[0].aliases, ["B@fy", "group:D9"]);
    assert_eq!(second.recordings[0].handle, json!({ "call_ids": ["B@fy"] }));
    // The customer's own id may repeat: it joins nothing.
    let alone = read(
        &*provider,
        "cdr",
        "callId=C&appCallId=o-1&endTime=1712346600000",
    );
    assert!(alone.calls[0].aliases.is_empty());
    assert_eq!(alone.calls[0].correlation_ids, ["o-1"]);
}

#[test]
fn codes_are_text_where_the_vendor_wants_text() {
    let reply = source("ack_code_as_string = true").reply(Outcome::Unavailable);
    assert_eq!(reply.status, 503);
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(body["resultCode"], "900004");
}

#[test]
fn a_wrong_configuration_is_named() {
    let base = format!("app_id = \"{APP_ID}\"\napp_token = \"{APP_TOKEN}\"\n");
    for (keys, words) in [
        ("app_id = \"a\"", "app_token"),
        ("app_tokn = \"a\"", "app_token"),
        ("auth_profile = \"v3_signature\"", "hook_token"),
        ("auth_profile = \"v2\"", "v2_au"),
        ("codes.gonne = []", "gone"),
        ("fields.call_id = []", "fields.call_id"),
        ("result.url = [\"result\"]", "JSON pointer"),
        ("paths.record_url = \"api\"", "paths.record_url"),
        ("retry_plan = []", "retry_plan"),
        ("requests_per_second = 0", "requests_per_second"),
        ("retention_days = 30", "provider_keeps"),
        ("download_hosts = []", "allow_hosts"),
        ("base_url = \"ftp://a\"", "base_url"),
    ] {
        let keys = if keys.starts_with("app_") {
            keys.to_owned()
        } else {
            format!("{base}{keys}")
        };
        let error = built(&keys).unwrap_err().to_string();
        assert!(error.contains(words), "{keys}: {error}");
        assert!(!error.contains(APP_TOKEN), "{error}");
    }
    let secret =
        format!("app_id = \"{APP_ID}\"\napp_token = {{ secret = \"feiyu-main/app_token\" }}");
    assert!(
        built(&secret)
            .unwrap_err()
            .to_string()
            .contains("app_token")
    );
    assert!(!format!("{:?}", source("")).contains(APP_TOKEN));
}

/// A vendor that answers by call id and keeps what it was asked.
struct Vendor {
    base_url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn vendor(answers: &[(&str, &str)]) -> Vendor {
    let answers: HashMap<String, String> = answers
        .iter()
        .map(|(id, answer)| ((*id).to_owned(), (*answer).to_owned()))
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let body = loop {
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).await.unwrap();
                request.extend(&buffer[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                if let Some((_, body)) = text.split_once("\r\n\r\n")
                    && (read == 0 || body.contains("au=") || body.contains("signature="))
                {
                    break body.to_owned();
                }
            };
            let id = form_urlencoded::parse(body.as_bytes())
                .find(|(name, _)| name == "fyCallId")
                .map(|(_, id)| id.into_owned())
                .unwrap();
            let first = String::from_utf8_lossy(&request);
            let line = first.lines().next().unwrap_or_default().to_owned();
            log.lock().unwrap().push(format!("{line} {body}"));
            let (head, content) = answers[&id].split_once('|').unwrap();
            let answer = format!(
                "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{content}",
                content.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    Vendor { base_url, asked }
}

fn wanted(call_ids: &[&str]) -> Wanted {
    Wanted {
        recording_id: Uuid::nil(),
        provider_call_id: call_ids[0].to_owned(),
        provider_recording_id: None,
        handle: json!({ "call_ids": call_ids }),
        link: None,
        call_ended_at: None,
        arrived_at: Timestamp::from_ms(ARRIVED),
    }
}

#[tokio::test]
async fn each_leg_is_asked_for_until_one_is_ready() {
    let vendor = vendor(&[
        ("gone", "200 OK|{\"resultCode\":\"7\"}"),
        ("late", "200 OK|{\"resultCode\":9}"),
        (
            "ready",
            "200 OK|{\"resultCode\":0,\"result\":\"http://f.example/a.mp3?k=1\"}",
        ),
        ("busy", "429 Slow\r\nretry-after: 30|"),
        ("no", "403 No\r\ndate: Fri, 05 Apr 2024 18:00:00 GMT|"),
        ("page", "200 OK|<html>"),
    ])
    .await;
    let provider = source(&format!(
        "base_url = \"{}\"\nrequests_per_second = 1000\ncodes.gone = [\"7\"]",
        vendor.base_url
    ));
    let now = Timestamp::from_ms(ARRIVED);
    let locate = async |ids: &[&str]| provider.locate(&wanted(ids), now).await;

    let ready = locate(&["gone", "late", "ready"]).await.unwrap();
    let Located::Ready(address) = ready else {
        panic!("{ready:?}");
    };
    assert_eq!(address.url, "http://f.example/a.mp3?k=1");
    assert_eq!(ms(address.until), json!(ARRIVED + 25 * 60 * 1000));
    let code = |code: &str| Some(code.to_owned());
    assert_eq!(
        locate(&["gone"]).await.unwrap(),
        Located::Gone { code: code("7") }
    );
    let not_ready = Located::NotReady { code: code("9") };
    assert_eq!(locate(&["gone", "late"]).await.unwrap(), not_ready);

    let busy = locate(&["busy", "ready"]).await.unwrap_err();
    assert_eq!(busy.kind, ProviderErrorKind::Throttled);
    assert_eq!(busy.advice, RetryAdvice::After(Duration::from_secs(30)));
    let refused = locate(&["no"]).await.unwrap_err();
    assert_eq!(refused.kind, ProviderErrorKind::CredentialsRefused);
    assert!(
        refused.detail.contains("clock is 110 min ahead of"),
        "{refused}"
    );
    let page = locate(&["page"]).await.unwrap_err();
    assert_eq!(page.kind, ProviderErrorKind::Unreachable);
    assert!(!format!("{refused} {page:?}").contains(APP_TOKEN));

    let asked = vendor.asked.lock().unwrap().clone();
    let au = push::signature(&settings(APP_ID, APP_TOKEN, "v2_au"), &ARRIVED.to_string());
    assert_eq!(
        asked[0],
        format!(
            "POST /api/getRecordDownUrl HTTP/1.1 appId={APP_ID}&fyCallId=gone&ti={ARRIVED}&ver=2.1.0&au={au}"
        )
    );
}

#[tokio::test]
async fn an_unreachable_vendor_is_a_finding() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let findings = source(&format!("base_url = \"{base_url}\"")).check().await;
    assert_eq!(findings[0].code, "provider_unreachable");
    let vendor = vendor(&[(NO_CALL, "200 OK|{\"resultCode\":\"100\"}")]).await;
    let fine = source(&format!("base_url = \"{}\"", vendor.base_url));
    assert_eq!(fine.check().await, []);
}
