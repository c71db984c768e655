//! Lists from outside: exports, paging while calls arrive, validators, operations, and names that would like to break a page.

use callvault::domain::call::Party;
use http::Method;
use serde_json::{Value, json};

use crate::desk::{ACCESS, archived, call, form, send};
use crate::support::http::{get, get_with};
use crate::support::web::WebHouse;

#[tokio::test]
async fn exports_hold_every_line_and_no_formula() {
    let house = WebHouse::open().await;
    for n in 0..5 {
        let mut facts = call(&format!("c{n}"), n);
        facts.parties = vec![Party {
            role: Some("caller".into()),
            name: Some(format!("=HYPERLINK(\"http://evil.example/{n}\")\n,")),
            ..Party::default()
        }];
        house.learn(facts, Some(&format!("r{n}"))).await;
    }
    let csv = get(house.at, "/api/v1/recordings.csv?q=1234&bom=1").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert!(csv.header("content-disposition").starts_with("attachment"));
    let text = csv.text().strip_prefix('\u{feff}').unwrap();
    assert_eq!(
        text.matches("\"'=HYPERLINK(\"\"http://evil.example/")
            .count(),
        5
    );
    assert!(!text.contains(",=") && !text.contains(",\"="), "{text}");
    assert!(!text.contains(",+") && text.contains("\"'+8613900001234\""));
    let plain = get(house.at, "/api/v1/recordings.csv").await;
    assert!(plain.text().starts_with("started_at,local_time,"));
    let ndjson = get(
        house.at,
        "/api/v1/recordings.ndjson?to=2024-04-05T19:48:00Z",
    )
    .await;
    let lines: Vec<Value> = ndjson
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["provider_call_id"], "c3");
    for bad in [
        "/api/v1/recordings.csv?limit=1",
        "/api/v1/recordings.ndjson?x=1",
    ] {
        assert_eq!(get(house.at, bad).await.problem(), "bad_request", "{bad}");
    }
    let trail = house.audited().await;
    assert_eq!(
        trail
            .iter()
            .filter(|line| line.contains(" export "))
            .count(),
        3,
        "{trail:?}"
    );
    house.stop().await;
}

#[tokio::test]
async fn pages_of_a_list_are_stable_while_calls_arrive() {
    let house = WebHouse::open().await;
    for n in 0..6 {
        house
            .learn(call(&format!("c{n}"), 10 + n), Some(&format!("r{n}")))
            .await;
    }
    let mut seen = Vec::new();
    let mut target = "/api/v1/recordings?limit=2".to_owned();
    for round in 0.. {
        let page = get(house.at, &target).await.json();
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["provider_call_id"].as_str().unwrap().to_owned()),
        );
        // A newer call comes between two pages.
        house
            .learn(call(&format!("new{round}"), 1), Some(&format!("n{round}")))
            .await;
        match page["next"].as_str() {
            Some(next) => target = format!("/api/v1/recordings?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["c0", "c1", "c2", "c3", "c4", "c5"]);
    house.stop().await;
}

#[tokio::test]
async fn who_has_an_answer_already_gets_no_second_one() {
    let (house, id, _) = archived().await;
    for target in [
        "/api/v1/recordings",
        &format!("/api/v1/recordings/{id}"),
        "/api/v1/tags",
        "/api/v1/openapi.json",
    ] {
        let first = get(house.at, target).await;
        let etag = first.header("etag").to_owned();
        assert!(etag.starts_with('"') && etag.len() > 60, "{target}: {etag}");
        let again = get_with(house.at, target, &[("if-none-match", &etag)]).await;
        assert_eq!(
            (again.status.as_u16(), again.body.len()),
            (304, 0),
            "{target}"
        );
        let stale = get_with(house.at, target, &[("if-none-match", "\"x\"")]).await;
        assert_eq!(stale.status.as_u16(), 200, "{target}");
    }
    let before = get(house.at, "/api/v1/recordings")
        .await
        .header("etag")
        .to_owned();
    house.learn(call("c9", 1), Some("r9")).await;
    let after = get_with(
        house.at,
        "/api/v1/recordings",
        &[("if-none-match", &before)],
    )
    .await;
    assert_eq!(after.status.as_u16(), 200, "a new call makes a new answer");
    house.stop().await;
}

#[tokio::test]
async fn operations_show_what_waits_and_try_it_again() {
    let house = WebHouse::open().await;
    house.learn(call("c1", 20), Some("r1")).await;
    let view = get(house.at, "/api/v1/operations").await.json();
    assert_eq!(
        view["parts"],
        json!({"database": "ok", "spool": "ok", "storage": "ok"})
    );
    assert_eq!(view["notices_by_hour"].as_array().unwrap().len(), 48);
    assert_eq!(view["notices_by_hour"][47]["notices"], 1);
    let waiting: u64 = view["time_to_expiry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["recordings"].as_u64().unwrap())
        .sum();
    assert_eq!(waiting, 1);
    let list = get(house.at, "/api/v1/recordings").await.json();
    let id = list["items"][0]["recording_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let retried = send(
        &house,
        Method::POST,
        &format!("/api/v1/recordings/{id}/retry"),
        &json!({}),
    )
    .await;
    assert_eq!(retried.status.as_u16(), 202, "{}", retried.text());
    let done = form(&house, "retry", &format!("recording={id}&back=/operations")).await;
    assert_eq!(
        (done.status.as_u16(), done.header("location")),
        (303, "/operations")
    );
    let page = get(house.at, "/operations").await;
    assert_eq!(page.status.as_u16(), 200);
    assert!(page.text().contains("<svg") && !page.text().contains("style="));
    house.stop().await;
}

#[tokio::test]
async fn endless_and_turned_names_leave_the_page_whole() {
    let house = WebHouse::open().await;
    let name = format!("\u{202e}gnp.exe 😀{}", "长".repeat(10_000));
    let mut facts = call("c1", 5);
    facts.parties = vec![Party {
        role: Some("caller".into()),
        name: Some(name),
        ..Party::default()
    }];
    house.learn(facts, Some("r1")).await;
    let id = house.archive_next(b"RIFF", Some(ACCESS)).await;
    for target in [
        "/".to_owned(),
        format!("/recordings/{id}"),
        "/operations".to_owned(),
    ] {
        let page = get(house.at, &target).await;
        assert_eq!(page.status.as_u16(), 200, "{target}");
        assert!(page.body.len() < 40_000, "{target}: {}", page.body.len());
        assert!(!page.text().contains('\u{202e}'), "{target}");
    }
    assert!(get(house.at, "/").await.text().contains("gnp.exe 😀长"));
    house.stop().await;
}

#[tokio::test]
async fn a_store_that_is_away_leaves_the_page_and_says_so_at_play() {
    let (house, id, _) = archived().await;
    std::fs::remove_dir_all(house.dir.path().join("archive")).unwrap();
    let page = get(house.at, &format!("/recordings/{id}")).await;
    assert_eq!(page.status.as_u16(), 200);
    assert!(page.text().contains("id=\"play-problem\""));
    let audio = get_with(
        house.at,
        &format!("/api/v1/recordings/{id}/audio"),
        &[("range", "bytes=0-0")],
    )
    .await;
    assert_eq!(audio.problem(), "unavailable");
    let operations = get(house.at, "/operations").await;
    assert!(operations.text().contains("light bad"));
    house.stop().await;
}
