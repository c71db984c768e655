//! A foreign address taken apart once, for the guard and for the wire: no rewriting, no second parser.
//!
//! What a newcomer gets wrong: general URL parsers re-encode `'`, `"` and `|` and normalise odd hosts. A
//! signed address must go out byte for byte, and an odd host must be refused, not mended.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest address that is taken, in bytes.
const LONGEST_ADDRESS: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Whom an address names: a DNS name in lower case without its last dot, or an IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Name(String),
    Ip(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// Why an address is not used. Holds no part of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It cannot be read as an http or https address.
    Malformed(&'static str),
    /// A number in disguise: `127.1`, `0x7f.0.0.1`, `2130706433`.
    OddNumber,
}

/// Scheme, host and port of an address, and the request target exactly as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct WebAddress {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
    /// Path and query; a secret, because queries carry signatures.
    pub target: String,
}

impl WebAddress {
    pub fn parse(url: &str) -> Result<Self, Unusable> {
        check_bytes(url)?;
        let (scheme, rest) = split_scheme(url)?;
        let rest = rest
            .strip_prefix("//")
            .ok_or(Unusable::Malformed("no // behind the scheme"))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (host, port) = read_authority(authority)?;
        Ok(Self {
            scheme,
            host,
            port: port.unwrap_or(scheme.default_port()),
            target: read_target(tail),
        })
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Follows the value of a `Location` header, absolute or relative.
    pub fn join(&self, location: &str) -> Result<Self, Unusable> {
        check_bytes(location)?;
        let with_target = |target: &str| {
            Ok(Self {
                target: read_target(target),
                ..self.clone()
            })
        };
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.scheme.as_str()));
        }
        if location.starts_with('/') {
            return with_target(location);
        }
        let path = self.path();
        if location.is_empty() || location.starts_with('#') {
            return Ok(self.clone());
        }
        if location.starts_with('?') {
            return with_target(&format!("{path}{location}"));
        }
        let before_path = location.find(['/', '?', '#']).unwrap_or(location.len());
        if location[..before_path].contains(':') {
            return Self::parse(location);
        }
        let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
        let cut = location.find(['?', '#']).unwrap_or(location.len());
        let (relative, rest) = location.split_at(cut);
        with_target(&format!("{}{rest}", without_dots(folder, relative)))
    }

    /// The whole address, query and all: a secret like the target.
    pub fn to_url(&self) -> String {
        format!(
            "{}://{}{}",
            self.scheme.as_str(),
            self.authority(),
            self.target
        )
    }

    /// Same scheme-less origin: what `Address::headers` may be shown to.
    pub fn same_host(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }

    /// The value of the `Host` header.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The same place by https. A port that was written out is kept.
    pub fn by_https(&self) -> Self {
        let port = match self.port {
            80 => 443,
            other => other,
        };
        Self {
            scheme: Scheme::Https,
            port,
            ..self.clone()
        }
    }
}

/// Without its query: errors and logs may show it.
impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = if self.target.contains('?') {
            "?…"
        } else {
            ""
        };
        write!(
            f,
            "{}://{}{}{hidden}",
            self.scheme.as_str(),
            self.authority(),
            self.path()
        )
    }
}

impl fmt::Debug for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn check_bytes(text: &str) -> Result<(), Unusable> {
    if text.len() > LONGEST_ADDRESS {
        return Err(Unusable::Malformed("longer than 16 KiB"));
    }
    // Everything else can stand in a request line, whatever the standards say about `"` or `<`.
    if text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err(Unusable::Malformed("a blank or a control byte in it"));
    }
    Ok(())
}

fn split_scheme(url: &str) -> Result<(Scheme, &str), Unusable> {
    let (scheme, rest) = url
        .split_once(':')
        .ok_or(Unusable::Malformed("no scheme"))?;
    if scheme.eq_ignore_ascii_case("http") {
        Ok((Scheme::Http, rest))
    } else if scheme.eq_ignore_ascii_case("https") {
        Ok((Scheme::Https, rest))
    } else {
        Err(Unusable::Malformed("neither http nor https"))
    }
}

fn read_target(tail: &str) -> String {
    let tail = &tail[..tail.find('#').unwrap_or(tail.len())];
    if tail.starts_with('/') {
        tail.to_owned()
    } else {
        format!("/{tail}")
    }
}

fn read_authority(authority: &str) -> Result<(Host, Option<u16>), Unusable> {
    if authority.contains('@') {
        return Err(Unusable::Malformed("user info in front of the host"));
    }
    let (host, port) = if authority.starts_with('[') {
        let end = authority
            .find(']')
            .ok_or(Unusable::Malformed("a bracket that does not end"))?;
        let (host, rest) = authority.split_at(end + 1);
        match rest.strip_prefix(':') {
            Some(port) => (host, port),
            None if rest.is_empty() => (host, ""),
            None => return Err(Unusable::Malformed("text behind the bracket")),
        }
    } else {
        authority.split_once(':').unwrap_or((authority, ""))
    };
    let port = match port {
        "" => None,
        digits if digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => Some(
            digits
                .parse::<u16>()
                .ok()
                .filter(|&port| port != 0)
                .ok_or(Unusable::Malformed("a port out of range"))?,
        ),
        _ => return Err(Unusable::Malformed("a port that is not a number")),
    };
    Ok((read_host(host)?, port))
}

