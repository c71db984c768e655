//! Asterisk's call records as `cdr_amqp` writes them, with the column that FreePBX-like systems add
//! (pbx-cdr.md, section 3).

use chrono::{DateTime, FixedOffset};
use serde_json::{Value, json};

use super::*;

/// `<epoch>.<n>`, of which both records of a call have one.
pub fn unique_id(seed: u64, index: u64) -> String {
    format!(
        "{}.{}",
        1_700_000_000 + seed % 10_000_000 + index * 61,
        2 * index
    )
}

/// The record of the recorded leg, and now and then another of the same call.
pub fn letters(made: &Made) -> Vec<Letter> {
    let mut dice = made.call.dice("records");
    let by_ami = dice.happens(1, 4);
    let mut letters = vec![letter(made, &record(made, true, by_ami), true)];
    if dice.happens(1, 2) || made.call.plan.has(Mishap::OutOfOrder) {
        letters.insert(0, letter(made, &record(made, false, false), false));
    }
    letters
}

fn letter(made: &Made, record: &Value, carries: bool) -> Letter {
    Letter {
        after_s: if carries { 3 } else { 1 },
        mime: "application/json",
        body: record.to_string().into(),
        query: None,
        key: made.call.id.clone(),
        id: None,
        packed: false,
        carries,
        beside: None,
    }
}

fn record(made: &Made, is_first: bool, by_ami: bool) -> Value {
    let call = &made.call;
    let mut dice = call.dice("numbers");
    let (caller, callee) = (
        format!("+861390000{}", dice.digits(4)),
        format!("80{}", dice.digits(2)),
    );
    let name = dice.pick(&["Li Na", "Zoë \\\"Z\\\" Ng", "王伟"]);
    let sound = made.sounds.first();
    let place = sound.map(|sound| match &sound.place {
        Place::File { said, .. } => said.clone(),
        Place::Url(url) => url.clone(),
        Place::Object { key, .. } => key.clone(),
    });
    // A column of its own, or the customer's field where a place looks like one.
    let is_name = place
        .as_deref()
        .is_some_and(|p| !p.starts_with('/') && !p.contains("://"));
    let in_column = is_name || dice.happens(1, 2);
    if by_ami {
        return json!({
            "Event": "Cdr",
            "Source": caller,
            "Destination": callee,
            "CallerID": format!("\"{name}\" <{caller}>"),
            "StartTime": wall(call.started_ms),
            "AnswerTime": wall(call.started_ms + 1000),
            "EndTime": wall(call.ended_ms),
            "Duration": call.talk_s().to_string(),
            "BillableSeconds": call.talk_s().to_string(),
            "Disposition": "ANSWERED",
            "UniqueID": call.id,
            "LinkedID": call.id,
            "UserField": place.filter(|_| !is_name || !in_column).unwrap_or_default(),
            "recordingfile": sound.filter(|_| in_column).map(|sound| match &sound.place {
                Place::File { said, .. } => said.clone(),
                Place::Url(url) => url.clone(),
                Place::Object { key, .. } => key.clone(),
            }),
        });
    }
    let mut record = json!({
        "clid": format!("\"{name}\" <{caller}>"),
        "src": caller,
        "dst": callee,
        "dcontext": "from-trunk",
        "channel": "PJSIP/trunk-0000001a",
        "dstchannel": "PJSIP/8001-0000001b",
        "lastapp": if is_first { "Dial" } else { "Queue" },
        "lastdata": "PJSIP/8001,30,t",
        "start": iso(call.started_ms),
        // Nobody answered the other leg.
        "answer": if is_first { iso(call.started_ms + 1000) } else { iso(0) },
        "end": iso(call.ended_ms),
        "durationsec": call.talk_s(),
        "billsec": if is_first { call.talk_s() } else { 0 },
        "disposition": if is_first { "ANSWERED" } else { "NO ANSWER" },
        "accountcode": "",
        "amaflags": "DOCUMENTATION",
        "peeraccount": "",
        "linkedid": call.id,
    });
    if is_first {
        record["uniqueid"] = json!(call.id);
        record[if in_column {
            "recordingfile"
        } else {
            "userfield"
        }] = json!(place);
    }
    record
}

fn shanghai(ms: i64) -> Option<DateTime<FixedOffset>> {
    let zone = FixedOffset::east_opt(8 * 3600)?;
    Some(DateTime::from_timestamp_millis(ms)?.with_timezone(&zone))
}

/// With milliseconds, and an offset without a colon.
fn iso(ms: i64) -> String {
    let at = shanghai(ms).unwrap_or_default();
    at.format("%Y-%m-%dT%H:%M:%S%.3f%z").to_string()
}

/// As the manager's event writes it: the machine's own time, and no zone.
fn wall(ms: i64) -> String {
    let at = shanghai(ms).unwrap_or_default();
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
