//! TRTC from callback to ear: every shape of its files, playlists with everything that can be wrong with them, and
//! rooms that are used again.
//!
//! Failure: anything archived twice, in part, or from where it must not come. Not a failure: the number of tries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use base64::Engine as _;
use bytes::Bytes;
use callvault::app::{self, House, Parts, Running, StartOptions};
use callvault::config::Config;
use callvault::db::settings::Settings;
use callvault::domain::clock::{Clock as _, SharedClock, SystemClock};
use callvault::domain::digest::Sha256;
use callvault::domain::recording::Role;
use callvault::domain::secret::Secret;
use callvault::domain::view::{RecordingDetail, RecordingView};
use callvault::simulator::{Options, VendorKind};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::StatusCode;
use serde_json::{Value, json};

use crate::journeys::{all_as_planned, all_as_planned_and_written, rows_of};
use crate::support::house::{TestHouse, program};

const APP: &str = "1400567890";
const KEY: &str = "k7Qw2Zx9Lm4Rt8Vb";
const SEGMENTS: [&[u8]; 3] = [
    include_bytes!("../../src/simulator/voices/bank-16k-mono-0.ts"),
    include_bytes!("../../src/simulator/voices/bank-16k-mono-1.ts"),
    include_bytes!("../../src/simulator/voices/bank-16k-mono-2.ts"),
];
/// Of each of them: 47 frames of 64 ms.
const SEGMENT_MS: i64 = 3008;