/// Reads a host as an address or a pattern writes it.
pub fn read_host(text: &str) -> Result<Host, Unusable> {
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return inner
            .parse::<Ipv6Addr>()
            .map(|ip| Host::Ip(ip.into()))
            .map_err(|_| Unusable::Malformed("not an IPv6 address in the brackets"));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let labels_fit = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    });
    if name.len() > 253 || !labels_fit {
        return Err(Unusable::Malformed("not a host name"));
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_hex = last
        .strip_prefix("0x")
        .is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_hex || last.bytes().all(|b| b.is_ascii_digit()) {
        // Rust's parser takes four plain decimal numbers only, so whatever else looks like a number
        // here (octal, hex, fewer parts) would be read differently by someone else.
        return name
            .parse::<Ipv4Addr>()
            .map(|ip| Host::Ip(ip.into()))
            .map_err(|_| Unusable::OddNumber);
    }
    Ok(Host::Name(name))
}

/// RFC 3986, 5.2.4, for a relative path below `folder`.
fn without_dots(folder: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = folder.trim_end_matches('/').split('/').collect();
    let mut pieces = relative.split('/').peekable();
    while let Some(piece) = pieces.next() {
        let is_last = pieces.peek().is_none();
        match piece {
            "." | ".." => {
                if piece == ".." && parts.len() > 1 {
                    parts.pop();
                }
                if is_last {
                    parts.push("");
                }
            }
            piece => parts.push(piece),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_stays_byte_for_byte() {
        for target in [
            "/a'b\"c|d%2F%zz<`^>/x.wav?Expires=1&Signature=a%2Bb'\"|{}[]<>",
            "/",
            "/?x",
            "//double//slash/../kept",
            "/录音.mp3?名=值",
            "/a\\b?c\\d",
        ] {
            let address = WebAddress::parse(&format!("http://files.example{target}")).unwrap();
            assert_eq!(address.target, target);
        }
        let at = |url: &str| WebAddress::parse(url).unwrap();
        assert_eq!(at("HTTP://Files.Example.").target, "/");
        assert_eq!(at("http://files.example?a=/b#c").target, "/?a=/b");
        assert_eq!(
            at("https://Files.Example.:444/").authority(),
            "files.example:444"
        );
        assert_eq!(at("http://[::1]:80/").authority(), "[::1]");
    }

    #[test]
    fn what_is_not_plainly_an_address_is_refused() {
        for url in [
            "",
            "files.example/a",
            "/a",
            "ftp://files.example/",
            "file:///etc/passwd",
            "gopher://files.example:70/_x",
            "http:files.example",
            "http:/files.example",
            "http://",
            "http:///a",
            "http://a@files.example/",
            "http://a:b@files.example/",
            "http://files.example@127.0.0.1/",
            "http://files.example\\@127.0.0.1/",
            "http://files.example%2f@x/",
            "http://files.exa\tmple/",
            "http://files.example/a b",
            "http://files.example/a\r\nHost: x",
            " http://files.example/",
            "http://files.example:0/",
            "http://files.example:65536/",
            "http://files.example:+80/",
            "http://files.example:80:80/",
            "http://[::1/",
            "http://[::1]x/",
            "http://[::1%25lo]/",
            "http://[::ffff:127.1]/",
            "http://１２７.0.0.1/",
            "http://files..example/",
            "http://.example/",
            "http://ex%61mple/",
            "http://exa*mple/",
        ] {
            assert!(
                matches!(WebAddress::parse(url), Err(Unusable::Malformed(_))),
                "{url:?}"
            );
        }
        for host in [
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.01",
            "1.2.3.4.5",
            "300.1.1.1",
            "127.0.0.0x1",
            "10.0x",
            "a.1",
        ] {
            let parsed = WebAddress::parse(&format!("http://{host}/"));
            assert_eq!(parsed.err(), Some(Unusable::OddNumber), "{host}");
        }
    }

    #[test]
    fn a_redirect_is_joined_without_rewriting() {
        let base = WebAddress::parse("http://a.example:8080/one/two?q=1").unwrap();
        for (location, expected) in [
            ("/x'y?z|", "http://a.example:8080 /x'y?z|"),
            ("three", "http://a.example:8080 /one/three"),
            ("../three?x=../y", "http://a.example:8080 /three?x=../y"),
            ("../../../..", "http://a.example:8080 /"),
            ("./", "http://a.example:8080 /one/"),
            ("?z", "http://a.example:8080 /one/two?z"),
            ("#f", "http://a.example:8080 /one/two?q=1"),
            ("//b.example/x", "http://b.example /x"),
            ("https://b.example:1/x", "https://b.example:1 /x"),
            ("x?y=http://z", "http://a.example:8080 /one/x?y=http://z"),
        ] {
            let to = base.join(location).unwrap();
            let seen = format!("{}://{} {}", to.scheme.as_str(), to.authority(), to.target);
            assert_eq!(seen, expected, "{location}");
        }
        for bad in ["file:///etc/passwd", "javascript:1", "http://u@h/", "/a b"] {
            assert!(base.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_shows_no_query() {
        let address = WebAddress::parse("https://a.example/x.wav?Signature=s").unwrap();
        assert_eq!(format!("{address:?}"), "https://a.example/x.wav?…");
    }
}
