//! What a notice says once a provider has read it: calls, and recordings that exist or should exist.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::CallFacts;
use super::clock::Timestamp;
use super::deadlines::{Clocks, WorkClass};
use super::recording::Part;

/// The facts of one notice. Reading the same notice again gives the same facts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    pub calls: Vec<CallFacts>,
    pub recordings: Vec<Announced>,
    /// Understood, and nothing in it concerns a call.
    pub ignored: Option<String>,
    /// Elements of a batch that could not be read, each with its reason; the others count.
    pub unreadable: Vec<String>,
    /// Entries of a party directory.
    pub directory: Vec<DirectoryEntry>,
    /// Messages about calls of other configured sources: stored again as notices of those.
    pub forward: Vec<Forward>,
}

impl Reading {
    /// Nothing in it that could become a row.
    pub fn is_silent(&self) -> bool {
        self.calls.is_empty() && self.recordings.is_empty() && self.directory.is_empty()
    }
}

/// A `cdr/1` message that names another source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    pub source: String,
    pub body: Vec<u8>,
    pub dedup_key: String,
}

/// Who stands behind an id of a vendor's (an account id, a user id, an agent's).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
}

/// Begins the name of a recording that is expected and was never announced.
pub const PLACEHOLDER: &str = "expected:";

/// The name of a recording that is expected and was never announced; the first announcement of the
/// call takes the row over.
pub fn placeholder(provider_call_id: &str) -> String {
    format!("{PLACEHOLDER}{provider_call_id}")
}

/// No notice tells of a call that ends later than this after the notice came, whatever the clocks.
const LATEST_AHEAD_MS: i64 = 24 * 3600 * 1000;
/// Where `CallFacts::custom` names the times that were not believed.
const NOT_BELIEVED: &str = "times_not_believed";

impl Reading {
    /// Takes times out that lie further ahead of the notice's arrival than any clock can be off: a recording
    /// that waits for such a moment would wait past its deletion. What was told stays in the notice.
    pub fn drop_future_times(&mut self, arrived_at: Timestamp) {
        let latest = arrived_at.plus_ms(LATEST_AHEAD_MS);
        for call in &mut self.calls {
            let mut dropped = Vec::new();
            let mut judge = |name: &str, at: &mut Option<Timestamp>| {
                if at.is_some_and(|at| at > latest) {
                    *at = None;
                    dropped.push(Value::from(name));
                }
            };
            judge("started_at", &mut call.started_at);
            judge("answered_at", &mut call.answered_at);
            judge("ended_at", &mut call.ended_at);
            for leg in &mut call.legs {
                judge("leg.started_at", &mut leg.started_at);
                judge("leg.answered_at", &mut leg.answered_at);
                judge("leg.ended_at", &mut leg.ended_at);
            }
            if !dropped.is_empty() {
                call.custom
                    .insert(NOT_BELIEVED.to_owned(), Value::Array(dropped));
            }
        }
        for recording in &mut self.recordings {
            let ready = &mut recording.clocks.ready_after;
            *ready = ready.map(|ready| ready.min(latest));
        }
    }
}

/// A recording that a notice announces, or that its CDR says should exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announced {
    /// The call it belongs to; the same notice need not carry the call's CDR.
    pub provider_call_id: String,
    /// Other names of that call (see `CallFacts::aliases`).
    pub call_aliases: Vec<String>,
    pub provider_recording_id: Option<String>,
    /// Names that identify this recording within its source, for ever; one match is enough.
    /// Never a whole signed address: the path without its query.
    pub aliases: Vec<String>,
    pub part: Part,
    /// When its sound began, by the vendor's stamp; for laying two parties' recordings beside each other.
    pub began_at: Option<Timestamp>,
    /// The vendor's id of the one person whose voice it is.
    pub party: Option<String>,
    /// What `locate` needs beside the ids, in the vendor's own shape.
    pub handle: Value,
    /// A short-lived address that came with the notice.
    pub link: Option<Link>,
    /// Whether a dead address of this recording can be asked for again; `None`: as its source says.
    pub link_renewable: Option<bool>,
    pub clocks: Clocks,
    /// The vendor says that the file is there now: the next try is pulled forward to `ready_after`.
    pub ready_now: bool,
    /// The vendor confirmed that the file exists or will (recorded flag with talk time, a link, a
    /// list entry): evidence for `lost`.
    pub confirmed: bool,
    pub class: Option<WorkClass>,
    /// What the vendor says of the bytes (an MD5): another one later, under the same name, is another file.
    pub version: Option<String>,
    /// Only a foreign system told of the call: announced only while the vendor itself has told nothing of
    /// it and no recording of it is known.
    pub unless_told: bool,
}

/// A short-lived address: a secret, shown only without its query.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub url: String,
    pub until: Option<Timestamp>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({}, until {:?})", masked_url(&self.url), self.until)
    }
}

/// An address as outputs may show it: without user info, query and fragment.
pub fn masked_url(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let bare = &url[..end];
    let hidden = if end < url.len() { "?…" } else { "" };
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}{path}{hidden}")
        }
        None => format!("{bare}{hidden}"),
    }
}

/// Masks every address with a query in a vendor's own facts: it may be signed.
pub fn mask_addresses(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("://") && text.contains('?') => {
            *text = masked_url(text);
        }
        Value::Array(items) => items.iter_mut().for_each(mask_addresses),
        Value::Object(fields) => fields.values_mut().for_each(mask_addresses),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_ends_in_ten_years_makes_nobody_wait() {
        let at = Timestamp::from_ms;
        let mut call = CallFacts::new("c");
        call.started_at = Some(at(-60_000));
        call.ended_at = Some(at(10 * 365 * LATEST_AHEAD_MS));
        let mut reading = Reading {
            recordings: vec![Announced {
                clocks: Clocks {
                    ready_after: call.ended_at,
                    ..Clocks::default()
                },
                ..Announced::default()
            }],
            calls: vec![call],
            ..Reading::default()
        };
        reading.drop_future_times(at(0));
        let call = &reading.calls[0];
        assert_eq!((call.started_at, call.ended_at), (Some(at(-60_000)), None));
        assert_eq!(call.custom[NOT_BELIEVED], serde_json::json!(["ended_at"]));
        let ready = reading.recordings[0].clocks.ready_after;
        assert_eq!(ready, Some(at(LATEST_AHEAD_MS)));
        let before = reading.clone();
        reading.drop_future_times(at(0));
        assert_eq!(reading, before);
    }

    #[test]
    fn a_signed_address_is_shown_without_its_signature() {
        assert_eq!(
            masked_url("http://u:p@a.example/x/y.wav?Expires=1&Signature=s"),
            "http://a.example/x/y.wav?…"
        );
        assert_eq!(masked_url("https://a.example"), "https://a.example");
        let link = Link {
            url: "http://a/x?Signature=s".into(),
            until: None,
        };
        assert!(!format!("{link:?}").contains("Signature"));
    }

    #[test]
    fn addresses_in_a_vendors_facts_are_masked_at_any_depth() {
        let mut facts = serde_json::json!({
            "a": ["https://h/x?Signature=s", "plain?"], "b": { "c": "u://p?q", "d": 1 },
        });
        mask_addresses(&mut facts);
        let expected = serde_json::json!({
            "a": ["https://h/x?…", "plain?"], "b": { "c": "u://p?…", "d": 1 },
        });
        assert_eq!(facts, expected);
    }
}
