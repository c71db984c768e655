//! `/api/v1`, the pages, `/readyz` and `/metrics` from outside, over rows and objects made as the pipeline makes them.

use bytes::Bytes;
use callvault::domain::call::{CallFacts, Party};
use callvault::domain::clock::Timestamp;
use callvault::domain::digest::Sha256;
use http::Method;
use serde_json::Value;

use crate::support::http::{ask, get, get_with};
use crate::support::web::{NOW_MS, WebHouse};

/// Names as a hostile caller would like them.
const NASTY: &str = r#"<script>alert(1)</script>"><img src=x onerror=alert(2)>"#;

fn call(id: &str, minutes_ago: i64) -> CallFacts {
    let start = Timestamp::from_ms(NOW_MS - minutes_ago * 60_000);
    CallFacts {
        started_at: Some(start),
        ended_at: Some(start.plus_ms(90_000)),
        duration_ms: Some(90_000),
        caller: Some("+8613900000001".into()),
        callee: Some("057188881234".into()),
        correlation_ids: vec![format!("order-{id}")],
        recorded: Some(true),
        talked: Some(true),
        is_cdr: true,
        ..CallFacts::new(id)
    }
}

fn original() -> Vec<u8> {
    (0..100_000_u32).map(|n| (n % 251) as u8).collect()
}

const ACCESS: &[u8] = b"0123456789abcdef";

/// One archived recording of call `c1`, twenty minutes ago.
async fn archived() -> (WebHouse, String) {
    let house = WebHouse::open().await;
    house.learn(call("c1", 20), Some("r1")).await;
    let id = house.archive_next(&original(), Some(ACCESS)).await;
    (house, format!("/api/v1/recordings/{id}"))
}

#[tokio::test]
async fn a_player_gets_exactly_the_bytes_it_asks_for() {
    let (house, base) = archived().await;
    let audio = format!("{base}/audio");
    let etag = format!("\"{}\"", Sha256::of(ACCESS));
    let whole = get(house.at, &audio).await;
    assert_eq!((whole.status.as_u16(), &*whole.body), (200, ACCESS));
    assert_eq!(whole.header("etag"), etag);
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-type"), "audio/mpeg");
    assert_eq!(whole.header("content-length"), "16");
    assert!(
        whole
            .header("content-disposition")
            .starts_with("inline; filename=\"")
    );
    assert!(whole.header("content-disposition").ends_with(".mp3\""));
    let stale = "\"0000\"".to_owned();
    for (headers, status, body, range) in [
        (vec![("range", "bytes=0-3")], 206, "0123", "bytes 0-3/16"),
        (
            vec![("range", "bytes=4-")],
            206,
            "456789abcdef",
            "bytes 4-15/16",
        ),
        (vec![("range", "bytes=-2")], 206, "ef", "bytes 14-15/16"),
        (
            vec![("range", "bytes=10-99")],
            206,
            "abcdef",
            "bytes 10-15/16",
        ),
        (
            vec![("range", "bytes=0-1,4-5")],
            200,
            "0123456789abcdef",
            "",
        ),
        (vec![("range", "lines=1-2")], 200, "0123456789abcdef", ""),
        (vec![("if-none-match", &etag)], 304, "", ""),
        (vec![("if-none-match", &stale)], 200, "0123456789abcdef", ""),
        (
            vec![("range", "bytes=0-3"), ("if-range", &etag)],
            206,
            "0123",
            "bytes 0-3/16",
        ),
        (
            vec![("range", "bytes=0-3"), ("if-range", &stale)],
            200,
            "0123456789abcdef",
            "",
        ),
    ] {
        let answer = get_with(house.at, &audio, &headers).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}");
        assert_eq!(&*answer.body, body.as_bytes(), "{headers:?}");
        assert_eq!(answer.header("content-range"), range, "{headers:?}");
        assert_eq!(answer.header("etag"), etag, "{headers:?}");
    }
    for range in ["bytes=16-", "bytes=16-20", "bytes=-0"] {
        let answer = get_with(house.at, &audio, &[("range", range)]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem()),
            (416, "bad_range".into()),
            "{range}"
        );
        assert_eq!(answer.header("content-range"), "bytes */16", "{range}");
    }
    let head = ask(
        house.at,
        Method::HEAD,
        &audio,
        &[("range", "bytes=0-3")],
        Bytes::new(),
    )
    .await;
    assert_eq!(
        (head.status.as_u16(), head.header("content-length")),
        (200, "16")
    );
    let original_audio = get(house.at, &format!("{audio}?role=original")).await;
    assert_eq!(&*original_audio.body, original());
    assert_eq!(original_audio.header("content-type"), "audio/wav");
    assert_eq!(
        original_audio.header("etag"),
        format!("\"{}\"", Sha256::of(&original()))
    );
    let waveform = get(house.at, &format!("{base}/waveform")).await;
    assert_eq!(waveform.json()["version"], 2);
    house.stop().await;
}

