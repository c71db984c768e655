//! A real recording from notice to ear, with simulated vendors: every mishap, both databases, rebuild.
//!
//! Failure: anything archived twice, not at all, with other bytes, or left lying about. Not a failure:
//! how often something was tried, and in which order.

use std::time::Duration;

use callvault::db::settings::Settings;
use callvault::domain::secret::Secret;
use callvault::domain::view::RecordingView;
use callvault::simulator::{LedgerLine, Mishaps, Options, Profile, VendorKind};

use crate::support::house::{TestHouse, stored_keys};
use crate::support::{postgres, s3};

const SPEED: f64 = 1800.0;

fn feiyu(only: &[&str]) -> (VendorKind, Options) {
    (VendorKind::Feiyu, options("feiyu-t", only))
}

fn aliyun(only: &[&str]) -> (VendorKind, Options) {
    (VendorKind::Aliyun, options("aliyun-t", only))
}

pub fn options(source: &str, only: &[&str]) -> Options {
    Options {
        calls: only.len() as u32,
        speed: SPEED,
        only: only.iter().map(|&mishap| mishap.to_owned()).collect(),
        call_interval: Duration::from_millis(20),
        ..Options::new(source)
    }
}

/// What is wrong with a line of the ledger, if anything.
async fn wrong(house: &TestHouse, line: &LedgerLine) -> Option<String> {
    let found = house
        .house()
        .db
        .recordings_of_call(&line.source, &line.provider_call_id)
        .await
        .unwrap();
    let has_these_bytes = |view: &&RecordingView| {
        let original = view.original.as_ref();
        original.map(|o| (o.sha256.to_string(), o.bytes)) == line.sha256.clone().zip(line.bytes)
    };
    let fine = match line.expect.as_str() {
        "archived" => {
            let mine: Vec<_> = found.iter().filter(has_these_bytes).collect();
            matches!(mine.as_slice(), [one] if one.state == "archived"
                && one.access.is_some()
                && within_a_frame(one, line.duration_ms))
        }
        "none" => found.iter().all(|view| view.recording_id.is_none()),
        expected => matches!(found.as_slice(), [one] if one.state == expected),
    };
    (!fine).then(|| format!("{line:?} but {found:#?}"))
}

/// One MP3 frame at 8 kHz lasts 72 ms.
fn within_a_frame(view: &RecordingView, expected_ms: Option<u64>) -> bool {
    let decoded = view.original.as_ref().and_then(|o| o.duration_ms);
    let copy = view.access.as_ref().and_then(|a| a.duration_ms);
    match (decoded, copy, expected_ms) {
        (Some(decoded), Some(copy), Some(expected)) => {
            (decoded - expected as i64).abs() <= 72 && (copy - decoded).abs() <= 72
        }
        _ => false,
    }
}

/// The same, and every manifest is written: what a rebuild reads is what the index holds.
pub async fn all_as_planned_and_written(house: &TestHouse) {
    all_as_planned(house).await;
    house
        .until(async |house| {
            let open = house.house().db.open_work().await.unwrap();
            if open.is_empty() {
                Ok(())
            } else {
                Err(format!("work is left: {open:?}"))
            }
        })
        .await;
}

