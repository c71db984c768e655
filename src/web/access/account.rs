//! `/account`: one's own password, language and sessions; and `/sign-out`.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use uuid::Uuid;

use super::door::is_behind_tls;
use super::shell::{self, Shell};
use super::sign_in::{open_session, password_hash, password_matches};
use super::words::Words;
use super::{Reader, cookie, oidc};
use crate::db::accounts::AccountChange;
use crate::domain::password;
use crate::domain::secret::Secret;
use crate::web::problem::ApiError;
use crate::web::reads::{Reads, ask};
use crate::web::state::WebState;

#[derive(Template)]
#[template(path = "access/account.html")]
struct AccountPage {
    shell: Shell,
    problem: Option<&'static str>,
    done: Option<&'static str>,
    own: Option<Own>,
}

struct Own {
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
    problem: Option<Said>,
    done: Option<Said>,
) -> Response {
    let shell = Shell::of(state, reader, headers);
    let w = shell.w;
    let own = match own(state, reader, w).await {
        Ok(own) => own,
        Err(error) => return shell::problem(state, headers, &error),
    };
    let page = AccountPage {
        shell,
        problem: problem.map(|said| said(w)),
        done: done.map(|said| said(w)),
        own,
    };
    let mut response = shell::render(state, &page);
    if problem.is_some() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

async fn own(state: &WebState, reader: &Reader, w: &Words) -> Result<Option<Own>, ApiError> {
    let (Some(id), Some(signed_in)) = (reader.account, &reader.signed_in) else {
        return Ok(None);
    };
    let Some(account) = ask(state, state.db.account(id)).await? else {
        return Ok(None);
    };
    let sessions = ask(state, state.db.sessions(id)).await?;
    Ok(Some(Own {
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
    match changed(&state, &reader, &headers, typed).await {
        Ok(Ok(response)) => response,
        Ok(Err(said)) => page(&state, &reader, &headers, Some(said), None).await,
        Err(error) => shell::problem(&state, &headers, &error),
    }
}

async fn changed(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    typed: Passwords,
) -> Result<Result<Response, Said>, ApiError> {
    let (Some(id), Some(signed_in)) = (reader.account, &reader.signed_in) else {
        return Err(ApiError::not_allowed(reader.role));
    };
    let hash = ask(state, state.db.password_hash(id)).await?;
    if hash.is_some() {
        // A stolen session guesses no faster than a stranger.
        let may_try = ask(state, state.db.take_try(id, state.clock.now())).await?;
        let right = password_matches(state, Secret::new(typed.old), hash).await?;
        if !(right && may_try) {
            let reads = Reads::of(state, reader);
            reads.note("password_refused", &signed_in.name).await?;
            return Ok(Err(|w| w.wrong_old));
        }
    }
    if typed.new != typed.again {
        return Ok(Err(|w| w.differ));
    }
    if password::problem(&typed.new, &signed_in.name).is_some() {
        return Ok(Err(|w| w.weak));
    }
    let hash = password_hash(state, Secret::new(typed.new)).await?;
    let reads = Reads::of(state, reader);
    reads.note("password", &signed_in.name).await?;
    let now = state.clock.now();
    ask(state, state.db.set_password(id, &hash, false, now)).await?;
    // Every session has ended, this one as well; the browser that did it goes on with a new one.
    let cookie = open_session(state, id, &reader.from, headers).await?;
    let mut response = Redirect::to("/account?done=password").into_response();
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(Ok(response))
}

#[derive(Deserialize)]
pub struct Language {
    language: String,
}

pub async fn change_language(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    Form(typed): Form<Language>,
) -> Result<Response, ApiError> {
    let language = match typed.language.as_str() {
        "" => None,
        known @ ("en" | "zh-CN") => Some(known.to_owned()),
        _ => return Err(ApiError::bad_request("language is none of en, zh-CN")),
    };
    if let Some(id) = reader.account {
        let change = AccountChange {
            language: Some(language),
            ..AccountChange::default()
        };
        let now = state.clock.now();
        ask(&state, state.db.change_account(id, change, now)).await?;
    }
    Ok(Redirect::to("/account?done=language").into_response())
}

#[derive(Deserialize)]
pub struct WhichSession {
    session: Uuid,
}

pub async fn end_session(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    Form(typed): Form<WhichSession>,
) -> Result<Response, ApiError> {
    let Some(id) = reader.account else {
        return Err(ApiError::not_found("session"));
    };
    let reads = Reads::of(&state, &reader);
    reads
        .note("session_end", &typed.session.to_string())
        .await?;
    if !ask(&state, state.db.end_session(id, typed.session)).await? {
        return Err(ApiError::not_found("session"));
    }
    Ok(Redirect::to("/account?done=session").into_response())
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
