//! What Feiyu's pushes and configurations do that no table of the vendor's page holds.

mod asks;
mod vectors;

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::domain::clock::ManualClock;
use crate::domain::digest::Sha256;
use crate::domain::notice::Door;
use crate::providers::contract::Refusal;
use crate::providers::http::GuardedClient;

const APP_ID: &str = "A1B2C3D4E5F60718293A4B5C6D7E8F90";
const APP_TOKEN: &str = "0F1E2D3C4B5A69788796A5B4C3D2E1F0";
/// When the vectors' CDR arrives.
const ARRIVED: i64 = 1_712_346_600_500;

fn built(keys: &str) -> Result<Arc<dyn Provider>, SettingsError> {
    let table: toml::Table = keys.parse().unwrap();
    let (common, own) = CommonSettings::split("feiyu-main", &FeiyuKind.defaults(), table)?;
    let clock = ManualClock::at(Timestamp::from_ms(ARRIVED));
    let ctx = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
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
    // Signed by the vendor and beyond what is read: kept, with a success answer.
    let body = signed(&format!("fyCallId={}", "c".repeat(513)), ARRIVED);
    let admission = provider.admit(&posted("cdr", &body), Timestamp::from_ms(ARRIVED));
    assert!(
        matches!(&admission, Admission::Accept { unreadable: Some(why), .. } if why.contains("513")),
        "{admission:?}"
    );
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
