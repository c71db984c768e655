//! Temporary keys for the vendor's queues (`QueryTokenForMnsQueue`): renewed early, and once for all who wait.

use std::sync::Arc;
use std::time::Duration;

use chrono::{FixedOffset, NaiveDateTime};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::domain::clock::Timestamp;
use crate::domain::retry::RetryAdvice;
use crate::domain::secret::Secret;
use crate::providers::contract::{ProviderError, ProviderErrorKind};
use crate::providers::settings::BaseUrl;

use super::pop::{Answer, Key, Pop};

const ACTION: &str = "QueryTokenForMnsQueue";
const DOING: &str = "asking for a message queue's token";
/// As the vendor's own puller does it (aliyun.md, section 5).
const RENEW_BEFORE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Token {
    pub key: Key,
    pub security: Secret,
    until: Timestamp,
    /// From here on it is renewed; until its end it is still good.
    renew_at: Timestamp,
}

impl Token {
    /// One that is good until `until`, and then over.
    #[cfg(test)]
    pub fn of(key: Key, security: Secret, until: Timestamp) -> Self {
        Self {
            key,
            security,
            until,
            renew_at: until,
        }
    }
}

/// The token of one queue. Deletes go out under whatever token lives when they do: handles are the queue's, not
/// a token's, so an old one is never closed under them.
#[derive(Debug)]
pub struct TokenCache {
    message_type: &'static str,
    queue: String,
    /// Held while asking: who comes meanwhile waits and takes the same answer.
    cached: Mutex<Option<Arc<Token>>>,
}

impl TokenCache {
    pub fn new(message_type: &'static str, queue: String) -> Self {
        Self {
            message_type,
            queue,
            cached: Mutex::new(None),
        }
    }

    /// A token that is good now. While the vendor gives no new one, the old one serves to its end.
    pub async fn get(&self, pop: &Pop, base: &BaseUrl) -> Result<Arc<Token>, ProviderError> {
        let mut cached = self.cached.lock().await;
        let now = pop.clock.now();
        let living = cached.clone().filter(|token| now < token.until);
        if let Some(token) = living.clone().filter(|token| now < token.renew_at) {
            return Ok(token);
        }
        match (self.ask(pop, base).await, living) {
            (Ok(token), _) => {
                let token = Arc::new(token);
                *cached = Some(token.clone());
                Ok(token)
            }
            (Err(error), Some(token)) => {
                tracing::warn!(source = error.source_name, %error, "token not renewed, the old one still serves");
                Ok(token)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// A token in the place of one that was refused, unless somebody else has renewed it already.
    pub async fn renew(
        &self,
        refused: &Arc<Token>,
        pop: &Pop,
        base: &BaseUrl,
    ) -> Result<Arc<Token>, ProviderError> {
        let mut cached = self.cached.lock().await;
        if let Some(newer) = cached
            .as_ref()
            .filter(|token| !Arc::ptr_eq(token, refused) && pop.clock.now() < token.until)
        {
            return Ok(newer.clone());
        }
        let token = Arc::new(self.ask(pop, base).await?);
        *cached = Some(token.clone());
        Ok(token)
    }

    /// One question, nothing remembered.
    pub async fn ask(&self, pop: &Pop, base: &BaseUrl) -> Result<Token, ProviderError> {
        let params = [
            ("MessageType", self.message_type),
            ("QueueName", self.queue.as_str()),
        ];
        let bad = |why: &str| {
            let kind = ProviderErrorKind::BadAnswer;
            pop.api.error(kind, RetryAdvice::Backoff, DOING, why)
        };
        match pop.ask(base, ACTION, &params, DOING).await? {
            Answer::Ok(body) => {
                read(&body["MessageTokenDTO"], pop.clock.now()).map_err(|why| bad(&why))
            }
            Answer::Missing { code } => Err(bad(&format!("code {code}"))),
        }
    }
}

fn read(dto: &Value, now: Timestamp) -> Result<Token, String> {
    let text = |name: &str| {
        dto[name]
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| format!("a token without {name}"))
    };
    let until = text("ExpireTime")?;
    let until = shanghai(&until).ok_or("a token whose ExpireTime cannot be read")?;
    // Of a token that lives for less than four minutes, half of its life.
    let lives = u64::try_from(until.since_ms(now)).map_err(|_| "a token that is over already")?;
    let early = RENEW_BEFORE.min(Duration::from_millis(lives / 2));
    Ok(Token {
        key: Key {
            id: text("AccessKeyId")?,
            secret: Secret::new(text("AccessKeySecret")?),
        },
        security: Secret::new(text("SecurityToken")?),
        until,
        renew_at: until.plus_ms(-(early.as_millis() as i64)),
    })
}

/// Token times are of UTC+8, whatever zone the source's messages are read in.
fn shanghai(text: &str) -> Option<Timestamp> {
    let local = NaiveDateTime::parse_from_str(text.trim(), "%Y-%m-%d %H:%M:%S").ok()?;
    let zone = FixedOffset::east_opt(8 * 3600)?;
    let at = local.and_local_timezone(zone).single()?;
    Some(Timestamp::from_ms(at.timestamp_millis()))
}
