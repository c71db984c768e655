//! `/account`: one's own password, language and sessions; and `/sign-out`.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use uuid::Uuid;

use super::door::is_behind_tls;
use super::govern::own::Own;
use super::shell::{self, Shell};
use super::words::Words;
use super::{Reader, cookie, oidc};
use crate::domain::secret::Secret;
use crate::web::pages::act::language_cookie;
use crate::web::pages::frame::Section;
use crate::web::problem::ApiError;
use crate::web::reads::{Reads, ask};
use crate::web::state::WebState;

#[derive(Template)]
#[template(path = "access/account.html")]
struct AccountPage {
    shell: Shell,
    problem: Option<&'static str>,
    done: Option<&'static str>,
    own: Option<OwnLines>,
}

struct OwnLines {
    name: String,
    role: &'static str,
    scope: String,
    has_password: bool,
    must_change: bool,
    sessions: Vec<Line>,
}

struct Line {
    id: Uuid,
    since: String,
    seen: String,
    from: String,
    agent: String,
    is_this: bool,
}

type Said = fn(&Words) -> &'static str;

/// What was done, as the page after it says it.
#[derive(Deserialize)]
pub struct Done {
    done: Option<String>,
}

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    Query(done): Query<Done>,
    headers: HeaderMap,
) -> Response {
    let said: Option<Said> = match done.done.as_deref() {
        Some("password") => Some(|w| w.changed),
        Some("session") => Some(|w| w.ended),
        Some("language") => Some(|w| w.saved),
        _ => None,
    };
    page(&state, &reader, &headers, None, said).await
}

async fn page(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    problem: Option<&'static str>,
    done: Option<Said>,
) -> Response {
    let shell = Shell::of(state, reader, headers).at(Section::Account, "/account");
    let w = shell.w;
    let own = match own_lines(state, reader, w).await {
        Ok(own) => own,
        Err(error) => return shell::problem_for(state, reader, headers, &error),
    };
    let page = AccountPage {
        shell,
        problem,
        done: done.map(|said| said(w)),
        own,
    };
    let mut response = shell::render(state, &page);
    if problem.is_some() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

async fn own_lines(
    state: &WebState,
    reader: &Reader,
    w: &Words,
) -> Result<Option<OwnLines>, ApiError> {
    let own = Own::of(state, reader);
    let (Some(account), Some(signed_in)) = (own.show().await?.account, &reader.signed_in) else {
        return Ok(None);
    };
    let sessions = own.sessions().await?;
    Ok(Some(OwnLines {
        name: account.name,
        role: w.role(account.role),
        scope: shell::scope(w, &account.scope),
        has_password: account.has_password,
        must_change: account.must_change,
        sessions: sessions
            .into_iter()
            .map(|session| Line {
                id: session.session_id,
                since: shell::time(state, session.created_at),
                seen: shell::time(state, session.last_seen_at),
                from: session.from,
                agent: session.agent,
                is_this: session.session_id == signed_in.session,
            })
            .collect(),
    }))
}

#[derive(Deserialize)]
pub struct Passwords {
    #[serde(default)]
    old: String,
    new: String,
    again: String,
}

pub async fn change_password(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Form(typed): Form<Passwords>,
) -> Response {
    let w = Shell::of(&state, &reader, &headers).w;
    if typed.new != typed.again {
        return page(&state, &reader, &headers, Some(w.differ), None).await;
    }
    let own = Own::of(&state, &reader);
    let changed = own.change_password(Secret::new(typed.old), typed.new, &headers);
    match changed.await {
        Ok(cookie) => {
            let mut response = Redirect::to("/account?done=password").into_response();
            response.headers_mut().insert(SET_COOKIE, cookie);
            response
        }
        Err(error) => match w.said(error.code()) {
            Some(words) => page(&state, &reader, &headers, Some(words), None).await,
            None => {
                let mut response = shell::problem(&state, &headers, &error);
                if error.code() == ApiError::SESSION_ENDED
                    && let Some(cookie) = cookie::forget(is_behind_tls(&state))
                {
                    response.headers_mut().insert(SET_COOKIE, cookie);
                }
                response
            }
        },
    }
}

#[derive(Deserialize)]
pub struct Language {
    language: String,
}

/// In the account, for every browser of its owner; and in this browser, whose own choice would count for more.
pub async fn change_language(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    Form(typed): Form<Language>,
) -> Result<Response, ApiError> {
    let language = Some(typed.language).filter(|language| !language.is_empty());
    let here = language.as_deref().and_then(|code| code.split('-').next());
    let cookie = language_cookie(&state, here);
    Own::of(&state, &reader).change_language(language).await?;
    let mut response = Redirect::to("/account?done=language").into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

#[derive(Deserialize)]
pub struct WhichSession {
    session: Uuid,
}

pub async fn end_session(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Form(typed): Form<WhichSession>,
) -> Response {
    match Own::of(&state, &reader).end_session(typed.session).await {
        Ok(()) => shell::see("/account?done=session"),
        Err(error) => shell::problem_for(&state, &reader, &headers, &error),
    }
}

pub async fn sign_out(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
) -> Result<Response, ApiError> {
    let mut leads = "/sign-in";
    if let (Some(id), Some(signed_in)) = (reader.account, &reader.signed_in) {
        leads = oidc::left_page(&state, id).await?;
        let reads = Reads::of(&state, &reader);
        reads.note("sign_out", &signed_in.name).await?;
        ask(&state, state.db.end_session(id, signed_in.session)).await?;
    }
    let mut response = Redirect::to(leads).into_response();
    if let Some(cookie) = cookie::forget(is_behind_tls(&state)) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}
