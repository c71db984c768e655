//! What is believed of a Feiyu push: its kind, its signature, its age, and whether it came before.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Hasher;
use crate::providers::contract::{Admission, Incoming, Refusal, Reply};

use super::form::Form;
use super::settings::{AuthProfile, DigestCase, Settings, StalePush};

pub const TOPIC_CDR: &str = "cdr";
pub const TOPIC_RECORDING: &str = "recording";
pub const TOPIC_AUTH: &str = "auth";

/// Longest id that is taken; the documented shape has 35 characters.
pub const LONGEST_ID: usize = 512;

/// Fields that carry the proof of origin and say nothing of the call.
pub const PROOF_FIELDS: [&str; 5] = ["ti", "au", "currentTime", "curTime", "signature"];

/// Values below are seconds, not milliseconds (feiyu.md, section 9.8).
const FIRST_MS: i64 = 100_000_000_000;

/// What a push is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Cdr,
    Recording,
    /// The forwarded copy of a call authorisation: numbers, never a decision.
    Auth,
    /// An action in no list: kept, without effect.
    Unknown(String),
}

impl Kind {
    /// `action` decides; without one the path does; without both, what the fields can only mean.
    ///
    /// The actions of call authorisations differ by call type and are in no list, so on the path
    /// `auth` any unlisted action is one.
    pub fn of(form: &Form, topic: &str, settings: &Settings) -> Self {
        let action = form.first_of(&settings.fields.action).map(|(_, a)| a);
        let listed = |list: &[String]| action.as_ref().is_some_and(|a| list.contains(a));
        if listed(&settings.actions.cdr) {
            return Kind::Cdr;
        }
        if listed(&settings.actions.recording) {
            return Kind::Recording;
        }
        match (topic, action) {
            (TOPIC_AUTH, _) => Kind::Auth,
            (_, Some(action)) => Kind::Unknown(action),
            (TOPIC_CDR, None) => Kind::Cdr,
            (TOPIC_RECORDING, None) => Kind::Recording,
            // v3 sends no action: a call that ended is a CDR even on the address without a topic.
            (_, None) if form.first_of(&settings.fields.end).is_some() => Kind::Cdr,
            (_, None) => Kind::Unknown(String::new()),
        }
    }

    fn tag(&self) -> &str {
        match self {
            Kind::Cdr => TOPIC_CDR,
            Kind::Recording => TOPIC_RECORDING,
            Kind::Auth => TOPIC_AUTH,
            Kind::Unknown(_) => "unknown",
        }
    }
}

/// The signature for a moment: hex `MD5(appId + appToken + ti)` for v2, without the time for v3.
pub fn signature(settings: &Settings, time: &str) -> String {
    let mut md5 = Md5::new();
    md5.update(settings.app_id.as_bytes());
    md5.update(settings.app_token.expose().as_bytes());
    if settings.auth_profile == AuthProfile::V2Au {
        md5.update(time.as_bytes());
    }
    let hex = hex::encode(md5.finalize());
    match settings.digest_case {
        DigestCase::Upper => hex.to_ascii_uppercase(),
        DigestCase::Lower => hex,
    }
}

/// Order of the checks as in feiyu.md, section 4.4: usable, account, signature, age.
pub fn admit(incoming: &Incoming, settings: &Settings, now: Timestamp) -> Admission {
    let refuse = Admission::Refuse;
    if !["", TOPIC_CDR, TOPIC_RECORDING, TOPIC_AUTH].contains(&incoming.topic.as_str()) {
        return refuse(Refusal::UnknownTopic);
    }
    let form = Form::of(&incoming.method, &incoming.query, &incoming.body);
    let Some((_, call_id)) = form.first_of(&settings.fields.call_id) else {
        return refuse(Refusal::Unusable);
    };
    if form.get("appId").as_deref() != Some(settings.app_id.as_str()) {
        return refuse(Refusal::UnknownAccount);
    }
    if !is_signed(&form, settings) {
        return refuse(Refusal::Signature);
    }
    if settings.stale_push == StalePush::Refuse && !is_fresh(&form, settings, now) {
        return refuse(Refusal::Signature);
    }
    Admission::Accept {
        dedup_key: dedup_key(&form, &Kind::of(&form, &incoming.topic, settings)),
        // Authentic and of no use: kept for a person, and the vendor need not send it again.
        unreadable: (call_id.len() > LONGEST_ID).then(|| {
            format!(
                "a call id of {} bytes, {LONGEST_ID} are taken",
                call_id.len()
            )
        }),
    }
}

