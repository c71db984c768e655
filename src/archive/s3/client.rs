//! The SDK client as this project needs it: ring for TLS, patience with an end, no automatic checksums.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, ConfigBag, Credentials, Intercept, Region,
    RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use crate::archive::settings::Settings;
use crate::domain::clock::SharedClock;

/// How long a store is waited for. The defaults suit every store met so far, so this is no setting;
/// tests shorten it.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub connect: Duration,
    /// One try of a call that moves no object, from the first byte sent to the head of the answer.
    pub answer: Duration,
    /// A body of which nothing moves for this long is given up.
    pub stalled: Duration,
    /// An upload may take `answer` plus its length at this rate.
    pub slowest_bytes_per_s: u64,
    /// Tries of one call, the first included.
    pub tries: u32,
    /// The first wait between tries; it doubles.
    pub first_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            stalled: Duration::from_secs(20),
            slowest_bytes_per_s: 128 * 1024,
            tries: 3,
            first_wait: Duration::from_millis(300),
        }
    }
}

impl Patience {
    pub(super) fn timeouts(&self, upload_bytes: u64) -> TimeoutConfig {
        let upload = Duration::from_secs(upload_bytes / self.slowest_bytes_per_s.max(1));
        TimeoutConfig::builder()
            .connect_timeout(self.connect)
            .operation_attempt_timeout(self.answer + upload)
            .build()
    }

    fn retries(&self) -> RetryConfig {
        RetryConfig::standard()
            .with_max_attempts(self.tries)
            .with_initial_backoff(self.first_wait)
            .with_max_backoff(Duration::from_secs(5))
    }
}

/// How far the store's clock is from ours, by the `Date` of its latest answer.
#[derive(Debug, Clone)]
pub(in crate::archive) struct StoreClock {
    clock: SharedClock,
    /// Store minus ours; `i64::MIN` before the first answer with a readable date.
    skew_ms: Arc<AtomicI64>,
}

impl StoreClock {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            skew_ms: Arc::new(AtomicI64::new(i64::MIN)),
        }
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(in crate::archive) fn skew_ms(&self) -> Option<i64> {
        Some(self.skew_ms.load(Ordering::Relaxed)).filter(|ms| *ms != i64::MIN)
    }

    /// `date` as HTTP writes it, "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, section 5.6.7).
    fn note(&self, date: &str) {
        if let Ok(date) = chrono::DateTime::parse_from_rfc2822(date) {
            let skew = date
                .timestamp_millis()
                .saturating_sub(self.clock.now().ms());
            self.skew_ms.store(skew, Ordering::Relaxed);
        }
    }
}

impl Intercept for StoreClock {
    fn name(&self) -> &'static str {
        "StoreClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), aws_sdk_s3::error::BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.note(date);
        }
        Ok(())
    }
}

/// What every client of this store has in common, credentials aside.
fn common(
    mut builder: Builder,
    settings: &Settings,
    patience: &Patience,
    store_clock: &StoreClock,
    http: SharedHttpClient,
) -> Builder {
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    builder
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .force_path_style(
            settings
                .force_path_style
                .unwrap_or(settings.endpoint.is_some()),
        )
        // The default sends bodies aws-chunked with a trailer, which Ceph RGW 16 refuses and s3s-fs
        // stores as the object's encoding. We hash files beforehand and send the header ourselves.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(patience.retries())
        .timeout_config(patience.timeouts(0))
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .grace_period(patience.stalled)
                .build(),
        )
        .interceptor(store_clock.clone())
}

/// The client for all work, and one without credentials that shows what the public sees.
pub(super) async fn connect(
    settings: &Settings,
    patience: &Patience,
    store_clock: &StoreClock,
) -> (aws_sdk_s3::Client, aws_sdk_s3::Client) {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let region = settings.region.clone().map(Region::new);
    let fallback = || Region::new("us-east-1");
    let (builder, region) = match (&settings.access_key_id, &settings.secret_access_key) {
        (Some(id), Some(secret)) => {
            let region = region.unwrap_or_else(fallback);
            let credentials =
                Credentials::new(id.expose(), secret.expose(), None, None, "configuration");
            let builder = Builder::new()
                .region(region.clone())
                .credentials_provider(credentials);
            (builder, region)
        }
        _ => {
            let mut loader = aws_config::defaults(BehaviorVersion::latest())
                .http_client(http.clone())
                .timeout_config(patience.timeouts(0));
            if let Some(region) = region {
                loader = loader.region(region);
            }
            let shared = loader.load().await;
            let region = shared.region().cloned().unwrap_or_else(fallback);
            let builder = Builder::from(&shared).region(region.clone());
            (builder, region)
        }
    };
    let own = common(builder, settings, patience, store_clock, http.clone()).build();
    let public = Builder::new().region(region).allow_no_auth();
    let public = common(public, settings, patience, store_clock, http).build();
    (
        aws_sdk_s3::Client::from_conf(own),
        aws_sdk_s3::Client::from_conf(public),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{ManualClock, Timestamp};

    #[test]
    fn the_skew_of_the_store_is_read_from_its_date() {
        let now = Timestamp::parse("1994-11-06T08:49:37Z").unwrap();
        let clock = StoreClock::new(ManualClock::at(now));
        assert_eq!(clock.skew_ms(), None);
        clock.note("yesterday");
        assert_eq!(clock.skew_ms(), None);
        clock.note("Sun, 06 Nov 1994 08:59:37 GMT");
        assert_eq!(clock.skew_ms(), Some(600_000));
    }

    #[test]
    fn a_long_upload_is_given_more_time() {
        let patience = Patience::default();
        let given = |bytes| patience.timeouts(bytes).operation_attempt_timeout();
        assert_eq!(given(0), Some(Duration::from_secs(30)));
        assert_eq!(given(64 << 20), Some(Duration::from_secs(30 + 512)));
    }
}
