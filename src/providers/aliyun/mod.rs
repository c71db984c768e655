//! Alibaba Cloud voice (VMS, RTC, contact centre) by HTTP push: one address per message type.
//!
//! The vendor signs nothing, so the address carries a token; it waits 700 ms and sends again after 1,
//! 5 and 10 minutes, then never. It can neither list recordings nor give an address a second time.

mod link;
mod loose;
mod message;
mod reading;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Hasher;
use crate::domain::notice::Notice;
use crate::domain::reading::Reading;
use crate::providers::contract::{
    Address, Admission, BuildContext, Capabilities, Defaults, Finding, Incoming, Located, Outcome,
    Provider, ProviderError, ProviderKind, Refusal, Reply, Severity, Topic, WaitingPlan, Wanted,
};
use crate::providers::settings::{CommonSettings, SettingsError};

use message::Use;
use reading::Reader;
use settings::Settings;

const KIND: &str = "aliyun";
const RECORDINGS: &str = "VoiceRecordReport";

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
        _ctx: &BuildContext,
    ) -> Result<Arc<dyn Provider>, SettingsError> {
        let settings = Settings::read(own, &common.name)?;
        Ok(Arc::new(Aliyun { common, settings }))
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
            token_required: true,
            ..Capabilities::default()
        }
    }

    fn topics(&self) -> &'static [Topic] {
        &message::TOPICS
    }

    /// The token in the address is all the proof there is, so what is left to see is whether the body
    /// can be read. The same bytes for the same type are the same message.
    fn admit(&self, incoming: &Incoming, _now: Timestamp) -> Admission {
        if message::find(&incoming.topic).is_none() {
            return Admission::Refuse(Refusal::UnknownTopic);
        }
        let mut hasher = Hasher::new();
        hasher.update(incoming.topic.as_bytes());
        hasher.update(b"\0");
        hasher.update(&incoming.body);
        Admission::Accept {
            dedup_key: hasher.finish().sha256.hex(),
            unreadable: reading::check(&incoming.body).err(),
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
        };
        reader.read(notice)
    }

    /// The address came with the message; there is nobody to ask for another one.
    async fn locate(&self, wanted: &Wanted, now: Timestamp) -> Result<Located, ProviderError> {
        let Some(link) = &wanted.link else {
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

    /// A file may come some minutes after its message (aliyun.md, section 9.6).
    fn waiting_plan(&self) -> WaitingPlan {
        WaitingPlan {
            waits: [1, 2, 5, 10, 20, 30, 60].map(minutes).to_vec(),
            ready_deadline: minutes(24 * 60),
        }
    }

    /// There is no question that costs nothing, so this looks at the configuration alone.
    async fn check(&self) -> Vec<Finding> {
        let place = format!("sources.{}.push", self.common.name);
        let is_pushed = |wanted: fn(Use) -> bool| {
            let mut types = self
                .settings
                .push
                .iter()
                .filter_map(|name| message::find(name));
            types.any(|known| wanted(known.used_as))
        };
        let mut findings = Vec::new();
        if !is_pushed(|used_as| used_as == Use::Recording) {
            findings.push(Finding {
                code: "recordings_not_pushed",
                severity: Severity::Warning,
                what: format!(
                    "{RECORDINGS} is not among the pushed types, so no recording is ever announced"
                ),
                place: place.clone(),
                remedy: format!("subscribe {RECORDINGS} in the console and add it to push"),
            });
        }
        if !is_pushed(|used_as| matches!(used_as, Use::Cdr | Use::RtcCdr)) {
            findings.push(Finding {
                code: "calls_not_pushed",
                severity: Severity::Warning,
                what: "no call record is among the pushed types: calls have no numbers, and a recording that is never announced goes unnoticed".to_owned(),
                place: place.clone(),
                remedy: "subscribe VoiceReport (or ArtcCdrReport) in the console and add it to push".to_owned(),
            });
        }
        for name in &self.settings.push {
            if let Some(Use::Ignored(why)) = message::find(name).map(|known| known.used_as) {
                findings.push(Finding {
                    code: "type_not_read",
                    severity: Severity::Info,
                    what: format!("{name} is stored and not read: {why}"),
                    place: place.clone(),
                    remedy: "nothing, or take it out of push".to_owned(),
                });
            }
        }
        for key in &self.settings.without_effect {
            findings.push(Finding {
                code: "key_without_effect",
                severity: Severity::Info,
                what: format!("{key} is set, and HTTP push does not use it"),
                place: format!("sources.{}.{key}", self.common.name),
                remedy: "nothing, or leave it out until queues are used".to_owned(),
            });
        }
        findings
    }
}
