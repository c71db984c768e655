//! `GET /api/v1/status`: queues, oldest work, least slack, counters and alarms.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};

use super::query;
use crate::domain::rights::Right;
use crate::domain::view::StatusView;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads;
use crate::web::state::WebState;

#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "status",
    summary = "Queues, oldest work, least slack, counters and alarms",
    responses(
        (status = 200, description = "The state of the house", body = StatusView),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<StatusView>, ApiError> {
    query::none(raw.as_deref())?;
    reader.needs(Right::Watch)?;
    Ok(Json(reads::status(&state).await?))
}
