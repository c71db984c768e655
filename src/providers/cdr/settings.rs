//! The keys of `kind = "freeswitch" | "asterisk" | "cdr"`, with their defaults.

use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use serde::Deserialize;

use crate::domain::secret::Secret;
use crate::domain::units::Span;
use crate::providers::settings::{SettingsError, read_own};

use super::body::EncodedValues;

/// The provider that the watched folder names for a file without a message.
pub const FOLDER: &str = "folder";

/// The way by which messages come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    #[default]
    Http,
    Amqp,
    Nats,
    Folder,
}

/// How a message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Decoder {
    #[serde(rename = "cdr/1")]
    Cdr1,
    #[serde(rename = "freeswitch-event")]
    FreeswitchEvent,
    #[serde(rename = "freeswitch-json-cdr")]
    FreeswitchCdr,
    #[serde(rename = "asterisk-cdr-amqp")]
    Asterisk,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub from: From,
    /// Address of a broker, with its user and password.
    pub url: Option<Secret>,
    /// Queue (AMQP), or subject filter (NATS).
    pub queue: String,
    /// Stream and durable consumer (NATS).
    pub stream: String,
    pub consumer: String,
    /// Make queue or stream where there is none.
    pub create: bool,
    pub prefetch: u16,
    /// The folder that is watched.
    pub path: Option<PathBuf>,
    pub account: Option<String>,
    pub decoder: Option<Decoder>,
    pub encoded_values: EncodedValues,
    pub recording_variables: Vec<String>,
    pub searchable_attributes: Vec<String>,
    pub file_roots: Vec<PathBuf>,
    pub settle_time: Duration,
    /// Waits between two looks for a file that is not there yet, the last for ever.
    pub retry_plan: Vec<Duration>,
    /// Within this time after a call its file may still come at any moment; later it is looked for every six hours.
    pub ready_deadline: Duration,
    /// Where objects of a store are read: `https://store.example.com/{bucket}/{key}`.
    pub object_url: Option<String>,
    pub time_zone: Tz,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    from: From,
    url: Option<Secret>,
    queue: Option<String>,
    stream: Option<String>,
    consumer: Option<String>,
    create: Option<bool>,
    prefetch: Option<u16>,
    path: Option<PathBuf>,
    account: Option<String>,
    decoder: Option<Decoder>,
    encoded_values: Option<String>,
    #[serde(default)]
    recording_variables: Vec<String>,
    #[serde(default)]
    searchable_attributes: Vec<String>,
    #[serde(default)]
    file_roots: Vec<PathBuf>,
    settle_time: Option<Span>,
    retry_plan: Option<Vec<Span>>,
    ready_deadline: Option<Span>,
    object_url: Option<String>,
    time_zone: Option<String>,
}

