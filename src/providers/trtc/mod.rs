//! Tencent Cloud TRTC: callbacks of rooms and recordings, files in the media store (VOD) or the customer's bucket.
//!
//! What a newcomer gets wrong: about seven deliveries within a minute is all that the vendor does, so whatever
//! matters is searched for as well; and the signature covers the body byte for byte, tabs and all.

mod answer;
mod ask;
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
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
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
use settings::{Cos, Settings};
use sign::CosGet;

const KIND: &str = "trtc";
/// How long a signed address of the bucket is good.
const COS_SIGNED_S: i64 = 15 * 60;
/// Signed a little into the past, for a clock that is ahead of the vendor's.
const COS_BEFORE_S: i64 = 60;
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
        let has_keys = self.settings.api.is_some();
        let open = self.settings.unsigned || self.settings.unsigned_wrapper;
        Capabilities {
            can_list: has_keys,
            can_ask: has_keys,
            link_renewable: has_keys || self.settings.cos.is_some(),
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
        push::reply(outcome, push::is_wrapper(&incoming.query))
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
        let is_fresh = now < wanted.arrived_at.plus(self.settings.ask_after) && is_believed;
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
            return self.locate_media(&file_ids, now).await;
        }
        if let (Some(cos), Some(name)) = (&self.settings.cos, list("cos_names").first()) {
            let task = wanted.handle.get("task").and_then(Value::as_str);
            return Ok(Located::Ready(cos_address(cos, task, name, now)));
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
                address.headers = vec![authorization(cos, to.path(), now)];
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

    async fn check(&self) -> Vec<Finding> {
        let place = format!("sources.{}", self.common.name);
        if self.settings.api.is_none() {
            return vec![Finding {
                code: "cannot_search",
                severity: Severity::Warning,
                what: "without secret_id and secret_key a callback that is lost stays lost: the vendor sends for one minute".to_owned(),
                place,
                remedy: "add a key that may call SearchMedia and DescribeMediaInfos".to_owned(),
            }];
        }
        let now = self.clock.now();
        let search = Search {
            after: Some(now.plus_ms(-60_000)),
            before: Some(now),
            ..Search::default()
        };
        let Err(error) = self.asker.search(&self.settings, &search, now).await else {
            return Vec::new();
        };
        let (code, severity, remedy) = match error.kind {
            ProviderErrorKind::CredentialsRefused => (
                "credentials_refused",
                Severity::Error,
                "compare secret_id, secret_key, sdk_app_id and sub_app_id with the console, and the clock",
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
            place,
            remedy: remedy.to_owned(),
        }]
    }
}

impl Trtc {
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

/// What a path segment may hold as it is (RFC 3986, `pchar`), but for what COS signs decoded.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Key = `FileNamePrefix` parts, task and file name (tencent.md, section 3.2).
fn cos_address(cos: &Cos, task: Option<&str>, name: &str, now: Timestamp) -> Address {
    let parts = [Some(cos.prefix.as_str()), task, Some(name)];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    let segments: Vec<String> = parts
        .flat_map(|part| part.split('/'))
        .map(|segment| utf8_percent_encode(segment, IN_PATH).to_string())
        .collect();
    let path = format!("/{}", segments.join("/"));
    Address {
        url: format!("{}{path}", cos.base.as_str()),
        until: Some(now.plus_ms(COS_SIGNED_S * 1000)),
        headers: vec![authorization(cos, &path, now)],
        ..Address::default()
    }
}

fn authorization(cos: &Cos, path: &str, now: Timestamp) -> (String, String) {
    let host =
        WebAddress::parse(cos.base.as_str()).map_or_else(|_| String::new(), |at| at.authority());
    let second = now.ms().div_euclid(1000);
    let get = CosGet {
        path,
        query: &[],
        headers: &[("host", &host)],
        from: second - COS_BEFORE_S,
        until: second + COS_SIGNED_S,
    };
    let signed = get.authorization(cos.keys.secret_id.expose(), cos.keys.secret_key.expose());
    ("authorization".to_owned(), signed)
}
