//! Everything of vectors.json, which the vendor's own packages made, reproduced by our signatures and readers.

use serde_json::Value;

use super::super::mns::{self, Mns};
use super::super::pop::{Key, Pop, Scheme};
use super::super::token::Token;
use super::super::{sign, xml};
use crate::domain::clock::{ManualClock, Timestamp};
use crate::domain::secret::Secret;
use crate::providers::api::Api;
use crate::providers::contract::BuildContext;
use crate::providers::http::GuardedClient;
use crate::providers::settings::BaseUrl;
use std::sync::Arc;
use std::time::Duration;

fn vectors() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/providers/aliyun/vectors.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn cases(section: &str, least: usize) -> Vec<Value> {
    let cases = vectors()[section].as_array().unwrap().clone();
    assert!(cases.len() >= least, "{section}: {}", cases.len());
    cases
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_default()
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let members = value.as_object().into_iter().flatten();
    members
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

fn borrowed(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
}

#[test]
fn percent_encoding_is_the_vendors() {
    for case in cases("percent_encoding", 12) {
        assert_eq!(sign::percent_encode(text(&case, "in")), text(&case, "out"));
    }
}

#[test]
fn rpc_signatures_are_the_vendors() {
    for case in cases("pop_rpc_hmac_sha1", 9) {
        let name = text(&case, "name");
        let mut params = pairs(&case["query_params"]);
        params.extend(pairs(&case["form_params"]));
        let query = sign::canonical_query(borrowed(&params));
        assert_eq!(query, text(&case, "canonicalized_query"), "{name}");
        let string = sign::rpc_string(text(&case, "method"), &query);
        assert_eq!(string, text(&case, "string_to_sign"), "{name}");
        let signature = sign::rpc(text(&case, "access_key_secret"), &string);
        assert_eq!(signature, text(&case, "signature"), "{name}");
        assert_eq!(
            sign::percent_encode(&signature),
            text(&case, "signature_percent_encoded"),
            "{name}"
        );
    }
}

#[test]
fn acs3_signatures_are_the_vendors() {
    for case in cases("acs3_hmac_sha256", 5) {
        let name = text(&case, "name");
        let params = pairs(&case["query_params"]);
        let query = sign::canonical_query(borrowed(&params));
        assert_eq!(query, text(&case, "canonical_query"), "{name}");
        let (request, names) = sign::acs3_request(
            text(&case, "method"),
            &query,
            &pairs(&case["headers"]),
            text(&case, "body").as_bytes(),
        );
        assert_eq!(request, text(&case, "canonical_request"), "{name}");
        let string = sign::acs3_string(&request);
        assert_eq!(string, text(&case, "string_to_sign"), "{name}");
        let authorization = sign::acs3(
            text(&case, "access_key_id"),
            text(&case, "access_key_secret"),
            &string,
            &names,
        );
        assert_eq!(authorization, text(&case, "authorization"), "{name}");
    }
}

#[test]
fn queue_signatures_are_the_vendors_in_all_habits() {
    for case in cases("mns_hmac_sha1", 16) {
        let name = text(&case, "name");
        let string = sign::mns_string(
            text(&case, "method"),
            &pairs(&case["headers"]),
            text(&case, "request_target"),
        );
        assert_eq!(string, text(&case, "string_to_sign"), "{name}");
        let authorization = sign::mns(
            text(&case, "access_key_id"),
            text(&case, "access_key_secret"),
            &string,
        );
        assert_eq!(authorization, text(&case, "authorization"), "{name}");
    }
    for case in cases("published_examples", 1) {
        let signed = sign::mns(
            text(&case, "access_key_id"),
            text(&case, "access_key_secret"),
            text(&case, "string_to_sign"),
        );
        let signature = signed.rsplit_once(':').unwrap().1;
        assert_eq!(signature, text(&case, "computed_signature"));
        assert!(signature.starts_with(text(&case, "published_prefix")));
    }
}

#[test]
fn answers_of_the_queue_read_as_the_vendors_client_reads_them() {
    for case in cases("mns_response_decoding", 12) {
        let name = text(&case, "name");
        let root = xml::parse(text(&case, "xml").as_bytes()).unwrap();
        let decoded = &case["decoded"];
        let same = |pairs: &[(&str, &str)]| {
            for (element, member) in pairs {
                let wanted = match &decoded[*member] {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                assert_eq!(root.text_of(element), wanted, "{name}: {element}");
            }
        };
        match text(&case, "kind") {
            "messages" | "message" => {
                let nodes = if root.name == "Messages" {
                    root.children
                } else {
                    vec![root]
                };
                let wanted = match decoded {
                    Value::Array(wanted) => wanted.clone(),
                    one => vec![one.clone()],
                };
                assert_eq!(nodes.len(), wanted.len(), "{name}");
                for (node, wanted) in nodes.iter().zip(wanted) {
                    assert_eq!(node.text_of("MessageId"), text(&wanted, "message_id"));
                    let message = mns::message(node, Timestamp::from_ms(1_709_611_506_000));
                    assert_eq!(message.hidden_for, Some(Duration::from_secs(30)), "{name}");
                    assert_eq!(
                        mns::decoded(&message.body).unwrap(),
                        text(&wanted, "body_utf8"),
                        "{name}"
                    );
                    for (member, value) in [
                        ("receipt_handle", Value::from(message.receipt.as_str())),
                        ("dequeue_count", Value::from(message.dequeue_count)),
                    ] {
                        if let Some(wanted) = wanted.get(member) {
                            assert_eq!(*wanted, value, "{name}: {member}");
                        }
                    }
                }
            }
            "error" => same(&[
                ("Code", "code"),
                ("Message", "message"),
                ("RequestId", "request_id"),
                ("HostId", "host_id"),
            ]),
            "batch_delete_errors" => {
                assert_eq!(root.name, "Errors");
                for (error, wanted) in root
                    .children
                    .iter()
                    .zip(decoded["errors"].as_array().unwrap())
                {
                    for member in ["ErrorCode", "ErrorMessage", "ReceiptHandle"] {
                        assert_eq!(error.text_of(member), text(wanted, member), "{name}");
                    }
                }
                assert_eq!(root.children.len(), 2);
            }
            "change_visibility" => same(&[
                ("ReceiptHandle", "receipt_handle"),
                ("NextVisibleTime", "next_visible_time_ms"),
            ]),
            "send" => same(&[
                ("MessageId", "message_id"),
                ("MessageBodyMD5", "message_body_md5"),
            ]),
            other => panic!("{name}: {other}"),
        }
    }
}

/// An API of nobody, at the vectors' moment.
fn api() -> (Api, Arc<ManualClock>) {
    let clock = ManualClock::at(Timestamp::from_ms(1_709_611_506_000));
    let client = Arc::new(GuardedClient::new(clock.clone()));
    let common = super::source("").common().clone();
    (
        BuildContext::local(client, clock.clone()).api(&common),
        clock,
    )
}

#[test]
fn what_goes_out_is_signed_as_the_vendors_packages_sign_it() {
    let (api, clock) = api();
    let nonce = vectors()["fixed"]["nonce"].as_str().unwrap().to_owned();
    let case = cases("acs3_hmac_sha256", 5).pop().unwrap();
    assert_eq!(text(&case, "name"), "minimal_headers_odd_characters");
    let pop = Pop {
        api: api.clone(),
        clock: clock.clone(),
        key: Key {
            id: text(&case, "access_key_id").to_owned(),
            secret: Secret::new(text(&case, "access_key_secret")),
        },
        scheme: Scheme::Acs3,
        region: "cn-hangzhou".to_owned(),
    };
    let params = pairs(&case["query_params"]);
    let params: Vec<(&str, &str)> = borrowed(&params).collect();
    let base = BaseUrl::parse("https://dyvmsapi.aliyuncs.com").unwrap();
    let now = Timestamp::from_ms(1_709_611_506_000);
    let request = pop.acs3(&base, "QueryCallDetailByCallId", &params, &nonce, now);
    let sent = |name: &str| {
        let found = request.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(sent("authorization"), case["authorization"].as_str());
    assert_eq!(
        request.path_and_query,
        format!("/?{}", text(&case, "canonical_query"))
    );
    // The older scheme: what is signed is what is sent, and nothing is signed that is not.
    let request = pop.rpc("QueryCallDetailByCallId", &params, &nonce, now);
    let query = request.path_and_query.strip_prefix("/?").unwrap();
    let (signed, signature) = query.rsplit_once("&Signature=").unwrap();
    let expected = sign::rpc(
        text(&case, "access_key_secret"),
        &sign::rpc_string("POST", signed),
    );
    assert_eq!(signature, sign::percent_encode(&expected));
    assert!(signed.contains("&Timestamp=2024-03-05T04%3A05%3A06Z&"));
    assert!(!format!("{pop:?} {request:?}").contains("testAccessKeySecret"));

    let mns = Mns {
        api,
        clock,
        base,
        wait: Duration::from_secs(10),
    };
    let case = cases("mns_hmac_sha1", 16).remove(0);
    assert_eq!(text(&case, "name"), "batch_receive_long_poll");
    let key = Key {
        id: text(&case, "access_key_id").to_owned(),
        secret: Secret::new(text(&case, "access_key_secret")),
    };
    let token = Token::of(key, Secret::new(text(&case, "security_token")), now);
    let target = text(&case, "request_target").to_owned();
    let request = mns.request(http::Method::GET, target, "", &token);
    for (name, value) in pairs(&case["headers"]) {
        if name != "host" {
            assert!(request.headers.contains(&(name.clone(), value)), "{name}");
        }
    }
    let authorization = text(&case, "authorization").to_owned();
    assert!(
        request
            .headers
            .contains(&("authorization".to_owned(), authorization))
    );
    assert!(!format!("{token:?}").contains("CAIS"));
}

#[test]
fn a_body_is_json_or_base64_of_it_and_nothing_else() {
    for (body, expected) in [
        (" {\"a\":1} \n", Some("{\"a\":1}")),
        ("[1]", Some("[1]")),
        ("eyJhIjoxfQ==", Some("{\"a\":1}")),
        ("eyJhIjoxfQ", None),
        ("/wD/", None),
        ("hello world", None),
        ("", Some("")),
    ] {
        assert_eq!(mns::decoded(body).ok().as_deref(), expected, "{body:?}");
    }
}
