//! Questions to Feiyu's API: signed afresh for each try, spaced, and answered in our words.

use chrono::DateTime;
use form_urlencoded::Serializer;
use serde_json::Value;

use crate::domain::clock::Timestamp;
use crate::domain::retry::RetryAdvice;
use crate::providers::api::Api;
use crate::providers::contract::{Address, Located, ProviderError, ProviderErrorKind, Wanted};
use crate::providers::http::{ApiAnswer, ApiRequest};

use super::answer::Answer;
use super::push::signature;
use super::settings::{AskMethod, AuthProfile, Settings};

const DOING: &str = "asking for a recording's address";
/// More legs than a call-back can have; a longer list is not believed.
const MOST_CALL_IDS: usize = 8;
/// A clock further off than this explains a refused signature.
const CLOCK_OFF_MS: i64 = 5 * 60 * 1000;

/// Asks one account.
#[derive(Debug)]
pub struct Asker {
    api: Api,
}

impl Asker {
    pub fn new(api: Api) -> Self {
        Self { api }
    }

    /// Tries every known leg id: the first address wins, and gone is only what is gone under all.
    pub async fn locate(
        &self,
        settings: &Settings,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<Located, ProviderError> {
        let mut not_ready = None;
        let mut gone = None;
        let mut announced_gone = None;
        for call_id in call_ids(wanted) {
            match self.record_url(settings, call_id, now).await? {
                Answer::Ready(url) => {
                    return Ok(Located::Ready(Address {
                        url,
                        until: Some(now.plus(settings.url_ttl)),
                        ..Address::default()
                    }));
                }
                Answer::NotReady(code) => {
                    not_ready.get_or_insert(Located::NotReady { code });
                }
                // The id under which the vendor announced it: what it says of the other leg, which may have
                // no recording at all, does not count against this.
                Answer::Gone(code) if wanted.provider_recording_id.as_deref() == Some(call_id) => {
                    announced_gone = Some(Located::Gone { code });
                }
                Answer::Gone(code) => {
                    gone.get_or_insert(Located::Gone { code });
                }
                Answer::CredentialsRefused(_) | Answer::Throttled(_) | Answer::Senseless(_) => {}
            }
        }
        let found = announced_gone.or(not_ready).or(gone);
        Ok(found.unwrap_or(Located::Unannounced))
    }

    /// One question; answers that are no answer come back as errors.
    pub async fn record_url(
        &self,
        settings: &Settings,
        call_id: &str,
        now: Timestamp,
    ) -> Result<Answer, ProviderError> {
        let form = question(settings, call_id, now);
        let path = &settings.paths.record_url;
        let request = match settings.http_method {
            AskMethod::Post => ApiRequest::form(path, form),
            AskMethod::Get => ApiRequest::get(format!("{path}?{form}")),
        };
        let answer = self.api.call(&settings.base_url, request, DOING).await?;
        match Answer::of(answer.status, &answer.body, settings) {
            Answer::Throttled(code) => {
                let code = format!("code {}", code.unwrap_or_default());
                Err(self.api.throttled(answer.retry_after, DOING, code).await)
            }
            Answer::CredentialsRefused(code) => Err(self.api.error(
                ProviderErrorKind::CredentialsRefused,
                RetryAdvice::Backoff,
                DOING,
                format!(
                    "code {}{}",
                    code.unwrap_or_default(),
                    clock_hint(&answer, now).unwrap_or_default()
                ),
            )),
            // A page, a 5xx, an empty body: the vendor's front, not its word (feiyu.md, section 7).
            Answer::Senseless(what) => Err(self.api.error(
                ProviderErrorKind::Unreachable,
                answer
                    .retry_after
                    .map_or(RetryAdvice::Backoff, RetryAdvice::After),
                DOING,
                what,
            )),
            sensible => Ok(sensible),
        }
    }
}

/// The ids of the handle, then the call's own.
fn call_ids(wanted: &Wanted) -> Vec<&str> {
    let handed = wanted.handle.get("call_ids").and_then(Value::as_array);
    let mut ids: Vec<&str> = Vec::new();
    let known = handed.into_iter().flatten().filter_map(Value::as_str);
    for id in known.chain([wanted.provider_call_id.as_str()]) {
        if !id.is_empty() && !ids.contains(&id) && ids.len() < MOST_CALL_IDS {
            ids.push(id);
        }
    }
    ids
}

/// The form of `getRecordDownUrl` (feiyu.md, sections 3 and 5.1).
///
/// Only `fyCallId` is documented for this question; v3 names the same thing `callId`, so a v3
/// account sends both.
fn question(settings: &Settings, call_id: &str, now: Timestamp) -> String {
    let time = now.ms().to_string();
    let signed = signature(settings, &time);
    let mut form = Serializer::new(String::new());
    form.append_pair("appId", &settings.app_id);
    form.append_pair("fyCallId", call_id);
    match settings.auth_profile {
        AuthProfile::V2Au => {
            form.append_pair("ti", &time);
            if !settings.api_version.is_empty() {
                form.append_pair("ver", &settings.api_version);
            }
            form.append_pair("au", &signed);
        }
        AuthProfile::V3Signature => {
            form.append_pair("callId", call_id);
            form.append_pair("curTime", &time);
            form.append_pair("signature", &signed);
        }
    }
    form.finish()
}

/// A refused signature together with a clock that is off: says so (feiyu.md, section 9.13).
fn clock_hint(answer: &ApiAnswer, now: Timestamp) -> Option<String> {
    let date = answer.headers.get("date")?.to_str().ok()?;
    let theirs = DateTime::parse_from_rfc2822(date).ok()?.timestamp_millis();
    let off = now.since_ms(Timestamp::from_ms(theirs));
    (off.abs() > CLOCK_OFF_MS).then(|| {
        let direction = if off > 0 { "ahead of" } else { "behind" };
        format!(
            "; this machine's clock is {} min {direction} the vendor's, set it right",
            off.abs() / 60_000
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use uuid::Uuid;

    #[test]
    fn every_leg_is_asked_for_once_and_the_call_itself_too() {
        let mut wanted = Wanted {
            recording_id: Uuid::nil(),
            provider_call_id: "a@fy".to_owned(),
            provider_recording_id: None,
            handle: json!({ "call_ids": ["b@fy", 7, "b@fy"] }),
            link: None,
            call_ended_at: None,
            arrived_at: Timestamp::from_ms(0),
        };
        assert_eq!(call_ids(&wanted), ["b@fy", "a@fy"]);
        wanted.handle = Value::Null;
        assert_eq!(call_ids(&wanted), ["a@fy"]);
    }

    #[test]
    fn a_clock_that_is_off_is_named() {
        let answer = |date: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert("date", date.parse().unwrap());
            ApiAnswer {
                status: 200,
                headers,
                retry_after: None,
                body: bytes::Bytes::new(),
            }
        };
        let now = Timestamp::parse("2024-04-05T20:00:00Z").unwrap();
        let hint = clock_hint(&answer("Fri, 05 Apr 2024 19:35:00 GMT"), now).unwrap();
        assert!(hint.contains("25 min ahead of"), "{hint}");
        assert_eq!(
            clock_hint(&answer("Fri, 05 Apr 2024 19:58:00 GMT"), now),
            None
        );
        assert_eq!(clock_hint(&answer("yesterday"), now), None);
    }
}
