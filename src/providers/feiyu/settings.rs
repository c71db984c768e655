//! The keys of a `kind = "feiyu"` source (feiyu.md, section 7), with their defaults.

use std::time::Duration;

use serde::Deserialize;

use crate::domain::secret::Secret;
use crate::domain::units::Span;
use crate::providers::settings::{BaseUrl, SettingsError, read_own};

/// Which of the vendor's two signatures the account uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthProfile {
    /// `au` over id, token and time, good for 30 minutes.
    #[default]
    V2Au,
    /// `signature` over id and token: constant, so the address needs a token.
    V3Signature,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestCase {
    #[default]
    Upper,
    Lower,
}

/// What becomes of a push with a right signature and an old time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StalePush {
    /// Taken as the hint that every push is; our own question confirms it.
    #[default]
    AckAndVerify,
    Refuse,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AskMethod {
    #[default]
    Post,
    Get,
}

/// One account's settings, complete.
#[derive(Clone, Debug)]
pub struct Settings {
    pub base_url: BaseUrl,
    pub app_id: String,
    pub app_token: Secret,
    pub auth_profile: AuthProfile,
    /// Sent as `ver`; empty: not sent.
    pub api_version: String,
    pub digest_case: DigestCase,
    pub accept_any_case: bool,
    pub max_skew: Duration,
    pub stale_push: StalePush,
    pub paths: Paths,
    pub http_method: AskMethod,
    pub first_try_after: Duration,
    pub retry_plan: Vec<Duration>,
    pub url_ttl: Duration,
    pub ready_deadline: Duration,
    pub ack_code_as_string: bool,
    pub fields: Fields,
    pub actions: Actions,
    pub codes: Codes,
    pub result: ResultPlaces,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    pub record_url: String,
    pub call_history: String,
}

/// Names of push fields, the first that is there wins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    pub call_id: Vec<String>,
    pub action: Vec<String>,
    pub recorded: RecordedFlag,
    pub start: Vec<String>,
    pub end: Vec<String>,
    pub group_id: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordedFlag {
    pub names: Vec<String>,
    pub yes: Vec<String>,
    pub no: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Actions {
    pub cdr: Vec<String>,
    pub recording: Vec<String>,
}

/// Result codes by what they mean; the vendor's table is not public. A code in no list is "not ready".
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Codes {
    pub not_ready: Vec<String>,
    pub gone: Vec<String>,
    pub auth: Vec<String>,
    pub throttled: Vec<String>,
}

/// Where an answer holds what, as JSON pointers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResultPlaces {
    pub code: String,
    pub message: String,
    pub url: Vec<String>,
}

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            record_url: "/api/getRecordDownUrl".to_owned(),
            call_history: "/api/fetchCallHistory".to_owned(),
        }
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            call_id: list(&["fyCallId", "callId", "callID"]),
            action: list(&["action"]),
            recorded: RecordedFlag::default(),
            start: list(&["callStartTime", "startTime"]),
            end: list(&["callEndTime", "endTime"]),
            group_id: list(&["dialBackId", "appCallId"]),
        }
    }
}

impl Default for RecordedFlag {
    fn default() -> Self {
        Self {
            names: list(&["trueIfRecord", "isRecorded", "ifRecord"]),
            yes: list(&["1", "Y", "y", "true"]),
            no: list(&["0", "2", "N", "n", "false"]),
        }
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            cdr: list(&["callhangup"]),
            recording: list(&["recordEnd"]),
        }
    }
}

impl Default for ResultPlaces {
    fn default() -> Self {
        Self {
            code: "/resultCode".to_owned(),
            message: "/resultMsg".to_owned(),
            url: list(&[
                "/result",
                "/result/recordDownUrl",
                "/result/downUrl",
                "/result/url",
            ]),
        }
    }
}

