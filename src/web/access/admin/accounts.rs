//! `/admin/accounts`: who may sign in, and somebody new.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Form};
use http::HeaderMap;
use serde::Deserialize;

use super::{Grant, Told, account_state, granted, or_problem};
use crate::web::access::Reader;
use crate::web::access::govern::accounts::{Accounts, Wish};
use crate::web::access::shell::{self, Shell};
use crate::web::pages::frame::Section;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

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
        let accounts = Accounts::of(&state, &reader)?;
        accounts.list().await?;
        page(&state, &reader, &headers, Told::default(), None).await
    };
    or_problem(&state, &reader, &headers, page.await)
}

fn shell_of(state: &WebState, reader: &Reader, headers: &HeaderMap) -> Shell {
    Shell::of(state, reader, headers).at(Section::Accounts, "/admin/accounts")
}

async fn page(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    told: Told,
    secret: Option<String>,
) -> Result<Response, ApiError> {
    let shell = shell_of(state, reader, headers);
    let w = shell.w;
    let accounts = Accounts::of(state, reader)?.rows().await?;
    let lines = accounts.into_iter().map(|account| Line {
        role: w.role(account.role),
        scope: shell::scope(w, &account.scope),
        state: account_state(state, w, &account),
        disabled: account.disabled,
        name: account.name,
    });
    let page = AccountsPage {
        problem: told.problem,
        secret,
        lines: lines.collect(),
        shell,
    };
    Ok(told.onto(shell::render(state, &page)))
}

/// A refusal above the list.
async fn refused(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    error: ApiError,
) -> Result<Response, ApiError> {
    let told = Told::of(error, shell_of(state, reader, headers).frame.lang)?;
    page(state, reader, headers, told, None).await
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
        let accounts = Accounts::of(&state, &reader)?;
        let grant = Grant {
            role: &typed.role,
            sources: &typed.sources,
            numbers: &typed.numbers,
            parties: &typed.parties,
        };
        let (role, scope) = granted(&grant)?;
        match accounts.add(&typed.name, role, scope).await {
            Ok((_, link)) => page(&state, &reader, &headers, Told::default(), Some(link.url)).await,
            Err(error) => refused(&state, &reader, &headers, error).await,
        }
    };
    or_problem(&state, &reader, &headers, added.await)
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
        match Accounts::of(&state, &reader)?.link(&named.name).await {
            Ok(link) => page(&state, &reader, &headers, Told::default(), Some(link.url)).await,
            Err(error) => refused(&state, &reader, &headers, error).await,
        }
    };
    or_problem(&state, &reader, &headers, given.await)
}

pub async fn unlock(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Form(named): Form<Named>,
) -> Response {
    let unlocked = async {
        let account = Accounts::of(&state, &reader)?.unlock(&named.name).await?;
        Ok(shell::see(&format!("/admin/account/{}", account.name)))
    };
    or_problem(&state, &reader, &headers, unlocked.await)
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

async fn switch(
    state: WebState,
    reader: Reader,
    headers: HeaderMap,
    name: &str,
    disabled: bool,
) -> Response {
    let switched = async {
        let wish = Wish {
            disabled: Some(disabled),
            ..Wish::default()
        };
        match Accounts::of(&state, &reader)?.change(name, wish).await {
            Ok(_) => Ok(shell::see("/admin/accounts")),
            Err(error) => refused(&state, &reader, &headers, error).await,
        }
    };
    or_problem(&state, &reader, &headers, switched.await)
}
