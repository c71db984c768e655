//! The table of Alibaba's push bodies through the real route: answer, and the rows that follow.

use callvault::domain::clock::Timestamp;
use callvault::domain::view::{RecordingView, ShowView};
use callvault::pipeline::inbox;
use serde_json::Value;

use crate::support::http::post;
use crate::support::web::{TOKEN, WebHouse, sources};

const SOURCE: &str = "alipush";

#[tokio::test(flavor = "multi_thread")]
async fn every_push_body_gets_its_answer_and_its_rows() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/providers/aliyun/pushes.json"
    );
    let table: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let arrived = Timestamp::parse(table["arrived_at"].as_str().unwrap()).unwrap();
    let pushes = table["pushes"].as_array().unwrap();
    assert!(pushes.len() >= 30);
    for push in pushes {
        goes_through(push, arrived).await;
    }
}

async fn goes_through(push: &Value, arrived: Timestamp) {
    let id = push["id"].as_str().unwrap();
    let house = WebHouse::open().await;
    house.clock.set(arrived);
    let topic = push["topic"].as_str().unwrap();
    let target = format!("/hooks/{SOURCE}/{TOKEN}/{topic}");
    let target = target.trim_end_matches('/');
    let answer = post(house.at, target, body(push)).await;
    let status = push["http_status"].as_u64().unwrap();
    assert_eq!(
        u64::from(answer.status.as_u16()),
        status,
        "{id}: {}",
        answer.text()
    );
    let code = if status == 200 { 0 } else { status };
    assert_eq!(answer.json()["code"], code, "{id}");

    let known = sources(&house.clock);
    while inbox::read_waiting(&house.db, &known, "test", arrived)
        .await
        .unwrap()
        > 0
    {}
    let expected = &push["expect"];
    for call in expected["calls"].as_array().into_iter().flatten() {
        let name = call["provider_call_id"].as_str().unwrap();
        let found = house.db.find_call(SOURCE, name).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("{id}: no call {name}"));
        let view = house.db.show_call(found).await.unwrap().unwrap();
        same_call(id, call, &view);
        let recordings: Vec<&Value> = expected["recordings"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|recording| recording["provider_call_id"] == *name)
            .collect();
        let found: Vec<&RecordingView> = view.recordings.iter().map(|r| &r.recording).collect();
        assert_eq!(found.len(), recordings.len(), "{id}: recordings of {name}");
        for recording in recordings {
            let until = recording.get("link_until");
            assert!(
                found.iter().any(|view| {
                    let found_until = serde_json::to_value(view.link_until).unwrap();
                    until.is_none_or(|until| *until == found_until) && view.state == "pending"
                }),
                "{id}: {recording} among {found:#?}"
            );
        }
    }
    house.stop().await;
}

fn body(push: &Value) -> Vec<u8> {
    use base64::Engine as _;
    match push["body_base64"].as_str() {
        Some(text) => base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap(),
        None => push["body"].as_str().unwrap().as_bytes().to_vec(),
    }
}

/// Compares what the table names; a member that it leaves out is not asked for.
fn same_call(id: &str, expected: &Value, view: &ShowView) {
    let found = serde_json::to_value(&view.call).unwrap();
    for key in [
        "started_at",
        "ended_at",
        "answered_at",
        "duration_ms",
        "caller",
        "callee",
        "correlation_ids",
        "hangup_cause",
    ] {
        if let Some(wanted) = expected.get(key) {
            assert_eq!(&found[key], wanted, "{id}: {key}");
        }
    }
    if let Some(legs) = expected.get("legs").and_then(Value::as_array) {
        assert_eq!(view.call.legs.len(), legs.len(), "{id}: legs");
    }
}
