//! Tokens: what scripts show.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::db::tokens::Token;
use crate::domain::rights::{Role, Scope};
use crate::web::access::Reader;
use crate::web::access::govern::tokens::Tokens;
use crate::web::api::{id, openapi, query};
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Serialize, utoipa::ToSchema)]
pub struct TokenList {
    /// By name, revoked and expired ones too.
    pub items: Vec<Token>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddToken {
    /// Kept in lower case; `api_token` is the configured one's.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]*$"
    )]
    pub name: String,
    pub role: Role,
    #[serde(default)]
    pub scope: Scope,
    /// Until it is no good any more.
    #[schema(minimum = 1, maximum = 3650)]
    pub days: i64,
}

/// A token that was just made.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AddedToken {
    pub token: Token,
    /// Told this once; the server keeps its hash alone.
    pub secret: String,
}

#[utoipa::path(
    get,
    path = "/api/v1/tokens",
    tag = "administration",
    summary = "Every token, without its secret",
    responses((status = 200, description = "All of them", body = TokenList))
)]
pub async fn list(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<TokenList>, ApiError> {
    let tokens = Tokens::of(&state, &reader)?;
    query::none(raw.as_deref())?;
    Ok(Json(TokenList {
        items: tokens.list().await?,
    }))
}

#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    tag = "administration",
    summary = "A new token, told once",
    request_body = AddToken,
    responses(
        (status = 201, description = "It is good from now on", body = AddedToken),
        (status = 400, description = "bad_request, bad_name, reserved_name, bad_scope, bad_days", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 409, description = "name_taken, whole_house", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn add(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<AddedToken>), ApiError> {
    let tokens = Tokens::of(&state, &reader)?;
    let new: AddToken = form::json(&headers, body).await?;
    let (token, secret) = tokens.add(&new.name, new.role, new.scope, new.days).await?;
    let secret = secret.expose().to_owned();
    Ok((StatusCode::CREATED, Json(AddedToken { token, secret })))
}

#[utoipa::path(
    delete,
    path = "/api/v1/tokens/{name}",
    tag = "administration",
    summary = "Revoke a token, from the next request on",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 204, description = "It is no good any more"),
        (status = 404, description = "not_found", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn revoke(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let tokens = Tokens::of(&state, &reader)?;
    form::check_form(&headers)?;
    tokens.revoke(&id::name(path, "token")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
