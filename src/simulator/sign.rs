//! The vendors' signatures, read from their manuals a second time: Feiyu's MD5 digests, Alibaba's signed addresses,
//! gateway requests (both schemes) and queue requests, Tencent's callbacks, requests and objects.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

/// Feiyu v2 `au`: upper-case hexadecimal MD5 of application id, token and time in milliseconds.
pub fn feiyu_v2(app_id: &str, app_token: &str, ti: &str) -> String {
    md5_hex(&[app_id, app_token, ti])
}

/// Feiyu v3 `signature`: as v2 without the time, so it never changes.
pub fn feiyu_v3(app_id: &str, app_token: &str) -> String {
    md5_hex(&[app_id, app_token])
}

fn md5_hex(parts: &[&str]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part.as_bytes());
    }
    hex::encode_upper(md5.finalize())
}

/// OSS V1 signature of a query-signed request without headers of its own: base64 of HMAC-SHA1 over method, two
/// empty lines, `Expires` and `/bucket/object`.
pub fn oss_v1(secret: &str, method: &str, expires: i64, bucket: &str, object: &str) -> String {
    let text = format!("{method}\n\n\n{expires}\n/{bucket}/{object}");
    STANDARD.encode(hmac_sha1(secret, &text))
}

/// Yunxin `CheckSum` of a message copy: lower-case hexadecimal SHA-1 over secret, MD5 of the body and time.
pub fn yunxin_copy(secret: &str, body: &[u8], cur_time: &str) -> (String, String) {
    let md5 = hex::encode(Md5::digest(body));
    let sum = sha1_hex(&[secret, &md5, cur_time]);
    (md5, sum)
}

/// Yunxin `CheckSum` of a question to the server: secret, nonce and time in seconds.
pub fn yunxin_question(secret: &str, nonce: &str, cur_time: &str) -> String {
    sha1_hex(&[secret, nonce, cur_time])
}

fn sha1_hex(parts: &[&str]) -> String {
    hex::encode(Sha1::digest(parts.concat()))
}

