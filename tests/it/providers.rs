//! What every kind of provider promises, asked of each in the registry: add a kind and it is held to the same.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use base64::Engine;
use bytes::Bytes;
use callvault::domain::clock::{ManualClock, Timestamp};
use callvault::domain::digest::Sha256;
use callvault::domain::notice::{Door, Notice};
use callvault::providers::contract::{
    Admission, BuildContext, Incoming, Outcome, Provider, ProviderKind, Refusal,
};
use callvault::providers::http::GuardedClient;
use callvault::providers::registry;
use callvault::providers::settings::{CommonSettings, SettingsError};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

/// When the samples arrive.
const NOW: Timestamp = Timestamp::from_ms(1_712_346_600_500);

/// The section of the kind's example: the source's name and its keys without `kind`.
fn example(kind: &dyn ProviderKind) -> (String, toml::Table) {
    let mut file: toml::Table = kind.example().parse().unwrap();
    let mut sources = match file.remove("sources").unwrap() {
        toml::Value::Table(sources) => sources,
        other => panic!("{other:?}"),
    };
    let name = sources.keys().next().unwrap().clone();
    let Some(toml::Value::Table(mut keys)) = sources.remove(&name) else {
        panic!("{name} is no section");
    };
    let written = keys.remove("kind").unwrap();
    assert_eq!(written.as_str(), Some(kind.kind()));
    assert!(file.is_empty() && sources.is_empty(), "one section only");
    (name, keys)
}

fn build(
    kind: &dyn ProviderKind,
    name: &str,
    keys: toml::Table,
) -> Result<Arc<dyn Provider>, SettingsError> {
    let (common, own) = CommonSettings::split(name, &kind.defaults(), keys)?;
    let clock = ManualClock::at(NOW);
    let ctx = BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock);
    registry::build(kind.kind(), common, own, &ctx)
}

/// Each kind, built from its example.
static PROVIDERS: LazyLock<Vec<Arc<dyn Provider>>> = LazyLock::new(|| {
    let built = registry::kinds().iter().map(|kind| {
        let (name, keys) = example(*kind);
        build(*kind, &name, keys).unwrap()
    });
    built.collect()
});

pub fn providers() -> Vec<Arc<dyn Provider>> {
    assert!(!PROVIDERS.is_empty());
    PROVIDERS.clone()
}

