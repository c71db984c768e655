//! Saved searches: each reader's own.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::{id, query};
use crate::domain::view::SavedSearch;
use crate::web::access::Reader;
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;
use crate::web::writes::Writes;

#[derive(Serialize, utoipa::ToSchema)]
pub struct Searches {
    /// The newest first.
    pub items: Vec<SavedSearch>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSearch {
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// As the search page's address has it behind `?`.
    #[schema(min_length = 1, max_length = 4000)]
    pub query: String,
}

#[utoipa::path(
    get,
    path = "/api/v1/searches",
    tag = "desk",
    summary = "The reader's saved searches",
    responses(
        (status = 200, description = "All of them", body = Searches),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Searches>, ApiError> {
    query::none(raw.as_deref())?;
    let items = Reads::of(&state, &reader).saved_searches().await?;
    Ok(Json(Searches { items }))
}

#[utoipa::path(
    post,
    path = "/api/v1/searches",
    tag = "desk",
    summary = "Keep a search; the same name again replaces it",
    request_body = NewSearch,
    responses(
        (status = 201, description = "It is kept", body = SavedSearch),
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
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<SavedSearch>), ApiError> {
    let new: NewSearch = form::json(&headers, body).await?;
    let kept = Writes::of(&state, &reader)
        .save_search(&new.name, &new.query)
        .await?;
    Ok((StatusCode::CREATED, Json(kept)))
}

#[utoipa::path(
    delete,
    path = "/api/v1/searches/{id}",
    tag = "desk",
    summary = "Forget a saved search",
    params(("id" = uuid::Uuid, Path, description = "search_id")),
    responses(
        (status = 204, description = "It is gone"),
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
    let search_id = id::any(path, "saved search")?;
    Writes::of(&state, &reader).forget_search(search_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
