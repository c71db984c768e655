//! The section `[server]` of the configuration: where to listen, who may read, how much a notice may hold.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use chrono_tz::Tz;
use serde::{Deserialize, Deserializer};

use crate::domain::secret::Secret;
use crate::domain::units::ByteSize;

/// The largest notice that any configuration may ask for; the whole body is held in memory.
pub const MOST_BODY: ByteSize = ByteSize::from_bytes(64 << 20);
/// Shorter tokens can be guessed.
pub const SHORTEST_TOKEN: usize = 16;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub listen: SocketAddr,
    /// A second listener with `/hooks` and `/healthz` alone.
    pub hooks_listen: Option<SocketAddr>,
    /// How vendors reach this server, without a trailing slash: the start of every hook address.
    pub public_url: Option<String>,
    pub api_token: Option<Secret>,
    /// Largest body of a notice.
    pub max_body: ByteSize,
    /// Proxies whose word on the caller's address goes into the log; it never opens a door.
    pub trusted_proxies: Vec<Network>,
    /// For pages, and for dates without a time in searches.
    #[serde(deserialize_with = "zone")]
    pub time_zone: Tz,
    /// A line above every page; the demo sets it so that nobody takes its calls for real ones. In English and
    /// in Chinese.
    #[serde(skip)]
    pub banner: Option<(&'static str, &'static str)>,
    /// What file and environment said, without secrets: for administrators to see.
    #[serde(skip)]
    pub in_force: String,
    /// The section `[access]`.
    #[serde(skip)]
    pub access: super::access::settings::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            hooks_listen: None,
            public_url: None,
            api_token: None,
            max_body: ByteSize::from_bytes(1 << 20),
            trusted_proxies: Vec::new(),
            time_zone: Tz::UTC,
            banner: None,
            in_force: String::new(),
            access: super::access::settings::Settings::default(),
        }
    }
}

impl Settings {
    /// The start of every address that vendors are given, without a trailing slash.
    pub fn public_base(&self) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", self.hooks_listen.unwrap_or(self.listen)),
        }
    }

    /// What is wrong with these settings: the key, and what is wrong with it, in words for a person.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let Some(token) = &self.api_token
            && token.expose().len() < SHORTEST_TOKEN
        {
            found.push((
                "api_token",
                format!("is shorter than {SHORTEST_TOKEN} characters; `openssl rand -hex 24` makes a good one"),
            ));
        }
        if self.max_body.bytes() == 0 || self.max_body > MOST_BODY {
            found.push((
                "max_body",
                format!("{} is not between 1B and {MOST_BODY}", self.max_body),
            ));
        }
        if let Some(url) = &self.public_url {
            let sound = url::Url::parse(url).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.host().is_some()
                    && url.query().is_none()
                    && url.fragment().is_none()
            });
            if !sound {
                found.push((
                    "public_url",
                    format!("{url:?} is not an address such as \"https://calls.example.com\""),
                ));
            }
        }
        if self
            .hooks_listen
            .is_some_and(|hooks| hooks == self.listen && hooks.port() != 0)
        {
            found.push(("hooks_listen", "is the same address as listen".to_owned()));
        }
        found
    }
}

fn zone<'de, D: Deserializer<'de>>(d: D) -> Result<Tz, D::Error> {
    let name = String::deserialize(d)?;
    name.parse().map_err(|_| {
        serde::de::Error::custom(format!(
            "{name:?} is not a time zone; write a name such as \"Asia/Shanghai\" or \"UTC\""
        ))
    })
}

/// An address, or a network as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub fn contains(&self, other: IpAddr) -> bool {
        let (mine, theirs, all) = match (self.address.to_canonical(), other.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u128::from(a.to_bits()), u128::from(b.to_bits()), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        let ignored = u32::from(all - self.bits.min(all));
        mine.checked_shr(ignored) == theirs.checked_shr(ignored)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither an address nor a network such as 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().map_err(|_| wrong())?,
            None => all,
        };
        if bits > all {
            return Err(wrong());
        }
        Ok(Self { address, bits })
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_say() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.200.1.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("10.0.0.0/8", "2001:db8::1", false),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(
                parsed.contains(address.parse().unwrap()),
                expected,
                "{network} {address}"
            );
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "a", "::/129", "10.0.0.0/x"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn defaults_are_sound_and_mistakes_are_named() {
        assert!(Settings::default().problems().is_empty());
        let settings: Settings = serde_json::from_value(serde_json::json!({
            "api_token": "short", "max_body": "1GiB", "public_url": "calls.example.com",
            "time_zone": "Asia/Shanghai", "trusted_proxies": ["10.0.0.0/8"],
        }))
        .unwrap();
        let keys: Vec<_> = settings
            .problems()
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys, ["api_token", "max_body", "public_url"]);
        assert_eq!(settings.time_zone, Tz::Asia__Shanghai);
        let odd = serde_json::json!({ "time_zone": "Shanghai" });
        let error = serde_json::from_value::<Settings>(odd)
            .unwrap_err()
            .to_string();
        assert!(error.contains("Asia/Shanghai"), "{error}");
    }
}