/// The keys as configuration writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    app_id: String,
    app_token: Option<Secret>,
    base_url: Option<BaseUrl>,
    #[serde(default)]
    auth_profile: AuthProfile,
    api_version: Option<String>,
    #[serde(default)]
    digest_case: DigestCase,
    accept_any_case: Option<bool>,
    max_skew: Option<Span>,
    #[serde(default)]
    stale_push: StalePush,
    #[serde(default)]
    paths: Paths,
    #[serde(default)]
    http_method: AskMethod,
    first_try_after: Option<Span>,
    retry_plan: Option<Vec<Span>>,
    url_ttl: Option<Span>,
    ready_deadline: Option<Span>,
    #[serde(default)]
    ack_code_as_string: bool,
    #[serde(default)]
    fields: Fields,
    #[serde(default)]
    actions: Actions,
    #[serde(default)]
    codes: Codes,
    #[serde(default)]
    result: ResultPlaces,
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

impl Settings {
    pub fn read(own: toml::Table, source: &str) -> Result<Self, SettingsError> {
        let written: Written = read_own(own, source)?;
        let app_token = written.app_token.ok_or_else(|| {
            let what = "the key \"app_token\" is missing";
            SettingsError::new(source, "app_token", what, "add what the vendor issued")
        })?;
        let or = |text: Option<Span>, default| text.map_or(default, Span::duration);
        let settings = Self {
            base_url: match written.base_url {
                Some(url) => url,
                None => BaseUrl::parse("http://api.feiyucloud.com")
                    .map_err(|e| SettingsError::new(source, "base_url", e, "set it"))?,
            },
            app_id: written.app_id,
            app_token,
            auth_profile: written.auth_profile,
            api_version: written.api_version.unwrap_or_else(|| "2.1.0".to_owned()),
            digest_case: written.digest_case,
            accept_any_case: written.accept_any_case.unwrap_or(true),
            max_skew: or(written.max_skew, minutes(30)),
            stale_push: written.stale_push,
            paths: written.paths,
            http_method: written.http_method,
            first_try_after: or(written.first_try_after, minutes(15)),
            retry_plan: written.retry_plan.map_or_else(
                || [5, 10, 20, 30, 60].map(minutes).to_vec(),
                |plan| plan.into_iter().map(Span::duration).collect(),
            ),
            url_ttl: or(written.url_ttl, minutes(25)),
            ready_deadline: or(written.ready_deadline, minutes(24 * 60)),
            ack_code_as_string: written.ack_code_as_string,
            fields: written.fields,
            actions: written.actions,
            codes: written.codes,
            result: written.result,
        };
        settings.check(source)?;
        Ok(settings)
    }

    fn check(&self, source: &str) -> Result<(), SettingsError> {
        let wrong = |key: &str, what: &str, remedy: &str| {
            Err(SettingsError::new(source, key, what, remedy))
        };
        if self.app_id.is_empty() {
            return wrong(
                "app_id",
                "it is empty",
                "write the id that the vendor issued",
            );
        }
        if self.app_token.is_empty() {
            return wrong(
                "app_token",
                "it is empty",
                "write the token that the vendor issued",
            );
        }
        if self.retry_plan.is_empty() || self.retry_plan.contains(&Duration::ZERO) {
            return wrong(
                "retry_plan",
                "it is empty or has a wait of nothing",
                "write the waits between two questions, like [\"5m\", \"10m\", \"60m\"]",
            );
        }
        for (key, names) in [
            ("fields.call_id", &self.fields.call_id),
            ("fields.action", &self.fields.action),
            ("result.url", &self.result.url),
        ] {
            if names.is_empty() {
                return wrong(
                    key,
                    "the list is empty",
                    "name at least one, or leave the key out",
                );
            }
        }
        for (key, path) in [
            ("paths.record_url", &self.paths.record_url),
            ("paths.call_history", &self.paths.call_history),
        ] {
            if !path.starts_with('/') || path.contains(['?', '#']) {
                return wrong(
                    key,
                    "it is no path",
                    "begin it with / and leave the query out",
                );
            }
        }
        let places = std::iter::once(&self.result.code)
            .chain([&self.result.message])
            .chain(&self.result.url);
        for place in places {
            if !place.starts_with('/') {
                return wrong(
                    "result",
                    &format!("{place:?} is no JSON pointer"),
                    "begin it with /, like /result/url",
                );
            }
        }
        Ok(())
    }
}
