//! Every check value that is published with the vendor's page.

use super::super::answer::{Answer, Trouble, is_cut};
use super::super::names::FileName;
use super::super::sign::Signed;
use super::*;

fn vectors() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/providers/trtc/vectors.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn list<'a>(vectors: &'a Value, name: &str) -> &'a Vec<Value> {
    vectors[name].as_array().unwrap()
}

fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap_or_default()
}

fn of_vector(vector: &Value) -> Incoming {
    let headers: Vec<(&str, &str)> = vector["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let mut incoming = posted(&headers, "", text(vector, "body"));
    if let Some(raw) = vector["body_b64"].as_str() {
        use base64::Engine as _;
        let raw = base64::engine::general_purpose::STANDARD
            .decode(raw)
            .unwrap();
        assert_eq!(raw, incoming.body, "the body's two forms");
        incoming.body = raw.into();
    }
    incoming
}

#[test]
fn callbacks_are_authentic_as_the_vectors_say() {
    let vectors = vectors();
    for vector in list(&vectors, "callback_auth") {
        let id = text(vector, "id");
        let provider = built(&format!(
            "sdk_app_id = {}\ncallback_key = \"{}\"",
            text(vector, "sdk_app_id"),
            text(vector, "callback_key")
        ))
        .unwrap();
        let admission = provider.admit(&of_vector(vector), Timestamp::from_ms(ARRIVED));
        let is_valid = matches!(
            admission,
            Admission::Accept {
                unreadable: None,
                ..
            }
        );
        assert_eq!(is_valid, vector["expect_valid"], "{id} {admission:?}");
        if is_valid {
            provider.read(&notice("", &of_vector(vector))).unwrap();
        }
    }
}

#[test]
fn legacy_signs_are_right_for_their_time_and_a_while_longer() {
    let vectors = vectors();
    for vector in list(&vectors, "legacy_sign") {
        let id = text(vector, "id");
        let key = text(vector, "callback_key");
        let t = loose::text(&vector["t"]).unwrap();
        if vector["expect_valid"] == true || vector["expect_with_grace_30_min"] == true {
            assert_eq!(format!("{key}{t}"), text(vector, "joined_text"), "{id}");
            assert_eq!(
                sign::legacy(key, &t),
                text(vector, "sign").to_lowercase(),
                "{id}"
            );
        }
        let body = json!({ "event_type": 1, "t": vector["t"], "sign": vector["sign"] });
        let now = Timestamp::from_ms(vector["now"].as_i64().unwrap() * 1000);
        for (grace, expected) in [("0s", "expect_valid"), ("30m", "expect_with_grace_30_min")] {
            let provider = source(&format!(
                "legacy_key = \"{key}\"\nlegacy_grace = \"{grace}\""
            ));
            let expected = vector.get(expected).unwrap_or(&vector["expect_valid"]);
            let admission = provider.admit(&posted(&[], "", &body.to_string()), now);
            let is_valid = matches!(admission, Admission::Accept { .. });
            assert_eq!(is_valid, *expected, "{id} with {grace}");
        }
    }
}

#[test]
fn requests_are_signed_as_the_vectors_say() {
    let vectors = vectors();
    for vector in list(&vectors, "tc3") {
        let id = text(vector, "id");
        let canonical = text(vector, "canonical_request");
        let headers = &vector["headers"];
        let signed = Signed {
            service: text(vector, "service"),
            host: text(headers, "Host"),
            content_type: text(headers, "Content-Type"),
            action: canonical
                .contains("x-tc-action")
                .then(|| text(headers, "X-TC-Action")),
            payload: text(vector, "payload").as_bytes(),
            timestamp: vector["timestamp"].as_i64().unwrap(),
        };
        assert_eq!(signed.canonical_request(), canonical, "{id}");
        assert_eq!(
            signed.string_to_sign(),
            text(vector, "string_to_sign"),
            "{id}"
        );
        // The vendor's page hides the key of its first example, and prints the signature of the real one.
        let key = text(vector, "secret_key");
        if let Some(expected) = vector["signature"].as_str() {
            assert_eq!(signed.signature(key), expected, "{id}");
        }
        if let Some(expected) = headers["Authorization"]
            .as_str()
            .or(vector["authorization"].as_str())
        {
            assert_eq!(
                signed.authorization(text(vector, "secret_id"), key),
                expected,
                "{id}"
            );
        }
    }
}

#[test]
fn our_own_requests_are_those_of_the_official_sdk() {
    let vectors = vectors();
    let all = list(&vectors, "tc3");
    let of_sdk: Vec<_> = all
        .iter()
        .filter(|v| v["headers"]["Authorization"].is_string())
        .collect();
    assert!(of_sdk.len() >= 9);
    for vector in of_sdk {
        let headers = &vector["headers"];
        let token = headers["X-TC-Token"]
            .as_str()
            .map(|token| format!("token = \"{token}\"\n"));
        let region = headers["X-TC-Region"].as_str().unwrap_or("ap-guangzhou");
        let settings = settings(&format!(
            "secret_id = \"{}\"\nsecret_key = \"{}\"\n{}region = \"{region}\"",
            text(vector, "secret_id"),
            text(vector, "secret_key"),
            token.unwrap_or_default(),
        ));
        let service = match text(vector, "service") {
            "trtc" => ask::TRTC,
            _ => ask::VOD,
        };
        let base = crate::providers::settings::BaseUrl::parse(&format!(
            "https://{}",
            text(headers, "Host")
        ))
        .unwrap();
        let at = Timestamp::from_ms(vector["timestamp"].as_i64().unwrap() * 1000);
        // The payload of the SDK has blanks behind its colons: only the other headers can be compared.
        let payload: Value = serde_json::from_str(text(vector, "payload")).unwrap();
        let action = text(headers, "X-TC-Action");
        let keys = settings.api.as_ref().unwrap();
        let request = ask::request(&settings, keys, service, &base, action, &payload, at);
        let sent = |name: &str| {
            let mut headers = request.headers.iter();
            headers
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
        };
        for name in [
            "Content-Type",
            "X-TC-Action",
            "X-TC-Timestamp",
            "X-TC-Version",
            "X-TC-Region",
            "X-TC-Token",
        ] {
            assert_eq!(
                sent(name),
                headers[name].as_str(),
                "{} {name}",
                vector["id"]
            );
        }
        let ours = Signed {
            service: service.name,
            host: text(headers, "Host"),
            content_type: "application/json",
            action: None,
            payload: &request.body,
            timestamp: vector["timestamp"].as_i64().unwrap(),
        };
        let expected = ours.authorization(keys.secret_id.expose(), keys.secret_key.expose());
        assert_eq!(sent("Authorization"), Some(expected.as_str()));
    }
}

#[test]
fn file_names_are_read_as_the_vectors_say() {
    let vectors = vectors();
    for vector in list(&vectors, "file_names") {
        let id = text(vector, "id");
        let expect = &vector["expect"];
        let name = FileName::of(text(vector, "file_name"));
        let room = match text(vector, "room_id_type") {
            "number" => name.room_raw.clone(),
            _ => name.text_room(),
        };
        let form = match name.mixed {
            Some(true) => "mixed",
            Some(false) => "single",
            None => "opaque",
        };
        let seen = json!({
            "form": form, "user_define_record_id": name.user_define_record_id, "sdk_app_id": name.sdk_app_id,
            "room": room, "user": name.user(), "media_id": name.media_id, "index": name.index,
            "track_type": name.track_type, "mixed": name.mixed, "ext": name.ext,
        });
        for (key, value) in seen.as_object().unwrap() {
            assert_eq!(value, &expect[key], "{id} {key}");
        }
        for (key, raw) in [("room_raw", &name.room_raw), ("user_raw", &name.user_raw)] {
            if let Some(expected) = expect.get(key) {
                assert_eq!(raw.as_deref(), expected.as_str(), "{id} {key}");
            }
        }
    }
}

#[test]
fn payloads_are_read_as_the_vectors_say() {
    let vectors = vectors();
    for vector in list(&vectors, "payloads") {
        let id = text(vector, "id");
        let key = text(vector, "callback_key");
        let provider = built(&format!(
            "sdk_app_id = {APP}\ncallback_key = \"{key}\"\nlegacy_key = \"{key}\"\nhook_token = \"0123456789abcdef\""
        ))
        .unwrap();
        let incoming = of_vector(vector);
        let now = vector["now"].as_i64().map_or(ARRIVED, |s| s * 1000);
        let admission = provider.admit(&incoming, Timestamp::from_ms(now));
        assert!(
            matches!(
                admission,
                Admission::Accept {
                    unreadable: None,
                    ..
                }
            ),
            "{id} {admission:?}"
        );
        let reading = provider.read(&notice("", &incoming)).unwrap();
        let expected = vector["expect"]["recordings"].as_array().unwrap();
        assert_eq!(reading.recordings.len(), expected.len(), "{id} {reading:?}");
        let call = reading.calls.first();
        for (seen, expect) in reading.recordings.iter().zip(expected) {
            let call = call.unwrap();
            assert!(
                seen.aliases
                    .contains(&text(expect, "recording_key").to_owned()),
                "{id} {seen:?}"
            );
            assert_eq!(
                seen.link.as_ref().map(|l| l.url.as_str()),
                expect["url"].as_str(),
                "{id}"
            );
            let own = expect["file_id"].as_str().or(expect["file_name"].as_str());
            assert_eq!(seen.provider_recording_id.as_deref(), own, "{id}");
            let part = match expect.get("track").and_then(Value::as_str) {
                Some("mixed") => Part::Mixed,
                _ => Part::Party,
            };
            assert_eq!(seen.part, part, "{id}");
            let is_ready = expect.get("state").is_none_or(|state| state == "ready");
            assert_eq!(
                (seen.confirmed, seen.ready_now),
                (is_ready, is_ready),
                "{id}"
            );
            if let Some(user) = expect["user"].as_str() {
                assert!(
                    call.parties
                        .iter()
                        .any(|party| party.id.as_deref() == Some(user)),
                    "{id}"
                );
            }
            if let Some(own) = expect.get("user_define_record_id") {
                assert_eq!(call.correlation_ids, [own.as_str().unwrap()], "{id}");
            }
        }
        let times = |name: &'static str| expected.iter().filter_map(move |e| e[name].as_i64());
        if let Some(call) = call {
            let ms = |at: Option<Timestamp>| at.map(Timestamp::ms);
            if let Some(started) = times("started_at_ms").min() {
                assert_eq!(ms(call.started_at), Some(started), "{id}");
                assert_eq!(ms(call.ended_at), times("ended_at_ms").max(), "{id}");
            }
            if let Some(call_id) = vector["expect"].get("call_id") {
                assert_eq!(call.provider_call_id, *call_id, "{id}");
            }
            if let Some(task) = vector["expect"]["task_id"].as_str() {
                let is_named =
                    call.provider_call_id == task || call.aliases.iter().any(|a| a == task);
                assert!(is_named, "{id}");
            }
        }
        for event in vector["expect"]["events"].as_array().unwrap() {
            event_is_read(id, event, &vector["expect"], &reading);
        }
    }
}

/// One of the vectors' events, in the facts of our reading.
fn event_is_read(id: &str, event: &Value, expect: &Value, reading: &Reading) {
    let at = Timestamp::from_ms(expect["event_ms"].as_i64().unwrap());
    let call = reading.calls.first();
    match text(event, "kind") {
        "room_created" => {
            let call = call.unwrap();
            assert_eq!(call.started_at, Some(at), "{id}");
            assert_eq!(call.provider_call_id, "1400567890_20222_1700000100", "{id}");
            assert!(call.place.as_ref().unwrap().opens, "{id}");
        }
        "room_closed" => {
            assert_eq!(call.unwrap().ended_at, Some(at), "{id}");
            assert!(call.unwrap().parties.is_empty(), "{id}");
        }
        kind @ ("user_in" | "audio_on" | "user_out") => {
            let leg = &call.unwrap().legs[0];
            assert_eq!(leg.provider_leg_id, text(event, "user"), "{id}");
            let moment = match kind {
                "user_in" => leg.started_at,
                "audio_on" => leg.answered_at,
                _ => leg.ended_at,
            };
            assert_eq!(moment, Some(at), "{id}");
            if kind == "user_out" {
                assert_eq!(leg.hangup_cause, loose::text(&event["reason"]), "{id}");
            }
        }
        "recorder_started" => assert_eq!(
            call.unwrap().custom["recorder_status"],
            event["status"],
            "{id}"
        ),
        "recorder_stopped" => {
            assert_eq!(
                call.unwrap().custom["recorder_leave_code"],
                event["leave_code"],
                "{id}"
            );
        }
        "vod_upload_end" => assert_eq!(
            call.unwrap().custom["vod_upload_status"],
            event["status"],
            "{id}"
        ),
        "other" => assert!(
            reading.ignored.is_some() && reading.calls.is_empty(),
            "{id}"
        ),
        other => panic!("{id}: no reading of {other}"),
    }
}

#[test]
fn answers_are_read_as_the_vectors_say() {
    let vectors = vectors();
    for vector in list(&vectors, "api_answers") {
        let id = text(vector, "id");
        let expect = &vector["expect"];
        let answer = Answer::of(200, text(vector, "body").as_bytes());
        let trouble = match &answer {
            Answer::Error { trouble, .. } => Some(*trouble),
            _ => None,
        };
        match text(expect, "outcome") {
            "ok" => {
                let Answer::Ok(response) = answer else {
                    panic!("{id} {answer:?}");
                };
                let found: Vec<Media> = items(&response, "MediaInfoSet")
                    .filter_map(Media::of)
                    .collect();
                if let Some(count) = expect["items"].as_u64() {
                    assert_eq!(found.len() as u64, count, "{id}");
                }
                let ids = |is_ready: bool| -> Vec<&str> {
                    let of = found.iter().filter(|media| media.is_ready() == is_ready);
                    of.map(|media| media.file_id.as_str()).collect()
                };
                if expect.get("ready").is_some() {
                    assert_eq!(json!(ids(true)), expect["ready"], "{id}");
                    assert_eq!(json!(ids(false)), expect["not_ready"], "{id}");
                }
                if expect.get("gone").is_some() {
                    assert_eq!(response["NotExistFileIdSet"], expect["gone"], "{id}");
                }
            }
            "split_window" => match answer {
                Answer::Ok(response) => assert!(is_cut(&response), "{id}"),
                other => panic!("{id} {other:?}"),
            },
            "rate_limited" => assert_eq!(trouble, Some(Trouble::Throttled), "{id}"),
            "auth" if expect["retry"] == "none" => {
                assert_eq!(trouble, Some(Trouble::Credentials), "{id}");
            }
            "auth" => assert_eq!(trouble, Some(Trouble::Clock), "{id}"),
            "task_finished" => assert_eq!(trouble, Some(Trouble::TaskOver), "{id}"),
            "server_error" => assert_eq!(trouble, Some(Trouble::Server), "{id}"),
            "config" => assert_eq!(trouble, Some(Trouble::Configuration), "{id}"),
            other => panic!("{id}: no reading of {other}"),
        }
    }
}

/// Whether two readings' recordings have a name in common: then they are one row.
fn is_one(one: &Reading, other: &Reading) -> bool {
    let names = |reading: &Reading| reading.recordings[0].aliases.clone();
    names(one).iter().any(|name| names(other).contains(name))
}

#[test]
fn sequences_come_to_one_recording() {
    let vectors = vectors();
    let provider = source("");
    let payload = |id: &str| {
        let found = list(&vectors, "payloads")
            .iter()
            .find(|v| v["id"] == id)
            .unwrap();
        (
            of_vector(found),
            provider.read(&notice("", &of_vector(found))).unwrap(),
        )
    };
    let ids: Vec<&str> = list(&vectors, "sequences")
        .iter()
        .map(|v| text(v, "id"))
        .collect();
    assert_eq!(
        ids,
        [
            "tc-seq-001",
            "tc-seq-002",
            "tc-seq-003",
            "tc-seq-004",
            "tc-seq-005"
        ]
    );
    // 001: the same message again.
    let (incoming, single) = payload("tc-pl-008");
    assert_eq!(key_of(&*provider, &incoming), key_of(&*provider, &incoming));
    // 002: the failed file is named by its CacheFile; the later event has both names.
    let (_, failed) = payload("tc-pl-010");
    let mut later: Value = serde_json::from_slice(&incoming.body).unwrap();
    let told = &mut later["EventInfo"]["Payload"]["TencentVod"];
    told["UserId"] = json!("cust_2208");
    told["CacheFile"] = json!("1400567890_ZGVzay0xNw.._UserId_s_Y3VzdF8yMjA4_UserId_e_main.aac");
    told["FileId"] = json!("5285890812345678905");
    let later = read(&*provider, &later);
    assert!(is_one(&failed, &later) && later.recordings[0].confirmed);
    assert!(!is_one(&failed, &single));
    // 003: the room's events are facts of a call, whatever comes first.
    let (_, room) = payload("tc-pl-001");
    assert!(room.recordings.is_empty() && room.calls.len() == 1);
    // 004: the call kit's callback tells of the same file.
    let (_, wrapped) = payload("tc-pl-016");
    assert!(is_one(&single, &wrapped));
    assert!(
        wrapped.calls[0]
            .aliases
            .contains(&single.calls[0].provider_call_id)
    );
    // 005 is played against the simulator: an address that is not ready yet (`not_ready`).
}
