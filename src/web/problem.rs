//! Errors as people and scripts outside get them: problem+json with a stable `type`. Never leaves this room.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use serde_json::json;

use crate::domain::rights::Role;

/// Waits that a 503 asks for.
const COME_BACK: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            headers: Vec::new(),
        }
    }

    /// Also for what exists and may not be seen: both look alike.
    pub fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no such {what}"),
        )
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// What was sent is understood and not allowed; `code` is one that pages have words for.
    pub fn refused(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// What is there already stands against it.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub const SESSION_ENDED: &'static str = "session_ended";

    /// Too many wrong passwords in one session: it has ended, and the account is as it was.
    pub fn session_ended() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            Self::SESSION_ENDED,
            "the present password was wrong five times in this session, which has ended; sign in again",
        )
    }

    pub fn bad_cursor() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad_cursor",
            "after is not a cursor that this server gave; start again without it",
        )
    }

    /// `total_bytes` is the length of what a range was asked of.
    pub fn bad_range(total_bytes: u64) -> Self {
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "bad_range",
            format!("the range lies outside the {total_bytes} bytes that there are"),
        )
        .with(header::CONTENT_RANGE, &format!("bytes */{total_bytes}"))
        .with(header::ACCEPT_RANGES, "bytes")
    }

    pub fn not_archived(state: &str, reason: Option<&str>) -> Self {
        let why = reason
            .map(|reason| format!(", {reason}"))
            .unwrap_or_default();
        Self::new(
            StatusCode::NOT_FOUND,
            "not_archived",
            format!("the recording is not in the archive ({state}{why})"),
        )
    }

    pub fn no_access_copy(notes: &[String]) -> Self {
        let why = if notes.is_empty() {
            "it is still to be made".to_owned()
        } else {
            notes.join(", ")
        };
        Self::new(
            StatusCode::NOT_FOUND,
            "no_access_copy",
            format!("there is no access copy ({why}); role=original has the original"),
        )
    }

    pub fn token_required() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "token_required",
            "send [server] api_token as a bearer token, or call from this machine where none is set",
        )
    }

    /// The same for pages: browsers ask for a password only after 401.
    pub fn password_required() -> Self {
        let mut error = Self::token_required();
        error.status = StatusCode::UNAUTHORIZED;
        error.detail = "the password is [server] api_token; any user name will do".to_owned();
        error.with(
            header::WWW_AUTHENTICATE,
            "Basic realm=\"callvault\", charset=\"UTF-8\"",
        )
    }

    pub const PASSWORD_CHANGE_REQUIRED: &'static str = "password_change_required";

    /// There are accounts, and the request shows neither a session nor a good token.
    pub fn sign_in_required() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "token_required",
            "sign in at /sign-in, or send a token that `callvault account token add` made as a bearer token",
        )
        .with(header::WWW_AUTHENTICATE, "Bearer")
    }

    /// The password was made by somebody else.
    pub fn password_change_required() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            Self::PASSWORD_CHANGE_REQUIRED,
            "change your password at /account first",
        )
    }

    /// Without the word of our forms: another site's, or one from before signing in.
    pub fn stale_form() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "stale_form",
            "this form is not from your present session; open its page again and send it from there",
        )
    }

    /// `[access] ask_reason`: nothing was sent.
    pub fn reason_required() -> Self {
        Self::new(
            StatusCode::PRECONDITION_REQUIRED,
            "reason_required",
            "say why first: the header x-callvault-reason (percent-encoded UTF-8) or the parameter reason, or once for a call on its page",
        )
    }

    pub fn rate_limited(wait: Duration) -> Self {
        let wait_s = wait.as_secs() + 1;
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            format!("too many requests; the next is welcome in {wait_s} s"),
        )
        .with(header::RETRY_AFTER, &wait_s.to_string())
    }

    /// Signed in, and the role or scope does not go that far. Never says whether the thing exists.
    pub fn not_allowed(role: Role) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "not_allowed",
            format!(
                "this is not open to you (role {}); an administrator gives out roles and scopes",
                role.as_str()
            ),
        )
    }

    pub fn cross_site() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "another site's page may link here, not embed or read what is here",
        )
    }

    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this address does not take that method",
        )
    }

    /// Nothing is left to try, or somebody was faster.
    pub fn not_retryable() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "not_retryable",
            "the recording is in a state in which there is nothing to try again",
        )
    }

    /// What was sent holds more than this address takes.
    pub fn too_large(most_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("what was sent is larger than {most_bytes} bytes"),
        )
    }

    pub fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            "the body did not come in time",
        )
        .with(header::CONNECTION, "close")
    }

    /// A part this server needs is away; `part` is ours (`database`, `storage`), never a cause's text.
    pub fn unavailable(part: &str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            format!("the {part} is away or too slow; nothing was sent"),
        )
        .with(header::RETRY_AFTER, &COME_BACK.as_secs().to_string())
    }

    /// What should not happen. It is in the log under `id`.
    pub fn internal(id: &str) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            format!("an unexpected failure; the log has it under {id}"),
        )
    }

    /// Adds a header; values are made of our own words and numbers.
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn code(&self) -> &'static str {
        self.code
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({
            "type": format!("urn:callvault:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unavailable_answer_says_when_to_come_back() {
        let response = ApiError::unavailable("database").into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }
}
