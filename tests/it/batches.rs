//! Several messages in one body, what `retry` says when it queues nothing, and sources that have no address.

use serde_json::{Value, json};

use crate::import::callvault;
use crate::support::house::TestHouse;
use crate::support::http::{Answer, post};
use crate::ways::{house, message};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn told(house: &TestHouse, target: &str, body: impl Into<bytes::Bytes>) -> Answer {
    let address = house.running.as_ref().unwrap().addresses.page().unwrap();
    let address = address.trim_start_matches("http://").parse().unwrap();
    post(address, target, body).await
}

async fn by_http() -> TestHouse {
    let source = format!("[sources.pbx]\nkind = \"cdr\"\nhook_token = \"{TOKEN}\"\n");
    house(&source).await
}

fn lines(of: &[&[u8]]) -> Vec<u8> {
    of.join(&b'\n')
}

async fn knows(house: &TestHouse, call: &str) {
    house
        .until(async |house| {
            let db = &house.house().db;
            match db.recordings_of_call("pbx", call).await.unwrap().len() {
                0 => Err(format!("{call} is not there")),
                _ => Ok(()),
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_batch_are_counted_and_known_again_one_by_one() {
    let house = by_http().await;
    let hook = format!("/hooks/pbx/{TOKEN}");
    let (one, two, three, four) = (message(1), message(2), message(3), message(4));
    let answer = told(&house, &hook, lines(&[&one, &two, b"", &three])).await;
    assert_eq!(answer.json(), json!({ "stored": 3, "repeated": 0 }));
    let answer = told(&house, &hook, lines(&[&two, &four, &one])).await;
    assert_eq!(answer.json(), json!({ "stored": 1, "repeated": 2 }));
    let answer = told(&house, &hook, three).await;
    assert_eq!(answer.json(), json!({ "stored": 0, "repeated": 1 }));
    for call in ["call-1", "call-2", "call-3", "call-4"] {
        knows(&house, call).await;
    }
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_good_line_beside_a_broken_one_counts_and_the_broken_one_is_kept() {
    let house = by_http().await;
    let hook = format!("/hooks/pbx/{TOKEN}");
    for (n, broken_first) in [(1, false), (2, true)] {
        let good = message(n);
        let broken = format!("broken {n}").into_bytes();
        let mut both = [good.as_slice(), &broken];
        if broken_first {
            both.reverse();
        }
        let answer = told(&house, &hook, lines(&both)).await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
        assert_eq!(answer.json(), json!({ "stored": 1, "repeated": 0 }));
        knows(&house, &format!("call-{n}")).await;
    }
    let status = callvault(&house, &["--json", "status"]).await.1;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["queues"]["notices"]["unreadable"], 2, "{status}");
    // Nothing good in it: as before, the whole body is the evidence.
    let answer = told(&house, &hook, "{\n\"spec\": broken\n}").await;
    assert_eq!(answer.status.as_u16(), 400);
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_draws_from_a_folder_has_no_address_without_a_token() {
    let house = house("[sources.pbx]\nkind = \"cdr\"\nfrom = \"folder\"\npath = \"in\"\n").await;
    for target in ["/hooks/pbx".to_owned(), format!("/hooks/pbx/{TOKEN}")] {
        let answer = told(&house, &target, message(1)).await;
        let unknown = told(&house, "/hooks/nobody", message(1)).await;
        assert_eq!(answer.status.as_u16(), 404, "{}", answer.text());
        assert_eq!(answer.body, unknown.body, "both look alike");
    }
    let (_, sources, _) = callvault(&house, &["--json", "sources"]).await;
    let source: Value = serde_json::from_str(sources.lines().next().unwrap()).unwrap();
    assert_eq!(source["hooks"], json!([]), "{source}");
    assert!(
        !source["findings"].to_string().contains("no_hook_token"),
        "{source}"
    );
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_queues_nothing_is_an_error_and_an_id_may_begin_with_a_dash() {
    let house = by_http().await;
    let hook = format!("/hooks/pbx/{TOKEN}");
    let mut call: Value = serde_json::from_slice(&message(1)).unwrap();
    call["call"]["id"] = json!("-eRjh8m");
    call["call"]["started_at"] = json!("2024-04-05T20:30:00+08:00");
    call["call"]["ended_at"] = json!("2024-04-05T20:31:30+08:00");
    let answer = told(&house, &hook, call.to_string()).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    knows(&house, "-eRjh8m").await;
    let (code, shown, error) = callvault(&house, &["--json", "show", "-eRjh8m"]).await;
    assert_eq!(code, 0, "{error}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        shown["call"]["duration_ms"], 90_000,
        "from its start and end: {shown}"
    );
    let (code, _, error) = callvault(&house, &["--json", "retry", "-eRjh8m"]).await;
    assert_eq!(code, 1);
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["error"]["code"], "not_archived", "{error}");
    house.finish().await;
}
