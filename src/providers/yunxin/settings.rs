//! The keys of a `kind = "yunxin"` source (netease.md, sections 6 to 8), with their defaults.

use std::time::Duration;

use serde::Deserialize;

use crate::domain::secret::Secret;
use crate::domain::units::Span;
use crate::providers::settings::{BaseUrl, SettingsError, read_own};

const IM: &str = "https://api.netease.im";
const VOD: &str = "https://vcloud.163.com";

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// One account's settings, complete.
#[derive(Clone, Debug)]
pub struct Settings {
    pub app_key: String,
    pub app_secret: Secret,
    /// Answers the query by channel.
    pub im: BaseUrl,
    /// Answers questions for one stored file, and lists them.
    pub vod: BaseUrl,
    /// The account's video store is listed too. It cannot be asked for a stretch of time, so every listing
    /// reads all of it.
    pub list_vod: bool,
    /// Waits while a file is not ready; the last one repeats.
    pub retry_plan: Vec<Duration>,
    pub ready_deadline: Duration,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Endpoints {
    im: Option<BaseUrl>,
    vod: Option<BaseUrl>,
    /// Right, and not asked by this version.
    #[serde(rename = "rtc")]
    _rtc: Option<BaseUrl>,
}

/// The keys as configuration writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    app_key: String,
    app_secret: Secret,
    #[serde(default)]
    base_url: Endpoints,
    #[serde(default)]
    list_vod: bool,
    retry_plan: Option<Vec<Span>>,
    ready_deadline: Option<Span>,
}

impl Settings {
    pub fn read(own: toml::Table, source: &str) -> Result<Self, SettingsError> {
        let written: Written = read_own(own, source)?;
        let wrong =
            |key: &str, what: &str, remedy: &str| SettingsError::new(source, key, what, remedy);
        let sendable = |text: &str| {
            (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !sendable(&written.app_key) {
            return Err(wrong(
                "app_key",
                "it is no AppKey",
                "copy it from the application's page in the console",
            ));
        }
        if written.app_secret.is_empty() {
            return Err(wrong(
                "app_secret",
                "it is empty",
                "copy it from the application's page in the console",
            ));
        }
        let retry_plan: Vec<Duration> = match written.retry_plan {
            None => [1, 2, 5, 10, 20, 30, 60].map(minutes).to_vec(),
            Some(spans) => spans.into_iter().map(Span::duration).collect(),
        };
        if retry_plan.is_empty() || retry_plan.iter().any(Duration::is_zero) {
            return Err(wrong(
                "retry_plan",
                "it names no wait, or one of no length",
                "write waits like [\"1m\", \"5m\", \"30m\"]",
            ));
        }
        let or_default = |written: Option<BaseUrl>, default: &str| match written {
            Some(url) => Ok(url),
            None => {
                BaseUrl::parse(default).map_err(|what| wrong("base_url", &what, "write an address"))
            }
        };
        Ok(Self {
            app_key: written.app_key,
            app_secret: written.app_secret,
            im: or_default(written.base_url.im, IM)?,
            vod: or_default(written.base_url.vod, VOD)?,
            list_vod: written.list_vod,
            retry_plan,
            ready_deadline: written
                .ready_deadline
                .map_or(minutes(24 * 60), Span::duration),
        })
    }
}
