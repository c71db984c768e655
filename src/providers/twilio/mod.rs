//! Twilio Programmable Voice: signed status callbacks, the list of recordings, and media that is asked for with
//! the account's credentials.
//!
//! Callbacks are best effort (one try, and none for trunks), so the list is what completeness rests on. Every
//! address is built from account and recording; the one in a callback is never fetched.

mod hook;
mod pages;
mod reading;
mod rest;
mod settings;
mod signature;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::domain::call::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Reading};
use crate::domain::recording::reason;
use crate::providers::contract::{
    Address, Admission, AskedCall, BuildContext, Capabilities, Defaults, Drawn, Finding, Incoming,
    ListPage, Located, Outcome, Provider, ProviderError, ProviderErrorKind, ProviderKind, Refusal,
    Reply, Severity, Told, Topic, WaitingPlan, Wanted, Window,
};
use crate::providers::settings::{CommonSettings, SettingsError};

use rest::Rest;
use settings::{ExternalStorage, Prefer, Settings, is_sid};

const KIND: &str = "twilio";
const LOCATING: &str = "asking for a recording";
const ASKING: &str = "asking for a call";
const DELETING: &str = "deleting a recording";
/// The loop that stores what `locate` heard beside an address.
const NEWS: &str = "news";
const LONGEST_DRAW: Duration = Duration::from_secs(30);
const MOST_NEWS: usize = 10_000;
const STUCK_AGAIN: Duration = Duration::from_secs(900);

const TOPICS: [Topic; 1] = [Topic {
    name: "",
    what: "RecordingStatusCallback with the events in-progress, completed and absent",
}];

#[derive(Debug)]
pub struct TwilioKind;

impl ProviderKind for TwilioKind {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            allow_hosts: Some(&["api.twilio.com"]),
            ..Defaults::default()
        }
    }

    fn build(
        &self,
        common: CommonSettings,
        own: toml::Table,
        ctx: &BuildContext,
    ) -> Result<Arc<dyn Provider>, SettingsError> {
        let settings = Settings::read(own, &common.name, ctx.public_url.clone())?;
        Ok(Arc::new(Twilio {
            rest: Rest::new(ctx.api(&common), Arc::clone(&ctx.clock), &settings),
            news: News::default(),
            common,
            settings,
        }))
    }

    fn example(&self) -> &'static str {
        include_str!("example.toml")
    }
}

/// One account at Twilio, with its sub-accounts.
#[derive(Debug)]
struct Twilio {
    common: CommonSettings,
    settings: Settings,
    rest: Rest,
    news: News,
}

/// What waits to be stored; it leaves when the intake confirms it.
#[derive(Debug, Default)]
struct News {
    waiting: Mutex<Vec<Told>>,
    arrived: Notify,
}

impl News {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Told>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, told: Told) {
        let mut waiting = self.waiting();
        if waiting.len() < MOST_NEWS
            && waiting
                .iter()
                .all(|known| known.dedup_key != told.dedup_key)
        {
            waiting.push(told);
            self.arrived.notify_one();
        }
    }
}

impl Twilio {
    fn account<'a>(&'a self, handle: &'a Value) -> &'a str {
        let told = handle.get("account").and_then(Value::as_str);
        told.filter(|account| !account.is_empty())
            .unwrap_or(&self.settings.account_sid)
    }

    fn path(account: &str, sid: &str, end: &str) -> String {
        format!("/2010-04-01/Accounts/{account}/Recordings/{sid}{end}")
    }

    fn late(&self, wanted: &Wanted, code: &str, now: Timestamp) -> Located {
        let since = wanted.call_ended_at.unwrap_or(wanted.arrived_at);
        if now >= since.plus(self.settings.not_ready_deadline) {
            return Located::Later {
                reason: reason::PROVIDER_STUCK,
                wait: STUCK_AGAIN,
            };
        }
        Located::NotReady {
            code: Some(code.to_owned()),
        }
    }

