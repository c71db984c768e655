//! NetEase Yunxin from copy to archive: several recordings of one call, told by several kinds of event, late, twice
//! or never.

use std::sync::Arc;

use bytes::Bytes;
use callvault::domain::clock::{ManualClock, Timestamp};
use callvault::domain::digest::Sha256;
use callvault::domain::ids::new_id;
use callvault::domain::notice::{Door, Notice};
use callvault::domain::reading::Reading;
use callvault::providers::contract::{AskedCall, BuildContext, Told, Window};
use callvault::providers::http::GuardedClient;
use callvault::providers::registry;
use callvault::providers::settings::CommonSettings;
use callvault::simulator::{Options, VendorKind};
use http::Method;
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
use serde_json::{Value, json};
use sha1::Digest as _;

use crate::db;
use crate::journeys::{all_as_planned, options};
use crate::support::house::TestHouse;
use crate::support::http::ask;

const SOURCE: &str = "yunxin-t";

fn yunxin(only: &[&str]) -> (VendorKind, Options) {
    (VendorKind::Yunxin, options(SOURCE, only))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_with_every_mishap_end_as_planned() {
    let house = TestHouse::open(vec![yunxin(&[
        "none",
        "late",
        "twice",
        "never",
        "out_of_order",
        "not_ready",
        "link_expired",
        "429",
        "500",
        "reset",
        "truncated",
        "html200",
        "wrong_length",
        "gone",
        "twice+link_expired",
        "not_ready+429",
    ])])
    .await;
    house.make_calls().await;
    all_as_planned(&house).await;
    every_recording_once(&house).await;
    house.finish().await;
}

/// As many recordings of a call as the vendor made, whatever announced them and how often.
async fn every_recording_once(house: &TestHouse) {
    let ledger = house.ledger();
    for line in &ledger {
        let made = ledger
            .iter()
            .filter(|other| other.provider_call_id == line.provider_call_id);
        let db = &house.house().db;
        let found = db
            .recordings_of_call(SOURCE, &line.provider_call_id)
            .await
            .unwrap();
        assert_eq!(found.len(), made.count(), "{line:?}: {found:#?}");
    }
}

/// What the vendor answered becomes a notice, as the sweep does it.
async fn store(house: &TestHouse, told: Told) {
    let notice = Notice {
        notice_id: new_id(house.house().clock.now()),
        source: SOURCE.to_owned(),
        kind: "yunxin".to_owned(),
        door: Door::Poll,
        topic: told.topic,
        method: String::new(),
        query: String::new(),
        headers: Vec::new(),
        sha256: Sha256::of(&told.body),
        body: told.body.to_vec(),
        arrived_at: house.house().clock.now(),
        dedup_key: told.dedup_key,
        unreadable: told.unreadable,
    };
    house.house().db.add_notice(notice).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_announced_is_archived_once_by_asking_and_listing() {
    let (kind, mut quiet) = yunxin(&["none", "none", "429", "not_ready", "none", "none"]);
    quiet.announce = false;
    let house = TestHouse::open(vec![(kind, quiet)]).await;
    house.make_calls().await;
    let provider = house.house().sources.get(SOURCE).unwrap();
    assert!(provider.capabilities().can_ask && provider.capabilities().can_list);
    let mut ids: Vec<String> = house
        .ledger()
        .into_iter()
        .map(|line| line.provider_call_id)
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    let now = house.house().clock.now();
    let whole_life = Window {
        from: Timestamp::from_ms(0),
        to: now.plus_ms(60_000),
    };
    let mut page: Option<String> = None;
    loop {
        let listed = provider
            .list(whole_life, page.as_deref(), now)
            .await
            .unwrap();
        for told in listed.told {
            store(&house, told).await;
        }
        page = listed.next;
        if page.is_none() {
            break;
        }
    }
    for id in ids {
        let call = AskedCall {
            provider_call_id: id,
            aliases: Vec::new(),
            started_at: None,
            ended_at: None,
            custom: Default::default(),
        };
        // The vendor slows us down once or twice, or says that there is nothing yet.
        let mut tries = 0;
        loop {
            match provider.ask(&call, house.house().clock.now()).await {
                Ok(told) if !told.is_empty() => {
                    for told in told {
                        store(&house, told).await;
                    }
                    break;
                }
                _ => {
                    tries += 1;
                    assert!(tries < 6, "{call:?}");
                }
            }
        }
    }
    all_as_planned(&house).await;
    every_recording_once(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_come_after_the_recordings_reach_index_and_manifest() {
    let house = TestHouse::open(vec![yunxin(&[
        "out_of_order",
        "out_of_order",
        "out_of_order",
    ])])
    .await;
    house.make_calls().await;
    all_as_planned(&house).await;
    let archive = house.house().archive.clone();
    let found = house
        .until(async |house| {
            let mut found = Vec::new();
            for line in house.ledger() {
                let db = &house.house().db;
                found.extend(
                    db.recordings_of_call(SOURCE, &line.provider_call_id)
                        .await
                        .unwrap(),
                );
            }
            let told = |view: &&callvault::domain::view::RecordingView| {
                view.started_at.is_some() && view.parties.len() >= 2
            };
            if found.iter().all(|view| told(&view)) {
                Ok(found)
            } else {
                Err(format!("{found:#?}"))
            }
        })
        .await;
    for view in &found {
        let id = view.recording_id.unwrap().to_string();
        house
            .until(async |_| {
                let keys = crate::support::house::stored_keys(archive.as_ref()).await;
                let manifests = keys
                    .iter()
                    .filter(|key| key.contains(&id) && key.contains("/manifest-"))
                    .count();
                // The first, that of the access copy, and at least one with the facts that came late.
                (manifests >= 2)
                    .then_some(())
                    .ok_or(format!("{manifests} of {id}"))
            })
            .await;
    }
    house.finish().await;
}

/// One number out of the index.
async fn count(house: &TestHouse, sql: &str) -> i64 {
    let file = house.path().join("callvault.db");
    let db = Database::connect(format!("sqlite://{}?mode=ro", file.display()))
        .await
        .unwrap();
    let row = db.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql.to_owned()));
    row.await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_keeps_no_chat_takes_replays_and_refuses_what_is_signed_for_another_body() {
    let house = TestHouse::open(vec![yunxin(&["none"])]).await;
    let vendor = &house.vendors[0];
    let block: toml::Table = vendor.config_block().parse().unwrap();
    let setting = |name: &str| block["sources"][SOURCE][name].as_str().unwrap().to_owned();
    let address = house.running.as_ref().unwrap().addresses.page().unwrap();
    let at = address.strip_prefix("http://").unwrap().parse().unwrap();
    let target = format!("/hooks/{SOURCE}/{}", vendor.hook_token());
    let (key, secret) = (setting("app_key"), setting("app_secret"));
    let post = async |signed: &str, sent: &str, time: &str| {
        let md5 = hex::encode(md5::Md5::digest(signed));
        let sum = hex::encode(sha1::Sha1::digest(format!("{secret}{md5}{time}")));
        let headers = [
            ("appkey", key.as_str()),
            ("curtime", time),
            ("checksum", &sum),
        ];
        let body = Bytes::copy_from_slice(sent.as_bytes());
        let answer = ask(at, Method::POST, &target, &headers, body).await;
        (answer.status.as_u16(), answer.text().to_owned())
    };
    let (taken, refused) = (
        (200, r#"{"code":200}"#.to_owned()),
        (403, r#"{"code":414}"#.to_owned()),
    );
    let chat = r#"{"eventType":"1","msgType":"TEXT","body":"a word between us","fromAccount":"a"}"#;
    assert_eq!(post(chat, chat, "1700000000000").await, taken);
    assert_eq!(count(&house, "select count(*) from notice").await, 0);

    let report = r#"{"channelId":"6290737000999801234","createtime":"1700000000321","duration":"96","eventType":"5","live":"0","members":"[{\"accid\":\"agent_17\",\"duration\":48,\"caller\":true},{\"accid\":\"cust_2208\",\"duration\":48}]","status":"SUCCESS","type":"AUDIO"}"#;
    for time in ["1700000000000", "1700000000000", "1700009999999"] {
        assert_eq!(post(report, report, time).await, taken);
    }
    for empty in ["{}", ""] {
        assert_eq!(post(empty, empty, "1700000000000").await, taken);
    }
    assert_eq!(post("[1,2", "[1,2", "1700000000000").await, taken);
    let other = report.replace("96", "97");
    assert_eq!(post(report, &other, "1700000000000").await, refused);
    // The report once, both checks of the address, and the body that nobody can read.
    assert_eq!(count(&house, "select count(*) from notice").await, 4);
    let unreadable = "select count(*) from notice where result = 'unreadable'";
    house
        .until(async |house| {
            let (read, calls) = (
                house.house().db.all_notices_read().await.unwrap(),
                count(house, "select count(*) from call").await,
            );
            let broken = count(house, unreadable).await;
            ((read, calls, broken) == (true, 1, 1))
                .then_some(())
                .ok_or(format!("{read} {calls} {broken}"))
        })
        .await;
    house.finish().await;
}

/// What the vectors' sequences of deliveries come to, in their own order and backwards.
#[test]
fn every_sequence_of_the_vectors_gives_as_many_recordings_as_it_says() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/providers/yunxin/vectors.json"
    );
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let of = |group: &str, id: &str| -> Value {
        let mut group = all[group].as_array().unwrap().iter();
        group.find(|one| one["id"] == id).unwrap().clone()
    };
    let clock = ManualClock::at(Timestamp::from_ms(1_700_000_200_000));
    let context = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    let kind = registry::find("a", "yunxin").unwrap();
    let keys = toml::toml! { app_key = "k" app_secret = "s" };
    let (common, own) = CommonSettings::split("a", &kind.defaults(), keys).unwrap();
    let provider = kind.build(common, own, &context).unwrap();
    let read = |topic: &str, body: &str| {
        let notice = Notice {
            topic: topic.to_owned(),
            body: body.as_bytes().to_vec(),
            ..db::notice("a", Timestamp::from_ms(0))
        };
        provider.read(&notice).unwrap()
    };
    let sequences = all["sequences"].as_array().unwrap();
    assert_eq!(sequences.len(), 5);
    for sequence in sequences {
        let mut readings: Vec<Reading> = Vec::new();
        for id in sequence["deliveries"].as_array().unwrap() {
            let payload = of("payloads", id.as_str().unwrap());
            readings.push(read("", payload["body"].as_str().unwrap()));
        }
        // "backfill ne-req-001 answers ne-ans-010"
        if let Some(answer) = sequence["then"]
            .as_str()
            .and_then(|then| then.split(' ').next_back())
        {
            let answer = of("server_api_answers", answer);
            let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
            for file in body["fileInfos"].as_array().unwrap() {
                let told = json!({"channelId": "6290737000999801234", "fileInfo": file});
                readings.push(read("media-file", &told.to_string()));
            }
        }
        let expected = &sequence["expect"];
        for backwards in [false, true] {
            let (mut readings, expected) = (readings.clone(), expected.clone());
            if backwards {
                readings.reverse();
            }
            db::on_both(move |house| {
                let (readings, expected) = (readings.clone(), expected.clone());
                async move {
                    for (minute, reading) in readings.iter().enumerate() {
                        let now = db::at(minute as i64);
                        house.tell(reading, &db::feiyu(), now).await;
                    }
                    let recordings = house.number("select count(*) from recording").await;
                    assert_eq!(
                        Some(recordings),
                        expected["recordings"].as_i64(),
                        "{expected}"
                    );
                    let calls = house.number("select count(*) from call").await;
                    assert_eq!(calls, 1, "{expected}");
                }
            });
        }
    }
}
