//! `GET /api/v1/recordings/{id}/waveform`: peaks for a drawing, audiowaveform JSON version 2.

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, Method};

use super::{audio, id, query};
use crate::domain::recording::Role;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::reasons;
use crate::web::state::WebState;

#[utoipa::path(
    get,
    path = "/api/v1/recordings/{id}/waveform",
    tag = "recordings",
    summary = "Peaks for a drawing",
    description = "audiowaveform JSON version 2: per point and channel the minimum and the maximum.",
    params(
        ("id" = uuid::Uuid, Path, description = "recording_id"),
        ("x-callvault-reason" = Option<String>, Header, description = "Why, as for the sound"),
        ("reason" = Option<String>, Query, description = "The same as a parameter; not both"),
    ),
    responses(
        (status = 200, description = "The peaks", content_type = "application/json", body = super::openapi::Waveform),
        (status = 304, description = "If-None-Match names these bytes"),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 400, description = "bad_request", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 428, description = "reason_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found, not_archived, no_access_copy", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    RawQuery(raw): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let recording_id = id::recording(path)?;
    let mut reason = None;
    for (name, value) in query::pairs(raw.as_deref().unwrap_or_default())? {
        if name != "reason" {
            return Err(ApiError::bad_request(format!(
                "{name} is no parameter here; known is reason"
            )));
        }
        reason = Some(value);
    }
    let reason = reasons::of_request(&headers, reason.as_deref())?;
    let found = Reads::of(&state, &reader)
        .object(recording_id, Role::Waveform, reason.as_deref())
        .await?;
    audio::send(&state, &method, &headers, &found, recording_id).await
}
