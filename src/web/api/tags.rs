//! Tags: words that people put on calls.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use super::{id, query};
use crate::domain::view::TagView;
use crate::web::access::Reader;
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;
use crate::web::writes::Writes;

#[derive(Serialize, utoipa::ToSchema)]
pub struct AllTags {
    /// The most used first.
    pub items: Vec<TagView>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct CallTags {
    pub items: Vec<String>,
}

#[utoipa::path(
    get,
    path = "/api/v1/tags",
    tag = "desk",
    summary = "All tags",
    responses(
        (status = 200, description = "All of them", body = AllTags),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn all(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<AllTags>, ApiError> {
    query::none(raw.as_deref())?;
    let items = Reads::of(&state, &reader).tags().await?;
    Ok(Json(AllTags { items }))
}

#[utoipa::path(
    get,
    path = "/api/v1/calls/{id}/tags",
    tag = "desk",
    summary = "Tags of a call",
    params(("id" = uuid::Uuid, Path, description = "call_id")),
    responses(
        (status = 200, description = "All of them", body = CallTags),
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
) -> Result<Json<CallTags>, ApiError> {
    let call_id = id::call(path)?;
    query::none(raw.as_deref())?;
    let items = Reads::of(&state, &reader).call_tags(call_id).await?;
    Ok(Json(CallTags { items }))
}

type CallAndTag = Result<Path<(Uuid, String)>, PathRejection>;

#[utoipa::path(
    put,
    path = "/api/v1/calls/{id}/tags/{tag}",
    tag = "desk",
    summary = "Put a tag on a call",
    params(
        ("id" = uuid::Uuid, Path, description = "call_id"),
        ("tag" = String, Path, description = "At most 64 characters; case and extra spaces do not count"),
    ),
    responses(
        (status = 204, description = "The call has it"),
        (status = 400, description = "bad_request", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn put(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: CallAndTag,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    form::check_form(&headers)?;
    let Path((call_id, tag)) = path.map_err(|_| ApiError::not_found("call"))?;
    Writes::of(&state, &reader).add_tag(call_id, &tag).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    delete,
    path = "/api/v1/calls/{id}/tags/{tag}",
    tag = "desk",
    summary = "Take a tag off a call",
    params(
        ("id" = uuid::Uuid, Path, description = "call_id"),
        ("tag" = String, Path, description = "The tag"),
    ),
    responses(
        (status = 204, description = "The call has it no longer"),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn remove(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: CallAndTag,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    form::check_form(&headers)?;
    let Path((call_id, tag)) = path.map_err(|_| ApiError::not_found("call"))?;
    Writes::of(&state, &reader)
        .remove_tag(call_id, &tag)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
