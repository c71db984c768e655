//! The desk from outside: markers, notes, tags, saved searches, the search box, and who may change anything.

use bytes::Bytes;
use callvault::domain::call::CallFacts;
use callvault::domain::clock::Timestamp;
use http::Method;
use serde_json::{Value, json};

use crate::support::http::{Answer, ask, get, get_with};
use crate::support::web::{NOW_MS, WebHouse};

pub const ACCESS: &[u8] = b"0123456789abcdef";
const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

pub fn call(id: &str, minutes_ago: i64) -> CallFacts {
    let start = Timestamp::from_ms(NOW_MS - minutes_ago * 60_000);
    CallFacts {
        started_at: Some(start),
        ended_at: Some(start.plus_ms(90_000)),
        duration_ms: Some(90_000),
        caller: Some("+8613900001234".into()),
        callee: Some("057188885678".into()),
        recorded: Some(true),
        talked: Some(true),
        is_cdr: true,
        ..CallFacts::new(id)
    }
}

/// A house with one archived recording: its id and its call's.
pub async fn archived() -> (WebHouse, String, String) {
    let house = WebHouse::open().await;
    house.learn(call("c1", 20), Some("r1")).await;
    let id = house.archive_next(b"RIFF", Some(ACCESS)).await.to_string();
    let shown = get(house.at, &format!("/api/v1/recordings/{id}"))
        .await
        .json();
    let call_id = shown["call_id"].as_str().unwrap().to_owned();
    (house, id, call_id)
}

pub async fn send(house: &WebHouse, method: Method, target: &str, body: &Value) -> Answer {
    ask(house.at, method, target, &[JSON], body.to_string()).await
}

/// What the page's own form sends.
pub async fn form(house: &WebHouse, what: &str, fields: &str) -> Answer {
    let headers = [
        FORM,
        ("host", "localhost"),
        ("origin", "http://localhost"),
        ("sec-fetch-site", "same-origin"),
    ];
    let target = format!("/do/{what}");
    ask(house.at, Method::POST, &target, &headers, fields.to_owned()).await
}

#[tokio::test]
async fn what_people_leave_beside_a_call_stays_and_is_in_the_trail() {
    let (house, id, call_id) = archived().await;
    let markers = format!("/api/v1/recordings/{id}/markers");
    let made = send(
        &house,
        Method::POST,
        &markers,
        &json!({"offset_ms": 83_000, "text": " price named "}),
    )
    .await;
    assert_eq!(made.status.as_u16(), 201, "{}", made.text());
    assert_eq!(made.json()["text"], "price named");
    assert_eq!(made.json()["author"], "loopback");
    let second = send(
        &house,
        Method::POST,
        &markers,
        &json!({"offset_ms": 1_000, "text": "hello"}),
    )
    .await;
    let list = get(house.at, &markers).await.json();
    let texts: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["text"].clone())
        .collect();
    assert_eq!(texts, ["hello", "price named"], "in the order of the sound");
    let marker = format!(
        "/api/v1/markers/{}",
        second.json()["marker_id"].as_str().unwrap()
    );
    assert_eq!(
        send(&house, Method::DELETE, &marker, &Value::Null)
            .await
            .status
            .as_u16(),
        204
    );
    assert_eq!(
        send(&house, Method::DELETE, &marker, &Value::Null)
            .await
            .problem(),
        "not_found"
    );

    let notes = format!("/api/v1/calls/{call_id}/notes");
    assert_eq!(
        send(&house, Method::POST, &notes, &json!({"text": "call back"}))
            .await
            .status
            .as_u16(),
        201
    );
    assert_eq!(
        get(house.at, &notes).await.json()["items"][0]["text"],
        "call back"
    );

    let tag = format!("/api/v1/calls/{call_id}/tags/Needs%20%20Review");
    for _ in 0..2 {
        assert_eq!(
            send(&house, Method::PUT, &tag, &Value::Null)
                .await
                .status
                .as_u16(),
            204
        );
    }
    assert_eq!(
        get(house.at, "/api/v1/tags").await.json()["items"],
        json!([{"tag": "needs review", "calls": 1}])
    );
    let tagged = get(house.at, "/api/v1/recordings?tag=NEEDS%20review")
        .await
        .json();
    assert_eq!(tagged["items"].as_array().unwrap().len(), 1);
    let both = get(house.at, "/api/v1/recordings?tag=needs%20review&q=5678")
        .await
        .json();
    assert_eq!(both["items"].as_array().unwrap().len(), 1);
    let other = get(house.at, "/api/v1/recordings?tag=nothing&q=5678")
        .await
        .json();
    assert!(other["items"].as_array().unwrap().is_empty());
    assert_eq!(
        send(&house, Method::DELETE, &tag, &Value::Null)
            .await
            .status
            .as_u16(),
        204
    );
    assert_eq!(
        send(&house, Method::DELETE, &tag, &Value::Null)
            .await
            .problem(),
        "not_found"
    );

    let heard = format!("/api/v1/recordings/{id}/heard");
    let told = send(
        &house,
        Method::POST,
        &heard,
        &json!({"parts_ms": [[0, 4000], [83_000, 90_000]]}),
    )
    .await;
    assert_eq!(told.status.as_u16(), 204);
    let trail = house.db.audit_trail(100).await.unwrap();
    let heard = trail.iter().find(|event| event.action == "heard").unwrap();
    assert_eq!(heard.subject, id);
    assert_eq!(
        heard.detail["parts_ms"],
        json!([[0, 4000], [83_000, 90_000]])
    );
    for action in ["mark", "unmark", "note", "tag", "untag"] {
        assert!(trail.iter().any(|event| event.action == action), "{action}");
    }
    house.stop().await;
}

