//! `/hooks` from outside: addresses, methods, limits, and the exact answers that vendors want.

use bytes::Bytes;
use callvault::domain::units::ByteSize;
use callvault::web::settings::Settings;
use http::Method;

use crate::support::http::{ask, get, post, raw};
use crate::support::web::{NEXT_TOKEN, TOKEN, WebHouse};

/// A CDR as the vendor signs it (its published check values, fy-p01).
pub const CDR: &str = "action=callhangup&appId=A1B2C3D4E5F60718293A4B5C6D7E8F90&appCallId=order-7781\
&fyCallId=0A1B2C3D4E5F60718293A4B5C6D7E8F9%40fy&appServerExtraData=%7B%22desk%22%3A%22a-12%22%7D\
&callbackFirstStartTime=1712346000000&callbackFirstEndTime=1712346600000&callStartTime=1712346012000\
&callEndTime=1712346600000&stopReason=2&trueShowNumberType=1&trueIfRecord=1&ti=1712346600123\
&au=97D6A76CE3FEE6A080F38629A352AB4A";

const REPORT: &str = r#"[{"call_id":"c1","duration":"3"}]"#;

async fn form(house: &WebHouse, target: &str, body: &str) -> (u16, String) {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = ask(house.at, Method::POST, target, &form, body.to_owned()).await;
    (answer.status.as_u16(), answer.text().to_owned())
}

#[tokio::test]
async fn the_table_of_hook_addresses() {
    let house = WebHouse::open().await;
    let token = TOKEN;
    for (target, expected) in [
        ("/hooks/desk".to_owned(), 200),
        ("/hooks/desk/cdr".to_owned(), 200),
        ("/hooks/desk/nonsense".to_owned(), 404),
        (format!("/hooks/desk/{token}"), 404),
        (format!("/hooks/desk/{token}/cdr"), 404),
        ("/hooks/desk/cdr/cdr".to_owned(), 404),
        // Setting a token closes the forms without it.
        ("/hooks/guarded".to_owned(), 404),
        ("/hooks/guarded/cdr".to_owned(), 404),
        (format!("/hooks/guarded/{token}"), 200),
        (format!("/hooks/guarded/{token}/cdr"), 200),
        (format!("/hooks/guarded/{token}/nonsense"), 404),
        (format!("/hooks/guarded/cdr/{token}"), 404),
        (format!("/hooks/guarded/{token}x"), 404),
        (format!("/hooks/guarded/{}", &token[1..]), 404),
        (format!("/hooks/guarded/{NEXT_TOKEN}"), 404),
        (format!("/hooks/guarded/{token}/"), 404),
        (format!("/hooks/guarded/{token}/cdr/more"), 404),
        ("/hooks/unknown".to_owned(), 404),
        (format!("/hooks/unknown/{token}/cdr"), 404),
        ("/hooks/%FF".to_owned(), 404),
        ("/hooks/..%2Fdesk".to_owned(), 404),
        ("/hooks/".to_owned(), 404),
        ("/hooks".to_owned(), 404),
    ] {
        let (status, body) = form(&house, &target, CDR).await;
        assert_eq!(status, expected, "{target}: {body}");
        if status == 200 {
            assert_eq!(body, r#"{"resultCode":0,"resultMsg":"ok"}"#, "{target}");
        }
    }
    house.stop().await;
}

#[tokio::test]
async fn an_unknown_source_and_a_wrong_token_look_alike() {
    let house = WebHouse::open().await;
    let unknown = post(house.at, &format!("/hooks/nobody/{TOKEN}"), CDR).await;
    let wrong = post(house.at, &format!("/hooks/guarded/{NEXT_TOKEN}"), CDR).await;
    assert_eq!(unknown.problem(), "not_found");
    assert_eq!((unknown.status, &unknown.body), (wrong.status, &wrong.body));
    house.stop().await;
}

#[tokio::test]
async fn both_tokens_of_a_rotation_open_and_the_topic_is_the_vendors_word() {
    let house = WebHouse::open().await;
    for (target, expected) in [
        (
            format!("/hooks/alipush/{TOKEN}/VoiceReport"),
            r#"{"code":0,"msg":"ok"}"#,
        ),
        (
            format!("/hooks/alipush/{NEXT_TOKEN}/VoiceReport"),
            r#"{"code":0,"msg":"ok"}"#,
        ),
    ] {
        let answer = post(house.at, &target, REPORT).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (200, expected),
            "{target}"
        );
    }
    for target in [
        format!("/hooks/alipush/{TOKEN}"),
        "/hooks/alipush/VoiceReport".to_owned(),
        "/hooks/alipush".to_owned(),
        format!("/hooks/alipush/{TOKEN}/voicereport"),
        "/hooks/alipush/wrong-token-of-tests/VoiceReport".to_owned(),
    ] {
        let answer = post(house.at, &target, REPORT).await;
        assert_eq!(answer.status.as_u16(), 404, "{target}");
        assert_eq!(answer.json()["code"], 404, "{target}: {}", answer.text());
    }
    let broken = post(
        house.at,
        &format!("/hooks/alipush/{TOKEN}/VoiceReport"),
        "{",
    )
    .await;
    assert_eq!(
        (broken.status.as_u16(), broken.json()["code"].as_i64()),
        (400, Some(400))
    );
    house.stop().await;
}