pub async fn all_as_planned(house: &TestHouse) {
    house
        .until(async |house| {
            let ledger = house.ledger();
            if ledger.is_empty() || !house.house().db.all_notices_read().await.unwrap() {
                return Err("notices are still read".to_owned());
            }
            let mut open = Vec::new();
            for line in &ledger {
                open.extend(wrong(house, line).await);
            }
            if open.is_empty() {
                Ok(())
            } else {
                Err(open.join("\n"))
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feiyu_calls_with_every_mishap_end_as_planned() {
    let house = TestHouse::open(vec![feiyu(&[
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
        "never_recorded",
        "unannounced",
        "twice+truncated",
    ])])
    .await;
    house.make_calls().await;
    all_as_planned(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alibaba_calls_with_every_mishap_end_as_planned() {
    let house = TestHouse::open(vec![aliyun(&[
        "none",
        "late",
        "twice",
        "never",
        "out_of_order",
        "429",
        "500",
        "reset",
        "truncated",
        "html200",
        "wrong_length",
        "gone",
        "unannounced",
    ])])
    .await;
    house.make_calls().await;
    all_as_planned(&house).await;
    house.finish().await;
}

fn aliyun_as(profile: Profile, only: &[&str]) -> (VendorKind, Options) {
    let (kind, options) = aliyun(only);
    (kind, Options { profile, ..options })
}

#[tokio::test(flavor = "multi_thread")]
async fn alibabas_queued_calls_end_as_planned_and_poison_is_kept_and_counted() {
    let house = TestHouse::open(vec![aliyun_as(
        Profile::Queue,
        &[
            "none",
            "late",
            "twice",
            "never",
            "out_of_order",
            "poison",
            "redelivered",
            "token_died",
            "dead_handle",
            "queue_busy",
            "reset",
            "gone",
            "unannounced",
            "poison+redelivered+token_died",
        ],
    )])
    .await;
    house.make_calls().await;
    all_as_planned(&house).await;
    // Two calls had poison beside them; each kind of it is one notice, however often it was shown.
    let status = house
        .house()
        .db
        .status_view(house.house().clock.now())
        .await;
    let unreadable = status.unwrap().queues.notices.unreadable;
    assert!((1..=2).contains(&unreadable), "{unreadable}");
    // All of it was deleted at the vendor: nothing is shown again after its time.
    let requests = house.vendors[0].requests();
    assert!(
        requests["/queues/"] > 20 && requests["/"] >= 3,
        "{requests:?}"
    );
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_calls_are_asked_for_until_their_files_are_there() {
    let house = TestHouse::open(vec![aliyun_as(
        Profile::Protection,
        &[
            "none",
            "late",
            "twice",
            "never",
            "out_of_order",
            "not_ready",
            "not_ready+late",
            "link_expired",
            "429",
            "500",
            "reset",
            "truncated",
            "html200",
            "wrong_length",
            "redelivered",
            "poison",
            "queue_busy",
            "unannounced",
        ],
    )])
    .await;
    house.make_calls().await;
    all_as_planned(&house).await;
    let db = &house.house().db;
    for line in house.ledger().iter().filter(|l| l.expect == "archived") {
        let found = db.recordings_of_call(&line.source, &line.provider_call_id);
        for view in found.await.unwrap() {
            // 30 days from the call, whoever told of it first.
            let (gone, started) = (view.gone_at.unwrap(), view.started_at.unwrap());
            let days = gone.since_ms(started) as f64 / 86_400_000.0;
            assert!((30.0..30.01).contains(&days), "{days} {line:?}");
        }
    }
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_in_the_middle_of_a_queue_goes_on_with_it() {
    let (kind, options) = aliyun_as(Profile::Queue, &["none", "twice", "redelivered", "poison"]);
    let options = Options {
        calls: 12,
        call_interval: Duration::from_millis(150),
        ..options
    };
    let mut house = TestHouse::open(vec![(kind, options)]).await;
    let vendor = house.vendors[0].clone();
    let calling = tokio::spawn(async move { vendor.make_calls().await.unwrap() });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(350)).await;
        house.stop().await;
        house.start().await;
    }
    calling.await.unwrap();
    all_as_planned(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_legs_of_a_call_back_are_one_call_with_its_recording_once() {
    let (kind, options) = feiyu(&["none", "twice", "out_of_order", "never"]);
    let options = Options {
        profile: Profile::V3,
        ..options
    };
    let house = TestHouse::open(vec![(kind, options)]).await;
    house.make_calls().await;
    all_as_planned(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_on_postgresql_and_s3_ends_as_planned() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let store = s3::s3_server().await;
    let archive = format!(
        "[archive]\nkind = \"s3\"\nbucket = \"{}\"\nprefix = \"calls/\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\nforce_path_style = true\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\n",
        store.bucket, store.endpoint, store.access_key, store.secret
    );
    let storm = |source: &str, kind| {
        let options = Options {
            calls: 12,
            speed: SPEED,
            mishaps: Mishaps::Storm,
            call_interval: Duration::from_millis(20),
            ..Options::new(source)
        };
        (kind, options)
    };
    let house = TestHouse::open_on(
        vec![
            storm("feiyu-t", VendorKind::Feiyu),
            storm("aliyun-t", VendorKind::Aliyun),
        ],
        &database.url,
        &archive,
    )
    .await;
    house.make_calls().await;
    all_as_planned(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_from_the_archive_gives_equal_rows() {
    let mut house = TestHouse::open(vec![
        feiyu(&["none", "twice", "out_of_order", "never", "late"]),
        aliyun(&["none", "twice", "late"]),
    ])
    .await;
    house.make_calls().await;
    all_as_planned_and_written(&house).await;
    let archive = house.house().archive.clone();
    let now = house.house().clock.now();
    let settings = Settings {
        url: Secret::new("sqlite://rebuilt.db"),
        auto_migrate: Some(true),
    };
    let clock = house.house().clock.clone();
    let rebuilt = callvault::db::Database::connect(&settings, house.path(), clock)
        .await
        .unwrap();
    let report = callvault::jobs::rebuild::rebuild(&rebuilt, archive.as_ref(), now, |_| {})
        .await
        .unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.recordings, house.ledger().len() as u64);
    for table in [
        "call",
        "call_leg",
        "recording",
        "archive_object",
        "call_alias",
        "recording_alias",
        "search_key",
    ] {
        let before = rows_of(&house.path().join("callvault.db"), table).await;
        let after = rows_of(&house.path().join("rebuilt.db"), table).await;
        assert_eq!(before, after, "{table}");
        assert!(!before.is_empty() || table == "call_leg");
    }
    // A run that was stopped is simply run again.
    let again = callvault::jobs::rebuild::rebuild(&rebuilt, archive.as_ref(), now, |_| {})
        .await
        .unwrap();
    assert_eq!(again.recordings, report.recordings);
    an_object_that_is_gone_is_found_missing(&house).await;
    house.stop().await;
    house.start().await;
    house.finish().await;
}

async fn an_object_that_is_gone_is_found_missing(house: &TestHouse) {
    let archive = house.house().archive.clone();
    let keys = stored_keys(archive.as_ref()).await;
    let gone = keys.iter().find(|key| key.contains("/original-")).unwrap();
    let path = house.path().join("archive").join(gone);
    let aside = house.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    let settings = Settings {
        url: Secret::new("sqlite://missing.db"),
        auto_migrate: Some(true),
    };
    let clock = house.house().clock.clone();
    let now = clock.now();
    let db = callvault::db::Database::connect(&settings, house.path(), clock)
        .await
        .unwrap();
    let report = callvault::jobs::rebuild::rebuild(&db, archive.as_ref(), now, |_| {})
        .await
        .unwrap();
    let found: Vec<_> = report.findings.iter().map(|f| (f.code, &f.key)).collect();
    assert_eq!(found, [("object_missing", gone)]);
    // A row that says it was verified would be a lie.
    let rows = rows_of(&house.path().join("missing.db"), "archive_object").await;
    let unverified: Vec<_> = rows
        .iter()
        .filter(|row| row.contains("verified_at_ms=NULL"))
        .collect();
    assert_eq!(unverified.len(), 1, "{unverified:?}");
    assert!(unverified[0].contains(gone.as_str()));
    std::fs::rename(&aside, &path).unwrap();
}

/// Columns that say how far work is, and what only notices know: a rebuild starts them anew.
const WORK_COLUMNS: &[&str] = &[
    "link_renewable",
    "deadline_at_ms",
    "recheck_planned",
    "gone_told_ms",
    "link_url",
    "link_url_until_ms",
    "handle",
    "found_by",
    "ask_at_ms",
    "asks",
    "state_since_ms",
    "reason",
    "evidence",
    "facts_version",
    "work_class",
    "available_at_ms",
    "lease_token",
    "lease_owner",
    "attempts",
    "lapses",
    "not_ready_tries",
    "failures",
    "access_due",
    "pair_wanted",
    "pair_done",
    "access_tries",
    "access_lapses",
    "manifest_due",
    "recheck_at_ms",
    "recheck_due",
    "expect_until_ms",
];

/// A table's rows as sorted lines, work columns aside.
pub async fn rows_of(file: &std::path::Path, table: &str) -> Vec<String> {
    use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
    let db = Database::connect(format!("sqlite://{}?mode=ro", file.display()))
        .await
        .unwrap();
    let ask = async |sql: String| {
        let rows = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql));
        let rows = rows.await.unwrap();
        let texts = rows
            .iter()
            .map(|row| row.try_get_by_index::<String>(0).unwrap());
        texts.collect::<Vec<String>>()
    };
    let columns = ask(format!("select name from pragma_table_info('{table}')")).await;
    let shown: Vec<String> = columns
        .iter()
        .filter(|column| !WORK_COLUMNS.contains(&column.as_str()))
        .map(|column| format!("'{column}=' || quote({column})"))
        .collect();
    let mut rows = ask(format!("select {} from {table}", shown.join(" || ' ' || "))).await;
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_vendor_only_delays() {
    let house = TestHouse::open(vec![feiyu(&["none", "none", "none"])]).await;
    house.vendors[0].set_outage(true);
    house.make_calls().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    house.vendors[0].set_outage(false);
    all_as_planned(&house).await;
    house.finish().await;
}
