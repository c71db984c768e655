//! Questions for files, put to a small server that answers by path.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::Router;
use axum::extract::{Request, State};
use http::StatusCode;

use super::*;

/// A vendor that answers each path with one body, and keeps what it was asked.
#[derive(Clone)]
struct Vendor {
    answers: Arc<HashMap<&'static str, String>>,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn answer(State(vendor): State<Vendor>, request: Request) -> (StatusCode, String) {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 16).await.unwrap();
    let header = |name: &str| head.headers[name].to_str().unwrap().to_owned();
    let expected = sign::of_question(APP_KEY, &Secret::new(APP_SECRET), &header("nonce"), NOW);
    assert_eq!(header("checksum"), expected[3].1);
    let line = format!(
        "{} {} {}",
        head.uri.path(),
        header("content-type"),
        String::from_utf8_lossy(&body)
    );
    vendor.asked.lock().unwrap().push(line);
    match vendor.answers.get(head.uri.path()) {
        Some(body) => (StatusCode::OK, body.clone()),
        None => (StatusCode::NOT_FOUND, String::new()),
    }
}

const QUERY: &str = "/nimserver/history/queryMediaFileByChannelId.action";
const VIDEO: &str = "/app/vod/video/get";

async fn vendor(answers: &[(&'static str, &str)]) -> (Arc<dyn Provider>, Vendor) {
    let vendor = Vendor {
        answers: Arc::new(
            answers
                .iter()
                .map(|(path, body)| (*path, (*body).to_owned()))
                .collect(),
        ),
        asked: Arc::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let app = Router::new().fallback(answer).with_state(vendor.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let more = format!("base_url.im = \"http://{at}\"\nbase_url.vod = \"http://{at}\"");
    (source(&more), vendor)
}

/// What is wanted of the only recording of a payload, its address refused before.
fn refused(id: &str) -> Wanted {
    let announced = read(vector("payloads", id)["body"].as_str().unwrap())
        .recordings
        .remove(0);
    Wanted {
        recording_id: Uuid::nil(),
        provider_call_id: announced.provider_call_id,
        provider_recording_id: announced.provider_recording_id,
        handle: announced.handle,
        link: None,
        call_ended_at: None,
        arrived_at: NOW,
    }
}

fn body_of(id: &str) -> String {
    vector("server_api_answers", id)["body"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_dead_address_is_asked_for_by_vid_and_then_by_channel() {
    let (provider, seen) = vendor(&[(VIDEO, &body_of("ne-ans-006"))]).await;
    let Located::Ready(address) = provider.locate(&refused("ne-pl-004"), NOW).await.unwrap() else {
        panic!("no address");
    };
    let expect = vector("server_api_answers", "ne-ans-006")["expect"]["url"].clone();
    assert_eq!(address.url, expect.as_str().unwrap());
    assert_eq!(address.expected_bytes, Some(482_133));
    assert_eq!(
        hex::encode(address.expected_md5[0]),
        "8a13e3344c07ebef66960adbbcb27482"
    );
    let request = vector("server_api_requests", "ne-req-003");
    assert_eq!(
        *seen.asked.lock().unwrap(),
        [format!(
            "{VIDEO} application/json;charset=utf-8 {}",
            request["body"].as_str().unwrap()
        )]
    );

    // The store does not know it: the query by channel does, by the last part of the address.
    let (provider, seen) =
        vendor(&[(VIDEO, "{\"code\":404}"), (QUERY, &body_of("ne-ans-010"))]).await;
    let found = provider.locate(&refused("ne-pl-011"), NOW).await.unwrap();
    assert!(
        matches!(&found, Located::Ready(address) if address.url.ends_with("-0-mix.mp4")),
        "{found:?}"
    );
    let request = vector("server_api_requests", "ne-req-001");
    assert!(seen.asked.lock().unwrap()[1].ends_with(request["body"].as_str().unwrap()));

    for (video, query, expected) in [
        (body_of("ne-ans-007"), body_of("ne-ans-002"), "NotReady"),
        (body_of("ne-ans-008"), body_of("ne-ans-002"), "Gone"),
        ("{\"code\":404}".to_owned(), body_of("ne-ans-002"), "Gone"),
    ] {
        let (provider, _) = vendor(&[(VIDEO, &video), (QUERY, &query)]).await;
        let found = format!(
            "{:?}",
            provider.locate(&refused("ne-pl-004"), NOW).await.unwrap()
        );
        assert!(found.starts_with(expected), "{video}: {found}");
    }
}

#[test]
fn a_listed_file_that_may_be_any_piece_tells_of_its_call_alone() {
    let of = |more: &str| {
        let body =
            format!(r#"{{"vid":31,"videoName":"0-51153883300000-mix.mp4","status":40{more}}}"#);
        source("")
            .read(&notice(reading::TOPIC_VIDEO, body.as_bytes()))
            .unwrap()
    };
    let unclear = of("");
    assert_eq!((unclear.calls.len(), unclear.recordings.len()), (1, 0));
    let clear = of(r#","lastPartOfUrl":"0-51153883300000-2-mix.mp4""#);
    let names = &clear.recordings[0].aliases;
    assert!(names.contains(&"51153883300000/0-51153883300000-2-mix.mp4".to_owned()));
    assert!(names.contains(&"vid:31".to_owned()), "{names:?}");
}

#[tokio::test]
async fn an_answer_about_another_id_is_believed_in_nothing() {
    let other_vid =
        r#"{"code":200,"ret":{"vid":3200000009,"status":40,"origUrl":"http://a.vod.126.net/x"}}"#;
    let (provider, _) = vendor(&[(VIDEO, other_vid)]).await;
    let error = provider
        .locate(&refused("ne-pl-004"), NOW)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::BadAnswer);
    let other_channel = body_of("ne-ans-010");
    let (provider, _) = vendor(&[(VIDEO, "{\"code\":404}"), (QUERY, &other_channel)]).await;
    let error = provider
        .locate(&refused("ne-pl-004"), NOW)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::BadAnswer);
}

#[tokio::test]
async fn refused_and_throttled_questions_come_back_in_our_words() {
    for (answer, kind) in [
        ("ne-ans-003", ProviderErrorKind::CredentialsRefused),
        ("ne-ans-009", ProviderErrorKind::CredentialsRefused),
        ("ne-ans-004", ProviderErrorKind::Throttled),
    ] {
        let (provider, _) = vendor(&[(VIDEO, &body_of(answer))]).await;
        let error = provider
            .locate(&refused("ne-pl-004"), NOW)
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{answer}");
        assert!(!error.to_string().contains(APP_SECRET));
    }
    let (provider, _) = vendor(&[(QUERY, &body_of("ne-ans-003"))]).await;
    let findings = provider.check().await;
    assert_eq!(findings[0].code, "credentials_refused");
    let (provider, _) = vendor(&[(QUERY, &body_of("ne-ans-002"))]).await;
    assert_eq!(provider.check().await, []);
}

#[tokio::test]
async fn a_call_without_any_file_event_is_asked_for_by_its_channel() {
    let (provider, _) = vendor(&[(QUERY, &body_of("ne-ans-001"))]).await;
    let call = AskedCall {
        provider_call_id: "6290737000999801234".to_owned(),
        aliases: vec!["room:1".to_owned()],
        started_at: None,
        ended_at: None,
        custom: Default::default(),
    };
    let told = provider.ask(&call, NOW).await.unwrap();
    assert_eq!(told.len(), 2);
    for (told, name) in told.iter().zip([
        "0-6290737000999801234-0-mix.mp4",
        "agent_17-6290737000999801234-0.aac",
    ]) {
        let reading = provider.read(&notice(&told.topic, &told.body)).unwrap();
        assert!(
            reading.recordings[0]
                .aliases
                .contains(&format!("6290737000999801234/{name}"))
        );
        assert!(reading.recordings[0].confirmed && !told.dedup_key.contains("http"));
    }
}
