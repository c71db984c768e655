//! The door in front of everything that is read or changed: a token, a session, or the rule of `wire`.
//!
//! It is a layer around the whole reading part of the router, so that no new page can forget it. A database that does
//! not answer lets nobody in.

use std::sync::atomic::Ordering;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode, Uri};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::reader::SignedIn;
use super::wire::{self, Denied};
use super::{Reader, Wire, cookie, shell};
use crate::db::audit::AuditEvent;
use crate::domain::token;
use crate::web::problem::ApiError;
use crate::web::reads;
use crate::web::state::WebState;

/// The field of forms, and the header of scripts on our pages, that no other site can know.
pub const FORM_FIELD: &str = "word";
pub const FORM_HEADER: &str = "x-callvault-word";
/// Our forms are small.
pub const MOST_FORM_BYTES: usize = 64 * 1024;
/// Where somebody is led whose password must be changed first.
pub const OWN_PAGE: &str = "/account";
const OPEN_TO_CHANGERS: [&str; 6] = [
    OWN_PAGE,
    "/account/password",
    "/api/v1/account",
    "/api/v1/account/password",
    "/do/language",
    "/sign-out",
];

enum Refusal {
    Denied(Denied),
    /// The error as it is.
    Other(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

/// Lets readers through and tells the handlers who they are.
pub async fn readers_only(State(state): State<WebState>, request: Request, next: Next) -> Response {
    let asked = Asked::of(&request);
    let let_in = match let_in(&state, &asked).await {
        Ok(reader) => checked(&reader, request)
            .await
            .map(|request| (reader, request))
            .map_err(Refusal::Other),
        Err(refusal) => Err(refusal),
    };
    let denied = match let_in {
        Ok((reader, mut request)) => {
            request.extensions_mut().insert(reader.clone());
            let response = next.run(request).await;
            return note_denial(&state, &reader, asked.uri.path(), response).await;
        }
        Err(Refusal::Denied(denied)) => denied,
        Err(Refusal::Other(error)) => return as_page(&state, error, &asked.uri, &asked.headers),
    };
    let from = caller_of(&state, asked.wire, &asked.headers);
    tracing::warn!(from, ?denied, "a reader was turned away");
    state.metrics.denied();
    let page = is_page(&asked.uri);
    match denied {
        Denied::CrossSite => ApiError::cross_site().into_response(),
        // Known by now, where the door got as far as asking.
        Denied::NoToken if state.doorkeeper.has_accounts.load(Ordering::Relaxed) => {
            if page && asked.method == Method::GET {
                sign_in_first(&asked.uri)
            } else {
                ApiError::sign_in_required().into_response()
            }
        }
        Denied::NoToken if page && state.api_token.now().is_some() => {
            ApiError::password_required().into_response()
        }
        Denied::NoToken => ApiError::token_required().into_response(),
    }
}

/// What the door looks at, without the body, which cannot be lent while the database is asked.
struct Asked {
    wire: Option<Wire>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Asked {
    fn of(request: &Request) -> Self {
        Self {
            wire: request.extensions().get::<Wire>().copied(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        }
    }
}

fn is_page(uri: &Uri) -> bool {
    !(uri.path().starts_with("/api/") || uri.path() == "/metrics")
}

/// The caller's address for the trail, through trusted proxies.
pub fn caller_of(state: &WebState, wire: Option<Wire>, headers: &HeaderMap) -> String {
    let trusted = &state.settings.trusted_proxies;
    wire.map_or(String::new(), |wire| {
        wire::caller(wire.peer.ip(), headers, trusted).to_string()
    })
}

/// Cookies that only TLS carries, where TLS is promised to be in front.
pub fn is_behind_tls(state: &WebState) -> bool {
    let public = state.settings.public_url.as_deref().unwrap_or_default();
    public.starts_with("https://")
}

async fn let_in(state: &WebState, asked: &Asked) -> Result<Reader, Refusal> {
    wire::same_site(&asked.method, &asked.headers).map_err(Refusal::Denied)?;
    let from = caller_of(state, asked.wire, &asked.headers);
    let configured = state.api_token.now();
    let offer = wire::offered(&asked.headers);
    if let (Some(configured), Some(offer)) = (&configured, &offer)
        && !configured.is_empty()
        && configured.matches(offer)
    {
        limited(state, "token:api_token")?;
        return Ok(Reader::of_the_house("token:api_token", from));
    }
    // The machine that is watched often watches itself, and there is no call in the numbers.
    let metrics = asked.uri.path() == "/metrics";
    if metrics && configured.is_none() && wire::is_here(asked.wire, &asked.uri, &asked.headers) {
        return Ok(Reader::of_the_house("loopback", from));
    }
    let has_accounts = has_accounts(state).await?;
    if let Some(offer) = &offer
        && offer.starts_with(token::API_PREFIX)
    {
        let now = state.clock.now();
        let found = reads::ask(state, state.db.token(token::hash(offer), now)).await?;
        if let Some(found) = found {
            let actor = format!("token:{}", found.name);
            limited(state, &actor)?;
            return Ok(Reader {
                masks_numbers: state.settings.access.masks(found.role),
                role: found.role,
                scope: found.scope,
                ..Reader::of_the_house(actor, from)
            });
        }
    }
    if !has_accounts {
        let judged = wire::judge(
            configured.as_deref(),
            asked.wire,
            &asked.uri,
            &asked.headers,
        );
        // As long as nobody has an account, whoever gets in may do everything.
        let actor = judged.map_err(Refusal::Denied)?;
        return Ok(Reader::of_the_house(actor, from));
    }
    // Whoever shows a token means the token; a wrong one is not helped by a session.
    if asked.headers.contains_key(AUTHORIZATION) {
        return Err(Refusal::Denied(Denied::NoToken));
    }
    let Some(cookie) = cookie::read(&asked.headers, is_behind_tls(state)) else {
        return Err(Refusal::Denied(Denied::NoToken));
    };
    let idle = state.settings.access.lifetime().idle_ms;
    let hash = token::hash(cookie.expose());
    let found = reads::ask(state, state.db.session(hash, idle, state.clock.now())).await?;
    let (session, account) = found.ok_or(Refusal::Denied(Denied::NoToken))?;
    Ok(Reader {
        actor: format!("account:{}", account.name),
        from,
        masks_numbers: state.settings.access.masks(account.role),
        role: account.role,
        scope: account.scope,
        account: Some(account.account_id),
        language: account.language,
        signed_in: Some(SignedIn {
            session: session.session_id,
            name: account.name,
            form_word: token::form_word(cookie.expose()),
            must_change: account.must_change,
        }),
    })
}

/// Whether anybody has an account; an error lets nobody in.
pub async fn has_accounts(state: &WebState) -> Result<bool, ApiError> {
    let known = &state.doorkeeper.has_accounts;
    if known.load(Ordering::Relaxed) {
        return Ok(true);
    }
    let found = reads::ask(state, state.db.has_accounts()).await?;
    if found {
        known.store(true, Ordering::Relaxed);
    }
    Ok(found)
}

fn limited(state: &WebState, name: &str) -> Result<(), ApiError> {
    let taken = state.doorkeeper.requests.take(name, Instant::now());
    taken.map_err(ApiError::rate_limited)
}

/// What a session may not send, even where its account may do it: forms of other sites, and anything before a
/// password that must be changed is.
async fn checked(reader: &Reader, request: Request) -> Result<Request, ApiError> {
    let Some(signed_in) = &reader.signed_in else {
        return Ok(request);
    };
    if signed_in.must_change && !OPEN_TO_CHANGERS.contains(&request.uri().path()) {
        return Err(ApiError::password_change_required());
    }
    if request.method().is_safe() {
        return Ok(request);
    }
    let expected = signed_in.form_word.as_bytes();
    let right = |word: &[u8]| bool::from(word.ct_eq(expected));
    let headers = request.headers();
    if let Some(word) = headers.get(FORM_HEADER) {
        return if right(word.as_bytes()) {
            Ok(request)
        } else {
            Err(ApiError::stale_form())
        };
    }
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let is_form = kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if !is_form {
        return Err(ApiError::stale_form());
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MOST_FORM_BYTES).await else {
        return Err(ApiError::bad_request("the form is too large"));
    };
    let mut fields = form_urlencoded::parse(&body);
    let word = fields.find(|(name, _)| name == FORM_FIELD);
    if !word.is_some_and(|(_, word)| right(word.as_bytes())) {
        return Err(ApiError::stale_form());
    }
    Ok(Request::from_parts(head, Body::from(body)))
}

/// Denials are part of the trail; that a row cannot be written must not turn a refusal into anything else.
async fn note_denial(
    state: &WebState,
    reader: &Reader,
    path: &str,
    response: Response,
) -> Response {
    if response.status() == StatusCode::FORBIDDEN {
        let event = AuditEvent {
            actor: reader.actor.clone(),
            action: "denied".to_owned(),
            subject: path.chars().take(200).collect(),
            detail: serde_json::json!({ "role": reader.role }),
            from: reader.from.clone(),
            at: state.clock.now(),
        };
        if let Err(error) = state.db.audit(event).await {
            tracing::error!(%error, "a denial could not be written down");
        }
    }
    response
}

/// A refusal as the asker can read it.
fn as_page(state: &WebState, error: ApiError, uri: &Uri, headers: &HeaderMap) -> Response {
    if !is_page(uri) {
        return error.into_response();
    }
    if error.code() == ApiError::PASSWORD_CHANGE_REQUIRED {
        return Redirect::to(OWN_PAGE).into_response();
    }
    shell::problem(state, headers, &error)
}

/// To the page that asks for name and password, and back from there.
fn sign_in_first(uri: &Uri) -> Response {
    let wanted = uri.path_and_query().map_or("/", |wanted| wanted.as_str());
    if wanted == "/" {
        return Redirect::to("/sign-in").into_response();
    }
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("next", wanted)
        .finish();
    Redirect::to(&format!("/sign-in?{query}")).into_response()
}
