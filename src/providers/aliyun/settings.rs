//! The keys of a `kind = "aliyun"` source (CONTRACTS, section 3), with their defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use serde::Deserialize;

use crate::domain::secret::Secret;
use crate::domain::units::Span;
use crate::providers::settings::{BaseUrl, SettingsError, read_own};

use super::message;
use super::pop::{Key, Scheme};

/// What the console delivers by HTTP push when `push` says nothing, but for what comes by queue.
const PUSH: [&str; 2] = ["VoiceRecordReport", "VoiceReport"];
const REGION: &str = "cn-hangzhou";
/// The vendor's own accounts that hold the queues, in China and elsewhere (aliyun.md, section 5.1).
const QUEUES_CHINA: &str = "1943695596114318";
const QUEUES_INTERNATIONAL: &str = "1493622401794734";
/// The service takes no longer wait.
const LONGEST_POLL: Duration = Duration::from_secs(30);
const LONGEST_QUEUE_NAME: usize = 256;

/// One account's settings, complete.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of times that carry no zone.
    pub time_zone: Tz,
    /// Message types that the console delivers here by HTTP push.
    pub push: Vec<&'static str>,
    /// Message types that are drawn from the vendor's queues, and the queues' names.
    pub queues: BTreeMap<&'static str, String>,
    pub key: Option<Key>,
    pub region: String,
    pub signature: Scheme,
    /// How long one receive waits at an empty queue.
    pub queue_wait: Duration,
    pub retry_plan: Vec<Duration>,
    pub ready_deadline: Duration,
    pub dybase: BaseUrl,
    pub dypls: BaseUrl,
    pub mns: BaseUrl,
    /// Keys that are right and have no effect: nothing is asked of that API.
    pub without_effect: Vec<&'static str>,
}

/// Addresses of the vendor's APIs where they are not the published ones.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Endpoints {
    dybase: Option<BaseUrl>,
    dyvms: Option<BaseUrl>,
    dypls: Option<BaseUrl>,
    mns: Option<BaseUrl>,
}

/// The keys as configuration writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    access_key_id: Option<String>,
    access_key_secret: Option<Secret>,
    region: Option<String>,
    #[serde(default)]
    signature: Scheme,
    time_zone: Option<String>,
    push: Option<Vec<String>>,
    #[serde(default)]
    queues: BTreeMap<String, String>,
    queue_wait: Option<Span>,
    retry_plan: Option<Vec<Span>>,
    ready_deadline: Option<Span>,
    #[serde(default)]
    base_url: Endpoints,
}

