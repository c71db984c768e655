//! What every source's configuration has in common, whatever its kind.

use std::fmt;
use std::time::Duration;

use crate::domain::secret::Secret;

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
    /// Largest recording that is taken, in bytes.
    pub max_recording_bytes: u64,
}

/// `files.example.com`, `*.example.com` (any depth below, not the name itself), either with `:port`.
#[derive(Clone, PartialEq, Eq)]
pub struct HostPattern {
    pub host: String,
    pub any_below: bool,
    pub port: Option<u16>,
}

impl HostPattern {
    /// Reads a pattern as configuration writes it; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port))
                if !name.ends_with(']') || port.bytes().all(|b| b.is_ascii_digit()) =>
            {
                let port = port
                    .parse()
                    .map_err(|_| format!("{text:?}: the port is not a number"))?;
                (name, Some(port))
            }
            _ => (text, None),
        };
        let (host, any_below) = match name.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        if host.is_empty() || host.contains(['/', '*', '@', '?', ' ']) {
            return Err(format!(
                "{text:?} is not a host: write files.example.com or *.example.com, with :port if needed"
            ));
        }
        Ok(Self {
            host: host.trim_end_matches('.').to_ascii_lowercase(),
            any_below,
            port,
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
