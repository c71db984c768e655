//! The vendor's two check sums: of the copies it sends us, and of the questions we send it.

use md5::Md5;
use sha1::{Digest as _, Sha1};

use crate::domain::clock::Timestamp;
use crate::domain::secret::Secret;

/// `CheckSum` of a message copy: SHA-1 over secret, MD5 of the raw body in lower-case hex, and `CurTime`
/// (netease.md, section 2). The `MD5` header plays no part: the vendor's own demo computes it too.
pub fn of_copy(secret: &Secret, body: &[u8], cur_time: &str) -> String {
    let body = hex::encode(Md5::digest(body));
    joined(&[secret.expose(), &body, cur_time])
}

/// The headers of a question (netease.md, section 6): `CurTime` in whole seconds, good for 5 minutes.
pub fn of_question(
    app_key: &str,
    secret: &Secret,
    nonce: &str,
    now: Timestamp,
) -> [(&'static str, String); 4] {
    let time = now.ms().div_euclid(1000).to_string();
    let sum = joined(&[secret.expose(), nonce, &time]);
    [
        ("AppKey", app_key.to_owned()),
        ("Nonce", nonce.to_owned()),
        ("CurTime", time),
        ("CheckSum", sum),
    ]
}

/// Whether an offered check sum is the right one, in constant time; the digits' case does not matter.
pub fn fits(expected: &str, offered: &str) -> bool {
    Secret::new(expected).matches(&offered.trim().to_ascii_lowercase())
}

fn joined(parts: &[&str]) -> String {
    let mut sha1 = Sha1::new();
    for part in parts {
        sha1.update(part.as_bytes());
    }
    hex::encode(sha1.finalize())
}
