//! Messages of the project's own contract, `cdr/1` (pbx-cdr.md, section 4).

use chrono::{DateTime, FixedOffset, SecondsFormat};
use serde_json::{Value, json};

use super::*;

/// The call's end, that the recording is being made, and what became of it.
pub fn letters(pbx: &Pbx, made: &Made) -> Vec<Letter> {
    let call = &made.call;
    let mut dice = call.dice("messages");
    let way = pbx.house().options.way;
    let mut letters = vec![letter(
        made,
        message(made, "call.ended", &[]),
        "call.ended",
        2,
    )];
    let is_seen = dice.happens(1, 3) && call.plan.ending == Ending::Archived;
    if is_seen || call.plan.ending == Ending::Lost {
        letters.push(letter(
            made,
            message(
                made,
                "recording.processing",
                &recordings(made, "processing"),
            ),
            "recording.processing",
            4,
        ));
    }
    let (event, state) = match call.plan.ending {
        Ending::Absent => ("recording.absent", "absent"),
        // Deleted by somebody, or said to be there and never there.
        Ending::Lost if dice.happens(1, 2) || !pbx.waits_for_the_end() => {
            ("recording.deleted", "deleted")
        }
        _ => ("recording.ready", "ready"),
    };
    let mut last = letter(
        made,
        message(made, event, &recordings(made, state)),
        event,
        10,
    );
    last.carries = true;
    let by_file = |sound: &Sound| matches!(sound.place, Place::File { .. });
    if way == Way::Folder && state == "ready" {
        if let [
            Sound {
                place: Place::File { path, .. },
                ..
            },
        ] = made.sounds.as_slice()
            && dice.happens(1, 2)
        {
            // The file lies beside the message, which need not name it.
            last.body = message(made, event, &[]).to_string().into();
            last.beside = Some(path.clone());
        } else if let Some(Sound {
            place: Place::File { path, .. },
            ..
        }) = made.sounds.iter().find(|sound| by_file(sound))
        {
            last.beside = Some(path.clone());
        }
        letters.push(last);
    } else if way == Way::Http && dice.happens(1, 4) && call.plan.mishaps.is_empty() {
        // A batch, a message on each line.
        let first = letters.remove(0);
        last.body = [&first.body[..], b"\n", &last.body[..], b"\n"]
            .concat()
            .into();
        last.mime = "application/x-ndjson";
        letters.push(last);
    } else {
        letters.push(last);
    }
    for letter in &mut letters {
        letter.packed = matches!(way, Way::Amqp | Way::Nats) && dice.happens(1, 4);
    }
    letters
}

fn letter(made: &Made, message: Value, event: &str, after_s: u64) -> Letter {
    Letter {
        after_s,
        mime: "application/json",
        id: message["event_id"].as_str().map(str::to_owned),
        body: message.to_string().into(),
        query: None,
        key: format!("{}.{event}", made.call.id),
        packed: false,
        carries: false,
        beside: None,
    }
}

fn message(made: &Made, event: &str, recordings: &[Value]) -> Value {
    let call = &made.call;
    let mut dice = call.dice("facts");
    let after_ms = match event {
        "call.ended" => 0,
        "recording.processing" => 1000,
        _ => 2000,
    };
    json!({
        "spec": dice.pick(&["cdr/1", "cdr/1.2"]),
        "event_id": format!("{}:{event}", call.id),
        "event_type": event,
        "occurred_at": rfc3339(call.ended_ms + after_ms),
        "source": { "provider": "acme-pbx", "account": "acme", "host": "node-1" },
        "call": {
            "id": call.id,
            "direction": dice.pick(&["inbound", "outbound", "internal"]),
            "caller": { "number": format!("+861390000{}", dice.digits(4)), "name": "Li Na" },
            "callee": { "number": format!("80{}", dice.digits(2)) },
            "started_at": rfc3339(call.started_ms),
            "answered_at": rfc3339(call.started_ms + 500),
            "ended_at": rfc3339(call.ended_ms),
            // Numbers as text are numbers too.
            "duration_s": (call.ended_ms - call.started_ms) as f64 / 1000.0,
            "billable_s": call.talk_s().to_string(),
            "disposition": "answered",
            // "It will come", of what will not, would make a loss of it.
            "recorded": (call.plan.ending != Ending::Absent).then_some(true),
        },
        "recordings": recordings,
        "attributes": { "queue": "sales", "ticket": dice.below(10_000) },
        "later": { "members": ["that", "nobody", "knows", "yet"] },
    })
}

fn recordings(made: &Made, state: &str) -> Vec<Value> {
    use sha2::Digest as _;
    let mut dice = made.call.dice("recordings");
    let told = made.sounds.iter().map(|sound| {
        let mut told = json!({ "id": sound.id, "state": state, "container": "wav" });
        if state != "ready" {
            return told;
        }
        told["locator"] = match &sound.place {
            Place::File { said, .. } => json!({ "type": "file", "host": "node-1", "path": said }),
            Place::Url(url) => json!({ "type": "url", "url": url, "method": "GET" }),
            Place::Object { bucket, key } => {
                json!({ "type": "object", "bucket": bucket, "key": key, "version": "1" })
            }
        };
        if dice.happens(1, 2) {
            told["size_bytes"] = json!(sound.audio.bytes.len());
        }
        if dice.happens(1, 3) {
            told["sha256"] = json!(hex::encode(sha2::Sha256::digest(&sound.audio.bytes)));
        }
        told
    });
    told.collect()
}

fn rfc3339(ms: i64) -> String {
    let zone = FixedOffset::east_opt(8 * 3600);
    let at = DateTime::from_timestamp_millis(ms)
        .zip(zone)
        .map(|(at, zone)| at.with_timezone(&zone));
    at.unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, false)
}
