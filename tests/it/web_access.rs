//! Who may read, from outside: loopback, tokens, forwarded requests; and what every answer carries.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use callvault::web::settings::Settings;

use crate::support::http::{get, get_with, raw};
use crate::support::web::WebHouse;

const TOKEN: &str = "api-token-of-the-tests";
const READING: [&str; 8] = [
    "/",
    "/recordings/00000000-0000-0000-0000-000000000000",
    "/metrics",
    "/api/v1/recordings",
    "/api/v1/recordings/00000000-0000-0000-0000-000000000000/audio",
    "/api/v1/calls/by/desk/x",
    "/api/v1/status",
    "/api/v1/openapi.json",
];

#[tokio::test]
async fn without_a_token_only_this_machine_itself_reads() {
    let house = WebHouse::open().await;
    for target in READING {
        let answer = get(house.at, target).await;
        assert!(
            matches!(answer.status.as_u16(), 200 | 404),
            "{target}: {}",
            answer.status
        );
        for header in [
            ("host", "callvault.example"),
            ("host", "127.0.0.1.evil.example"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", "localhost"),
            ("x-real-ip", "127.0.0.1"),
            ("via", "1.1 proxy"),
        ] {
            let answer = get_with(house.at, target, &[header]).await;
            assert_eq!(answer.status.as_u16(), 403, "{target} {header:?}");
            assert_eq!(answer.problem(), "token_required", "{target} {header:?}");
        }
    }
    // A token that nobody set opens nothing.
    let headers = [("host", "x"), ("authorization", "Bearer ")];
    assert_eq!(
        get_with(house.at, "/api/v1/status", &headers)
            .await
            .problem(),
        "token_required"
    );
    house.stop().await;
}

#[tokio::test]
async fn a_request_without_a_host_reads_nothing() {
    let house = WebHouse::open().await;
    for request in [
        "GET /api/v1/status HTTP/1.0\r\n\r\n",
        "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET http://evil.example/api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ] {
        let answer = raw(house.at, request.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "400" | "403"), "{request:?}: {answer}");
    }
    house.stop().await;
}

#[tokio::test]
async fn with_a_token_everyone_needs_it() {
    let house = WebHouse::open_with_token(TOKEN).await;
    let bearer = format!("Bearer {TOKEN}");
    let basic = format!("Basic {}", STANDARD.encode(format!("anyone:{TOKEN}")));
    for target in READING {
        for authorization in [&bearer, &basic] {
            let headers = [
                ("host", "callvault.example"),
                ("x-forwarded-for", "1.2.3.4"),
                ("authorization", authorization),
            ];
            let answer = get_with(house.at, target, &headers).await;
            assert!(
                matches!(answer.status.as_u16(), 200 | 404),
                "{target}: {}",
                answer.status
            );
        }
        let page = !(target.starts_with("/api") || target == "/metrics");
        for headers in [
            &[][..],
            &[("authorization", "Bearer api-token-of-the-testz")],
        ] {
            let answer = get_with(house.at, target, headers).await;
            assert_eq!(answer.problem(), "token_required", "{target}");
            // A browser asks its user only after 401.
            assert_eq!(
                answer.status.as_u16(),
                if page { 401 } else { 403 },
                "{target}"
            );
            assert_eq!(
                answer.headers.contains_key("www-authenticate"),
                page,
                "{target}"
            );
        }
    }
    for target in ["/healthz", "/readyz"] {
        assert_eq!(get(house.at, target).await.status.as_u16(), 200, "{target}");
    }
    house.stop().await;
}

#[tokio::test]
async fn another_sites_page_cannot_embed_a_recording() {
    let house = WebHouse::open().await;
    let embedded = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "no-cors"),
    ];
    let audio = "/api/v1/recordings/00000000-0000-0000-0000-000000000000/audio";
    assert_eq!(
        get_with(house.at, audio, &embedded).await.problem(),
        "cross_site"
    );
    let linked = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
    ];
    assert_eq!(get_with(house.at, "/", &linked).await.status.as_u16(), 200);
    house.stop().await;
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_keep_browsers_careful() {
    let house = WebHouse::open().await;
    for target in [
        "/",
        "/nowhere",
        "/api/v1/status",
        "/healthz",
        "/api/v1/recordings?x=1",
    ] {
        let answer = get(house.at, target).await;
        assert_eq!(
            answer.header("x-content-type-options"),
            "nosniff",
            "{target}"
        );
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{target}");
        assert_eq!(
            answer.header("cross-origin-resource-policy"),
            "same-origin",
            "{target}"
        );
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';"),
            "{target}: {policy}"
        );
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(
            answer.header("cache-control").contains("no-store"),
            "{target}"
        );
    }
    house.stop().await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_sleeping_connection() {
    let house = WebHouse::open_with(Settings::default()).await;
    let half_a_head = tokio::net::TcpStream::connect(house.at).await.unwrap();
    half_a_head.try_write(b"GET / HT").unwrap();
    house.stop().await;
}
