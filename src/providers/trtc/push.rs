//! What comes to the hook: which of the vendor's four kinds of callback it is, and whether it is authentic.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::parse;
use serde_json::{Map, Value, json};

use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;
use crate::domain::reading::mask_addresses;
use crate::domain::secret::Secret;
use crate::providers::contract::{Admission, Incoming, Outcome, Refusal, Reply};

use super::loose;
use super::settings::Settings;
use super::sign;

/// In the query of the call kit's callbacks.
const WRAPPER_COMMAND: &str = "CallbackCommand";
const WRAPPER_APP: &str = "SdkAppid";

/// tencent.md, section 8.1.
#[derive(Clone, Debug, PartialEq)]
pub enum Family {
    /// A room, media or recording event.
    Event(Value),
    /// The call kit's wrapper around one: its own fields, and the event.
    Wrapper(Map<String, Value>, Value),
    /// The recording of old applications, through the live product.
    Legacy(Value),
    Other,
}

impl Family {
    pub fn of(body: Value) -> Self {
        let Value::Object(mut fields) = body else {
            return Self::Other;
        };
        if fields.contains_key("EventGroupId") {
            return Self::Event(Value::Object(fields));
        }
        if fields.contains_key("event_type") {
            return Self::Legacy(Value::Object(fields));
        }
        match fields.remove("Callback") {
            Some(event @ Value::Object(_)) => Self::Wrapper(fields, event),
            // JSON inside a text: seen nowhere, and harmless to read.
            Some(Value::String(text)) => match serde_json::from_str(&text) {
                Ok(event @ Value::Object(_)) => Self::Wrapper(fields, event),
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// The application that a callback is about: the header, the wrapper's query, or the only one there is.
pub fn app_id(header: Option<&str>, query: &str, settings: &Settings) -> Option<String> {
    let told = header
        .map(str::to_owned)
        .or_else(|| in_query(query, WRAPPER_APP));
    match (told, settings.apps.as_slice()) {
        (Some(told), _) => Some(told),
        (None, [only]) => Some(only.id.clone()),
        (None, _) => None,
    }
}

fn in_query(query: &str, name: &str) -> Option<String> {
    parse(query.as_bytes())
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.into_owned())
}

pub fn admit(incoming: &Incoming, settings: &Settings, now: Timestamp) -> Admission {
    let body = serde_json::from_slice::<Value>(&incoming.body);
    if let Err(refusal) = authentic(incoming, body.as_ref().ok(), settings, now) {
        return Admission::Refuse(refusal);
    }
    match body {
        Ok(body) => Admission::Accept {
            dedup_key: dedup_key(incoming, body),
            unreadable: None,
        },
        Err(error) => Admission::Accept {
            dedup_key: Sha256::of(&incoming.body).hex(),
            unreadable: Some(format!("not JSON: {error}")),
        },
    }
}

fn authentic(
    incoming: &Incoming,
    body: Option<&Value>,
    settings: &Settings,
    now: Timestamp,
) -> Result<(), Refusal> {
    let sign = incoming.header("sign");
    let legacy = body.filter(|body| {
        body.get("event_type").is_some() && body.get("EventGroupId").is_none() && sign.is_none()
    });
    if let Some(body) = legacy {
        return legacy_is_signed(body, settings, now);
    }
    let app = app_id(incoming.header("sdkappid"), &incoming.query, settings)
        .and_then(|id| settings.app(&id))
        .ok_or(Refusal::UnknownAccount)?;
    // A wrapper that names two applications is none of ours.
    let in_query = in_query(&incoming.query, WRAPPER_APP);
    if in_query.is_some_and(|id| id != app.id) {
        return Err(Refusal::UnknownAccount);
    }
    let is_wrapper = is_wrapper(&incoming.query);
    match sign {
        Some(sign) if !app.keys.is_empty() => {
            let fits = |key: &Secret| {
                let ours = sign::hmac_sha256(key.expose().as_bytes(), &incoming.body);
                Secret::new(STANDARD.encode(ours)).matches(sign)
            };
            // Both keys, whichever fits, so that time tells nothing.
            if app.keys.iter().fold(false, |found, key| fits(key) | found) {
                Ok(())
            } else {
                Err(Refusal::Signature)
            }
        }
        None if is_wrapper && settings.unsigned_wrapper => Ok(()),
        _ if app.keys.is_empty() && settings.unsigned => Ok(()),
        _ => Err(Refusal::Signature),
    }
}

/// `sign` is MD5 of key and `t`, `t` the end of its time; a right hash is good for a while longer, because
/// the vendor sends again for 12 minutes (tencent.md, section 5).
fn legacy_is_signed(body: &Value, settings: &Settings, now: Timestamp) -> Result<(), Refusal> {
    let t = loose::text(&body["t"]).ok_or(Refusal::Signature)?;
    let sign = loose::text(&body["sign"])
        .ok_or(Refusal::Signature)?
        .to_ascii_lowercase();
    let fits = |key: &Secret| Secret::new(sign::legacy(key.expose(), &t)).matches(&sign);
    let is_ours = settings
        .legacy_keys
        .iter()
        .fold(false, |found, key| fits(key) | found);
    let until = t
        .parse::<i64>()
        .map(|t| Timestamp::from_ms(t.saturating_mul(1000)))
        .map_err(|_| Refusal::Signature)?;
    if is_ours && now <= until.plus(settings.legacy_grace) {
        Ok(())
    } else {
        Err(Refusal::Signature)
    }
}

/// Equal for a repeat, whose own time and signature are new each time.
fn dedup_key(incoming: &Incoming, mut body: Value) -> String {
    if let Value::Object(fields) = &mut body {
        for own in ["CallbackTs", "EventTime", "t", "sign"] {
            fields.remove(own);
        }
        if let Some(Value::Object(inner)) = fields.get_mut("Callback") {
            inner.remove("CallbackTs");
        }
    }
    mask_addresses(&mut body);
    let app = incoming.header("sdkappid").unwrap_or_default();
    Sha256::of(format!("{app}\n{body}").as_bytes()).hex()
}

pub fn is_wrapper(query: &str) -> bool {
    in_query(query, WRAPPER_COMMAND).is_some()
}

/// The query names the command, or, where a proxy dropped the query, the body does.
pub fn is_wrapped(incoming: &Incoming) -> bool {
    is_wrapper(&incoming.query)
        || serde_json::from_slice::<Value>(&incoming.body)
            .is_ok_and(|body| matches!(Family::of(body), Family::Wrapper(..)))
}

/// CONTRACTS, section 2. The body is not looked at by the vendor; the call kit's is.
pub fn reply(outcome: Outcome, is_wrapper: bool) -> Reply {
    let (status, code, message) = match outcome {
        Outcome::Stored { .. } | Outcome::Unreadable if is_wrapper => {
            let body = json!({ "ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": "" });
            return Reply::json(200, &body);
        }
        Outcome::Stored { .. } | Outcome::Unreadable => {
            return Reply::json(200, &json!({ "code": 0 }));
        }
        Outcome::Refused(_) => (403, 403, "refused"),
        Outcome::TooLarge => (413, 413, "body too large"),
        Outcome::Unavailable => (503, 503, "cannot store, send again"),
    };
    let body = if is_wrapper {
        json!({ "ActionStatus": "FAIL", "ErrorCode": code, "ErrorInfo": message })
    } else {
        json!({ "code": code, "msg": message })
    };
    Reply::json(status, &body)
}
