//! Feiyu Cloud (feiyucloud.com): pushes of API 2.1.0 and of the v3 call-back, and `getRecordDownUrl`.
//!
//! A push is only a hint: its signature covers no field but the time. Every address comes from our
//! own signed question, so forged pushes cost questions and nothing else (feiyu.md, section 4.5).

mod answer;
mod ask;
mod form;
mod push;
mod reading;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::call::CallFacts;
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Reading};
use crate::providers::contract::{
    Admission, BuildContext, Capabilities, Defaults, Finding, Incoming, Located, Outcome, Provider,
    ProviderError, ProviderErrorKind, ProviderKind, Reply, Severity, Topic, WaitingPlan, Wanted,
};
use crate::providers::settings::{CommonSettings, SettingsError};

use ask::Asker;
use settings::{AuthProfile, Settings};

const KIND: &str = "feiyu";
/// Asked for by `check`: no call has this id, so any answer but a refusal means that the account works.
const NO_CALL: &str = "callvault-check@fy";

const TOPICS: [Topic; 4] = [
    Topic {
        name: "",
        what: "every push in one address; the action tells them apart",
    },
    Topic {
        name: push::TOPIC_CDR,
        what: "call records (callhangup, call-back CDRs)",
    },
    Topic {
        name: push::TOPIC_RECORDING,
        what: "recording finished (recordEnd)",
    },
    Topic {
        name: push::TOPIC_AUTH,
        what: "a copy of each call authorisation, forwarded by your own server: numbers only",
    },
];

#[derive(Debug)]
pub struct FeiyuKind;

impl ProviderKind for FeiyuKind {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            // The file host is not published; the address comes from our own signed question.
            allow_hosts: None,
            provider_keeps: Some(Duration::from_secs(30 * 24 * 3600)),
            requests_per_second: Some(2.0),
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
        if settings.auth_profile == AuthProfile::V3Signature {
            common.require_token(
                "a v3 signature never changes, so whoever saw one push could send others",
            )?;
        }
        Ok(Arc::new(Feiyu {
            asker: Asker::new(ctx.api(&common)),
            clock: Arc::clone(&ctx.clock),
            common,
            settings,
        }))
    }

    fn example(&self) -> &'static str {
        include_str!("example.toml")
    }
}

/// One account at Feiyu.
#[derive(Debug)]
struct Feiyu {
    common: CommonSettings,
    settings: Settings,
    asker: Asker,
    clock: SharedClock,
}

#[async_trait]
impl Provider for Feiyu {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            link_renewable: true,
            takes_get: true,
            token_required: self.settings.auth_profile == AuthProfile::V3Signature,
            ..Capabilities::default()
        }
    }

    fn topics(&self) -> &'static [Topic] {
        &TOPICS
    }

    fn admit(&self, incoming: &Incoming, now: Timestamp) -> Admission {
        push::admit(incoming, &self.settings, now)
    }

    fn reply(&self, outcome: Outcome) -> Reply {
        push::reply(outcome, &self.settings)
    }

    fn read(&self, notice: &Notice) -> Result<Reading, String> {
        reading::read(notice, &self.settings)
    }

    async fn locate(&self, wanted: &Wanted, now: Timestamp) -> Result<Located, ProviderError> {
        self.asker.locate(&self.settings, wanted, now).await
    }

    /// The question for an address takes any call id (feiyu.md, section 5.1).
    fn expected(&self, call: &CallFacts) -> Vec<Announced> {
        reading::expected(call, self.settings.first_try_after)
    }

    fn waiting_plan(&self) -> WaitingPlan {
        WaitingPlan {
            waits: self.settings.retry_plan.clone(),
            ready_deadline: self.settings.ready_deadline,
        }
    }

    async fn check(&self) -> Vec<Finding> {
        let asked = self
            .asker
            .record_url(&self.settings, NO_CALL, self.clock.now())
            .await;
        let Err(error) = asked else {
            return Vec::new();
        };
        let (code, severity, remedy) = match error.kind {
            ProviderErrorKind::CredentialsRefused | ProviderErrorKind::CannotListBucket => (
                "credentials_refused",
                Severity::Error,
                "compare app_id, app_token and auth_profile with what the vendor issued",
            ),
            ProviderErrorKind::Throttled => {
                ("throttled", Severity::Warning, "lower requests_per_second")
            }
            ProviderErrorKind::Unreachable | ProviderErrorKind::BadAnswer => (
                "provider_unreachable",
                Severity::Error,
                "check base_url, the network and the vendor's state",
            ),
        };
        vec![Finding {
            code,
            severity,
            what: error.detail,
            place: format!("sources.{}", self.common.name),
            remedy: remedy.to_owned(),
        }]
    }
}
