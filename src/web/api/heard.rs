//! `POST /api/v1/recordings/{id}/heard`: which seconds a player really played, for the audit trail.

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
pub struct Heard {
    /// Parts of the sound: each its begin and end in milliseconds.
    #[schema(value_type = Vec<Vec<i64>>, min_items = 1, max_items = 200)]
    pub parts_ms: Vec<(i64, i64)>,
}

#[utoipa::path(
    post,
    path = "/api/v1/recordings/{id}/heard",
    tag = "recordings",
    summary = "Tell which seconds were played",
    params(("id" = uuid::Uuid, Path, description = "recording_id")),
    request_body = Heard,
    responses(
        (status = 204, description = "It stands in the audit trail"),
        (status = 400, description = "bad_request", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 413, description = "too_large", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn tell(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let recording_id = id::recording(path)?;
    let heard: Heard = form::json(&headers, body).await?;
    Writes::of(&state, &reader)
        .heard(recording_id, &heard.parts_ms)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
