//! `POST /api/v1/recordings/{id}/retry`: another go for what waits or was put aside.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::id;
use crate::web::access::Reader;
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::state::WebState;
use crate::web::writes::Writes;

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Makes the access copy again; the original stays as it is.
    #[serde(default)]
    pub access: bool,
}

#[utoipa::path(
    post,
    path = "/api/v1/recordings/{id}/retry",
    tag = "recordings",
    summary = "Try again",
    params(("id" = uuid::Uuid, Path, description = "recording_id")),
    request_body = Retry,
    responses(
        (status = 202, description = "It is next in its queue"),
        (status = 409, description = "not_retryable", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 400, description = "bad_request", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 413, description = "too_large", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn queue(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let recording_id = id::recording(path)?;
    let retry: Retry = form::json(&headers, body).await?;
    Writes::of(&state, &reader)
        .retry(recording_id, retry.access)
        .await?;
    Ok(StatusCode::ACCEPTED)
}
