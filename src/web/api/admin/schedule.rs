//! The scheduled jobs.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::web::access::Reader;
use crate::web::access::govern::schedule::{JobView, Schedule};
use crate::web::api::{id, openapi, query};
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Serialize, utoipa::ToSchema)]
pub struct Jobs {
    /// By name.
    pub items: Vec<JobView>,
}

#[utoipa::path(
    get,
    path = "/api/v1/schedule",
    tag = "administration",
    summary = "Every job: when it runs next, and what its last runs came to",
    responses((status = 200, description = "All of them", body = Jobs))
)]
pub async fn list(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Jobs>, ApiError> {
    let schedule = Schedule::of(&state, &reader)?;
    query::none(raw.as_deref())?;
    Ok(Json(Jobs {
        items: schedule.list().await?,
    }))
}

#[utoipa::path(
    post,
    path = "/api/v1/schedule/{name}/run",
    tag = "administration",
    summary = "Run a job now",
    params(("name" = String, Path, description = "The job")),
    responses(
        (status = 202, description = "A worker begins it within seconds, or after the run that goes on"),
        (status = 404, description = "not_found", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn run(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let schedule = Schedule::of(&state, &reader)?;
    form::check_form(&headers)?;
    schedule.run(&id::name(path, "job")?).await?;
    Ok(StatusCode::ACCEPTED)
}
