//! The customer's bucket against a script: what its names say, its pages, and what it refuses.

use std::sync::Mutex;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use form_urlencoded::parse;

use super::*;
use crate::domain::clock::SystemClock;
use crate::providers::trtc::bucket::BUCKET_FILE;

/// Marker to answer.
type Script = dyn Fn(&str) -> (u16, String) + Send + Sync;

/// A source with a bucket and nothing else, and what the bucket was asked: prefix and marker.
async fn scripted(
    script: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
) -> (Arc<dyn Provider>, Arc<Mutex<Vec<[String; 2]>>>) {
    scripted_with("", script).await
}

/// Keys for the media store.
const MEDIA: &str = "secret_id = \"AKID\"\nsecret_key = \"s\"";

async fn scripted_with(
    more: &str,
    script: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
) -> (Arc<dyn Provider>, Arc<Mutex<Vec<[String; 2]>>>) {
    #[derive(Clone)]
    struct Desk(Arc<Script>, Arc<Mutex<Vec<[String; 2]>>>);
    async fn answer(State(desk): State<Desk>, RawQuery(query): RawQuery) -> (StatusCode, String) {
        let query = query.unwrap_or_default();
        let field = |name: &str| {
            let mut fields = parse(query.as_bytes());
            let found = fields.find(|(key, _)| key == name);
            found.map_or_else(String::new, |(_, value)| value.into_owned())
        };
        let (status, body) = (desk.0)(&field("marker"));
        desk.1
            .lock()
            .unwrap()
            .push([field("prefix"), field("marker")]);
        (StatusCode::from_u16(status).unwrap(), body)
    }
    let asked = Arc::new(Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new()
        .fallback(answer)
        .with_state(Desk(Arc::new(script), asked.clone()));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let keys = format!(
        "sdk_app_id = {APP}\ncallback_key = \"{KEY}\"\n{more}\nrequests_per_second = 1000\nbase_url.cos = \"{url}\"\n\
         cos = {{ bucket = \"b-1\", region = \"r\", prefix = \"/calls/a/\", secret_id = \"AKID\", secret_key = \"s\" }}"
    );
    let (common, own) =
        CommonSettings::split("trtc-main", &TrtcKind.defaults(), keys.parse().unwrap()).unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let ctx = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    (TrtcKind.build(common, own, &ctx).unwrap(), asked)
}

const NOON: &str = "2024-03-05T12:00:00.000Z";

fn page(objects: &[(&str, &str)], next: Option<&str>) -> (u16, String) {
    let is_cut = next.is_some();
    let next = next.map_or_else(String::new, |next| {
        format!("<NextMarker>{next}</NextMarker>")
    });
    let contents: String = objects
        .iter()
        .map(|(key, at)| format!("<Contents><Key>{key}</Key><LastModified>{at}</LastModified><Size>7</Size></Contents>"))
        .collect();
    let body = format!(
        "<ListBucketResult><IsTruncated>{is_cut}</IsTruncated>{next}{contents}</ListBucketResult>"
    );
    (200, body)
}

fn fault(status: u16, code: &str) -> (u16, String) {
    (status, format!("<Error><Code>{code}</Code></Error>"))
}

fn window() -> Window {
    Window {
        from: Timestamp::parse("2024-03-05T00:00:00Z").unwrap(),
        to: Timestamp::parse("2024-03-06T00:00:00Z").unwrap(),
    }
}

fn now() -> Timestamp {
    Timestamp::from_ms(ARRIVED)
}

fn asked_call(id: &str) -> AskedCall {
    AskedCall {
        provider_call_id: id.to_owned(),
        aliases: Vec::new(),
        started_at: None,
        ended_at: None,
        custom: serde_json::Map::new(),
    }
}

fn readings(provider: &dyn Provider, news: &[Told]) -> Vec<Reading> {
    let read = |one: &Told| {
        assert_eq!(one.topic, BUCKET_FILE);
        told(
            provider,
            &one.topic,
            &serde_json::from_slice(&one.body).unwrap(),
        )
    };
    news.iter().map(read).collect()
}

#[tokio::test]
async fn names_in_the_bucket_tell_task_room_user_and_what_is_no_recording() {
    // `desk-17`, `agent_17` and `a?b>` in the vendor's Base64.
    let keys = [
        "calls/a/t1/1400567890_200_UserId_s_YWdlbnRfMTc._UserId_e_main.aac",
        "calls/a/t1/1400567890_200_UserId_s_YT9iPg.._UserId_e_main_audio.m3u8",
        "calls/a/t1/1400567890_200_UserId_s_YT9iPg.._UserId_e_main_audio_0.ts",
        "calls/a/t1/1400567890_200_UserId_s_YT9iPg.._UserId_e_main_video.m3u8",
        "calls/a/t2/1400567890_ZGVzay0xNw...m3u8",
        "calls/a/t2/1400567890_ZGVzay0xNw.._2.mp4",
        // Of another application, of nobody, elsewhere.
        "calls/a/t3/1400567899_200.aac",
        "calls/a/t3/notes.aac",
        "calls/a/t3/deeper/1400567890_200.aac",
        "calls/a/1400567890_200.aac",
        "calls/t4/1400567890_200.aac",
        "calls/a/t5/",
    ];
    let (provider, asked) = scripted(move |_| page(&keys.map(|key| (key, NOON)), None)).await;
    let can = provider.capabilities();
    assert!(can.can_list_bucket && can.can_ask_bucket && !can.can_list && !can.can_ask);
    let got = provider.list_bucket(window(), None, now()).await.unwrap();
    assert_eq!(got.next, None);
    assert_eq!(
        *asked.lock().unwrap(),
        [["calls/a/".to_owned(), String::new()]]
    );
    let readings = readings(&*provider, &got.told);
    let facts: Vec<_> = readings
        .iter()
        .map(|reading| {
            let call = &reading.calls[0];
            let user = call.parties.first().and_then(|party| party.id.clone());
            let room = call.custom["room"].as_str().unwrap().to_owned();
            let of = reading.recordings.first();
            (
                call.provider_call_id.as_str(),
                room,
                user,
                of.map(|one| (one.part, one.ready_now)),
            )
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        facts,
        [
            (
                "t1",
                "200".to_owned(),
                some("agent_17"),
                Some((Part::Party, true))
            ),
            (
                "t1",
                "200".to_owned(),
                some("a?b>"),
                Some((Part::Party, false))
            ),
            // Picture without sound.
            ("t1", "200".to_owned(), some("a?b>"), None),
            ("t2", "desk-17".to_owned(), None, Some((Part::Mixed, false))),
            ("t2", "desk-17".to_owned(), None, Some((Part::Mixed, true))),
        ]
    );
    let first = &readings[0].recordings[0];
    let name = keys[0].rsplit_once('/').unwrap().1;
    // The same name as the callback's, so both are one recording.
    assert_eq!(first.aliases, [format!("tencent/{APP}/t1/{name}")]);
    assert!(first.confirmed);
    assert_eq!(readings[0].calls[0].started_at, Timestamp::parse(NOON));
    let wanted = Wanted {
        recording_id: Uuid::nil(),
        provider_call_id: "t1".to_owned(),
        provider_recording_id: None,
        handle: first.handle.clone(),
        link: None,
        call_ended_at: None,
        arrived_at: now(),
    };
    match provider.locate(&wanted, now()).await.unwrap() {
        Located::Ready(address) => assert!(address.url.ends_with(keys[0]), "{}", address.url),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_window_is_read_page_by_page_and_only_what_was_written_in_it_is_told() {
    let key = |n: u32| format!("calls/a/t{n}/1400567890_{n}.aac");
    let (provider, asked) = scripted(move |marker| {
        let at = |n: u32| match n {
            0 => "2024-03-04T23:59:00.000Z",
            5 => "2024-03-06T00:01:00.000Z",
            6 => "when it rained",
            _ => NOON,
        };
        let first = (0..8).find(|n| key(*n).as_str() > marker).unwrap();
        let keys: Vec<String> = (first..first + 2).map(key).collect();
        let objects = [
            (keys[0].as_str(), at(first)),
            (keys[1].as_str(), at(first + 1)),
        ];
        page(&objects, (first < 6).then_some(keys[1].as_str()))
    })
    .await;
    let (mut seen, mut page, mut keys) = (Vec::new(), None, std::collections::BTreeSet::new());
    loop {
        let got = provider
            .list_bucket(window(), page.as_deref(), now())
            .await
            .unwrap();
        keys.extend(got.told.iter().map(|one| one.dedup_key.clone()));
        seen.extend(readings(&*provider, &got.told));
        page = got.next;
        if page.is_none() {
            break;
        }
    }
    let calls: Vec<&str> = seen
        .iter()
        .map(|reading| reading.calls[0].provider_call_id.as_str())
        .collect();
    assert_eq!(calls, ["t1", "t2", "t3", "t4", "t6", "t7"]);
    assert_eq!(keys.len(), 6);
    let asked = asked.lock().unwrap();
    let markers: Vec<&str> = asked.iter().map(|[_, marker]| marker.as_str()).collect();
    assert_eq!(markers, ["", &key(1), &key(3), &key(5)]);
}

#[tokio::test]
async fn one_tasks_folder_is_asked_for_and_a_page_that_repeats_ends_it() {
    let (provider, asked) = scripted(|_| {
        let objects = [
            ("calls/a/task-1/1400567890_7.aac", NOON),
            ("calls/a/task-10/1400567890_7.aac", NOON),
        ];
        page(&objects, Some("calls/a/task-1/1400567890_7.aac"))
    })
    .await;
    let call = asked_call("task-1");
    let news = provider.ask_bucket(&call, now()).await.unwrap();
    let calls: std::collections::BTreeSet<_> = readings(&*provider, &news)
        .into_iter()
        .map(|reading| reading.calls[0].provider_call_id.clone())
        .collect();
    assert_eq!(calls, ["task-1".to_owned()].into());
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[0][0], "calls/a/task-1/");
    // A room's life is no task: its folder cannot be known.
    let (provider, asked) = scripted(|_| page(&[], None)).await;
    let life = asked_call("1400567890_desk-17_1709596800");
    assert_eq!(provider.ask_bucket(&life, now()).await.unwrap(), []);
    assert!(asked.lock().unwrap().is_empty());
    // A walk may go on for weeks: that its pages go round is seen from one page alone.
    let (provider, asked) = scripted(|_| page(&[("calls/a/x/y", NOON)], Some("calls/a/x/y"))).await;
    let list = async |page: Option<&str>| provider.list_bucket(window(), page, now()).await;
    let first = list(None).await.unwrap().next;
    assert_eq!(first.as_deref(), Some("calls/a/x/y"));
    let again = list(first.as_deref()).await.unwrap_err();
    assert_eq!(again.kind, ProviderErrorKind::BadAnswer);
    // The prefix was another one when this page was kept.
    list(Some("calls/b/x/y")).await.unwrap();
    let markers: Vec<String> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|[_, m]| m.clone())
        .collect();
    assert_eq!(markers, ["", "calls/a/x/y", ""]);
}

#[tokio::test]
async fn a_bucket_that_refuses_says_why_and_one_that_may_not_be_listed_is_no_empty_one() {
    use ProviderErrorKind as Kind;
    for (answer, kind) in [
        (fault(403, "InvalidAccessKeyId"), Kind::CredentialsRefused),
        (
            fault(403, "SignatureDoesNotMatch"),
            Kind::CredentialsRefused,
        ),
        (fault(403, "RequestTimeTooSkewed"), Kind::CredentialsRefused),
        (fault(404, "NoSuchBucket"), Kind::CredentialsRefused),
        (fault(400, "InvalidArgument"), Kind::BadAnswer),
        (fault(500, "InternalError"), Kind::Unreachable),
        ((502, "<html><br></html>".to_owned()), Kind::Unreachable),
        (
            (200, "<html><body>busy</body></html>".to_owned()),
            Kind::Unreachable,
        ),
        (fault(503, "SlowDown"), Kind::Throttled),
    ] {
        let shown = format!("{answer:?}");
        let (provider, _) = scripted(move |_| answer.clone()).await;
        let error = provider
            .list_bucket(window(), None, now())
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{shown}");
        assert!(!error.to_string().contains("q-signature"), "{error}");
    }
    // May not be listed: never "listed, nothing there". Without the media store nothing else would find it.
    for (more, kind) in [
        ("", Kind::CredentialsRefused),
        (MEDIA, Kind::CannotListBucket),
    ] {
        let (provider, _) = scripted_with(more, |_| fault(403, "AccessDenied")).await;
        let listed = provider.list_bucket(window(), None, now()).await;
        let asked = provider.ask_bucket(&asked_call("t"), now()).await;
        assert_eq!(listed.unwrap_err().kind, kind, "{more}");
        assert_eq!(asked.unwrap_err().kind, kind, "{more}");
    }
    let (provider, asked) = scripted(|_| fault(403, "AccessDenied")).await;
    let codes: Vec<_> = provider.check().await.into_iter().map(|f| f.code).collect();
    assert_eq!(codes, ["cannot_search", "cannot_list_bucket"]);
    // As the sweep asks, because a key may be let in below the prefix alone.
    let _ = provider.list_bucket(window(), None, now()).await;
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0], asked[1], "{asked:?}");
    assert_eq!(asked[0][0], "calls/a/");
}

#[test]
fn the_bucket_follows_the_media_store_unless_that_is_not_wanted() {
    let cos = |more: &str| {
        source(&format!(
            "cos = {{ bucket = \"b-1\", region = \"r\", secret_id = \"a\", secret_key = \"s\"{more} }}"
        ))
        .capabilities()
    };
    assert!(cos("").can_list_bucket && cos("").lists());
    assert!(!cos(", list = false").lists());
    assert!(cos(", list = false").can_ask_bucket && cos("").asks());
    assert!(!source("").capabilities().lists());
}
