//! Every signature of the vendor's own library, and what callbacks, lists and answers come to.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use super::pages::{Next, next_page};
use super::signature::{Algorithm, Signed, Signing};
use super::*;
use crate::domain::clock::ManualClock;
use crate::domain::digest::Sha256;
use crate::domain::notice::Door;
use crate::domain::secret::Secret;
use crate::providers::http::GuardedClient;

const NOW: Timestamp = Timestamp::from_ms(1_709_626_500_000);
const MAIN: &str = "AC0123456789abcdef0123456789abcdef";
const SUB: &str = "ACabcdef0123456789abcdef0123456789";
const RE: &str = "RE00112233445566778899aabbccddeeff";
const CA: &str = "CAfedcba9876543210fedcba9876543210";

fn vectors() -> Vec<Value> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/providers/twilio/vectors.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vectors = all["vectors"].as_array().unwrap().clone();
    assert!(vectors.len() >= 34);
    vectors
}

fn vector(id: &str) -> Value {
    let found = vectors().into_iter().find(|vector| vector["id"] == id);
    found.unwrap()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or_default()
}

fn header<'a>(vector: &'a Value, name: &str) -> Option<&'a str> {
    vector["headers"].get(name).and_then(Value::as_str)
}

#[test]
fn every_signature_is_judged_as_the_vendors_library_does() {
    for vector in vectors() {
        let signing = Signing::of(header(&vector, "X-Twilio-Webhooks-Signature-Settings"));
        let secret = Secret::new(text(&vector, "secret"));
        let signed = Signed {
            url: text(&vector, "url"),
            content_type: header(&vector, "Content-Type").unwrap_or_default(),
            body: text(&vector, "body").as_bytes(),
        };
        let given = header(&vector, "X-Twilio-Signature").unwrap();
        let fits =
            signing.is_some_and(|signing| signed.is_by(&[&secret], signing.algorithm, given));
        assert_eq!(json!(fits), vector["expect_valid"], "{}", vector["id"]);
    }
}

#[test]
fn the_header_names_key_and_hash_in_any_dress() {
    let of = |text: &str| Signing::of(Some(text));
    let signing = of(" key = k1 , algorithm = hmac_sha256 ").unwrap();
    assert_eq!(signing.key.as_deref(), Some("k1"));
    assert_eq!(signing.algorithm, Algorithm::Sha256);
    for sha1 in ["", "algorithm=", "key=k1,algorithm=,", "more=x"] {
        assert_eq!(of(sha1).unwrap().algorithm, Algorithm::Sha1, "{sha1}");
    }
    assert_eq!(of("algorithm=HMAC_MD5"), None);
}

fn source(more: &str, public_url: Option<&str>) -> Result<Twilio, SettingsError> {
    let vector = vector("tw-002");
    let sub = vector_secret("tw-022");
    let keys = format!(
        "hook_token = \"0123456789abcdef\"\naccount_sid = \"{MAIN}\"\nwebhook_secrets = [\"old-one\", \"{}\"]\n\
         shared_keys = {{ webhooks_sharedkey_01 = \"{}\" }}\nsubaccounts = {{ {SUB} = {{ webhook_secrets = [\"{sub}\"] }} }}\n{more}",
        text(&vector, "secret"),
        vector_secret("tw-040"),
    );
    let kind = TwilioKind;
    let (common, own) = CommonSettings::split("tw", &kind.defaults(), keys.parse().unwrap())?;
    let clock = ManualClock::at(NOW);
    let ctx = BuildContext {
        public_url: public_url.map(str::to_owned),
        ..BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock)
    };
    let settings = Settings::read(own, &common.name, ctx.public_url.clone())?;
    Ok(Twilio {
        rest: Rest::new(ctx.api(&common), ctx.clock.clone(), &settings),
        news: News::default(),
        common,
        settings,
    })
}

fn vector_secret(id: &str) -> String {
    text(&vector(id), "secret").to_owned()
}