fn tencent(only: &[&str]) -> (VendorKind, Options) {
    let options = Options {
        calls: only.len() as u32,
        speed: 1800.0,
        only: only.iter().map(|&mishap| mishap.to_owned()).collect(),
        call_interval: Duration::from_millis(20),
        ..Options::new("trtc-t")
    };
    (VendorKind::Trtc, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn tencent_calls_with_every_mishap_end_as_planned() {
    // Seven shapes of files in rotation meet these in another rhythm.
    let house = TestHouse::open(vec![tencent(&[
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
        "twice+reset",
        "never+truncated",
    ])])
    .await;
    house.make_calls().await;
    all_as_planned(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_gives_playlists_back_with_all_their_files() {
    let mut house = TestHouse::open(vec![tencent(&["none"; 7])]).await;
    house.make_calls().await;
    all_as_planned_and_written(&house).await;
    let archive = house.house().archive.clone();
    let settings = Settings {
        url: Secret::new("sqlite://rebuilt.db"),
        auto_migrate: Some(true),
    };
    let clock = house.house().clock.clone();
    let now = clock.now();
    let rebuilt = callvault::db::Database::connect(&settings, house.path(), clock)
        .await
        .unwrap();
    let report = callvault::jobs::rebuild::rebuild(&rebuilt, archive.as_ref(), now, |_| {})
        .await
        .unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    for table in ["recording", "archive_object", "recording_alias"] {
        let before = rows_of(&house.path().join("callvault.db"), table).await;
        let after = rows_of(&house.path().join("rebuilt.db"), table).await;
        assert_eq!(before, after, "{table}");
    }
    house.stop().await;
    house.start().await;
    house.finish().await;
}

/// A house with one source whose vendor is a table of pages.
struct Bench {
    dir: tempfile::TempDir,
    running: Running,
    base: String,
    pages: Pages,
    sent: Mutex<u32>,
}

#[derive(Clone, Default)]
struct Pages(Arc<Mutex<HashMap<String, (StatusCode, Bytes)>>>);

async fn page(State(pages): State<Pages>, request: Request) -> impl IntoResponse {
    let found = pages.0.lock().unwrap().get(request.uri().path()).cloned();
    found.unwrap_or((StatusCode::NOT_FOUND, Bytes::from_static(b"not found")))
}

impl Bench {
    async fn open(more: &str) -> Self {
        let pages = Pages::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let app = Router::new().fallback(page).with_state(pages.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"sqlite://callvault.db\"\n\
             [archive]\nkind = \"directory\"\npath = \"archive\"\n[spool]\npath = \"spool\"\n\
             [sources.trtc-b]\nkind = \"trtc\"\nsdk_app_id = {APP}\ncallback_key = \"{KEY}\"\n\
             ready_after = \"1ms\"\nretry_plan = [\"200ms\"]\nallow_hosts = [\"{at}\"]\n\
             allow_private_addresses = true\nhttp_links = \"allow\"\n{more}"
        );
        let file = dir.path().join("callvault.toml");
        std::fs::write(&file, text).unwrap();
        let clock: SharedClock = Arc::new(SystemClock);
        let house = House::open(Config::load(Some(&file)).unwrap(), clock)
            .await
            .unwrap();
        let options = StartOptions {
            decoder_program: Some(program()),
            ..StartOptions::default()
        };
        let running = app::start(house, Parts::ALL, options).await.unwrap();
        Self {
            dir,
            running,
            base: format!("http://{at}"),
            pages,
            sent: Mutex::new(0),
        }
    }

    fn house(&self) -> &House {
        &self.running.house
    }

    fn put(&self, path: &str, body: impl Into<Bytes>) {
        let mut pages = self.pages.0.lock().unwrap();
        pages.insert(path.to_owned(), (StatusCode::OK, body.into()));
    }

    /// Sends one signed callback and expects success.
    async fn tell(&self, event: &Value) {
        let body = event.to_string();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        let sign = base64::prelude::BASE64_STANDARD.encode(mac.finalize().into_bytes());
        let url = format!("{}/hooks/trtc-b", self.running.addresses.page().unwrap());
        let request = http::Request::post(url)
            .header("SdkAppId", APP)
            .header("Sign", sign)
            .header("content-type", "application/json")
            .body(http_body_util::Full::new(Bytes::from(body)))
            .unwrap();
        let client =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                .build_http();
        assert_eq!(
            client.request(request).await.unwrap().status(),
            StatusCode::OK
        );
    }

    /// Announces the file at `path` as the only one of a task of its own; gives the task.
    async fn announce(&self, path: &str) -> String {
        let n = {
            let mut sent = self.sent.lock().unwrap();
            *sent += 1;
            *sent
        };
        let task = format!("task-{n}");
        let now = SystemClock.now().ms();
        self.tell(&json!({"EventGroupId": 3, "EventType": 311, "CallbackTs": now, "EventInfo": {
            "RoomId": format!("room-{n}"), "EventTs": now / 1000, "EventMsTs": now, "UserId": "recorder_1",
            "TaskId": task, "Payload": {"Status": 0, "TencentVod": {"UserId": "", "TrackType": "audio",
            "MediaId": "mix", "FileId": format!("52858908{n:011}"), "VideoUrl": format!("{}{path}", self.base),
            "CacheFile": format!("f{n}.m3u8"), "StartTimeStamp": now - 9000, "EndTimeStamp": now - 10}}}}))
            .await;
        task
    }

    async fn view(&self, task: &str) -> Option<RecordingView> {
        let db = &self.house().db;
        let found = db.recordings_of_call("trtc-b", task).await.unwrap();
        found.into_iter().next()
    }

    async fn until(&self, task: &str, done: impl Fn(&RecordingView) -> bool) -> RecordingView {
        let begun = Instant::now();
        loop {
            let view = self.view(task).await;
            match &view {
                Some(view) if done(view) => return view.clone(),
                _ if begun.elapsed() > Duration::from_secs(40) => panic!("{task}: {view:#?}"),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn archived(&self, task: &str) -> (RecordingView, RecordingDetail) {
        let view = self
            .until(task, |view| {
                view.state == "archived" && view.access.is_some()
            })
            .await;
        let shown = self
            .house()
            .db
            .show_recording(view.recording_id.unwrap())
            .await;
        let detail = shown
            .unwrap()
            .unwrap()
            .recordings
            .into_iter()
            .next()
            .unwrap();
        (view, detail)
    }

    async fn close(self) {
        self.running.stop().await;
        let left = crate::support::house::spool_files(&self.dir.path().join("spool"));
        assert!(left.is_empty(), "{left:?}");
    }
}

fn playlist(lines: &str) -> String {
    format!("#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:4\n{lines}")
}

fn three_segments(bench: &Bench) -> String {
    let mut lines = String::new();
    for (n, segment) in SEGMENTS.iter().enumerate() {
        bench.put(&format!("/x/s{n}.ts"), *segment);
        lines.push_str(&format!("#EXTINF:3.008,\ns{n}.ts\n"));
    }
    lines
}

fn originals(detail: &RecordingDetail) -> Vec<(u32, String)> {
    let of = detail.objects.iter().filter(|o| o.role == Role::Original);
    of.map(|o| (o.n, o.sha256.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_is_archived_whole_and_played_as_one() {
    let bench = Bench::open("").await;
    let lines = three_segments(&bench);
    let text = playlist(&format!("{lines}#EXT-X-ENDLIST\n"));
    bench.put("/x/a.m3u8", text.clone());
    let task = bench.announce("/x/a.m3u8").await;
    let (view, detail) = bench.archived(&task).await;
    // What counts as the original is the playlist; its facts are those of the joined sound.
    let original = view.original.as_ref().unwrap();
    assert_eq!(original.sha256, Sha256::of(text.as_bytes()));
    assert_eq!(original.codec.as_deref(), Some("aac"));
    assert_eq!(original.duration_ms, Some(3 * SEGMENT_MS));
    let access = view.access.as_ref().unwrap();
    assert!((access.duration_ms.unwrap() - 3 * SEGMENT_MS).abs() <= 72);
    let mut expected = vec![(1, original.sha256.to_string())];
    for (n, segment) in (2..).zip(SEGMENTS) {
        expected.push((n, Sha256::of(segment).to_string()));
    }
    assert_eq!(originals(&detail), expected);
    assert!(
        detail
            .objects
            .iter()
            .filter(|object| object.role == Role::Original)
            .all(|object| object.verified_at.is_some())
    );
    // The first manifest already names every file.
    let folder = original.key.rsplit_once('/').unwrap().0;
    let path = bench
        .dir
        .path()
        .join("archive")
        .join(folder)
        .join("manifest-0001.json");
    let manifest: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let named: Vec<&str> = manifest["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| object["sha256"].as_str().unwrap())
        .collect();
    assert_eq!(
        named,
        expected
            .iter()
            .map(|(_, sha)| sha.as_str())
            .collect::<Vec<_>>()
    );
    let pieces = manifest["objects"][0]["settings"]["hls"]["pieces"]
        .as_array()
        .unwrap();
    assert_eq!(pieces.len(), 3);
    // The access copy again: now the files come back from the archive.
    let (db, id) = (&bench.house().db, view.recording_id.unwrap());
    let now = SystemClock.now();
    assert!(db.request_access_again(id, now).await.unwrap());
    let begun = Instant::now();
    while !db.open_work().await.unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (again, _) = bench.archived(&task).await;
    assert_eq!(again.access.unwrap().sha256, access.sha256);
    let current = db
        .current_object(id, Role::Original)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(current.sha256, original.sha256, "get gives the playlist");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn master_playlists_ranges_and_repeats_play_as_they_say() {
    let bench = Bench::open("").await;
    let lines = three_segments(&bench);
    bench.put(
        "/x/inner/a.m3u8",
        playlist("#EXTINF:3,\n../s1.ts\n#EXT-X-ENDLIST\n"),
    );
    bench.put(
        "/x/master.m3u8",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=90\ninner/a.m3u8\n",
    );
    let (first, second) = (SEGMENTS[0].len(), SEGMENTS[1].len());
    bench.put("/x/all.ts", [SEGMENTS[0], SEGMENTS[1]].concat());
    bench.put(
        "/x/ranges.m3u8",
        playlist(&format!(
            "#EXTINF:3,\n#EXT-X-BYTERANGE:{second}@{first}\nall.ts\n#EXTINF:3,\n#EXT-X-BYTERANGE:{first}@0\nall.ts\n#EXT-X-ENDLIST\n"
        )),
    );
    bench.put(
        "/x/twice.m3u8",
        playlist(&format!("{lines}{lines}#EXT-X-ENDLIST\n")),
    );
    for (path, files, plays) in [
        ("/x/master.m3u8", 3, 1),
        ("/x/ranges.m3u8", 2, 2),
        ("/x/twice.m3u8", 4, 6),
    ] {
        let task = bench.announce(path).await;
        let (view, detail) = bench.archived(&task).await;
        assert_eq!(originals(&detail).len(), files, "{path}");
        let length = view.original.unwrap().duration_ms.unwrap();
        assert_eq!(length, plays * SEGMENT_MS, "{path}");
        assert_eq!(view.notes, Vec::<String>::new(), "{path}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_that_points_to_another_host_is_refused() {
    let bench = Bench::open("").await;
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = elsewhere.local_addr().unwrap();
    let lines = three_segments(&bench);
    for (n, uri) in [
        format!("http://{other}/secret"),
        format!("//{other}/secret"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let path = format!("/x/evil{n}.m3u8");
        bench.put(
            &path,
            playlist(&format!("{lines}#EXTINF:3,\n{uri}\n#EXT-X-ENDLIST\n")),
        );
        let task = bench.announce(&path).await;
        let view = bench.until(&task, |view| view.reason.is_some()).await;
        assert_eq!(view.reason.as_deref(), Some("host_not_allowed"), "{uri}");
        assert_eq!(
            (view.state.as_str(), view.attempts),
            ("pending", 0),
            "{uri}"
        );
    }
    let asked = tokio::time::timeout(Duration::from_millis(300), elsewhere.accept()).await;
    assert!(asked.is_err(), "nobody may have connected");
    assert_eq!(bench.house().db.all_object_keys().await.unwrap().len(), 0);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn playlists_that_cannot_be_archived_yet_or_at_all_say_why() {
    let bench = Bench::open("max_recording = \"30KiB\"\n").await;
    let lines = three_segments(&bench);
    bench.put("/x/endless.m3u8", playlist("#EXTINF:3,\ns0.ts\n"));
    bench.put(
        "/x/large.m3u8",
        playlist(&format!("{lines}#EXT-X-ENDLIST\n")),
    );
    bench.put("/x/empty.m3u8", playlist("#EXT-X-ENDLIST\n"));
    bench.put(
        "/x/nested.m3u8",
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\nnested.m3u8\n",
    );
    bench.put("/x/page.html", "<html><body>busy</body></html>");
    bench.put(
        "/x/page.m3u8",
        playlist("#EXTINF:3,\npage.html\n#EXT-X-ENDLIST\n"),
    );
    bench.put(
        "/x/missing.m3u8",
        playlist("#EXTINF:3,\nnowhere.ts\n#EXT-X-ENDLIST\n"),
    );
    for (path, reason) in [
        ("/x/endless.m3u8", "not_ready"),
        ("/x/large.m3u8", "too_large"),
        ("/x/empty.m3u8", "not_a_recording"),
        ("/x/nested.m3u8", "not_a_recording"),
        ("/x/page.m3u8", "not_a_recording"),
        ("/x/missing.m3u8", "not_ready"),
    ] {
        let task = bench.announce(path).await;
        let view = bench.until(&task, |view| view.reason.is_some()).await;
        assert_eq!(view.reason.as_deref(), Some(reason), "{path}");
        assert_eq!(view.state, "pending", "{path}");
    }
    // The one that was still being written gets its end.
    bench.put(
        "/x/endless.m3u8",
        playlist("#EXTINF:3,\ns0.ts\n#EXTINF:3,\ns1.ts\n#EXT-X-ENDLIST\n"),
    );
    let (view, _) = bench.archived("task-1").await;
    assert_eq!(view.original.unwrap().duration_ms, Some(2 * SEGMENT_MS));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_segments_are_kept_and_not_decoded() {
    let bench = Bench::open("").await;
    let noise: Vec<u8> = (0..4096_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    bench.put("/x/n0.ts", noise.clone());
    bench.put(
        "/x/aes.m3u8",
        playlist("#EXT-X-KEY:METHOD=AES-128,URI=\"key\"\n#EXTINF:3,\nn0.ts\n#EXT-X-ENDLIST\n"),
    );
    let task = bench.announce("/x/aes.m3u8").await;
    let view = bench.until(&task, |view| view.state == "archived").await;
    let begun = Instant::now();
    while !bench.house().db.open_work().await.unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let shown = bench
        .house()
        .db
        .show_recording(view.recording_id.unwrap())
        .await;
    let detail = shown.unwrap().unwrap().recordings.remove(0);
    assert_eq!(detail.recording.notes, ["encrypted"]);
    assert!(detail.recording.access.is_none());
    assert_eq!(originals(&detail)[1].1, Sha256::of(&noise).to_string());
    bench.close().await;
}

/// An event of a room, `at` seconds after a fixed moment.
fn in_room(room: &Value, kind: i64, at: i64, user: Option<&str>) -> Value {
    let ms = (1_700_000_000 + at) * 1000 + 250;
    let group = if kind > 200 { 2 } else { 1 };
    let mut info = json!({ "RoomId": room, "EventTs": ms / 1000, "EventMsTs": ms, "Reason": 1 });
    if let Some(user) = user {
        info["UserId"] = json!(user);
    }
    json!({ "EventGroupId": group, "EventType": kind, "CallbackTs": ms, "EventInfo": info })
}

fn life(room: &Value, began: i64, users: [&str; 2]) -> Vec<Value> {
    vec![
        in_room(room, 101, began, Some(users[0])),
        in_room(room, 103, began + 1, Some(users[0])),
        in_room(room, 103, began + 4, Some(users[1])),
        in_room(room, 203, began + 5, Some(users[1])),
        in_room(room, 104, began + 60, Some(users[1])),
        in_room(room, 102, began + 61, None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_used_again_is_another_call_in_any_order_of_events() {
    let bench = Bench::open("").await;
    let desk = json!("desk-17");
    let (number, text) = (json!(20222), json!("raum 20222"));
    let mut events = life(&desk, 0, ["agent_1", "cust_1"]);
    events.extend(life(&desk, 300, ["agent_2", "cust_2"]));
    events.extend(life(&number, 10, ["agent_3", "cust_3"]));
    events.extend(life(&text, 10, ["agent_4", "cust_4"]));
    // Neither in order nor at random: every third, from the end.
    let count = events.len();
    for start in 0..3 {
        for n in (start..count).step_by(3).rev() {
            bench.tell(&events[n]).await;
        }
    }
    let db = &bench.house().db;
    let begun = Instant::now();
    while !db.all_notices_read().await.unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (id, users) in [
        ("1400567890_desk-17_1700000000", ["agent_1", "cust_1"]),
        ("1400567890_desk-17_1700000300", ["agent_2", "cust_2"]),
        ("1400567890_20222_1700000010", ["agent_3", "cust_3"]),
        ("1400567890_raum 20222_1700000010", ["agent_4", "cust_4"]),
    ] {
        let found = db.recordings_of_call("trtc-b", id).await.unwrap();
        let [view] = found.as_slice() else {
            panic!("{id}: {found:#?}");
        };
        let parties: Vec<&str> = view
            .parties
            .iter()
            .filter_map(|p| p.id.as_deref())
            .collect();
        assert_eq!(parties, users, "{id}");
        assert_eq!(view.provider_call_id, id);
        let length = view.ended_at.unwrap().since_ms(view.started_at.unwrap());
        assert_eq!(length, 61_000, "{id}");
        let shown = db.show_call(view.call_id).await.unwrap().unwrap();
        assert_eq!(shown.call.legs.len(), 2, "{id}");
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_belongs_to_the_call_of_its_room() {
    let bench = Bench::open("").await;
    bench.put(
        "/x/a.m3u8",
        playlist(&format!("{}#EXT-X-ENDLIST\n", three_segments(&bench))),
    );
    let room = json!("desk-9");
    let now = SystemClock.now().ms();
    let event = |kind: i64, ms: i64, user: &str| {
        json!({ "EventGroupId": 1, "EventType": kind, "CallbackTs": ms, "EventInfo":
            { "RoomId": room, "EventTs": ms / 1000, "EventMsTs": ms, "UserId": user } })
    };
    let file = json!({"EventGroupId": 3, "EventType": 311, "CallbackTs": now, "EventInfo": {
        "RoomId": room, "EventMsTs": now, "TaskId": "task-of-9", "Payload": {"Status": 0, "TencentVod": {
        "UserId": "agent_9", "TrackType": "audio", "MediaId": "main", "FileId": "528589099",
        "VideoUrl": format!("{}/x/a.m3u8", bench.base), "CacheFile": "c.m3u8",
        "StartTimeStamp": now - 60_000, "EndTimeStamp": now - 20_000}}}});
    // The file first, then who was in the room, and last of all when the room was made; all of it twice.
    for _ in 0..2 {
        bench.tell(&file).await;
        bench.tell(&event(103, now - 62_000, "cust_9")).await;
        bench.tell(&event(101, now - 63_000, "agent_9")).await;
    }
    let (view, _) = bench.archived("task-of-9").await;
    let began = (now - 63_000) / 1000;
    assert_eq!(view.provider_call_id, format!("1400567890_desk-9_{began}"));
    let parties: Vec<&str> = view
        .parties
        .iter()
        .filter_map(|p| p.id.as_deref())
        .collect();
    assert_eq!(parties, ["agent_9", "cust_9"]);
    let db = &bench.house().db;
    assert_eq!(db.count_recordings().await.unwrap(), 1);
    bench.close().await;
}
