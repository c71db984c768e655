//! Every check value of `pbx-cdr.md`, read by the adapter.

use serde_json::{Value, json};

use super::decode::{Decoded, decode};
use super::facts;
use super::message::{self, Call, EventType, Locator, Message, Recording};
use super::settings::Settings;
use crate::domain::clock::Timestamp;
use crate::providers::accounts::Accounts;

fn vectors() -> Value {
    let text = include_str!("../../../tests/fixtures/providers/cdr/pbx.json");
    serde_json::from_str(text).unwrap()
}

fn now() -> Timestamp {
    Timestamp::parse(vectors()["clock"].as_str().unwrap()).unwrap()
}

fn read(kind: &str, body: &str) -> Result<Vec<Decoded>, String> {
    let own: toml::Table = "account = \"freeswitch/hq-pbx\"".parse().unwrap();
    let settings = Settings::read(own, "pbx").unwrap();
    decode(
        kind,
        "pbx",
        &settings,
        &Accounts::default(),
        body.as_bytes(),
        now(),
    )
}

fn message(kind: &str, body: &str) -> Message {
    let mut decoded = read(kind, body).unwrap();
    assert_eq!(decoded.len(), 1);
    decoded.remove(0).message.unwrap()
}

fn list(vectors: &Value, name: &str) -> Vec<Value> {
    vectors[name].as_array().unwrap().clone()
}

fn person(number: &Option<String>, name: &Option<String>) -> Value {
    let mut person = json!({});
    if let Some(number) = number {
        person["number"] = json!(number);
    }
    if let Some(name) = name {
        person["name"] = json!(name);
    }
    person
}

fn seconds(ms: Option<i64>) -> Value {
    ms.map_or(Value::Null, |ms| json!(ms / 1000))
}

fn recording(recording: &Recording) -> Value {
    let Some(Locator::File(path)) = &recording.locator else {
        panic!("{recording:?}");
    };
    json!({ "id": recording.id, "state": recording.fate.as_str(), "locator": { "type": "file", "path": path } })
}

/// Micro- and milliseconds of an expectation against ours.
fn same_time(expect: &Value, name: &str, found: Option<Timestamp>, id: &Value) {
    let (us, ms) = (format!("{name}_us"), format!("{name}_ms"));
    let expected = expect[&us]
        .as_i64()
        .map(|us| us / 1000)
        .or(expect[&ms].as_i64());
    assert!(expect.get(&us).or(expect.get(&ms)).is_some());
    assert_eq!(found.map(Timestamp::ms), expected, "{name} {id}");
}

fn same_call(expect: &Value, call: &Call, id: &Value) {
    assert_eq!(expect["call_id"], call.id, "{id}");
    assert_eq!(
        expect["group_id"].as_str(),
        call.group_id.as_deref(),
        "{id}"
    );
    assert_eq!(
        expect["caller"],
        person(&call.caller.number, &call.caller.name),
        "{id}"
    );
    assert_eq!(
        expect["callee"],
        person(&call.callee.number, &call.callee.name),
        "{id}"
    );
    for (name, found) in [
        ("started_at", call.started_at),
        ("answered_at", call.answered_at),
        ("ended_at", call.ended_at),
    ] {
        same_time(expect, name, found, id);
    }
    assert_eq!(expect["duration_s"], seconds(call.duration_ms), "{id}");
    assert_eq!(expect["billable_s"], seconds(call.billable_ms), "{id}");
    assert_eq!(
        expect["disposition"].as_str(),
        call.disposition.as_deref(),
        "{id}"
    );
}

#[test]
fn freeswitch_records_are_read_in_every_wrapping() {
    let vectors = vectors();
    for vector in list(&vectors, "freeswitch_http") {
        let (id, expect) = (&vector["id"], &vector["expect"]);
        let message = message("freeswitch", vector["body"].as_str().unwrap());
        same_call(expect, &message.call, id);
        let direction = message.call.direction.map(|direction| direction.as_str());
        assert_eq!(expect["direction"].as_str(), direction, "{id}");
        assert_eq!(
            expect["hangup_cause"].as_str(),
            message.call.hangup_cause.as_deref()
        );
        let recordings: Vec<Value> = message.recordings.iter().map(recording).collect();
        assert_eq!(expect["recordings"], json!(recordings), "{id}");
        assert_eq!(expect["flags"], json!(message.flags), "{id}");
    }
}

