//! The table of push bodies, read as it will be through the real route, and the source around it.

use std::collections::BTreeMap;

use base64::Engine;
use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::domain::call::CallFacts;
use crate::domain::clock::ManualClock;
use crate::domain::digest::Sha256;
use crate::domain::notice::Door;
use crate::domain::reading::{Announced, Link, masked_url};
use crate::providers::http::GuardedClient;

mod protection;
mod vectors;

/// A key that opens nothing.
const KEY: &str = "access_key_id = \"k\"\naccess_key_secret = \"s\"\n";
/// When everything in the table arrives.
const ARRIVED: &str = "2024-03-05T04:10:00.000Z";

fn built(keys: &str) -> Result<Arc<dyn Provider>, SettingsError> {
    let table: toml::Table = keys.parse().unwrap();
    let (common, own) = CommonSettings::split("aliyun-main", &AliyunKind.defaults(), table)?;
    let clock = ManualClock::at(Timestamp::parse(ARRIVED).unwrap());
    let ctx = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    AliyunKind.build(common, own, &ctx)
}

fn source(more: &str) -> Arc<dyn Provider> {
    built(&format!("hook_token = \"0123456789abcdef\"\n{more}")).unwrap()
}

fn posted(topic: &str, body: &[u8]) -> Incoming {
    Incoming {
        topic: topic.to_owned(),
        method: "POST".to_owned(),
        query: String::new(),
        headers: Vec::new(),
        body: Bytes::copy_from_slice(body),
    }
}

fn notice(incoming: &Incoming) -> Notice {
    Notice {
        notice_id: Uuid::nil(),
        source: "aliyun-main".to_owned(),
        kind: KIND.to_owned(),
        door: Door::Push,
        topic: incoming.topic.clone(),
        method: incoming.method.clone(),
        query: String::new(),
        headers: Vec::new(),
        body: incoming.body.to_vec(),
        arrived_at: Timestamp::parse(ARRIVED).unwrap(),
        sha256: Sha256::of(&incoming.body),
        dedup_key: String::new(),
        unreadable: None,
    }
}

/// The rows that come of a reading: calls by id with their facts united, recordings by alias.
fn rows(reading: Reading) -> (Vec<CallFacts>, Vec<Announced>) {
    let mut calls: Vec<CallFacts> = Vec::new();
    for call in reading.calls {
        match calls
            .iter_mut()
            .find(|known| known.provider_call_id == call.provider_call_id)
        {
            Some(known) => {
                known.merge(&call);
            }
            None => calls.push(call),
        }
    }
    let mut recordings: BTreeMap<String, Announced> = BTreeMap::new();
    for recording in reading.recordings {
        recordings
            .entry(recording.aliases[0].clone())
            .or_insert(recording);
    }
    (calls, recordings.into_values().collect())
}

fn call_row(call: &CallFacts) -> Value {
    let mut row = serde_json::to_value(call).unwrap();
    row["legs"] = call
        .legs
        .iter()
        .map(|leg| Value::from(leg.provider_leg_id.as_str()))
        .collect();
    row
}

fn recording_row(recording: &Announced) -> Value {
    let link = recording.link.as_ref().map(|link| masked_url(&link.url));
    json!({
        "provider_call_id": recording.provider_call_id,
        "link": link.as_deref().map(|link| link.trim_end_matches("?…")),
        "link_until": recording.clocks.link_until,
        "gone_at": recording.clocks.gone_at,
    })
}

/// Every member that the table names is as it says; members that it leaves out may be anything.
fn assert_rows(id: &str, what: &str, rows: &[Value], expected: &Value) {
    let expected = expected.as_array().cloned().unwrap_or_default();
    assert_eq!(rows.len(), expected.len(), "{id}: {what} {rows:#?}");
    for (row, expected) in rows.iter().zip(&expected) {
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&row[name], value, "{id}: {name} of {what} {row:#}");
        }
    }
}

