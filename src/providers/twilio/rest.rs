//! Twilio's REST interface of 2010-04-01: one question at a time within `max_concurrency`, answers in our words.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::retry::RetryAdvice;
use crate::providers::api::Api;
use crate::providers::contract::{ProviderError, ProviderErrorKind};
use crate::providers::http::{ApiAnswer, ApiRequest};

use super::settings::{Account, Settings};

/// An account whose credentials were refused keeps still for so long.
const REFUSED_PAUSE: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub struct Rest {
    api: Api,
    clock: SharedClock,
    at_once: Semaphore,
    refused_until: Mutex<HashMap<String, Timestamp>>,
}

impl Rest {
    pub fn new(api: Api, clock: SharedClock, settings: &Settings) -> Self {
        Self {
            api,
            clock,
            at_once: Semaphore::new(settings.max_concurrency),
            refused_until: Mutex::default(),
        }
    }

    /// A JSON object, or none where the vendor has nothing (404).
    pub async fn object(
        &self,
        settings: &Settings,
        account: &str,
        path: &str,
        doing: &'static str,
    ) -> Result<Option<Map<String, Value>>, ProviderError> {
        let answer = self
            .ask(settings, account, Method::GET, path, doing)
            .await?;
        match answer.status {
            200 => match serde_json::from_slice(&answer.body) {
                Ok(Value::Object(object)) => Ok(Some(object)),
                _ => Err(self.unreachable(&answer, doing, "a body that is no JSON object")),
            },
            404 => Ok(None),
            status => Err(self.unreachable(&answer, doing, &format!("status {status}"))),
        }
    }

    /// The status of an answer that is neither a refusal nor a fault.
    pub async fn status(
        &self,
        settings: &Settings,
        account: &str,
        method: Method,
        path: &str,
        doing: &'static str,
    ) -> Result<u16, ProviderError> {
        let answer = self.ask(settings, account, method, path, doing).await?;
        match answer.status {
            // Not implemented is an answer, too.
            500 | 502..=599 => {
                let what = format!("status {}", answer.status);
                Err(self.unreachable(&answer, doing, &what))
            }
            status => Ok(status),
        }
    }

    /// Credentials in the form that media and questions take.
    pub fn basic(account: &Account) -> String {
        let both = format!("{}:{}", account.user, account.password.expose());
        format!("Basic {}", STANDARD.encode(both))
    }

    /// Forgets that credentials were refused a short while ago: `check` always asks.
    pub fn ask_again(&self) {
        self.pauses().clear();
    }

    pub fn error(&self, doing: &'static str, detail: &str) -> ProviderError {
        self.api.error(
            ProviderErrorKind::BadAnswer,
            RetryAdvice::Backoff,
            doing,
            detail,
        )
    }

    fn unreachable(&self, answer: &ApiAnswer, doing: &'static str, what: &str) -> ProviderError {
        let advice = answer
            .retry_after
            .map_or(RetryAdvice::Backoff, RetryAdvice::After);
        self.api
            .error(ProviderErrorKind::Unreachable, advice, doing, what)
    }

    fn pauses(&self) -> std::sync::MutexGuard<'_, HashMap<String, Timestamp>> {
        self.refused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(
        &self,
        settings: &Settings,
        account: &str,
        method: Method,
        path: &str,
        doing: &'static str,
    ) -> Result<ApiAnswer, ProviderError> {
        let refused = |wait, detail: String| {
            self.api.error(
                ProviderErrorKind::CredentialsRefused,
                RetryAdvice::After(wait),
                doing,
                detail,
            )
        };
        let Some(own) = settings.accounts.get(account) else {
            return Err(refused(
                REFUSED_PAUSE,
                "the recording belongs to an account that is not configured".to_owned(),
            ));
        };
        let until = self.pauses().get(account).copied();
        if let Some(until) = until {
            let left = until.since_ms(self.clock.now());
            if left > 0 {
                let wait = Duration::from_millis(left.unsigned_abs());
                let what = "the vendor refused auth a short while ago; not asked again yet";
                return Err(refused(wait, what.to_owned()));
            }
        }
        let _permit = self.at_once.acquire().await;
        let request = ApiRequest::new(method, path).header("authorization", &Self::basic(own));
        let answer = self.api.call(&settings.base_url, request, doing).await?;
        if matches!(answer.status, 401 | 403) {
            let until = self.clock.now().plus(REFUSED_PAUSE);
            self.pauses().insert(account.to_owned(), until);
            let what = format!("status {}: auth is wrong or lacks the right", answer.status);
            return Err(refused(REFUSED_PAUSE, what));
        }
        Ok(answer)
    }
}
