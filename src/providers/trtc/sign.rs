//! Tencent Cloud's signatures: TC3-HMAC-SHA256 on API requests (document api/213/30654) and the COS request
//! signature (document 436/7778).

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::domain::clock::Timestamp;

/// What the API is sent as, and signed as.
pub const JSON: &str = "application/json";

/// A request to one of the vendor's services, for its signature.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub service: &'a str,
    pub host: &'a str,
    pub content_type: &'a str,
    /// Signed too where it is given, as the page's current edition does.
    pub action: Option<&'a str>,
    pub payload: &'a [u8],
    /// Seconds.
    pub timestamp: i64,
}

impl Signed<'_> {
    /// The value of `Authorization`.
    pub fn authorization(&self, secret_id: &str, secret_key: &str) -> String {
        let scope = self.scope();
        format!(
            "TC3-HMAC-SHA256 Credential={secret_id}/{scope}, SignedHeaders={}, Signature={}",
            self.signed_headers(),
            self.signature(secret_key)
        )
    }

    fn signed_headers(&self) -> &'static str {
        match self.action {
            Some(_) => "content-type;host;x-tc-action",
            None => "content-type;host",
        }
    }

    /// The date is UTC's, whatever zone the vendor's page shows.
    fn date(&self) -> String {
        let at = Timestamp::from_ms(self.timestamp.saturating_mul(1000));
        at.date().format("%Y-%m-%d").to_string()
    }

    fn scope(&self) -> String {
        format!("{}/{}/tc3_request", self.date(), self.service)
    }

    pub fn canonical_request(&self) -> String {
        let mut text = format!(
            "POST\n/\n\ncontent-type:{}\nhost:{}\n",
            self.content_type, self.host
        );
        if let Some(action) = self.action {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "x-tc-action:{}", action.to_lowercase());
        }
        let payload = hex::encode(Sha256::digest(self.payload));
        let _ = write!(text, "\n{}\n{payload}", self.signed_headers());
        text
    }

    pub fn string_to_sign(&self) -> String {
        let canonical = hex::encode(Sha256::digest(self.canonical_request().as_bytes()));
        format!(
            "TC3-HMAC-SHA256\n{}\n{}\n{canonical}",
            self.timestamp,
            self.scope()
        )
    }

    pub fn signature(&self, secret_key: &str) -> String {
        let first = format!("TC3{secret_key}");
        let date = hmac_sha256(first.as_bytes(), self.date().as_bytes());
        let service = hmac_sha256(&date, self.service.as_bytes());
        let signing = hmac_sha256(&service, b"tc3_request");
        hex::encode(hmac_sha256(&signing, self.string_to_sign().as_bytes()))
    }
}

/// A GET of a COS object, for its `Authorization` header.
#[derive(Clone, Debug)]
pub struct CosGet<'a> {
    /// As it stands in the request line, without the query; signed decoded.
    pub path: &'a str,
    /// Lower-case names, in order.
    pub query: &'a [(&'a str, &'a str)],
    /// Lower-case names, in order.
    pub headers: &'a [(&'a str, &'a str)],
    /// Seconds.
    pub from: i64,
    pub until: i64,
}

/// What COS encodes in paths and queries (RFC 3986).
pub const COS_ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

impl CosGet<'_> {
    pub fn authorization(&self, secret_id: &str, secret_key: &str) -> String {
        let times = format!("{};{}", self.from, self.until);
        let sign_key = hex::encode(hmac_sha1(secret_key.as_bytes(), times.as_bytes()));
        let pairs = |list: &[(&str, &str)]| {
            let encoded = list
                .iter()
                .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, COS_ENCODED)));
            encoded.collect::<Vec<_>>().join("&")
        };
        let names = |list: &[(&str, &str)]| {
            let names: Vec<&str> = list.iter().map(|(name, _)| *name).collect();
            names.join(";")
        };
        let path = percent_decode_str(self.path).decode_utf8_lossy();
        let http = format!(
            "get\n{path}\n{}\n{}\n",
            pairs(self.query),
            pairs(self.headers)
        );
        let text = format!(
            "sha1\n{times}\n{}\n",
            hex::encode(Sha1::digest(http.as_bytes()))
        );
        let signature = hex::encode(hmac_sha1(sign_key.as_bytes(), text.as_bytes()));
        format!(
            "q-sign-algorithm=sha1&q-ak={secret_id}&q-sign-time={times}&q-key-time={times}\
             &q-header-list={}&q-url-param-list={}&q-signature={signature}",
            names(self.headers),
            names(self.query)
        )
    }
}

pub fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    // Unwrap safety: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hmac_sha1(key: &[u8], text: &[u8]) -> Vec<u8> {
    // Unwrap safety: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("any key length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// The legacy recording's `sign`: lower-case hexadecimal MD5 of key and `t` (document 267/32744).
pub fn legacy(key: &str, t: &str) -> String {
    let mut md5 = Md5::new();
    md5.update(key.as_bytes());
    md5.update(t.as_bytes());
    hex::encode(md5.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The download of the vendor's page (document 436/7778, "Downloading an object").
    #[test]
    fn a_cos_signature_is_the_one_that_the_page_prints() {
        let get = CosGet {
            path: "/exampleobject(%E8%85%BE%E8%AE%AF%E4%BA%91)",
            query: &[
                ("response-cache-control", "max-age=600"),
                ("response-content-type", "application/octet-stream"),
            ],
            headers: &[
                ("date", "Thu, 16 May 2019 06:55:53 GMT"),
                (
                    "host",
                    "examplebucket-1250000000.cos.ap-beijing.myqcloud.com",
                ),
            ],
            from: 1_557_989_753,
            until: 1_557_996_953,
        };
        let signed = get.authorization(
            "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q",
            "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz",
        );
        assert_eq!(
            signed,
            "q-sign-algorithm=sha1&q-ak=AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q&q-sign-time=1557989753;1557996953\
             &q-key-time=1557989753;1557996953&q-header-list=date;host\
             &q-url-param-list=response-cache-control;response-content-type\
             &q-signature=01681b8c9d798a678e43b685a9f1bba0f6c0e012"
        );
    }
}