impl Settings {
    pub fn read(own: toml::Table, source: &str) -> Result<Self, SettingsError> {
        let written: Written = read_own(own, source)?;
        let wrong = |key: &str, what: &str, remedy: &str| {
            Err(SettingsError::new(source, key, what, remedy))
        };
        let needs_url = matches!(written.from, From::Amqp | From::Nats);
        match &written.url {
            None if needs_url => {
                return wrong(
                    "url",
                    "the broker's address is missing",
                    "write url = { file = \"...\" } with amqp://user:password@host:5672/%2f or nats://user:password@host:4222",
                );
            }
            Some(url) if needs_url => {
                let schemes: &[&str] = match written.from {
                    From::Amqp => &["amqp", "amqps"],
                    _ => &["nats", "tls"],
                };
                let parsed = url::Url::parse(url.expose());
                if !parsed.is_ok_and(|url| schemes.contains(&url.scheme())) {
                    let remedy = format!("begin it with {}://", schemes.join(":// or "));
                    return wrong("url", "this is no address of such a broker", &remedy);
                }
            }
            Some(_) => {
                return wrong(
                    "url",
                    "only from = \"amqp\" and \"nats\" have an address",
                    "leave it out, or set from",
                );
            }
            None => {}
        }
        if written.from == From::Folder && written.path.is_none() {
            return wrong(
                "path",
                "the folder is missing",
                "write path = \"/srv/recordings/in\"",
            );
        }
        if written.from != From::Folder && written.path.is_some() {
            return wrong(
                "path",
                "only from = \"folder\" has it",
                "leave it out, or set from",
            );
        }
        if written
            .path
            .as_ref()
            .is_some_and(|path| !path.is_absolute())
        {
            return wrong("path", "the path is not absolute", "write it from / on");
        }
        if written.file_roots.iter().any(|root| !root.is_absolute()) {
            return wrong(
                "file_roots",
                "a path is not absolute",
                "write each from / on",
            );
        }
        if written.prefetch == Some(0) {
            return wrong("prefetch", "0 means without bounds", "write at least 1");
        }
        let encoded_values = match written.encoded_values.as_deref() {
            None | Some("auto") => EncodedValues::Auto,
            Some("true") => EncodedValues::Always,
            Some("false") => EncodedValues::Never,
            Some(_) => {
                return wrong(
                    "encoded_values",
                    "this is none of auto, true, false",
                    "write \"auto\", \"true\" or \"false\"",
                );
            }
        };
        if let Some(template) = &written.object_url
            && !(template.contains("{bucket}") && template.contains("{key}"))
        {
            return wrong(
                "object_url",
                "it does not say where bucket and key stand",
                "write https://store.example.com/{bucket}/{key}",
            );
        }
        let settle_time = written
            .settle_time
            .map_or(Duration::from_secs(5), Span::duration);
        let retry_plan: Vec<Duration> = match written.retry_plan {
            Some(plan) => plan.into_iter().map(Span::duration).collect(),
            None => usual_waits(settle_time),
        };
        if retry_plan.is_empty() || retry_plan.contains(&Duration::ZERO) {
            return wrong(
                "retry_plan",
                "it names no wait, or one of nothing",
                "write waits like [\"5s\", \"1m\", \"1h\"], or leave it out",
            );
        }
        let zone = written.time_zone.as_deref().unwrap_or("UTC");
        let Ok(time_zone) = zone.parse() else {
            return wrong(
                "time_zone",
                "this is no time zone",
                "write a name like \"Asia/Shanghai\"",
            );
        };
        let mut file_roots = written.file_roots;
        file_roots.extend(written.path.clone());
        let (queue, stream) = match written.from {
            From::Nats => ("cdr.v1.>", "CDR"),
            _ => ("cdr.ingest", ""),
        };
        Ok(Self {
            from: written.from,
            url: written.url,
            queue: written.queue.unwrap_or_else(|| queue.to_owned()),
            stream: written.stream.unwrap_or_else(|| stream.to_owned()),
            consumer: written.consumer.unwrap_or_else(|| "cdr-ingest".to_owned()),
            create: written.create.unwrap_or(true),
            prefetch: written.prefetch.unwrap_or(64),
            path: written.path,
            account: written.account,
            decoder: written.decoder,
            encoded_values,
            recording_variables: written.recording_variables,
            searchable_attributes: written.searchable_attributes,
            file_roots,
            settle_time,
            retry_plan,
            ready_deadline: written
                .ready_deadline
                .map_or(Duration::from_secs(24 * 3600), Span::duration),
            object_url: written.object_url,
            time_zone,
        })
    }
}

/// Soon at first, for a file that is still being closed or moved; then as converters need.
fn usual_waits(settle_time: Duration) -> Vec<Duration> {
    let settle = settle_time.max(Duration::from_millis(100));
    let minutes = |n: u64| Duration::from_secs(60 * n);
    vec![
        settle,
        settle * 2,
        minutes(1),
        minutes(5),
        minutes(15),
        minutes(60),
    ]
}
