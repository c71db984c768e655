//! `/admin/tokens`: what scripts show. A token is shown once, when it is made.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Form};
use http::HeaderMap;
use serde::Deserialize;

use super::{Grant, Told, granted, or_problem};
use crate::web::access::Reader;
use crate::web::access::govern::tokens::Tokens;
use crate::web::access::shell::{self, Shell};
use crate::web::pages::frame::Section;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

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
        Tokens::of(&state, &reader)?.list().await?;
        page(&state, &reader, &headers, Told::default(), None).await
    };
    or_problem(&state, &reader, &headers, page.await)
}

fn shell_of(state: &WebState, reader: &Reader, headers: &HeaderMap) -> Shell {
    Shell::of(state, reader, headers).at(Section::Tokens, "/admin/tokens")
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
    let tokens = Tokens::of(state, reader)?.rows().await?;
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
        problem: told.problem,
        secret,
        lines: lines.collect(),
        shell,
    };
    Ok(told.onto(shell::render(state, &page)))
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
        let tokens = Tokens::of(&state, &reader)?;
        let grant = Grant {
            role: &typed.role,
            sources: &typed.sources,
            numbers: &typed.numbers,
            parties: &typed.parties,
        };
        let (role, scope) = granted(&grant)?;
        let days = typed.days.trim().parse().unwrap_or(0);
        match tokens.add(&typed.name, role, scope, days).await {
            Ok((_, secret)) => {
                let shown = Some(secret.expose().to_owned());
                page(&state, &reader, &headers, Told::default(), shown).await
            }
            Err(error) => {
                let lang = shell_of(&state, &reader, &headers).frame.lang;
                page(&state, &reader, &headers, Told::of(error, lang)?, None).await
            }
        }
    };
    or_problem(&state, &reader, &headers, added.await)
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
        Tokens::of(&state, &reader)?.revoke(&named.name).await?;
        Ok(shell::see("/admin/tokens"))
    };
    or_problem(&state, &reader, &headers, revoked.await)
}
