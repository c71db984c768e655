//! Questions against a vendor that answers from a script: windows, other ids, errors beside results.

use std::sync::Mutex;

use axum::Router;
use axum::extract::{Request, State};

use super::*;
use crate::domain::clock::SystemClock;

type Script = dyn Fn(&str, &Value) -> Value + Send + Sync;

/// A provider whose vendor answers with `script`, and what the vendor was asked.
async fn scripted(
    script: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
) -> (Arc<dyn Provider>, Arc<Mutex<Vec<(String, Value)>>>) {
    #[derive(Clone)]
    struct Desk(Arc<Script>, Arc<Mutex<Vec<(String, Value)>>>);
    async fn answer(State(desk): State<Desk>, request: Request) -> String {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let action = head.headers["x-tc-action"].to_str().unwrap().to_owned();
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let answer = (desk.0)(&action, &asked);
        desk.1.lock().unwrap().push((action, asked));
        json!({ "Response": answer }).to_string()
    }
    let asked = Arc::new(Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new()
        .fallback(answer)
        .with_state(Desk(Arc::new(script), asked.clone()));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let keys = format!(
        "sdk_app_id = {APP}\ncallback_key = \"{KEY}\"\nsecret_id = \"AKID\"\nsecret_key = \"s\"\nsub_app_id = 15\n\
         requests_per_second = 1000\nbase_url.trtc = \"{url}\"\nbase_url.vod = \"{url}\""
    );
    let (common, own) =
        CommonSettings::split("trtc-main", &TrtcKind.defaults(), keys.parse().unwrap()).unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let ctx = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    (TrtcKind.build(common, own, &ctx).unwrap(), asked)
}

fn item(file_id: &str, room: &str, task: &str, created: &str) -> Value {
    json!({"FileId": file_id, "BasicInfo": {"Name": format!("{file_id}.aac"), "CreateTime": created,
        "ExpireTime": "9999-12-31T23:59:59Z", "MediaUrl": format!("https://1.vod-qcloud.com/{file_id}.aac"),
        "SourceInfo": {"SourceType": "TrtcRecord", "TrtcRecordInfo":
            {"SdkAppId": 1_400_567_890, "RoomId": room, "TaskId": task, "UserIds": ["a"]}}},
        "MetaData": {"Size": 7, "Duration": 60.0}})
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

#[tokio::test]
async fn a_window_that_is_cut_is_halved_until_every_part_is_whole() {
    // One file a second for three hours: 10 800, of which the vendor counts 5000.
    let begin = at("2024-03-05T00:00:00Z").ms() / 1000;
    let (provider, asked) = scripted(move |_, asked| {
        let second = |name: &str| at(asked["CreateTime"][name].as_str().unwrap()).ms() / 1000;
        let (after, before) = (
            second("After").max(begin),
            second("Before").min(begin + 10_800),
        );
        let offset = asked["Offset"].as_i64().unwrap();
        let limit = asked["Limit"].as_i64().unwrap();
        assert!(offset + limit <= 5000, "beyond what the vendor gives");
        let all: Vec<i64> = (after..before).collect();
        let page = all.iter().skip(offset as usize).take(limit as usize);
        let items: Vec<Value> = page
            .map(|second| item(&format!("f{second}"), "r", "t", "2024-03-05T00:00:00Z"))
            .collect();
        json!({ "TotalCount": all.len().min(5000), "MediaInfoSet": items })
    })
    .await;
    let window = Window {
        from: at("2024-03-04T22:00:00Z"),
        to: at("2024-03-05T04:00:00Z"),
    };
    let mut seen = std::collections::HashSet::new();
    let mut page = None;
    for _ in 0..400 {
        let got = provider
            .list(window, page.as_deref(), Timestamp::from_ms(ARRIVED))
            .await
            .unwrap();
        seen.extend(got.told.into_iter().map(|told| told.dedup_key));
        page = got.next;
        if page.is_none() {
            break;
        }
    }
    assert_eq!(page, None, "the list has an end");
    assert_eq!(seen.len(), 10_800);
    let first = &asked.lock().unwrap()[0].1;
    assert_eq!(first["SubAppId"], 15);
    assert_eq!(first["TrtcSdkAppIds"], json!([1_400_567_890]));
    assert_eq!(first["SourceTypes"], json!(["TrtcRecord"]));
}

fn wanted(handle: Value) -> Wanted {
    Wanted {
        recording_id: Uuid::nil(),
        provider_call_id: "t".to_owned(),
        provider_recording_id: None,
        handle,
        link: None,
        call_ended_at: None,
        arrived_at: Timestamp::from_ms(0),
    }
}

#[tokio::test]
async fn an_answer_about_another_file_is_no_answer() {
    let (provider, _) = scripted(|_, asked| match asked["FileIds"][0].as_str() {
        Some("mine") => {
            json!({ "MediaInfoSet": [item("other", "r", "t", "2024-03-05T00:00:00Z")] })
        }
        Some("null") => json!({ "MediaInfoSet": null, "NotExistFileIdSet": null }),
        Some("lost") => json!({ "MediaInfoSet": [], "NotExistFileIdSet": ["lost"] }),
        Some("alien") => json!({ "MediaInfoSet": [], "NotExistFileIdSet": ["other"] }),
        Some("both") => json!({ "MediaInfoSet": [item("both", "r", "t", "2024-03-05T00:00:00Z")],
            "Error": {"Code": "AuthFailure.SignatureFailure", "Message": "no"} }),
        _ => json!({ "MediaInfoSet": [item("here", "r", "t", "2024-03-05T00:00:00Z")] }),
    })
    .await;
    let now = Timestamp::from_ms(ARRIVED);
    let locate = async |id: &str| {
        provider
            .locate(&wanted(json!({ "file_ids": [id] })), now)
            .await
    };
    for id in ["mine", "null", "alien"] {
        assert_eq!(
            locate(id).await.unwrap(),
            Located::NotReady { code: None },
            "{id}"
        );
    }
    assert!(matches!(
        locate("lost").await.unwrap(),
        Located::Gone { .. }
    ));
    // The file may be on its way: an early "does not exist", asked because the address gave nothing, is no loss.
    let asked_early = async |after_s: i64| {
        let young = Wanted {
            arrived_at: now.plus_ms(-after_s * 1000),
            ..wanted(json!({ "file_ids": ["lost"], "legacy": after_s == 298 }))
        };
        provider.locate(&young, now).await.unwrap()
    };
    let code = Some("NotExistFileIdSet".to_owned());
    for after_s in [0, 298, 299] {
        let code = code.clone();
        assert_eq!(asked_early(after_s).await, Located::NotReady { code });
    }
    assert_eq!(asked_early(300).await, Located::Gone { code });
    let error = locate("both").await.unwrap_err();
    assert_eq!(
        error.kind,
        ProviderErrorKind::CredentialsRefused,
        "the error wins"
    );
    assert!(
        matches!(locate("here").await.unwrap(), Located::Ready(address) if address.url.ends_with("here.aac"))
    );
}

#[tokio::test]
async fn the_call_of_a_room_gets_its_own_files_and_not_those_of_the_next_life() {
    let (provider, asked) = scripted(|action, _| match action {
        "DescribeRoomInfo" => json!({ "Total": 2, "RoomList": [
            {"CommId": "x", "RoomString": "desk-17", "CreateTime": 1_709_596_800, "DestroyTime": 1_709_596_920, "IsFinished": true},
            {"CommId": "y", "RoomString": "desk-17", "CreateTime": 1_709_618_400, "DestroyTime": 1_709_618_500, "IsFinished": true}] }),
        _ => json!({ "TotalCount": 4, "MediaInfoSet": [
            item("mine", "desk-17", "t1", "2024-03-05T00:03:00Z"),
            item("next", "desk-17", "t2", "2024-03-05T06:03:00Z"),
            item("other", "desk-18", "t3", "2024-03-05T00:03:00Z"),
            json!({ "FileId": null })] }),
    })
    .await;
    let call = AskedCall {
        provider_call_id: "1400567890_desk-17_1709596800".to_owned(),
        aliases: Vec::new(),
        started_at: None,
        ended_at: None,
        custom: serde_json::Map::new(),
    };
    let news = provider
        .ask(&call, Timestamp::from_ms(ARRIVED))
        .await
        .unwrap();
    assert_eq!(news.len(), 1, "{news:?}");
    let body: Value = serde_json::from_slice(&news[0].body).unwrap();
    let reading = told(&*provider, &news[0].topic, &body);
    assert_eq!(
        reading.recordings[0].provider_recording_id.as_deref(),
        Some("mine")
    );
    assert_eq!(reading.calls[0].provider_call_id, call.provider_call_id);
    assert!(reading.calls[0].aliases.contains(&"t1".to_owned()));
    assert_eq!(
        asked.lock().unwrap()[1].1["TrtcRoomIds"],
        json!(["desk-17"])
    );
}

#[test]
fn an_object_beside_its_playlist_is_signed_and_no_other_one() {
    let provider = source(
        "cos = { bucket = \"rec-1250000000\", region = \"ap-guangzhou\", prefix = \"/calls/\", secret_id = \"AKID\", secret_key = \"s\" }",
    );
    let now = Timestamp::from_ms(ARRIVED);
    let handle = json!({ "task": "task/1", "cos_names": ["a b.m3u8"] });
    let located = futures::executor::block_on(provider.locate(&wanted(handle), now)).unwrap();
    let Located::Ready(playlist) = located else {
        panic!("{located:?}");
    };
    let base = "https://rec-1250000000.cos.ap-guangzhou.myqcloud.com";
    assert_eq!(playlist.url, format!("{base}/calls/task/1/a%20b.m3u8"));
    assert!(playlist.headers[0].1.contains("q-header-list=host&"));
    let beside = |url: &str| provider.beside(&playlist, url.to_owned(), now).headers;
    assert_ne!(
        beside(&format!("{base}/calls/task/1/s1.ts")),
        playlist.headers
    );
    assert_eq!(beside(&format!("{base}/calls/task/1/s1.ts")).len(), 1);
    for other in [
        format!("{base}/calls/task/2/s1.ts"),
        format!("{base}/payroll.xlsx"),
        "https://elsewhere.example/calls/task/1/s1.ts".to_owned(),
        "http://rec-1250000000.cos.ap-guangzhou.myqcloud.com/calls/task/1/s1.ts".to_owned(),
    ] {
        assert!(beside(&other).is_empty(), "{other}");
    }
    assert!(!format!("{playlist:?}").contains("q-signature"));
}
