//! FreeSWITCH as `mod_json_cdr`, `mod_xml_cdr` (a document for each leg, by HTTP) and `mod_amqp` (events) tell of calls
//! (pbx-cdr.md, sections 1 and 2).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::*;

/// What `switch_url_encode` leaves as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/');

pub fn letters(pbx: &Pbx, made: &Made) -> Vec<Letter> {
    let options = &pbx.house().options;
    if options.way == Way::Amqp {
        return events(made);
    }
    let as_xml = options.profile == Profile::V3;
    let mut dice = made.call.dice("legs");
    let mut letters = vec![document(made, as_xml, true)];
    if dice.happens(1, 2) || made.call.plan.has(Mishap::OutOfOrder) {
        let at = usize::from(dice.happens(1, 2));
        letters.insert(at, document(made, as_xml, false));
    }
    letters
}

/// The other leg, which nobody recorded.
fn b_leg(call: &Call) -> String {
    uuid(&mut call.dice("b leg"))
}

fn document(made: &Made, as_xml: bool, is_a_leg: bool) -> Letter {
    let call = &made.call;
    let b_leg = b_leg(call);
    let id = if is_a_leg { &call.id } else { &b_leg };
    let mut dice = call.dice(if is_a_leg { "a document" } else { "b document" });
    let (variables, applications) = told(made, id, is_a_leg);
    let encoded = as_xml || dice.happens(2, 3);
    let variables: BTreeMap<_, _> = variables
        .into_iter()
        .map(|(name, value)| match encoded {
            true => (name, utf8_percent_encode(&value, ENCODED).to_string()),
            false => (name, value),
        })
        .collect();
    let profile = profile(call, id);
    let text = if as_xml {
        xml(&variables, &profile, &applications)
    } else {
        json!({
            "core-uuid": "4f1d0b6e-6d1b-4f0c-9d0e-5b7f1a2c3d4e",
            "switchname": "fs01",
            "channel_data": { "state": "CS_REPORTING", "direction": "inbound", "state_number": "11" },
            "callStats": { "audio": { "inbound": { "media_packet_count": 512 } } },
            "variables": variables,
            "app_log": { "applications": applications.iter().map(|(name, data)| json!({
                "app_name": name, "app_data": data, "app_stamp": (call.started_ms * 1000).to_string(),
            })).collect::<Vec<_>>() },
            "callflow": [{ "dialplan": "XML", "profile_index": "1", "caller_profile": profile }],
        })
        .to_string()
    };
    let (mut mime, body) = wrapped(&text, as_xml, dice.below(4));
    if dice.happens(1, 5) {
        // disable-100-continue replaces the header.
        mime = "application/x-www-form-urlencoded";
    }
    let mark = if as_xml && is_a_leg { "a_" } else { "" };
    Letter {
        after_s: 2 + dice.below(3),
        mime,
        body: body.into(),
        query: Some(format!("uuid={mark}{id}")),
        key: id.clone(),
        id: None,
        packed: false,
        carries: is_a_leg,
        beside: None,
    }
}

/// `encode` of both modules' configuration.
fn wrapped(text: &str, as_xml: bool, how: u64) -> (&'static str, Vec<u8>) {
    let form = |value: &str| format!("cdr={value}").into_bytes();
    match (how, as_xml) {
        (0, false) => ("application/json", text.as_bytes().to_vec()),
        (0, true) => ("application/x-www-form-plaintext", form(text)),
        (1, _) => (
            "application/x-www-form-base64-encoded",
            form(&STANDARD.encode(text)),
        ),
        (2, true) => ("text/xml", text.as_bytes().to_vec()),
        _ => (
            "application/x-www-form-urlencoded",
            form(&utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()),
        ),
    }
}

fn numbers(call: &Call) -> (String, String) {
    let mut dice = call.dice("numbers");
    (
        format!("+861390000{}", dice.digits(4)),
        format!("80{}", dice.digits(2)),
    )
}

fn profile(call: &Call, id: &str) -> Value {
    let (caller, callee) = numbers(call);
    json!({
        "username": "1000", "dialplan": "XML", "caller_id_name": "Li Na & Söhne", "caller_id_number": caller,
        "network_addr": "192.0.2.17", "destination_number": callee, "uuid": id,
        "source": "mod_sofia", "context": "public", "chan_name": "sofia/external/1000",
    })
}

type Told = (BTreeMap<&'static str, String>, Vec<(&'static str, String)>);

