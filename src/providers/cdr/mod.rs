//! Telephone systems and everybody who speaks our own contract: FreeSWITCH, Asterisk, and `cdr/1`
//! (pbx-cdr.md). By HTTP, from a broker, or from a folder; the ways in differ, the messages do not.

mod asterisk;
mod body;
mod decode;
pub mod facts;
mod freeswitch;
mod json;
pub mod message;
pub mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::domain::clock::Timestamp;
use crate::domain::notice::Notice;
use crate::domain::reading::{Forward, Reading};
use crate::providers::accounts::Accounts;
use crate::providers::contract::{
    Address, Admission, BuildContext, Capabilities, Defaults, Finding, Incoming, LocalFile,
    Located, Outcome, Part, Provider, ProviderError, ProviderKind, Refusal, Reply, Severity, Topic,
    WaitingPlan, Wanted, Way,
};
use crate::providers::settings::{CommonSettings, SettingsError};

use decode::{Decoded, Whose};
use message::{EventType, Fate, Message};
use settings::{From, Settings};

const TOPICS: [Topic; 1] = [Topic {
    name: "",
    what: "call records: one message, or one on each line",
}];
/// What is refused is kept as evidence up to this size.
const LARGEST_EVIDENCE: usize = 64 * 1024;
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// One of the three kinds.
#[derive(Debug)]
pub struct PbxKind(pub &'static str);

impl ProviderKind for PbxKind {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            // Messages name any address, so none is fetched that the operator did not name.
            allow_hosts: Some(&[]),
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
        if settings.from == From::Http {
            common.require_token("messages of this kind prove nothing by themselves")?;
        }
        if let Some(account) = &settings.account {
            ctx.accounts.register(&common.name, self.0, account);
        }
        Ok(Arc::new(Pbx {
            kind: self.0,
            common,
            settings,
            accounts: ctx.accounts.clone(),
        }))
    }

    fn example(&self) -> &'static str {
        match self.0 {
            "freeswitch" => include_str!("freeswitch.toml"),
            "asterisk" => include_str!("asterisk.toml"),
            _ => include_str!("cdr.toml"),
        }
    }
}

/// One telephone system, or one producer of messages.
#[derive(Debug)]
struct Pbx {
    kind: &'static str,
    common: CommonSettings,
    settings: Settings,
    accounts: Accounts,
}

impl Pbx {
    fn decode(&self, body: &[u8], now: Timestamp) -> Result<Vec<Decoded>, String> {
        decode::decode(
            self.kind,
            &self.common.name,
            &self.settings,
            &self.accounts,
            body,
            now,
        )
    }

    /// What the watched folder says of a file without a word about it (`ingress/folder.rs`): its call's id is the
    /// file's name, and gives way to the one that a message names later.
    fn is_only_a_file(&self, message: &Message) -> bool {
        self.settings.from == From::Folder
            && message.provider == settings::FOLDER
            && message.account == self.common.name
    }

    /// An object's address, where the configuration says how the store is read.
    fn object(&self, said: &Value) -> Option<String> {
        let part = |name: &str| {
            let text = said[name].as_str()?;
            Some(utf8_percent_encode(text, IN_PATH).to_string())
        };
        let template = self.settings.object_url.as_ref()?;
        let (bucket, key) = (part("bucket")?, part("key")?);
        Some(template.replace("{bucket}", &bucket).replace("{key}", &key))
    }
}

