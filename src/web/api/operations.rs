//! `GET /api/v1/operations`: the status and what stands behind it, as the page of operations shows it.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};

use super::query;
use crate::domain::view::OperationsView;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

#[utoipa::path(
    get,
    path = "/api/v1/operations",
    tag = "status",
    summary = "What comes in, what waits, what is near its end",
    responses(
        (status = 200, description = "Numbers and the recordings that need a person", body = OperationsView),
        (status = 400, description = "bad_request", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<OperationsView>, ApiError> {
    query::none(raw.as_deref())?;
    Ok(Json(Reads::of(&state, &reader).operations().await?))
}