/// RFC 3986 as Alibaba's gateway wants it: every byte but letters, digits and `-_.~` as `%XX`.
pub fn pop_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// All parameters but `Signature`, sorted and encoded.
pub fn pop_query(fields: &[(String, String)]) -> String {
    let mut pairs: Vec<(String, String)> = fields
        .iter()
        .filter(|(name, _)| name != "Signature")
        .map(|(name, value)| (pop_encoded(name), pop_encoded(value)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    pairs.join("&")
}

/// Signature version 1 of Alibaba's RPC gateway: the text that is signed, and its signature.
pub fn pop_v1(secret: &str, method: &str, query: &str) -> (String, String) {
    let text = [method, "%2F", &pop_encoded(query)].join("&");
    let signature = STANDARD.encode(hmac_sha1(&format!("{secret}&"), &text));
    (text, signature)
}

/// ACS3-HMAC-SHA256: the text that is signed, and its signature. `lines` are the signed headers in order.
pub fn pop_acs3(
    secret: &str,
    method: &str,
    query: &str,
    lines: &[(String, String)],
    body: &[u8],
) -> (String, String) {
    let mut canonical = format!("{method}\n/\n{query}\n");
    for (name, value) in lines {
        canonical.push_str(&format!("{name}:{}\n", value.trim()));
    }
    let names: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
    canonical.push_str(&format!("\n{}\n", names.join(";")));
    canonical.push_str(&hex::encode(Sha256::digest(body)));
    let text = format!(
        "ACS3-HMAC-SHA256\n{}",
        hex::encode(Sha256::digest(canonical.as_bytes()))
    );
    // Unwrap safety: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length");
    mac.update(text.as_bytes());
    (text, hex::encode(mac.finalize().into_bytes()))
}

/// A queue request's signature: `head` is method, Content-MD5, Content-Type and date, `own` the `x-mns-` headers,
/// `target` the path and query as they came.
pub fn mns(secret: &str, head: [&str; 4], own: &[(String, String)], target: &str) -> String {
    let mut text = String::new();
    for line in head {
        text.push_str(line);
        text.push('\n');
    }
    let mut own: Vec<_> = own.to_vec();
    own.sort();
    for (name, value) in own {
        text.push_str(&format!("{name}:{value}\n"));
    }
    text.push_str(target);
    STANDARD.encode(hmac_sha1(secret, &text))
}

/// What the simulator puts into an address of its own file server: nobody else can make one.
pub fn link_key(secret: &str, text: &str) -> String {
    hex::encode(hmac_sha1(secret, text))
}

/// TRTC's callback `Sign`: base64 of HMAC-SHA256 over the body as it leaves (document 647/90450).
pub fn trtc_callback(key: &str, body: &[u8]) -> String {
    STANDARD.encode(hmac_sha256(key.as_bytes(), body))
}

/// The legacy recording's `sign`: lower-case hexadecimal MD5 of key and end of time (document 267/32744).
pub fn trtc_legacy(key: &str, t: i64) -> String {
    let mut md5 = Md5::new();
    md5.update(format!("{key}{t}").as_bytes());
    hex::encode(md5.finalize())
}

/// TC3-HMAC-SHA256 over a POST to `/` with content type and host signed (document api/213/30654).
pub fn tc3(
    secret: &str,
    service: &str,
    host: &str,
    mime: &str,
    body: &[u8],
    second: i64,
    date: &str,
) -> String {
    let hashed = hex::encode(Sha256::digest(body));
    let request =
        format!("POST\n/\n\ncontent-type:{mime}\nhost:{host}\n\ncontent-type;host\n{hashed}");
    let text = format!(
        "TC3-HMAC-SHA256\n{second}\n{date}/{service}/tc3_request\n{}",
        hex::encode(Sha256::digest(request.as_bytes()))
    );
    let mut key = format!("TC3{secret}").into_bytes();
    for part in [date, service, "tc3_request"] {
        key = hmac_sha256(&key, part.as_bytes());
    }
    hex::encode(hmac_sha256(&key, text.as_bytes()))
}

/// COS request signature of a GET, the host signed (document 436/7778). `path` is decoded, and so is `query`, whose
/// names are in order.
pub fn cos_get(
    secret: &str,
    path: &str,
    query: &[(String, String)],
    host: &str,
    times: &str,
) -> String {
    let key = hex::encode(hmac_sha1(secret, times));
    let coded = |text: &str| -> String {
        let form: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        // Forms differ from RFC 3986 in three characters.
        form.replace('+', "%20")
            .replace('*', "%2A")
            .replace("%7E", "~")
    };
    let query: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", coded(name).to_lowercase(), coded(value)))
        .collect();
    let request = format!("get\n{path}\n{}\nhost={}\n", query.join("&"), coded(host));
    let hashed = hex::encode(Sha1::digest(request.as_bytes()));
    hex::encode(hmac_sha1(&key, &format!("sha1\n{times}\n{hashed}\n")))
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    // Unwrap safety: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hmac_sha1(secret: &str, text: &str) -> Vec<u8> {
    // Unwrap safety: HMAC takes keys of any length.
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("any key length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP_ID: &str = "A1B2C3D4E5F60718293A4B5C6D7E8F90";
    const APP_TOKEN: &str = "0F1E2D3C4B5A69788796A5B4C3D2E1F0";

    #[test]
    fn feiyu_digests_equal_the_check_values() {
        let v2 = |ti| feiyu_v2(APP_ID, APP_TOKEN, ti);
        assert_eq!(v2("1712345678901"), "A4B97FC92370CECD7ED3C51648CCD8B9");
        assert_eq!(v2("1712346642000"), "657C5AD68DF4E32461590D1C1E72161F");
        assert_eq!(v2("1712346600123"), "97D6A76CE3FEE6A080F38629A352AB4A");
        assert_eq!(
            feiyu_v3(APP_ID, APP_TOKEN),
            "CCDD7C5F4E4FAAB0528450EB4A5C376E"
        );
        // Token and id swapped: another digest.
        assert_eq!(
            feiyu_v2(APP_TOKEN, APP_ID, "1712345678901"),
            "60B2754A499ED77CA144E3A0421FE9CB"
        );
    }

    #[test]
    fn yunxin_check_sums_equal_the_check_values() {
        let (md5, sum) = yunxin_copy("5c0ffee1d3a7", b"{}", "1700000063000");
        assert_eq!(md5, "99914b932bd37a50b983c5e7c90ae93b");
        assert_eq!(sum, "d57a0354cc6a5f6449f915e58b005667105f5258");
        assert_eq!(
            yunxin_question("5c0ffee1d3a7", "12345", "1443592222"),
            "be499d98e80e56a6640c15caa7ee400d8e33c59a"
        );
    }

    #[test]
    fn tencents_signatures_equal_the_printed_ones() {
        let body = "{\n\t\"EventGroupId\":\t2,\n\t\"EventType\":\t204,\n\t\"CallbackTs\":\t1664209748188,\n\t\"EventInfo\":\t{\n\t\t\"RoomId\":\t8489,\n\t\t\"EventTs\":\t1664209748,\n\t\t\"EventMsTs\":\t1664209748180,\n\t\t\"UserId\":\t\"user_85034614\",\n\t\t\"Reason\":\t0\n\t}\n}";
        assert_eq!(
            trtc_callback("123654", body.as_bytes()),
            "kkoFeO3Oh2ZHnjtg8tEAQhtXK16/KI05W3BQff8IvGA="
        );
        let payload = r#"{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}"#;
        let signed = tc3(
            "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
            "cvm",
            "cvm.tencentcloudapi.com",
            "application/json; charset=utf-8",
            payload.as_bytes(),
            1_551_113_065,
            "2019-02-25",
        );
        assert_eq!(
            signed,
            "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"
        );
        assert_eq!(
            trtc_legacy("k7Qw2Zx9Lm4Rt8Vb", 1_700_000_600),
            "bbbc13d6dac03b8fede780d8023cc323"
        );
    }

    #[test]
    fn an_oss_signature_covers_method_time_and_object() {
        let one = oss_v1("secret", "GET", 1_710_216_306, "rec", "a.wav");
        assert_eq!(one.len(), 28);
        for other in [
            oss_v1("secret", "HEAD", 1_710_216_306, "rec", "a.wav"),
            oss_v1("secret", "GET", 1_710_216_307, "rec", "a.wav"),
            oss_v1("secret", "GET", 1_710_216_306, "rec", "b.wav"),
        ] {
            assert_ne!(one, other);
        }
    }
}
