//! Tencent Cloud TRTC: callbacks of rooms and recordings, files in the media store (VOD) or the customer's bucket.
//!
//! What a newcomer gets wrong: about seven deliveries within a minute is all that the vendor does, so whatever
//! matters is searched for as well; and the signature covers the body byte for byte, tabs and all.

mod answer;
mod ask;
mod bucket;
mod cos;
mod find;
mod legacy;
mod loose;
mod media;
mod names;
mod push;
mod reading;
mod settings;
mod sign;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::notice::Notice;
use crate::domain::reading::Reading;
use crate::providers::contract::{
    Address, Admission, AskedCall, BuildContext, Capabilities, Defaults, Finding, Incoming,
    ListPage, Located, Outcome, Provider, ProviderError, ProviderErrorKind, ProviderKind, Reply,
    Severity, Told, Topic, WaitingPlan, Wanted, Window,
};
use crate::providers::http::WebAddress;
use crate::providers::settings::{CommonSettings, SettingsError};

use ask::{Asker, Search, items};
use media::Media;
use settings::Settings;

const KIND: &str = "trtc";
/// `DescribeMediaInfos` takes so many at once.
const MOST_FILE_IDS: usize = 20;

const TOPICS: [Topic; 1] = [Topic {
    name: "",
    what: "room, media and recording callbacks, and those of the call kit; every kind in one address",
}];

#[derive(Debug)]
pub struct TrtcKind;

impl ProviderKind for TrtcKind {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn defaults(&self) -> Defaults {
        Defaults {
            allow_hosts: Some(&["*.vod-qcloud.com", "*.myqcloud.com"]),
            ..Defaults::default()
        }
    }

