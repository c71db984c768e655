//! `/sign-in` and `/sign-in/link`: the only pages for people that are open to everybody.
//!
//! What a newcomer gets wrong: an unknown name, a wrong password, a locked and a disabled account get the same answer
//! after the same work. And a session begins with a new token each time: one that somebody slipped in before is worth
//! nothing.

use std::time::Duration;

use askama::Template;
use axum::Form;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{SET_COOKIE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::door::{caller_of, is_behind_tls};
use super::shell::{self, Shell};
use super::{Wire, cookie, oidc, wire};
use crate::db::accounts::{Account, account_name};
use crate::db::audit::AuditEvent;
use crate::domain::secret::Secret;
use crate::domain::{password, token};
use crate::web::pages::act::language_cookie;
use crate::web::pages::text::Lang;
use crate::web::problem::ApiError;
use crate::web::reads::ask;
use crate::web::state::WebState;

#[derive(Template)]
#[template(path = "access/sign_in.html")]
struct SignInPage {
    shell: Shell,
    problem: Option<&'static str>,
    name: String,
    next: String,
    /// The token of a one-time link, in place of name and password.
    link: Option<String>,
    oidc: Option<oidc::Button>,
}

#[derive(Deserialize)]
pub struct Wanted {
    pub(super) next: Option<String>,
    /// Just signed out of an account that came in through the provider.
    left: Option<String>,
    /// The other language, as the link of this page asks for it.
    language: Option<String>,
}

/// The page that asks for name and password.
pub async fn show(
    State(state): State<WebState>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let mut shell = Shell::outside(&state, &headers);
    let chosen = wanted.language.as_deref().and_then(Lang::parse);
    if let Some(lang) = chosen {
        shell = Shell::speaking(&state, lang);
    }
    let page = SignInPage {
        oidc: oidc::Button::of(
            &state,
            wanted.next.as_deref(),
            shell.w,
            wanted.left.is_some(),
        ),
        shell,
        problem: None,
        name: String::new(),
        next: own_address(wanted.next.as_deref()),
        link: None,
    };
    let mut response = shell::render(&state, &page);
    if let Some(language) = wanted.language.filter(|_| chosen.is_some())
        && let Ok(cookie) = HeaderValue::from_str(&language_cookie(&state, Some(&language)))
    {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

#[derive(Deserialize)]
pub struct Typed {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// Where a visit of the open pages comes from.
pub struct Visitor {
    pub(super) headers: HeaderMap,
    pub(super) from: String,
}

impl Visitor {
    /// Of a page that only shows or leads elsewhere.
    pub(super) fn of_link(state: &WebState, request: &Request) -> Self {
        let wire = request.extensions().get::<Wire>().copied();
        Self {
            from: caller_of(state, wire, request.headers()),
            headers: request.headers().clone(),
        }
    }

    fn of(state: &WebState, request: &Request) -> Result<Self, ApiError> {
        wire::same_site(&Method::POST, request.headers()).map_err(|_| ApiError::cross_site())?;
        Ok(Self::of_link(state, request))
    }
}

async fn form<T: serde::de::DeserializeOwned>(
    state: &WebState,
    request: Request,
) -> Result<T, ApiError> {
    use axum::extract::FromRequest as _;
    Form::<T>::from_request(request, state)
        .await
        .map(|Form(typed)| typed)
        .map_err(|_| ApiError::bad_request("the form is not one of this page"))
}

/// Looks at name and password, and begins a session.
pub async fn enter(State(state): State<WebState>, request: Request) -> Response {
    let entered = async {
        let visitor = Visitor::of(&state, &request)?;
        let typed: Typed = form(&state, request).await?;
        try_password(&state, &visitor, typed).await
    };
    entered.await.unwrap_or_else(IntoResponse::into_response)
}

/// A refusal takes so long at least: what the database does for a known name and not for an unknown one is hidden in it.
const REFUSED_AFTER: Duration = Duration::from_millis(400);

async fn try_password(
    state: &WebState,
    visitor: &Visitor,
    typed: Typed,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let next = own_address(Some(&typed.next));
    let taken = state.doorkeeper.tries.take(&visitor.from, Instant::now());
    if let Err(wait) = taken {
        let error = ApiError::rate_limited(wait);
        let page = refused(state, visitor, next, Some(typed.name), |w| w.too_often);
        return Ok(with_headers(page, &error));
    }
    let known = match account_name(&typed.name) {
        Some(name) => ask(state, state.db.find_account(&name)).await?,
        None => None,
    };
    let now = state.clock.now();
    let (mut may_try, mut hash) = (false, None);
    if let Some(account) = &known {
        may_try = ask(state, state.db.take_try(account.account_id, now)).await?;
        hash = ask(state, state.db.password_hash(account.account_id)).await?;
    }
    let right = password_matches(state, Secret::new(typed.password), hash).await? && may_try;
    let taken_here = |account: &Account| {
        let oidc = state.doorkeeper.oidc.as_ref();
        oidc.is_none_or(|oidc| oidc.takes_password_of(account.role))
    };
    let Some(account) = known.filter(|account| right && taken_here(account)) else {
        // What was typed as an unknown name may be a password: it stays out of the trail.
        let name = account_name(&typed.name);
        let subject = match &name {
            Some(name) if ask(state, state.db.find_account(name)).await?.is_some() => name,
            _ => "(unknown name)",
        };
        let event = (subject, json!(null));
        audit(state, visitor, "(nobody)", "sign_in_refused", event).await?;
        tracing::warn!(from = visitor.from, "a sign-in was refused");
        tokio::time::sleep_until(began + REFUSED_AFTER).await;
        let page = refused(state, visitor, next, Some(typed.name), |w| w.refused);
        return Ok((StatusCode::FORBIDDEN, page).into_response());
    };
    ask(state, state.db.forget_tries(account.account_id)).await?;
    begin(state, visitor, &account, ("sign_in", json!(null)), &next).await
}

fn refused(
    state: &WebState,
    visitor: &Visitor,
    next: String,
    name: Option<String>,
    problem: fn(&super::words::Words) -> &'static str,
) -> Response {
    let shell = Shell::outside(state, &visitor.headers);
    let page = SignInPage {
        problem: Some(problem(shell.w)),
        oidc: oidc::Button::of(state, Some(&next), shell.w, false),
        shell,
        name: name.unwrap_or_default().chars().take(64).collect(),
        next,
        link: None,
    };
    shell::render(state, &page)
}

fn with_headers(mut page: Response, error: &ApiError) -> Response {
    *page.status_mut() = error.status();
    for (name, value) in error.headers() {
        page.headers_mut().insert(name, value.clone());
    }
    page
}

/// On a thread of its own, and few at once: a flood of tries must not take memory and cores from the rest.
pub async fn password_matches(
    state: &WebState,
    typed: Secret,
    hash: Option<String>,
) -> Result<bool, ApiError> {
    let permit = state.doorkeeper.hashing.acquire().await;
    let compared =
        tokio::task::spawn_blocking(move || password::matches(&typed, hash.as_deref())).await;
    drop(permit);
    Ok(compared.unwrap_or(false))
}

/// The same for a new password.
pub async fn password_hash(state: &WebState, new: Secret) -> Result<String, ApiError> {
    let permit = state.doorkeeper.hashing.acquire().await;
    let hashed = tokio::task::spawn_blocking(move || password::hash(&new)).await;
    drop(permit);
    hashed
        .ok()
        .flatten()
        .ok_or_else(|| ApiError::unavailable("source of random bytes"))
}

#[derive(Deserialize)]
pub struct LinkQuery {
    t: Option<String>,
}

/// A link only shows a button: programs that look at links before people do must not use them up.
pub async fn show_link(
    State(state): State<WebState>,
    Query(query): Query<LinkQuery>,
    headers: HeaderMap,
) -> Response {
    let page = SignInPage {
        shell: Shell::outside(&state, &headers),
        problem: None,
        name: String::new(),
        next: "/".to_owned(),
        link: Some(query.t.unwrap_or_default()),
        oidc: None,
    };
    shell::render(&state, &page)
}

#[derive(Deserialize)]
pub struct LinkForm {
    t: String,
}

/// Uses a link up, and begins a session.
pub async fn enter_by_link(State(state): State<WebState>, request: Request) -> Response {
    let entered = async {
        let visitor = Visitor::of(&state, &request)?;
        let link: LinkForm = form(&state, request).await?;
        let taken = state.doorkeeper.tries.take(&visitor.from, Instant::now());
        taken.map_err(ApiError::rate_limited)?;
        let now = state.clock.now();
        let found = ask(&state, state.db.take_link(token::hash(&link.t), now)).await?;
        let Some(account) = found else {
            let event = ("(link)", json!(null));
            audit(&state, &visitor, "(nobody)", "sign_in_refused", event).await?;
            let page = refused(&state, &visitor, "/".into(), None, |w| w.link_refused);
            return Ok((StatusCode::FORBIDDEN, page).into_response());
        };
        begin(
            &state,
            &visitor,
            &account,
            ("sign_in_link", json!(null)),
            "/",
        )
        .await
    };
    entered
        .await
        .unwrap_or_else(|error: ApiError| error.into_response())
}

/// The row of the trail first, with what is told beside the action; then a session, and the way on.
pub(super) async fn begin(
    state: &WebState,
    visitor: &Visitor,
    account: &Account,
    (action, detail): (&str, Value),
    next: &str,
) -> Result<Response, ApiError> {
    let actor = format!("account:{}", account.name);
    audit(state, visitor, &actor, action, (&account.name, detail)).await?;
    end_present(state, &visitor.headers).await?;
    let cookie = open_session(state, account.account_id, &visitor.from, &visitor.headers).await?;
    let mut response = Redirect::to(next).into_response();
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// The cookie of a new session.
pub async fn open_session(
    state: &WebState,
    account: Uuid,
    from: &str,
    headers: &HeaderMap,
) -> Result<http::HeaderValue, ApiError> {
    let lost = || ApiError::unavailable("source of random bytes");
    let secret = token::new_token().ok_or_else(lost)?;
    let lifetime = state.settings.access.lifetime();
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let adding = state.db.add_session(
        account,
        token::hash(secret.expose()),
        lifetime,
        from,
        agent.unwrap_or_default(),
        state.clock.now(),
    );
    ask(state, adding).await?;
    cookie::set(&secret, lifetime.max_ms / 1000, is_behind_tls(state)).ok_or_else(lost)
}

/// Whoever signs in anew leaves no session behind in this browser.
async fn end_present(state: &WebState, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(present) = cookie::read(headers, is_behind_tls(state)) else {
        return Ok(());
    };
    let idle = state.settings.access.lifetime().idle_ms;
    let hash = token::hash(present.expose());
    let found = ask(state, state.db.session(hash, idle, state.clock.now())).await?;
    if let Some((session, account)) = found {
        let ended = state.db.end_session(account.account_id, session.session_id);
        ask(state, ended).await?;
    }
    Ok(())
}

pub(super) async fn audit(
    state: &WebState,
    visitor: &Visitor,
    actor: &str,
    action: &str,
    (subject, detail): (&str, Value),
) -> Result<(), ApiError> {
    let event = AuditEvent {
        actor: actor.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail,
        from: visitor.from.clone(),
        at: state.clock.now(),
    };
    ask(state, state.db.audit(event)).await
}

/// An address of this server and no other; everything else is the first page.
pub(super) fn own_address(wanted: Option<&str>) -> String {
    let plain = |text: &str| {
        text.starts_with('/')
            && !text.starts_with("//")
            && text.len() <= 2000
            && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    };
    match wanted {
        Some(wanted) if plain(wanted) && !wanted.starts_with("/sign-") => wanted.to_owned(),
        _ => "/".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_back_to_this_server_alone() {
        for good in ["/", "/recordings/x?t=12", "/?q=wang+1234"] {
            assert_eq!(own_address(Some(good)), good);
        }
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a b",
            "/a\r\nset-cookie:x",
            "/sign-out",
            "javascript:alert(1)",
        ] {
            assert_eq!(own_address(Some(bad)), "/", "{bad:?}");
        }
        assert_eq!(own_address(None), "/");
    }
}
