//! Pages for administrators, and the audit trail for auditors as well. What they do is in `govern`.

pub mod account;
pub mod accounts;
pub mod configuration;
pub mod schedule;
pub mod sources;
pub mod tokens;
pub mod trail;

use axum::response::Response;
use http::HeaderMap;

use super::words::Words;
use super::{Reader, shell};
use crate::domain::rights::{Role, Scope};
use crate::web::pages::text::Lang;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

/// What the forms for accounts and tokens have in common, as typed.
struct Grant<'a> {
    role: &'a str,
    sources: &'a str,
    numbers: &'a str,
    parties: &'a str,
}

fn granted(typed: &Grant<'_>) -> Result<(Role, Scope), ApiError> {
    let role = Role::parse(typed.role)
        .ok_or_else(|| ApiError::bad_request("role is none of this page's"))?;
    let list = |text: &str| {
        text.split([',', ';', ' ', '\n', '\r', '\t', '，', '、'])
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let scope = Scope {
        sources: list(typed.sources),
        numbers: list(typed.numbers),
        parties: list(typed.parties),
    };
    Ok((role, scope))
}

/// What a form was refused for, where its page can say it; everything else becomes a page of its own.
#[derive(Debug, Default)]
struct Told {
    problem: Option<&'static str>,
    status: Option<http::StatusCode>,
}

impl Told {
    fn of(error: ApiError, lang: Lang) -> Result<Self, ApiError> {
        match super::words::of(lang).said(error.code()) {
            Some(words) => Ok(Self {
                problem: Some(words),
                status: Some(error.status()),
            }),
            None => Err(error),
        }
    }

    fn onto(&self, mut response: Response) -> Response {
        if let Some(status) = self.status {
            *response.status_mut() = status;
        }
        response
    }
}

fn or_problem(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    page: Result<Response, ApiError>,
) -> Response {
    page.unwrap_or_else(|error| shell::problem_for(state, reader, headers, &error))
}

/// One line of a state that both pages of accounts tell.
fn account_state(state: &WebState, w: &Words, account: &crate::db::accounts::Account) -> String {
    let now = state.clock.now();
    match account.locked_until {
        _ if account.disabled => w.disabled.to_owned(),
        Some(until) if until > now => format!("{} ({})", w.locked, shell::time(state, until)),
        _ => w.active.to_owned(),
    }
}