    fn build(
        &self,
        common: CommonSettings,
        own: toml::Table,
        ctx: &BuildContext,
    ) -> Result<Arc<dyn Provider>, SettingsError> {
        let settings = Settings::read(own, &common)?;
        Ok(Arc::new(Trtc {
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

/// One account at Tencent Cloud.
#[derive(Debug)]
struct Trtc {
    common: CommonSettings,
    settings: Settings,
    asker: Asker,
    clock: SharedClock,
}

#[async_trait]
impl Provider for Trtc {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn capabilities(&self) -> Capabilities {
        let (has_keys, has_bucket) = (self.settings.api.is_some(), self.settings.cos.is_some());
        let open = self.settings.unsigned || self.settings.unsigned_wrapper;
        Capabilities {
            can_list: has_keys,
            can_ask: has_keys,
            can_list_bucket: self.settings.cos.as_ref().is_some_and(|cos| cos.list),
            can_ask_bucket: has_bucket,
            link_renewable: has_keys || has_bucket,
            token_required: open || !self.settings.legacy_keys.is_empty(),
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
        push::reply(outcome, false)
    }

    fn answer(&self, outcome: Outcome, incoming: &Incoming) -> Reply {
        push::reply(outcome, push::is_wrapped(incoming))
    }

    fn read(&self, notice: &Notice) -> Result<Reading, String> {
        reading::read(notice, &self.settings)
    }

    async fn locate(&self, wanted: &Wanted, now: Timestamp) -> Result<Located, ProviderError> {
        let list = |name: &str| -> Vec<String> {
            let list = wanted.handle.get(name).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(loose::id).collect()
        };
        let file_ids = list("file_ids");
        let is_believed = wanted.handle.get("legacy") != Some(&Value::Bool(true));
        // So soon after the callback that the file may be on its way: "does not exist" says nothing yet.
        let is_early = now < wanted.arrived_at.plus(self.settings.ask_after);
        let is_fresh = is_early && is_believed;
        let has_keys = self.settings.api.is_some();
        if let Some(link) = &wanted.link
            && (is_fresh || !has_keys || file_ids.is_empty())
        {
            return Ok(Located::Ready(Address {
                url: link.url.clone(),
                until: link.until,
                ..Address::default()
            }));
        }
        if has_keys && !file_ids.is_empty() {
            return match self.locate_media(&file_ids, now).await? {
                Located::Gone { code } if is_early => Ok(Located::NotReady { code }),
                located => Ok(located),
            };
        }
        if let (Some(cos), Some(name)) = (&self.settings.cos, list("cos_names").first()) {
            let task = wanted.handle.get("task").and_then(Value::as_str);
            return Ok(Located::Ready(cos::address(cos, task, name, now)));
        }
        let names = list("names");
        if has_keys && !names.is_empty() {
            return self.locate_by_name(wanted, names, now).await;
        }
        Ok(Located::Unannounced)
    }

    /// In the bucket each object needs a signature of its own; only what lies beside the playlist gets one.
    fn beside(&self, playlist: &Address, url: String, now: Timestamp) -> Address {
        let mut address = Address {
            url,
            until: playlist.until,
            ..Address::default()
        };
        let whole = |url: &str| WebAddress::parse(url).ok();
        if let (Some(cos), Some(from), Some(to)) = (
            &self.settings.cos,
            whole(&playlist.url),
            whole(&address.url),
        ) {
            let folder = from
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            let is_beside = to
                .path()
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'));
            let is_ours = playlist.url.starts_with(cos.base.as_str());
            if is_ours && from.scheme == to.scheme && from.same_host(&to) && is_beside {
                address.headers = cos::headers(cos, to.path(), &[], now);
            }
        }
        address
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
        find::list(&self.asker, &self.settings, window, page, now).await
    }

    async fn ask(&self, call: &AskedCall, now: Timestamp) -> Result<Vec<Told>, ProviderError> {
        find::ask(&self.asker, &self.settings, call, now).await
    }

    async fn list_bucket(
        &self,
        written: Window,
        page: Option<&str>,
        now: Timestamp,
    ) -> Result<ListPage, ProviderError> {
        bucket::list(&self.asker.api, &self.settings, written, page, now).await
    }

    async fn ask_bucket(
        &self,
        call: &AskedCall,
        now: Timestamp,
    ) -> Result<Vec<Told>, ProviderError> {
        find::ask_bucket(&self.asker, &self.settings, call, now).await
    }

    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(self.check_search().await);
        findings.extend(self.check_bucket().await);
        findings
    }
}

impl Trtc {
    async fn check_search(&self) -> Option<Finding> {
        if self.settings.api.is_none() {
            return Some(Finding {
                code: "cannot_search",
                severity: Severity::Warning,
                what: "without secret_id and secret_key a callback that is lost stays lost: the vendor sends for one minute".to_owned(),
                place: self.place(),
                remedy: "add a key that may call SearchMedia and DescribeMediaInfos".to_owned(),
            });
        }
        let now = self.clock.now();
        let search = Search {
            after: Some(now.plus_ms(-60_000)),
            before: Some(now),
            ..Search::default()
        };
        let searched = self.asker.search(&self.settings, &search, now).await;
        let remedy = "compare secret_id, secret_key, sdk_app_id and sub_app_id with the console, and the clock";
        Some(self.finding(searched.err()?, remedy))
    }

    async fn check_bucket(&self) -> Option<Finding> {
        let cos = self.settings.cos.as_ref().filter(|cos| cos.list)?;
        let now = self.clock.now();
        // The sweep's own first question: a key may be let in below the prefix alone.
        let error = bucket::first(&self.asker.api, cos, now).await.err()?;
        if error.kind == ProviderErrorKind::CannotListBucket {
            return Some(Finding {
                code: "cannot_list_bucket",
                severity: Severity::Warning,
                what: "the bucket's key may not list it, so what no callback announces there stays unknown".to_owned(),
                place: self.place(),
                remedy: "allow the key cos:GetBucket beside cos:GetObject, or write list = false in cos".to_owned(),
            });
        }
        Some(self.finding(
            error,
            "compare bucket, region, secret_id and secret_key of cos with the console, and the clock",
        ))
    }

    fn place(&self) -> String {
        format!("sources.{}", self.common.name)
    }

    fn finding(&self, error: ProviderError, if_refused: &str) -> Finding {
        let (code, severity, remedy) = match error.kind {
            ProviderErrorKind::CredentialsRefused | ProviderErrorKind::CannotListBucket => {
                ("credentials_refused", Severity::Error, if_refused)
            }
            ProviderErrorKind::Throttled => {
                ("throttled", Severity::Warning, "lower requests_per_second")
            }
            ProviderErrorKind::Unreachable | ProviderErrorKind::BadAnswer => (
                "provider_unreachable",
                Severity::Error,
                "check base_url, the network and the vendor's state",
            ),
        };
        Finding {
            code,
            severity,
            what: error.detail,
            place: self.place(),
            remedy: remedy.to_owned(),
        }
    }

    /// A fresh address of the media store. Gone is only what is gone under every id.
    async fn locate_media(
        &self,
        file_ids: &[String],
        now: Timestamp,
    ) -> Result<Located, ProviderError> {
        let file_ids = &file_ids[..file_ids.len().min(MOST_FILE_IDS)];
        let (found, gone) = self.asker.media(&self.settings, file_ids, now).await?;
        Ok(match found.iter().find(|media| media.is_ready()) {
            Some(media) => ready(media),
            None if found.is_empty() && gone.len() == file_ids.len() => Located::Gone {
                code: Some("NotExistFileIdSet".to_owned()),
            },
            None => Located::NotReady { code: None },
        })
    }

    /// A file whose upload failed or is stuck: perhaps it came all the same.
    async fn locate_by_name(
        &self,
        wanted: &Wanted,
        names: Vec<String>,
        now: Timestamp,
    ) -> Result<Located, ProviderError> {
        let told = |key: &str| wanted.handle.get(key).and_then(loose::id);
        let (app, task) = (told("app"), told("task"));
        let search = Search {
            app: app.as_deref(),
            names,
            ..Search::default()
        };
        let answer = self.asker.search(&self.settings, &search, now).await?;
        let is_it = |media: &Media| {
            let names = &search.names;
            media.name.as_ref().is_some_and(|name| names.contains(name))
                && (task.is_none() || media.task == task)
        };
        let mut found = items(&answer, "MediaInfoSet")
            .filter_map(Media::of)
            .filter(is_it);
        Ok(match found.find(Media::is_ready) {
            Some(media) => ready(&media),
            None => Located::NotReady { code: None },
        })
    }
}

fn ready(media: &Media) -> Located {
    Located::Ready(Address {
        // A playlist's size is that of all its segments, so none is expected.
        url: media.url.clone().unwrap_or_default(),
        ..Address::default()
    })
}
