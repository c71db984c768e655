//! Questions to the recording interface (family D): the key, the session where one is wanted, and what is
//! counted on the way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::retry::RetryAdvice;
use crate::providers::api::Api;
use crate::providers::contract::{ProviderError, ProviderErrorKind};
use crate::providers::http::ApiRequest;

use super::answer::{ALREADY_ON, Answer, Entries, NOTHING_ON, Status};
use super::session::Sessions;
use super::settings::Settings;

/// After a refused key the account keeps still for so long (vcrtc.md, section 7.8).
const REFUSED_PAUSE: Duration = Duration::from_secs(600);

pub const LISTING: &str = "asking for a recording";
pub const WATCHING: &str = "asking what a room records";
const OPENING: &str = "starting a recording";
const DELETING: &str = "deleting a recording";

/// What the vendor said, where it said anything.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Data(Value),
    Refused { code: String, message: String },
}

/// What starting a recording came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    Ours(String),
    /// Somebody else was faster.
    AlreadyOn,
    /// The room is not in use.
    NotOpen,
}

/// What was odd and harmless, counted since the start.
#[derive(Debug, Default)]
pub struct Tally {
    pub ignored_entries: AtomicU64,
    pub tolerant_parses: AtomicU64,
    pub unreadable_times: AtomicU64,
}

/// Asks one account.
#[derive(Debug)]
pub struct Asker {
    api: Api,
    clock: SharedClock,
    sessions: Option<Sessions>,
    refused_until: Mutex<Option<Timestamp>>,
    pub tally: Tally,
}