#[async_trait]
impl Provider for Pbx {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // A message proves nothing by itself, whichever way it is meant to come.
            token_required: true,
            speaks_cdr: true,
            // A new message may bring a new address, and files stay where they are.
            link_renewable: true,
            ..Capabilities::default()
        }
    }

    fn topics(&self) -> &'static [Topic] {
        &TOPICS
    }

    fn way(&self) -> Way {
        let settings = &self.settings;
        match settings.from {
            From::Http => Way::Push,
            From::Amqp => Way::Amqp(settings.clone()),
            From::Nats => Way::Nats(settings.clone()),
            From::Folder => Way::Folder(settings.clone()),
        }
    }

    /// The same event of the same producer, or the same bytes, are the same message. What is refused for
    /// good is kept as evidence, its answer says why.
    fn admit(&self, incoming: &Incoming, now: Timestamp) -> Admission {
        match self.decode(&incoming.body, now).as_deref() {
            Ok([one]) => Admission::Accept {
                dedup_key: one.dedup_key.clone(),
                unreadable: None,
            },
            Ok(batch) => Admission::AcceptEach(batch.iter().map(part).collect()),
            Err(_) if incoming.body.len() > LARGEST_EVIDENCE => {
                Admission::Refuse(Refusal::Unusable)
            }
            Err(why) => Admission::Accept {
                dedup_key: decode::key_of_bytes(&incoming.body),
                unreadable: Some(why.clone()),
            },
        }
    }

    fn reply(&self, outcome: Outcome) -> Reply {
        let (status, code, reason) = match outcome {
            Outcome::Stored { stored, repeated } => {
                return Reply::json(200, &json!({ "stored": stored, "repeated": repeated }));
            }
            Outcome::Unreadable | Outcome::Refused(Refusal::Unusable) => {
                (400, "bad_request", "not_usable")
            }
            Outcome::Refused(Refusal::UnknownAccount) => (400, "bad_request", "unknown_account"),
            Outcome::Refused(Refusal::Signature | Refusal::UnknownTopic) => {
                (404, "not_found", "not_found")
            }
            Outcome::TooLarge => (413, "too_large", "too_large"),
            Outcome::Unavailable => (503, "unavailable", "unavailable"),
        };
        problem(status, code, reason)
    }

    /// Of a refused message the reason too (pbx-cdr.md, section 4, rule 9).
    fn answer(&self, outcome: Outcome, incoming: &Incoming) -> Reply {
        let is_fault = matches!(
            outcome,
            Outcome::Unreadable | Outcome::Refused(Refusal::Unusable)
        );
        if is_fault && let Err(why) = self.decode(&incoming.body, Timestamp::from_ms(0)) {
            return problem(400, "bad_request", &why);
        }
        self.reply(outcome)
    }

    fn read(&self, notice: &Notice) -> Result<Reading, String> {
        let mut reading = Reading::default();
        let mut ignored = None;
        for decoded in self.decode(&notice.body, notice.arrived_at)? {
            let message = match decoded.message {
                Ok(message) => message,
                Err(why) => {
                    reading.unreadable.push(why);
                    continue;
                }
            };
            match decoded.whose {
                Whose::Other(source) => reading.forward.push(Forward {
                    source,
                    body: decoded.body,
                    dedup_key: decoded.dedup_key,
                }),
                Whose::Ours if message.event == EventType::Unknown => {
                    ignored = Some(format!(
                        "event type {:?} is none we act on",
                        message.event_text
                    ));
                }
                Whose::Ours => {
                    let searchable = &self.settings.searchable_attributes;
                    let mut call = facts::call(&message, true, searchable);
                    call.made_up = self.is_only_a_file(&message);
                    reading.calls.push(call);
                    reading.recordings.extend(facts::recordings(&message, true));
                }
            }
        }
        if reading.is_silent() && reading.unreadable.is_empty() {
            reading.ignored = ignored.or_else(|| {
                let told = !reading.forward.is_empty();
                Some(
                    if told {
                        "told another source"
                    } else {
                        "says nothing"
                    }
                    .to_owned(),
                )
            });
        }
        Ok(reading)
    }

    /// The last word counts, but for one: what was deleted does not come back.
    async fn locate(&self, wanted: &Wanted, _now: Timestamp) -> Result<Located, ProviderError> {
        let none = Vec::new();
        let said = wanted.handle["said"].as_array().unwrap_or(&none);
        let fate = |one: &Value| one["fate"].as_str().and_then(Fate::parse);
        let at = |one: &&Value| one["at"].as_i64().unwrap_or(0);
        if said.iter().any(|one| fate(one) == Some(Fate::Deleted)) {
            return Ok(gone("deleted"));
        }
        let ready = said
            .iter()
            .filter(|one| fate(one) == Some(Fate::Ready))
            .max_by_key(at);
        let Some(ready) = ready else {
            return Ok(match said.iter().max_by_key(at).and_then(fate) {
                None => Located::Unannounced,
                Some(Fate::Processing | Fate::Ready) => Located::NotReady {
                    code: Some("processing".to_owned()),
                },
                Some(fate) => gone(fate.as_str()),
            });
        };
        let bytes = ready["bytes"].as_u64();
        let sha256 = ready["sha256"].as_str().map(str::to_owned);
        let address = |url: String, until| {
            Located::Ready(Address {
                url,
                until,
                headers: Vec::new(),
                expected_bytes: bytes,
                expected_md5: Vec::new(),
                expected_sha256: sha256.clone(),
            })
        };
        Ok(match ready["locator"].as_str() {
            Some("url") => match &wanted.link {
                Some(link) => address(link.url.clone(), link.until),
                None => Located::Unannounced,
            },
            Some("file") => Located::File(LocalFile {
                roots: self.settings.file_roots.clone(),
                path: ready["path"].as_str().unwrap_or_default().to_owned(),
                settle_time: self.settings.settle_time,
                expected_bytes: bytes,
                expected_sha256: sha256.clone(),
            }),
            Some("object") => match self.object(ready) {
                Some(url) => address(url, None),
                None => Located::NotReady {
                    code: Some("object_url is not configured".to_owned()),
                },
            },
            _ => Located::Unannounced,
        })
    }

    fn waiting_plan(&self) -> WaitingPlan {
        WaitingPlan {
            waits: self.settings.retry_plan.clone(),
            ready_deadline: self.settings.ready_deadline,
        }
    }

    /// There is nobody to ask; what can be wrong is the configuration.
    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for root in &self.settings.file_roots {
            if let Err(error) = std::fs::read_dir(root) {
                findings.push(Finding {
                    code: "folder_unreadable",
                    severity: Severity::Error,
                    what: format!("cannot read {}: {error}", root.display()),
                    place: format!("sources.{}", self.common.name),
                    remedy: "make it, or mount it, or let this user read it".to_owned(),
                });
            }
        }
        findings
    }
}

fn gone(code: &str) -> Located {
    Located::Gone {
        code: Some(code.to_owned()),
    }
}

fn part(decoded: &Decoded) -> Part {
    Part {
        body: decoded.body.clone().into(),
        dedup_key: decoded.dedup_key.clone(),
        unreadable: decoded.message.as_ref().err().cloned(),
    }
}

fn problem(status: u16, code: &str, reason: &str) -> Reply {
    let body = json!({
        "type": format!("urn:callvault:{code}"),
        "title": "the message was not taken",
        "status": status,
        "reason": reason,
    });
    Reply {
        status,
        content_type: "application/problem+json",
        body: body.to_string(),
    }
}
