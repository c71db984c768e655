//! Alibaba Cloud voice (VMS, RTC, contact centre) and number protection (PNP), by HTTP push and from the vendor's
//! message queues; which types come how is chosen in the vendor's console.
//!
//! A push is signed by nobody, so the address carries a token; the vendor waits 700 ms and sends again after 1, 5 and 10
//! minutes, then never. Addresses of VMS come with their message and cannot be renewed; those of number protection
//! are asked for, again and again where need be. There is no list of calls.

mod check;
mod fault;
mod link;
mod loose;
mod message;
mod mns;
mod pop;
mod protection;
mod queue;
mod reading;
mod settings;
mod sign;
#[cfg(test)]
mod tests;
mod token;
mod xml;

pub use xml::parse as parse_xml;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use crate::domain::call::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::digest::Hasher;
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Reading};
use crate::domain::retry::RetryAdvice;
use crate::providers::contract::{
    Address, Admission, AskedCall, BuildContext, Capabilities, Defaults, Drawn, Finding, Incoming,
    Located, Outcome, Prolonged, Provider, ProviderError, ProviderErrorKind, ProviderKind, Refusal,
    Reply, Told, Topic, WaitingPlan, Wanted,
};
use crate::providers::settings::{CommonSettings, SettingsError};

use message::Use;
use mns::Mns;
use pop::Pop;
use queue::Queues;
use reading::Reader;
use settings::Settings;

const KIND: &str = "aliyun";

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[derive(Debug)]
pub struct AliyunKind;

impl ProviderKind for AliyunKind {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            allow_hosts: Some(&["*.aliyuncs.com"]),
            // Not published; the link's life is all that is known (CONTRACTS, section 3).
            provider_keeps: None,
            expect_within: Some(minutes(30)),
            token_required: true,
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
        let api = ctx.api(&common);
        let pop = settings.key.clone().map(|key| Pop {
            api: api.clone(),
            clock: ctx.clock.clone(),
            key,
            scheme: settings.signature,
            region: settings.region.clone(),
        });
        let mns = Mns {
            api,
            clock: ctx.clock.clone(),
            base: settings.mns.clone(),
            wait: settings.queue_wait,
        };
        let queues = pop
            .clone()
            .map(|pop| Queues::new(pop, settings.dybase.clone(), mns, &settings.queues));
        Ok(Arc::new(Aliyun {
            common,
            settings,
            pop,
            queues,
        }))
    }

    fn example(&self) -> &'static str {
        include_str!("example.toml")
    }
}

/// One account at Alibaba Cloud.
#[derive(Debug)]
struct Aliyun {
    common: CommonSettings,
    settings: Settings,
    /// Both only with a key.
    pop: Option<Pop>,
    queues: Option<Queues>,
}

impl Aliyun {
    fn queue_source(&self) -> Result<&Queues, ProviderError> {
        self.queues.as_ref().ok_or_else(|| ProviderError {
            kind: ProviderErrorKind::CredentialsRefused,
            advice: RetryAdvice::Never,
            source_name: self.common.name.clone(),
            doing: "reading a message queue",
            detail: "access_key_id and access_key_secret are not configured".to_owned(),
        })
    }
}

