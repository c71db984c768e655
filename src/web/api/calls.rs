//! `GET /api/v1/calls/{id}` and `/calls/by/{source}/{id}`: a call with all its recordings, as `show` prints it.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::{Extension, Json};

use super::{id, query};
use crate::domain::view::ShowView;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

#[utoipa::path(
    get,
    path = "/api/v1/calls/{id}",
    tag = "calls",
    summary = "A call with all its recordings",
    params(("id" = uuid::Uuid, Path, description = "call_id")),
    responses(
        (status = 200, description = "The call", body = ShowView),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    RawQuery(raw): RawQuery,
) -> Result<Json<ShowView>, ApiError> {
    let call_id = id::call(path)?;
    query::none(raw.as_deref())?;
    let shown = Reads::of(&state, &reader).show(call_id).await?;
    // A recording's id finds its call elsewhere; here it is no call.
    if shown.call.call_id != call_id {
        return Err(ApiError::not_found("call"));
    }
    Ok(Json(shown))
}

#[utoipa::path(
    get,
    path = "/api/v1/calls/by/{source}/{id}",
    tag = "calls",
    summary = "A call by an id that is not ours",
    params(
        ("source" = String, Path, description = "A source's name"),
        ("id" = String, Path, description = "The provider's call id, else a correlation id; the newest call that has it"),
    ),
    responses(
        (status = 200, description = "The call", body = ShowView),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn find(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<ShowView>, ApiError> {
    let Path((source, id)) = path.map_err(|_| ApiError::not_found("call"))?;
    query::none(raw.as_deref())?;
    Ok(Json(
        Reads::of(&state, &reader).call_by(&source, &id).await?,
    ))
}
