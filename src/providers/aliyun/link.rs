//! What a signed OSS address says about itself: when it dies, and which object it points to.

use chrono::NaiveDateTime;
use form_urlencoded::parse;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;
use crate::domain::reading::{Link, masked_url};

/// Longest address that is kept.
const LONGEST_ADDRESS: usize = 8 * 1024;
/// Longest host and path that stand in an alias word for word.
const LONGEST_PLACE: usize = 300;

/// A `record_file`, when it is an http or https address.
pub fn read(record_file: &str) -> Result<Link, String> {
    let url = record_file.trim();
    if url.len() > LONGEST_ADDRESS {
        return Err(format!("an address of {} bytes", url.len()));
    }
    let host = ["http://", "https://"].iter().find_map(|scheme| {
        let start = url.get(..scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme)
            .then(|| &url[scheme.len()..])
    });
    if host.is_none_or(|host| host.is_empty() || host.starts_with(['/', '?', '#'])) {
        return Err("no http or https address".to_owned());
    }
    Ok(Link {
        url: url.to_owned(),
        until: until(url),
    })
}

/// OSS signatures: V1 `Expires` (unix seconds), V4 `x-oss-date` + `x-oss-expires` (seconds).
fn until(url: &str) -> Option<Timestamp> {
    let query = url.split_once('?')?.1.split('#').next()?;
    let value = |name: &str| {
        parse(query.as_bytes())
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.into_owned())
    };
    if let Some(expires) = value("Expires") {
        let seconds: i64 = expires.parse().ok().filter(|s| *s > 0)?;
        return (seconds <= 253_402_300_799).then(|| Timestamp::from_ms(seconds * 1000));
    }
    let signed = NaiveDateTime::parse_from_str(&value("x-oss-date")?, "%Y%m%dT%H%M%SZ").ok()?;
    let lives: i64 = value("x-oss-expires")?.parse().ok()?;
    // Seven days is the documented longest life of a V4 signature; a year is generous.
    (0..=366 * 86_400)
        .contains(&lives)
        .then(|| Timestamp::from_ms(signed.and_utc().timestamp_millis()).plus_ms(lives * 1000))
}

/// Host and path: the same for every freshly signed address of one object, by http or https.
pub fn place(url: &str) -> String {
    let bare = masked_url(url);
    let bare = bare.strip_suffix("?…").unwrap_or(&bare);
    let bare = bare.split_once("://").map_or(bare, |(_, rest)| rest);
    let (authority, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let place = format!("{}{path}", host.to_ascii_lowercase());
    if place.len() > LONGEST_PLACE {
        return format!("sha256:{}", Sha256::of(place.as_bytes()));
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_address_is_read_from_its_signature() {
        for (url, expected) in [
            (
                "http://a.example/x.wav?Expires=1710216306&OSSAccessKeyId=k&Signature=a%2Bb%3D",
                Some("2024-03-12T04:05:06.000Z"),
            ),
            (
                "https://a.example/x.wav?x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20240305T040509Z&x-oss-expires=604800",
                Some("2024-03-12T04:05:09.000Z"),
            ),
            ("https://a.example/x.wav?x-oss-date=20240305T040509Z", None),
            ("https://a.example/x.wav?Expires=soon", None),
            ("https://a.example/x.wav?Expires=99999999999999999", None),
            ("https://a.example/Expires=1710216306", None),
        ] {
            let until = read(url).unwrap().until.map(|at| at.to_string());
            assert_eq!(until.as_deref(), expected, "{url}");
        }
        for bad in ["", "ftp://a/x", "/x.wav", "http://", "https:///x", "httpé"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_object_has_one_place() {
        let places = [
            "http://Rec.example/a/x.wav?Expires=1&Signature=s",
            "https://rec.example:443/a/x.wav?Expires=2#f",
            "http://u:p@rec.example:9000/a/x.wav",
        ];
        for url in places {
            assert_eq!(place(url), "rec.example/a/x.wav", "{url}");
        }
        assert_eq!(place("http://[::1]:80/x"), "[::1]/x");
        assert!(place(&format!("http://a/{}", "x".repeat(400))).starts_with("sha256:"));
    }
}
