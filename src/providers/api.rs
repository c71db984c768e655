//! Questions to a vendor's API within its source's budget; faults of the way come back in our words.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::retry::RetryAdvice;

use super::contract::{ProviderError, ProviderErrorKind};
use super::http::{ApiAnswer, ApiRequest, GuardedClient};
use super::pace::SharedPace;
use super::settings::{BaseUrl, CommonSettings};

/// How long a source keeps still after a "slow down" without a time.
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// One source's way to its vendor.
#[derive(Clone, Debug)]
pub struct Api {
    source: String,
    per_second: f64,
    client: Arc<GuardedClient>,
    pace: SharedPace,
}

impl Api {
    pub fn new(common: &CommonSettings, client: Arc<GuardedClient>, pace: SharedPace) -> Self {
        Self {
            source: common.name.clone(),
            per_second: common.requests_per_second,
            client,
            pace,
        }
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Waits for the source's turn and asks. Any status but 429 is an answer; `doing` is told in errors.
    pub async fn call(
        &self,
        base: &BaseUrl,
        request: ApiRequest,
        doing: &'static str,
    ) -> Result<ApiAnswer, ProviderError> {
        self.pace.turn(&self.source, self.per_second).await;
        let answer = self.client.call(base, request).await.map_err(|error| {
            self.error(
                ProviderErrorKind::Unreachable,
                RetryAdvice::Backoff,
                doing,
                error,
            )
        })?;
        if answer.status == 429 {
            return Err(self
                .throttled(answer.retry_after, doing, "status 429")
                .await);
        }
        Ok(answer)
    }

    /// The vendor said to slow down, in whatever words: the source keeps still for the time it named.
    pub async fn throttled(
        &self,
        retry_after: Option<Duration>,
        doing: &'static str,
        detail: impl ToString,
    ) -> ProviderError {
        self.pace
            .slow_down(&self.source, retry_after.unwrap_or(SLOW_DOWN))
            .await;
        let advice = retry_after.map_or(RetryAdvice::Backoff, RetryAdvice::After);
        self.error(ProviderErrorKind::Throttled, advice, doing, detail)
    }

    /// An error of this source; `detail` never holds an address with its query, a signature or a token.
    pub fn error(
        &self,
        kind: ProviderErrorKind,
        advice: RetryAdvice,
        doing: &'static str,
        detail: impl ToString,
    ) -> ProviderError {
        ProviderError {
            kind,
            advice,
            source_name: self.source.clone(),
            doing,
            detail: detail.to_string(),
        }
    }
}
