//! The vendor's queues as the contract draws from them: one for each message type, under tokens of their own.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::digest::Hasher;
use crate::domain::retry::RetryAdvice;
use crate::providers::contract::{
    Drawn, Finding, Prolonged, ProviderError, ProviderErrorKind, Severity, Told,
};
use crate::providers::settings::BaseUrl;

use super::message;
use super::mns::{self, BATCH, Fault, Message, Mns};
use super::pop::Pop;
use super::reading;
use super::token::{Token, TokenCache};

/// A message that was shown so often is not deleted by anybody.
const SHOWN_OFTEN: u32 = 10;
/// Given back to the vendor before the handle dies with the clock's last second.
const MARGIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Queue {
    message_type: &'static str,
    token: TokenCache,
}

#[derive(Debug)]
pub struct Queues {
    pub pop: Pop,
    pub dybase: BaseUrl,
    pub mns: Mns,
    queues: BTreeMap<String, Queue>,
}

impl Queues {
    pub fn new(
        pop: Pop,
        dybase: BaseUrl,
        mns: Mns,
        queues: &BTreeMap<&'static str, String>,
    ) -> Self {
        let queue = |(message_type, name): (&&'static str, &String)| {
            let token = TokenCache::new(message_type, name.clone());
            (
                name.clone(),
                Queue {
                    message_type,
                    token,
                },
            )
        };
        Self {
            pop,
            dybase,
            mns,
            queues: queues.iter().map(queue).collect(),
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.queues.keys().cloned().collect()
    }

    pub async fn draw(&self, name: &str) -> Result<Vec<Drawn>, ProviderError> {
        let queue = self.find(name)?;
        let messages = self
            .with_token(queue, |token| async move {
                self.mns.receive(name, &token).await
            })
            .await?;
        let drawn = messages.into_iter().map(|message| {
            if message.dequeue_count >= SHOWN_OFTEN {
                tracing::warn!(
                    source = self.source(),
                    queue = name,
                    shown = message.dequeue_count,
                    "a message comes again and again"
                );
            }
            Drawn {
                told: told(queue.message_type, &message),
                hidden_for: message.hidden_for.map(|left| left.saturating_sub(MARGIN)),
                receipt: message.receipt,
            }
        });
        Ok(drawn.collect())
    }

    pub async fn prolong(
        &self,
        name: &str,
        receipt: &str,
    ) -> Result<Option<Prolonged>, ProviderError> {
        let queue = self.find(name)?;
        let hidden = self
            .with_token(queue, |token| async move {
                self.mns.hide(name, receipt, &token).await
            })
            .await?;
        Ok(hidden.map(|(receipt, hidden_for)| Prolonged {
            receipt,
            hidden_for: hidden_for.map(|left| left.saturating_sub(MARGIN)),
        }))
    }

    /// All that can be deleted is, whatever becomes of the others.
    pub async fn confirm(&self, name: &str, receipts: &[String]) -> Result<(), ProviderError> {
        let queue = self.find(name)?;
        let mut outcome = Ok(());
        for batch in receipts.chunks(BATCH) {
            let deleted = self
                .with_token(queue, |token| async move {
                    self.mns.delete(name, batch, &token).await
                })
                .await;
            outcome = outcome.and(deleted);
        }
        outcome
    }

    /// A token for each queue, and what to do where there is none.
    pub async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, queue) in &self.queues {
            let Err(error) = queue.token.ask(&self.pop, &self.dybase).await else {
                continue;
            };
            let place = format!("sources.{}.queues.{}", self.source(), queue.message_type);
            findings.push(finding(&error, &format!("no token for {name}"), place));
        }
        findings
    }

    fn source(&self) -> &str {
        self.pop.api.source()
    }

    fn find(&self, name: &str) -> Result<&Queue, ProviderError> {
        self.queues.get(name).ok_or_else(|| {
            self.pop.api.error(
                ProviderErrorKind::BadAnswer,
                RetryAdvice::Never,
                "looking for a message queue",
                format!("{name:?} is not configured"),
            )
        })
    }

    /// Asks, and once more under a new token when the first was refused.
    async fn with_token<T, F>(
        &self,
        queue: &Queue,
        ask: impl Fn(Arc<Token>) -> F,
    ) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let token = queue.token.get(&self.pop, &self.dybase).await?;
        match ask(token.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(Fault::Other(error)) => return Err(error),
            Err(Fault::Token(error)) => {
                tracing::info!(source = error.source_name, %error, "token refused, asking for a new one");
            }
        }
        let token = queue.token.renew(&token, &self.pop, &self.dybase).await?;
        ask(token).await.map_err(|fault| match fault {
            Fault::Token(error) | Fault::Other(error) => error,
        })
    }
}

/// What an error at the vendor's API means for who set it up.
pub fn finding(error: &ProviderError, what: &str, place: String) -> Finding {
    let (code, severity, remedy) = match error.kind {
        ProviderErrorKind::CredentialsRefused | ProviderErrorKind::CannotListBucket => (
            "credentials_refused",
            Severity::Error,
            "check access_key_id, access_key_secret, the RAM user's rights and this machine's clock",
        ),
        ProviderErrorKind::Throttled => {
            ("throttled", Severity::Warning, "lower requests_per_second")
        }
        ProviderErrorKind::BadAnswer => (
            "provider_refused",
            Severity::Error,
            "compare message types and queue names with the console",
        ),
        ProviderErrorKind::Unreachable => (
            "provider_unreachable",
            Severity::Error,
            "check region, base_url, the network and the vendor's state",
        ),
    };
    Finding {
        code,
        severity,
        what: format!("{what}: {}", error.detail),
        place,
        remedy: remedy.to_owned(),
    }
}

/// A body that nobody can read is kept as it came, so that the queue need not keep it.
fn told(message_type: &'static str, message: &Message) -> Told {
    let topic = message::queue_topic(message_type);
    let read = mns::decoded(&message.body).and_then(|body| {
        let key = reading::key(message_type, body.as_bytes())?;
        Ok((body, key))
    });
    match read {
        Ok((body, dedup_key)) => Told {
            topic,
            body: Bytes::from(body),
            dedup_key,
            unreadable: None,
        },
        Err(why) => {
            let mut hasher = Hasher::new();
            hasher.update(topic.as_bytes());
            hasher.update(b"\0");
            hasher.update(message.body.as_bytes());
            Told {
                topic,
                body: Bytes::from(message.body.clone()),
                dedup_key: hasher.finish().sha256.hex(),
                unreadable: Some(why),
            }
        }
    }
}
