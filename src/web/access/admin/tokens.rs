//! `/admin/tokens`: what scripts show. A token is shown once, when it is made.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{Grant, Problem, granted};
use crate::db::tokens::NewToken;
use crate::domain::rights::Right;
use crate::domain::token;
use crate::web::access::Reader;
use crate::web::access::shell::{self, Shell};
use crate::web::problem::ApiError;
use crate::web::reads::{Reads, ask};
use crate::web::state::WebState;

const DAY_MS: i64 = 86_400_000;

#[derive(Template)]
#[template(path = "access/tokens.html")]
struct TokensPage {
    shell: Shell,
    problem: Option<&'static str>,
    secret: Option<String>,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    role: &'static str,
    scope: String,
    by: String,
    used: String,
    end: String,
    revoked: bool,
}

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
) -> Response {
    let page = async {
        reader.needs(Right::Administer)?;
        Reads::of(&state, &reader).note("token_list", "").await?;
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
    let tokens = ask(state, state.db.tokens()).await?;
    let lines = tokens.into_iter().map(|token| Line {
        role: w.role(token.role),
        scope: shell::scope(w, &token.scope),
        used: token
            .last_used_at
            .map_or(w.never.to_owned(), |at| shell::time(state, at)),
        end: match (token.revoked_at, token.expires_at) {
            (Some(at), _) => format!("{} {}", w.revoked, shell::time(state, at)),
            (None, Some(at)) => shell::time(state, at),
            (None, None) => w.never.to_owned(),
        },
        revoked: token.revoked_at.is_some(),
        by: token.created_by,
        name: token.name,
    });
    let page = TokensPage {
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
    days: String,
}

pub async fn add(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Form(typed): Form<Typed>,
) -> Response {
    let added = async {
        reader.needs(Right::Administer)?;
        let refuse = |problem: Problem| page(&state, &reader, &headers, Some(problem), None);
        let grant = Grant {
            name: &typed.name,
            role: &typed.role,
            sources: &typed.sources,
            numbers: &typed.numbers,
            parties: &typed.parties,
        };
        let (name, role, scope) = match granted(&grant) {
            Ok(granted) => granted,
            Err(problem) => return refuse(problem).await,
        };
        let days = typed
            .days
            .parse()
            .ok()
            .filter(|days| (1..=3650).contains(days));
        let Some(days): Option<i64> = days else {
            return refuse(|w| w.bad_days).await;
        };
        let tokens = ask(&state, state.db.tokens()).await?;
        if tokens.iter().any(|token| token.name == name) {
            return refuse(|w| w.name_taken).await;
        }
        let secret = token::new_api_token()
            .ok_or_else(|| ApiError::unavailable("source of random bytes"))?;
        let said = format!("{name} {}", role.as_str());
        Reads::of(&state, &reader).note("token_add", &said).await?;
        let now = state.clock.now();
        let new = NewToken {
            name,
            sha256: token::hash(secret.expose()),
            role,
            scope,
            created_by: reader.actor.clone(),
            expires_at: Some(now.plus_ms(days * DAY_MS)),
        };
        ask(&state, state.db.add_token(new, now)).await?;
        let shown = secret.expose().to_owned();
        page(&state, &reader, &headers, None, Some(shown)).await
    };
    added
        .await
        .unwrap_or_else(|error: ApiError| shell::problem(&state, &headers, &error))
}

#[derive(Deserialize)]
pub struct Named {
    name: String,
}

pub async fn revoke(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Form(named): Form<Named>,
) -> Response {
    let revoked = async {
        reader.needs(Right::Administer)?;
        Reads::of(&state, &reader)
            .note("token_revoke", &named.name)
            .await?;
        let now = state.clock.now();
        if !ask(&state, state.db.revoke_token(&named.name, now)).await? {
            return Err(ApiError::not_found("token"));
        }
        Ok(Redirect::to("/admin/tokens").into_response())
    };
    revoked
        .await
        .unwrap_or_else(|error: ApiError| shell::problem(&state, &headers, &error))
}
