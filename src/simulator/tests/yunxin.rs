//! Yunxin: what its servers check, and what they answer of files.

use serde_json::json;

use super::*;

const QUERY: &str = "/nimserver/history/queryMediaFileByChannelId.action";
const VIDEO: &str = "/app/vod/video/get";

impl World {
    async fn asked(&self, path: &str, mime: &str, body: &str, time_s: i64) -> Got {
        let (nonce, time) = ("n-1", time_s.to_string());
        let sum = sign::yunxin_question(self.setting("app_secret"), nonce, &time);
        let url = format!("http://{}{path}", self.vendor.addr());
        let request = http::Request::post(url)
            .header("AppKey", self.setting("app_key"))
            .header("Nonce", nonce)
            .header("CurTime", time)
            .header("CheckSum", sum)
            .header("Content-Type", mime);
        ask(request.body(Full::from(body.to_owned())).unwrap()).await
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json;charset=utf-8";

#[tokio::test]
async fn a_question_needs_a_fresh_check_sum_and_the_right_content_type() {
    let world = played(VendorKind::Yunxin, |_| ()).await;
    let line = world.line(0);
    let now_s = NOW / 1000;
    let by_channel = format!("channelId={}", line.provider_call_id);
    let vid: u64 = line
        .provider_recording_id
        .as_ref()
        .unwrap()
        .parse()
        .unwrap();
    let by_vid = json!({ "vid": vid }).to_string();
    for (path, mime, body, time, code) in [
        (QUERY, FORM, by_channel.as_str(), now_s, 200),
        (QUERY, FORM, by_channel.as_str(), now_s - 299, 200),
        (QUERY, FORM, by_channel.as_str(), now_s - 301, 414),
        // Milliseconds are for the copies.
        (QUERY, FORM, by_channel.as_str(), NOW, 414),
        (QUERY, FORM, "", now_s, 414),
        (VIDEO, JSON, by_vid.as_str(), now_s, 200),
        (VIDEO, FORM, by_vid.as_str(), now_s, 414),
        (VIDEO, JSON, "{\"vid\":7}", now_s, 404),
    ] {
        let got = world.asked(path, mime, body, time).await;
        assert_eq!(
            got.json()["code"],
            code,
            "{path} {mime} {body}: {}",
            got.text()
        );
    }
    let files = world.asked(QUERY, FORM, &by_channel, now_s).await.json();
    let files = files["fileInfos"].as_array().unwrap().clone();
    assert_eq!(files.len(), world.vendor.ledger().len());
    let nobodys = world.asked(QUERY, FORM, "channelId=1", now_s).await.json();
    assert!(nobodys["fileInfos"].is_null());
    let ret = world.asked(VIDEO, JSON, &by_vid, now_s).await.json()["ret"].clone();
    let got = get(ret["downloadOrigUrl"].as_str().unwrap(), &[]).await;
    assert_is(&line, &got);
}

#[tokio::test]
async fn a_dead_address_is_refused_and_another_one_is_given() {
    let world = played(VendorKind::Yunxin, |options| {
        options.only = vec!["link_expired".to_owned()]
    })
    .await;
    let seen = world.customer.seen();
    assert_eq!(seen[0].body, "{}", "the address is checked first");
    let told: Vec<String> = seen
        .iter()
        .filter_map(|seen| serde_json::from_str::<Value>(&seen.body).ok())
        .filter_map(|body| match body["fileinfo"].as_str() {
            Some(list) => serde_json::from_str::<Value>(list).ok()?[0]["url"]
                .as_str()
                .map(str::to_owned),
            None => body["data"]["url"].as_str().map(str::to_owned),
        })
        .collect();
    let dead = get(&told[0], &[]).await;
    assert_eq!(dead.status, StatusCode::FORBIDDEN);
    let unsigned = told[0].split_once('?').unwrap().0;
    assert_eq!(get(unsigned, &[]).await.status, StatusCode::FORBIDDEN);
    let forged = told[0].replace("Expires=17", "Expires=27");
    assert!(
        get(&forged, &[])
            .await
            .text()
            .contains("SignatureDoesNotMatch")
    );
}
