//! Sources, with the exact addresses to give to their vendors.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use http::HeaderMap;
use serde::Serialize;

use crate::jobs::sources::SourceView;
use crate::web::access::Reader;
use crate::web::access::govern::sources::{SourceList, Tested};
use crate::web::api::{id, openapi, query};
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Serialize, utoipa::ToSchema)]
pub struct Sources {
    pub items: Vec<SourceView>,
}

#[utoipa::path(
    get,
    path = "/api/v1/sources",
    tag = "administration",
    summary = "Every source; its addresses hold its secret token",
    responses((status = 200, description = "All of them", body = Sources))
)]
pub async fn list(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Sources>, ApiError> {
    let sources = SourceList::of(&state, &reader)?;
    query::none(raw.as_deref())?;
    Ok(Json(Sources {
        items: sources.list().await?,
    }))
}

#[utoipa::path(
    post,
    path = "/api/v1/sources/{name}/test",
    tag = "administration",
    summary = "Ask the vendor, as `callvault check` does",
    params(("name" = String, Path, description = "The source")),
    responses(
        (status = 200, description = "What was found", body = Tested),
        (status = 404, description = "not_found", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn test(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
) -> Result<Json<Tested>, ApiError> {
    let sources = SourceList::of(&state, &reader)?;
    form::check_form(&headers)?;
    Ok(Json(sources.test(&id::name(path, "source")?).await?))
}
