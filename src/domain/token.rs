//! Secrets that we make: 256 random bits as text, of which we keep the hash alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;

use super::digest::Sha256;
use super::secret::Secret;

/// What all tokens for scripts begin with, so that scanners for leaked secrets know one when they see it.
pub const API_PREFIX: &str = "cvt_";

/// A new token: 43 characters of `[A-Za-z0-9_-]`. `None` when the system has no randomness to give.
pub fn new_token() -> Option<Secret> {
    let mut bytes = [0_u8; 32];
    OsRng.try_fill_bytes(&mut bytes).ok()?;
    Some(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// The same with the prefix of tokens for scripts.
pub fn new_api_token() -> Option<Secret> {
    new_token().map(|token| Secret::new(format!("{API_PREFIX}{}", token.expose())))
}

/// What is kept of a token. One hash is enough: nobody guesses 256 bits, however fast.
pub fn hash(token: &str) -> Sha256 {
    Sha256::of(token.as_bytes())
}

/// What forms of a session carry, so that another site's page cannot send them: made of the session's token,
/// which no page ever sees.
pub fn form_word(session_token: &str) -> String {
    Sha256::of(format!("callvault form word\n{session_token}").as_bytes()).hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let (a, b) = (new_token().unwrap(), new_token().unwrap());
        assert_eq!(a.expose().len(), 43);
        assert_ne!(a.expose(), b.expose());
        let api = new_api_token().unwrap();
        assert!(api.expose().starts_with("cvt_") && api.expose().len() == 47);
    }

    #[test]
    fn the_word_of_forms_is_neither_the_token_nor_its_stored_hash() {
        let word = form_word("token");
        assert_ne!(word, hash("token").hex());
        assert_ne!(word, form_word("tokem"));
        assert_eq!(word.len(), 64);
    }
}
