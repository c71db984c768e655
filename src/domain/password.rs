//! Passwords: what a good one is, and how one is kept (Argon2id, OWASP's parameters: 19 MiB, two passes).
//!
//! What a newcomer gets wrong: hashing takes 19 MiB and tens of milliseconds of a core. It belongs on a blocking
//! thread, and few at once.

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};

use super::secret::Secret;
use super::token;

/// In characters.
pub const SHORTEST: usize = 12;
/// In bytes; longer ones cost and add nothing.
pub const LONGEST: usize = 256;

fn argon() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

/// Why this is no password for this account, in words for a person.
pub fn problem(password: &str, name: &str) -> Option<String> {
    let characters = password.chars().count();
    if characters < SHORTEST {
        return Some(format!("a password has at least {SHORTEST} characters"));
    }
    if password.len() > LONGEST {
        return Some(format!("a password has at most {LONGEST} bytes"));
    }
    let lower = password.to_lowercase();
    let first = lower.chars().next();
    let monotonous = lower.chars().all(|c| Some(c) == first);
    let named = lower.contains(name) || lower.contains("callvault");
    if monotonous || named || COMMON.iter().any(|common| lower.starts_with(common)) {
        return Some("this password is among the first that anybody would try".to_owned());
    }
    None
}

/// Beginnings of what lists of leaked passwords have most of at this length.
const COMMON: [&str; 8] = [
    "password",
    "12345678",
    "qwertyui",
    "abcdefgh",
    "1q2w3e4r",
    "iloveyou",
    "administrator",
    "letmein",
];

/// The PHC string of a password, with a salt of its own. `None` when the system has no randomness to give.
pub fn hash(password: &Secret) -> Option<String> {
    let salt = token::new_token()?;
    let salt = &salt.expose().as_bytes()[..32];
    argon()
        .hash_password_with_salt(password.expose().as_bytes(), salt)
        .ok()
        .map(|hash| hash.to_string())
}

/// Whether this is the password of that PHC string. Without one the same work is done for nothing, so that the time
/// does not tell who has an account.
pub fn matches(password: &Secret, hash: Option<&str>) -> bool {
    let known = hash.and_then(|hash| PasswordHash::new(hash).ok());
    match known {
        Some(known) => argon()
            .verify_password(password.expose().as_bytes(), &known)
            .is_ok(),
        None => {
            let mut out = [0_u8; 32];
            let _ = argon().hash_password_into(
                password.expose().as_bytes(),
                b"nobody has this account.",
                &mut out,
            );
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_as_argon2id_and_known_again() {
        let password = Secret::new("correct horse battery staple");
        let kept = hash(&password).unwrap();
        assert!(
            kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{kept}"
        );
        assert!(matches(&password, Some(&kept)));
        assert!(!matches(
            &Secret::new("correct horse battery stapl"),
            Some(&kept)
        ));
        assert!(!matches(&password, None) && !matches(&password, Some("junk")));
        assert_ne!(hash(&password).unwrap(), kept, "each has a salt of its own");
    }

    #[test]
    fn weak_passwords_are_told() {
        for bad in [
            "",
            "short",
            "aaaaaaaaaaaaaaaa",
            "password1234",
            "123456789012",
            "i am ann and that is it",
            "Callvault-2024!",
        ] {
            assert!(problem(bad, "ann").is_some(), "{bad}");
        }
        assert!(problem(&"ü".repeat(200), "ann").is_some());
        for good in ["four words you know", "用 一 句 话 做 密 码 吧"] {
            assert_eq!(problem(good, "ann"), None, "{good}");
        }
    }
}
