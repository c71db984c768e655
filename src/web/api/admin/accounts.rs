//! Accounts: who may sign in.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::db::accounts::Account;
use crate::domain::rights::{Role, Scope};
use crate::web::access::Reader;
use crate::web::access::govern::accounts::{Accounts, Link, Wish};
use crate::web::api::{id, openapi, query};
use crate::web::form;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Serialize, utoipa::ToSchema)]
pub struct AccountList {
    /// By name.
    pub items: Vec<Account>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddAccount {
    /// Kept in lower case.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]*$"
    )]
    pub name: String,
    pub role: Role,
    /// Everything, where it is left out; auditors and administrators have none.
    #[serde(default)]
    pub scope: Scope,
}

/// An account that was just made.
#[derive(Serialize, utoipa::ToSchema)]
pub struct AddedAccount {
    pub account: Account,
    /// Its owner signs in by it and chooses a password.
    pub link: Link,
}

/// What is left out stays.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAccount {
    #[serde(default)]
    pub role: Option<Role>,
    /// Replaces the present one as a whole.
    #[serde(default)]
    pub scope: Option<Scope>,
    #[serde(default)]
    pub disabled: Option<bool>,
}

#[utoipa::path(
    get,
    path = "/api/v1/accounts",
    tag = "administration",
    summary = "Every account",
    responses((status = 200, description = "All of them", body = AccountList))
)]
pub async fn list(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Json<AccountList>, ApiError> {
    let accounts = Accounts::of(&state, &reader)?;
    query::none(raw.as_deref())?;
    Ok(Json(AccountList {
        items: accounts.list().await?,
    }))
}

#[utoipa::path(
    post,
    path = "/api/v1/accounts",
    tag = "administration",
    summary = "A new account, with a link that signs it in once",
    request_body = AddAccount,
    responses(
        (status = 201, description = "It is there", body = AddedAccount),
        (status = 400, description = "bad_request, bad_name, bad_scope", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 409, description = "name_taken, whole_house", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn add(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<AddedAccount>), ApiError> {
    let accounts = Accounts::of(&state, &reader)?;
    let new: AddAccount = form::json(&headers, body).await?;
    let (account, link) = accounts.add(&new.name, new.role, new.scope).await?;
    Ok((StatusCode::CREATED, Json(AddedAccount { account, link })))
}

#[utoipa::path(
    get,
    path = "/api/v1/accounts/{name}",
    tag = "administration",
    summary = "One account",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The account", body = Account),
        (status = 404, description = "not_found", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    RawQuery(raw): RawQuery,
) -> Result<Json<Account>, ApiError> {
    let accounts = Accounts::of(&state, &reader)?;
    query::none(raw.as_deref())?;
    Ok(Json(accounts.show(&id::name(path, "account")?).await?))
}

#[utoipa::path(
    patch,
    path = "/api/v1/accounts/{name}",
    tag = "administration",
    summary = "Change role, scope, or whether it may sign in",
    description = "Less than before ends the account's sessions. Nobody changes their own rights, and the last \
                   administrator stays one.",
    params(("name" = String, Path, description = "Its name")),
    request_body = ChangeAccount,
    responses(
        (status = 200, description = "The account as it is now", body = Account),
        (status = 400, description = "bad_request, bad_scope", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 409, description = "not_yourself, last_administrator, whole_house", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Account>, ApiError> {
    let accounts = Accounts::of(&state, &reader)?;
    let change: ChangeAccount = form::json(&headers, body).await?;
    let name = id::name(path, "account")?;
    let ChangeAccount {
        role,
        scope,
        disabled,
    } = change;
    // Two rows in the trail where two things change.
    let mut account = None;
    if role.is_some() || scope.is_some() || disabled.is_none() {
        let wish = Wish {
            role,
            scope,
            disabled: None,
        };
        account = Some(accounts.change(&name, wish).await?);
    }
    if disabled.is_some() {
        let wish = Wish {
            disabled,
            ..Wish::default()
        };
        account = Some(accounts.change(&name, wish).await?);
    }
    account
        .map(Json)
        .ok_or_else(|| ApiError::not_found("account"))
}

#[utoipa::path(
    post,
    path = "/api/v1/accounts/{name}/link",
    tag = "administration",
    summary = "A link that signs this account in once, within a day",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 201, description = "Told this once", body = Link),
        (status = 404, description = "not_found", body = openapi::Problem, content_type = "application/problem+json"),
        (status = 409, description = "disabled", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn link(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Link>), ApiError> {
    let accounts = Accounts::of(&state, &reader)?;
    form::check_form(&headers)?;
    let link = accounts.link(&id::name(path, "account")?).await?;
    Ok((StatusCode::CREATED, Json(link)))
}

#[utoipa::path(
    post,
    path = "/api/v1/accounts/{name}/unlock",
    tag = "administration",
    summary = "Forget failed tries, so that its owner need not wait",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The account as it is now", body = Account),
        (status = 404, description = "not_found", body = openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn unlock(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
) -> Result<Json<Account>, ApiError> {
    let accounts = Accounts::of(&state, &reader)?;
    form::check_form(&headers)?;
    Ok(Json(accounts.unlock(&id::name(path, "account")?).await?))
}
