//! Twilio's signature over the address that it called and the fields that it sent (twilio.md, section 3).
//!
//! What a newcomer gets wrong: the address is the public one, byte for byte. Nothing of it is parsed and
//! written again, and of the body every field counts, known or not.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::domain::secret::Secret;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha1,
    Sha256,
}

/// Which secret signed, and how, by the header `X-Twilio-Webhooks-Signature-Settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    /// A shared key's id; without one the account's token signed.
    pub key: Option<String>,
    pub algorithm: Algorithm,
}

impl Signing {
    /// None when the header names a hash that we do not know.
    pub fn of(header: Option<&str>) -> Option<Self> {
        let mut signing = Self {
            key: None,
            algorithm: Algorithm::Sha1,
        };
        for part in header.unwrap_or_default().split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match name.trim() {
                "key" if !value.is_empty() => signing.key = Some(value.to_owned()),
                "algorithm" if !value.is_empty() => {
                    signing.algorithm = match value.to_ascii_uppercase().as_str() {
                        "HMAC_SHA1" => Algorithm::Sha1,
                        "HMAC_SHA256" => Algorithm::Sha256,
                        _ => return None,
                    };
                }
                _ => {}
            }
        }
        Some(signing)
    }
}

/// A message as the signature sees it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// Scheme, host, port as seen, path and raw query.
    pub url: &'a str,
    pub content_type: &'a str,
    pub body: &'a [u8],
}

impl Signed<'_> {
    /// Whether `given` is the signature of any of the secrets over any form of the address.
    pub fn is_by(&self, secrets: &[&Secret], algorithm: Algorithm, given: &str) -> bool {
        if given.is_empty() || secrets.iter().any(|secret| secret.is_empty()) {
            return false;
        }
        let fields = if is_json(self.content_type, self.body) {
            if !self.body_hash_fits() {
                return false;
            }
            String::new()
        } else {
            joined(self.body)
        };
        let mut fits = false;
        for url in forms_of(self.url) {
            for secret in secrets {
                let own = sign(secret, algorithm, &format!("{url}{fields}"));
                fits |= bool::from(own.as_bytes().ct_eq(given.as_bytes()));
            }
        }
        fits
    }

    /// A JSON body is covered by its hash in the query; the first of that name counts.
    fn body_hash_fits(&self) -> bool {
        let query = self.url.split_once('?').map_or("", |(_, query)| query);
        let told = form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "bodySHA256")
            .map(|(_, value)| value.into_owned());
        let own = hex::encode(Sha256::digest(self.body));
        told.is_some_and(|told| own.as_bytes().ct_eq(told.as_bytes()).into())
    }
}

/// What is no form is JSON, whatever it calls itself: then its hash must be in the address.
pub fn is_json(content_type: &str, body: &[u8]) -> bool {
    if body.is_empty() {
        return false;
    }
    let mime = content_type.split(';').next().unwrap_or_default().trim();
    !mime.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        && (!mime.is_empty() || body.starts_with(b"{"))
}

/// Names by code point, each followed by its distinct values in order, decoded, without separators.
fn joined(body: &[u8]) -> String {
    let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(body).into_owned() {
        fields.entry(name).or_default().insert(value);
    }
    let mut text = String::new();
    for (name, values) in fields {
        for value in values {
            text.push_str(&name);
            text.push_str(&value);
        }
    }
    text
}

/// The vendor signs with or without the port: both forms count, a standard port for none.
fn forms_of(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![url.to_owned()];
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (authority, if scheme == "https" { "443" } else { "80" }),
    };
    vec![
        format!("{scheme}://{host}{path}"),
        format!("{scheme}://{host}:{port}{path}"),
    ]
}

fn sign(secret: &Secret, algorithm: Algorithm, text: &str) -> String {
    let key = secret.expose().as_bytes();
    match algorithm {
        Algorithm::Sha1 => mac::<Hmac<Sha1>>(key, text),
        Algorithm::Sha256 => mac::<Hmac<Sha256>>(key, text),
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], text: &str) -> String {
    // HMAC takes a key of any length; an empty text is no signature of anything.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}
