//! `POST /do/{what}`: everything that a form on a page changes, and back to where it was sent from.
//!
//! What a newcomer gets wrong: nothing is decided here. `form` says whether our own page sent it, `Writes` whether the
//! reader may; the API changes the same things through the same two.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use super::frame::{self, Visit};
use super::text::{COOKIE_NAME, Lang};
use crate::web::form::{self, Fields};
use crate::web::problem::ApiError;
use crate::web::state::WebState;
use crate::web::writes::Writes;

pub async fn act(
    State(state): State<WebState>,
    visit: Visit,
    Path(what): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let done = async {
        let fields = form::fields(&headers, body).await?;
        change(&state, &visit, &what, &fields).await
    };
    match done.await {
        Ok(response) => response,
        Err(error) => frame::problem(&state, &visit, &error),
    }
}

async fn change(
    state: &WebState,
    visit: &Visit,
    what: &str,
    fields: &Fields,
) -> Result<Response, ApiError> {
    let writes = Writes::of(state, &visit.reader);
    match what {
        "language" => return language(state, fields),
        "mark" => {
            let offset_ms = seconds(fields.need("at")?)?;
            writes
                .add_marker(id(fields, "recording")?, offset_ms, fields.need("text")?)
                .await?;
        }
        "unmark" => {
            writes.remove_marker(id(fields, "marker")?).await?;
        }
        "note" => {
            writes
                .add_note(id(fields, "call")?, fields.need("text")?)
                .await?;
        }
        "tag" => {
            writes
                .add_tag(id(fields, "call")?, fields.need("tag")?)
                .await?
        }
        "untag" => {
            writes
                .remove_tag(id(fields, "call")?, fields.need("tag")?)
                .await?
        }
        "save" => {
            writes
                .save_search(fields.need("name")?, fields.need("query")?)
                .await?;
        }
        "reason" => {
            writes
                .give_reason(
                    id(fields, "call")?,
                    fields.get("reason").unwrap_or_default(),
                )
                .await?;
        }
        "forget" => writes.forget_search(id(fields, "search")?).await?,
        "retry" => writes.retry(id(fields, "recording")?, false).await?,
        _ => return Err(ApiError::not_found("page")),
    }
    Ok(frame::see(fields.back()))
}

fn id(fields: &Fields, name: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(fields.need(name)?).map_err(|_| ApiError::not_found(name))
}

/// `83`, `83.5`, `1:23`, `1:02:03` in milliseconds.
fn seconds(text: &str) -> Result<i64, ApiError> {
    let mut total = 0.0;
    let parts: Vec<&str> = text.split(':').collect();
    for part in &parts {
        let value = part
            .parse::<f64>()
            .ok()
            .filter(|value| (0.0..1e7).contains(value));
        let value = value.filter(|_| parts.len() <= 3);
        total = total * 60.0
            + value.ok_or_else(|| {
                ApiError::bad_request(format!("at={text}: write seconds as 83, or 1:23"))
            })?;
    }
    Ok((total * 1000.0).round() as i64)
}

fn language(state: &WebState, fields: &Fields) -> Result<Response, ApiError> {
    let code = fields.need("language")?;
    Lang::parse(code).ok_or_else(|| ApiError::bad_request("language is en or zh"))?;
    let cookie = language_cookie(state, Some(code));
    let mut response = frame::see(fields.back()).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Remembers a language in this browser, or forgets what it remembered.
pub fn language_cookie(state: &WebState, code: Option<&str>) -> String {
    let https = state.settings.public_base().starts_with("https://");
    let secure = if https { "; Secure" } else { "" };
    let (code, age) = code.map_or(("", 0), |code| (code, 31_536_000));
    format!("{COOKIE_NAME}={code}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_written_in_several_ways() {
        for (text, expected) in [
            ("83", Some(83_000)),
            ("83.25", Some(83_250)),
            ("1:23", Some(83_000)),
            ("1:02:03", Some(3_723_000)),
            ("0", Some(0)),
            ("", None),
            ("-1", None),
            ("1:2:3:4", None),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
        ] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
    }
}
