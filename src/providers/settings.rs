//! What every source's configuration has in common, whatever its kind.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::domain::media::RawAudio;
use crate::domain::secret::Secret;
use crate::domain::units::{ByteSize, Span};
use crate::domain::values::{self, Problem, ValueError, nearest};

use super::contract::Defaults;
use super::http::{WebAddress, read_host};

/// What to do with an address that is `http://`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpLinks {
    /// https first, then http with the note `fetched_plain_http`.
    #[default]
    TryHttps,
    Allow,
    Refuse,
}

/// Keys that every kind of source takes (CONTRACTS, section 3).
#[derive(Clone, Debug)]
pub struct CommonSettings {
    /// The source's name, for ever: it is part of the object keys.
    pub name: String,
    pub display_name: Option<String>,
    /// One, or two while rotating. Empty: no token.
    pub hook_tokens: Vec<Secret>,
    /// How long the vendor keeps the audio; never our own retention.
    pub provider_keeps: Option<Duration>,
    /// `None`: any public address.
    pub allow_hosts: Option<Vec<HostPattern>>,
    pub http_links: HttpLinks,
    pub allow_private_addresses: bool,
    /// How long a call with talk time may stay without an announced recording before it is an alarm.
    pub expect_within: Option<Duration>,
    /// Every answered call of this source should have a recording.
    pub expect_recordings: bool,
    /// No notice for so long is an alarm.
    pub quiet_after: Option<Duration>,
    /// Where a source deletes at the vendor: not before this time after archiving.
    pub delete_after: Duration,
    /// Questions a second to the vendor's API, over all processes.
    pub requests_per_second: f64,
    /// Largest recording that is taken, in bytes.
    pub max_recording_bytes: u64,
    /// What the vendor's files are when they have no header.
    pub raw_audio: Option<RawAudio>,
}

/// The keys of `CommonSettings` as configuration writes them (beside `kind`).
pub const COMMON_KEYS: &[&str] = &[
    "display_name",
    "hook_token",
    "provider_keeps",
    "allow_hosts",
    "http_links",
    "allow_private_addresses",
    "expect_within",
    "expect_recordings",
    "quiet_after",
    "delete_after",
    "requests_per_second",
    "max_recording",
    "raw_audio",
];

/// No vendor keeps audio for longer; a larger value is our own retention in the wrong place.
const SHORTEST_PROVIDER_KEEPS: Duration = Duration::from_secs(1);
const LONGEST_PROVIDER_KEEPS: Duration = Duration::from_secs(400 * 24 * 3600);
const DEFAULT_REQUESTS_PER_SECOND: f64 = 5.0;
const DEFAULT_MAX_RECORDING_BYTES: u64 = 2 << 30;

/// Words of other documents for keys of ours.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("download_hosts", "allow_hosts = [\"...\"]"),
    ("media_hosts", "allow_hosts = [\"...\"]"),
    ("allow_http_download", "http_links = \"allow\""),
    ("public_base_url", "public_url in [server]"),
    ("tenant", "the source's name, [sources.NAME]"),
];

/// What is wrong with a source's configuration; holds no value that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {what}; {remedy}", self.place())]
pub struct SettingsError {
    pub source_name: String,
    /// Path below the source; empty: the source as a whole.
    pub key: String,
    pub what: String,
    pub remedy: String,
}

fn dotted(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!(".{key}")
    }
}

