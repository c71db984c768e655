//! TRTC's recordings in the customer's own bucket when no callback comes: the bucket's list is the only way to them.
//!
//! Failure: anything there that is archived twice, in part or not at all. Not a failure: the number of questions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use callvault::domain::clock::{SharedClock, SystemClock};
use callvault::domain::recording::Role;
use callvault::ingress::poll::{Mode, Sweeper};
use callvault::jobs::backfill::Backfill;
use callvault::pipeline::{inbox, intake::Intake};
use callvault::providers::contract::{
    BuildContext, Capabilities, Provider, ProviderErrorKind, Window,
};
use callvault::providers::http::GuardedClient;
use callvault::providers::registry;
use callvault::providers::settings::CommonSettings;
use callvault::providers::sources::Sources;
use callvault::simulator::{Options, Vendor, VendorKind};
use callvault::spool::journal::Journal;
use tokio_util::sync::CancellationToken;

use crate::db::{at, on_both};
use crate::journeys::{all_as_planned_and_written, options};
use crate::support::house::TestHouse;
use crate::support::shelf::{Mood, Shelf};

const OFTEN: &str =
    "[archive]\nkind = \"directory\"\npath = \"archive\"\n[schedule]\npoll = \"* * * * * *\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn recordings_in_the_bucket_are_found_by_its_list_alone_with_every_mishap() {
    // The third and the fourth of every seven calls lie in the bucket.
    let silent = Options {
        announce: false,
        ..options(
            "trtc-t",
            &[
                "none",
                "none",
                "none",
                "none",
                "none",
                "none",
                "none",
                "none",
                "none",
                "429",
                "500",
                "none",
                "none",
                "none",
                "none",
                "none",
                "html200",
                "not_ready",
                "none",
                "none",
                "none",
                "none",
                "none",
                "link_expired",
                "truncated",
            ],
        )
    };
    let house = TestHouse::open_on(
        vec![(VendorKind::Trtc, silent)],
        "sqlite://callvault.db",
        OFTEN,
    )
    .await;
    house.make_calls().await;
    all_as_planned_and_written(&house).await;
    let (db, ledger) = (&house.house().db, house.ledger());
    assert_eq!(db.count_recordings().await.unwrap(), ledger.len() as u64);
    let in_bucket: Vec<_> = ledger
        .iter()
        .filter(|line| {
            line.provider_recording_id
                .as_deref()
                .is_some_and(|id| id.contains('.'))
        })
        .collect();
    let is_playlist = |id: &&str| id.ends_with(".m3u8");
    let names = in_bucket
        .iter()
        .filter_map(|line| line.provider_recording_id.as_deref());
    assert_eq!(in_bucket.len(), 12);
    assert_eq!(names.filter(is_playlist).count(), 4);
    for line in in_bucket {
        let found = db
            .recordings_of_call("trtc-t", &line.provider_call_id)
            .await
            .unwrap();
        let view = found
            .iter()
            .find(|view| view.original.as_ref().map(|o| o.sha256.to_string()) == line.sha256)
            .unwrap_or_else(|| panic!("{line:?} among {found:#?}"));
        let shown = db
            .show_recording(view.recording_id.unwrap())
            .await
            .unwrap()
            .unwrap();
        let objects = &shown.recordings[0].objects;
        let originals = objects.iter().filter(|o| o.role == Role::Original).count();
        let is_whole = match line.provider_recording_id.as_deref().filter(is_playlist) {
            // With its segments.
            Some(_) => originals >= 3,
            None => originals == 1,
        };
        assert!(is_whole, "{line:?}: {objects:#?}");
    }
    house.finish().await;
}