fn is_signed(form: &Form, settings: &Settings) -> bool {
    let (time_field, signature_field) = match settings.auth_profile {
        AuthProfile::V2Au => ("ti", "au"),
        AuthProfile::V3Signature => ("currentTime", "signature"),
    };
    let time = form.get(time_field).unwrap_or_default();
    let Some(mut offered) = form.get(signature_field) else {
        return false;
    };
    let mut expected = signature(settings, &time);
    if settings.accept_any_case {
        offered.make_ascii_uppercase();
        expected.make_ascii_uppercase();
    }
    expected.as_bytes().ct_eq(offered.as_bytes()).into()
}

/// A v3 signature proves nothing about its time, so only v2 can be stale.
fn is_fresh(form: &Form, settings: &Settings, now: Timestamp) -> bool {
    if settings.auth_profile == AuthProfile::V3Signature {
        return true;
    }
    let Some(sent) = form.get("ti").and_then(|ti| moment(&ti)) else {
        return false;
    };
    let skew = now.since_ms(sent.at).unsigned_abs();
    u128::from(skew) <= settings.max_skew.as_millis()
}

/// Equal for a push that is sent again with a fresh time and signature, by either method.
fn dedup_key(form: &Form, kind: &Kind) -> String {
    let mut hasher = Hasher::new();
    hasher.update(kind.tag().as_bytes());
    hasher.update(b"\0");
    form.hash_into(&mut hasher, &PROOF_FIELDS);
    hasher.finish().sha256.hex()
}

/// A time as a push carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub at: Timestamp,
    /// It was written in seconds.
    pub in_seconds: bool,
}

/// Milliseconds since 1970; what is too small for that is seconds; 0 and nonsense are no time.
pub fn moment(text: &str) -> Option<Moment> {
    let value: i64 = text.trim().parse().ok().filter(|value| *value > 0)?;
    let in_seconds = value < FIRST_MS;
    let ms = if in_seconds { value * 1000 } else { value };
    // Beyond the year 9999 it is no time that anything downstream can hold.
    (ms <= 253_402_300_799_999).then_some(Moment {
        at: Timestamp::from_ms(ms),
        in_seconds,
    })
}

/// `{"resultCode":0,"resultMsg":"ok"}`, with our own six-digit codes for refusals (feiyu.md, 4.4).
pub fn reply(outcome: crate::providers::contract::Outcome, settings: &Settings) -> Reply {
    use crate::providers::contract::Outcome;
    let (status, code, message) = match outcome {
        // The vendor's page is silent on what cannot be read: it is kept, so it is a success.
        Outcome::Stored { .. } | Outcome::Unreadable => (200, 0, "ok"),
        Outcome::Refused(Refusal::Unusable) => (400, 900_001, "no fields or no call id"),
        Outcome::Refused(Refusal::Signature) => (403, 900_002, "signature missing, wrong or stale"),
        Outcome::Refused(Refusal::UnknownAccount) => (403, 900_003, "appId is not configured here"),
        Outcome::Refused(Refusal::UnknownTopic) => (404, 900_001, "unknown path"),
        Outcome::TooLarge => (413, 900_001, "body too large"),
        Outcome::Unavailable => (503, 900_004, "cannot store, send again"),
    };
    let code = if settings.ack_code_as_string {
        serde_json::Value::from(code.to_string())
    } else {
        serde_json::Value::from(code)
    };
    Reply::json(
        status,
        &serde_json::json!({ "resultCode": code, "resultMsg": message }),
    )
}
