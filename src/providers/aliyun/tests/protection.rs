//! Number protection: what its notices make of a recording, and what is asked for it.

use super::*;
use crate::providers::contract::AskedCall;

const READY: &str = "[{\"pool_key\":\"FC1\",\"call_time\":1709611441000,\"call_id\":\"c1\"}]";

fn keyed() -> Arc<dyn Provider> {
    // Nobody listens there.
    source(&format!("{KEY}base_url.dypls = \"http://127.0.0.1:9\""))
}

fn announced(provider: &dyn Provider, topic: &str, body: &str) -> Vec<Announced> {
    let read = provider.read(&notice(&posted(topic, body.as_bytes())));
    read.unwrap().recordings
}

fn wanted(announced: &Announced) -> Wanted {
    Wanted {
        recording_id: Uuid::nil(),
        provider_call_id: announced.provider_call_id.clone(),
        provider_recording_id: None,
        handle: announced.handle.clone(),
        link: announced.link.clone(),
        call_ended_at: None,
        arrived_at: Timestamp::from_ms(0),
    }
}

#[test]
fn one_call_has_one_recording_whichever_message_tells_of_it() {
    let provider = keyed();
    let ready = announced(&*provider, "SecretRecording", READY);
    let queued = announced(&*provider, "mns:SecretRecording", READY);
    let asked = announced(&*provider, "asked:SecretRecording", READY);
    let record = "{\"call_id\":\"c1\",\"pool_key\":\"FC1\",\"call_time\":\"2024-03-05 12:04:01\",\
                  \"record_url\":\"http://a.aliyuncs.com/r.mp3?Expires=1712203306\",\
                  \"ring_record_url\":\"http://a.aliyuncs.com/s.mp3?Expires=1712203306\"}";
    let told = announced(&*provider, "SecretReport", record);
    assert_eq!(ready[0].aliases, ["c1|record"]);
    for same in [&queued[0], &asked[0]] {
        assert_eq!(ready[0], *same);
    }
    assert_eq!(told[0].aliases, ready[0].aliases);
    assert_eq!(told[0].handle, ready[0].handle);
    assert_eq!(told[0].link_renewable, Some(true));
    // Nobody gives another address of the ringing.
    assert_eq!(told[1].aliases, ["c1|ring"]);
    assert_eq!(told[1].link_renewable, None);
    assert!(told[1].handle.is_null());
    // Without a key nothing can be asked for, and nothing is promised.
    let poor = announced(&*source(""), "SecretRecording", READY);
    assert_eq!(poor[0].link_renewable, None);
    assert!(!source("").capabilities().can_ask && keyed().capabilities().can_ask);
}

#[tokio::test]
async fn an_address_of_the_call_record_serves_while_nobody_answers() {
    let provider = keyed();
    let now = Timestamp::parse(ARRIVED).unwrap();
    let mut announced = announced(&*provider, "SecretRecording", READY).remove(0);
    let error = provider.locate(&wanted(&announced), now).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Unreachable);
    announced.link = Some(Link {
        url: "http://a.aliyuncs.com/r.mp3?Expires=1".to_owned(),
        until: Some(now.plus_ms(1)),
    });
    let ready = provider.locate(&wanted(&announced), now).await.unwrap();
    assert!(matches!(ready, Located::Ready(_)), "{ready:?}");
    let late = provider.locate(&wanted(&announced), now.plus_ms(1)).await;
    assert!(late.is_err());
    // Without a key the address is all there is, and without either the key is missing.
    let poor = source("");
    let ready = poor.locate(&wanted(&announced), now).await.unwrap();
    assert!(matches!(ready, Located::Ready(_)), "{ready:?}");
    announced.link = None;
    let error = poor.locate(&wanted(&announced), now).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::CredentialsRefused);
    assert!(error.detail.contains("access_key_id"), "{error}");
}

#[tokio::test]
async fn only_protected_calls_can_be_asked_for() {
    let provider = keyed();
    let mut call = AskedCall {
        provider_call_id: "1^2".to_owned(),
        aliases: Vec::new(),
        started_at: None,
        ended_at: None,
        custom: serde_json::Map::new(),
    };
    let now = Timestamp::from_ms(0);
    assert_eq!(provider.ask(&call, now).await.unwrap(), []);
    call.custom.insert("pool_key".to_owned(), json!("FC1"));
    call.custom
        .insert("call_time_ms".to_owned(), json!(1_709_611_441_000_i64));
    assert!(provider.ask(&call, now).await.is_err(), "it asks");

    let mut told = CallFacts::new("c1");
    assert_eq!(provider.expected(&told), []);
    told.custom.insert("pool_key".to_owned(), json!("FC1"));
    told.started_at = Some(Timestamp::from_ms(1_709_611_441_000));
    let expected = provider.expected(&told);
    assert_eq!(expected[0].aliases, ["c1|record"]);
    assert!(!expected[0].confirmed && !expected[0].ready_now);
    assert_eq!(source("").expected(&told), []);
}