#[tokio::test]
async fn what_cannot_be_played_says_why() {
    let house = WebHouse::open().await;
    house.learn(call("c1", 20), Some("r1")).await;
    let id = house.archive_next(b"RIFF", None).await;
    house.learn(call("c2", 10), Some("r2")).await;
    let list = get(house.at, "/api/v1/recordings?state=pending")
        .await
        .json();
    let pending = list["items"][0]["recording_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let nobody = "00000000-0000-0000-0000-000000000000";
    for (target, status, code) in [
        (
            format!("/api/v1/recordings/{id}/audio"),
            404,
            "no_access_copy",
        ),
        (
            format!("/api/v1/recordings/{id}/waveform"),
            404,
            "no_access_copy",
        ),
        (
            format!("/api/v1/recordings/{pending}/audio"),
            404,
            "not_archived",
        ),
        (
            format!("/api/v1/recordings/{pending}/audio?role=original"),
            404,
            "not_archived",
        ),
        (
            format!("/api/v1/recordings/{nobody}/audio"),
            404,
            "not_found",
        ),
        (format!("/api/v1/recordings/{nobody}"), 404, "not_found"),
        (format!("/api/v1/calls/{id}"), 404, "not_found"),
        (format!("/api/v1/calls/{nobody}"), 404, "not_found"),
        (
            "/api/v1/recordings/..%2F..%2Fetc%2Fpasswd/audio".into(),
            404,
            "not_found",
        ),
        ("/api/v1/recordings/%FF".into(), 404, "not_found"),
        ("/api/v1/calls/by/desk/nothing".into(), 404, "not_found"),
        ("/api/v1/calls/by/other/c1".into(), 404, "not_found"),
        (
            format!("/api/v1/recordings/{id}/audio?role=manifest"),
            400,
            "bad_request",
        ),
        (
            format!("/api/v1/recordings/{id}/audio?rolle=original"),
            400,
            "bad_request",
        ),
        ("/api/v1/recordings?soruce=desk".into(), 400, "bad_request"),
        ("/api/v1/recordings?limit=-1".into(), 400, "bad_request"),
        (
            "/api/v1/recordings?after=nonsense".into(),
            400,
            "bad_cursor",
        ),
        ("/api/v1/status?x=1".into(), 400, "bad_request"),
        ("/api/v1/nothing".into(), 404, "not_found"),
    ] {
        let answer = get(house.at, &target).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem()),
            (status, code.into()),
            "{target}"
        );
    }
    let named = get(house.at, "/api/v1/recordings?soruce=desk").await.json();
    assert!(named["detail"].as_str().unwrap().contains("soruce"));
    let posted = ask(
        house.at,
        Method::POST,
        "/api/v1/recordings",
        &[],
        Bytes::new(),
    )
    .await;
    assert_eq!(
        (posted.status.as_u16(), posted.problem()),
        (405, "method_not_allowed".into())
    );
    house.stop().await;
}

