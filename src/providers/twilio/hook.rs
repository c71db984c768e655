//! The status callback: whose it is, whether it is theirs, and by what a repeat is known.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::digest::Hasher;
use crate::domain::secret::Secret;
use crate::providers::contract::{Admission, Incoming, Refusal};

use super::settings::{Settings, is_sid};
use super::signature::{Signed, Signing, is_json};

const SIGNATURE: &str = "x-twilio-signature";
const SIGNING: &str = "x-twilio-webhooks-signature-settings";

/// Fields by name; of a repeated one the first counts.
pub type Fields = BTreeMap<String, String>;

/// The callback's fields: of the body, or of the query when there is none.
pub fn fields_of(query: &str, content_type: &str, body: &[u8]) -> Fields {
    if is_json(content_type, body) {
        return json_fields(body);
    }
    let form = if body.is_empty() {
        query.as_bytes()
    } else {
        body
    };
    let mut fields = Fields::new();
    for (name, value) in form_urlencoded::parse(form).into_owned() {
        fields.entry(name).or_insert(value);
    }
    fields
}

fn json_fields(body: &[u8]) -> Fields {
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
        return Fields::new();
    };
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    };
    let fields = object.into_iter();
    fields
        .filter_map(|(name, value)| Some((name, text(value)?)))
        .collect()
}

pub fn admit(incoming: &Incoming, settings: &Settings) -> Admission {
    let content_type = incoming.header("content-type").unwrap_or_default();
    let fields = fields_of(&incoming.query, content_type, &incoming.body);
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    // The account decides which secret to look with, so it comes first, and it proves nothing.
    let Some(account) = settings.accounts.get(field("AccountSid")) else {
        return Admission::Refuse(Refusal::UnknownAccount);
    };
    let Some(signing) = Signing::of(incoming.header(SIGNING)) else {
        return Admission::Refuse(Refusal::Signature);
    };
    let secrets: Vec<&Secret> = match &signing.key {
        // A key that is not configured is never replaced by the account's token.
        Some(key) => settings.shared_keys.get(key).into_iter().collect(),
        None => account.webhook_secrets.iter().collect(),
    };
    let given = incoming.header(SIGNATURE).unwrap_or_default();
    let is_theirs = urls(incoming, settings).iter().any(|url| {
        let signed = Signed {
            url,
            content_type,
            body: &incoming.body,
        };
        signed.is_by(&secrets, signing.algorithm, given)
    });
    if !is_theirs {
        return Admission::Refuse(Refusal::Signature);
    }
    // Names and values are signed without separators: only their shapes tell one set from another.
    if !is_sid(field("RecordingSid"), "RE")
        || !is_call(field("CallSid"), "CA")
        || !is_call(field("ConferenceSid"), "CF")
    {
        return Admission::Refuse(Refusal::Unusable);
    }
    let mut hasher = Hasher::new();
    for (name, value) in &fields {
        hasher.update(name.as_bytes());
        hasher.update(b"\0");
        hasher.update(value.as_bytes());
        hasher.update(b"\0");
    }
    Admission::Accept {
        dedup_key: hasher.finish().sha256.hex(),
        unreadable: None,
    }
}

fn is_call(sid: &str, prefix: &str) -> bool {
    sid.is_empty() || is_sid(sid, prefix)
}

/// The address that the vendor called: ours by the configuration, else what the request says of itself.
/// Whoever lies there needs a signature over the lie.
fn urls(incoming: &Incoming, settings: &Settings) -> Vec<String> {
    let target = incoming.header(":path").unwrap_or_default();
    let suffix = &settings.signed_url_suffix;
    match (&settings.public_url, incoming.header("host")) {
        (Some(base), _) => vec![format!("{base}{target}{suffix}")],
        (None, Some(host)) => ["https", "http"]
            .map(|scheme| format!("{scheme}://{host}{target}{suffix}"))
            .to_vec(),
        (None, None) => Vec::new(),
    }
}
