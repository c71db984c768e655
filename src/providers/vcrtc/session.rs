//! The app login (family A) and its three-minute session, for installations that want one with every question.
//!
//! The session is renewed before it ends, by one task at a time, and never in a tight loop: at most five
//! logins in ten minutes (vcrtc.md, section 7.14), which is ten thirds of a session's life.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::retry::RetryAdvice;
use crate::providers::api::Api;
use crate::providers::contract::{ProviderError, ProviderErrorKind};
use crate::providers::http::ApiRequest;
use crate::providers::settings::BaseUrl;

use super::loose;
use super::settings::Login;

const DOING: &str = "logging in";
const MOST_LOGINS: usize = 5;

/// What goes along with a question. `number` tells sessions apart without showing them.
#[derive(Clone)]
pub struct Session {
    pub number: u64,
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.number)
    }
}

#[derive(Debug, Default)]
struct State {
    live: Option<(Session, Timestamp)>,
    logins: VecDeque<Timestamp>,
    count: u64,
}

/// One account's session. The lock is held over the login, so that whoever comes meanwhile waits for it.
#[derive(Debug)]
pub struct Sessions {
    login: Login,
    server: BaseUrl,
    clock: SharedClock,
    state: Mutex<State>,
}

impl Sessions {
    pub fn new(login: Login, server: BaseUrl, clock: SharedClock) -> Self {
        Self {
            login,
            server,
            clock,
            state: Mutex::default(),
        }
    }

    /// A session with at least a third of its life left.
    pub async fn get(&self, api: &Api) -> Result<Session, ProviderError> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        if let Some((session, since)) = &state.live
            && now < since.plus(self.login.session_ttl * 2 / 3)
        {
            return Ok(session.clone());
        }
        let within = self.login.session_ttl * 10 / 3;
        while let Some(first) = state.logins.front()
            && now >= first.plus(within)
        {
            state.logins.pop_front();
        }
        if let Some(first) = state.logins.front()
            && state.logins.len() >= MOST_LOGINS
        {
            let wait = first.plus(within).since_ms(now).max(1);
            let wait = Duration::from_millis(wait.unsigned_abs());
            return Err(api.error(
                ProviderErrorKind::CredentialsRefused,
                RetryAdvice::After(wait),
                DOING,
                "five logins in a short time and no session that holds; check login.account, login.password \
                 and login.session_ttl",
            ));
        }
        state.logins.push_back(now);
        state.live = None;
        let id = self.log_in(api).await?;
        state.count += 1;
        let session = Session {
            number: state.count,
            headers: self.headers(id),
        };
        state.live = Some((session.clone(), now));
        Ok(session)
    }

    /// The vendor refused a question that this session went along with: the next one logs in again.
    pub async fn refused(&self, session: &Session) {
        let mut state = self.state.lock().await;
        if let Some((live, _)) = &state.live
            && live.number == session.number
        {
            state.live = None;
        }
    }

    async fn log_in(&self, api: &Api) -> Result<Option<String>, ProviderError> {
        let login = &self.login;
        let mut body = json!({
            "account": login.account,
            "pwd": login.password.expose(),
            "login_url": format!("{}{}", self.server, login.path),
        });
        if let Some(plat_type) = &login.plat_type {
            body["host"] = host(&self.server).into();
            body["plat_type"] = plat_type.as_str().into();
        }
        // By POST only: a query would carry the password into logs.
        let request = ApiRequest::new(http::Method::POST, login.path.as_str())
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = api.call(&self.server, request, DOING).await?;
        match session_of(answer.status, &answer.body) {
            Ok(id) => Ok(id),
            Err(LoginFailed::Refused(what)) => Err(api.error(
                ProviderErrorKind::CredentialsRefused,
                RetryAdvice::Backoff,
                DOING,
                what,
            )),
            Err(LoginFailed::Senseless(what)) => Err(api.error(
                ProviderErrorKind::Unreachable,
                answer
                    .retry_after
                    .map_or(RetryAdvice::Backoff, RetryAdvice::After),
                DOING,
                what,
            )),
        }
    }

    fn headers(&self, id: Option<String>) -> Vec<(String, String)> {
        let login = &self.login;
        let mut headers = Vec::new();
        if login.cloud_authorization {
            let value = cloud_basic(&login.account, login.password.expose());
            headers.push(("X-Cloud-Authorization".to_owned(), value.clone()));
            headers.push(("Authorization".to_owned(), value));
        }
        // The public cloud gives no session.
        if let Some(id) = id {
            headers.push((login.session_header.clone(), id));
        }
        headers
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginFailed {
    Refused(String),
    Senseless(String),
}

/// The session of a login's answer, none where the installation gives none. The HTTP status may be 200
/// for a refusal, where `results` is a text: only `code` and the object count (vcrtc.md, section 2.1).
pub fn session_of(status: u16, body: &[u8]) -> Result<Option<String>, LoginFailed> {
    if matches!(status, 401 | 403) {
        return Err(LoginFailed::Refused(format!("status {status}")));
    }
    if status != 200 {
        return Err(LoginFailed::Senseless(format!("status {status}")));
    }
    let Some((answer, _)) = loose::object(body) else {
        let what = "a body that is no JSON object".to_owned();
        return Err(LoginFailed::Senseless(what));
    };
    let Some(code) = loose::text(answer.get("code")) else {
        return Err(LoginFailed::Senseless("an answer without a code".into()));
    };
    match answer.get("results") {
        Some(Value::Object(results)) if code == "200" => Ok(loose::text(results.get("session_id"))),
        _ if code == "500" => Err(LoginFailed::Senseless("code 500".to_owned())),
        _ => Err(LoginFailed::Refused(format!("code {code}"))),
    }
}

/// `x-cloud-basic ` and plain Base64 with its padding, never an extra `=` (vcrtc.md, section 2.2). The
/// user is the account's part before `@`.
pub fn cloud_basic(account: &str, password: &str) -> String {
    let user = account.split('@').next().unwrap_or_default();
    format!(
        "x-cloud-basic {}",
        STANDARD.encode(format!("{user}:{password}"))
    )
}

fn host(server: &BaseUrl) -> &str {
    let rest = server.as_str();
    let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
