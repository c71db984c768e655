//! Who may be spoken to: the rules on hosts and on the addresses that their names lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::providers::settings::{CommonSettings, HostPattern, HttpLinks};

use super::address::{Host, WebAddress};

/// What a source allows its recordings to be fetched from.
#[derive(Clone, Debug)]
pub struct GuardPolicy {
    /// `None`: any public address, on the ports 80, 443 and 1024 or above.
    pub allow_hosts: Option<Vec<HostPattern>>,
    pub http_links: HttpLinks,
    /// Loopback, private and similar networks too. Cloud metadata and addresses that are nobody's
    /// stay forbidden even then; only an IP address written out in `allow_hosts` opens the latter.
    pub allow_private_addresses: bool,
}

impl From<&CommonSettings> for GuardPolicy {
    fn from(common: &CommonSettings) -> Self {
        Self {
            allow_hosts: common.allow_hosts.clone(),
            http_links: common.http_links,
            allow_private_addresses: common.allow_private_addresses,
        }
    }
}

impl GuardPolicy {
    /// Whether the configuration allows to speak to this host and port at all.
    pub fn allows_host(&self, address: &WebAddress) -> bool {
        let port = address.port;
        match &self.allow_hosts {
            None => matches!(port, 80 | 443 | 1024..),
            Some(patterns) => {
                let host = address.host.to_string();
                patterns.iter().any(|pattern| pattern.matches(&host, port))
            }
        }
    }

    /// How far the configuration opens the networks behind this host.
    pub(super) fn reach(&self, address: &WebAddress) -> Reach {
        let host = address.host.to_string();
        let named = self
            .allow_hosts
            .iter()
            .flatten()
            .filter(|pattern| !pattern.any_below && !pattern.by_default)
            .any(|pattern| pattern.matches(&host, address.port));
        match &address.host {
            Host::Ip(ip) if named && !is_metadata(*ip) => Reach::Anything,
            _ if named || self.allow_private_addresses => Reach::Private,
            _ => Reach::Public,
        }
    }
}

/// Which addresses may be connected to; each includes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    Public,
    /// Also networks of one's own.
    Private,
    /// Also metadata services and special addresses: the operator wrote this very address.
    Anything,
}

/// Where clouds hand out the machine's own keys: nothing that is written opens these.
fn is_metadata(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => matches!(
            ip.octets(),
            [169, 254, 169, 254]
                | [169, 254, 170, 2]
                | [169, 254, 0, 23]
                | [100, 100, 100, 200]
                | [168, 63, 129, 16]
                | [192, 0, 0, 192]
        ),
        IpAddr::V6(ip) => match (ip.to_ipv4_mapped(), ip.segments()) {
            (Some(inside), _) => is_metadata(IpAddr::V4(inside)),
            (None, [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..]) => true,
            _ => false,
        },
    }
}

/// What has to be opened before `ip` may be connected to.
pub fn needed_reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => needed_v4(ip),
        IpAddr::V6(ip) => needed_v6(ip),
    }
}

/// Special ranges: IANA IPv4 Special-Purpose Address Registry (RFC 6890 and its followers).
fn needed_v4(ip: Ipv4Addr) -> Reach {
    let [a, b, c, d] = ip.octets();
    match (a, b, c, d) {
        // Metadata and host agents of clouds: Azure (public range), Alibaba (inside CGNAT), Oracle.
        (168, 63, 129, 16) | (100, 100, 100, 200) | (192, 0, 0, 192) => Reach::Anything,
        // "This network", multicast, reserved and broadcast.
        (0, ..) | (224.., ..) => Reach::Anything,
        // Link-local: the metadata services of AWS, Google, Azure, Tencent and others live here.
        (169, 254, ..) => Reach::Anything,
        (10 | 127, ..) => Reach::Private,
        (172, 16..=31, ..) | (192, 168, ..) => Reach::Private,
        // Carrier-grade NAT, RFC 6598.
        (100, 64..=127, ..) => Reach::Private,
        // Benchmarking, RFC 2544: some transparent proxies answer names with it.
        (198, 18 | 19, ..) => Reach::Private,
        // IETF protocol assignments, documentation, and the withdrawn 6to4 anycast.
        (192, 0, 0 | 2, _) | (198, 51, 100, _) | (203, 0, 113, _) | (192, 88, 99, _) => {
            Reach::Anything
        }
        _ => Reach::Public,
    }
}