/// The vendor checks the list's signature as it checks those of objects; what the program says of it helps.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_signed_with_the_buckets_own_key() {
    let clock: SharedClock = Arc::new(SystemClock);
    let vendor = Vendor::start(
        VendorKind::Trtc,
        options("trtc-t", &["none"]),
        clock.clone(),
    )
    .await
    .unwrap();
    let block: toml::Table = vendor.config_block().parse().unwrap();
    let mut table = block["sources"]["trtc-t"].as_table().unwrap().clone();
    table.remove("kind");
    let fine = source("trtc-t", table.clone(), clock.clone());
    assert_eq!(fine.check().await, []);
    for (key, wrong) in [("secret_key", "wrong"), ("secret_id", "AKIDwrong")] {
        let mut table = table.clone();
        table["cos"]
            .as_table_mut()
            .unwrap()
            .insert(key.to_owned(), wrong.into());
        let findings = source("trtc-t", table, clock.clone()).check().await;
        let codes: Vec<_> = findings.iter().map(|found| found.code).collect();
        assert_eq!(codes, ["credentials_refused"], "{key}: {findings:?}");
        assert!(findings[0].remedy.contains("of cos"), "{findings:?}");
    }
    vendor.stop().await;
}

fn source(name: &str, table: toml::Table, clock: SharedClock) -> Arc<dyn Provider> {
    let kind = registry::find(name, "trtc").unwrap();
    let (common, own) = CommonSettings::split(name, &kind.defaults(), table).unwrap();
    let context = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    kind.build(common, own, &context).unwrap()
}

#[test]
fn a_bucket_whose_list_repeats_a_page_for_ever_is_left_and_told_of() {
    on_both(async |house| {
        let count = Arc::new(AtomicUsize::new(0));
        let modified = at(-10).to_string();
        let body = format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextMarker>t1/1400567890_7.aac</NextMarker><Contents>\
             <Key>t1/1400567890_7.aac</Key><LastModified>{modified}</LastModified></Contents></ListBucketResult>"
        );
        let asked = Arc::clone(&count);
        let app = Router::new().fallback(move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let body = body.clone();
            async move { body }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let keys = format!(
            "sdk_app_id = 1400567890\ncallback_key = \"k\"\nprovider_keeps = \"1d\"\nbase_url.cos = \"{url}\"\n\
             cos = {{ bucket = \"b-1\", region = \"r\", secret_id = \"a\", secret_key = \"s\" }}"
        );
        let clock: SharedClock = house.clock.clone();
        let provider = source("trtc-b", keys.parse().unwrap(), clock.clone());
        let sources = Sources::new([provider]);
        let journal = Journal::open(&house.folder().join("journal"))
            .await
            .unwrap();
        let intake = Intake::new(house.db.clone(), Arc::new(journal), clock.clone());
        let sweeper = Sweeper::new(
            house.db.clone(),
            sources.clone(),
            intake,
            clock.clone(),
            "i1",
            CancellationToken::new(),
        );
        let pass = sweeper.pass(None, Mode { thorough: false });
        let report = tokio::time::timeout(Duration::from_secs(60), pass)
            .await
            .unwrap()
            .remove(0);
        assert_eq!(report.problems[0].code, "bad_answer", "{report:?}");
        assert!(count.load(Ordering::SeqCst) < 20, "{report:?}");
        while inbox::read_waiting(&house.db, &sources, "i1", clock.now())
            .await
            .unwrap()
            > 0
        {}
        assert_eq!(house.number("select count(*) from recording").await, 1);
        server.abort();
    });
}

#[test]
fn history_is_told_by_the_vendors_list_and_then_by_the_bucket_which_costs_the_first_nothing() {
    on_both(async |house| {
        let can = Capabilities {
            can_list: true,
            can_list_bucket: true,
            ..Capabilities::default()
        };
        let shelf = Shelf::new("", can);
        let provider: Arc<dyn Provider> = shelf.clone();
        for n in 0..5 {
            shelf.put(at(n), &format!("listed-{n}"));
            shelf.put_in_bucket(at(n), &format!("written-{n}"));
        }
        shelf.put_in_bucket(at(-1), "before");
        let backfill = Backfill {
            db: &house.db,
            clock: house.clock.clone(),
            provider,
            dry_run: false,
            progress: &|_, _| {},
        };
        let window = Window {
            from: at(0),
            to: at(10),
        };
        shelf.set_bucket(Mood::Fails(ProviderErrorKind::CannotListBucket));
        assert!(backfill.list(window).await.is_err());
        assert_eq!(house.number("select count(*) from notice").await, 5);
        shelf.set_bucket(Mood::Fine);
        let report = backfill.list(window).await.unwrap();
        assert_eq!(
            (report.stored, report.repeated, report.walked),
            (5, 5, 6),
            "{report:?}"
        );
    });
}
