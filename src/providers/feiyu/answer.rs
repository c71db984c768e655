//! What an answer of `getRecordDownUrl` means, decided in the order of feiyu.md, section 7.

use serde_json::Value;

use super::settings::Settings;

/// The outcome of one question for an address. Codes are the vendor's own, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Ready(String),
    NotReady(Option<String>),
    Gone(Option<String>),
    CredentialsRefused(Option<String>),
    Throttled(Option<String>),
    /// No answer that means anything; the text says what came instead.
    Senseless(String),
}

impl Answer {
    pub fn of(status: u16, body: &[u8], settings: &Settings) -> Self {
        match status {
            200 => Self::of_body(body, settings),
            429 => Answer::Throttled(Some("http 429".to_owned())),
            401 | 403 => Answer::CredentialsRefused(Some(format!("http {status}"))),
            other => Answer::Senseless(format!("status {other}")),
        }
    }

    fn of_body(body: &[u8], settings: &Settings) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}');
        let answer = match serde_json::from_str::<Value>(text) {
            Ok(answer @ Value::Object(_)) => answer,
            _ => return Answer::Senseless("a body that is no JSON object".to_owned()),
        };
        let Some(code) = answer.pointer(&settings.result.code).and_then(as_code) else {
            return Answer::Senseless("an answer without a result code".to_owned());
        };
        if code == "0" {
            return settings
                .result
                .url
                .iter()
                .filter_map(|place| answer.pointer(place)?.as_str())
                .map(str::trim)
                .find(|url| is_web_address(url))
                .map_or(Answer::NotReady(None), |url| Answer::Ready(url.to_owned()));
        }
        let listed = |list: &[String]| list.contains(&code);
        let codes = &settings.codes;
        if listed(&codes.not_ready) {
            Answer::NotReady(Some(code))
        } else if listed(&codes.gone) {
            Answer::Gone(Some(code))
        } else if listed(&codes.auth) {
            Answer::CredentialsRefused(Some(code))
        } else if listed(&codes.throttled) {
            Answer::Throttled(Some(code))
        } else {
            Answer::NotReady(Some(code))
        }
    }
}

fn as_code(value: &Value) -> Option<String> {
    let code = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!code.is_empty() && code.len() <= 64).then_some(code)
}

fn is_web_address(text: &str) -> bool {
    let starts = |scheme: &str| {
        text.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    starts("http://") || starts("https://")
}
