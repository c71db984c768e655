//! `callvault backfill`: forecast, walk, kill, go on; live recordings pass it.

use std::time::{Duration, Instant};

use callvault::simulator::{Mishaps, Options, VendorKind};
use serde_json::Value;

use crate::import::callvault;
use crate::support::house::TestHouse;

async fn house(calls: u32, rate: f64) -> (TestHouse, Vec<String>) {
    let options = Options {
        calls,
        speed: 1800.0,
        mishaps: Mishaps::None,
        announce: false,
        call_interval: Duration::from_millis(1),
        ..Options::new("feiyu-t")
    };
    let mut house = TestHouse::open(vec![(VendorKind::Feiyu, options)]).await;
    house.make_calls().await;
    let ids = house
        .ledger()
        .iter()
        .map(|line| line.provider_call_id.clone())
        .collect();
    // The vendor's own pace is another one.
    house.stop().await;
    let text = std::fs::read_to_string(house.config_file()).unwrap();
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with("requests_per_second"))
        .map(|line| {
            let own = if line.starts_with("kind = \"feiyu\"") {
                format!("\nrequests_per_second = {rate}")
            } else {
                String::new()
            };
            format!("{line}{own}\n")
        })
        .collect();
    house.start_with(&text).await;
    (house, ids)
}

fn write_ids(house: &TestHouse, ids: &[String]) -> String {
    let mut text = "\u{feff}source;provider_call_id\n\n".to_owned();
    for id in ids {
        text += &format!(";{id}\nelsewhere;x-{id}\n\n");
    }
    let path = house.path().join("ids.csv");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn backfill(house: &TestHouse, file: &str, more: &[&str]) -> (i32, Value) {
    let mut args = vec!["--json", "backfill", "--source", "feiyu-t", "--ids", file];
    args.extend(more);
    let (code, out, error) = callvault(house, &args).await;
    let report = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out} {error}"));
    (code, report)
}

async fn all_archived(house: &TestHouse, expected: usize) {
    house
        .until(async |house| {
            let query = callvault::db::search::Query {
                state: Some("archived".to_owned()),
                ..callvault::db::search::Query::default()
            };
            let page = house.house().db.search(&query, None, 10_000).await.unwrap();
            match page.items.len() {
                found if found == expected => Ok(()),
                found => Err(format!("{found} of {expected} archived")),
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forecast_comes_true_at_three_rates() {
    for (calls, rate) in [(20, 2.0), (40, 4.0), (60, 6.0)] {
        let (house, ids) = house(calls, rate).await;
        let file = write_ids(&house, &ids);
        let (code, dry) = backfill(&house, &file, &["--dry-run"]).await;
        assert_eq!((code, &dry["stored"]), (0, &calls.into()), "{dry}");
        assert_eq!(dry["skipped"], calls, "rows of another source");
        let (code, report) = backfill(&house, &file, &[]).await;
        assert_eq!((code, &report["stored"]), (0, &calls.into()), "{report}");
        let begun = Instant::now();
        let forecast = &report["forecast"];
        assert_eq!(forecast["questions"], calls);
        let told_s = f64::from(calls) / rate;
        all_archived(&house, calls as usize).await;
        let took_s = begun.elapsed().as_secs_f64();
        println!("rate {rate}: forecast {told_s:.1} s, took {took_s:.1} s");
        let asked = house.vendors[0].requests();
        println!("{asked:?}");
        house.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_walk_goes_on_and_tells_nothing_twice() {
    let options = Options::new("feiyu-t");
    let house = TestHouse::open(vec![(VendorKind::Feiyu, options)]).await;
    let ids: Vec<String> = (0..6000).map(|n| format!("old-{n}@fy")).collect();
    let file = write_ids(&house, &ids);
    let db = house.house().db.clone();
    let program = crate::support::house::program();
    for _ in 0..3 {
        let mut child = tokio::process::Command::new(&program)
            .arg("--config")
            .arg(house.config_file())
            .args(["backfill", "--source", "feiyu-t", "--ids", &file])
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let before = db.count_notices_of("feiyu-t").await.unwrap();
        let begun = Instant::now();
        while db.count_notices_of("feiyu-t").await.unwrap() < before + 300
            && begun.elapsed() < Duration::from_secs(20)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        child.kill().await.unwrap();
    }
    let (code, report) = backfill(&house, &file, &[]).await;
    assert_eq!(code, 0);
    assert!(report["went_on_from"].is_string(), "{report}");
    assert!(report["walked"].as_u64().unwrap() < 12_000, "{report}");
    // At most one batch of each interrupted run was told again, and changed nothing.
    assert!(report["repeated"].as_u64().unwrap() <= 256, "{report}");
    assert_eq!(db.count_notices_of("feiyu-t").await.unwrap(), 6000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_too_soon_is_told_before_it_begins() {
    let options = Options::new("feiyu-t");
    let house = TestHouse::open(vec![(VendorKind::Feiyu, options)]).await;
    let path = house.path().join("ids.ndjson");
    let day = 24 * 3600;
    let now = callvault::domain::clock::Clock::now(&callvault::domain::clock::SystemClock);
    let line = |n: usize, days_ago: i64| {
        let ended = now.plus_ms(-days_ago * day * 1000);
        format!("{{\"provider_call_id\":\"c{n}@fy\",\"ended_at\":\"{ended}\"}}\n")
    };
    let text: String = (0..50)
        .map(|n| line(n, if n < 10 { 400 } else { 1 }))
        .collect();
    std::fs::write(&path, text).unwrap();
    let (code, report) = backfill(&house, path.to_str().unwrap(), &["--dry-run"]).await;
    assert_eq!(code, 3, "{report}");
    assert_eq!(report["forecast"]["lost_already"], 10);
    assert_eq!(report["forecast"]["will_be_lost"], 0);
    let (code, _, error) = callvault(
        &house,
        &[
            "backfill",
            "--source",
            "feiyu-t",
            "--from",
            "2024-03-01",
            "--to",
            "2024-03-02",
        ],
    )
    .await;
    assert_eq!(code, 2);
    assert!(error.contains("--ids"), "{error}");
    house.finish().await;
}
