//! Alibaba's three signatures: RPC (HMAC-SHA1), ACS3 (HMAC-SHA256) and MNS. Pure, held to what the vendor's own
//! packages make (tests/fixtures/providers/aliyun/vectors.json).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// RFC 3986: only these stand bare (aliyun.md, section 6).
const BARE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, BARE).to_string()
}

/// Names and values encoded, sorted by name, joined; an empty value keeps its `=`.
pub fn canonical_query<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut params: Vec<_> = params.into_iter().collect();
    params.sort_unstable();
    let pairs = params
        .into_iter()
        .map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// `canonical` holds all query and form parameters but `Signature`.
pub fn rpc_string(method: &str, canonical: &str) -> String {
    format!("{method}&%2F&{}", percent_encode(canonical))
}

pub fn rpc(secret: &str, string: &str) -> String {
    hmac_sha1(&format!("{secret}&"), string)
}

/// The canonical request of ACS3, and the names of the headers that it covers. `headers` are all of those,
/// lower-case.
pub fn acs3_request(
    method: &str,
    canonical_query: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> (String, String) {
    let mut headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.trim()))
        .collect();
    headers.sort_unstable();
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let request = format!(
        "{method}\n/\n{canonical_query}\n{lines}\n{names}\n{}",
        sha256_hex(body)
    );
    (request, names)
}

pub fn acs3_string(canonical_request: &str) -> String {
    format!(
        "ACS3-HMAC-SHA256\n{}",
        sha256_hex(canonical_request.as_bytes())
    )
}

/// The value of `Authorization`.
pub fn acs3(key_id: &str, secret: &str, string: &str, signed_headers: &str) -> String {
    // Unwrap safety: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length");
    mac.update(string.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    format!(
        "ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={signed_headers},Signature={signature}"
    )
}

/// `target` is path and query exactly as they go over the wire; `headers` are all that are sent, lower-case
/// (aliyun.md, section 8).
pub fn mns_string(method: &str, headers: &[(String, String)], target: &str) -> String {
    let value = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name == wanted);
        found.map_or("", |(_, value)| value.as_str())
    };
    let mut own: Vec<_> = headers
        .iter()
        .filter(|(name, _)| name.starts_with("x-mns-"))
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    own.sort_unstable();
    format!(
        "{method}\n{}\n{}\n{}\n{}{target}",
        value("content-md5"),
        value("content-type"),
        value("date"),
        own.concat()
    )
}

/// The value of `Authorization`.
pub fn mns(key_id: &str, secret: &str, string: &str) -> String {
    format!("MNS {key_id}:{}", hmac_sha1(secret, string))
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn hmac_sha1(key: &str, text: &str) -> String {
    // Unwrap safety: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("any key length");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}