    /// Where the media lies, after a look whether it is there: it comes a little after its metadata.
    async fn media(
        &self,
        wanted: &Wanted,
        account: &str,
        meta: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Located, ProviderError> {
        let sid = wanted.provider_recording_id.as_deref().unwrap_or_default();
        if self.settings.external_storage == ExternalStorage::Copy {
            let url = meta.get("media_url").and_then(Value::as_str).unwrap_or("");
            // Plain http is redirected since 2024; credentials never go to a bucket.
            let url = url
                .strip_prefix("http://")
                .map_or_else(|| url.to_owned(), |rest| format!("https://{rest}"));
            if !url.contains(self.settings.base_url.as_str()) && !url.is_empty() {
                return Ok(Located::Ready(Address {
                    url,
                    ..Address::default()
                }));
            }
        }
        let end = match self.settings.prefer {
            Prefer::Wav => ".wav",
            Prefer::Mp3 => ".mp3",
        };
        let bare = Self::path(account, sid, end);
        let channels = meta.get("channels").and_then(Value::as_i64);
        let two = self.settings.dual_channel && channels == Some(2);
        let mut tries = Vec::new();
        if two {
            tries.push(format!("{bare}?RequestedChannels=2"));
        }
        tries.push(bare);
        for path in tries {
            let status = self
                .rest
                .status(&self.settings, account, Method::HEAD, &path, LOCATING)
                .await?;
            match status {
                404 => return Ok(self.late(wanted, "20404", now)),
                // Two channels are refused: once more without the wish.
                400 => tracing::info!(recording = sid, "two channels refused"),
                _ => {
                    let own = self.settings.accounts.get(account);
                    let headers = own
                        .map(|own| ("authorization".to_owned(), Rest::basic(own)))
                        .into_iter()
                        .collect();
                    return Ok(Located::Ready(Address {
                        url: format!("{}{path}", self.settings.base_url),
                        headers,
                        ..Address::default()
                    }));
                }
            }
        }
        Err(self.rest.error(LOCATING, "status 400 for the media"))
    }

    /// Numbers and times are not in a callback: the call is asked for, once for each recording.
    async fn ask_for_call(&self, wanted: &Wanted, account: &str, meta: &Map<String, Value>) {
        let sid = meta.get("call_sid").and_then(Value::as_str).unwrap_or("");
        if wanted.handle.get("call_told").is_some() || !is_sid(sid, "CA") {
            return;
        }
        let path = format!("/2010-04-01/Accounts/{account}/Calls/{sid}.json");
        let asked = self
            .rest
            .object(&self.settings, account, &path, ASKING)
            .await;
        match asked {
            Ok(Some(mut call)) => {
                call.retain(|name, _| !matches!(name.as_str(), "subresource_uris" | "uri"));
                call.insert(
                    "recording_sid".to_owned(),
                    wanted.provider_recording_id.clone().into(),
                );
                let text = |name: &str| call.get(name).map(Value::to_string).unwrap_or_default();
                let dedup_key = format!(
                    "{}:{}:{}:{}",
                    reading::CALL,
                    text("recording_sid"),
                    text("status"),
                    text("end_time")
                );
                self.news.tell(Told {
                    topic: reading::CALL.to_owned(),
                    body: Value::Object(call).to_string().into(),
                    dedup_key,
                    unreadable: None,
                });
            }
            Ok(None) => {}
            // The sound does not wait for the call's facts.
            Err(error) => tracing::info!(%error, "no facts of the call yet"),
        }
    }

    fn finding(&self, error: ProviderError, account: &str) -> Finding {
        let (code, remedy) = match error.kind {
            ProviderErrorKind::CredentialsRefused | ProviderErrorKind::CannotListBucket => (
                "credentials_refused",
                "compare auth and account_sid with the vendor's console",
            ),
            ProviderErrorKind::Throttled => ("throttled", "lower requests_per_second"),
            ProviderErrorKind::Unreachable | ProviderErrorKind::BadAnswer => (
                "provider_unreachable",
                "check base_url, the network and the vendor's state",
            ),
        };
        Finding {
            code,
            severity: Severity::Error,
            what: format!("account {account}: {}", error.detail),
            place: format!("sources.{}", self.common.name),
            remedy: remedy.to_owned(),
        }
    }
}

#[async_trait]
impl Provider for Twilio {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_list: true,
            can_ask: true,
            can_delete: self.settings.delete_after_archive,
            link_renewable: true,
            takes_get: true,
            ..Capabilities::default()
        }
    }

    fn topics(&self) -> &'static [Topic] {
        &TOPICS
    }

    fn admit(&self, incoming: &Incoming, _now: Timestamp) -> Admission {
        if !incoming.topic.is_empty() {
            return Admission::Refuse(Refusal::UnknownTopic);
        }
        hook::admit(incoming, &self.settings)
    }

    /// Empty, whatever it is: the vendor reads nothing but the status.
    fn reply(&self, outcome: Outcome) -> Reply {
        let status = match outcome {
            Outcome::Stored { .. } | Outcome::Unreadable => 200,
            Outcome::Refused(_) => 403,
            Outcome::TooLarge => 413,
            Outcome::Unavailable => 503,
        };
        Reply {
            status,
            content_type: "",
            body: String::new(),
        }
    }

    fn read(&self, notice: &Notice) -> Result<Reading, String> {
        reading::read(notice)
    }

    async fn locate(&self, wanted: &Wanted, now: Timestamp) -> Result<Located, ProviderError> {
        let sid = wanted.provider_recording_id.as_deref().unwrap_or_default();
        if !is_sid(sid, "RE") {
            return Ok(Located::Unannounced);
        }
        let handle = &wanted.handle;
        // Closed by the vendor's own word, unless it spoke of a file as well.
        if let Some(code) = handle.get("closed").and_then(Value::as_str)
            && handle.get("completed").is_none()
        {
            return Ok(Located::Gone {
                code: Some(code.to_owned()),
            });
        }
        let account = self.account(handle).to_owned();
        let path = Self::path(&account, sid, ".json");
        let Some(meta) = self
            .rest
            .object(&self.settings, &account, &path, LOCATING)
            .await?
        else {
            if now < wanted.arrived_at.plus(self.settings.replication_delay) {
                return Ok(self.late(wanted, "20404", now));
            }
            return Ok(Located::Gone {
                code: Some("20404".to_owned()),
            });
        };
        let text = |name: &str| meta.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("sid") != sid {
            return Err(self
                .rest
                .error(LOCATING, "an answer about another recording"));
        }
        if handle.get("listed").is_none() {
            self.news.tell(pages::told(&meta));
        }
        match text("status") {
            "completed" => {
                self.ask_for_call(wanted, &account, &meta).await;
                self.media(wanted, &account, &meta, now).await
            }
            closed @ ("absent" | "deleted" | "failed") => Ok(Located::Gone {
                code: Some(closed.to_owned()),
            }),
            other => Ok(self.late(wanted, other, now)),
        }
    }

    fn waiting_plan(&self) -> WaitingPlan {
        WaitingPlan {
            waits: self.settings.retry_plan.clone(),
            ready_deadline: self.settings.not_ready_deadline,
        }
    }

    async fn list(
        &self,
        window: Window,
        page: Option<&str>,
        _now: Timestamp,
    ) -> Result<ListPage, ProviderError> {
        pages::list(&self.rest, &self.settings, window, page).await
    }

    async fn ask(&self, call: &AskedCall, _now: Timestamp) -> Result<Vec<Told>, ProviderError> {
        pages::of_call(&self.rest, &self.settings, &call.provider_call_id).await
    }

    fn expected(&self, call: &CallFacts) -> Vec<Announced> {
        reading::expected(call)
    }

    fn queues(&self) -> Vec<String> {
        vec![NEWS.to_owned()]
    }

    async fn draw(&self, _queue: &str) -> Result<Vec<Drawn>, ProviderError> {
        if self.news.waiting().is_empty() {
            let _ = tokio::time::timeout(LONGEST_DRAW, self.news.arrived.notified()).await;
        }
        let waiting = self.news.waiting();
        let drawn = waiting.iter().map(|told| Drawn {
            receipt: told.dedup_key.clone(),
            told: told.clone(),
            hidden_for: None,
        });
        Ok(drawn.collect())
    }

    async fn confirm(&self, _queue: &str, receipts: &[String]) -> Result<(), ProviderError> {
        self.news
            .waiting()
            .retain(|told| !receipts.contains(&told.dedup_key));
        Ok(())
    }

    async fn delete(&self, wanted: &Wanted, _now: Timestamp) -> Result<(), ProviderError> {
        let sid = wanted.provider_recording_id.as_deref().unwrap_or_default();
        if !self.settings.delete_after_archive || !is_sid(sid, "RE") {
            return Err(self
                .rest
                .error(DELETING, "not to be deleted by its settings"));
        }
        let account = self.account(&wanted.handle);
        let path = Self::path(account, sid, ".json");
        let status = self
            .rest
            .status(&self.settings, account, Method::DELETE, &path, DELETING)
            .await?;
        match status {
            // Gone already is done.
            200 | 204 | 404 => Ok(()),
            other => Err(self.rest.error(DELETING, &format!("status {other}"))),
        }
    }

    async fn check(&self) -> Vec<Finding> {
        self.rest.ask_again();
        let mut findings = Vec::new();
        for account in self.settings.accounts.keys() {
            let path = format!("/2010-04-01/Accounts/{account}/Recordings.json?PageSize=1");
            let asked = self.rest.object(&self.settings, account, &path, LOCATING);
            match asked.await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let error = self.rest.error(LOCATING, "there is no list of recordings");
                    findings.push(self.finding(error, account));
                }
                Err(error) => findings.push(self.finding(error, account)),
            }
        }
        if self.settings.public_url.is_none() {
            findings.push(Finding {
                code: "no_public_url",
                severity: Severity::Info,
                what: "Twilio signs the address that it calls; without public_url the request's own Host is believed"
                    .to_owned(),
                place: "[server]".to_owned(),
                remedy: "set public_url to the address under which Twilio reaches you".to_owned(),
            });
        }
        if self.settings.has_list_interval {
            findings.push(Finding {
                code: "without_effect",
                severity: Severity::Info,
                what: "list_interval has no effect".to_owned(),
                place: format!("sources.{}.list_interval", self.common.name),
                remedy: "all sources are listed by [schedule] poll".to_owned(),
            });
        }
        findings
    }
}