#[test]
fn the_table_of_push_bodies_reads_as_it_says() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/providers/aliyun/pushes.json"
    );
    let table: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = table["pushes"].as_array().unwrap();
    assert!(cases.len() >= 30, "{}", cases.len());
    let provider = source("");
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let body = match case["body_base64"].as_str() {
            Some(text) => base64::prelude::BASE64_STANDARD.decode(text).unwrap(),
            None => case["body"].as_str().unwrap().as_bytes().to_vec(),
        };
        let incoming = posted(case["topic"].as_str().unwrap(), &body);
        let admission = provider.admit(&incoming, Timestamp::parse(ARRIVED).unwrap());
        let outcome = match &admission {
            Admission::Accept {
                unreadable: None, ..
            } => Outcome::Stored {
                stored: 1,
                repeated: 0,
            },
            Admission::Accept { .. } => Outcome::Unreadable,
            Admission::AcceptEach(_) => panic!("Alibaba's batches are one message each"),
            Admission::Dismiss => panic!("nothing of Alibaba's is dismissed"),
            Admission::Refuse(refusal) => Outcome::Refused(*refusal),
        };
        let reply = provider.reply(outcome);
        assert_eq!(
            json!(reply.status),
            case["http_status"],
            "{id}: {admission:?}"
        );
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        let code = if reply.status == 200 { 0 } else { reply.status };
        assert_eq!(answer["code"], code, "{id}");
        let expect = &case["expect"];
        if reply.status != 200 {
            assert_eq!(expect["calls"], json!([]), "{id}");
            continue;
        }
        let reading = provider.read(&notice(&incoming)).unwrap();
        let unreadable = reading.unreadable.len();
        assert_eq!(
            json!(unreadable),
            expect["unreadable"],
            "{id}: {:?}",
            reading.unreadable
        );
        assert_eq!(
            json!(reading.ignored.is_some()),
            json!(expect["ignored"] == true),
            "{id}"
        );
        let (calls, recordings) = rows(reading);
        let calls: Vec<_> = calls.iter().map(call_row).collect();
        assert_rows(id, "calls", &calls, &expect["calls"]);
        let recordings: Vec<_> = recordings.iter().map(recording_row).collect();
        assert_rows(id, "recordings", &recordings, &expect["recordings"]);
    }
}

#[test]
fn the_same_bytes_for_another_type_are_another_message() {
    let provider = source("");
    let key = |topic: &str, body: &[u8]| match provider
        .admit(&posted(topic, body), Timestamp::from_ms(0))
    {
        Admission::Accept { dedup_key, .. } => dedup_key,
        refused => panic!("{refused:?}"),
    };
    let first = key("VoiceReport", b"[]");
    assert_eq!(key("VoiceReport", b"[]"), first);
    assert_ne!(key("VoiceRecordReport", b"[]"), first);
    assert_ne!(key("VoiceReport", b"[ ]"), first);
}

#[test]
fn one_message_has_one_key_through_whichever_door() {
    let key = |body: &str| reading::key("VoiceRecordReport", body.as_bytes()).unwrap();
    let body = |more: &str, expires: u32, signature: &str| {
        format!(
            "{{{more}\"record_file\":\"http://a.aliyuncs.com/x.wav?Expires={expires}&Signature={signature}\"}}"
        )
    };
    let first = key(&body("\"call_id\":\"1^2\",", 1_710_216_306, "a"));
    for same in [
        format!("[{}]", body("\"call_id\":\"1^2\",", 1_710_216_306, "a")),
        body(" \"call_id\" : \"1^2\" , ", 1_710_216_306, "b"),
    ] {
        assert_eq!(key(&same), first, "{same}");
    }
    for other in [
        // A later end is news: it may be the only address that still lives.
        body("\"call_id\":\"1^2\",", 1_710_216_307, "a"),
        body("\"call_id\":\"1^3\",", 1_710_216_306, "a"),
        body("", 1_710_216_306, "a"),
        format!(
            "[{0},{0}]",
            body("\"call_id\":\"1^2\",", 1_710_216_306, "a")
        ),
    ] {
        assert_ne!(key(&other), first, "{other}");
    }
    assert!(!first.contains("Signature"));
    let provider = source("");
    let pushed = posted(
        "VoiceRecordReport",
        body("\"call_id\":\"1^2\",", 1_710_216_306, "a").as_bytes(),
    );
    let Admission::Accept { dedup_key, .. } = provider.admit(&pushed, Timestamp::from_ms(0)) else {
        panic!("refused");
    };
    assert_eq!(dedup_key, first);
    let refused = provider.admit(
        &posted("mns:VoiceRecordReport", b"{}"),
        Timestamp::from_ms(0),
    );
    assert_eq!(refused, Admission::Refuse(Refusal::UnknownTopic));
}

#[test]
fn a_repeat_with_a_freshly_signed_address_is_the_same_recording() {
    let provider = source("provider_keeps = \"7d\"");
    let read = |query: &str, scheme: &str| {
        let body = format!(
            "{{\"call_id\":\"1^2\",\"end_time\":\"2024-03-05 12:05:09\",\"record_file\":\"{scheme}://a.aliyuncs.com/x.wav?{query}\"}}"
        );
        let incoming = posted("VoiceRecordReport", body.as_bytes());
        provider
            .read(&notice(&incoming))
            .unwrap()
            .recordings
            .remove(0)
    };
    let first = read("Expires=1710216306&Signature=a", "http");
    let second = read("Expires=1710216999&Signature=b", "https");
    assert_eq!(first.aliases, ["1^2|a.aliyuncs.com/x.wav"]);
    assert_eq!(first.aliases, second.aliases);
    assert!(first.ready_now && first.confirmed);
    let gone_at = Timestamp::parse("2024-03-12T04:05:09.000Z");
    assert_eq!(first.clocks.gone_at, gone_at);
}

