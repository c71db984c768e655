//! `/admin/accounts`: who may sign in. New accounts get a link instead of a password that somebody else would know.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{Grant, Problem, granted};
use crate::db::accounts::{Account, AccountChange, NewAccount};
use crate::domain::rights::Right;
use crate::domain::token;
use crate::web::access::Reader;
use crate::web::access::shell::{self, Shell};
use crate::web::problem::ApiError;
use crate::web::reads::{Reads, ask};
use crate::web::state::WebState;

/// Time to carry a link to its reader.
const LINK_FOR_MS: i64 = 24 * 3_600_000;

#[derive(Template)]
#[template(path = "access/accounts.html")]
struct AccountsPage {
    shell: Shell,
    problem: Option<&'static str>,
    secret: Option<String>,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    role: &'static str,
    scope: String,
    state: String,
    disabled: bool,
}

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
) -> Response {
    let page = async {
        reader.needs(Right::Administer)?;
        let reads = Reads::of(&state, &reader);
        reads.note("account_list", "").await?;
        page(&state, &reader, &headers, None, None).await
    };
    page.await
        .unwrap_or_else(|error: ApiError| shell::problem(&state, &headers, &error))
}

async fn page(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    problem: Option<Problem>,
    secret: Option<String>,
) -> Result<Response, ApiError> {
    let shell = Shell::of(state, reader, headers);
    let w = shell.w;
    let now = state.clock.now();
    let accounts = ask(state, state.db.accounts()).await?;
    let lines = accounts.into_iter().map(|account| Line {
        role: w.role(account.role),
        scope: shell::scope(w, &account.scope),
        state: match account.locked_until {
            _ if account.disabled => w.disabled.to_owned(),
            Some(until) if until > now => format!("{} ({})", w.locked, shell::time(state, until)),
            _ => w.active.to_owned(),
        },
        disabled: account.disabled,
        name: account.name,
    });
    let page = AccountsPage {
        problem: problem.map(|said| said(w)),
        secret,
        lines: lines.collect(),
        shell,
    };
    let mut response = shell::render(state, &page);
    if problem.is_some() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

#[derive(Deserialize)]
pub struct Typed {
    name: String,
    role: String,
    #[serde(default)]
    sources: String,
    #[serde(default)]
    numbers: String,
    #[serde(default)]
    parties: String,
}

pub async fn add(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Form(typed): Form<Typed>,
) -> Response {
    let added = async {
        reader.needs(Right::Administer)?;
        let grant = Grant {
            name: &typed.name,
            role: &typed.role,
            sources: &typed.sources,
            numbers: &typed.numbers,
            parties: &typed.parties,
        };
        let (name, role, scope) = match granted(&grant) {
            Ok(granted) => granted,
            Err(problem) => return page(&state, &reader, &headers, Some(problem), None).await,
        };
        if ask(&state, state.db.find_account(&name)).await?.is_some() {
            return page(&state, &reader, &headers, Some(|w| w.name_taken), None).await;
        }
        let reads = Reads::of(&state, &reader);
        let said = format!("{name} {}", role.as_str());
        reads.note("account_add", &said).await?;
        let new = NewAccount {
            name,
            password_hash: None,
            role,
            scope,
            language: None,
            must_change: true,
        };
        let account = ask(&state, state.db.add_account(new, state.clock.now())).await?;
        let link = link(&state, &account).await?;
        page(&state, &reader, &headers, None, Some(link)).await
    };
    added
        .await
        .unwrap_or_else(|error: ApiError| shell::problem(&state, &headers, &error))
}

async fn link(state: &WebState, account: &Account) -> Result<String, ApiError> {
    let lost = || ApiError::unavailable("source of random bytes");
    let secret = token::new_token().ok_or_else(lost)?;
    let until = state.clock.now().plus_ms(LINK_FOR_MS);
    let hash = token::hash(secret.expose());
    ask(state, state.db.add_link(account.account_id, hash, until)).await?;
    let base = state.settings.public_base();
    Ok(format!("{base}/sign-in/link?t={}", secret.expose()))
}

#[derive(Deserialize)]
pub struct Named {
    name: String,
}

pub async fn give_link(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Form(named): Form<Named>,
) -> Response {
    let given = async {
        let account = known(&state, &reader, &named.name).await?;
        Reads::of(&state, &reader)
            .note("account_link", &account.name)
            .await?;
        let link = link(&state, &account).await?;
        page(&state, &reader, &headers, None, Some(link)).await
    };
    given
        .await
        .unwrap_or_else(|error: ApiError| shell::problem(&state, &headers, &error))
}

pub async fn disable(
    state: State<WebState>,
    reader: Extension<Reader>,
    headers: HeaderMap,
    named: Form<Named>,
) -> Response {
    switch(state.0, reader.0, headers, &named.name, true).await
}

pub async fn enable(
    state: State<WebState>,
    reader: Extension<Reader>,
    headers: HeaderMap,
    named: Form<Named>,
) -> Response {
    switch(state.0, reader.0, headers, &named.name, false).await
}

async fn known(state: &WebState, reader: &Reader, name: &str) -> Result<Account, ApiError> {
    reader.needs(Right::Administer)?;
    let found = ask(state, state.db.find_account(name)).await?;
    found.ok_or_else(|| ApiError::not_found("account"))
}

async fn switch(
    state: WebState,
    reader: Reader,
    headers: HeaderMap,
    name: &str,
    disabled: bool,
) -> Response {
    let switched = async {
        let account = known(&state, &reader, name).await?;
        // So that one administrator at least is left, and nobody locks himself out by a slip.
        if reader.account == Some(account.account_id) {
            return page(&state, &reader, &headers, Some(|w| w.not_yourself), None).await;
        }
        let action = if disabled {
            "account_disable"
        } else {
            "account_enable"
        };
        Reads::of(&state, &reader)
            .note(action, &account.name)
            .await?;
        let change = AccountChange {
            disabled: Some(disabled),
            ..AccountChange::default()
        };
        let now = state.clock.now();
        ask(
            &state,
            state.db.change_account(account.account_id, change, now),
        )
        .await?;
        Ok(Redirect::to("/admin/accounts").into_response())
    };
    switched
        .await
        .unwrap_or_else(|error: ApiError| shell::problem(&state, &headers, &error))
}
