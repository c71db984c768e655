//! `GET /api/v1/recordings`: search, newest first, page by page.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use serde::Serialize;

use super::query::{self, ListQuery};
use crate::domain::view::RecordingView;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

#[derive(Serialize, utoipa::ToSchema)]
pub struct RecordingPage {
    pub items: Vec<RecordingView>,
    /// Give it as `after` for the next page; null at the end.
    pub next: Option<String>,
}

#[utoipa::path(
    get,
    path = "/api/v1/recordings",
    tag = "recordings",
    summary = "Search recordings, newest first",
    description = "Every word of `q` must match. Three or more digits: the end of any number, or a whole id. \
                   Otherwise the start of a name, or a whole or leading part of a provider call id, recording id \
                   or correlation id. A call without any recording is one item with `recording_id: null` and \
                   `state: \"none\"`. A parameter that is not listed here is refused.",
    params(
        query::Filters,
        ("limit" = Option<u64>, Query, description = "0 for as many as one answer holds, which is 1000; else 100", minimum = 0),
    ),
    responses(
        (status = 200, description = "One page", body = RecordingPage),
        (status = 400, description = "bad_request, bad_cursor", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<RecordingPage>, ApiError> {
    let query = ListQuery::parse(raw.as_deref().unwrap_or_default(), state.settings.time_zone)?;
    let page = Reads::of(&state, &reader).search(query).await?;
    Ok(Json(RecordingPage {
        items: page.items,
        next: page.next,
    }))
}