#[tokio::test]
async fn lists_go_on_where_they_ended() {
    let house = WebHouse::open().await;
    for n in 0..7 {
        let recording = format!("r{n}");
        house
            .learn(
                call(&format!("c{n}"), n),
                (n % 2 == 0).then_some(&*recording),
            )
            .await;
    }
    let mut seen = Vec::new();
    let mut target = "/api/v1/recordings?limit=3".to_owned();
    loop {
        let page = get(house.at, &target).await.json();
        let items = page["items"].as_array().unwrap();
        assert!((1..=3).contains(&items.len()));
        seen.extend(
            items
                .iter()
                .map(|item| item["provider_call_id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => target = format!("/api/v1/recordings?limit=3&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]);
    let none = get(house.at, "/api/v1/recordings?state=none").await.json();
    assert_eq!(none["items"].as_array().unwrap().len(), 3);
    assert_eq!(none["items"][0]["recording_id"], Value::Null);
    let few = get(
        house.at,
        "/api/v1/recordings?q=1234&from=2024-04-05T19:45:00Z&number=%2B8613900000001",
    )
    .await;
    assert_eq!(
        few.json()["items"].as_array().unwrap().len(),
        6,
        "{}",
        few.text()
    );
    house.stop().await;
}

#[tokio::test]
async fn a_call_is_found_by_every_id_it_has() {
    let (house, base) = archived().await;
    let recording = get(house.at, &base).await.json();
    assert_eq!(recording["state"], "archived");
    assert_eq!(recording["call"]["provider_call_id"], "c1");
    assert_eq!(recording["objects"].as_array().unwrap().len(), 4);
    assert!(recording["history"].as_array().unwrap().len() >= 3);
    let call_id = recording["call_id"].as_str().unwrap();
    for target in [
        format!("/api/v1/calls/{call_id}"),
        "/api/v1/calls/by/desk/c1".into(),
        "/api/v1/calls/by/desk/order-c1".into(),
    ] {
        let shown = get(house.at, &target).await.json();
        assert_eq!(shown["call"]["call_id"], call_id, "{target}");
        assert_eq!(
            shown["recordings"][0]["recording_id"], recording["recording_id"],
            "{target}"
        );
    }
    house.stop().await;
}

#[tokio::test]
async fn everything_that_is_seen_or_heard_is_in_the_audit_trail_before() {
    let (house, base) = archived().await;
    let id = base.rsplit('/').next().unwrap().to_owned();
    for target in [
        "/?q=wang",
        "/api/v1/recordings?q=0001",
        &base,
        &format!("{base}/audio"),
    ] {
        assert_eq!(get(house.at, target).await.status.as_u16(), 200, "{target}");
    }
    // What is refused or missing was asked for as well.
    get(house.at, "/api/v1/calls/by/desk/nothing").await;
    let trail = house.audited().await;
    let expected = [
        "loopback show nothing".to_owned(),
        format!("loopback play {id}"),
        format!("loopback show {id}"),
        "loopback search 0001".to_owned(),
        "loopback search wang".to_owned(),
    ];
    assert_eq!(trail, expected);
    house.stop().await;
}

#[tokio::test]
async fn hostile_names_stay_text_and_the_page_needs_nobody_else() {
    let house = WebHouse::open().await;
    let mut nasty = call(NASTY, 5);
    nasty.caller = Some(NASTY.into());
    nasty.hangup_cause = Some(NASTY.into());
    nasty.custom.insert(
        "link".into(),
        format!("https://h/x?Signature={NASTY}").into(),
    );
    nasty.parties = vec![Party {
        role: Some("caller".into()),
        name: Some(NASTY.into()),
        ..Party::default()
    }];
    house.learn(nasty, Some("r1")).await;
    let id = house.archive_next(b"RIFF", Some(ACCESS)).await;
    for target in [
        "/".to_owned(),
        format!("/recordings/{id}"),
        "/?q=%3Cscript%3E&state=%22%3E".into(),
    ] {
        let page = get(house.at, &target).await;
        let html = page.text();
        assert!(
            page.header("content-type").starts_with("text/html"),
            "{target}"
        );
        assert_eq!(
            html.matches("<script").count(),
            1,
            "{target}: our own alone"
        );
        assert!(
            !html.contains("<img") && !html.contains(" onerror=alert(2)>"),
            "{target}"
        );
        assert!(!html.contains("style="), "{target}: the policy forbids it");
        let elsewhere = html.split(['"', '\'']).find(|text| text.contains("://"));
        assert_eq!(elsewhere, None, "{target} refers to another place");
    }
    let page = get(house.at, "/").await;
    let files = page
        .text()
        .split('"')
        .filter(|text| text.starts_with("/ui/"));
    for file in files {
        let asset = get(house.at, file).await;
        assert_eq!(asset.status.as_u16(), 200, "{file}");
        assert!(
            asset.header("cache-control").contains("immutable"),
            "{file}"
        );
    }
    assert!(
        page.text()
            .contains(&format!("data-audio=\"/api/v1/recordings/{id}/audio\""))
    );
    let shown = get(house.at, &format!("/api/v1/recordings/{id}")).await;
    assert!(
        !shown.text().contains("Signature"),
        "signed addresses are masked"
    );
    let missing = get(house.at, "/recordings/00000000-0000-0000-0000-000000000000").await;
    assert_eq!(missing.status.as_u16(), 404);
    assert!(missing.text().contains("<!doctype html>"));
    house.stop().await;
}

#[tokio::test]
async fn the_openapi_document_lists_every_route_and_the_fields_that_come() {
    let (house, base) = archived().await;
    let document = get(house.at, "/api/v1/openapi.json").await.json();
    let mut paths: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    paths.sort();
    let source = include_str!("../../src/web/router.rs");
    let mut routes: Vec<_> = source
        .split('"')
        .filter(|text| text.starts_with("/api/v1/"))
        .map(str::to_owned)
        .collect();
    routes.sort();
    assert_eq!(paths, routes);
    let fields = |name: &str| -> Vec<String> {
        let schema = &document["components"]["schemas"][name]["properties"];
        let mut fields: Vec<_> = schema.as_object().unwrap().keys().cloned().collect();
        fields.sort();
        fields
    };
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let list = get(house.at, "/api/v1/recordings").await.json();
    assert_eq!(fields("RecordingView"), keys(&list["items"][0]));
    assert_eq!(fields("OriginalView"), keys(&list["items"][0]["original"]));
    assert_eq!(fields("AccessView"), keys(&list["items"][0]["access"]));
    let shown = get(house.at, &base).await.json();
    assert_eq!(fields("CallView"), keys(&shown["call"]));
    assert_eq!(fields("ObjectView"), keys(&shown["objects"][0]));
    let status = get(house.at, "/api/v1/status").await.json();
    assert_eq!(fields("StatusView"), keys(&status));
    house.stop().await;
}

#[tokio::test]
async fn readiness_tells_the_parts_apart() {
    let (house, base) = archived().await;
    let ready = get(house.at, "/readyz").await;
    assert_eq!(ready.status.as_u16(), 200);
    assert_eq!(
        ready.json(),
        serde_json::json!({"ready": true, "database": "ok", "storage": "ok", "spool": "ok"})
    );
    assert_eq!(get(house.at, "/healthz").await.text(), "ok\n");
    // An object that is gone from the archive is not the reader's fault, and nothing is sent of it.
    for entry in walk(&house.dir.path().join("archive")) {
        if entry.extension().is_some_and(|ext| ext == "mp3") {
            std::fs::remove_file(entry).unwrap();
        }
    }
    let gone = get(house.at, &format!("{base}/audio")).await;
    assert_eq!(
        (gone.status.as_u16(), gone.problem()),
        (503, "unavailable".into())
    );
    assert!(!gone.header("retry-after").is_empty());
    std::fs::remove_dir_all(house.dir.path().join("spool")).unwrap();
    let other = WebHouse::open().await;
    std::fs::remove_dir_all(other.dir.path().join("spool")).unwrap();
    let unready = get(other.at, "/readyz").await;
    assert_eq!(unready.status.as_u16(), 503);
    assert_eq!(unready.json()["spool"], "away");
    assert_eq!(unready.json()["database"], "ok");
    assert!(!unready.header("retry-after").is_empty());
    other.stop().await;
    house.stop().await;
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[tokio::test]
async fn metrics_carry_the_promised_names() {
    let (house, _) = archived().await;
    house.learn(call("c2", 1), Some("r2")).await;
    let page = get(house.at, "/metrics").await;
    assert!(
        page.header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let text = page.text();
    for line in [
        "callvault_recordings{source=\"desk\",state=\"archived\"} 1",
        "callvault_recordings{source=\"desk\",state=\"pending\"} 1",
        "callvault_part_up{part=\"database\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    for name in [
        "callvault_notices_total",
        "callvault_recordings",
        "callvault_sweep_unannounced_total",
        "callvault_slack_seconds_min",
        "callvault_oldest_work_seconds",
        "callvault_alarm",
    ] {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
    }
    let slack = "# HELP callvault_slack_seconds_min Least seconds left until the vendor's copy or its link ends";
    assert!(text.contains(slack), "{text}");
    house.stop().await;
}
