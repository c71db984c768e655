//! `GET /api/v1/recordings/{id}`: all that is known of one recording, with its call.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use serde::Serialize;

use super::{id, query};
use crate::domain::view::{CallView, RecordingDetail};
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

/// The item of a list, its objects, history and notices, and beside them its call.
#[derive(Serialize, utoipa::ToSchema)]
pub struct RecordingWithCall {
    #[serde(flatten)]
    pub detail: RecordingDetail,
    pub call: CallView,
}

#[utoipa::path(
    get,
    path = "/api/v1/recordings/{id}",
    tag = "recordings",
    summary = "One recording",
    params(("id" = uuid::Uuid, Path, description = "recording_id")),
    responses(
        (status = 200, description = "The recording", body = RecordingWithCall),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    RawQuery(raw): RawQuery,
) -> Result<Json<RecordingWithCall>, ApiError> {
    let recording_id = id::recording(path)?;
    query::none(raw.as_deref())?;
    let shown = Reads::of(&state, &reader).show(recording_id).await?;
    let detail = shown
        .recordings
        .into_iter()
        .find(|detail| detail.recording.recording_id == Some(recording_id))
        .ok_or_else(|| ApiError::not_found("recording"))?;
    Ok(Json(RecordingWithCall {
        detail,
        call: shown.call,
    }))
}
