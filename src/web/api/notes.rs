//! Notes: what people wrote about a call.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::{id, query};
use crate::domain::view::DeskNote;
use crate::web::access::Reader;
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;
use crate::web::writes::Writes;

#[derive(Serialize, utoipa::ToSchema)]
pub struct Notes {
    /// The oldest first.
    pub items: Vec<DeskNote>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNote {
    #[schema(min_length = 1, max_length = 4000)]
    pub text: String,
}

#[utoipa::path(
    get,
    path = "/api/v1/calls/{id}/notes",
    tag = "desk",
    summary = "Notes on a call",
    params(("id" = uuid::Uuid, Path, description = "call_id")),
    responses(
        (status = 200, description = "All of them", body = Notes),
        (status = 403, description = "token_required, cross_site", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    RawQuery(raw): RawQuery,
) -> Result<Json<Notes>, ApiError> {
    let call_id = id::call(path)?;
    query::none(raw.as_deref())?;
    let items = Reads::of(&state, &reader).notes(call_id).await?;
    Ok(Json(Notes { items }))
}

#[utoipa::path(
    post,
    path = "/api/v1/calls/{id}/notes",
    tag = "desk",
    summary = "Write a note",
    params(("id" = uuid::Uuid, Path, description = "call_id")),
    request_body = NewNote,
    responses(
        (status = 201, description = "It stands", body = DeskNote),
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
    path: id::Given,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<DeskNote>), ApiError> {
    let call_id = id::call(path)?;
    let new: NewNote = form::json(&headers, body).await?;
    let note = Writes::of(&state, &reader)
        .add_note(call_id, &new.text)
        .await?;
    Ok((StatusCode::CREATED, Json(note)))
}
