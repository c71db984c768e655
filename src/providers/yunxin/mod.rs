//! NetEase Yunxin (网易云信): message copies of calls and recording files, of four generations at one address.
//!
//! The copies are signed, and how often they are sent again is not documented: a lost one is lost. So every
//! call can be asked for by its channel id, and a dead address is asked for anew by `vid`, then by channel.

mod ask;
mod file;
mod loose;
mod names;
mod reading;
mod settings;
mod shape;
mod sign;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::digest::Sha256;
use crate::domain::notice::Notice;
use crate::domain::reading::Reading;
use crate::providers::contract::{
    Admission, AskedCall, BuildContext, Capabilities, Defaults, Finding, Incoming, ListPage,
    Located, Outcome, Provider, ProviderError, ProviderErrorKind, ProviderKind, Refusal, Reply,
    Severity, Told, Topic, WaitingPlan, Wanted, Window,
};
use crate::providers::settings::{CommonSettings, SettingsError};

use ask::Asker;
use settings::Settings;
use shape::Shape;

const KIND: &str = "yunxin";

#[derive(Debug)]
pub struct YunxinKind;

impl ProviderKind for YunxinKind {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            allow_hosts: Some(&["*.vod.126.net", "*.nosdn.127.net"]),
            // Files stay in the customer's own video store; for how long is not published.
            provider_keeps: None,
            expect_within: Some(Duration::from_secs(30 * 60)),
            ..Defaults::default()
        }
    }

    fn build(
        &self,
        common: CommonSettings,
        own: toml::Table,
        ctx: &BuildContext,
    ) -> Result<Arc<dyn Provider>, SettingsError> {
        let settings = Settings::read(own, &common.name)?;
        let asker = Asker::new(ctx.api(&common));
        Ok(Arc::new(Yunxin {
            common,
            settings,
            asker,
            clock: ctx.clock.clone(),
        }))
    }

    fn example(&self) -> &'static str {
        include_str!("example.toml")
    }
}

/// One application at NetEase Yunxin.
#[derive(Debug)]
struct Yunxin {
    common: CommonSettings,
    settings: Settings,
    asker: Asker,
    clock: SharedClock,
}

#[async_trait]
impl Provider for Yunxin {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_list: self.settings.list_vod,
            can_ask: true,
            link_renewable: true,
            ..Capabilities::default()
        }
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic {
            name: "",
            what: "message copies (抄送) of calls and recording files, of all products",
        }]
    }

    /// The check sum alone decides; its time has no age limit, because the vendor's re-sending is not
    /// documented. The same bytes are the same message, whenever they were signed.
    fn admit(&self, incoming: &Incoming, _now: Timestamp) -> Admission {
        let header = |name: &str| incoming.header(name).filter(|value| !value.is_empty());
        let (Some(app_key), Some(time), Some(offered)) =
            (header("appkey"), header("curtime"), header("checksum"))
        else {
            return Admission::Refuse(Refusal::Signature);
        };
        if app_key != self.settings.app_key {
            return Admission::Refuse(Refusal::UnknownAccount);
        }
        let expected = sign::of_copy(&self.settings.app_secret, &incoming.body, time);
        if !sign::fits(&expected, offered) {
            return Admission::Refuse(Refusal::Signature);
        }
        let shape = Shape::of(&incoming.body);
        if let Ok(shape) = &shape {
            if shape.is_chat() {
                return Admission::Dismiss;
            }
            if shape.contradicts(header("type")) {
                tracing::info!(
                    source = self.common.name,
                    "a message copy whose header `type` says another generation than its body"
                );
            }
        }
        Admission::Accept {
            dedup_key: Sha256::of(&incoming.body).hex(),
            unreadable: shape.err(),
        }
    }

    /// Small: answers above some hundred bytes were seen to be refused (netease.md, section 2).
    fn reply(&self, outcome: Outcome) -> Reply {
        let (status, code) = match outcome {
            Outcome::Stored { .. } | Outcome::Unreadable => (200, 200),
            Outcome::Refused(_) => (403, 414),
            Outcome::TooLarge => (413, 413),
            Outcome::Unavailable => (503, 500),
        };
        Reply::json(status, &json!({ "code": code }))
    }

    fn read(&self, notice: &Notice) -> Result<Reading, String> {
        reading::read(notice)
    }

    async fn locate(&self, wanted: &Wanted, now: Timestamp) -> Result<Located, ProviderError> {
        self.asker.locate(&self.settings, wanted, now).await
    }

    fn waiting_plan(&self) -> WaitingPlan {
        WaitingPlan {
            waits: self.settings.retry_plan.clone(),
            ready_deadline: self.settings.ready_deadline,
        }
    }

    async fn list(
        &self,
        window: Window,
        page: Option<&str>,
        now: Timestamp,
    ) -> Result<ListPage, ProviderError> {
        if !self.settings.list_vod {
            return Ok(ListPage::default());
        }
        self.asker.list(&self.settings, window, page, now).await
    }

    async fn ask(&self, call: &AskedCall, now: Timestamp) -> Result<Vec<Told>, ProviderError> {
        self.asker.ask(&self.settings, call, now).await
    }

    async fn check(&self) -> Vec<Finding> {
        let asked = self.asker.try_out(&self.settings, self.clock.now()).await;
        let Err(error) = asked else {
            return Vec::new();
        };
        let place = |key: &str| format!("sources.{}.{key}", self.common.name);
        let (code, severity, place, remedy) = match error.kind {
            ProviderErrorKind::CredentialsRefused | ProviderErrorKind::CannotListBucket => (
                "credentials_refused",
                Severity::Error,
                place("app_secret"),
                "compare app_key and app_secret with the console, this machine's address with the \
                 application's list of allowed ones, and the clock with the time",
            ),
            ProviderErrorKind::Throttled => (
                "throttled",
                Severity::Warning,
                place("requests_per_second"),
                "lower requests_per_second, or try again later",
            ),
            ProviderErrorKind::Unreachable | ProviderErrorKind::BadAnswer => (
                "provider_unreachable",
                Severity::Warning,
                place("base_url.im"),
                "see whether this machine reaches the address",
            ),
        };
        vec![Finding {
            code,
            severity,
            what: error.to_string(),
            place,
            remedy: remedy.to_owned(),
        }]
    }
}
