//! `/admin/account/{name}`: one account, and another role or scope for it.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Form};
use http::HeaderMap;
use serde::Deserialize;

use super::{Grant, Told, account_state, granted, or_problem};
use crate::db::accounts::Account;
use crate::domain::rights::Role;
use crate::web::access::Reader;
use crate::web::access::govern::accounts::{Accounts, Wish};
use crate::web::access::shell::{self, Shell};
use crate::web::api::id;
use crate::web::pages::frame::Section;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Template)]
#[template(path = "access/one_account.html")]
struct AccountPage {
    shell: Shell,
    problem: Option<&'static str>,
    name: String,
    state: String,
    made: String,
    failures: u32,
    is_locked: bool,
    disabled: bool,
    /// Nobody changes their own rights.
    is_own: bool,
    roles: Vec<Choice>,
    sources: String,
    numbers: String,
    parties: String,
}

struct Choice {
    value: &'static str,
    words: &'static str,
    chosen: bool,
}

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
) -> Response {
    let page = async {
        let accounts = Accounts::of(&state, &reader)?;
        let account = accounts.show(&id::name(path, "account")?).await?;
        page(&state, &reader, &headers, account, Told::default())
    };
    or_problem(&state, &reader, &headers, page.await)
}

fn page(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    account: Account,
    told: Told,
) -> Result<Response, ApiError> {
    let here = format!("/admin/account/{}", account.name);
    let shell = Shell::of(state, reader, headers).at(Section::Accounts, &here);
    let w = shell.w;
    let now = state.clock.now();
    let page = AccountPage {
        problem: told.problem,
        state: account_state(state, w, &account),
        made: shell::time(state, account.created_at),
        failures: account.failures,
        is_locked: account.locked_until.is_some_and(|until| until > now),
        disabled: account.disabled,
        is_own: reader.account == Some(account.account_id),
        roles: Role::ALL
            .into_iter()
            .map(|role| Choice {
                value: role.as_str(),
                words: w.role(role),
                chosen: role == account.role,
            })
            .collect(),
        sources: account.scope.sources.join(", "),
        numbers: account.scope.numbers.join(", "),
        parties: account.scope.parties.join(", "),
        name: account.name,
        shell,
    };
    Ok(told.onto(shell::render(state, &page)))
}

#[derive(Deserialize)]
pub struct Typed {
    role: String,
    #[serde(default)]
    sources: String,
    #[serde(default)]
    numbers: String,
    #[serde(default)]
    parties: String,
}

pub async fn change(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    path: id::Given,
    headers: HeaderMap,
    Form(typed): Form<Typed>,
) -> Response {
    let changed = async {
        let accounts = Accounts::of(&state, &reader)?;
        let name = id::name(path, "account")?;
        let grant = Grant {
            role: &typed.role,
            sources: &typed.sources,
            numbers: &typed.numbers,
            parties: &typed.parties,
        };
        let (role, scope) = granted(&grant)?;
        let wish = Wish {
            role: Some(role),
            scope: Some(scope),
            disabled: None,
        };
        match accounts.change(&name, wish).await {
            Ok(_) => Ok(shell::see("/admin/accounts")),
            Err(error) => {
                let lang = Shell::of(&state, &reader, &headers).frame.lang;
                let told = Told::of(error, lang)?;
                let account = accounts.show(&name).await?;
                page(&state, &reader, &headers, account, told)
            }
        }
    };
    or_problem(&state, &reader, &headers, changed.await)
}
