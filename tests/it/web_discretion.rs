//! What must not happen: an answer without its audit row, and a secret or a person's number in the log.

use std::io;
use std::sync::{Arc, Mutex};

use http::Method;
use sea_orm::ConnectionTrait;

use crate::support::http::{ask, get, get_with};
use crate::support::web::{TOKEN, WebHouse};

#[tokio::test]
async fn no_audit_row_no_answer() {
    let house = WebHouse::open().await;
    let file = house.dir.path().join("callvault.db");
    let other = sea_orm::Database::connect(format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    other
        .execute_unprepared("alter table audit_event rename to elsewhere")
        .await
        .unwrap();
    let nobody = "00000000-0000-0000-0000-000000000000";
    for target in [
        "/api/v1/recordings".to_owned(),
        format!("/api/v1/recordings/{nobody}"),
        format!("/api/v1/recordings/{nobody}/audio"),
        format!("/api/v1/recordings/{nobody}/waveform"),
        format!("/api/v1/calls/{nobody}"),
        "/api/v1/calls/by/desk/x".to_owned(),
    ] {
        let answer = get(house.at, &target).await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem()),
            (503, "unavailable".into()),
            "{target}"
        );
        assert!(!answer.header("retry-after").is_empty(), "{target}");
    }
    for target in ["/".to_owned(), format!("/recordings/{nobody}")] {
        let page = get(house.at, &target).await;
        assert_eq!(page.status.as_u16(), 503, "{target}");
        assert!(!page.header("retry-after").is_empty(), "{target}");
        assert!(page.text().contains("<!doctype html>"), "{target}");
    }
    house.stop().await;
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_knows_routes_and_no_secrets_at_any_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    // With a single dispatcher, tracing asks the thread that meets a log line first whether anyone
    // listens; threads of other tests would say no for ours too. A second one makes it ask them all.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    // The runtime of this test has one thread, so everything below logs here.
    let guard = tracing::subscriber::set_default(subscriber);
    let house = WebHouse::open_with_token("canary-api-token-000").await;
    let bearer = [("authorization", "Bearer canary-api-token-000")];
    get_with(
        house.at,
        "/api/v1/recordings?number=13900007777&q=Canarywang",
        &bearer,
    )
    .await;
    get_with(house.at, "/?q=13900007777&after=zz", &bearer).await;
    get_with(house.at, "/api/v1/calls/by/desk/canary-call", &bearer).await;
    get_with(
        house.at,
        "/",
        &[("authorization", "Basic Y2FuYXJ5OmNhbmFyeQ==")],
    )
    .await;
    for target in [
        format!("/hooks/guarded/{TOKEN}?secret=canary"),
        "/hooks/guarded/canary-wrong-token/cdr".to_owned(),
        "/hooks/canary-source".to_owned(),
    ] {
        let headers = [("x-canary", "canary")];
        ask(
            house.at,
            Method::POST,
            &target,
            &headers,
            "number=13900007777&canary=1",
        )
        .await;
    }
    house.stop().await;
    drop(guard);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("/hooks/{source}/{x}"),
        "routes are there:\n{log}"
    );
    for line in log.lines().filter(|line| line.contains("callvault")) {
        for secret in ["canary", "Canarywang", "Y2FuYXJ5", "00007777", TOKEN] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}