#[tokio::test]
async fn the_address_is_what_the_message_brought_while_it_lives() {
    let provider = source("");
    let until = Timestamp::from_ms(1_710_216_306_000);
    let url = "http://a.aliyuncs.com/x.wav?Expires=1710216306".to_owned();
    let mut wanted = Wanted {
        recording_id: Uuid::nil(),
        provider_call_id: "1^2".to_owned(),
        provider_recording_id: None,
        handle: Value::Null,
        link: None,
        call_ended_at: None,
        arrived_at: Timestamp::from_ms(0),
    };
    let unannounced = provider.locate(&wanted, until).await.unwrap();
    assert_eq!(unannounced, Located::Unannounced);
    wanted.link = Some(Link {
        url: url.clone(),
        until: Some(until),
    });
    let ready = provider.locate(&wanted, until.plus_ms(-1)).await.unwrap();
    assert!(matches!(ready, Located::Ready(address) if address.url == url));
    let dead = provider.locate(&wanted, until).await.unwrap();
    assert!(matches!(dead, Located::Gone { .. }));
    wanted.link = Some(Link { url, until: None });
    let ready = provider.locate(&wanted, until.plus_ms(1)).await.unwrap();
    assert!(matches!(ready, Located::Ready(_)), "nobody knows its end");
}

#[test]
fn a_wrong_configuration_is_named() {
    let token = "hook_token = \"0123456789abcdef\"\n";
    for (keys, words) in [
        (String::new(), "hook_token"),
        (
            format!("{token}queues = {{ VoiceReport = \"q\" }}"),
            "access_key_id",
        ),
        (
            format!("{token}{KEY}queues.VoiceReprt = \"q\""),
            "VoiceReport",
        ),
        (
            format!("{token}{KEY}queues.VoiceReport = \"q/../x\""),
            "console",
        ),
        (
            format!("{token}{KEY}queues = {{ VoiceReport = \"q\", ArtcCdrReport = \"q\" }}"),
            "two message types",
        ),
        (format!("{token}queue_wait = \"31s\""), "30s"),
        (format!("{token}retry_plan = []"), "retry_plan"),
        (format!("{token}region = \"cn hangzhou\""), "region"),
        (format!("{token}signature = \"acs4\""), "acs4"),
        (
            format!("{token}push = [\"VoiceRecordReprt\"]"),
            "VoiceRecordReport",
        ),
        (format!("{token}time_zone = \"Asia/Hangzhou\""), "time_zone"),
        (format!("{token}access_key_id = \"k\""), "access_key_secret"),
        (format!("{token}base_url.dyvm = \"https://a\""), "dyvms"),
        (format!("{token}base_url.mns = \"a\""), "base_url"),
        (format!("{token}acess_key_id = \"k\""), "access_key_id"),
    ] {
        let error = built(&keys).unwrap_err().to_string();
        assert!(error.contains(words), "{keys}: {error}");
    }
    let common = source("").common().clone();
    assert_eq!(common.expect_within, Some(minutes(30)));
    assert_eq!(common.provider_keeps, None);
    assert_eq!(common.allow_hosts.unwrap()[0].to_string(), "*.aliyuncs.com");
    source("queues = {}\nregion = \"cn-hangzhou\"\nbase_url.mns = \"https://a\"");
    let queued = source(&format!(
        "{KEY}queues = {{ VoiceRecordReport = \"q-1\", SecretReport = \"q-2\" }}"
    ));
    assert_eq!(queued.queues(), ["q-1", "q-2"]);
}

#[tokio::test]
async fn check_tells_what_the_configuration_leaves_out() {
    let codes = async |more: &str| {
        let findings = source(more).check().await;
        findings
            .iter()
            .map(|finding| finding.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(codes("").await, Vec::<&str>::new());
    assert_eq!(
        codes("push = [\"VoiceCallReport\"]\nbase_url.dyvms = \"https://a\"").await,
        [
            "recordings_not_pushed",
            "calls_not_pushed",
            "type_not_read",
            "key_without_effect"
        ]
    );
    assert_eq!(
        codes("push = [\"SecretReport\", \"SecretRecording\"]").await,
        ["access_key_missing"]
    );
    assert_eq!(
        codes("push = [\"VoiceRecordReport\", \"ArtcCdrReport\"]").await,
        Vec::<&str>::new()
    );
}
