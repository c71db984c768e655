//! `callvault backfill`: forecast, walk, kill, go on; live recordings pass it.

use std::time::{Duration, Instant};

use callvault::domain::clock::{Clock as _, SystemClock, Timestamp};
use callvault::simulator::{Mishaps, Options, Vendor, VendorKind};
use serde_json::Value;

use crate::import::callvault;
use crate::support::house::TestHouse;

async fn house(calls: u32, rate: f64) -> (TestHouse, Vec<String>) {
    let options = Options {
        calls,
        speed: SPEED,
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
    tokio::time::sleep(READY).await;
    house.start_with(&text).await;
    (house, ids)
}

/// An address lives for 15 s and so outlives a pause of this machine: a dead one must be asked for again.
const SPEED: f64 = 120.0;
/// All files are there: what is asked for too early is asked for again.
const READY: Duration = Duration::from_secs(8);

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

/// What a machine that does other things besides may add: starting the program, the last recording's way.
const BUSY_S: f64 = 4.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_forecast_comes_true_within_a_tenth_at_three_rates() {
    let one = async |calls: u32, rate: f64| {
        let (house, ids) = house(calls, rate).await;
        let file = write_ids(&house, &ids);
        let (code, dry) = backfill(&house, &file, &["--dry-run"]).await;
        assert_eq!((code, &dry["stored"]), (0, &calls.into()), "{dry}");
        assert_eq!(dry["skipped"], calls, "rows of another source");
        let begun = Instant::now();
        let begun_at = SystemClock.now();
        let (code, report) = backfill(&house, &file, &[]).await;
        assert_eq!((code, &report["stored"]), (0, &calls.into()), "{report}");
        assert_eq!(report["forecast"]["questions"], calls);
        let done_at = Timestamp::parse(report["forecast"]["done_at"].as_str().unwrap()).unwrap();
        let told_s = done_at.since_ms(begun_at) as f64 / 1000.0;
        all_archived(&house, calls as usize).await;
        let took_s = begun.elapsed().as_secs_f64();
        let asked = house.vendors[0].requests();
        println!("rate {rate}: forecast {told_s:.1} s, took {took_s:.1} s, {asked:?}");
        assert!(
            (told_s * 0.9 - 1.0..told_s * 1.1 + BUSY_S).contains(&took_s),
            "rate {rate}: forecast {told_s:.1} s, took {took_s:.1} s"
        );
        house.finish().await;
    };
    tokio::join!(one(60, 2.0), one(120, 4.0), one(180, 6.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forecast_comes_true_where_the_machine_is_slower_than_the_vendors_rate() {
    // One hand, and a vendor that takes its time: some two recordings a second, where fifty are allowed.
    const CALLS: u32 = 120;
    let (mut house, ids) = house(CALLS, 50.0).await;
    house.stop().await;
    let slow = Options {
        calls: CALLS,
        speed: SPEED,
        mishaps: Mishaps::None,
        announce: false,
        answers_after: Duration::from_millis(200),
        ledger: Some(house.path().join("served.ndjson")),
        listen: house.vendors[0].addr(),
        ..Options::new("feiyu-t")
    };
    house.vendors[0].stop().await;
    let clock = std::sync::Arc::new(SystemClock);
    let vendor = Vendor::start(VendorKind::Feiyu, slow, clock).await.unwrap();
    house.vendors = vec![vendor];
    let text = std::fs::read_to_string(house.config_file()).unwrap();
    let text = format!("[worker]\nrecordings = 1\n{text}");
    house.start_with(&text).await;
    let file = write_ids(&house, &ids);
    let (code, before) = backfill(&house, &file, &["--dry-run"]).await;
    let before = &before["forecast"];
    assert_eq!((code, &before["machine_per_second"]), (0, &Value::Null));
    assert_eq!(before["machine_was_seen"], false, "{before}");
    let (code, report) = backfill(&house, &file, &[]).await;
    assert_eq!((code, &report["stored"]), (0, &CALLS.into()), "{report}");
    let archived = async |house: &TestHouse| {
        let counted = house.house().db.count_by_source().await.unwrap();
        let archived = counted.iter().find(|(_, state, _)| state == "archived");
        archived.map_or(0, |(.., n)| *n)
    };
    // Until it was seen at work for long enough.
    let told = house
        .until(async |house| {
            let (_, told) = backfill(house, &file, &["--dry-run"]).await;
            let seen = told["forecast"]["machine_per_second"].is_f64();
            seen.then_some(told.clone()).ok_or_else(|| told.to_string())
        })
        .await;
    let (told_at, begun, had) = (SystemClock.now(), Instant::now(), archived(&house).await);
    let forecast = &told["forecast"];
    assert_eq!(
        (&forecast["recordings"], &forecast["told_before"]),
        (&0.into(), &CALLS.into()),
        "{told}"
    );
    let waiting = forecast["waiting_before"].as_u64().unwrap();
    assert!(waiting.abs_diff(u64::from(CALLS) - had) < 10, "{told}");
    let done_at = Timestamp::parse(forecast["done_at"].as_str().unwrap()).unwrap();
    let told_s = done_at.since_ms(told_at) as f64 / 1000.0;
    all_archived(&house, CALLS as usize).await;
    let took_s = begun.elapsed().as_secs_f64();
    println!("{forecast}: forecast {told_s:.1} s, took {took_s:.1} s");
    assert!(
        (told_s * 0.9 - BUSY_S..told_s * 1.1 + BUSY_S).contains(&took_s),
        "forecast {told_s:.1} s, took {took_s:.1} s"
    );
    house.finish().await;
}

/// The most memory that a process had, in MB.
fn most_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kb: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_lines_in_any_order_of_columns_need_no_more_memory() {
    let options = Options::new("feiyu-t");
    let house = TestHouse::open(vec![(VendorKind::Feiyu, options)]).await;
    let path = house.path().join("ids.csv");
    let mut text = "\u{feff}ended_at,source,provider_call_id\r\n\r\n".to_owned();
    for n in 0..1_000_000 {
        // A hundredth says nothing, a hundredth is another source's.
        text += &match n % 100 {
            0 => "\n".to_owned(),
            1 => format!(",elsewhere,x{n}\n"),
            _ => format!(",,c{n}\n"),
        };
    }
    std::fs::write(&path, text).unwrap();
    let mut child = tokio::process::Command::new(crate::support::house::program())
        .arg("--config")
        .arg(house.config_file())
        .args(["--json", "backfill", "--source", "feiyu-t", "--dry-run"])
        .arg("--ids")
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = child.id().unwrap();
    let mut most = 0;
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        most = most_memory(pid).unwrap_or(0).max(most);
        assert!(begun.elapsed() < Duration::from_secs(300), "it hangs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["stored"], 980_000, "{report}");
    assert_eq!(report["skipped"], 10_000, "{report}");
    assert_eq!(report["forecast"]["recordings"], 980_000, "{report}");
    println!("a million lines: {most} MB, {:?}", begun.elapsed());
    // The program itself, and a moment for each line: not the lines.
    assert!((1..256).contains(&most), "{most} MB");
    house.finish().await;
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

/// What a line of this kind in the configuration says.
fn configured(text: &str, key: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{key} = \"")));
    line.unwrap().split('"').nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn live_recordings_pass_history_and_the_vendor_is_asked_once_for_each() {
    use md5::Digest as _;

    const HISTORY: usize = 300;
    const LIVE: usize = 4;
    let (mut house, mut ids) = house((HISTORY + LIVE) as u32, 10.0).await;
    let live = ids.split_off(HISTORY);
    // What dies within two days goes before what is live: here nothing does.
    house.stop().await;
    let text = std::fs::read_to_string(house.config_file()).unwrap();
    let keeps = configured(&text, "provider_keeps");
    let first = configured(&text, "first_try_after");
    let text = text
        .replace(
            &format!("provider_keeps = \"{keeps}\""),
            "provider_keeps = \"30d\"",
        )
        // Their files are there already.
        .replace(
            &format!("first_try_after = \"{first}\""),
            "first_try_after = \"500ms\"",
        );
    house.start_with(&text).await;
    let file = write_ids(&house, &ids);
    let (code, report) = backfill(&house, &file, &[]).await;
    assert_eq!((code, &report["stored"]), (0, &HISTORY.into()), "{report}");
    let [app, token, hook] =
        ["app_id", "app_token", "hook_token"].map(|key| configured(&text, key));
    let at = house.running.as_ref().unwrap().addresses.page().unwrap();
    let at = at
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()
        .unwrap();
    let archived = async |id: &str| {
        let db = &house.house().db;
        let found = db.recordings_of_call("feiyu-t", id).await.unwrap();
        found.iter().any(|recording| recording.state == "archived")
    };
    for id in &live {
        let ti = SystemClock.now().ms().to_string();
        let au = hex::encode_upper(md5::Md5::digest(format!("{app}{token}{ti}")));
        let form = format!(
            "action=recordEnd&fyCallId={}&appId={app}&ti={ti}&au={au}",
            id.replace('@', "%40")
        );
        let answer = crate::support::http::ask(
            at,
            axum::http::Method::POST,
            &format!("/hooks/feiyu-t/{hook}"),
            &[("content-type", "application/x-www-form-urlencoded")],
            form,
        )
        .await;
        assert_eq!(answer.json()["resultCode"], 0, "{}", answer.text());
        house
            .until(async |_| {
                archived(id)
                    .await
                    .then_some(())
                    .ok_or("not archived".to_owned())
            })
            .await;
        // Behind the last of a history that is not done yet, it would have waited for all of it.
        let counted = house.house().db.count_by_source().await.unwrap();
        let done: u64 = counted
            .iter()
            .filter(|(_, state, _)| state == "archived")
            .map(|(.., n)| n)
            .sum();
        println!("{id}: {done} archived when it was in");
        assert!((done as usize) < HISTORY, "history was over");
    }
    all_archived(&house, HISTORY + LIVE).await;
    let asked = house.vendors[0].requests();
    let all = (HISTORY + LIVE) as u64;
    // Once for each; only an address that died before it was used would be asked for again.
    let expired = asked.get("expired").copied().unwrap_or(0);
    println!("{asked:?}");
    assert_eq!(asked["/api/getRecordDownUrl"], all + expired, "{asked:?}");
    assert_eq!(asked["/rec/"], all + expired, "{asked:?}");
    house.finish().await;
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
    let (code, out, _) = callvault(
        &house,
        &[
            "backfill",
            "--source",
            "feiyu-t",
            "--ids",
            path.to_str().unwrap(),
            "--dry-run",
        ],
    )
    .await;
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("10 are lost already"), "{out}");
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
