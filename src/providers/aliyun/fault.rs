//! Refusals of Alibaba's gateways, by what there is to do about them (aliyun.md, sections 6 and 8).

use std::time::Duration;

use chrono::DateTime;

use crate::domain::clock::Timestamp;
use crate::domain::retry::RetryAdvice;
use crate::providers::api::Api;
use crate::providers::contract::{ProviderError, ProviderErrorKind};
use crate::providers::http::ApiAnswer;

/// A clock further off than this is named; the vendor refuses at 15 minutes.
const CLOCK_OFF_MS: i64 = 5 * 60 * 1000;
/// Longest "come back later" that is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What a code of the token and link APIs means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Throttled,
    /// The same number twice: ask again at once with a new one.
    NonceUsed,
    Clock,
    /// Keys, rights, subscriptions: a person has to do something, and this is it.
    Refused(&'static str),
    /// What was asked for is not there (yet).
    Missing,
    /// The vendor's own trouble.
    Trouble,
    /// This question will never be answered otherwise.
    Senseless,
}

pub fn meaning(status: u16, code: &str) -> Meaning {
    const KEYS: &str = "compare access_key_id and access_key_secret with the console";
    const RIGHTS: &str = "grant the RAM user the rights for Dybaseapi and Dyplsapi";
    const PRODUCT: &str = "look at the account and its subscriptions in the console";
    match code {
        "isv.BUSINESS_LIMIT_CONTROL" | "isv.FLOW_LIMIT" => Meaning::Throttled,
        _ if code.starts_with("Throttling") => Meaning::Throttled,
        "SignatureNonceUsed" => Meaning::NonceUsed,
        "IllegalTimestamp" => Meaning::Clock,
        _ if code.starts_with("InvalidTimeStamp") => Meaning::Clock,
        "SignatureDoesNotMatch" | "IncompleteSignature" => Meaning::Refused(KEYS),
        _ if code.starts_with("InvalidAccessKeyId") => Meaning::Refused(KEYS),
        _ if code.starts_with("InvalidSecurityToken") => Meaning::Refused(KEYS),
        "isp.RAM_PERMISSION_DENY" => Meaning::Refused(RIGHTS),
        _ if code.starts_with("Forbidden") || code == "NoPermission" => Meaning::Refused(RIGHTS),
        "isv.OUT_OF_SERVICE"
        | "isv.PRODUCT_UN_SUBSCRIPT"
        | "isv.PRODUCT_UNSUBSCRIBE"
        | "isv.ACCOUNT_NOT_EXISTS"
        | "isv.ACCOUNT_ABNORMAL"
        | "isv.AMOUNT_NOT_ENOUGH" => Meaning::Refused(PRODUCT),
        "100008" => Meaning::Missing,
        "ServiceUnavailable" | "InternalError" | "isp.SYSTEM_ERROR" | "isp.GATEWAY_ERROR" => {
            Meaning::Trouble
        }
        _ if status >= 500 => Meaning::Trouble,
        _ => Meaning::Senseless,
    }
}

/// The error of a code that is no answer. `said` is the vendor's message: shown where it cannot hold what was
/// signed.
pub async fn error(
    api: &Api,
    answer: &ApiAnswer,
    code: &str,
    said: &str,
    doing: &'static str,
    now: Timestamp,
) -> ProviderError {
    let backoff = answer
        .retry_after
        .map_or(RetryAdvice::Backoff, RetryAdvice::After);
    let with = |kind, advice, detail: String| api.error(kind, advice, doing, detail);
    let code = shown(code);
    match meaning(answer.status, &code) {
        Meaning::Throttled => api.throttled(retry_after(answer), doing, code).await,
        Meaning::Clock => {
            let hint = clock_hint(answer, now).unwrap_or_default();
            let detail = format!("{code}{hint}");
            with(ProviderErrorKind::CredentialsRefused, backoff, detail)
        }
        Meaning::Refused(remedy) => {
            let hint = clock_hint(answer, now).unwrap_or_default();
            let detail = format!("{code}: {remedy}{hint}");
            with(ProviderErrorKind::CredentialsRefused, backoff, detail)
        }
        Meaning::NonceUsed | Meaning::Trouble => {
            let detail = format!("status {}, {code}", answer.status);
            with(ProviderErrorKind::Unreachable, backoff, detail)
        }
        Meaning::Missing | Meaning::Senseless => with(
            ProviderErrorKind::BadAnswer,
            RetryAdvice::Never,
            format!("status {}, {code}: {}", answer.status, shown(said)),
        ),
    }
}

/// A vendor's word as logs may hold it: short, one line, no address with its query.
pub fn shown(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(160)
        .collect();
    match text.find("://") {
        Some(_) => crate::domain::reading::masked_url(&text),
        None => text,
    }
}

/// Seconds in the vendor's own header, else the usual one.
fn retry_after(answer: &ApiAnswer) -> Option<Duration> {
    let own = answer.headers.get("x-acs-retry-after");
    let own = own.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    own.map(|seconds: u64| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
        .or(answer.retry_after)
}

/// When the vendor's clock made this answer, by its own word.
pub fn answered_at(answer: &ApiAnswer) -> Option<Timestamp> {
    let date = answer.headers.get("date")?.to_str().ok()?;
    let at = DateTime::parse_from_rfc2822(date).ok()?;
    Some(Timestamp::from_ms(at.timestamp_millis()))
}

/// Says so when this machine's clock explains a refusal.
pub fn clock_hint(answer: &ApiAnswer, now: Timestamp) -> Option<String> {
    let off = now.since_ms(answered_at(answer)?);
    (off.abs() > CLOCK_OFF_MS).then(|| {
        let direction = if off > 0 { "ahead of" } else { "behind" };
        format!(
            "; this machine's clock is {} min {direction} the vendor's, set it right",
            off.abs() / 60_000
        )
    })
}
