//! The cookie that a session lies in.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};

use crate::domain::secret::Secret;

/// Browsers take this name from https alone, for this host alone, and let no script of a neighbour set it.
const BEHIND_TLS: &str = "__Host-callvault";
const PLAIN: &str = "callvault";

fn name(tls: bool) -> &'static str {
    if tls { BEHIND_TLS } else { PLAIN }
}

/// The cookie of a sign-in that is under way at a provider.
const FLOW_BEHIND_TLS: &str = "__Host-callvault-oidc";
const FLOW_PLAIN: &str = "callvault-oidc";

fn flow_name(tls: bool) -> &'static str {
    if tls { FLOW_BEHIND_TLS } else { FLOW_PLAIN }
}

/// The session's token. A name that is there twice is none: one of them is somebody else's.
pub fn read(headers: &HeaderMap, tls: bool) -> Option<Secret> {
    read_named(headers, name(tls))
}

/// What this browser began to sign in with.
pub fn read_flow(headers: &HeaderMap, tls: bool) -> Option<Secret> {
    read_named(headers, flow_name(tls))
}

fn read_named(headers: &HeaderMap, name: &str) -> Option<Secret> {
    let mut found = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let token = found.next()?;
    (found.next().is_none() && token.len() == 43).then(|| Secret::new(token))
}

/// `Lax`: a link in a mail opens the page it names, a form of another site sends nothing.
pub fn set(token: &Secret, max_age_s: i64, tls: bool) -> Option<HeaderValue> {
    write(name(tls), token.expose(), max_age_s, tls)
}

/// Comes back from the provider with the answer: that is a link from another site, which `Lax` lets through.
pub fn set_flow(token: &Secret, max_age_s: i64, tls: bool) -> Option<HeaderValue> {
    write(flow_name(tls), token.expose(), max_age_s, tls)
}

pub fn forget_flow(tls: bool) -> Option<HeaderValue> {
    write(flow_name(tls), "", 0, tls)
}

pub fn forget(tls: bool) -> Option<HeaderValue> {
    write(name(tls), "", 0, tls)
}

fn write(name: &str, value: &str, max_age_s: i64, tls: bool) -> Option<HeaderValue> {
    let secure = if tls { "; Secure" } else { "" };
    let text =
        format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}");
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::new_token;

    fn headers(cookie: &str) -> HeaderMap {
        [(COOKIE, cookie.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn the_token_comes_back_and_a_doubtful_one_does_not() {
        let token = new_token().unwrap();
        let token = token.expose();
        let found = |cookie: &str, tls| read(&headers(cookie), tls).map(|t| t.expose().to_owned());
        let mine = format!("theme=dark; callvault={token}; x=y");
        assert_eq!(found(&mine, false).as_deref(), Some(token));
        assert_eq!(found(&mine, true), None, "behind TLS the other name counts");
        let host = format!("__Host-callvault={token}");
        assert_eq!(found(&host, true).as_deref(), Some(token));
        assert_eq!(
            found(&format!("callvault={token}; callvault={token}"), false),
            None
        );
        assert_eq!(found("callvault=short", false), None);
    }

    #[test]
    fn scripts_and_other_sites_do_not_get_it() {
        let token = new_token().unwrap();
        let text = set(&token, 60, true).unwrap();
        let text = text.to_str().unwrap();
        assert!(text.starts_with("__Host-callvault=") && text.ends_with("; Secure"));
        assert!(text.contains("HttpOnly") && text.contains("SameSite=Lax"));
        assert!(
            !set(&token, 60, false)
                .unwrap()
                .to_str()
                .unwrap()
                .contains("Secure")
        );
        assert!(
            forget(false)
                .unwrap()
                .to_str()
                .unwrap()
                .contains("Max-Age=0")
        );
    }
}