/// A vector as our web server would hand it over: what was called stands in `:path`.
fn incoming(vector: &Value, host: &str) -> Incoming {
    let url = text(vector, "url");
    let (_, rest) = url.split_once("://").unwrap();
    let path = &rest[rest.find('/').unwrap()..];
    let mut headers = vec![
        (":path".to_owned(), path.to_owned()),
        ("host".to_owned(), host.to_owned()),
    ];
    for (name, value) in vector["headers"].as_object().unwrap() {
        headers.push((
            name.to_ascii_lowercase(),
            value.as_str().unwrap().to_owned(),
        ));
    }
    Incoming {
        topic: String::new(),
        method: text(vector, "method").to_owned(),
        query: path.split_once('?').map_or("", |(_, q)| q).to_owned(),
        headers,
        body: Bytes::from(text(vector, "body").to_owned()),
    }
}

#[test]
fn callbacks_are_let_in_by_the_public_address_and_the_accounts_own_secret() {
    let twilio = source("", Some("https://rec.example.test/")).unwrap();
    let admit = |id: &str| twilio.admit(&incoming(&vector(id), "10.0.0.7:8080"), NOW);
    for id in ["tw-002", "tw-003", "tw-022", "tw-023", "tw-040"] {
        assert!(matches!(admit(id), Admission::Accept { .. }), "{id}");
    }
    for id in ["tw-007", "tw-019", "tw-020", "tw-041", "tw-050", "tw-052"] {
        assert_eq!(admit(id), Admission::Refuse(Refusal::Signature), "{id}");
    }
    // Right by its signature, and of nobody's account, or of no account at all.
    for id in ["tw-016", "tw-030"] {
        assert_eq!(
            admit(id),
            Admission::Refuse(Refusal::UnknownAccount),
            "{id}"
        );
    }
    // A key that is not configured is not replaced by the account's token.
    let mut unknown_key = incoming(&vector("tw-002"), "");
    unknown_key.headers.push((
        "x-twilio-webhooks-signature-settings".to_owned(),
        "key=k9".to_owned(),
    ));
    let refused = Admission::Refuse(Refusal::Signature);
    assert_eq!(twilio.admit(&unknown_key, NOW), refused);
    // Without a public address the request's own host counts, behind TLS or not.
    let local = source("", None).unwrap();
    let called = |host| local.admit(&incoming(&vector("tw-002"), host), NOW);
    assert!(matches!(
        called("rec.example.test"),
        Admission::Accept { .. }
    ));
    assert_eq!(called("evil.example"), refused);
    assert_eq!(
        twilio.reply(Outcome::Refused(Refusal::Signature)).status,
        403
    );
}

fn notice(topic: &str, query: &str, body: &[u8]) -> Notice {
    Notice {
        notice_id: uuid::Uuid::nil(),
        source: "tw".to_owned(),
        kind: KIND.to_owned(),
        door: Door::Push,
        topic: topic.to_owned(),
        method: "POST".to_owned(),
        query: query.to_owned(),
        headers: vec![],
        sha256: Sha256::of(body),
        body: body.to_vec(),
        arrived_at: NOW,
        dedup_key: String::new(),
        unreadable: None,
    }
}

#[test]
fn a_completed_recording_is_announced_and_an_absent_one_is_closed() {
    let twilio = source("", None).unwrap();
    let body = text(&vector("tw-002"), "body").to_owned();
    let reading = twilio.read(&notice("", "", body.as_bytes())).unwrap();
    let by_get = twilio.read(&notice("", &body, b"")).unwrap();
    assert_eq!(by_get, reading, "the same fields by the other method");
    let call = &reading.calls[0];
    assert_eq!(call.provider_call_id, CA);
    assert_eq!(call.started_at, Timestamp::parse("2024-03-05T08:15:02Z"));
    assert_eq!(call.duration_ms, Some(187_000));
    assert!(!call.custom.contains_key("RecordingUrl"));
    let recording = &reading.recordings[0];
    assert!(recording.confirmed && recording.ready_now);
    assert_eq!(recording.provider_recording_id.as_deref(), Some(RE));
    assert_eq!(recording.handle["channels"], 2);

    let body = text(&vector("tw-003"), "body").to_owned();
    let reading = twilio.read(&notice("", "", body.as_bytes())).unwrap();
    let recording = &reading.recordings[0];
    assert!(!recording.confirmed);
    assert_eq!(recording.handle["closed"], "absent 16101");
    assert_eq!(reading.calls[0].duration_ms, None, "-1 is no length");

    let odd = body.replace("absent", "exploded");
    let reading = twilio.read(&notice("", "", odd.as_bytes())).unwrap();
    assert!(reading.ignored.unwrap().contains("exploded"));
}

