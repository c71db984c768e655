//! `GET /api/v1/ask`: one line as people write it, as words and a window of time for a search.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;

use super::query;
use crate::domain::ask;
use crate::domain::clock::Timestamp;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

/// What a line means, ready for `q`, `from` and `to` of a search.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Understood {
    pub q: String,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// The zone whose days are meant.
    pub time_zone: String,
}

#[utoipa::path(
    get,
    path = "/api/v1/ask",
    tag = "recordings",
    summary = "Understand a line of the search box",
    description = "Takes days and times such as `yesterday afternoon`, `last week`, `3 March`, `14:30` or 昨天 out of a line \
                   and joins numbers that are written in groups. What stands in double quotes stays text.",
    params(("line" = String, Query, description = "As typed")),
    responses(
        (status = 200, description = "What it means", body = Understood),
        (status = 400, description = "bad_request", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(state): State<WebState>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Understood>, ApiError> {
    let mut line = None;
    for (name, value) in query::pairs(raw.as_deref().unwrap_or_default())? {
        if name != "line" {
            return Err(ApiError::bad_request(format!(
                "{name} is no parameter here; known is line"
            )));
        }
        line = Some(value);
    }
    let line = line.ok_or_else(|| ApiError::bad_request("line is missing"))?;
    let zone = state.settings.time_zone;
    let asked = ask::understand(&line, state.clock.now(), zone);
    Ok(Json(Understood {
        q: asked.text,
        from: asked.from,
        to: asked.to,
        time_zone: zone.name().to_owned(),
    }))
}