#[async_trait]
impl Provider for Aliyun {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // Of number protection alone, which also renews its addresses.
            can_ask: self.pop.is_some(),
            token_required: true,
            ..Capabilities::default()
        }
    }

    fn topics(&self) -> &'static [Topic] {
        &message::TOPICS
    }

    /// The token in the address is all the proof there is, so what is left to see is whether the body
    /// can be read.
    fn admit(&self, incoming: &Incoming, _now: Timestamp) -> Admission {
        if message::find(&incoming.topic).is_none() {
            return Admission::Refuse(Refusal::UnknownTopic);
        }
        match reading::key(&incoming.topic, &incoming.body) {
            Ok(dedup_key) => Admission::Accept {
                dedup_key,
                unreadable: None,
            },
            Err(why) => {
                let mut hasher = Hasher::new();
                hasher.update(incoming.topic.as_bytes());
                hasher.update(b"\0");
                hasher.update(&incoming.body);
                Admission::Accept {
                    dedup_key: hasher.finish().sha256.hex(),
                    unreadable: Some(why),
                }
            }
        }
    }

    /// The vendor reads `code` as a number and takes anything but status 200 as a failure.
    fn reply(&self, outcome: Outcome) -> Reply {
        let (status, message) = match outcome {
            Outcome::Stored { .. } => return Reply::json(200, &json!({ "code": 0, "msg": "ok" })),
            Outcome::Unreadable => (400, "not readable as JSON; kept"),
            Outcome::Refused(Refusal::UnknownTopic) => (404, "no such message type"),
            Outcome::Refused(Refusal::Unusable) => (400, "not usable"),
            Outcome::Refused(Refusal::Signature | Refusal::UnknownAccount) => (404, "not found"),
            Outcome::TooLarge => (413, "body too large"),
            Outcome::Unavailable => (503, "cannot store, send again"),
        };
        Reply::json(status, &json!({ "code": status, "msg": message }))
    }

    fn read(&self, notice: &Notice) -> Result<Reading, String> {
        let reader = Reader {
            zone: self.settings.time_zone,
            provider_keeps: self.common.provider_keeps,
            can_ask: self.pop.is_some(),
        };
        reader.read(notice)
    }

    /// Of number protection the vendor is asked; else the address came with the message, and there is nobody to ask
    /// for another one.
    async fn locate(&self, wanted: &Wanted, now: Timestamp) -> Result<Located, ProviderError> {
        if let Some(pop) = &self.pop
            && protection::can_ask(&wanted.handle)
        {
            return protection::locate(
                pop,
                &self.settings.dypls,
                &wanted.handle,
                &wanted.provider_call_id,
                wanted.link.as_ref(),
                now,
            )
            .await;
        }
        let Some(link) = &wanted.link else {
            if protection::can_ask(&wanted.handle) {
                // Announced, and not to be had without a key.
                self.queue_source()?;
            }
            return Ok(Located::Unannounced);
        };
        if link.until.is_some_and(|until| now >= until) {
            return Ok(Located::Gone {
                code: Some("link_expired".to_owned()),
            });
        }
        Ok(Located::Ready(Address {
            url: link.url.clone(),
            until: link.until,
            ..Address::default()
        }))
    }

    /// A file may come some minutes after its message, of number protection up to 20 (aliyun.md, section 9.6).
    fn waiting_plan(&self) -> WaitingPlan {
        WaitingPlan {
            waits: self.settings.retry_plan.clone(),
            ready_deadline: self.settings.ready_deadline,
        }
    }

    /// Of protected calls only: VMS tells no address by a call's id.
    async fn ask(&self, call: &AskedCall, _now: Timestamp) -> Result<Vec<Told>, ProviderError> {
        match &self.pop {
            Some(pop) => protection::ask(pop, &self.settings.dypls, call).await,
            None => Ok(Vec::new()),
        }
    }

    fn expected(&self, call: &CallFacts) -> Vec<Announced> {
        let known = protection::expected(call).filter(|_| self.pop.is_some());
        known.into_iter().collect()
    }

    fn queues(&self) -> Vec<String> {
        self.queues.as_ref().map_or_else(Vec::new, Queues::names)
    }

    async fn draw(&self, queue: &str) -> Result<Vec<Drawn>, ProviderError> {
        self.queue_source()?.draw(queue).await
    }

    async fn prolong(
        &self,
        queue: &str,
        receipt: &str,
    ) -> Result<Option<Prolonged>, ProviderError> {
        self.queue_source()?.prolong(queue, receipt).await
    }

    async fn confirm(&self, queue: &str, receipts: &[String]) -> Result<(), ProviderError> {
        self.queue_source()?.confirm(queue, receipts).await
    }

    /// What the configuration leaves out, a token for each queue, and the question for an address where
    /// number protection is heard.
    async fn check(&self) -> Vec<Finding> {
        let source = &self.common.name;
        let mut findings = check::configuration(&self.settings, source);
        if let Some(queues) = &self.queues {
            findings.extend(queues.check().await);
        }
        if let Some(pop) = &self.pop
            && check::hears(&self.settings, |used_as| used_as == Use::ProtectedRecording)
            && let Err(error) = protection::check(pop, &self.settings.dypls).await
            && error.kind != ProviderErrorKind::BadAnswer
        {
            let what = "protected recordings cannot be asked for";
            findings.push(queue::finding(&error, what, format!("sources.{source}")));
        }
        findings
    }
}
