//! Feiyu: what it announces, what it refuses, and how long its addresses live.

use super::*;

#[tokio::test]
async fn a_feiyu_call_goes_from_notice_to_sound() {
    let world = played(VendorKind::Feiyu, |options| options.calls = 6).await;
    assert_eq!(world.vendor.ledger().len(), 6);
    let token = world.vendor.hook_token();
    let hooks = format!("/hooks/the-source/{token}");
    for line in world.vendor.ledger() {
        let of_call = |seen: &&Seen| seen.fields.get("fyCallId") == Some(&line.provider_call_id);
        let seen = world.customer.seen();
        let notices: Vec<_> = seen.iter().filter(of_call).collect();
        let actions: Vec<_> = notices
            .iter()
            .filter_map(|n| n.fields.get("action").map(String::as_str))
            .collect();
        assert!(
            actions.contains(&"callhangup") && actions.contains(&"recordEnd"),
            "{actions:?}"
        );
        for notice in &notices {
            assert!(notice.path.starts_with(&hooks), "{}", notice.path);
            assert!(notice.method == Method::GET || !notice.body.is_empty());
            let au = sign::feiyu_v2(
                &notice.fields["appId"],
                world.setting("app_token"),
                &notice.fields["ti"],
            );
            assert_eq!(notice.fields["au"].to_uppercase(), au);
        }
        // Ready not before 15 minutes (here a millisecond) after the call.
        assert_eq!(
            code(&world.record_url(&line.provider_call_id, NOW).await),
            "100023"
        );
    }
    world.clock.advance_ms(1);
    for line in world.vendor.ledger() {
        assert_is(
            &line,
            &get(&world.address(&line.provider_call_id).await, &[]).await,
        );
    }
    assert_eq!(world.vendor.progress().downloads_served, 6);
    assert_eq!(world.vendor.requests()["/api/getRecordDownUrl"], 12);
}

#[tokio::test]
async fn feiyu_refuses_what_the_manual_forbids() {
    let world = played(VendorKind::Feiyu, |_| ()).await;
    world.clock.advance_ms(1);
    let (id, now) = (world.line(0).provider_call_id, NOW + 1);
    assert_eq!(code(&world.record_url(&id, now).await), "0");
    assert_eq!(code(&world.record_url("0000@fy", now).await), "100022");
    for stale in [now - 1_800_001, now + 1_800_001] {
        assert_eq!(code(&world.record_url(&id, stale).await), "100001");
    }
    assert_eq!(code(&world.record_url(&id, now - 1_799_000).await), "0");
    let au = sign::feiyu_v2(
        world.setting("app_id"),
        world.setting("app_token"),
        &now.to_string(),
    );
    for wrong in [
        au.to_lowercase(),
        au.replace(|c: char| c.is_ascii_digit(), "0"),
        String::new(),
    ] {
        let got = world
            .question("getRecordDownUrl", &id, &now.to_string(), &wrong)
            .await;
        assert_eq!(code(&got), "100001");
    }
    let history = world
        .question("fetchCallHistory", &id, &now.to_string(), &au)
        .await
        .json();
    assert_eq!(history["result"]["callEndTime"], NOW);
    assert_eq!(history["result"]["trueIfRecord"], 1);
    let url = format!("{}/api/getRecordDownUrl", world.setting("base_url"));
    assert_eq!(get(&url, &[]).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_feiyu_address_dies_and_another_one_lives() {
    let world = played(VendorKind::Feiyu, |options| {
        options.only = vec!["link_expired".to_owned()]
    })
    .await;
    world.clock.advance_ms(1);
    let line = world.line(0);
    let mut tries = 0;
    let lived = loop {
        let address = world.address(&line.provider_call_id).await;
        let got = get(&address, &[]).await;
        if got.status == StatusCode::OK {
            assert_is(&line, &got);
            break address;
        }
        assert_eq!(got.status, StatusCode::FORBIDDEN);
        tries += 1;
    };
    assert!((1..=2).contains(&tries));
    // 30 minutes are 2 ms here.
    world.clock.advance_ms(3);
    assert_eq!(get(&lived, &[]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(
        get(&lived.replace("k=", "k=0"), &[]).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn what_feiyu_lost_or_never_made_ends_as_planned() {
    let world = played(VendorKind::Feiyu, |options| {
        options.calls = 3;
        options.only = ["gone", "never_recorded", "unannounced"]
            .map(str::to_owned)
            .to_vec();
    })
    .await;
    world.clock.advance_ms(1);
    let lines = world.vendor.ledger();
    let ends: Vec<_> = lines.iter().map(|line| line.expect.as_str()).collect();
    assert_eq!(ends, ["lost", "absent", "none"]);
    assert!(
        lines
            .iter()
            .all(|line| line.sha256.is_none() && line.bytes.is_none())
    );
    let mut confirmed = 0;
    let last = loop {
        let got = world.record_url(&lines[0].provider_call_id, NOW).await;
        let Some(address) = got.json()["result"].as_str().map(str::to_owned) else {
            break code(&got);
        };
        confirmed += 1;
        let status = get(&address, &[]).await.status;
        assert!(status == StatusCode::GONE || status == StatusCode::NOT_FOUND);
    };
    assert_eq!(last, "100024");
    assert!(confirmed >= 1);
    for _ in 0..4 {
        assert_eq!(
            code(&world.record_url(&lines[1].provider_call_id, NOW).await),
            "100023"
        );
    }
    assert!(world.customer.seen().iter().all(|seen| {
        !seen
            .fields
            .values()
            .any(|v| *v == lines[2].provider_call_id)
    }));
}

#[tokio::test]
async fn feiyu_v3_announces_two_legs_and_knows_one_recording() {
    let world = played(VendorKind::Feiyu, |options| options.profile = Profile::V3).await;
    world.clock.advance_ms(1);
    let seen = world.customer.seen();
    let legs: Vec<_> = seen
        .iter()
        .filter(|seen| seen.fields.contains_key("dialBackId"))
        .collect();
    assert_eq!(legs.len(), 2);
    assert_eq!(legs[0].fields["dialBackId"], legs[1].fields["dialBackId"]);
    assert_ne!(legs[0].fields["callId"], legs[1].fields["callId"]);
    assert!(
        legs.iter()
            .all(|leg| leg.path.ends_with("/cdr") && !leg.fields.contains_key("action"))
    );
    let signature = sign::feiyu_v3(world.setting("app_id"), world.setting("app_token"));
    let line = world.line(0);
    for leg in legs {
        assert_eq!(leg.fields["signature"].to_uppercase(), signature);
        let url = format!("{}/api/getRecordDownUrl", world.setting("base_url"));
        let id = leg.fields["callId"].as_str();
        let fields = [
            ("appId", world.setting("app_id")),
            ("callId", id),
            ("curTime", "1"),
            ("signature", &signature),
        ];
        let got = post(&url, &fields).await.json();
        if leg.fields["isRecorded"] == "Y" {
            assert_eq!(got["resultCode"], 0);
            assert_eq!(line.provider_call_id, id);
            assert_is(&line, &get(got["result"].as_str().unwrap(), &[]).await);
        } else {
            assert_eq!(got["resultCode"], 100_022);
        }
    }
}
