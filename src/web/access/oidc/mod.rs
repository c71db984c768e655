//! Signing in through a provider of OpenID Connect: authorization code flow with PKCE, state and nonce.
//!
//! What a newcomer gets wrong: the answer is believed in the browser that asked for it alone. A cookie holds 256 random
//! bits; state, nonce and verifier are made of them, and the database knows the hash of the state, once. So an answer
//! that was slipped to somebody, came twice or too late opens nothing, and a copy of the database opens nothing either.

pub mod check;
mod id_token;
mod mapping;
mod pages;
mod provider;
pub mod refusal;
pub mod settings;
mod signature;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::limits::Limits;
use crate::domain::clock::SharedClock;
use crate::domain::digest::Sha256;
use crate::domain::rights::Role;
use crate::domain::secret::Secret;
use crate::providers::http::GuardedClient;

pub use pages::{Button, come_back, leave, left_page, sign_out_there};
use provider::Provider;
use settings::{Local, Settings};

/// Behind `[server] public_url`: what the provider must be told.
pub const BACK: &str = "/sign-in/oidc/back";
/// For a person who looks for the second factor.
const FLOW_MS: i64 = 10 * 60_000;
/// Sign-ins that one address may begin in a minute; offices sit behind one address.
const LEAVES_PER_MINUTE: u32 = 120;

#[derive(Debug)]
pub struct Oidc {
    provider: Provider,
    leaves: Limits,
}

impl Oidc {
    pub fn new(settings: Settings, clock: SharedClock) -> Self {
        Self {
            provider: Provider::new(settings, GuardedClient::new(clock)),
            leaves: Limits::new(LEAVES_PER_MINUTE),
        }
    }

    fn settings(&self) -> &Settings {
        self.provider.settings()
    }

    /// Whether a password opens an account of this role beside the provider.
    pub fn takes_password_of(&self, role: Role) -> bool {
        match self.settings().local_sign_in {
            Local::Everybody => true,
            Local::Administrators => role == Role::Administrator,
        }
    }
}

/// What one sign-in is known by, all made of what its browser keeps.
struct Flow<'a>(&'a Secret);

impl Flow<'_> {
    fn part(&self, what: &str) -> String {
        let text = format!("callvault oidc {what}\n{}", self.0.expose());
        URL_SAFE_NO_PAD.encode(Sha256::of(text.as_bytes()).as_bytes())
    }

    fn state(&self) -> String {
        self.part("state")
    }

    fn nonce(&self) -> String {
        self.part("nonce")
    }

    /// RFC 7636: 43 characters that only this browser and we can know.
    fn verifier(&self) -> String {
        self.part("verifier")
    }

    fn challenge(&self) -> String {
        let hash = Sha256::of(self.verifier().as_bytes());
        URL_SAFE_NO_PAD.encode(hash.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_sign_in_tell_nothing_of_each_other() {
        let (one, two) = (Secret::new("one"), Secret::new("two"));
        let flow = Flow(&one);
        let parts = [
            flow.state(),
            flow.nonce(),
            flow.verifier(),
            flow.challenge(),
            Flow(&two).state(),
        ];
        for (at, part) in parts.iter().enumerate() {
            assert_eq!(part.len(), 43);
            assert!(!parts[..at].contains(part));
        }
    }
}