#[test]
fn freeswitch_events_are_read() {
    let vectors = vectors();
    for vector in list(&vectors, "freeswitch_events") {
        let (id, expect) = (&vector["id"], &vector["expect"]);
        let message = message("freeswitch", vector["body"].as_str().unwrap());
        assert_eq!(expect["call_id"], message.call.id, "{id}");
        match expect["event_type"].as_str().unwrap() {
            "recording.ready" => {
                assert_eq!(message.event, EventType::RecordingReady);
                assert_eq!(
                    expect["locator"],
                    recording(&message.recordings[0])["locator"]
                );
                assert_eq!(expect["host"].as_str(), message.host.as_deref());
            }
            "call.ended" => {
                assert_eq!(message.event, EventType::CallEnded);
                same_time(expect, "started_at", message.call.started_at, id);
                same_time(expect, "answered_at", message.call.answered_at, id);
                same_time(expect, "ended_at", message.call.ended_at, id);
                assert_eq!(expect["billable_s"], seconds(message.call.billable_ms));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn asterisk_records_are_read() {
    let vectors = vectors();
    for vector in list(&vectors, "asterisk_cdr_amqp") {
        let (id, expect) = (&vector["id"], &vector["expect"]);
        let message = message("asterisk", vector["body"].as_str().unwrap());
        same_call(expect, &message.call, id);
        let hint = message.recordings.first().map(|recording| {
            let Some(Locator::File(path)) = &recording.locator else {
                panic!("{recording:?}");
            };
            path.as_str()
        });
        assert_eq!(expect["recording_hint"].as_str(), hint, "{id}");
        assert_eq!(expect["flags"], json!(message.flags), "{id}");
    }
}

#[test]
fn messages_of_our_own_contract_are_taken_or_refused_with_its_reasons() {
    let vectors = vectors();
    for vector in list(&vectors, "cdr1") {
        let (id, expect) = (&vector["id"], &vector["expect"]);
        let read = read("cdr", vector["body"].as_str().unwrap());
        match expect["result"].as_str().unwrap() {
            "reject" => assert_eq!(expect["reason"], read.unwrap_err(), "{id}"),
            result => {
                let message = read.unwrap().remove(0).message.unwrap();
                assert_eq!(
                    result == "store_only",
                    message.event == EventType::Unknown,
                    "{id}"
                );
                assert_eq!(expect["flags"], json!(message.flags), "{id}");
            }
        }
    }
}

fn cdr1(change: impl FnOnce(&mut Value)) -> Result<Message, String> {
    let mut message = json!({
        "spec": "cdr/1", "event_id": "e1", "event_type": "recording.ready",
        "occurred_at": "2024-04-05T20:31:50+08:00",
        "source": { "provider": "freeswitch", "account": "hq" },
        "call": { "id": "c1" },
        "recordings": [{ "id": "r1", "state": "ready", "locator": { "type": "provider" } }],
    });
    change(&mut message);
    message::parse(message.to_string().as_bytes(), now())
}

#[test]
fn the_first_fault_counts_and_small_ones_are_flags() {
    for (why, change) in [
        (
            "missing:spec",
            (|m| m["spec"] = Value::Null) as fn(&mut Value),
        ),
        ("bad_value:event_id", |m| m["event_id"] = json!("a b")),
        ("bad_value:source.provider", |m| {
            m["source"]["provider"] = json!("-x")
        }),
        ("missing:source.provider", |m| m["source"] = Value::Null),
        ("bad_value:call", |m| m["call"] = json!("c1")),
        ("bad_value:recordings[].state", |m| {
            m["recordings"][0]["state"] = json!("lost")
        }),
        ("bad_value:recordings[].locator", |m| {
            m["recordings"][0]["locator"] = json!({ "type": "file", "path": "a/b" });
        }),
        ("bad_value:recordings[].locator", |m| {
            m["recordings"][0]["locator"] = json!({ "type": "url", "url": "ftp://a/b" });
        }),
        ("bad_value:recordings[].sha256", |m| {
            m["recordings"][0]["sha256"] = json!("AB")
        }),
    ] {
        assert_eq!(cdr1(change).unwrap_err(), why);
    }
    let flagged = cdr1(|m| {
        m["call"] =
            json!({ "id": "c1", "started_at": "soon", "duration_s": -1, "direction": "up" });
        m["attributes"] = json!({ "a": [1], "b": "x" });
        let twice = m["recordings"][0].clone();
        m["recordings"].as_array_mut().unwrap().push(twice);
        m["raw"] = json!("x".repeat(70_000));
    })
    .unwrap();
    let flags: Vec<_> = flagged.flags.iter().copied().collect();
    let expected = [
        "attributes_trimmed",
        "bad_number",
        "bad_time",
        "duplicate_recording_id",
        "raw_dropped",
        "unknown_enum",
    ];
    assert_eq!(flags, expected);
    assert_eq!(flagged.recordings.len(), 1);
}

#[test]
fn a_message_for_another_source_is_told_to_that() {
    let own = toml::Table::new();
    let settings = Settings::read(own, "pbx").unwrap();
    let accounts = Accounts::default();
    accounts.register("feiyu-main", "feiyu", "feiyu-main");
    let line = |account: &str| {
        json!({
            "spec": "cdr/1", "event_id": account, "event_type": "call.ended",
            "occurred_at": "2024-04-05T20:31:50+08:00",
            "source": { "provider": "feiyu", "account": account }, "call": { "id": "c1" },
        })
        .to_string()
    };
    let batch = format!(
        "{}\n\n{}\n{}\n",
        line("feiyu-main"),
        line("pbx"),
        line("nobody")
    );
    let decoded = decode("cdr", "pbx", &settings, &accounts, batch.as_bytes(), now()).unwrap();
    let whose: Vec<_> = decoded
        .iter()
        .map(|one| format!("{:?}", one.whose))
        .collect();
    assert_eq!(whose[..2], ["Other(\"feiyu-main\")", "Ours"]);
    assert_eq!(
        decoded[2].message.as_ref().unwrap_err(),
        "line 3: unknown_account"
    );
}

#[test]
fn legs_join_by_their_group_and_the_first_leg_names_the_ends() {
    let mut message = message(
        "freeswitch",
        list(&vectors(), "freeswitch_http")[0]["body"]
            .as_str()
            .unwrap(),
    );
    let first = facts::call(&message, true, &[]);
    assert_eq!(first.caller.as_deref(), Some("+862151954962"));
    message.call.id = "other-leg".to_owned();
    let other = facts::call(&message, true, &[]);
    assert_eq!((other.caller, &other.aliases), (None, &first.aliases));
    assert_eq!(other.legs[0].provider_leg_id, "other-leg");
}
