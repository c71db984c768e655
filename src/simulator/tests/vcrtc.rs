//! The meeting platform: what it tells of a recording and when, what it refuses, and how long sessions live.

use serde_json::json;

use super::*;

const RECORDS: &str = "/meeting/getRecords";

impl World {
    /// A question with the right key, and these headers besides.
    async fn meeting(&self, page: &str, body: Value, headers: &[(&str, &str)]) -> Got {
        let mut request = http::Request::post(format!("{}{page}", self.setting("api_server")))
            .header("content-type", "application/json");
        if !headers.iter().any(|(name, _)| *name == "auth") {
            request = request.header("auth", self.setting("auth_value"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        ask(request.body(Full::from(body.to_string())).unwrap()).await
    }

    async fn code_of(&self, page: &str, body: Value, headers: &[(&str, &str)]) -> String {
        let got = self.meeting(page, body, headers).await;
        let text = got.text().replace(",]", "]").replace(",}", "}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        match &answer["code"] {
            Value::String(code) => code.clone(),
            code => code.to_string(),
        }
    }

    /// The entry of this recording, whatever else the answer holds.
    async fn entry(&self, id: &str) -> Option<Value> {
        let got = self.meeting(RECORDS, json!({ "recordId": id }), &[]).await;
        let text = got.text().replace(",]", "]").replace(",}", "}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let entries = match answer["data"].clone() {
            Value::Array(entries) => entries,
            one => vec![one],
        };
        entries.into_iter().find(|entry| entry["recordId"] == id)
    }
}

fn size(entry: &Value) -> u64 {
    match &entry["fileSize"] {
        Value::String(text) => text.parse().unwrap(),
        number => number.as_f64().unwrap() as u64,
    }
}

#[tokio::test]
async fn a_recording_grows_until_its_file_is_there() {
    let world = played(VendorKind::Vcrtc, |options| options.speed = 2e4).await;
    let line = world.line(0);
    let id = line.provider_recording_id.clone().unwrap();
    assert_eq!(line.provider_call_id, id);
    let seen = world.customer.seen();
    let told: Value = serde_json::from_str(&seen[0].body).unwrap();
    assert_eq!(told["recordId"], id.as_str());
    // The clock stands still while the meeting is played, so its entry is not there yet.
    assert_eq!(world.entry(&id).await, None);
    world.clock.advance_ms(1);
    let entry = world.entry(&id).await.unwrap();
    assert_eq!((size(&entry), &entry["stopTime"]), (0, &json!("")));
    world.clock.advance_ms(3);
    let growing = size(&world.entry(&id).await.unwrap());
    assert!(growing < line.bytes.unwrap(), "{growing}");
    world.clock.advance_ms(3);
    let entry = world.entry(&id).await.unwrap();
    assert_eq!(Some(size(&entry)), line.bytes);
    let address = entry["downUrl"].as_str().unwrap().to_owned();
    assert!(address.contains("%2B") && address.contains("/x="));
    assert_is(&line, &get(&address, &[]).await);
    // The signature covers the very bytes of the query.
    let other = address.replace("%2B", "+");
    assert_eq!(get(&other, &[]).await.status, StatusCode::FORBIDDEN);
    // Seven days are 30 s here.
    world.clock.advance_ms(31_000);
    let late = get(&address, &[]).await;
    assert_eq!(late.status, StatusCode::FORBIDDEN);
    assert!(late.text().contains("<Code>AccessDenied</Code>"));
    let renewed = world.entry(&id).await.unwrap();
    let address = renewed["downUrl"].as_str().unwrap();
    assert_is(&line, &get(address, &[]).await);
}

#[tokio::test]
async fn the_platform_refuses_what_the_manual_says() {
    let world = played(VendorKind::Vcrtc, |_| ()).await;
    let room = |room: &str| json!({ "conferenceKey": room });
    let id = json!({ "recordId": world.line(0).provider_recording_id });
    let wrong: &[_] = &[("auth", "of-another-tenant")];
    assert_eq!(world.code_of(RECORDS, id.clone(), wrong).await, "403");
    let status = "/meeting/getLiveRecStatus";
    assert_eq!(world.code_of(status, room("4711"), &[]).await, "200008");
    assert_eq!(world.code_of(status, room("1866"), &[]).await, "200");
    let open = "/meeting/openRecord";
    assert_eq!(world.code_of(open, room("1866"), &[]).await, "200006");
    let close = "/meeting/closeRecord";
    assert_eq!(world.code_of(close, room("1866"), &[]).await, "200007");
    assert_eq!(world.code_of(RECORDS, json!(7), &[]).await, "400");
    let delete = "/meeting/delRecordFile";
    assert_eq!(world.code_of(delete, id.clone(), &[]).await, "200");
    assert_eq!(world.code_of(delete, id.clone(), &[]).await, "200010");
    world.clock.advance_ms(1000);
    let id = id["recordId"].as_str().unwrap();
    assert_eq!(world.entry(id).await, None, "deleted");
}

#[tokio::test]
async fn a_session_of_the_dedicated_cloud_ends() {
    use base64::Engine as _;
    let world = played(VendorKind::Vcrtc, |options| {
        options.profile = Profile::V3;
        options.speed = 1000.0;
        options.calls = 0;
    })
    .await;
    let login = &world.config["login"];
    let (account, password) = (
        login["account"].as_str().unwrap(),
        login["password"].as_str().unwrap(),
    );
    let page = "/api/v3/app/user/login/verify_user.shtml";
    let server = world.setting("api_server");
    let mut body = json!({
        "account": account, "pwd": "wrong", "plat_type": "webrtcios",
        "host": server.trim_start_matches("http://"), "login_url": format!("{server}{page}"),
    });
    let refused = world.meeting(page, body.clone(), &[]).await;
    assert_eq!(refused.status, StatusCode::OK);
    assert!(refused.json()["results"].is_string());
    body["pwd"] = password.into();
    let taken = world.meeting(page, body, &[]).await.json();
    let session = taken["results"]["session_id"].as_str().unwrap();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("archive:{password}"));
    let basic = format!("x-cloud-basic {basic}");
    let headers = [
        ("sessionId", session),
        ("X-Cloud-Authorization", &basic),
        ("Authorization", &basic),
    ];
    let status = "/meeting/getLiveRecStatus";
    let room = json!({ "conferenceKey": "1866" });
    assert_eq!(world.code_of(status, room.clone(), &[]).await, "403");
    assert_eq!(world.code_of(status, room.clone(), &headers).await, "200");
    // Three minutes are 180 ms here.
    world.clock.advance_ms(181);
    assert_eq!(world.code_of(status, room, &headers).await, "403");
}
