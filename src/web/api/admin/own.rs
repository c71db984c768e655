//! One's own account.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::db::sessions::Session;
use crate::domain::secret::Secret;
use crate::web::access::Reader;
use crate::web::access::govern::own::{Own, OwnView};
use crate::web::api::{id, openapi, query};
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Serialize, utoipa::ToSchema)]
pub struct Sessions {
    /// The newest first.
    pub items: Vec<Session>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeOwn {
    /// Null: what the browser asks for. It must be there.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
    pub language: Option<Language>,
}

#[derive(Clone, Copy, Deserialize, utoipa::ToSchema)]
pub enum Language {
    #[serde(rename = "en")]
    En,
    #[serde(rename = "zh-CN")]
    Zh,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The present one; not looked at where the account has none yet.
    #[serde(default)]
    #[schema(value_type = String)]
    pub old: Option<Secret>,
    #[schema(min_length = 12)]
    pub new: String,
}

#[utoipa::path(
    get,
    path = "/api/v1/account",
    tag = "account",
    summary = "Who asks: name in the trail, role, scope",
    responses((status = 200, description = "The reader", body = OwnView))
)]
pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<OwnView>, ApiError> {
    query::none(raw.as_deref())?;
    Ok(Json(Own::of(&state, &reader).show().await?))
}

#[utoipa::path(
    patch,
    path = "/api/v1/account",
    tag = "account",
    summary = "The language of one's own pages",
    request_body = ChangeOwn,
    responses((status = 200, description = "The reader", body = OwnView))
)]
pub async fn change(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<OwnView>, ApiError> {
    let change: ChangeOwn = form::json(&headers, body).await?;
    let own = Own::of(&state, &reader);
    let language = change.language.map(|language| match language {
        Language::En => "en".to_owned(),
        Language::Zh => "zh-CN".to_owned(),
    });
    own.change_language(language).await?;
    Ok(Json(own.show().await?))
}

#[utoipa::path(
    put,
    path = "/api/v1/account/password",
    tag = "account",
    summary = "A new password; every session of the account ends, and this browser has a new one",
    description = "For sessions alone. The fifth wrong present password ends the session; the account stays as it is.",
    request_body = ChangePassword,
    responses(
        (status = 204, description = "It is changed; Set-Cookie has the new session"),
        (status = 400, description = "bad_request, wrong_password, weak_password", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "not_allowed for tokens, session_ended", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change_password(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let change: ChangePassword = form::json(&headers, body).await?;
    let old = change.old.unwrap_or_else(|| Secret::new(""));
    let own = Own::of(&state, &reader);
    let cookie = own.change_password(old, change.new, &headers).await?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
}

#[utoipa::path(
    get,
    path = "/api/v1/account/sessions",
    tag = "account",
    summary = "Browsers that are signed in to one's own account",
    responses((status = 200, description = "All of them", body = Sessions))
)]
pub async fn sessions(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Sessions>, ApiError> {
    query::none(raw.as_deref())?;
    Ok(Json(Sessions {
        items: Own::of(&state, &reader).sessions().await?,
    }))
}

#[utoipa::path(
    delete,
    path = "/api/v1/account/sessions/{id}",
    tag = "account",
    summary = "Sign a browser out, be it this one",
    params(("id" = uuid::Uuid, Path, description = "session_id")),
    responses(
        (status = 204, description = "It has ended"),
        (status = 404, description = "not_found", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn end_session(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    form::check_form(&headers)?;
    let session = id::any(path, "session")?;
    Own::of(&state, &reader).end_session(session).await?;
    Ok(StatusCode::NO_CONTENT)
}
