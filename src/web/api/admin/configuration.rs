//! The configuration as it is in force.

use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use serde::Serialize;

use crate::domain::rights::Right;
use crate::web::access::Reader;
use crate::web::api::query;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

#[derive(Serialize, utoipa::ToSchema)]
pub struct ConfigurationView {
    /// What file and environment said when this process started, without secrets.
    pub toml: String,
    pub version: &'static str,
}

#[utoipa::path(
    get,
    path = "/api/v1/configuration",
    tag = "administration",
    summary = "What file and environment said when this process started, without secrets",
    responses((status = 200, description = "The configuration", body = ConfigurationView))
)]
pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<ConfigurationView>, ApiError> {
    reader.needs(Right::Administer)?;
    query::none(raw.as_deref())?;
    Reads::of(&state, &reader).note("configuration", "").await?;
    Ok(Json(ConfigurationView {
        toml: state.settings.in_force.clone(),
        version: env!("CARGO_PKG_VERSION"),
    }))
}
