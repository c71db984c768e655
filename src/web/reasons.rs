//! Why somebody listens, where `[access] ask_reason` wants to know: said in the request, or once for a call on its page.
//!
//! What a newcomer gets wrong: a player asks for its sound many times, by Range, and cannot say why each time. So a
//! page's reason is kept for its session and call, for a while; a token says it in each request, and keeps nothing.

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::access::Reader;
use super::access::settings::Asked;
use super::problem::ApiError;
use super::reads::Reads;
use crate::domain::clock::Timestamp;
use crate::domain::rights::Right;

/// The header of programs; percent-encoded, because a header is no place for UTF-8.
pub const HEADER: &str = "x-callvault-reason";
/// Fewer say nothing.
const SHORTEST: usize = 3;
const LONGEST: usize = 500;

/// A reason as it goes into the trail: one line that says something.
pub fn read(text: &str) -> Result<String, ApiError> {
    let text = text.trim();
    let letters = text.chars().count();
    if !(SHORTEST..=LONGEST).contains(&letters) {
        return Err(ApiError::bad_request(format!(
            "reason: write {SHORTEST} to {LONGEST} characters"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(ApiError::bad_request("reason: write one line"));
    }
    if !text.chars().any(char::is_alphanumeric) {
        return Err(ApiError::bad_request("reason: write words"));
    }
    Ok(text.to_owned())
}

/// What a request says in its header; another one in the address is refused rather than chosen from.
pub fn of_request(
    headers: &HeaderMap,
    parameter: Option<&str>,
) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let told = match (values.next(), values.next(), parameter) {
        (None, _, None) => return Ok(None),
        (None, _, Some(parameter)) => parameter.to_owned(),
        (Some(header), None, None) => {
            let header = header.to_str().ok();
            let decoded = header.and_then(|text| percent_decode_str(text).decode_utf8().ok());
            let decoded = decoded.ok_or_else(|| {
                ApiError::bad_request(format!("{HEADER}: write percent-encoded UTF-8"))
            })?;
            decoded.into_owned()
        }
        _ => return Err(ApiError::bad_request("reason: say it once")),
    };
    read(&told).map(Some)
}

/// The reason for the trail; an error where one is asked for and none is there. The answer is the same for what does
/// not exist or may not be seen.
pub(super) async fn needed(
    reads: &Reads<'_>,
    recording_id: Uuid,
    what: Asked,
    told: Option<&str>,
) -> Result<Option<String>, ApiError> {
    // Only looked for where it decides.
    let call_id = if told.is_none() && asks(reads, what) {
        let call = reads.state.db.call_of_recording(recording_id);
        reads.ask(call).await?
    } else {
        None
    };
    needed_of_call(reads, call_id, what, told).await
}

/// The same for what belongs to a whole call; `None` is a call that is not there.
pub(super) async fn needed_of_call(
    reads: &Reads<'_>,
    call_id: Option<Uuid>,
    what: Asked,
    told: Option<&str>,
) -> Result<Option<String>, ApiError> {
    if let Some(told) = told {
        return Ok(Some(told.to_owned()));
    }
    if !asks(reads, what) {
        return Ok(None);
    }
    let kept = match call_id {
        Some(call_id) => kept(reads, call_id).await?,
        None => None,
    };
    kept.map(Some).ok_or_else(ApiError::reason_required)
}

fn asks(reads: &Reads<'_>, what: Asked) -> bool {
    reads.state.settings.access.asks(reads.reader.role, what)
}

/// Whether a page must still ask before it shows a way to this.
pub(super) async fn must_ask(
    reads: &Reads<'_>,
    call_id: Uuid,
    what: Asked,
) -> Result<bool, ApiError> {
    Ok(asks(reads, what) && kept(reads, call_id).await?.is_none())
}

async fn kept(reads: &Reads<'_>, call_id: Uuid) -> Result<Option<String>, ApiError> {
    let now = reads.state.clock.now();
    let who = keeper(reads.reader);
    reads
        .ask(reads.state.db.given_reason(&who, call_id, now))
        .await
}

/// A session's reasons end with it.
fn keeper(reader: &Reader) -> String {
    match &reader.signed_in {
        Some(signed_in) => format!("session:{}", signed_in.session),
        None => reader.actor.clone(),
    }
}

/// Keeps what a page's form says, behind its row in the trail.
pub(super) async fn give(reads: &Reads<'_>, call_id: Uuid, text: &str) -> Result<(), ApiError> {
    if !reads.reader.may(Right::Download) {
        reads.reader.needs(Right::Play)?;
    }
    let reason = read(text)?;
    let detail = serde_json::json!({ "reason": reason });
    reads.audit("reason", &call_id.to_string(), detail).await?;
    reads.must_see_call(call_id).await?;
    let now = reads.state.clock.now();
    let holds = reads.state.settings.access.reason_holds.duration();
    let holds_ms = i64::try_from(holds.as_millis()).unwrap_or(i64::MAX / 4);
    let until = Timestamp::from_ms(now.ms().saturating_add(holds_ms));
    let who = keeper(reads.reader);
    let kept = reads
        .state
        .db
        .give_reason(&who, call_id, &reason, until, now);
    reads.ask(kept).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        for good in ["Complaint 4711", " 客户投诉 ", "abc"] {
            assert_eq!(read(good).unwrap(), good.trim(), "{good}");
        }
        let long = "x".repeat(LONGEST + 1);
        for bad in ["", "  ", "ab", "...", "a\nb c", "a\u{0}bc", &long] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_request_says_it_once() {
        let headers = |values: &[&str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(HEADER, value.parse().unwrap());
            }
            map
        };
        let read = |values: &[&str], parameter| of_request(&headers(values), parameter);
        assert_eq!(read(&[], None).unwrap(), None);
        let said = read(&["%E5%AE%A2%E6%88%B7%E6%8A%95%E8%AF%89"], None).unwrap();
        assert_eq!(said.as_deref(), Some("客户投诉"));
        assert_eq!(
            read(&[], Some("case 7")).unwrap().as_deref(),
            Some("case 7")
        );
        assert!(read(&["case 7"], Some("case 7")).is_err());
        assert!(read(&["case 7", "case 8"], None).is_err());
        assert!(read(&["%FF%FE%FD"], None).is_err());
        assert!(read(&[""], None).is_err());
    }
}