impl SettingsError {
    pub fn new(
        source: &str,
        key: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            source_name: source.to_owned(),
            key: key.into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// The place in the configuration: `sources.NAME.KEY`.
    pub fn place(&self) -> String {
        format!("sources.{}{}", self.source_name, dotted(&self.key))
    }

    fn from_value(source: &str, error: ValueError) -> Self {
        let mut path = error.path;
        let (what, remedy) = match error.problem {
            Problem::UnknownKey { key, mut known } => {
                if path.is_empty() {
                    known.extend(COMMON_KEYS);
                }
                let remedy = match nearest(&key, known.iter().copied()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("known are {}", known.join(", ")),
                };
                let what = format!("unknown key {key:?}");
                path.push(key);
                (what, remedy)
            }
            Problem::MissingKey(key) => {
                path.push(key.to_owned());
                (format!("the key {key:?} is missing"), "add it".to_owned())
            }
            Problem::Other(text) => (text, "correct the value".to_owned()),
        };
        Self::new(source, path.join("."), what, remedy)
    }
}

/// Reads the keys that a kind does not share with others into its own struct, which says
/// `#[serde(deny_unknown_fields)]`. The error names the source, the key and the nearest known one.
pub fn read_own<T: DeserializeOwned>(own: toml::Table, source: &str) -> Result<T, SettingsError> {
    values::read(own).map_err(|e| SettingsError::from_value(source, e))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    display_name: Option<String>,
    #[serde(default)]
    hook_token: Vec<Secret>,
    provider_keeps: Option<Span>,
    allow_hosts: Option<Vec<String>>,
    #[serde(default)]
    http_links: HttpLinks,
    #[serde(default)]
    allow_private_addresses: bool,
    expect_within: Option<Span>,
    #[serde(default)]
    expect_recordings: bool,
    quiet_after: Option<Span>,
    delete_after: Option<Span>,
    requests_per_second: Option<f64>,
    max_recording: Option<ByteSize>,
    raw_audio: Option<String>,
}

impl CommonSettings {
    /// Splits a source's table (without `kind`) into the common settings and the kind's own keys.
    pub fn split(
        name: &str,
        defaults: &Defaults,
        mut table: toml::Table,
    ) -> Result<(Self, toml::Table), SettingsError> {
        let wrong =
            |key: &str, what: String, remedy: &str| SettingsError::new(name, key, what, remedy);
        check_source_name(name)?;
        for key in ["retention", "retention_days"] {
            if table.contains_key(key) {
                return Err(wrong(
                    key,
                    "a source has no retention".into(),
                    PROVIDER_KEEPS_MEANS,
                ));
            }
        }
        for (word, ours) in OTHER_WORDS {
            if table.contains_key(*word) {
                let remedy = format!("write {ours}");
                return Err(wrong(word, format!("unknown key {word:?}"), &remedy));
            }
        }
        let mut common = toml::Table::new();
        for key in COMMON_KEYS {
            if let Some(value) = table.remove(*key) {
                let value = match value {
                    // One token is as good as a list of one.
                    one @ (toml::Value::Table(_) | toml::Value::Integer(_))
                        if *key == "hook_token" =>
                    {
                        toml::Value::Array(vec![one])
                    }
                    value => value,
                };
                common.insert((*key).to_owned(), value);
            }
        }
        let written: Written =
            values::read(common).map_err(|e| SettingsError::from_value(name, e))?;
        check_tokens(name, &written.hook_token)?;
        let provider_keeps = written
            .provider_keeps
            .map(Span::duration)
            .or(defaults.provider_keeps);
        if provider_keeps.is_some_and(|keeps| keeps > LONGEST_PROVIDER_KEEPS) {
            return Err(wrong(
                "provider_keeps",
                "longer than 400d, which no vendor keeps audio for".into(),
                PROVIDER_KEEPS_MEANS,
            ));
        }
        if provider_keeps.is_some_and(|keeps| keeps < SHORTEST_PROVIDER_KEEPS) {
            return Err(wrong(
                "provider_keeps",
                "shorter than a second: everything would count as gone at once".into(),
                PROVIDER_KEEPS_MEANS,
            ));
        }
        let by_default = written.allow_hosts.is_none();
        let patterns = written.allow_hosts.or_else(|| {
            let defaults = defaults.allow_hosts?;
            Some(defaults.iter().map(ToString::to_string).collect())
        });
        let allow_hosts = patterns
            .map(|patterns| {
                let parsed = patterns.iter().map(|pattern| {
                    let pattern = HostPattern::parse(pattern)?;
                    Ok(HostPattern {
                        by_default,
                        ..pattern
                    })
                });
                parsed.collect::<Result<Vec<_>, _>>()
            })
            .transpose()
            .map_err(|e| wrong("allow_hosts", e, "correct the pattern"))?;
        let requests_per_second = written
            .requests_per_second
            .or(defaults.requests_per_second)
            .unwrap_or(DEFAULT_REQUESTS_PER_SECOND);
        if !(0.001..=10_000.0).contains(&requests_per_second) {
            return Err(wrong(
                "requests_per_second",
                "it is not between 0.001 and 10000".into(),
                "write how many questions the vendor may be asked each second, like 2",
            ));
        }
        let raw_audio = written
            .raw_audio
            .map(|raw| raw.parse())
            .transpose()
            .map_err(|e| wrong("raw_audio", e, "write it as CODEC/RATE/CHANNELS"))?;
        let common = Self {
            name: name.to_owned(),
            display_name: written.display_name,
            hook_tokens: written.hook_token,
            provider_keeps,
            allow_hosts,
            http_links: written.http_links,
            allow_private_addresses: written.allow_private_addresses,
            expect_within: written
                .expect_within
                .map(Span::duration)
                .or(defaults.expect_within),
            expect_recordings: written.expect_recordings,
            quiet_after: written.quiet_after.map(Span::duration),
            delete_after: written.delete_after.map_or(Duration::ZERO, Span::duration),
            requests_per_second,
            max_recording_bytes: written
                .max_recording
                .map_or(DEFAULT_MAX_RECORDING_BYTES, ByteSize::bytes),
            raw_audio,
        };
        if defaults.token_required {
            common.require_token("notices of this kind prove nothing by themselves")?;
        }
        Ok((common, table))
    }

