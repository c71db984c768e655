//! The keys of a `kind = "aliyun"` source (CONTRACTS, section 3), with their defaults.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde::Deserialize;

use crate::domain::secret::Secret;
use crate::providers::settings::{BaseUrl, SettingsError, read_own};

use super::message;

/// What the console delivers by HTTP push when `push` says nothing.
const PUSH: [&str; 2] = ["VoiceRecordReport", "VoiceReport"];

/// One account's settings, complete.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of times that carry no zone.
    pub time_zone: Tz,
    /// Message types that the console delivers here by HTTP push.
    pub push: Vec<&'static str>,
    /// Keys that are right and have no effect on HTTP push: they belong to the vendor's APIs.
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

impl Endpoints {
    fn is_any_set(&self) -> bool {
        let all = [&self.dybase, &self.dyvms, &self.dypls, &self.mns];
        all.into_iter().any(Option::is_some)
    }
}

/// The keys as configuration writes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    access_key_id: Option<String>,
    access_key_secret: Option<Secret>,
    region: Option<String>,
    time_zone: Option<String>,
    push: Option<Vec<String>>,
    #[serde(default)]
    queues: BTreeMap<String, String>,
    #[serde(default)]
    base_url: Endpoints,
}

impl Settings {
    pub fn read(own: toml::Table, source: &str) -> Result<Self, SettingsError> {
        let written: Written = read_own(own, source)?;
        let wrong =
            |key: &str, what: String, remedy: &str| SettingsError::new(source, key, what, remedy);
        if !written.queues.is_empty() {
            return Err(wrong(
                "queues",
                "message queues come with a later version".to_owned(),
                "leave it out and have the console deliver by HTTP push",
            ));
        }
        match (&written.access_key_id, &written.access_key_secret) {
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
            (Some(_), Some(_)) | (None, None) => {}
        }
        let without_effect = [
            ("access_key_id", written.access_key_id.is_some()),
            ("region", written.region.is_some()),
            ("base_url", written.base_url.is_any_set()),
        ];
        let zone = written.time_zone.as_deref().unwrap_or("Asia/Shanghai");
        let time_zone = zone.parse().map_err(|_| {
            let what = format!("{zone:?} is no time zone");
            wrong("time_zone", what, "write a name like \"Asia/Shanghai\"")
        })?;
        let push = match written.push {
            None => PUSH.to_vec(),
            Some(names) => names
                .iter()
                .map(|name| {
                    message::find(name)
                        .map(|known| known.topic.name)
                        .ok_or_else(|| {
                            wrong(
                                "push",
                                format!("{name:?} is no message type"),
                                &nearest_type(name),
                            )
                        })
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            time_zone,
            push,
            without_effect: without_effect
                .into_iter()
                .filter_map(|(key, is_set)| is_set.then_some(key))
                .collect(),
        })
    }
}

fn nearest_type(name: &str) -> String {
    let known = message::TOPICS.iter().map(|topic| topic.name);
    match crate::domain::values::nearest(name, known.clone()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}