impl Asker {
    pub fn new(api: Api, clock: SharedClock, settings: &Settings) -> Self {
        let sessions = settings
            .login
            .clone()
            .map(|login| Sessions::new(login, settings.api_server.clone(), clock.clone()));
        Self {
            api,
            clock,
            sessions,
            refused_until: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// What the vendor has under this id; an empty id asks for everything.
    pub async fn records(
        &self,
        settings: &Settings,
        record_id: &str,
        is_our_room: impl Fn(&str) -> bool,
    ) -> Result<Entries, ProviderError> {
        let mut body = json!({ "recordId": record_id });
        if let Some(origin) = &settings.origin {
            body["origin"] = origin.as_str().into();
        }
        let data = match self
            .ask(settings, &settings.paths.records, body, LISTING)
            .await?
        {
            Heard::Data(data) => data,
            Heard::Refused { code, .. } if NOTHING_ON.contains(&code.as_str()) => Value::Null,
            Heard::Refused { code, message } => return Err(self.refused(LISTING, &code, &message)),
        };
        let entries = Entries::of(
            &data,
            record_id,
            is_our_room,
            settings.tenant.as_deref(),
            settings.time_zone,
        );
        let count = |counter: &AtomicU64, more: u32| {
            counter.fetch_add(u64::from(more), Ordering::Relaxed);
        };
        count(&self.tally.ignored_entries, entries.ignored);
        count(&self.tally.unreadable_times, entries.unreadable_times);
        if entries.ignored > 0 || entries.unreadable_times > 0 {
            tracing::debug!(
                ignored = entries.ignored,
                unreadable_times = entries.unreadable_times,
                "entries of other rooms or tenants, or times that are none"
            );
        }
        Ok(entries)
    }

    pub async fn status(&self, settings: &Settings, room: &str) -> Result<Status, ProviderError> {
        let body = json!({ "conferenceKey": room });
        match self
            .ask(settings, &settings.paths.status, body, WATCHING)
            .await?
        {
            Heard::Data(data) => Status::of(&data, room).ok_or_else(|| {
                self.api.error(
                    ProviderErrorKind::BadAnswer,
                    RetryAdvice::Backoff,
                    WATCHING,
                    "an answer about another room, or about none",
                )
            }),
            Heard::Refused { code, .. } if NOTHING_ON.contains(&code.as_str()) => {
                Ok(Status::default())
            }
            Heard::Refused { code, message } => Err(self.refused(WATCHING, &code, &message)),
        }
    }

    pub async fn open(&self, settings: &Settings, room: &str) -> Result<Opened, ProviderError> {
        let body = json!({ "conferenceKey": room });
        match self
            .ask(settings, &settings.paths.open, body, OPENING)
            .await?
        {
            Heard::Data(data) => data
                .as_object()
                .and_then(super::answer::record_id)
                .map(Opened::Ours)
                .ok_or_else(|| {
                    self.api.error(
                        ProviderErrorKind::BadAnswer,
                        RetryAdvice::Backoff,
                        OPENING,
                        "an answer without a record id",
                    )
                }),
            Heard::Refused { code, .. } if code == ALREADY_ON => Ok(Opened::AlreadyOn),
            Heard::Refused { code, .. } if NOTHING_ON.contains(&code.as_str()) => {
                Ok(Opened::NotOpen)
            }
            Heard::Refused { code, message } => Err(self.refused(OPENING, &code, &message)),
        }
    }

    /// Deletes the vendor's copy. Which code says "no such record" is not public: a refusal counts as done
    /// when the configuration names its code, or when the vendor has no such entry any more.
    pub async fn delete(&self, settings: &Settings, record_id: &str) -> Result<(), ProviderError> {
        let body = json!({ "recordId": record_id });
        let (code, message) = match self
            .ask(settings, &settings.paths.delete, body, DELETING)
            .await?
        {
            Heard::Data(_) => return Ok(()),
            Heard::Refused { code, message } => (code, message),
        };
        if settings.codes.no_such_record.contains(&code) {
            return Ok(());
        }
        let left = self.records(settings, record_id, |_| true).await?;
        if left.wanted.is_none() {
            return Ok(());
        }
        Err(self.refused(DELETING, &code, &message))
    }

    /// Forgets that the key was refused a short while ago: `check` always asks.
    pub fn ask_again(&self) {
        *self.pause() = None;
    }

    pub fn error(&self, doing: &'static str, detail: &str) -> ProviderError {
        self.api.error(
            ProviderErrorKind::BadAnswer,
            RetryAdvice::Never,
            doing,
            detail,
        )
    }

    fn refused(&self, doing: &'static str, code: &str, message: &str) -> ProviderError {
        // "Room and auth do not match" is about the key too, but about one room only.
        let kind = match code {
            "200001" => ProviderErrorKind::CredentialsRefused,
            _ => ProviderErrorKind::BadAnswer,
        };
        let detail = format!("refused with code {code} {message}");
        self.api
            .error(kind, RetryAdvice::Backoff, doing, detail.trim_end())
    }

    fn pause(&self) -> std::sync::MutexGuard<'_, Option<Timestamp>> {
        self.refused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        settings: &Settings,
        path: &str,
        body: Value,
        doing: &'static str,
    ) -> Result<Heard, ProviderError> {
        let until = *self.pause();
        if let Some(until) = until {
            let left = until.since_ms(self.clock.now());
            if left > 0 {
                return Err(self.api.error(
                    ProviderErrorKind::CredentialsRefused,
                    RetryAdvice::After(Duration::from_millis(left.unsigned_abs())),
                    doing,
                    "the vendor refused auth_value a short while ago; not asked again yet",
                ));
            }
        }
        let mut renewed = false;
        loop {
            let session = match &self.sessions {
                Some(sessions) => Some(sessions.get(&self.api).await?),
                None => None,
            };
            let mut request = ApiRequest::new(http::Method::POST, path)
                .header("content-type", "application/json")
                .header(&settings.auth_header, settings.auth_value.expose());
            for (name, value) in session.iter().flat_map(|session| &session.headers) {
                request = request.header(name, value);
            }
            let request = request.body(body.to_string());
            let answer = self.api.call(&settings.api_server, request, doing).await?;
            match Answer::of(answer.status, &answer.body) {
                Answer::Ok { data, tolerant } => {
                    if tolerant {
                        self.tally.tolerant_parses.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(Heard::Data(data));
                }
                Answer::Refused { code, message } => return Ok(Heard::Refused { code, message }),
                Answer::AuthFailed { code } => {
                    // The session may have died early; once, with a new one.
                    if let (Some(sessions), Some(session), false) =
                        (&self.sessions, &session, renewed)
                    {
                        sessions.refused(session).await;
                        renewed = true;
                        continue;
                    }
                    *self.pause() = Some(self.clock.now().plus(REFUSED_PAUSE));
                    return Err(self.api.error(
                        ProviderErrorKind::CredentialsRefused,
                        RetryAdvice::After(REFUSED_PAUSE),
                        doing,
                        format!("code {code}: auth_value is wrong or belongs to another tenant"),
                    ));
                }
                Answer::BadRequest { code, message } => {
                    return Err(self.refused(doing, &code, &message));
                }
                Answer::Transport { code, what } => {
                    let code = code
                        .map(|code| format!(", code {code}"))
                        .unwrap_or_default();
                    return Err(self.api.error(
                        ProviderErrorKind::Unreachable,
                        answer
                            .retry_after
                            .map_or(RetryAdvice::Backoff, RetryAdvice::After),
                        doing,
                        format!("{what}{code}"),
                    ));
                }
            }
        }
    }
}