#[test]
fn a_calls_facts_have_numbers_and_times() {
    let twilio = source("", None).unwrap();
    let call = json!({
        "sid": CA, "from": "+14155550100", "to": "+18005550199", "direction": "outbound-dial", "status": "completed",
        "start_time": "Tue, 05 Mar 2024 09:15:00 +0100", "end_time": "Tue, 05 Mar 2024 08:18:20 +0000",
        "duration": "200", "recording_sid": RE, "parent_call_sid": null,
    });
    let reading = twilio
        .read(&notice(reading::CALL, "", call.to_string().as_bytes()))
        .unwrap();
    let call = &reading.calls[0];
    assert!(call.is_cdr);
    assert_eq!(call.caller.as_deref(), Some("+14155550100"));
    assert_eq!(call.started_at, Timestamp::parse("2024-03-05T08:15:00Z"));
    assert_eq!(
        call.direction,
        Some(crate::domain::call::Direction::Outbound)
    );
    assert_eq!(reading.recordings[0].handle["call_told"], true);
}

#[test]
fn a_page_leads_to_the_next_one_and_nowhere_else() {
    let settings = source("", None).unwrap().settings;
    let this = "/2010-04-01/Accounts/AC/Recordings.json?PageSize=2";
    let next = |uri: Value| {
        let page = json!({ "next_page_uri": uri });
        next_page(page.as_object().unwrap(), this, &settings)
    };
    let second = format!("{this}&Page=1&PageToken=PA1");
    assert_eq!(next(json!(second)), Next::Page(second.clone()));
    let absolute = format!("https://api.twilio.com{second}");
    assert_eq!(next(json!(absolute)), Next::Page(second));
    assert_eq!(next(Value::Null), Next::None);
    assert_eq!(next(json!(this)), Next::Wrong("page_loop"));
    for foreign in [
        "https://evil.example/x",
        "//evil.example/x",
        "x",
        "https://api.twilio.com.evil/x",
    ] {
        assert_eq!(
            next(json!(foreign)),
            Next::Wrong("next_page_host"),
            "{foreign}"
        );
    }
}

#[test]
fn a_list_entry_is_told_without_its_addresses() {
    let entry = json!({
        "sid": RE, "account_sid": MAIN, "call_sid": null, "conference_sid": "CF0011223344556677889900aabbccddee",
        "status": "completed", "duration": "187", "channels": 2, "error_code": null,
        "start_time": "Tue, 05 Mar 2024 08:15:02 +0000", "encryption_details": { "encryption_iv": "x" },
        "media_url": "https://api.twilio.com/x?sign=secret", "uri": "/x",
    });
    let told = pages::told(entry.as_object().unwrap());
    assert!(!String::from_utf8_lossy(&told.body).contains("secret"));
    let twilio = source("", None).unwrap();
    let reading = twilio.read(&notice(&told.topic, "", &told.body)).unwrap();
    let call = &reading.calls[0];
    assert_eq!(call.provider_call_id, "CF0011223344556677889900aabbccddee");
    assert!(call.custom["encryption_details"].is_object());
    assert_eq!(reading.recordings[0].handle["listed"], true);
}

#[test]
fn a_wrong_setting_says_which_and_what_to_do() {
    for (more, key) in [
        ("external_storage = \"adopt\"", "external_storage"),
        ("max_concurrency = 0", "max_concurrency"),
        ("retry_plan = []", "retry_plan"),
        ("auth = { user = \"a:b\", password = \"x\" }", "auth"),
        ("prefer = \"ogg\"", "prefer"),
        ("public_base_url = \"https://x\"", "public_base_url"),
    ] {
        let error = source(more, None).unwrap_err();
        assert_eq!(error.key, key, "{more}: {error}");
    }
    let kind = TwilioKind;
    let build = |keys: &str| {
        let (common, own) = CommonSettings::split("tw", &kind.defaults(), keys.parse().unwrap())?;
        Settings::read(own, &common.name, None)
    };
    let error = build("account_sid = \"AC1\"\nwebhook_secrets = [\"x\"]").unwrap_err();
    assert_eq!(error.key, "account_sid");
    let error = build(&format!("account_sid = \"{MAIN}\"")).unwrap_err();
    assert_eq!(error.key, "webhook_secrets");
    let shown = format!("{:?}", source("", None).unwrap());
    assert!(!shown.contains("old-one") && !shown.contains(&vector_secret("tw-002")));
}
