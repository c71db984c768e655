//! Two parties' recordings of one call become one stereo access copy of the call, whenever they come, and stay two recordings.
//!
//! How exactly they lie beside each other is held by `src/media/pair_tests.rs`.

use std::path::Path;

use callvault::db::Database;
use callvault::db::search::Query;
use callvault::db::settings::Settings;
use callvault::domain::media::note;
use callvault::domain::pair::{AlignedBy, Plan};
use callvault::domain::recording::Role;
use callvault::domain::secret::Secret;
use callvault::domain::view::{AccessView, ShowView};
use callvault::simulator::VendorKind;
use serde_json::json;
use uuid::Uuid;

use crate::journeys::{options, rows_of};
use crate::support::house::{TestHouse, stored_keys};
use crate::support::http::{get, post};

const TOKEN: &str = "two-parties-of-one-call";

/// A telephone system that records each party by itself, and leaves its files in a folder.
async fn switch(files: &Path) -> TestHouse {
    crate::ways::house(&format!(
        "[sources.pbx]\nkind = \"cdr\"\nfrom = \"http\"\nhook_token = \"{TOKEN}\"\nfile_roots = [\"{}\"]\n",
        files.display()
    ))
    .await
}

/// Tells of a file: whose it is, and the second and millisecond at which it began.
async fn push(house: &TestHouse, id: &str, file: &Path, party: &str, began: Option<&str>) {
    let mut told = json!({
        "id": id, "state": "ready", "channels": 1, "channel_map": [party],
        "locator": { "type": "file", "path": file },
    });
    if let Some(began) = began {
        told["started_at"] = json!(format!("2024-04-05T20:30:{began}+08:00"));
    }
    let body = json!({
        "spec": "cdr/1", "event_id": format!("e-{id}"), "event_type": "recording.ready",
        "occurred_at": "2024-04-05T20:31:10+08:00",
        "source": { "provider": "freeswitch", "account": "pbx" },
        "call": { "id": "call-1", "started_at": "2024-04-05T20:30:00+08:00" },
        "recordings": [told],
    });
    let answer = post(
        page(house),
        &format!("/hooks/pbx/{TOKEN}"),
        body.to_string(),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn page(house: &TestHouse) -> std::net::SocketAddr {
    let address = house.running.as_ref().unwrap().addresses.page().unwrap();
    let address = address.strip_prefix("http://").unwrap();
    address.trim_end_matches('/').parse().unwrap()
}

/// The only call, once `recordings` of it are archived and nothing is left to do.
async fn at_rest(house: &TestHouse, recordings: usize) -> ShowView {
    house
        .until(async |house| {
            let db = &house.house().db;
            if !db.all_notices_read().await.unwrap() {
                return Err("notices are still read".to_owned());
            }
            let page = db.search(&Query::default(), None, 100).await.unwrap();
            let open = db.open_work().await.unwrap();
            let archived = page.items.iter().filter(|item| item.state == "archived");
            if archived.count() != recordings || !open.is_empty() {
                return Err(format!("{:?} {open:?}", page.items));
            }
            Ok(db.show_call(page.items[0].call_id).await.unwrap().unwrap())
        })
        .await
}

fn notes(shown: &ShowView) -> Vec<Vec<&str>> {
    let pairing = |detail: &'_ callvault::domain::view::RecordingDetail| -> Vec<&'static str> {
        let notes = &detail.recording.notes;
        let known = note::PAIRING.iter();
        known
            .copied()
            .filter(|code| notes.iter().any(|n| n == code))
            .collect()
    };
    shown.recordings.iter().map(pairing).collect()
}

/// The joint copy that counts, how many versions there are, and the plan of the newest.
fn joint(shown: &ShowView) -> (AccessView, usize, Plan) {
    let mut objects: Vec<_> = shown
        .recordings
        .iter()
        .flat_map(|detail| &detail.objects)
        .filter(|object| object.role == Role::CallAccess)
        .collect();
    objects.sort_by_key(|object| object.n);
    let newest = objects.last().expect("a joint copy");
    let counts = shown.call_access.clone().expect("a joint copy");
    assert_eq!(counts.key, newest.key);
    assert!(objects.iter().all(|object| object.verified_at.is_some()));
    let settings = newest.settings.as_ref().unwrap();
    let plan = serde_json::from_value(settings["pair"].clone()).unwrap();
    (counts, objects.len(), plan)
}

/// The recordings on one side, each with where it lies.
type Side = Vec<(String, u64)>;

fn names(shown: &ShowView, plan: &Plan) -> (Side, Side) {
    let name = |id: Uuid| {
        let is_it =
            |d: &&callvault::domain::view::RecordingDetail| d.recording.recording_id == Some(id);
        let detail = shown.recordings.iter().find(is_it).unwrap();
        detail.recording.provider_recording_id.clone().unwrap()
    };
    let side = |side: &[callvault::domain::pair::Placed]| {
        side.iter()
            .map(|p| (name(p.recording_id), p.at_ms))
            .collect()
    };
    (side(&plan.left), side(&plan.right))
}

fn of(name: &str, at_ms: u64) -> Vec<(String, u64)> {
    vec![(name.to_owned(), at_ms)]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_single_party_recordings_become_one_stereo_copy_of_the_call_whenever_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().canonicalize().unwrap();
    let mut house = switch(&at).await;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio");
    // Another codec and another rate for each.
    std::fs::copy(fixtures.join("speech-amr-wb.awb"), at.join("callee.awb")).unwrap();
    std::fs::copy(fixtures.join("speech-gsm.wav"), at.join("caller.wav")).unwrap();
    push(
        &house,
        "callee",
        &at.join("callee.awb"),
        "callee",
        Some("05.250"),
    )
    .await;
    let alone = at_rest(&house, 1).await;
    assert!(alone.call_access.is_none());
    assert_eq!(notes(&alone), [[note::OTHER_PARTY_MISSING]]);
    let own = alone.recordings[0].recording.access.clone().unwrap();

    // Days later, after a restart: the caller's, which began before.
    house.stop().await;
    house.start_again().await;
    push(
        &house,
        "caller",
        &at.join("caller.wav"),
        "caller",
        Some("04.000"),
    )
    .await;
    let shown = at_rest(&house, 2).await;
    let (access, versions, plan) = joint(&shown);
    let call = shown.call.call_id;
    assert_eq!(
        access.key,
        format!("pbx/2024/04/05/call-{call}/access-0001.mp3"),
        "CONTRACTS, section 4"
    );
    assert_eq!(
        (versions, access.channels, access.sample_rate_hz),
        (1, Some(2), Some(16_000))
    );
    assert_eq!(names(&shown, &plan), (of("caller", 0), of("callee", 1250)));
    assert_eq!((plan.aligned_by, plan.exact_to_ms), (AlignedBy::Stamps, 1));
    assert_eq!(notes(&shown), [[note::PAIRED], [note::PAIRED]]);
    // As long as both together, and each recording's own copy is what it was.
    let callee = &shown.recordings[0].recording;
    assert_eq!(callee.access.as_ref().unwrap().key, own.key);
    let ends = 1250 + callee.original.as_ref().unwrap().duration_ms.unwrap();
    assert!((access.duration_ms.unwrap() - ends).abs() <= 1);
    assert!(
        shown
            .recordings
            .iter()
            .all(|d| d.recording.access.as_ref().unwrap().channels == Some(1))
    );

    // Heard over the API and offered first on the call's page.
    let answer = get(page(&house), &format!("/api/v1/calls/{call}/audio")).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (http::StatusCode::OK, "audio/mpeg")
    );
    assert_eq!(answer.body.len() as u64, access.bytes);
    let told = get(page(&house), &format!("/api/v1/calls/{call}"))
        .await
        .json();
    assert_eq!(told["call_access"]["sha256"], json!(access.sha256));
    for id in [call, callee.recording_id.unwrap()] {
        let html = get(page(&house), &format!("/recordings/{id}")).await;
        let html = html.text();
        let first = html.find(&format!("/api/v1/calls/{call}/audio")).unwrap();
        assert!(first < html.find("id=\"player\"").unwrap());
    }

    // Made again with nothing changed: the same bytes, so no other version.
    let db = house.house().db.clone();
    for detail in &shown.recordings {
        let id = detail.recording.recording_id.unwrap();
        assert!(
            db.request_access_again(id, house.house().clock.now())
                .await
                .unwrap()
        );
    }
    assert_eq!(joint(&at_rest(&house, 2).await).1, 1);

    // Another setting touches nothing by itself, and counts when it is made again.
    house.stop().await;
    let text = std::fs::read_to_string(house.config_file()).unwrap();
    let text = format!("{text}\n[access_copy]\nbitrate_kbps = 24\n");
    house.start_with(&text).await;
    assert_eq!(joint(&at_rest(&house, 2).await).1, 1);
    let db = house.house().db.clone();
    for detail in &shown.recordings {
        let id = detail.recording.recording_id.unwrap();
        assert!(
            db.request_access_again(id, house.house().clock.now())
                .await
                .unwrap()
        );
    }
    let (smaller, versions, _) = joint(&at_rest(&house, 2).await);
    assert_eq!(versions, 2);
    assert!(smaller.key.ends_with("/access-0002.mp3") && smaller.bytes < access.bytes);

    // A third file, the callee's next slice after a long gap: another version, of all three.
    std::fs::copy(fixtures.join("speech-opus.ogg"), at.join("more.ogg")).unwrap();
    push(
        &house,
        "more",
        &at.join("more.ogg"),
        "callee",
        Some("50.000"),
    )
    .await;
    let shown = at_rest(&house, 3).await;
    let (longer, versions, plan) = joint(&shown);
    assert_eq!(versions, 3);
    let (left, right) = names(&shown, &plan);
    assert_eq!((left, right.last().unwrap().1), (of("caller", 0), 46_000));
    assert!(longer.duration_ms.unwrap() > 48_000);

    // What a rebuild makes of the archive is what the index holds.
    let settings = Settings {
        url: Secret::new("sqlite://rebuilt.db".to_owned()),
        auto_migrate: Some(true),
    };
    let clock = house.house().clock.clone();
    let now = clock.now();
    let rebuilt = Database::connect(&settings, house.path(), clock)
        .await
        .unwrap();
    let archive = house.house().archive.clone();
    let report = callvault::jobs::rebuild::rebuild(&rebuilt, archive.as_ref(), now, |_| {}).await;
    assert!(report.as_ref().unwrap().findings.is_empty(), "{report:?}");
    for table in ["call", "recording", "archive_object"] {
        let before = rows_of(&house.path().join("callvault.db"), table).await;
        let after = rows_of(&house.path().join("rebuilt.db"), table).await;
        assert_eq!(before, after, "{table}");
    }
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_joined_is_not_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().canonicalize().unwrap();
    let house = switch(&at).await;
    std::fs::write(at.join("caller.wav"), crate::folders::wav(3, 32_000)).unwrap();
    push(&house, "caller", &at.join("caller.wav"), "caller", None).await;
    at_rest(&house, 1).await;
    // The other party's has no sound in it: archived, and nothing is joined to it.
    let film = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio/video-only.mp4");
    std::fs::copy(film, at.join("film.mp4")).unwrap();
    push(&house, "film", &at.join("film.mp4"), "callee", None).await;
    let shown = at_rest(&house, 2).await;
    assert!(shown.call_access.is_none());
    let alone: [&[&str]; 2] = [&[note::OTHER_PARTY_MISSING], &[note::OTHER_PARTY_MISSING]];
    assert_eq!(notes(&shown), alone);
    // A good one comes: both begin at one moment, for nobody says when they did, and the note says so.
    std::fs::write(at.join("callee.wav"), crate::folders::wav(5, 16_000)).unwrap();
    push(&house, "callee", &at.join("callee.wav"), "callee", None).await;
    let shown = at_rest(&house, 3).await;
    let (_, versions, plan) = joint(&shown);
    assert_eq!((versions, plan.aligned_by), (1, AlignedBy::Beginnings));
    assert_eq!(names(&shown, &plan), (of("caller", 0), of("callee", 0)));
    assert_eq!(notes(&shown)[0], [note::PAIRED_BY_BEGINNINGS]);
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_yunxin_call_with_two_parties_gets_its_joint_copy() {
    let only = ["none", "twice", "out_of_order", "late", "none", "none"];
    let house = TestHouse::open(vec![(VendorKind::Yunxin, options("yunxin-t", &only))]).await;
    house.make_calls().await;
    crate::journeys::all_as_planned_and_written(&house).await;
    let db = &house.house().db;
    let calls: std::collections::BTreeSet<String> = house
        .ledger()
        .into_iter()
        .map(|line| line.provider_call_id)
        .collect();
    assert_eq!(calls.len(), only.len());
    let (mut slices, mut films) = (0, 0);
    for name in calls {
        let call = db.find_call("yunxin-t", &name).await.unwrap().unwrap();
        let shown = db.show_call(call).await.unwrap().unwrap();
        let (access, versions, plan) = joint(&shown);
        assert_eq!(plan.aligned_by, AlignedBy::Stamps, "{plan:?}");
        assert_eq!(
            (plan.right.len(), access.channels),
            (1, Some(2)),
            "{plan:?}"
        );
        assert_eq!(plan.left[0].at_ms, 0);
        let later = plan.right[0].at_ms;
        assert!((0..3500).contains(&later), "{plan:?}");
        // Files and reports come in any order, and each may tell more of who is who.
        assert!(versions <= 6, "{versions} versions of {name}");
        slices += usize::from(plan.left.len() > 1);
        films += plan.left_out.len();
    }
    println!("{slices} calls in slices, {films} films left out");
    let archive = house.house().archive.clone();
    let keys = stored_keys(archive.as_ref()).await;
    assert!(keys.iter().any(|key| key.contains("/call-")));
    house.finish().await;
}