/// Variables and applications of one leg.
fn told(made: &Made, id: &str, is_a_leg: bool) -> Told {
    let call = &made.call;
    let (caller, callee) = numbers(call);
    let mut dice = call.dice("variables");
    let mut variables = BTreeMap::from([
        ("uuid", id.to_owned()),
        ("call_uuid", call.id.clone()),
        (
            "direction",
            if is_a_leg { "inbound" } else { "outbound" }.to_owned(),
        ),
        ("caller_id_name", "Li Na & Söhne 100%".to_owned()),
        ("caller_id_number", caller),
        ("destination_number", callee),
        ("sip_call_id", format!("{}@192.0.2.17", dice.hex(16))),
        ("hangup_cause", "NORMAL_CLEARING".to_owned()),
        ("duration", (call.talk_s() + 1).to_string()),
        ("billsec", call.talk_s().to_string()),
    ]);
    for (name, ms) in [
        ("start", call.started_ms - 1000),
        ("answer", call.started_ms),
        ("end", call.ended_ms),
    ] {
        let (epoch, exact) = match name {
            "start" => ("start_epoch", "start_uepoch"),
            "answer" => ("answer_epoch", "answer_uepoch"),
            _ => ("end_epoch", "end_uepoch"),
        };
        variables.insert(epoch, (ms / 1000).to_string());
        variables.insert(exact, (ms * 1000).to_string());
    }
    // What did not happen.
    variables.insert("progress_epoch", "0".to_owned());
    let mut applications = vec![
        ("answer", String::new()),
        ("set", "ringback=${us-ring}".to_owned()),
    ];
    if !is_a_leg {
        return (variables, applications);
    }
    if dice.happens(1, 2) {
        variables.insert("RECORD_STEREO", "true".to_owned());
    }
    if call.plan.ending == Ending::Absent {
        variables.insert("RECORD_DISCARDED", "true".to_owned());
        variables.insert("record_completion_cause", "input-too-short".to_owned());
    } else {
        variables.insert("record_seconds", call.talk_s().to_string());
    }
    for (n, sound) in made.sounds.iter().enumerate() {
        let (place, is_url) = match &sound.place {
            Place::File { said, .. } => (said.clone(), false),
            Place::Url(url) => (url.clone(), true),
            Place::Object { key, .. } => (key.clone(), false),
        };
        if made.sounds.len() > 1 {
            applications.push(("record_session", place));
            continue;
        }
        match (dice.below(5), place.rsplit_once('/'), n) {
            (0, Some((folder, name)), 0) if !is_url => {
                variables.insert("record_path", folder.to_owned());
                variables.insert("record_name", name.to_owned());
            }
            (1, ..) if is_url => {
                variables.insert("recording_url", place);
            }
            (1, ..) => {
                variables.insert("cc_record_filename", place);
            }
            (2, ..) => {
                variables.insert("last_app", "record_session".to_owned());
                variables.insert("last_arg", place);
            }
            // With options in front and a time limit behind.
            (3, ..) => applications.push(("record_session", format!("{{x=y}}{place} +3600"))),
            _ => applications.push(("record_session", place)),
        }
    }
    (variables, applications)
}

fn xml(
    variables: &BTreeMap<&str, String>,
    profile: &Value,
    applications: &[(&str, String)],
) -> String {
    let mut text = "<?xml version=\"1.0\"?>\n<cdr core-uuid=\"4f1d0b6e\" switchname=\"fs01\">\n  <channel_data>\
                    <state>CS_REPORTING</state></channel_data>\n  <variables>\n"
        .to_owned();
    for (name, value) in variables {
        text += &format!("    <{name}>{}</{name}>\n", escaped(value));
    }
    text += "  </variables>\n  <app_log>\n";
    for (name, data) in applications {
        text += &format!(
            "    <application app_name=\"{name}\" app_data=\"{}\" app_stamp=\"0\"></application>\n",
            escaped(data)
        );
    }
    text += "  </app_log>\n  <callflow dialplan=\"XML\" profile_index=\"1\"><caller_profile>\n";
    for (name, value) in profile.as_object().into_iter().flatten() {
        let value = escaped(value.as_str().unwrap_or_default());
        text += &format!("    <{name}>{value}</{name}>\n");
    }
    text + "  </caller_profile></callflow>\n</cdr>\n"
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// `RECORD_STOP` of each recording, and `CHANNEL_HANGUP_COMPLETE`.
fn events(made: &Made) -> Vec<Letter> {
    let call = &made.call;
    let (caller, callee) = numbers(call);
    let event = |name: &str, after_s: u64, more: Value| {
        let mut body = json!({
            "Event-Name": name,
            "Core-UUID": "4f1d0b6e-6d1b-4f0c-9d0e-5b7f1a2c3d4e",
            "FreeSWITCH-Hostname": "fs01",
            "Event-Date-Timestamp": (call.ended_ms * 1000).to_string(),
            "Event-Sequence": "1234",
            "Unique-ID": call.id,
            "Channel-Call-UUID": call.id,
            "Caller-Caller-ID-Number": caller,
            "Caller-Caller-ID-Name": "Li Na",
            "Caller-Destination-Number": callee,
            "variable_direction": "inbound",
            "_body": "",
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        Letter {
            after_s,
            mime: "text/json",
            body: body.to_string().into(),
            query: None,
            // #FreeSWITCH, host, event, subclass, id; what is not there is empty.
            key: format!("FreeSWITCH.fs01.{name}..{}", call.id),
            id: None,
            packed: false,
            carries: name == "RECORD_STOP",
            beside: None,
        }
    };
    let mut letters: Vec<Letter> = made
        .sounds
        .iter()
        .map(|sound| {
            let place = match &sound.place {
                Place::File { said, .. } => said.clone(),
                Place::Url(url) => url.clone(),
                Place::Object { key, .. } => key.clone(),
            };
            event(
                "RECORD_STOP",
                1,
                json!({ "Record-File-Path": place, "Record-Completion-Cause": "success-silence" }),
            )
        })
        .collect();
    letters.push(event(
        "CHANNEL_HANGUP_COMPLETE",
        2,
        json!({
            "Hangup-Cause": "NORMAL_CLEARING",
            "Caller-Channel-Created-Time": ((call.started_ms - 1000) * 1000).to_string(),
            "Caller-Channel-Answered-Time": (call.started_ms * 1000).to_string(),
            "Caller-Channel-Hangup-Time": (call.ended_ms * 1000).to_string(),
            "variable_duration": (call.talk_s() + 1).to_string(),
            "variable_billsec": call.talk_s().to_string(),
            "variable_ARRAY": ["a", "b"],
        }),
    ));
    letters
}