fn needed_v6(ip: Ipv6Addr) -> Reach {
    let s = ip.segments();
    let tail = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        needed_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        _ if ip == Ipv6Addr::LOCALHOST => Reach::Private,
        // Unspecified and the withdrawn IPv4-compatible form.
        [0, 0, 0, 0, 0, 0, _, _] => Reach::Anything,
        // IPv4-mapped and IPv4-translated: the same machine as the IPv4 address inside.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => tail(high, low),
        // NAT64: well-known prefix (RFC 6052), and the local-use one (RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => tail(high, low),
        [0x64, 0xff9b, ..] => Reach::Anything,
        // 6to4 carries the IPv4 address behind its prefix; Teredo its server, and the client inverted.
        [0x2002, high, low, ..] => tail(high, low),
        [0x2001, 0, sh, sl, _, _, ch, cl] => tail(sh, sl).max(tail(!ch, !cl)).max(Reach::Private),
        // Metadata services of AWS and Google inside the unique local range.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] => Reach::Anything,
        // Unique local, RFC 4193.
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // Link-local, the withdrawn site-local, multicast.
        [0xfe80..=0xffff, ..] => Reach::Anything,
        // Documentation, ORCHID, benchmarking and other protocol assignments, RFC 3849, 9637, 2928.
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] | [0x2001, 0..=0x1ff, ..] => Reach::Anything,
        // Everything that is handed out to anybody lies in 2000::/3.
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Anything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::contract::Defaults;

    fn reach(ip: &str) -> Reach {
        needed_reach(ip.parse().unwrap())
    }

    #[test]
    fn every_special_address_is_known() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "47.97.242.13",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "168.63.129.17",
            "198.17.255.255",
            "223.255.255.255",
            "2400:3200::1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert_eq!(reach(ip), Reach::Public, "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "127.255.255.254",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "198.18.0.1",
            "198.19.255.255",
            "::1",
            "fc00::1",
            "fdff::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:192.168.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:c0a8:1::1",
            "2001:0:4136:e378:8000:63bf:f7f7:f7f7",
        ] {
            assert_eq!(reach(ip), Reach::Private, "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.0.1",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::7f00:1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:a9fe:a9fe::1",
            "2001:0:4136:e378:8000:63bf:5601:5601",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "2001:db8::1",
            "3fff::1",
            "2001:2::1",
            "100::1",
            "4000::1",
        ] {
            assert_eq!(reach(ip), Reach::Anything, "{ip}");
        }
    }

    fn policy(allow: Option<&[&str]>, private: bool) -> GuardPolicy {
        GuardPolicy {
            allow_hosts: allow.map(|list| {
                list.iter()
                    .map(|p| HostPattern::parse(p).unwrap())
                    .collect()
            }),
            http_links: HttpLinks::Allow,
            allow_private_addresses: private,
        }
    }

    #[test]
    fn hosts_and_ports_are_allowed_by_name() {
        for (allow, url, expected) in [
            (None, "http://anything.example/", true),
            (None, "https://anything.example:8443/", true),
            (None, "http://anything.example:25/", false),
            (
                Some(&["*.aliyuncs.com"][..]),
                "http://a.aliyuncs.com/",
                true,
            ),
            (
                Some(&["*.aliyuncs.com"][..]),
                "http://aliyuncs.com.x/",
                false,
            ),
            (Some(&["a.example:22"][..]), "http://a.example:22/", true),
            (Some(&["a.example:22"][..]), "http://a.example/", false),
            (Some(&["[0:0::1]"][..]), "http://[::1]:81/", true),
            (Some(&[][..]), "http://a.example/", false),
        ] {
            let address = WebAddress::parse(url).unwrap();
            assert_eq!(
                policy(allow, false).allows_host(&address),
                expected,
                "{url}"
            );
        }
    }

    #[test]
    fn only_an_address_written_out_opens_everything() {
        for (allow, private, url, expected) in [
            (None, false, "http://a.example/", Reach::Public),
            (None, true, "http://a.example/", Reach::Private),
            (None, true, "http://169.254.169.254/", Reach::Private),
            (
                Some(&["*.example"][..]),
                false,
                "http://a.example/",
                Reach::Public,
            ),
            (
                Some(&["a.example"][..]),
                false,
                "http://a.example/",
                Reach::Private,
            ),
            (
                Some(&["a.example:81"][..]),
                false,
                "http://a.example/",
                Reach::Public,
            ),
            (
                Some(&["169.254.1.1"][..]),
                false,
                "http://169.254.1.1/",
                Reach::Anything,
            ),
            (
                Some(&["169.254.169.254"][..]),
                true,
                "http://169.254.169.254/",
                Reach::Private,
            ),
            (
                Some(&["[fd00:ec2::254]"][..]),
                true,
                "http://[fd00:ec2::254]/",
                Reach::Private,
            ),
        ] {
            let address = WebAddress::parse(url).unwrap();
            assert_eq!(policy(allow, private).reach(&address), expected, "{url}");
        }
    }

    #[test]
    fn a_name_that_nobody_wrote_opens_nothing() {
        let defaults = Defaults {
            allow_hosts: Some(&["api.twilio.com"]),
            ..Defaults::default()
        };
        let address = WebAddress::parse("https://api.twilio.com/x").unwrap();
        for (keys, expected) in [
            ("", Reach::Public),
            ("allow_hosts = [\"api.twilio.com\"]", Reach::Private),
        ] {
            let read = CommonSettings::split("a", &defaults, keys.parse().unwrap());
            let policy = GuardPolicy::from(&read.unwrap().0);
            assert!(policy.allows_host(&address));
            assert_eq!(policy.reach(&address), expected, "{keys}");
        }
    }
}
