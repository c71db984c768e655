//! Meetings from room to archive: the simulated platform and the adapter meet, told by the customer's
//! application and by watching alone; and what the adapter does with a key that is refused, with starting,
//! listing, deleting and files that never come.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use callvault::domain::clock::{Clock, ManualClock, SharedClock, SystemClock, Timestamp};
use callvault::domain::digest::Sha256;
use callvault::domain::notice::{Door, Notice};
use callvault::domain::reading::Reading;
use callvault::providers::contract::{
    BuildContext, Drawn, Located, Provider, ProviderErrorKind, Told, Wanted, Window,
};
use callvault::providers::http::GuardedClient;
use callvault::providers::registry;
use callvault::providers::settings::CommonSettings;
use callvault::simulator::{Mishaps, Options, Profile, Vendor, VendorKind};
use serde_json::{Value, json};

use crate::journeys::{all_as_planned, options};
use crate::support::house::TestHouse;

const ID: &str = "5b1e3c52-8f0a-4f0e-9d7e-0c5f6a1b2c3d";
const OTHER: &str = "aaaaaaaabbbbccccddddeeeeeeeeeeee";

fn meetings(only: &[&str], announce: bool) -> (VendorKind, Options) {
    let options = Options {
        announce,
        ..options("vcrtc-t", only)
    };
    (VendorKind::Vcrtc, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn meetings_that_the_customer_tells_of_end_as_planned() {
    let house = TestHouse::open(vec![meetings(
        &[
            "none",
            "late",
            "twice",
            "never",
            "not_ready",
            "link_expired",
            "429",
            "500",
            "reset",
            "truncated",
            "html200",
            "wrong_length",
            "never_recorded",
            "unannounced",
        ],
        true,
    )])
    .await;
    house.make_calls().await;
    all_as_planned(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn meetings_are_found_by_watching_alone() {
    let (kind, options) = meetings(
        &["none", "none", "not_ready", "never_recorded", "unannounced"],
        false,
    );
    // Slower than elsewhere: a meeting must last long enough for a busy machine to see it.
    let speed = 300.0;
    let house = TestHouse::open(vec![(kind, Options { speed, ..options })]).await;
    house.make_calls().await;
    all_as_planned(&house).await;
    let vendor = &house.vendors[0];
    assert_eq!(vendor.progress().pushes_accepted, 0);
    assert!(!vendor.requests().contains_key("/meeting/openRecord"));
    assert!(!vendor.requests().contains_key("/meeting/closeRecord"));
    assert!(!vendor.requests().contains_key("/meeting/delRecordFile"));
    // The call bears the room and the start, and its recording the vendor's id.
    for line in vendor.ledger().iter().filter(|l| l.expect == "archived") {
        let found = house
            .house()
            .db
            .recordings_of_call("vcrtc-t", &line.provider_call_id)
            .await
            .unwrap();
        let call_id = &found[0].provider_call_id;
        assert!(
            call_id.contains(" 20") && call_id.contains(':'),
            "{call_id}"
        );
        assert!(found.iter().all(|view| view.started_at.is_some()));
        assert!(
            found
                .iter()
                .any(|view| view.provider_recording_id == line.provider_recording_id)
        );
    }
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dedicated_cloud_is_watched_with_sessions_that_are_renewed() {
    let (kind, options) = meetings(&["none", "reset", "none"], false);
    let options = Options {
        profile: Profile::V3,
        speed: 600.0,
        ..options
    };
    let house = TestHouse::open(vec![(kind, options)]).await;
    house.make_calls().await;
    all_as_planned(&house).await;
    let requests = house.vendors[0].requests();
    let logins = requests["/api/v3/app/user/login/verify_user.shtml"];
    assert!(logins >= 2, "a session of 300 ms does not last: {logins}");
    assert!(
        logins * 3 < requests["/meeting/getLiveRecStatus"],
        "{requests:?}"
    );
    house.finish().await;
}

/// A source of this block, with some keys set otherwise.
fn build(block: &str, changes: &str, clock: SharedClock) -> Arc<dyn Provider> {
    let block: toml::Table = block.parse().unwrap();
    let (name, keys) = block["sources"].as_table().unwrap().iter().next().unwrap();
    let mut keys = keys.as_table().unwrap().clone();
    keys.remove("kind");
    let changes: toml::Table = changes.parse().unwrap();
    keys.extend(changes);
    let kind = registry::find(name, "vcrtc").unwrap();
    let (common, own) = CommonSettings::split(name, &kind.defaults(), keys).unwrap();
    let ctx = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    kind.build(common, own, &ctx).unwrap()
}

fn read(provider: &dyn Provider, told: &Told) -> Reading {
    let notice = Notice {
        notice_id: uuid::Uuid::nil(),
        source: provider.name().to_owned(),
        kind: provider.kind().to_owned(),
        door: Door::Queue,
        topic: told.topic.clone(),
        method: String::new(),
        query: String::new(),
        headers: vec![],
        sha256: Sha256::of(&told.body),
        body: told.body.to_vec(),
        arrived_at: SystemClock.now(),
        dedup_key: told.dedup_key.clone(),
        unreadable: None,
    };
    provider.read(&notice).unwrap()
}

fn wanted(id: &str, handle: Value, arrived_at: Timestamp) -> Wanted {
    Wanted {
        recording_id: uuid::Uuid::nil(),
        provider_call_id: id.to_owned(),
        provider_recording_id: Some(id.to_owned()),
        handle,
        link: None,
        call_ended_at: None,
        arrived_at,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_is_read_and_what_is_ours_is_deleted_once() {
    let clock: SharedClock = Arc::new(SystemClock);
    let options = Options {
        mishaps: Mishaps::None,
        calls: 3,
        speed: 20_000.0,
        announce: false,
        push_to: Some("http://127.0.0.1:9".to_owned()),
        call_interval: Duration::ZERO,
        ..Options::new("zj")
    };
    let vendor = Vendor::start(VendorKind::Vcrtc, options, clock.clone())
        .await
        .unwrap();
    vendor.make_calls().await.unwrap();
    let changes = "mode = [\"list\"]\ndelete_after_archive = true";
    let provider = build(&vendor.config_block(), changes, clock.clone());
    let capabilities = provider.capabilities();
    assert!(capabilities.can_list && capabilities.can_delete);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let now = clock.now();
    let window = Window {
        from: now.plus_ms(-3_600_000),
        to: now.plus_ms(60_000),
    };
    let page = provider.list(window, None, now).await.unwrap();
    assert_eq!(page.next, None);
    let mut listed: Vec<_> = page
        .told
        .iter()
        .map(|told| {
            read(&*provider, told).recordings[0]
                .provider_recording_id
                .clone()
        })
        .collect();
    let mut made: Vec<_> = vendor
        .ledger()
        .iter()
        .map(|line| line.provider_recording_id.clone())
        .collect();
    listed.sort();
    made.sort();
    assert_eq!(listed, made);
    let before = Window {
        from: window.from.plus_ms(-3_600_000),
        to: window.from,
    };
    assert!(
        provider
            .list(before, None, now)
            .await
            .unwrap()
            .told
            .is_empty()
    );

    let id = made[0].clone().unwrap();
    let foreign = wanted(&id, json!({ "conference_key": "1866" }), now);
    let refused = provider.delete(&foreign, now).await.unwrap_err();
    assert!(refused.to_string().contains("not ours"), "{refused}");
    assert!(!vendor.requests().contains_key("/meeting/delRecordFile"));
    let ours = wanted(&id, json!({ "told": true }), now);
    provider.delete(&ours, now).await.unwrap();
    provider.delete(&ours, now).await.unwrap();
    assert_eq!(vendor.requests()["/meeting/delRecordFile"], 2);
    // The same without knowing the code: the vendor has no such entry any more.
    let unknowing = build(
        &vendor.config_block(),
        "delete_after_archive = true\ncodes = { no_such_record = [] }",
        clock.clone(),
    );
    unknowing.delete(&ours, now).await.unwrap();
    assert_eq!(
        provider.locate(&ours, now).await.unwrap(),
        Located::NotReady { code: None }
    );
    vendor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_found_by_check_and_keeps_the_account_still() {
    let clock = ManualClock::at(SystemClock.now());
    let options = Options {
        ..Options::new("zj")
    };
    let vendor = Vendor::start(VendorKind::Vcrtc, options, clock.clone())
        .await
        .unwrap();
    let right = build(&vendor.config_block(), "", clock.clone());
    assert_eq!(right.check().await, vec![]);
    let wrong = build(
        &vendor.config_block(),
        "auth_value = \"of-another-tenant\"",
        clock.clone(),
    );
    let findings = wrong.check().await;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].code, "credentials_refused");
    assert!(!findings[0].what.contains("of-another-tenant"));
    let asked = || vendor.requests()["/meeting/getRecords"];
    let before = asked();
    let wish = wanted(ID, json!({}), clock.now());
    for _ in 0..3 {
        let error = wrong.locate(&wish, clock.now()).await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::CredentialsRefused);
    }
    assert_eq!(asked(), before, "no fast retries with a wrong key");
    clock.advance_ms(601_000);
    assert!(wrong.locate(&wish, clock.now()).await.is_err());
    assert_eq!(asked(), before + 1);
    let unknown_room = build(&vendor.config_block(), "rooms = [\"4711\"]", clock.clone());
    assert_eq!(
        unknown_room.check().await,
        vec![],
        "no such meeting is no fault"
    );
    vendor.stop().await;
}

/// A platform that answers what it is told to, and writes down what it was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Value>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn start(&self) -> String {
        async fn answer(State(script): State<Script>, request: Request) -> String {
            let page = request.uri().path().rsplit('/').next().unwrap().to_owned();
            script.asked.lock().unwrap().push(page);
            let answer = script.answers.lock().unwrap().pop_front();
            answer.unwrap_or(json!({ "code": 500 })).to_string()
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        format!(
            "[sources.zj]\nkind = \"vcrtc\"\napi_server = \"http://{at}\"\nauth_value = \"k\"\n\
             hook_token = \"0123456789abcdef\"\nrooms = [\"1866\"]\nwatch_interval = \"1ms\"\n\
             requests_per_second = 1000\n"
        )
    }

    fn will_say(&self, answers: impl IntoIterator<Item = Value>) {
        self.answers.lock().unwrap().extend(answers);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn on(id: &str) -> Value {
    json!({ "code": "200", "state": 1, "data": { "conferenceKey": "1866", "record": true, "recordId": id } })
}

fn off() -> Value {
    json!({ "code": 200, "state": 1, "data": { "conferenceKey": "1866", "record": false, "recordId": "" } })
}

fn refused(code: &str) -> Value {
    json!({ "code": code, "state": 0, "data": null, "message": "no" })
}

/// What is new; nothing when the script comes to its end without news.
async fn draw(provider: &dyn Provider) -> Vec<Drawn> {
    provider.draw("room:1866").await.unwrap_or_default()
}

async fn confirm(provider: &dyn Provider, drawn: &[Drawn]) {
    let receipts: Vec<_> = drawn.iter().map(|one| one.receipt.clone()).collect();
    provider.confirm("room:1866", &receipts).await.unwrap();
}

fn topics(drawn: &[Drawn]) -> Vec<&str> {
    drawn.iter().map(|one| one.told.topic.as_str()).collect()
}

#[tokio::test]
async fn a_recording_that_we_start_is_ours_and_one_that_was_on_is_not() {
    let script = Script::default();
    let block = script.start().await;
    let start = "mode = [\"start\"]\ndelete_after_archive = true";
    let provider = build(&block, start, Arc::new(SystemClock));
    script.will_say([off(), refused("200006")]);
    assert!(draw(&*provider).await.is_empty(), "the meeting is not open");
    script.will_say([
        off(),
        json!({ "code": 200, "data": { "recordId": ID }, "state": 1 }),
    ]);
    let opened = draw(&*provider).await;
    assert_eq!(topics(&opened), ["opened"]);
    let reading = read(&*provider, &opened[0].told);
    assert_eq!(reading.recordings[0].handle["opened"], true);
    // Not stored yet: it comes again, without a question.
    let asked = script.asked();
    assert_eq!(draw(&*provider).await, opened);
    assert_eq!(script.asked(), Vec::<String>::new(), "{asked:?}");
    confirm(&*provider, &opened).await;
    script.will_say([on(ID)]);
    assert!(draw(&*provider).await.is_empty());
    // It ends, and before we can start the next one somebody else does: 200003, and the id is asked for.
    script.will_say([off(), refused("200003"), on(OTHER)]);
    let changed = draw(&*provider).await;
    assert_eq!(topics(&changed), ["stopped", "watched"]);
    assert!(read(&*provider, &changed[0].told).recordings[0].ready_now);
    let reading = read(&*provider, &changed[1].told);
    let found = &reading.recordings[0];
    assert_eq!(found.provider_recording_id.as_deref(), Some(OTHER));
    assert_eq!(found.handle["already_on"], true);
    assert!(
        found.call_aliases.contains(&ID.to_owned()),
        "stopped and started again: one meeting"
    );
    let now = SystemClock.now();
    let foreign = wanted(OTHER, found.handle.clone(), now);
    assert!(provider.delete(&foreign, now).await.is_err());
    let asked = script.asked();
    assert!(
        !asked
            .iter()
            .any(|page| page == "closeRecord" || page == "delRecordFile"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_start_that_fails_is_told_once_and_its_recording_is_gone() {
    let script = Script::default();
    let provider = build(
        &script.start().await,
        "mode = [\"watch\"]",
        Arc::new(SystemClock),
    );
    let failed = || {
        let mut failed = off();
        failed["data"]["recordId"] = ID.into();
        failed["data"]["failedReason"] = "no recorder".into();
        failed
    };
    script.will_say([failed(), failed()]);
    let drawn = draw(&*provider).await;
    assert_eq!(topics(&drawn), ["failed"]);
    confirm(&*provider, &drawn).await;
    assert!(draw(&*provider).await.is_empty());
    let handle = read(&*provider, &drawn[0].told).recordings[0]
        .handle
        .clone();
    script.will_say([json!({ "code": 200, "data": [], "state": 1 })]);
    let now = SystemClock.now();
    let located = provider
        .locate(&wanted(ID, handle, now), now)
        .await
        .unwrap();
    assert!(matches!(located, Located::Gone { .. }), "{located:?}");
}

fn entry(size: u64) -> Value {
    json!({ "code": "200", "state": 1, "data": [{
        "recordId": ID, "conferenceKey": "1866", "entId": 52, "startTime": "2024-04-05 19:40:12",
        "stopTime": "2024-04-05 20:31:47", "fileSize": size,
        "downUrl": "http://bucket.example.test/1866.mp4?sign=abc%2Bdef/ghi=" }] })
}

#[tokio::test]
async fn a_file_is_fetched_when_its_size_has_settled() {
    let script = Script::default();
    let clock = ManualClock::at(SystemClock.now());
    let block = script.start().await;
    let provider = build(&block, "", clock.clone());
    let wish = wanted(ID, json!({ "conference_key": "1866" }), clock.now());
    let is_later = |located: Located| {
        matches!(
            located,
            Located::Later {
                reason: "not_ready",
                ..
            }
        )
    };
    script.will_say([entry(100)]);
    assert!(is_later(provider.locate(&wish, clock.now()).await.unwrap()));
    clock.advance_ms(10_000);
    script.will_say([entry(200)]);
    assert!(
        is_later(provider.locate(&wish, clock.now()).await.unwrap()),
        "it grew"
    );
    clock.advance_ms(9_999);
    script.will_say([entry(200)]);
    assert!(is_later(provider.locate(&wish, clock.now()).await.unwrap()));
    clock.advance_ms(1);
    script.will_say([entry(200)]);
    let Located::Ready(address) = provider.locate(&wish, clock.now()).await.unwrap() else {
        panic!("not ready");
    };
    assert_eq!(
        address.url, "http://bucket.example.test/1866.mp4?sign=abc%2Bdef/ghi=",
        "byte for byte"
    );
    assert_eq!(address.expected_bytes, Some(200));
    assert!(!format!("{address:?}").contains("abc"));
    // Its facts wait to be stored, and with them what another process needs to know of the size.
    let drawn = provider.draw("entries").await.unwrap();
    assert_eq!(topics(&drawn), ["entry", "entry"]);
    let handle = read(&*provider, &drawn[1].told).recordings[0]
        .handle
        .clone();
    let other_process = build(&block, "", clock.clone());
    script.will_say([entry(200)]);
    let located = other_process
        .locate(&wanted(ID, handle, clock.now()), clock.now())
        .await
        .unwrap();
    assert!(matches!(located, Located::Ready(_)), "{located:?}");
}

#[tokio::test]
async fn what_does_not_come_in_two_days_is_stuck_and_never_given_up() {
    let script = Script::default();
    let clock = ManualClock::at(SystemClock.now());
    let provider = build(&script.start().await, "", clock.clone());
    let wish = wanted(ID, json!({}), clock.now());
    let nothing = || json!({ "code": 200, "data": null });
    script.will_say([nothing(), nothing(), entry(5)]);
    assert_eq!(
        provider.locate(&wish, clock.now()).await.unwrap(),
        Located::NotReady { code: None }
    );
    clock.advance_ms(48 * 3_600_000);
    let located = provider.locate(&wish, clock.now()).await.unwrap();
    assert!(
        matches!(
            located,
            Located::Later {
                reason: "provider_stuck",
                ..
            }
        ),
        "{located:?}"
    );
    let located = provider.locate(&wish, clock.now()).await.unwrap();
    assert!(
        matches!(
            located,
            Located::Later {
                reason: "not_ready",
                ..
            }
        ),
        "a late file is still taken: {located:?}"
    );
}
