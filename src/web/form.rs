//! The door for everything that changes something: is it our own page that sends it, and what was sent.
//!
//! What a newcomer gets wrong: a browser sends its credentials along with any site's form. So every handler that changes
//! something asks `check_form` first, before it reads the body.

use std::time::Duration;

use axum::body::Body;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::api::query;
use super::problem::ApiError;

/// Bytes of a form or of a JSON body.
const MOST_BYTES: usize = 64 << 10;
/// A form is small; who sends it for longer is no browser.
const WITHIN: Duration = Duration::from_secs(10);

/// Lets through what one of our own pages or no browser at all sends.
///
/// Browsers name the sender: `Sec-Fetch-Site`, and where the connection is not encrypted `Origin` alone (which is `null`
/// under the referrer policy `no-referrer`, so ours is `same-origin`). Programs send neither, and carry their credentials
/// themselves.
pub fn check_form(headers: &HeaderMap) -> Result<(), ApiError> {
    let word =
        |name: http::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = word(http::HeaderName::from_static("sec-fetch-site")) {
        return if site == "same-origin" {
            Ok(())
        } else {
            Err(ApiError::cross_site())
        };
    }
    if let Some(origin) = word(ORIGIN) {
        let sender = origin.split_once("://").map(|(_, host)| host);
        if sender.is_none() || sender != word(HOST) {
            return Err(ApiError::cross_site());
        }
    }
    Ok(())
}

/// The fields of a form that one of our pages sent.
pub async fn fields(headers: &HeaderMap, body: Body) -> Result<Fields, ApiError> {
    check_form(headers)?;
    let bytes = read(body).await?;
    let text =
        str::from_utf8(&bytes).map_err(|_| ApiError::bad_request("the form is not UTF-8"))?;
    Ok(Fields(query::pairs(text)?))
}

/// A JSON body.
pub async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, ApiError> {
    check_form(headers)?;
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if kind != Some("application/json") {
        return Err(ApiError::bad_request("send application/json"));
    }
    let bytes = read(body).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::bad_request(format!("the body: {error}")))
}

async fn read(body: Body) -> Result<bytes::Bytes, ApiError> {
    let collected = tokio::time::timeout(WITHIN, Limited::new(body, MOST_BYTES).collect()).await;
    match collected {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(MOST_BYTES)),
        Ok(Err(_)) => Err(ApiError::bad_request("the body broke off")),
        Err(_) => Err(ApiError::too_slow()),
    }
}

/// Names and values of a form.
#[derive(Debug)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Empty and blank fields count as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// A field that must be there.
    pub fn need(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name)
            .ok_or_else(|| ApiError::bad_request(format!("{name} is missing")))
    }

    /// Where the page wants to go on: a place of ours, else the search page.
    pub fn back(&self) -> &str {
        self.get("back")
            .filter(|place| is_ours(place))
            .unwrap_or("/")
    }
}

/// A path on this server: no other host, no header tricks.
fn is_ours(place: &str) -> bool {
    let plain = place
        .bytes()
        .all(|b| (0x21..0x7f).contains(&b) && b != b'\\');
    plain && place.starts_with('/') && !place.starts_with("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    http::HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn only_our_own_pages_and_programs_change_something() {
        for (pairs, expected) in [
            (vec![], true),
            (vec![("host", "a:1"), ("origin", "http://a:1")], true),
            (
                vec![
                    ("host", "a"),
                    ("origin", "https://a"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
            (vec![("host", "a"), ("origin", "http://b")], false),
            (vec![("host", "a:1"), ("origin", "http://a:2")], false),
            (vec![("host", "a"), ("origin", "null")], false),
            (vec![("origin", "http://a")], false),
            (
                vec![("origin", "null"), ("sec-fetch-site", "same-origin")],
                true,
            ),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "same-site")], false),
            (vec![("sec-fetch-site", "none")], false),
        ] {
            assert_eq!(check_form(&headers(&pairs)).is_ok(), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_form_leads_back_to_a_place_of_ours_alone() {
        for (place, expected) in [
            ("/recordings/x?t=3", "/recordings/x?t=3"),
            ("//evil.example", "/"),
            ("https://evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/a\r\nb", "/"),
            ("", "/"),
        ] {
            let fields = Fields(vec![("back".into(), place.into())]);
            assert_eq!(fields.back(), expected, "{place:?}");
        }
    }
}
