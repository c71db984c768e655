//! Twilio from callback to archive, and what the list and the questions find when no callback comes.

use std::sync::Arc;
use std::time::Duration;

use callvault::domain::clock::{SharedClock, SystemClock};
use callvault::providers::contract::{
    AskedCall, BuildContext, Located, Provider, Told, Wanted, Window,
};
use callvault::providers::http::GuardedClient;
use callvault::providers::registry;
use callvault::providers::settings::CommonSettings;
use callvault::simulator::{LedgerLine, Mishaps, Options, Profile, Vendor, VendorKind};
use serde_json::{Value, json};

use crate::journeys::{all_as_planned, options};
use crate::support::house::TestHouse;

#[tokio::test(flavor = "multi_thread")]
async fn calls_with_every_mishap_end_as_planned() {
    let only = [
        "none",
        "none",
        "none",
        "late",
        "twice",
        "never",
        "out_of_order",
        "not_ready",
        "429",
        "500",
        "reset",
        "truncated",
        "html200",
        "wrong_length",
        "gone",
        "never_recorded",
        "twice+truncated",
    ];
    let house = TestHouse::open(vec![(VendorKind::Twilio, options("twilio-t", &only))]).await;
    house.make_calls().await;
    all_as_planned(&house).await;
    let vendor = &house.vendors[0];
    assert_eq!(vendor.progress().pushes_given_up, 0);
    // Numbers and times come from the call itself, also where the recording was archived before.
    let lines = vendor.ledger();
    let of_calls =
        |line: &&LedgerLine| line.expect == "archived" && line.provider_call_id.starts_with("CA");
    house
        .until(async |house| {
            for line in lines.iter().filter(of_calls) {
                let db = &house.house().db;
                let call = &line.provider_call_id;
                let found = db.recordings_of_call("twilio-t", call).await.unwrap();
                if found.len() != 1 {
                    return Err(format!("{} recordings of {call}", found.len()));
                }
                if found[0].caller.is_none() || found[0].direction.is_none() {
                    return Err(format!("no numbers of {call}"));
                }
            }
            Ok(())
        })
        .await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_a_shared_key_signed_are_taken() {
    let options = Options {
        profile: Profile::V3,
        ..options("twilio-t", &["none", "twice", "none", "none"])
    };
    let house = TestHouse::open(vec![(VendorKind::Twilio, options)]).await;
    house.make_calls().await;
    all_as_planned(&house).await;
    assert_eq!(house.vendors[0].progress().pushes_given_up, 0);
    house.finish().await;
}

fn build(block: &str, changes: &str, clock: SharedClock) -> Arc<dyn Provider> {
    let block: toml::Table = block.parse().unwrap();
    let (name, keys) = block["sources"].as_table().unwrap().iter().next().unwrap();
    let mut keys = keys.as_table().unwrap().clone();
    keys.remove("kind");
    let changes: toml::Table = changes.parse().unwrap();
    keys.extend(changes);
    let kind = registry::find(name, "twilio").unwrap();
    let (common, own) = CommonSettings::split(name, &kind.defaults(), keys).unwrap();
    let ctx = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    kind.build(common, own, &ctx).unwrap()
}

/// A vendor that announced nothing of its calls.
async fn silent(calls: u32) -> Vendor {
    let options = Options {
        mishaps: Mishaps::None,
        calls,
        speed: 20_000.0,
        announce: false,
        push_to: Some("http://127.0.0.1:9".to_owned()),
        call_interval: Duration::ZERO,
        ..Options::new("tw")
    };
    let vendor = Vendor::start(VendorKind::Twilio, options, Arc::new(SystemClock))
        .await
        .unwrap();
    vendor.make_calls().await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    vendor
}

fn sid(told: &Told) -> String {
    let entry: Value = serde_json::from_slice(&told.body).unwrap();
    entry["sid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_finds_every_recording_of_every_account_page_by_page() {
    let clock: SharedClock = Arc::new(SystemClock);
    let vendor = silent(14).await;
    let provider = build(&vendor.config_block(), "", clock.clone());
    assert!(provider.capabilities().can_list && provider.capabilities().can_ask);
    let now = clock.now();
    let window = Window {
        from: now.plus_ms(-3_600_000),
        to: now,
    };
    let mut found = Vec::new();
    let mut page: Option<String> = None;
    let mut pages = 0;
    loop {
        let listed = provider.list(window, page.as_deref(), now).await.unwrap();
        found.extend(listed.told.iter().map(sid));
        pages += 1;
        assert!(pages < 20);
        match listed.next {
            Some(next) => page = Some(next),
            None => break,
        }
    }
    assert!(pages >= 4, "two accounts, pages of five: {pages}");
    let mut made: Vec<String> = vendor
        .ledger()
        .iter()
        .filter_map(|line| line.provider_recording_id.clone())
        .collect();
    made.sort();
    found.sort();
    assert_eq!(found, made);
    for wrong in ["nonsense", "9|", "x|/y"] {
        assert!(
            provider.list(window, Some(wrong), now).await.is_err(),
            "{wrong}"
        );
    }
    // Asked for one call, the vendor tells that call's recording alone.
    let line = &vendor.ledger()[3];
    let asked = AskedCall {
        provider_call_id: line.provider_call_id.clone(),
        aliases: vec![],
        started_at: None,
        ended_at: None,
        custom: Default::default(),
    };
    let told = provider.ask(&asked, now).await.unwrap();
    let told: Vec<String> = told.iter().map(sid).collect();
    assert_eq!(Some(&told[0]), line.provider_recording_id.as_ref());
    assert_eq!(told.len(), 1);
    vendor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_is_built_by_us_with_both_channels_and_deleted_once() {
    let clock: SharedClock = Arc::new(SystemClock);
    let vendor = silent(12).await;
    let block = vendor.config_block();
    let provider = build(&block, "delete_after_archive = true", clock.clone());
    let now = clock.now();
    let window = Window {
        from: now.plus_ms(-3_600_000),
        to: now,
    };
    let mut accounts = std::collections::BTreeMap::new();
    let mut page = None;
    loop {
        let listed = provider.list(window, page.as_deref(), now).await.unwrap();
        for told in &listed.told {
            let entry: Value = serde_json::from_slice(&told.body).unwrap();
            accounts.insert(sid(told), entry);
        }
        page = listed.next;
        if page.is_none() {
            break;
        }
    }
    let mut two = 0;
    for (sid, entry) in &accounts {
        let wanted = Wanted {
            recording_id: uuid::Uuid::nil(),
            provider_call_id: "CA".to_owned(),
            provider_recording_id: Some(sid.clone()),
            handle: json!({ "account": entry["account_sid"] }),
            link: None,
            call_ended_at: None,
            arrived_at: now,
        };
        let Located::Ready(address) = provider.locate(&wanted, now).await.unwrap() else {
            panic!("{entry}");
        };
        let is_two = entry["channels"] == 2;
        assert_eq!(
            address.url.ends_with(".wav?RequestedChannels=2"),
            is_two,
            "{entry}"
        );
        assert!(address.headers[0].1.starts_with("Basic "));
        assert!(!format!("{address:?}").contains("Basic"));
        two += u32::from(is_two);
    }
    assert!(two > 0 && two < 12, "{two}");
    // Facts of recording and call wait to be stored; nothing of it is confirmed yet.
    let drawn = provider.draw("news").await.unwrap();
    assert!(drawn.iter().any(|one| one.told.topic == "call"));
    let receipts: Vec<_> = drawn.iter().map(|one| one.receipt.clone()).collect();
    provider.confirm("news", &receipts).await.unwrap();

    let (first, entry) = accounts.iter().next().unwrap();
    let mut wanted = Wanted {
        recording_id: uuid::Uuid::nil(),
        provider_call_id: "CA".to_owned(),
        provider_recording_id: Some(first.clone()),
        handle: json!({ "account": entry["account_sid"], "completed": true }),
        link: None,
        call_ended_at: None,
        arrived_at: now,
    };
    provider.delete(&wanted, now).await.unwrap();
    provider.delete(&wanted, now).await.unwrap();
    // Late at first, and gone when it should have been there for a while (15 minutes are 45 ms here).
    let late = provider.locate(&wanted, now).await.unwrap();
    assert!(matches!(late, Located::NotReady { .. }), "{late:?}");
    let later = now.plus_ms(46);
    let gone = provider.locate(&wanted, later).await.unwrap();
    assert!(matches!(gone, Located::Gone { .. }), "{gone:?}");
    wanted.handle = json!({ "closed": "absent 16101" });
    let closed = provider.locate(&wanted, now).await.unwrap();
    assert_eq!(
        closed,
        Located::Gone {
            code: Some("absent 16101".to_owned())
        }
    );
    let unwilling = build(&block, "", clock.clone());
    assert!(unwilling.delete(&wanted, now).await.is_err());
    vendor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_found_by_check_and_keep_the_account_still() {
    let clock: SharedClock = Arc::new(SystemClock);
    let vendor = silent(1).await;
    let block = vendor.config_block();
    let right = build(&block, "", clock.clone());
    let codes = |findings: Vec<callvault::providers::contract::Finding>| {
        let codes = findings.iter().map(|finding| finding.code);
        codes.collect::<Vec<_>>()
    };
    assert_eq!(codes(right.check().await), ["no_public_url"]);
    let wrong = build(
        &block,
        "auth = { user = \"SK1\", password = \"wrong-secret\" }",
        clock.clone(),
    );
    let findings = wrong.check().await;
    assert!(
        findings
            .iter()
            .all(|finding| !finding.what.contains("wrong-secret"))
    );
    assert_eq!(codes(findings), ["credentials_refused", "no_public_url"]);
    let before = vendor.requests();
    let now = clock.now();
    let wanted = Wanted {
        recording_id: uuid::Uuid::nil(),
        provider_call_id: "CA".to_owned(),
        provider_recording_id: Some("RE00112233445566778899aabbccddeeff".to_owned()),
        handle: Value::Null,
        link: None,
        call_ended_at: None,
        arrived_at: now,
    };
    for _ in 0..3 {
        assert!(wrong.locate(&wanted, now).await.is_err());
    }
    assert_eq!(vendor.requests(), before, "no fast retries");
    vendor.stop().await;
}
