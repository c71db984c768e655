//! The rule for when nobody has an account: the configured token, or this very machine.
//!
//! What a newcomer gets wrong: a peer on loopback proves nothing by itself. A proxy on this machine forwards the whole
//! world, and any web page can make a browser on this machine call us. So `Host` must be loopback too (a rebound name
//! is not), and no forwarding header may be there.

use std::net::IpAddr;

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Uri};

use super::Wire;
use crate::domain::secret::Secret;
use crate::web::settings::Network;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    NoToken,
    CrossSite,
}

/// Whether the request may come from where a browser says that it comes from.
///
/// A link from elsewhere may open a page here. An element or a script of another site gets nothing, and no form of
/// another site changes anything.
pub fn same_site(method: &Method, headers: &HeaderMap) -> Result<(), Denied> {
    let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let foreign = matches!(word("sec-fetch-site"), Some("cross-site" | "same-site"));
    if foreign && word("sec-fetch-mode") != Some("navigate") {
        return Err(Denied::CrossSite);
    }
    if method.is_safe() {
        return Ok(());
    }
    // `null` is the origin of a sandbox or a redirect between sites. Ours is the host that was asked.
    let told = headers.get(ORIGIN).map(|value| value.to_str().ok());
    let host = word(HOST.as_str());
    let own = match told {
        None => true,
        Some(origin) => {
            let named = origin.and_then(|origin| origin.split_once("://"));
            named.is_some_and(|(_, origin)| Some(origin) == host)
        }
    };
    if foreign || !own {
        return Err(Denied::CrossSite);
    }
    Ok(())
}

/// Who reads, for the audit trail, while there are no accounts.
pub fn judge(
    token: Option<&Secret>,
    wire: Option<Wire>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<&'static str, Denied> {
    match token {
        Some(token) => match offered(headers) {
            Some(offer) if !token.is_empty() && token.matches(&offer) => Ok("token:api_token"),
            _ => Err(Denied::NoToken),
        },
        None if is_here(wire, uri, headers) => Ok("loopback"),
        None => Err(Denied::NoToken),
    }
}

/// Asked by this very machine, by its own name, with nobody in between.
pub fn is_here(wire: Option<Wire>, uri: &Uri, headers: &HeaderMap) -> bool {
    let here = wire.is_some_and(|wire| {
        wire.listener.ip().to_canonical().is_loopback()
            && wire.peer.ip().to_canonical().is_loopback()
    });
    here && asks_loopback(uri, headers) && !forwarded(headers)
}

/// The token in `Authorization`: bearer, or the password of Basic. Two such headers are none.
pub fn offered(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        let (_user, password) = text.split_once(':')?;
        return Some(password.to_owned());
    }
    None
}

fn asks_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let named = host.is_some_and(is_loopback_host) && hosts.next().is_none();
    // A request line may carry a host of its own, and then that one counts as well.
    let line = uri
        .authority()
        .is_none_or(|authority| is_loopback_host(authority.as_str()));
    named && line
}

/// `127.0.0.1`, `localhost` or `[::1]`, each with or without a port.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => {
            if !(1..=5).contains(&port.len()) || !port.bytes().all(|b| b.is_ascii_digit()) {
                return false;
            }
            name
        }
        _ => host,
    };
    name == "127.0.0.1" || name == "[::1]" || name.eq_ignore_ascii_case("localhost")
}

fn forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        matches!(name, "forwarded" | "x-real-ip" | "via") || name.starts_with("x-forwarded-")
    })
}

