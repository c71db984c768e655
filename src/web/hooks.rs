//! `/hooks`: notices from vendors. Whose it is, whether the address proves it, then straight to the intake.
//!
//! What a newcomer gets wrong: the path holds a secret. It is never logged and never echoed, unknown
//! source and wrong token cost the same and look alike, and nothing of the body is read before the
//! address was found right.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue, RETRY_AFTER,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::Instant;

use super::problem::ApiError;
use super::state::WebState;
use crate::domain::notice::Door;
use crate::domain::secret::Secret;
use crate::providers::contract::{Incoming, Outcome, Provider, Refusal, Reply};

/// For the whole body; senders of a few kilobytes need milliseconds.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Many clients read no answer before they have sent all: so much of a body that is too large is read and
/// thrown away before the answer goes out, and for so long.
const DRAINED_BYTES: usize = 8 << 20;
const DRAINED_WITHIN: Duration = Duration::from_secs(3);

/// What the path after the source's name came to.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Topic(&'static str),
    Wrong,
}

pub async fn receive(
    State(state): State<WebState>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let began = Instant::now();
    // A path that is not UTF-8 is no address of ours.
    let segments: Vec<String> = match &path {
        Ok(params) => params.iter().map(|(_, value)| value.to_owned()).collect(),
        Err(_) => Vec::new(),
    };
    let (name, rest) = match segments.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => ("", &[][..]),
    };
    let Some(provider) = state.providers.get(name) else {
        // As much work as for a source with two tokens.
        let decoy = [Secret::new(""), Secret::new("")];
        let _ = one_of(&decoy, rest.first().map_or("", String::as_str));
        state.metrics.unknown_hook();
        return ApiError::not_found("address").into_response();
    };
    let Address::Topic(topic) = address(provider.as_ref(), rest) else {
        state.metrics.unknown_hook();
        state.intake.count_refused(provider.name(), Door::Push);
        return wrong_address(provider.as_ref());
    };
    let response = take(&state, &provider, topic, request).await;
    state
        .metrics
        .hook_answered(provider.name(), began.elapsed());
    response
}

async fn take(
    state: &WebState,
    provider: &Arc<dyn Provider>,
    topic: &str,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let takes_get = provider.capabilities().takes_get;
    if head.method != Method::POST && !(takes_get && head.method == Method::GET) {
        let allow = if takes_get { "GET, POST" } else { "POST" };
        return ApiError::method_not_allowed()
            .with(ALLOW, allow)
            .into_response();
    }
    let limit = state.settings.max_body.bytes();
    let body = match read(body, &head.headers, limit).await {
        Ok(body) => body,
        Err(Unread::TooLarge) => {
            state.intake.count_refused(provider.name(), Door::Push);
            let asked = Incoming {
                query: head.uri.query().unwrap_or_default().to_owned(),
                ..Incoming::default()
            };
            let mut response = send(provider.answer(Outcome::TooLarge, &asked));
            // What is left of the body now is not waited for.
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        Err(Unread::TooSlow) => return ApiError::too_slow().into_response(),
        Err(Unread::Broken) => {
            return ApiError::bad_request("the body broke off")
                .with(CONNECTION, "close")
                .into_response();
        }
    };
    let incoming = Incoming {
        topic: topic.to_owned(),
        method: head.method.as_str().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: plain(&head),
        body,
    };
    let told = incoming.clone();
    let outcome = state.intake.accept(provider, Door::Push, incoming).await;
    send(provider.answer(outcome, &told))
}

enum Unread {
    TooLarge,
    TooSlow,
    Broken,
}

async fn read(mut body: Body, headers: &HeaderMap, limit: u64) -> Result<Bytes, Unread> {
    let told = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| told > limit) {
        // Who asks before sending is told at once; reading would tell it to go on.
        if !headers.contains_key(EXPECT) {
            drain(&mut body).await;
        }
        return Err(Unread::TooLarge);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    match tokio::time::timeout(BODY_WITHIN, Limited::new(&mut body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            drain(&mut body).await;
            Err(Unread::TooLarge)
        }
        Ok(Err(_)) => Err(Unread::Broken),
        Err(_) => Err(Unread::TooSlow),
    }
}

/// Reads and forgets, within bounds. What is beyond them meets a closed connection.
async fn drain(body: &mut Body) {
    let forget = async {
        let mut drained = 0;
        while let Some(Ok(frame)) = body.frame().await {
            drained += frame.data_ref().map_or(0, Bytes::len);
            if drained > DRAINED_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAINED_WITHIN, forget).await;
}

/// The rule of CONTRACTS, section 2: token and topic; a token alone; a topic alone only where no token is set.
fn address(provider: &dyn Provider, rest: &[String]) -> Address {
    let tokens = &provider.common().hook_tokens;
    let open = tokens.is_empty() && !provider.capabilities().token_required;
    let topic = |name: &str| {
        provider
            .topics()
            .iter()
            .find(|topic| topic.name == name)
            .map_or(Address::Wrong, |topic| Address::Topic(topic.name))
    };
    match rest {
        [] if open => topic(""),
        [one] if open => topic(one),
        [token] if one_of(tokens, token) => topic(""),
        [token, name] if one_of(tokens, token) => topic(name),
        _ => Address::Wrong,
    }
}

/// Compares with every token, whichever fits, so that time tells nothing.
fn one_of(tokens: &[Secret], offered: &str) -> bool {
    tokens.iter().fold(false, |found, token| {
        (token.matches(offered) && !token.is_empty()) | found
    })
}

/// The vendor's own 404 where it has one, else ours; either way the same for every wrong address.
fn wrong_address(provider: &dyn Provider) -> Response {
    let reply = provider.reply(Outcome::Refused(Refusal::Signature));
    if reply.status == StatusCode::NOT_FOUND.as_u16()
        && reply.content_type != "application/problem+json"
    {
        return send(reply);
    }
    ApiError::not_found("address").into_response()
}

fn send(reply: Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if !reply.content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// Lower-case names; bytes that are no text are shown as such, a signature over them fails by itself. What was
/// called goes along under the name that HTTP/2 gives it, which no header can have.
fn plain(head: &Parts) -> Vec<(String, String)> {
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let mut headers = vec![(":path".to_owned(), path.to_owned())];
    headers.extend(head.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    }));
    headers
}