#[tokio::test]
async fn a_repeat_gets_the_same_answer_and_a_bad_signature_the_vendors() {
    let house = WebHouse::open().await;
    for _ in 0..3 {
        let (status, body) = form(&house, "/hooks/desk", CDR).await;
        assert_eq!(
            (status, &*body),
            (200, r#"{"resultCode":0,"resultMsg":"ok"}"#)
        );
    }
    let forged = CDR.replace("au=97", "au=98");
    let (status, body) = form(&house, "/hooks/desk", &forged).await;
    assert_eq!(status, 403);
    assert!(body.contains("900002"), "{body}");
    let (status, body) = form(&house, "/hooks/desk", "").await;
    assert_eq!(status, 400);
    assert!(body.contains("900001"), "{body}");
    house.stop().await;
}

#[tokio::test]
async fn notices_come_by_get_only_where_the_vendor_does_so() {
    let house = WebHouse::open().await;
    let answer = get(house.at, &format!("/hooks/desk?{CDR}")).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let answer = get(house.at, &format!("/hooks/alipush/{TOKEN}/VoiceReport")).await;
    assert_eq!(answer.status.as_u16(), 405);
    assert_eq!(answer.header("allow"), "POST");
    for method in [Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS] {
        let answer = ask(house.at, method.clone(), "/hooks/desk", &[], Bytes::new()).await;
        assert_eq!(answer.status.as_u16(), 405, "{method}");
    }
    house.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_gets_the_vendors_413_however_it_is_announced() {
    let house = WebHouse::open_with(Settings {
        max_body: ByteSize::from_bytes(1000),
        ..Settings::default()
    })
    .await;
    let target = format!("/hooks/alipush/{TOKEN}/VoiceReport");
    let fits = format!("{REPORT}{}", " ".repeat(1000 - REPORT.len()));
    assert_eq!(
        post(house.at, &target, fits.clone()).await.status.as_u16(),
        200
    );
    let answer = post(house.at, &target, format!("{fits} ")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_i64()),
        (413, Some(413))
    );
    // Only announced: the body is not waited for.
    let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n");
    let answer = raw(house.at, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // In chunks, with no length announced.
    let chunk = format!("{:x}\r\n{}\r\n", 2000, "x".repeat(2000));
    let chunked = format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"
    );
    let answer = raw(house.at, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    house.stop().await;
}

#[tokio::test]
async fn framing_that_two_servers_could_read_differently_is_refused() {
    let house = WebHouse::open().await;
    for head in [
        "POST /hooks/desk HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /hooks/desk HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
        "POST /hooks/desk HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /hooks/desk HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        "GET /heal thz HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let answer = raw(house.at, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
    }
    house.stop().await;
}

#[tokio::test]
async fn the_second_listener_takes_notices_and_nothing_else() {
    let house = WebHouse::open_with(Settings {
        hooks_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..Settings::default()
    })
    .await;
    let hooks = house.hooks_at.unwrap();
    assert_eq!(get(hooks, "/healthz").await.status.as_u16(), 200);
    assert_eq!(
        post(
            hooks,
            &format!("/hooks/alipush/{TOKEN}/VoiceReport"),
            REPORT
        )
        .await
        .status
        .as_u16(),
        200
    );
    for target in [
        "/",
        "/readyz",
        "/metrics",
        "/api/v1/status",
        "/api/v1/recordings",
        "/api/v1/openapi.json",
    ] {
        assert_eq!(get(hooks, target).await.problem(), "not_found", "{target}");
    }
    house.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_to_those_who_read_only_after_sending() {
    let house = WebHouse::open().await;
    let size = 6 << 20;
    let told = format!(
        "POST /hooks/desk/cdr HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    );
    let untold = format!(
        "POST /hooks/desk/cdr HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n"
    );
    for (head, end) in [(told, ""), (untold, "\r\n0\r\n\r\n")] {
        let mut request = head.clone().into_bytes();
        request.resize(request.len() + size, b'x');
        request.extend(end.as_bytes());
        let answer = raw(house.at, &request).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{head}: {answer:.200}");
    }
    // Who asks before sending is told without sending.
    let asks = format!(
        "POST /hooks/desk/cdr HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
    );
    let answer = raw(house.at, asks.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer:.200}");
    house.stop().await;
}