impl Settings {
    pub fn read(own: toml::Table, source: &str) -> Result<Self, SettingsError> {
        let written: Written = read_own(own, source)?;
        let wrong =
            |key: &str, what: String, remedy: &str| SettingsError::new(source, key, what, remedy);
        let key = match (written.access_key_id, written.access_key_secret) {
            (Some(id), Some(secret)) => Some(Key { id, secret }),
            (None, None) => None,
            (Some(_), None) => {
                let what = "access_key_id stands there without it".to_owned();
                return Err(wrong(
                    "access_key_secret",
                    what,
                    "add it, or leave both out",
                ));
            }
            (None, Some(_)) => {
                let what = "access_key_secret stands there without it".to_owned();
                return Err(wrong("access_key_id", what, "add it, or leave both out"));
            }
        };
        let zone = written.time_zone.as_deref().unwrap_or("Asia/Shanghai");
        let time_zone = zone.parse().map_err(|_| {
            let what = format!("{zone:?} is no time zone");
            wrong("time_zone", what, "write a name like \"Asia/Shanghai\"")
        })?;
        let named = |place: &str, name: &str| {
            message::find(name)
                .map(|known| known.topic.name)
                .ok_or_else(|| {
                    let what = format!("{name:?} is no message type");
                    wrong(place, what, &nearest_type(name))
                })
        };
        let mut queues: BTreeMap<&'static str, String> = BTreeMap::new();
        for (message_type, queue) in written.queues {
            let place = format!("queues.{message_type}");
            let known = named(&place, &message_type)?;
            let fits = (1..=LONGEST_QUEUE_NAME).contains(&queue.len())
                && queue
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            if !fits {
                let what = format!("{queue:?} cannot be a queue's name");
                let remedy = "write it as the console shows it, like \"Alicom-Queue-1234567890-VoiceRecordReport\"";
                return Err(wrong(&place, what, remedy));
            }
            if queues.values().any(|other| *other == queue) {
                let what = "two message types in one queue".to_owned();
                return Err(wrong(&place, what, "each type has a queue of its own"));
            }
            queues.insert(known, queue);
        }
        if !queues.is_empty() && key.is_none() {
            let what =
                "queues are read with a token, and a token is asked for with the account's key"
                    .to_owned();
            return Err(wrong(
                "access_key_id",
                what,
                "add access_key_id and access_key_secret",
            ));
        }
        let push = match written.push {
            None => PUSH
                .into_iter()
                .filter(|name| !queues.contains_key(name))
                .collect(),
            Some(names) => names
                .iter()
                .map(|name| named("push", name))
                .collect::<Result<_, _>>()?,
        };
        let region = written.region.unwrap_or_else(|| REGION.to_owned());
        let fits = !region.is_empty()
            && region
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            let what = format!("{region:?} is no region");
            return Err(wrong("region", what, "write a name like \"cn-hangzhou\""));
        }
        let queue_wait = written
            .queue_wait
            .map_or(Duration::from_secs(20), Span::duration);
        if queue_wait > LONGEST_POLL {
            let what = "longer than 30s, which the vendor's queues do not wait".to_owned();
            return Err(wrong("queue_wait", what, "write 30s or less; 0s: no wait"));
        }
        let retry_plan = match written.retry_plan {
            None => [1, 2, 5, 10, 20, 30, 60].map(super::minutes).to_vec(),
            Some(plan) => plan.into_iter().map(Span::duration).collect(),
        };
        if retry_plan.is_empty() || retry_plan.iter().any(Duration::is_zero) {
            let what = "empty, or with a wait of no length".to_owned();
            return Err(wrong(
                "retry_plan",
                what,
                "write waits like [\"1m\", \"5m\"]",
            ));
        }
        let ready_deadline = written.ready_deadline.map(Span::duration);
        let without_effect = written.base_url.dyvms.as_ref().map(|_| "base_url.dyvms");
        let default = |written: Option<BaseUrl>, address: String| match written {
            Some(written) => Ok(written),
            None => BaseUrl::parse(&address).map_err(|what| wrong("region", what, "correct it")),
        };
        let is_china = region.starts_with("cn-");
        let (dybase, owner) = if is_china {
            ("https://dybaseapi.aliyuncs.com".to_owned(), QUEUES_CHINA)
        } else {
            (
                format!("https://dybaseapi.{region}.aliyuncs.com"),
                QUEUES_INTERNATIONAL,
            )
        };
        let mns = format!("https://{owner}.mns.{region}.aliyuncs.com");
        Ok(Self {
            time_zone,
            push,
            queues,
            key,
            signature: written.signature,
            queue_wait,
            retry_plan,
            ready_deadline: ready_deadline.unwrap_or(super::minutes(24 * 60)),
            dybase: default(written.base_url.dybase, dybase)?,
            dypls: default(
                written.base_url.dypls,
                "https://dyplsapi.aliyuncs.com".to_owned(),
            )?,
            mns: default(written.base_url.mns, mns)?,
            without_effect: without_effect.into_iter().collect(),
            region,
        })
    }

    /// Types that reach us, through whichever door.
    pub fn heard(&self) -> impl Iterator<Item = &'static str> {
        self.push.iter().chain(self.queues.keys()).copied()
    }
}

fn nearest_type(name: &str) -> String {
    let known = message::TOPICS.iter().map(|topic| topic.name);
    match crate::domain::values::nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}
