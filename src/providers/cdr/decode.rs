//! From a body to messages: which format it is, whose call it speaks of, and the key of its repeats.

use serde_json::Value;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;
use crate::providers::accounts::Accounts;

use super::message::{self, Message};
use super::settings::{Decoder, Settings};
use super::{asterisk, body, freeswitch, json};

/// Messages in one body; more is no batch, it is a flood.
const MOST_LINES: usize = 1000;

/// Whose call a message speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    Ours,
    /// Of another configured source.
    Other(String),
}

#[derive(Debug)]
pub struct Decoded {
    /// The reason, for a line of a batch that is none.
    pub message: Result<Message, String>,
    pub whose: Whose,
    pub dedup_key: String,
    pub body: Vec<u8>,
}

pub fn key_of_bytes(body: &[u8]) -> String {
    format!("sha256:{}", Sha256::of(body).hex())
}

/// The messages of a body; the error is the stable reason why there are none.
pub fn decode(
    kind: &str,
    source: &str,
    settings: &Settings,
    accounts: &Accounts,
    body: &[u8],
    now: Timestamp,
) -> Result<Vec<Decoded>, String> {
    let own = |message: Message| Decoded {
        message: Ok(message),
        whose: Whose::Ours,
        dedup_key: key_of_bytes(body),
        body: body.to_vec(),
    };
    let unwrapped = body::unwrapped(body)?;
    let record = || {
        let record = body::read(&unwrapped, settings.encoded_values)?;
        freeswitch::record(&record, &settings.recording_variables)
    };
    let decoder = match (settings.decoder, kind) {
        (Some(decoder), _) => Some(decoder),
        (None, "cdr") => Some(Decoder::Cdr1),
        (None, _) => None,
    };
    match decoder {
        Some(Decoder::Cdr1) => return lines(source, settings, accounts, body, now),
        Some(Decoder::FreeswitchCdr) => return record().map(|message| vec![own(message)]),
        Some(Decoder::FreeswitchEvent | Decoder::Asterisk) | None => {}
    }
    if unwrapped.starts_with(b"<") {
        return record().map(|message| vec![own(message)]);
    }
    let parsed = json::parse(&unwrapped).map_err(|fault| match fault {
        json::Fault::NotJson => "not_json",
        json::Fault::TooDeep => "too_deep",
    });
    let root = match parsed {
        Ok(document) => document.value,
        // Several lines are no JSON value, and may each be one.
        Err(_) if is_batch(body, |line| message::parse(line, now).is_ok()) => {
            return lines(source, settings, accounts, body, now);
        }
        Err(why) => return Err(why.to_owned()),
    };
    let Value::Object(members) = &root else {
        return Err("not_json".to_owned());
    };
    let is_asterisk = decoder == Some(Decoder::Asterisk) || kind == "asterisk";
    let message = if members.contains_key("spec") {
        return lines(source, settings, accounts, body, now);
    } else if decoder == Some(Decoder::FreeswitchEvent) || members.contains_key("Event-Name") {
        freeswitch::event(&root)
    } else if is_asterisk {
        asterisk::record(&root, body, settings.time_zone)
    } else {
        record()
    };
    message.map(|message| vec![own(message)])
}

/// Several lines, of which two begin as objects do or one is a message: of one message over many lines none is.
fn is_batch(body: &[u8], is_message: impl Fn(&[u8]) -> bool) -> bool {
    let lines = || {
        let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty()).take(MOST_LINES + 1)
    };
    let objects = || lines().filter(|line| line.starts_with(b"{"));
    lines().nth(1).is_some() && (objects().nth(1).is_some() || objects().any(is_message))
}

/// One `cdr/1` message, or one on each line. Of several the good ones count.
fn lines(
    source: &str,
    settings: &Settings,
    accounts: &Accounts,
    body: &[u8],
    now: Timestamp,
) -> Result<Vec<Decoded>, String> {
    let one = |line: &[u8]| -> Result<Decoded, String> {
        let message = message::parse(line, now)?;
        let whose = whose(source, settings, accounts, &message)
            .ok_or_else(|| "unknown_account".to_owned())?;
        Ok(Decoded {
            dedup_key: message.dedup_key(),
            message: Ok(message),
            whose,
            body: line.to_vec(),
        })
    };
    let whole = one(body);
    if whole.is_ok() || !is_batch(body, |line| one(line).is_ok()) {
        return whole.map(|decoded| vec![decoded]);
    }
    let lines = body
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    let mut decoded = Vec::new();
    let mut good = 0;
    let mut first_fault = None;
    for (index, line) in lines.enumerate() {
        if index >= MOST_LINES {
            return Err("too_large".to_owned());
        }
        match one(line) {
            Ok(message) => {
                good += 1;
                decoded.push(message);
            }
            Err(why) => {
                first_fault.get_or_insert_with(|| why.clone());
                decoded.push(Decoded {
                    message: Err(format!("line {}: {why}", index + 1)),
                    whose: Whose::Ours,
                    dedup_key: key_of_bytes(line),
                    body: line.to_vec(),
                });
            }
        }
    }
    match first_fault {
        Some(why) if good == 0 => Err(why),
        _ => Ok(decoded),
    }
}

fn whose(
    source: &str,
    settings: &Settings,
    accounts: &Accounts,
    message: &Message,
) -> Option<Whose> {
    let full = format!("{}/{}", message.provider, message.account);
    let mine = settings.account.as_deref();
    if message.account == source || mine == Some(&message.account) || mine == Some(&full) {
        return Some(Whose::Ours);
    }
    match accounts.find(&message.provider, &message.account)? {
        other if other == source => Some(Whose::Ours),
        other => Some(Whose::Other(other)),
    }
}
