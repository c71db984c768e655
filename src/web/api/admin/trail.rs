//! The audit trail.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::HeaderMap;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde::Serialize;

use crate::db::audit::AuditRow;
use crate::domain::audit::ChainReport;
use crate::web::access::Reader;
use crate::web::access::govern::trail::{Trail, Wanted};
use crate::web::api::{openapi, query};
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Serialize, utoipa::ToSchema)]
pub struct TrailPage {
    /// The newest first.
    pub items: Vec<AuditRow>,
    /// Give it as `after` for the next page; null at the end.
    pub next: Option<String>,
}

#[utoipa::path(
    get,
    path = "/api/v1/audit",
    tag = "administration",
    summary = "The audit trail, newest first",
    description = "Reading it is a row of it. Whoever sees masked numbers sees them masked here, too.",
    params(
        ("actor" = Option<String>, Query, description = "Exactly, such as account:ann"),
        ("action" = Option<String>, Query, description = "Exactly, such as play"),
        ("subject" = Option<String>, Query, description = "Exactly, such as a recording_id"),
        ("from" = Option<query::Moment>, Query, description = "Inclusive; a date is a day of `[server] time_zone`"),
        ("to" = Option<query::Moment>, Query, description = "Exclusive; like `from`"),
        ("limit" = Option<u64>, Query, description = "1 to 1000, else 100", minimum = 1, maximum = 1000),
        ("after" = Option<i64>, Query, description = "`next` of an earlier answer", minimum = 1),
    ),
    responses(
        (status = 200, description = "One page", body = TrailPage),
        (status = 400, description = "bad_request, bad_cursor", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<TrailPage>, ApiError> {
    let trail = Trail::of(&state, &reader)?;
    let wanted = Wanted::parse(raw.as_deref().unwrap_or_default(), &state)?;
    let (items, next) = trail.page(&wanted).await?;
    Ok(Json(TrailPage { items, next }))
}

#[utoipa::path(
    get,
    path = "/api/v1/audit.ndjson",
    tag = "administration",
    summary = "The whole chain in its order, a row a line",
    responses((status = 200, description = "Rows as `AuditRow`", body = String, content_type = "application/x-ndjson"))
)]
pub async fn export(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let trail = Trail::of(&state, &reader)?;
    query::none(raw.as_deref())?;
    let lines = trail.export().await?;
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson"),
        (CONTENT_DISPOSITION, "attachment; filename=\"audit.ndjson\""),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

#[utoipa::path(
    post,
    path = "/api/v1/audit/verify",
    tag = "administration",
    summary = "Compute the whole chain again",
    responses((status = 200, description = "What was found", body = ChainReport))
)]
pub async fn verify(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
) -> Result<Json<ChainReport>, ApiError> {
    let trail = Trail::of(&state, &reader)?;
    form::check_form(&headers)?;
    Ok(Json(trail.verify().await?))
}