/// Who called, for the log and the trail: through trusted proxies, the last address that none of them owns.
pub fn caller(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut caller = peer;
    let told: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in told.iter().rev() {
        if !is_trusted(caller) {
            break;
        }
        match hop.trim().parse() {
            Ok(address) => caller = address,
            Err(_) => break,
        }
    }
    caller
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(listener: &str, peer: &str) -> Option<Wire> {
        Some(Wire {
            listener: listener.parse().unwrap(),
            peer: peer.parse().unwrap(),
        })
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn ask(
        token: Option<&str>,
        wire: Option<Wire>,
        pairs: &[(&'static str, &str)],
    ) -> Result<&'static str, Denied> {
        let token = token.map(Secret::new);
        let uri = Uri::from_static("/api/v1/status");
        judge(token.as_ref(), wire, &uri, &headers(pairs))
    }

    #[test]
    fn without_a_token_only_this_machine_reads() {
        let loopback = wire("127.0.0.1:8080", "127.0.0.1:5000");
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "localhost:1",
            "LOCALHOST",
            "[::1]",
            "[::1]:80",
        ] {
            assert_eq!(
                ask(None, loopback, &[("host", host)]),
                Ok("loopback"),
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example:127",
            "",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1:123456",
            "::1",
            "a@127.0.0.1",
            "[::1",
            "0.0.0.0",
        ] {
            assert_eq!(
                ask(None, loopback, &[("host", host)]),
                Err(Denied::NoToken),
                "{host}"
            );
        }
        assert_eq!(ask(None, loopback, &[]), Err(Denied::NoToken));
        assert_eq!(
            ask(None, None, &[("host", "localhost")]),
            Err(Denied::NoToken)
        );
        for header in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-anything",
            "x-real-ip",
            "via",
        ] {
            let asked = ask(None, loopback, &[("host", "localhost"), (header, "x")]);
            assert_eq!(asked, Err(Denied::NoToken), "{header}");
        }
        for (listener, peer) in [
            ("0.0.0.0:8080", "127.0.0.1:5000"),
            ("127.0.0.1:8080", "10.0.0.1:5000"),
            ("10.0.0.2:8080", "10.0.0.2:5000"),
            ("[::]:8080", "[::1]:5000"),
        ] {
            let asked = ask(None, wire(listener, peer), &[("host", "localhost")]);
            assert_eq!(asked, Err(Denied::NoToken), "{listener} {peer}");
        }
        let six = wire("[::1]:8080", "[::1]:5000");
        assert!(ask(None, six, &[("host", "[::1]:8080")]).is_ok());
    }

    #[test]
    fn a_host_in_the_request_line_counts_too() {
        let loopback = wire("127.0.0.1:8080", "127.0.0.1:5000");
        let host = headers(&[("host", "localhost")]);
        let foreign = Uri::from_static("http://evil.example/api/v1/status");
        assert!(judge(None, loopback, &foreign, &host).is_err());
        let own = Uri::from_static("http://localhost/api/v1/status");
        assert!(judge(None, loopback, &own, &host).is_ok());
    }

    #[test]
    fn with_a_token_nobody_reads_without_it() {
        let token = Some("0123456789abcdef");
        let loopback = wire("127.0.0.1:8080", "127.0.0.1:5000");
        let far = wire("0.0.0.0:8080", "10.0.0.1:5000");
        let host = ("host", "localhost");
        assert_eq!(ask(token, loopback, &[host]), Err(Denied::NoToken));
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for good in [
            "Bearer 0123456789abcdef".to_owned(),
            "bearer 0123456789abcdef".to_owned(),
            basic("anyone:0123456789abcdef"),
            basic(":0123456789abcdef"),
        ] {
            let asked = ask(
                token,
                far,
                &[("authorization", &good), ("x-forwarded-for", "1.2.3.4")],
            );
            assert_eq!(asked, Ok("token:api_token"), "{good}");
        }
        for bad in [
            "Bearer 0123456789abcdee".to_owned(),
            "Bearer 0123456789abcdef0".to_owned(),
            "Bearer ".to_owned(),
            "0123456789abcdef".to_owned(),
            "Basic !!!".to_owned(),
            basic("0123456789abcdef"),
            basic("0123456789abcdef:"),
        ] {
            assert_eq!(
                ask(token, far, &[("authorization", &bad)]),
                Err(Denied::NoToken),
                "{bad}"
            );
        }
        assert_eq!(
            ask(Some(""), far, &[("authorization", "Bearer ")]),
            Err(Denied::NoToken)
        );
        let mut twice = headers(&[("authorization", "Bearer 0123456789abcdef")]);
        twice.append(AUTHORIZATION, "Bearer 0123456789abcdef".parse().unwrap());
        let token = token.map(Secret::new);
        assert!(judge(token.as_ref(), far, &Uri::from_static("/"), &twice).is_err());
    }

    #[test]
    fn another_site_may_link_but_neither_embed_nor_send() {
        let host = ("host", "localhost:8080");
        for (site, mode, allowed) in [
            ("same-origin", "no-cors", true),
            ("none", "navigate", true),
            ("cross-site", "navigate", true),
            ("cross-site", "no-cors", false),
            ("same-site", "cors", false),
        ] {
            let told = headers(&[host, ("sec-fetch-site", site), ("sec-fetch-mode", mode)]);
            assert_eq!(
                same_site(&Method::GET, &told).is_ok(),
                allowed,
                "{site} {mode}"
            );
            let own = matches!(site, "same-origin" | "none");
            assert_eq!(
                same_site(&Method::POST, &told).is_ok(),
                own,
                "{site} {mode}"
            );
        }
        for (origin, allowed) in [
            ("http://localhost:8080", true),
            ("https://localhost:8080", true),
            ("http://localhost:8081", false),
            ("https://evil.example", false),
            ("null", false),
        ] {
            let told = headers(&[host, ("origin", origin)]);
            assert_eq!(same_site(&Method::POST, &told).is_ok(), allowed, "{origin}");
            assert!(same_site(&Method::GET, &told).is_ok(), "{origin}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_about_the_caller() {
        let trusted: [Network; 1] = ["10.0.0.0/8".parse().unwrap()];
        let told = headers(&[("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.0.0.2")]);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(caller(ip("10.0.0.1"), &told, &trusted), ip("1.2.3.4"));
        assert_eq!(caller(ip("9.9.9.9"), &told, &trusted), ip("9.9.9.9"));
        assert_eq!(
            caller(ip("10.0.0.1"), &HeaderMap::new(), &trusted),
            ip("10.0.0.1")
        );
    }
}
