//! `GET /api/v1/recordings/{id}/audio`: the access copy or the original, whole or one range of it, in constant memory.

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, HeaderValue,
};
use http::{HeaderMap, Method, StatusCode};

use super::id;
use super::query;
use crate::domain::recording::Role;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::range::{self, Answer};
use crate::web::reads::{Found, Reads};
use crate::web::reasons;
use crate::web::state::WebState;

#[utoipa::path(
    get,
    path = "/api/v1/recordings/{id}/audio",
    tag = "recordings",
    summary = "The sound of a recording",
    description = "`ETag` is the quoted SHA-256. One range per request; several ranges, another unit or an \
                   unreadable range get the whole. HEAD is answered alike, without the bytes.",
    params(
        ("id" = uuid::Uuid, Path, description = "recording_id"),
        ("role" = Option<String>, Query, description = "`access` (the default) or `original`"),
        ("Range" = Option<String>, Header, description = "`bytes=first-last`, `bytes=first-` or `bytes=-length`"),
        ("If-None-Match" = Option<String>, Header),
        ("If-Range" = Option<String>, Header),
        ("x-callvault-reason" = Option<String>, Header, description = "Why, where `[access] ask_reason` wants to know: 3 to 500 characters, percent-encoded UTF-8. It goes into the audit trail"),
        ("reason" = Option<String>, Query, description = "The same as a parameter; not both"),
    ),
    responses(
        (status = 200, description = "The whole", content_type = "audio/mpeg", body = Vec<u8>),
        (status = 206, description = "The range", content_type = "audio/mpeg", body = Vec<u8>),
        (status = 304, description = "If-None-Match names these bytes"),
        (status = 400, description = "bad_request", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found, not_archived, no_access_copy", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 428, description = "reason_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 416, description = "bad_range", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn play(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    RawQuery(raw): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let recording_id = id::recording(path)?;
    let (role, reason) = asked(raw.as_deref())?;
    let reason = reasons::of_request(&headers, reason.as_deref())?;
    let found = Reads::of(&state, &reader)
        .object(recording_id, role, reason.as_deref())
        .await?;
    send(&state, &method, &headers, &found, recording_id).await
}

#[utoipa::path(
    get,
    path = "/api/v1/calls/{id}/audio",
    tag = "calls",
    summary = "Both parties of a call in one stereo file",
    description = "Where the vendor gives each party a recording of its own: caller left, callee right where that is known, each where \
                   its start stamp puts it. Ranges and validators as for a recording's sound.",
    params(
        ("id" = uuid::Uuid, Path, description = "call_id"),
        ("Range" = Option<String>, Header, description = "`bytes=first-last`, `bytes=first-` or `bytes=-length`"),
        ("If-None-Match" = Option<String>, Header),
        ("If-Range" = Option<String>, Header),
        ("x-callvault-reason" = Option<String>, Header, description = "As for a recording's sound"),
        ("reason" = Option<String>, Query, description = "The same as a parameter; not both"),
    ),
    responses(
        (status = 200, description = "The whole", content_type = "audio/mpeg", body = Vec<u8>),
        (status = 206, description = "The range", content_type = "audio/mpeg", body = Vec<u8>),
        (status = 400, description = "bad_request", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 304, description = "If-None-Match names these bytes"),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found, no_access_copy", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 428, description = "reason_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 416, description = "bad_range", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn play_call(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    RawQuery(raw): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let call_id = id::call(path)?;
    let reason = reasons::of_request(&headers, only_reason(raw.as_deref())?.as_deref())?;
    let found = Reads::of(&state, &reader)
        .call_access(call_id, reason.as_deref())
        .await?;
    send(&state, &method, &headers, &found, call_id).await
}

/// The reason where the address says one; a joint copy has no other role.
fn only_reason(raw: Option<&str>) -> Result<Option<String>, ApiError> {
    let mut reason = None;
    for (name, value) in query::pairs(raw.unwrap_or_default())? {
        if name != "reason" {
            return Err(ApiError::bad_request(format!(
                "{name}: no such parameter here"
            )));
        }
        reason = Some(value);
    }
    Ok(reason)
}

/// The role, and the reason where the address says one.
fn asked(raw: Option<&str>) -> Result<(Role, Option<String>), ApiError> {
    let (mut role, mut reason) = (Role::Access, None);
    for (name, value) in query::pairs(raw.unwrap_or_default())? {
        match (name.as_str(), value.as_str()) {
            ("role", "access") => role = Role::Access,
            ("role", "original") => role = Role::Original,
            ("reason", _) => reason = Some(value),
            ("role", _) => {
                return Err(ApiError::bad_request(format!(
                    "role={value}: is none of access, original"
                )));
            }
            _ => {
                return Err(ApiError::bad_request(format!(
                    "{name} is no parameter here; known are role, reason"
                )));
            }
        }
    }
    Ok((role, reason))
}

/// Validators first, then the archive; nothing is opened for an answer without a body.
pub(super) async fn send(
    state: &WebState,
    method: &Method,
    headers: &HeaderMap,
    found: &Found,
    id: uuid::Uuid,
) -> Result<Response, ApiError> {
    let etag = format!("\"{}\"", found.sha256);
    let answer = range::choose(method, headers, &etag, found.bytes);
    if answer == Answer::Unsatisfiable {
        return Err(ApiError::bad_range(found.bytes));
    }
    let part = match answer {
        Answer::Part(part) => Some(part),
        _ => None,
    };
    let length = part.map_or(found.bytes, |part| part.bytes());
    let body = if *method == Method::HEAD || answer == Answer::NotModified {
        Body::empty()
    } else {
        let opened = state
            .archive
            .open(&found.key, found.version_id.as_deref(), part)
            .await;
        let reader = opened.map_err(|error| {
            tracing::error!(key = %found.key, %error, "an archived object cannot be opened");
            ApiError::unavailable("storage")
        })?;
        if reader.total_bytes != found.bytes {
            let total_bytes = reader.total_bytes;
            tracing::error!(key = %found.key, total_bytes, expected = found.bytes, "an archived object has another length");
            return Err(ApiError::unavailable("storage"));
        }
        state.metrics.audio_sent(length);
        Body::from_stream(reader.body)
    };
    let mut response = body.into_response();
    *response.status_mut() = match answer {
        Answer::NotModified => StatusCode::NOT_MODIFIED,
        Answer::Part(_) => StatusCode::PARTIAL_CONTENT,
        Answer::Whole | Answer::Unsatisfiable => StatusCode::OK,
    };
    let out = response.headers_mut();
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            out.insert(name, value);
        }
    };
    set(ETAG, &etag);
    set(ACCEPT_RANGES, "bytes");
    // Kept by the listener's own browser for its next range, never used without asking us first.
    set(CACHE_CONTROL, "private, no-cache");
    if answer == Answer::NotModified {
        return Ok(response);
    }
    set(CONTENT_LENGTH, &length.to_string());
    set(CONTENT_TYPE, content_type(&found.mime));
    let ext = extension(found.key.as_str());
    set(
        CONTENT_DISPOSITION,
        &format!("inline; filename=\"{id}.{ext}\""),
    );
    if let Some(part) = part {
        let (start, end, total) = (part.start, part.end_inclusive, found.bytes);
        set(CONTENT_RANGE, &format!("bytes {start}-{end}/{total}"));
    }
    Ok(response)
}

/// Sound and plain data alone: what a provider sent is never handed to a browser as a page.
fn content_type(mime: &str) -> &str {
    let harmless =
        (mime.starts_with("audio/") || mime.starts_with("video/") || mime == "application/json")
            && mime
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/.+-".contains(&b));
    if harmless {
        mime
    } else {
        "application/octet-stream"
    }
}

/// Our own keys end in an extension made of the bytes; anything else is `bin`.
fn extension(key: &str) -> &str {
    key.rsplit_once('.')
        .map(|(_, ext)| ext)
        .filter(|ext| {
            (1..=5).contains(&ext.len()) && ext.bytes().all(|b| b.is_ascii_alphanumeric())
        })
        .unwrap_or("bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_ever_sent_as_a_page() {
        for (mime, expected) in [
            ("audio/mpeg", "audio/mpeg"),
            ("audio/x-wav", "audio/x-wav"),
            ("text/html", "application/octet-stream"),
            ("image/svg+xml", "application/octet-stream"),
            ("audio/mpeg\r\nX: y", "application/octet-stream"),
            ("audio/mpeg; x", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(content_type(mime), expected, "{mime:?}");
        }
        assert_eq!(extension("a/b/original-00.wav"), "wav");
        assert_eq!(extension("a/b.c/original"), "bin");
        assert_eq!(extension("a.\"x"), "bin");
    }

    #[test]
    fn only_sound_has_a_role_here() {
        assert_eq!(asked(None).unwrap(), (Role::Access, None));
        let both = asked(Some("role=original&reason=case+7")).unwrap();
        assert_eq!(both, (Role::Original, Some("case 7".to_owned())));
        for bad in [
            "role=manifest",
            "role=",
            "rolle=access",
            "role=access&role=original",
        ] {
            assert!(asked(Some(bad)).is_err(), "{bad}");
        }
    }
}