fn fixture(path: &str) -> Value {
    let path = format!(
        "{}/tests/fixtures/providers/{path}",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_slice(&std::fs::read(&path).expect(&path)).unwrap()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// The vendor's page's payloads, signed with the key of the example.
fn trtc_samples() -> Vec<Incoming> {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let kind = registry::find("x", "trtc").unwrap();
    let (_, keys) = example(kind);
    let key = keys["callback_key"].as_str().unwrap();
    let vectors = fixture("trtc/vectors.json");
    let payloads = vectors["payloads"].as_array().unwrap();
    // Old applications have no header, and a signature of their own.
    let signed = payloads
        .iter()
        .filter(|v| v["headers"].get("Sign").is_some());
    signed
        .map(|vector| {
            let body = text(vector, "body");
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
            mac.update(body.as_bytes());
            let sign = base64::prelude::BASE64_STANDARD.encode(mac.finalize().into_bytes());
            Incoming {
                method: "POST".to_owned(),
                headers: vec![
                    ("sdkappid".to_owned(), text(vector, "sdk_app_id")),
                    ("sign".to_owned(), sign),
                ],
                body: body.into(),
                ..Incoming::default()
            }
        })
        .collect()
}

/// Authentic messages for the source of the kind's example.
pub fn samples(kind: &str) -> Vec<Incoming> {
    if matches!(kind, "freeswitch" | "asterisk" | "cdr") {
        return pbx_samples(kind);
    }
    let vendor_made = match kind {
        "trtc" => return trtc_samples(),
        "feiyu" => fixture("feiyu/vectors.json")["pushes"].clone(),
        "aliyun" => fixture("aliyun/pushes.json")["pushes"].clone(),
        "vcrtc" => fixture("vcrtc/pushes.json")["pushes"].clone(),
        "yunxin" => return yunxin_samples(),
        "twilio" => return twilio_samples(),
        other => panic!("{other} has no samples: add its fixtures and a line here"),
    };
    let samples: Vec<_> = vendor_made
        .as_array()
        .unwrap()
        .iter()
        .filter(|sample| {
            let is_stored = sample.get("http_status") == Some(&json!(200))
                || sample["expect"]["http_status"] == 200;
            is_stored && sample.get("account") != Some(&json!("v3"))
        })
        .map(|sample| Incoming {
            topic: match sample["path_kind"].as_str() {
                Some("recording_ready") => "recording".to_owned(),
                Some(topic) => topic.to_owned(),
                None => text(sample, "topic"),
            },
            method: sample["method"].as_str().unwrap_or("POST").to_owned(),
            query: text(sample, "query"),
            headers: vec![("content-type".to_owned(), text(sample, "content_type"))],
            body: match sample["body_base64"].as_str() {
                Some(encoded) => base64::prelude::BASE64_STANDARD
                    .decode(encoded)
                    .unwrap()
                    .into(),
                None => text(sample, "body").into(),
            },
        })
        .collect();
    assert!(samples.len() > 5, "{kind}: {}", samples.len());
    samples
}

/// Copies with a right check sum, but for a chat, of which nothing is kept.
fn yunxin_samples() -> Vec<Incoming> {
    let all = fixture("yunxin/vectors.json");
    let groups = ["callback_auth", "payloads"].map(|name| all[name].as_array().unwrap().clone());
    let vectors = groups.concat().into_iter().filter(|vector| {
        vector["expect_valid"] != json!(false)
            && vector["expect"]["event_type"] != json!("1")
            && vector["body"] != json!("")
    });
    let sample = |vector: Value| Incoming {
        method: "POST".to_owned(),
        headers: vector["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect(),
        body: text(&vector, "body").into(),
        ..Incoming::default()
    };
    vectors.map(sample).collect()
}

/// Native records, and messages of our own contract that name the example's source.
fn pbx_samples(kind: &str) -> Vec<Incoming> {
    let vectors = fixture("cdr/pbx.json");
    let list = |name: &str| vectors[name].as_array().unwrap().clone();
    let own = match kind {
        "freeswitch" => list("freeswitch_http"),
        "asterisk" => list("asterisk_cdr_amqp"),
        _ => Vec::new(),
    };
    let messages = list("cdr1").into_iter().enumerate().map(|(n, mut sample)| {
        let body = text(&sample, "body");
        let body = body.replace("hq-pbx", &format!("{kind}-main"));
        sample["body"] = json!(body.replace("ev-1", &format!("ev-{n}")));
        sample
    });
    let is_taken = |sample: &Value| sample["expect"]["result"] != "reject";
    own.into_iter()
        .chain(messages)
        .filter(is_taken)
        .map(|sample| Incoming {
            method: "POST".to_owned(),
            query: text(&sample, "query"),
            headers: vec![("content-type".to_owned(), text(&sample, "content_type"))],
            body: text(&sample, "body").into(),
            ..Incoming::default()
        })
        .collect()
}

/// Callbacks with what was called in `:path`.
fn twilio_samples() -> Vec<Incoming> {
    let all = fixture("twilio/callbacks.json");
    let callbacks = all["callbacks"].as_array().unwrap().iter();
    let sample = |callback: &Value| Incoming {
        topic: String::new(),
        method: text(callback, "method"),
        query: text(callback, "query"),
        headers: callback["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect(),
        body: text(callback, "body").into(),
    };
    callbacks.map(sample).collect()
}

pub fn notice(provider: &dyn Provider, incoming: &Incoming, dedup_key: String) -> Notice {
    Notice {
        notice_id: Uuid::nil(),
        source: provider.name().to_owned(),
        kind: provider.kind().to_owned(),
        door: Door::Push,
        topic: incoming.topic.clone(),
        method: incoming.method.clone(),
        query: incoming.query.clone(),
        headers: incoming.headers.clone(),
        body: incoming.body.to_vec(),
        arrived_at: NOW,
        sha256: Sha256::of(&incoming.body),
        dedup_key,
        unreadable: None,
    }
}

#[test]
fn each_kind_is_found_by_its_name_and_builds_from_its_example() {
    let mut names = BTreeSet::new();
    for (kind, provider) in registry::kinds().iter().zip(providers()) {
        assert_eq!(provider.kind(), kind.kind());
        assert_eq!(provider.name(), example(*kind).0);
        assert!(names.insert(kind.kind()), "{} twice", kind.kind());
        assert!(registry::find("a", kind.kind()).is_ok());
        let plan = provider.waiting_plan();
        assert!(!plan.waits.is_empty() && plan.waits.iter().all(|wait| !wait.is_zero()));
    }
    let error = registry::find("a", "feyu").err().unwrap().to_string();
    assert!(
        error.contains("feiyu") && error.contains("aliyun"),
        "{error}"
    );
}

#[test]
fn topics_can_stand_in_an_address() {
    for provider in providers() {
        let mut names = BTreeSet::new();
        assert!(!provider.topics().is_empty());
        for topic in provider.topics() {
            assert!(names.insert(topic.name), "{} twice", topic.name);
            assert!(
                topic.name.bytes().all(|b| b.is_ascii_alphanumeric()),
                "{}",
                topic.name
            );
            assert!(!topic.what.is_empty());
        }
    }
}

#[test]
fn a_kind_without_signatures_wants_a_token() {
    for (kind, provider) in registry::kinds().iter().zip(providers()) {
        let (name, mut keys) = example(*kind);
        keys.remove("hook_token");
        let built = build(*kind, &name, keys);
        if provider.capabilities().token_required {
            let error = built.unwrap_err().to_string();
            assert!(error.contains("hook_token"), "{error}");
        } else {
            assert!(!built.unwrap().capabilities().token_required);
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for kind in registry::kinds() {
        let (name, mut keys) = example(*kind);
        keys.insert("hook_tokn".to_owned(), "x".into());
        let error = build(*kind, &name, keys).unwrap_err().to_string();
        assert!(
            error.contains("hook_tokn") && error.contains("\"hook_token\""),
            "{error}"
        );
    }
}

#[test]
fn a_repeat_has_the_same_key_whenever_it_comes() {
    for provider in providers() {
        for sample in samples(provider.kind()) {
            let first = provider.admit(&sample, NOW);
            assert!(
                matches!(&first, Admission::Accept { dedup_key, unreadable: None } if !dedup_key.is_empty()),
                "{first:?} for {sample:?}"
            );
            assert_eq!(provider.admit(&sample, NOW), first);
            let in_a_day = NOW.plus_ms(24 * 3600 * 1000);
            assert_eq!(provider.admit(&sample, in_a_day), first, "{sample:?}");
        }
    }
}

/// An element in an array of its own is the element.
fn one_element(fields: &str) -> String {
    match serde_json::from_str::<Value>(fields) {
        Ok(Value::Array(elements)) if elements.len() == 1 => {
            let bare = fields.trim().strip_prefix('[').unwrap();
            bare.strip_suffix(']').unwrap().to_owned()
        }
        _ => fields.to_owned(),
    }
}

#[test]
fn different_messages_have_different_keys() {
    for provider in providers() {
        let mut keys = BTreeSet::new();
        let mut bodies = BTreeSet::new();
        for sample in samples(provider.kind()) {
            // The same fields by another way are the same message.
            // A telephone system's document counts, whatever its address says beside it.
            let query = match provider.capabilities().speaks_cdr {
                true => "",
                false => &sample.query,
            };
            let fields = format!("{query}{}", String::from_utf8_lossy(&sample.body));
            let same = one_element(&fields.replace("%40", "@"));
            if let Admission::Accept { dedup_key, .. } = provider.admit(&sample, NOW) {
                let is_new = bodies.insert((sample.topic.clone(), same));
                assert_eq!(keys.insert(dedup_key), is_new, "{sample:?}");
            }
        }
    }
}

#[test]
fn reading_twice_gives_the_same_facts() {
    for provider in providers() {
        for sample in samples(provider.kind()) {
            let notice = notice(&*provider, &sample, String::new());
            let reading = provider.read(&notice).unwrap();
            assert_eq!(provider.read(&notice).unwrap(), reading);
            let later = Notice {
                notice_id: Uuid::max(),
                ..notice
            };
            assert_eq!(provider.read(&later).unwrap(), reading, "the id is no fact");
            for recording in &reading.recordings {
                assert!(!recording.aliases.is_empty(), "{sample:?}");
                assert!(recording.aliases.iter().all(|alias| !alias.contains('?')));
            }
            let ids = reading.calls.iter().map(|call| &call.provider_call_id);
            let ids = ids.chain(reading.recordings.iter().map(|r| &r.provider_call_id));
            for id in ids {
                assert!((1..=512).contains(&id.len()), "{sample:?}");
            }
            let said = !reading.calls.is_empty() || !reading.unreadable.is_empty();
            assert_ne!(said, reading.ignored.is_some(), "{sample:?}");
        }
    }
}

/// CONTRACTS, section 2: status and body for each outcome.
#[test]
fn answers_are_those_of_the_contract() {
    let problem = |code: &str| json!({ "type": format!("urn:callvault:{code}") });
    use Outcome as O;
    let stored = O::Stored {
        stored: 2,
        repeated: 1,
    };
    let refused = O::Refused;
    for provider in providers() {
        let expected: Vec<(Outcome, u16, Value)> = match provider.kind() {
            "feiyu" => vec![
                (stored, 200, json!({"resultCode": 0, "resultMsg": "ok"})),
                (
                    O::Unreadable,
                    200,
                    json!({"resultCode": 0, "resultMsg": "ok"}),
                ),
                (
                    refused(Refusal::Unusable),
                    400,
                    json!({"resultCode": 900001}),
                ),
                (
                    refused(Refusal::Signature),
                    403,
                    json!({"resultCode": 900002}),
                ),
                (
                    refused(Refusal::UnknownAccount),
                    403,
                    json!({"resultCode": 900003}),
                ),
                (O::Unavailable, 503, json!({"resultCode": 900004})),
            ],
            "aliyun" => vec![
                (stored, 200, json!({"code": 0, "msg": "ok"})),
                (O::Unreadable, 400, json!({"code": 400})),
                (refused(Refusal::UnknownTopic), 404, json!({"code": 404})),
                (O::TooLarge, 413, json!({"code": 413})),
                (O::Unavailable, 503, json!({"code": 503})),
            ],
            "vcrtc" => vec![
                (stored, 200, json!({"stored": 2, "repeated": 1})),
                (refused(Refusal::Unusable), 400, problem("bad_request")),
                (O::TooLarge, 413, problem("too_large")),
                (O::Unavailable, 503, problem("unavailable")),
            ],
            "yunxin" => vec![
                (stored, 200, json!({"code": 200})),
                (O::Unreadable, 200, json!({"code": 200})),
                (refused(Refusal::Signature), 403, json!({"code": 414})),
                (refused(Refusal::UnknownAccount), 403, json!({"code": 414})),
                (O::Unavailable, 503, json!({"code": 500})),
            ],
            "trtc" => vec![
                (stored, 200, json!({"code": 0})),
                (O::Unreadable, 200, json!({"code": 0})),
                (refused(Refusal::Signature), 403, json!({"code": 403})),
                (refused(Refusal::UnknownAccount), 403, json!({"code": 403})),
                (O::TooLarge, 413, json!({"code": 413})),
                (O::Unavailable, 503, json!({"code": 503})),
            ],
            "freeswitch" | "asterisk" | "cdr" => vec![
                (stored, 200, json!({"stored": 2, "repeated": 1})),
                (
                    O::Unreadable,
                    400,
                    json!({"type": "urn:callvault:bad_request", "status": 400}),
                ),
                (O::TooLarge, 413, json!({"type": "urn:callvault:too_large"})),
                (
                    O::Unavailable,
                    503,
                    json!({"type": "urn:callvault:unavailable"}),
                ),
            ],
            "twilio" => vec![
                (stored, 200, Value::Null),
                (O::Unreadable, 200, Value::Null),
                (refused(Refusal::Unusable), 403, Value::Null),
                (refused(Refusal::Signature), 403, Value::Null),
                (refused(Refusal::UnknownAccount), 403, Value::Null),
                (O::Unavailable, 503, Value::Null),
            ],
            other => panic!("{other}: write its answers here, word for word from the contract"),
        };
        for (outcome, status, body) in expected {
            let reply = provider.reply(outcome);
            assert_eq!(reply.status, status, "{outcome:?}");
            if body.is_null() {
                assert_eq!(reply.body, "", "{outcome:?}");
                continue;
            }
            let answer: Value = serde_json::from_str(&reply.body).unwrap();
            for (name, value) in body.as_object().unwrap() {
                assert_eq!(&answer[name], value, "{outcome:?}");
            }
            let is_problem = reply.content_type == "application/problem+json";
            // A code and a text; of two vendors' answers the code alone.
            let is_bare = provider.kind() == "yunxin" || provider.kind() == "trtc" && status == 200;
            let members = if is_bare { 1 } else { 2 };
            let found = answer.as_object().unwrap().len();
            assert!(is_problem || found == members, "{outcome:?}");
        }
        if provider.capabilities().speaks_cdr {
            // It counts, so a repeat has another answer.
            continue;
        }
        let repeated = O::Stored {
            stored: 0,
            repeated: 3,
        };
        // Some answers count what was stored; a vendor that looks for one word sees no difference.
        assert_eq!(
            provider.reply(repeated).status,
            provider.reply(stored).status
        );
        if provider.kind() != "vcrtc" {
            assert_eq!(provider.reply(repeated), provider.reply(stored));
        }
    }
}

#[test]
fn debug_output_shows_no_secret() {
    for (kind, provider) in registry::kinds().iter().zip(providers()) {
        let shown = format!("{provider:?}");
        let (_, keys) = example(*kind);
        for (key, value) in keys {
            let is_secret = key.contains("token") || key.contains("secret");
            if let Some(value) = value.as_str().filter(|_| is_secret) {
                assert!(!shown.contains(value), "{key}");
            }
        }
    }
}

fn any_incoming() -> impl Strategy<Value = (Incoming, bool)> {
    let header = ("[a-z-]{0,12}", "\\PC{0,20}");
    (
        (0..20_usize, "\\PC{0,10}"),
        "[A-Z]{0,5}",
        "\\PC{0,60}",
        proptest::collection::vec(header, 0..4),
        proptest::collection::vec(any::<u8>(), 0..300),
        any::<bool>(),
    )
        .prop_map(|((topic, other), method, query, headers, body, known)| {
            let topic = if known { format!("{topic}") } else { other };
            let incoming = Incoming {
                topic,
                method,
                query,
                headers,
                body: Bytes::from(body),
            };
            (incoming, known)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_make_a_provider_panic((incoming, known) in any_incoming(), now in any::<i64>()) {
        for provider in providers() {
            let mut incoming = incoming.clone();
            if known {
                let topics = provider.topics();
                let index: usize = incoming.topic.parse().unwrap();
                incoming.topic = topics[index % topics.len()].name.to_owned();
            }
            let now = Timestamp::from_ms(now);
            let admission = provider.admit(&incoming, now);
            prop_assert_eq!(&provider.admit(&incoming, now), &admission);
            let notice = notice(&*provider, &incoming, String::new());
            prop_assert_eq!(provider.read(&notice), provider.read(&notice));
        }
    }

    #[test]
    fn no_damage_to_a_real_message_makes_a_provider_panic(
        which in any::<prop::sample::Index>(),
        hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        for provider in providers() {
            let samples = samples(provider.kind());
            let mut incoming = which.get(&samples).clone();
            let mut body = incoming.body.to_vec();
            if body.is_empty() {
                body = incoming.query.clone().into_bytes();
            }
            for (place, byte) in &hits {
                let at = place.index(body.len());
                body[at] = *byte;
            }
            if is_cut {
                body.truncate(cut.index(body.len()));
            }
            incoming.body = body.into();
            let admission = provider.admit(&incoming, NOW);
            let reading = provider.read(&notice(&*provider, &incoming, String::new()));
            // What was let in as readable is readable.
            if matches!(admission, Admission::Accept { unreadable: None, .. }) {
                prop_assert!(reading.is_ok(), "{:?} {:?}", reading, incoming);
            }
        }
    }
}
