//! `GET /api/v1/recordings`: search, newest first, page by page.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use serde::Serialize;

use super::query::ListQuery;
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
        ("q" = Option<String>, Query, description = "Words, see above"),
        ("source" = Option<String>, Query, description = "A source's name"),
        ("from" = Option<String>, Query, description = "Inclusive; RFC 3339, or a date in `[server] time_zone`"),
        ("to" = Option<String>, Query, description = "Exclusive; like `from`"),
        ("number" = Option<String>, Query, description = "With a leading + or 00 exact E.164, else the end of a number"),
        ("party" = Option<String>, Query, description = "A party's id or name"),
        ("direction" = Option<String>, Query, description = "inbound, outbound or internal"),
        ("state" = Option<String>, Query, description = "A state, or none"),
        ("min_duration" = Option<String>, Query, description = "Such as 90s"),
        ("max_duration" = Option<String>, Query, description = "Such as 1h30m"),
        ("note" = Option<String>, Query, description = "A note on the sound, such as one_way_audio"),
        ("tag" = Option<String>, Query, description = "A tag of the call"),
        ("limit" = Option<u64>, Query, description = "1 to 1000, else 100", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "`next` or an item's `cursor` of an earlier answer"),
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