    /// An error when the source has no `hook_token`; `why` says what makes it necessary.
    pub fn require_token(&self, why: &str) -> Result<(), SettingsError> {
        if self.hook_tokens.is_empty() {
            return Err(SettingsError::new(
                &self.name,
                "hook_token",
                format!("the hook token is missing: {why}"),
                "add hook_token = { file = \"...\" } with 16 to 128 characters of A-Z a-z 0-9 _ -",
            ));
        }
        Ok(())
    }
}

const PROVIDER_KEEPS_MEANS: &str = "provider_keeps says how long the vendor keeps the audio, at most \
     400d; it never shortens how long the archive keeps a recording";

/// Source names are part of object keys: `[a-z0-9][a-z0-9-]{0,31}`.
fn check_source_name(name: &str) -> Result<(), SettingsError> {
    let fits = (1..=32).contains(&name.len())
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits {
        return Ok(());
    }
    Err(SettingsError::new(
        name,
        "",
        format!("{name:?} cannot be a source's name"),
        "take 1 to 32 of a-z, 0-9 and -, beginning with a letter or digit",
    ))
}

fn check_tokens(source: &str, tokens: &[Secret]) -> Result<(), SettingsError> {
    let wrong = |what: &str| {
        SettingsError::new(
            source,
            "hook_token",
            what,
            "write one token, or two while rotating, each 16 to 128 of A-Z a-z 0-9 _ -",
        )
    };
    if tokens.len() > 2 {
        return Err(wrong("more than two hook tokens"));
    }
    let fits = |token: &Secret| {
        let text = token.expose();
        (16..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if tokens.iter().all(fits) {
        Ok(())
    } else {
        Err(wrong("a hook token that cannot stand in an address"))
    }
}

/// `files.example.com`, `*.example.com` (any depth below, not the name itself), either with `:port`.
#[derive(Clone, PartialEq, Eq)]
pub struct HostPattern {
    pub host: String,
    pub any_below: bool,
    pub port: Option<u16>,
    /// Of the kind, and not written by anybody: it opens no network of one's own.
    pub by_default: bool,
}

impl HostPattern {
    /// Reads a pattern as configuration writes it; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a host: write files.example.com or *.example.com, with :port if needed"
            )
        };
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                (name, Some(port.parse().map_err(|_| wrong())?))
            }
            _ => (text, None),
        };
        let (host, any_below) = match name.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        let host = read_host(host).map_err(|_| wrong())?;
        Ok(Self {
            host: host.to_string(),
            any_below,
            port,
            by_default: false,
        })
    }

    pub fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let name_fits = if self.any_below {
            host.strip_suffix(&self.host)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        name_fits && self.port.is_none_or(|wanted| wanted == port)
    }
}

/// The address of a vendor's API, without a slash at its end: `https://api.example.com/v1`.
///
/// Written by the operator, so it may lead anywhere, private networks included.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains(['?', '#']) || WebAddress::parse(text).is_err() {
            return Err(format!(
                "{:?} is not an address: write https://api.example.com, without user, query and fragment",
                crate::domain::reading::masked_url(text)
            ));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for BaseUrl {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.any_below {
            f.write_str("*.")?;
        }
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_patterns_match_below_and_never_beside() {
        for (pattern, host, port, expected) in [
            ("*.aliyuncs.com", "a.oss-cn-hangzhou.aliyuncs.com", 80, true),
            ("*.aliyuncs.com", "aliyuncs.com", 80, false),
            ("*.aliyuncs.com", "evilaliyuncs.com", 80, false),
            ("*.aliyuncs.com", "aliyuncs.com.evil.example", 80, false),
            ("Files.Example", "files.example.", 443, true),
            ("127.0.0.1:9000", "127.0.0.1", 9000, true),
            ("127.0.0.1:9000", "127.0.0.1", 9001, false),
            ("[::1]:9000", "[::1]", 9000, true),
            ("[::1]", "[::1]", 80, true),
        ] {
            let parsed = HostPattern::parse(pattern).unwrap();
            assert_eq!(
                parsed.matches(host, port),
                expected,
                "{pattern} {host}:{port}"
            );
            assert_eq!(parsed.to_string(), pattern.to_ascii_lowercase());
        }
        for bad in ["", "http://a", "a/b", "*", "a b", "a:x"] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
