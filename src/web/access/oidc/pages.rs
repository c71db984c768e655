//! `/sign-in/oidc` and what follows: to the provider, back from it, and out of it. Open to everybody.

use askama::Template;
use axum::extract::{Query, RawQuery, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{RETRY_AFTER, SET_COOKIE};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::id_token::{self, Claims, Doubt, Expected};
use super::mapping::{self, Standing};
use super::provider::{Known, protocol_word};
use super::refusal::{Refusal, Refused};
use super::{BACK, FLOW_MS, Flow, Oidc};
use crate::db::accounts::{Account, AccountChange};
use crate::db::identities::NewIdentity;
use crate::domain::clock::Timestamp;
use crate::domain::token;
use crate::web::access::cookie;
use crate::web::access::door::is_behind_tls;
use crate::web::access::shell::{self, Shell};
use crate::web::access::sign_in::{self, Visitor, Wanted, own_address};
use crate::web::access::words::Words;
use crate::web::problem::ApiError;
use crate::web::reads::ask;
use crate::web::state::WebState;

/// An answer of a provider is short; RFC 6749 leaves the length of a code open.
const MOST_CODE: usize = 4096;

/// The way to the provider on the page that asks for name and password.
#[derive(Debug)]
pub struct Button {
    pub href: String,
    pub words: String,
    pub or: &'static str,
    pub left: Option<Left>,
}

/// Signed out here, and the provider still knows the person.
#[derive(Debug)]
pub struct Left {
    pub said: &'static str,
    pub there: &'static str,
}

fn pick(w: &Words, english: &'static str, chinese: &'static str) -> &'static str {
    if w.lang == "en" { english } else { chinese }
}

impl Button {
    /// `None` where no provider is configured.
    pub fn of(state: &WebState, next: Option<&str>, w: &Words, left: bool) -> Option<Self> {
        let oidc = state.doorkeeper.oidc.as_ref()?;
        let label = oidc.settings().label();
        let only_administrators = !oidc.takes_password_of(crate::domain::rights::Role::Listener);
        Some(Self {
            href: begin_at(&own_address(next)),
            words: match w.lang {
                "en" => format!("Sign in with {label}"),
                _ => format!("使用 {label} 登录"),
            },
            or: if only_administrators {
                pick(
                    w,
                    "Name and password are for administrators alone.",
                    "用户名和密码仅供管理员使用。",
                )
            } else {
                pick(w, "or with name and password:", "或使用用户名和密码：")
            },
            left: left.then(|| Left {
                said: pick(
                    w,
                    "You are signed out here. The sign-in service may still know you:",
                    "您已在此退出，但登录服务可能仍保持登录状态：",
                ),
                there: pick(w, "sign out there too", "同时退出登录服务"),
            }),
        })
    }
}

fn begin_at(next: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("next", next)
        .finish();
    format!("/sign-in/oidc?{query}")
}

fn configured(state: &WebState) -> Result<&Oidc, ApiError> {
    let oidc = state.doorkeeper.oidc.as_ref();
    oidc.ok_or_else(|| ApiError::not_found("page"))
}