#[tokio::test]
async fn bad_bodies_say_what_is_wrong_and_change_nothing() {
    let (house, id, call_id) = archived().await;
    let nobody = "00000000-0000-0000-0000-000000000000";
    let markers = format!("/api/v1/recordings/{id}/markers");
    let heard = format!("/api/v1/recordings/{id}/heard");
    let notes = format!("/api/v1/calls/{call_id}/notes");
    for (target, body, code) in [
        (
            markers.as_str(),
            json!({"offset_ms": -1, "text": "x"}),
            "bad_request",
        ),
        (
            &markers,
            json!({"offset_ms": 9_999_999_999_i64, "text": "x"}),
            "bad_request",
        ),
        (
            &markers,
            json!({"offset_ms": 1, "text": "  "}),
            "bad_request",
        ),
        (
            &markers,
            json!({"offset_ms": 1, "text": "x".repeat(4001)}),
            "bad_request",
        ),
        (
            &markers,
            json!({"offset_ms": 1, "text": "x".repeat(70_000)}),
            "too_large",
        ),
        (
            &markers,
            json!({"offset_ms": "1", "text": "x"}),
            "bad_request",
        ),
        (
            &markers,
            json!({"offset_ms": 1, "text": "x", "more": 1}),
            "bad_request",
        ),
        (&heard, json!({"parts_ms": []}), "bad_request"),
        (&heard, json!({"parts_ms": [[5, 4]]}), "bad_request"),
        (&heard, json!({"parts_ms": [[-5, 4]]}), "bad_request"),
        (&notes, json!({}), "bad_request"),
        (&notes, json!([]), "bad_request"),
        (
            &format!("/api/v1/recordings/{nobody}/markers"),
            json!({"offset_ms": 1, "text": "x"}),
            "not_found",
        ),
        (
            &format!("/api/v1/recordings/{nobody}/heard"),
            json!({"parts_ms": [[0, 1]]}),
            "not_found",
        ),
        (
            &format!("/api/v1/recordings/{nobody}/retry"),
            json!({}),
            "not_found",
        ),
        (
            &format!("/api/v1/calls/{nobody}/notes"),
            json!({"text": "x"}),
            "not_found",
        ),
        (
            &format!("/api/v1/calls/{id}/notes"),
            json!({"text": "x"}),
            "not_found",
        ),
        (
            &format!("/api/v1/recordings/{id}/retry"),
            json!({}),
            "not_retryable",
        ),
    ] {
        let answer = send(&house, Method::POST, target, &body).await;
        assert_eq!(answer.problem(), code, "{target} {:.80}", body.to_string());
    }
    let plain = ask(
        house.at,
        Method::POST,
        &notes,
        &[("content-type", "text/plain")],
        "{\"text\":\"x\"}",
    )
    .await;
    assert_eq!(plain.problem(), "bad_request");
    assert!(
        get(house.at, &markers).await.json()["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert!(
        get(house.at, &notes).await.json()["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    house.stop().await;
}

#[tokio::test]
async fn another_sites_page_changes_nothing() {
    let (house, id, call_id) = archived().await;
    let body = json!({"text": "x"}).to_string();
    let fields = format!("call={call_id}&text=x&back=/");
    for headers in [
        vec![JSON, ("origin", "https://evil.example")],
        vec![JSON, ("origin", "null")],
        vec![
            JSON,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ],
        vec![
            JSON,
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-mode", "navigate"),
        ],
    ] {
        let target = format!("/api/v1/calls/{call_id}/notes");
        let answer = ask(house.at, Method::POST, &target, &headers, body.clone()).await;
        assert_eq!(answer.problem(), "cross_site", "{headers:?}");
        let page = ask(house.at, Method::POST, "/do/note", &headers, fields.clone()).await;
        assert_eq!(page.status.as_u16(), 403, "{headers:?}");
        let tag = format!("/api/v1/calls/{call_id}/tags/x");
        let put = ask(house.at, Method::PUT, &tag, &headers, Bytes::new()).await;
        assert_eq!(put.problem(), "cross_site", "{headers:?}");
        let retry = format!("/api/v1/recordings/{id}/retry");
        let retry = ask(house.at, Method::POST, &retry, &headers, "{}").await;
        assert_eq!(retry.problem(), "cross_site", "{headers:?}");
    }
    let shown = get(house.at, &format!("/api/v1/calls/{call_id}/notes"))
        .await
        .json();
    assert!(shown["items"].as_array().unwrap().is_empty());
    let mine = form(&house, "note", &fields).await;
    assert_eq!((mine.status.as_u16(), mine.header("location")), (303, "/"));
    house.stop().await;
}

#[tokio::test]
async fn the_forms_of_the_pages_work_without_script() {
    let (house, id, call_id) = archived().await;
    let page = format!("/recordings/{id}");
    for (what, fields) in [
        (
            "mark",
            format!("recording={id}&at=1:23&text=price+%3Cb%3E&back={page}"),
        ),
        ("note", format!("call={call_id}&text=call+back&back={page}")),
        ("tag", format!("call={call_id}&tag=vip&back={page}")),
        ("save", format!("name=Mine&query=q%3D1234&back={page}")),
    ] {
        let done = form(&house, what, &fields).await;
        assert_eq!(
            (done.status.as_u16(), done.header("location")),
            (303, &*page),
            "{what}"
        );
    }
    let html = get(house.at, &format!("{page}?t=83")).await;
    let html = html.text();
    for part in [
        "price &#60;b&#62;",
        "call back",
        "/?tag=vip",
        "data-seek=\"83\"",
        "#t=83\"",
        ">1:23</a>",
    ] {
        assert!(html.contains(part), "{part} in\n{html}");
    }
    let list = get(house.at, "/").await;
    assert!(list.text().contains("href=\"/?q=1234\">Mine</a>"));
    assert!(list.text().contains("<span class=\"tag\">vip</span>"));
    let elsewhere = form(
        &house,
        "tag",
        &format!("call={call_id}&tag=x&back=//evil.example"),
    )
    .await;
    assert_eq!(elsewhere.header("location"), "/");
    assert_eq!(form(&house, "nothing", "").await.status.as_u16(), 404);
    assert_eq!(
        form(&house, "mark", &format!("recording={id}&at=x&text=y"))
            .await
            .status
            .as_u16(),
        400
    );
    house.stop().await;
}

#[tokio::test]
async fn the_page_speaks_the_language_that_was_chosen() {
    let (house, id, _) = archived().await;
    for target in [
        "/",
        "/operations",
        &format!("/recordings/{id}"),
        "/recordings/x",
    ] {
        let english = get(house.at, target).await;
        let chinese = get_with(house.at, target, &[("accept-language", "zh-CN,zh;q=0.9")]).await;
        assert!(english.text().contains("<html lang=\"en\">"), "{target}");
        assert!(
            chinese.text().contains("<html lang=\"zh-Hans\">"),
            "{target}"
        );
        assert!(
            chinese.text().contains("查找") && !chinese.text().contains(">Search<"),
            "{target}"
        );
    }
    let chosen = form(&house, "language", "language=zh&back=/operations").await;
    assert_eq!(chosen.header("location"), "/operations");
    let cookie = chosen.header("set-cookie");
    assert!(
        cookie.starts_with("language=zh;")
            && cookie.contains("HttpOnly")
            && cookie.contains("SameSite=Lax")
    );
    let page = get_with(
        house.at,
        "/",
        &[("cookie", "language=zh"), ("accept-language", "en")],
    )
    .await;
    assert!(page.text().contains("<html lang=\"zh-Hans\">"));
    assert_eq!(
        form(&house, "language", "language=xx")
            .await
            .status
            .as_u16(),
        400
    );
    house.stop().await;
}

#[tokio::test]
async fn the_box_finds_a_call_by_the_end_of_its_number_and_a_rough_day() {
    let (house, id, _) = archived().await;
    for (q, is_found) in [
        ("1234+yesterday", false),
        ("1234+today", true),
        ("5678+today+19:30", true),
        ("%2B86+139+0000+1234", true),
        ("0571+88885678", true),
        ("1234+%E4%BB%8A%E5%A4%A9", true),
        ("1234+%E6%98%A8%E5%A4%A9", false),
    ] {
        let page = get(house.at, &format!("/?q={q}&part=results")).await;
        assert_eq!(page.text().contains(&id), is_found, "{q}: {}", page.text());
        assert!(!page.text().contains("<html"), "the lines alone");
    }
    // The same through the API's own door.
    let asked = get(house.at, "/api/v1/ask?line=0571+88885678+today")
        .await
        .json();
    assert_eq!(asked["q"], "57188885678");
    assert_eq!(asked["from"], "2024-04-05T00:00:00.000Z");
    let target = format!(
        "/api/v1/recordings?q={}&from={}",
        asked["q"].as_str().unwrap(),
        asked["from"].as_str().unwrap()
    );
    assert_eq!(
        get(house.at, &target).await.json()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    house.stop().await;
}
