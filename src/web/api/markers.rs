//! Markers: seconds of a recording with what is there.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::{id, query};
use crate::domain::view::Marker;
use crate::web::access::Reader;
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;
use crate::web::writes::Writes;

#[derive(Serialize, utoipa::ToSchema)]
pub struct Markers {
    /// In the order of their place in the sound.
    pub items: Vec<Marker>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMarker {
    /// From the beginning of the sound.
    #[schema(minimum = 0, maximum = 604_800_000)]
    pub offset_ms: i64,
    #[schema(min_length = 1, max_length = 4000)]
    pub text: String,
}

#[utoipa::path(
    get,
    path = "/api/v1/recordings/{id}/markers",
    tag = "desk",
    summary = "Markers of a recording",
    params(("id" = uuid::Uuid, Path, description = "recording_id")),
    responses(
        (status = 200, description = "All of them", body = Markers),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    RawQuery(raw): RawQuery,
) -> Result<Json<Markers>, ApiError> {
    let recording_id = id::recording(path)?;
    query::none(raw.as_deref())?;
    let items = Reads::of(&state, &reader).markers(recording_id).await?;
    Ok(Json(Markers { items }))
}

#[utoipa::path(
    post,
    path = "/api/v1/recordings/{id}/markers",
    tag = "desk",
    summary = "Mark a second",
    params(("id" = uuid::Uuid, Path, description = "recording_id")),
    request_body = NewMarker,
    responses(
        (status = 201, description = "It stands", body = Marker),
        (status = 400, description = "bad_request", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 413, description = "too_large", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn add(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Marker>), ApiError> {
    let recording_id = id::recording(path)?;
    let new: NewMarker = form::json(&headers, body).await?;
    let writes = Writes::of(&state, &reader);
    let marker = writes
        .add_marker(recording_id, new.offset_ms, &new.text)
        .await?;
    Ok((StatusCode::CREATED, Json(marker)))
}

#[utoipa::path(
    delete,
    path = "/api/v1/markers/{id}",
    tag = "desk",
    summary = "Take a marker away",
    params(("id" = uuid::Uuid, Path, description = "marker_id")),
    responses(
        (status = 204, description = "It is gone from view; the audit trail keeps it"),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn remove(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    form::check_form(&headers)?;
    let marker_id = id::any(path, "marker")?;
    Writes::of(&state, &reader).remove_marker(marker_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