/// To the provider. A link and no form: browsers hold `form-action` against redirects as well.
pub async fn leave(
    State(state): State<WebState>,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Response {
    let visitor = Visitor::of_link(&state, &request);
    let next = own_address(wanted.next.as_deref());
    let left = async {
        let oidc = configured(&state)?;
        match to_provider(&state, oidc, &visitor, &next).await {
            Ok(response) => Ok(response),
            Err(End::Refused(refused)) => refuse(&state, &visitor, &refused, &next).await,
            Err(End::Error(error)) => Err(error),
        }
    };
    left.await.unwrap_or_else(IntoResponse::into_response)
}

/// How a sign-in ends before its end.
enum End {
    Refused(Refused),
    Error(ApiError),
}

impl From<Refused> for End {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

async fn to_provider(
    state: &WebState,
    oidc: &Oidc,
    visitor: &Visitor,
    next: &str,
) -> Result<Response, End> {
    if oidc.leaves.take(&visitor.from, Instant::now()).is_err() {
        return Err(Refused::new(Refusal::TooOften, "").into());
    }
    let known = oidc.provider.known().await?;
    let no_luck = || ApiError::unavailable("source of random bytes");
    let secret = token::new_token().ok_or_else(no_luck)?;
    let flow = Flow(&secret);
    let now = state.clock.now();
    let until = Timestamp::from_ms(now.ms() + FLOW_MS);
    let adding = state
        .db
        .add_oidc_flow(token::hash(&flow.state()), next, until, now);
    ask(state, adding).await?;
    let settings = oidc.settings();
    let mut address = super::settings::safe_address(&known.metadata.authorization_endpoint)
        .map_err(|what| Refused::new(Refusal::ProviderOdd, what))?;
    address
        .query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &settings.client_id)
        .append_pair("redirect_uri", &return_address(state))
        .append_pair("scope", &settings.scopes.join(" "))
        .append_pair("state", &flow.state())
        .append_pair("nonce", &flow.nonce())
        .append_pair("code_challenge", &flow.challenge())
        .append_pair("code_challenge_method", "S256");
    let mut response = Redirect::to(address.as_str()).into_response();
    let cookie = cookie::set_flow(&secret, FLOW_MS / 1000, is_behind_tls(state));
    let cookie = cookie.ok_or_else(no_luck)?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// One address, whatever `Host` a request names.
fn return_address(state: &WebState) -> String {
    format!("{}{BACK}", state.settings.public_base())
}

/// Back from the provider: everything is looked at, and then a session begins.
pub async fn come_back(
    State(state): State<WebState>,
    RawQuery(raw): RawQuery,
    request: Request,
) -> Response {
    let visitor = Visitor::of_link(&state, &request);
    let raw = raw.unwrap_or_default();
    let mut next = "/".to_owned();
    let came = async {
        let oidc = configured(&state)?;
        match come(&state, oidc, &visitor, &raw, &mut next).await {
            Ok(response) => Ok(response),
            Err(End::Refused(refused)) => refuse(&state, &visitor, &refused, &next).await,
            Err(End::Error(error)) => Err(error),
        }
    };
    came.await.unwrap_or_else(IntoResponse::into_response)
}

async fn come(
    state: &WebState,
    oidc: &Oidc,
    visitor: &Visitor,
    raw: &str,
    next: &mut String,
) -> Result<Response, End> {
    let tries = &state.doorkeeper.tries;
    if tries.take(&visitor.from, Instant::now()).is_err() {
        return Err(Refused::new(Refusal::TooOften, "").into());
    }
    let answer = Answer::read(raw);
    let secret = cookie::read_flow(&visitor.headers, is_behind_tls(state));
    let Some(secret) = secret else {
        return Err(Refused::new(Refusal::OtherBrowser, "no cookie of a sign-in").into());
    };
    let flow = Flow(&secret);
    let told = answer.get("state").unwrap_or_default();
    if !bool::from(told.as_bytes().ct_eq(flow.state().as_bytes())) {
        return Err(Refused::new(Refusal::OtherBrowser, "another state").into());
    }
    let taken = state
        .db
        .take_oidc_flow(token::hash(&flow.state()), state.clock.now());
    match ask(state, taken).await? {
        // It was checked when it was kept, and what is kept is ours.
        Some(kept) => *next = own_address(Some(&kept)),
        None => return Err(Refused::new(Refusal::UsedUp, "").into()),
    }
    let known = oidc.provider.known().await?;
    let code = answer.code(&known, &oidc.settings().issuer)?;
    let claims = claims(state, oidc, &known, &flow, code).await?;
    let standing = match mapping::standing(oidc.settings(), &claims) {
        Ok(standing) => standing,
        Err(refused) => {
            end_sessions(state, &oidc.settings().issuer, &claims.subject).await?;
            return Err(refused.into());
        }
    };
    let (account, detail) = account(state, oidc, &claims, standing).await?;
    let how = ("sign_in_oidc", detail);
    let mut response = sign_in::begin(state, visitor, &account, how, next).await?;
    if let Some(cookie) = cookie::forget_flow(is_behind_tls(state)) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// What came back in the address. A name that is there twice is none.
struct Answer(Vec<(String, String)>);

impl Answer {
    fn read(raw: &str) -> Self {
        let pairs = form_urlencoded::parse(raw.as_bytes()).into_owned();
        Self(pairs.take(20).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// The code, where the provider says yes and is the one that was asked (RFC 9207).
    fn code(&self, known: &Known, issuer: &str) -> Result<&str, Refused> {
        let told = self.get("iss");
        let must = known
            .metadata
            .authorization_response_iss_parameter_supported;
        if told.is_some_and(|told| told != issuer) || (must && told.is_none()) {
            let detail = "the answer's iss is not the configured issuer";
            return Err(Refused::new(Refusal::WrongIssuer, detail));
        }
        if let Some(error) = self.get("error") {
            return Err(Refused::new(Refusal::Denied, protocol_word(error)));
        }
        let code = self.get("code").filter(|code| code.len() <= MOST_CODE);
        code.ok_or_else(|| Refused::new(Refusal::Denied, "neither a code nor an error"))
    }
}

/// What the provider says of the person, believed.
async fn claims(
    state: &WebState,
    oidc: &Oidc,
    known: &Known,
    flow: &Flow<'_>,
    code: &str,
) -> Result<Claims, Refused> {
    let provider = &oidc.provider;
    let tokens = provider
        .exchange(
            &known.metadata,
            code,
            &flow.verifier(),
            &return_address(state),
        )
        .await?;
    let settings = oidc.settings();
    let nonce = flow.nonce();
    let expected = || Expected {
        issuer: &settings.issuer,
        client_id: &settings.client_id,
        nonce: &nonce,
        now: state.clock.now(),
    };
    let mut looked = id_token::verify(&tokens.id_token, &known.keys, expected());
    if matches!(looked, Err(Doubt::UnknownKey)) {
        // The provider changed its keys since we asked for them.
        let keys = provider.fresh_keys(&known.metadata).await?;
        looked = id_token::verify(&tokens.id_token, &keys, expected());
    }
    let mut claims = looked.map_err(|doubt| match doubt {
        Doubt::Refused(refused) => refused,
        Doubt::UnknownKey => Refused::new(
            Refusal::BadSignature,
            "signed by a key that the provider does not publish",
        ),
    })?;
    if let Some(access) = &tokens.access_token
        && !mapping::says_all(settings, &claims.all)
        && let Some(more) = provider.userinfo(&known.metadata, access).await?
    {
        merge(&mut claims, more)?;
    }
    Ok(claims)
}

/// What userinfo adds; the token's own word stays. Another subject is somebody else: Core 1.0, section 5.3.2.
fn merge(claims: &mut Claims, more: Map<String, Value>) -> Result<(), Refused> {
    if more.get("sub").and_then(Value::as_str) != Some(&claims.subject) {
        let detail = "userinfo speaks of another subject than the token";
        return Err(Refused::new(Refusal::MissingClaims, detail).of(&claims.subject));
    }
    for (name, value) in more {
        claims.all.entry(name).or_insert(value);
    }
    Ok(())
}

/// Whoever lost every role at the provider does not go on in a browser that is signed in.
async fn end_sessions(state: &WebState, issuer: &str, subject: &str) -> Result<(), ApiError> {
    let known = ask(state, state.db.account_of_identity(issuer, subject)).await?;
    if let Some(account) = known {
        // Naming a role ends all sessions, also where it stays the same.
        let change = AccountChange {
            role: Some(account.role),
            ..AccountChange::default()
        };
        let now = state.clock.now();
        ask(
            state,
            state.db.change_account(account.account_id, change, now),
        )
        .await?;
    }
    Ok(())
}

/// The person's account as the claims have it now; made where there is none. Nothing is found by name or address.
async fn account(
    state: &WebState,
    oidc: &Oidc,
    claims: &Claims,
    standing: Standing,
) -> Result<(Account, Value), End> {
    let issuer = &oidc.settings().issuer;
    let now = state.clock.now();
    let known = ask(state, state.db.account_of_identity(issuer, &claims.subject)).await?;
    let mut detail = json!({
        "issuer": issuer, "subject": claims.subject, "role": standing.role, "scope": standing.scope,
    });
    let Some(account) = known else {
        let new = NewIdentity {
            issuer: issuer.clone(),
            subject: claims.subject.clone(),
            names: mapping::names(issuer, claims),
            role: standing.role,
            scope: standing.scope,
        };
        let made = ask(state, state.db.add_identity(new, now)).await?;
        detail["made"] = true.into();
        return Ok((made, detail));
    };
    if account.disabled {
        let refused = Refused::new(Refusal::Disabled, account.name.clone());
        return Err(refused.of(&claims.subject).into());
    }
    if (account.role, &account.scope) == (standing.role, &standing.scope) {
        return Ok((account, detail));
    }
    detail["before"] = json!({ "role": account.role, "scope": account.scope });
    let change = AccountChange {
        role: Some(standing.role),
        scope: Some(standing.scope.clone()),
        ..AccountChange::default()
    };
    let changing = state.db.change_account(account.account_id, change, now);
    ask(state, changing).await?;
    let changed = Account {
        role: standing.role,
        scope: standing.scope,
        ..account
    };
    Ok((changed, detail))
}

#[derive(Template)]
#[template(path = "access/oidc.html")]
struct RefusedPage {
    shell: Shell,
    title: &'static str,
    words: &'static str,
    ask: Option<String>,
    code_word: &'static str,
    code: &'static str,
    again: String,
    again_word: &'static str,
}

/// Into the trail, the log, and words for the person.
async fn refuse(
    state: &WebState,
    visitor: &Visitor,
    refused: &Refused,
    next: &str,
) -> Result<Response, ApiError> {
    let why = refused.why;
    let oidc = configured(state)?;
    let detail = json!({
        "code": why.code(), "issuer": oidc.settings().issuer, "subject": refused.subject,
        "what": refused.detail,
    });
    // A flood would fill the trail with nothing.
    if why != Refusal::TooOften {
        let event = ("(oidc)", detail);
        sign_in::audit(state, visitor, "(nobody)", "sign_in_refused", event).await?;
    }
    let (code, what, from) = (why.code(), &refused.detail, &visitor.from);
    if why.is_alarming() {
        tracing::warn!(code, what, from, "a sign-in through the provider failed");
    } else {
        tracing::info!(
            code,
            what,
            from,
            "a sign-in through the provider was refused"
        );
    }
    let shell = Shell::outside(state, &visitor.headers);
    let w = shell.w;
    let page = RefusedPage {
        title: pick(w, "You are not signed in", "未能登录"),
        words: why.words(w),
        ask: why
            .needs_somebody()
            .then(|| match (&oidc.settings().contact, w.lang) {
                (Some(contact), "en") => format!("Ask: {contact}"),
                (Some(contact), _) => format!("请联系：{contact}"),
                (None, "en") => {
                    "Ask an administrator of this archive, and tell the code below.".to_owned()
                }
                (None, _) => "请联系本系统的管理员，并告知下面的代码。".to_owned(),
            }),
        code_word: pick(w, "Code", "代码"),
        code: why.code(),
        again: begin_at(next),
        again_word: pick(w, "Try again", "重试"),
        shell,
    };
    let mut response = shell::render(state, &page);
    *response.status_mut() = why.status();
    if matches!(why, Refusal::ProviderAway | Refusal::TooOften) {
        let minute = http::HeaderValue::from_static("60");
        response.headers_mut().insert(RETRY_AFTER, minute);
    }
    Ok(response)
}

/// Ends the session at the provider as well, where it offers that: RP-Initiated Logout 1.0.
///
/// Ours is over by then. Without a hint of who it was, which we do not keep, the provider asks the person.
pub async fn sign_out_there(State(state): State<WebState>) -> Response {
    let leads = async {
        let oidc = configured(&state)?;
        let known = oidc.provider.known().await;
        let known = known.map_err(|_| ApiError::unavailable("sign-in service"))?;
        let ends = known.metadata.end_session_endpoint.as_deref();
        let ends = ends.and_then(|ends| super::settings::safe_address(ends).ok());
        let Some(mut address) = ends else {
            return Ok(Redirect::to("/sign-in"));
        };
        let home = format!("{}/sign-in", state.settings.public_base());
        address
            .query_pairs_mut()
            .append_pair("client_id", &oidc.settings().client_id)
            .append_pair("post_logout_redirect_uri", &home);
        Ok(Redirect::to(address.as_str()))
    };
    let led: Result<Redirect, ApiError> = leads.await;
    led.map_or_else(IntoResponse::into_response, IntoResponse::into_response)
}

/// Where signing out leads somebody whose account came in through the provider.
pub async fn left_page(state: &WebState, account: uuid::Uuid) -> Result<&'static str, ApiError> {
    if state.doorkeeper.oidc.is_none() {
        return Ok("/sign-in");
    }
    let came = ask(state, state.db.issuer_of(account)).await?;
    Ok(came.map_or("/sign-in", |_| "/sign-in?left=1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_not_said() {
        let answer = Answer::read("code=a&state=x&state=y&iss=https%3A%2F%2Fid.example.com");
        assert_eq!(answer.get("code"), Some("a"));
        assert_eq!(answer.get("state"), None);
        assert_eq!(answer.get("iss"), Some("https://id.example.com"));
        assert_eq!(answer.get("error"), None);
    }
}
