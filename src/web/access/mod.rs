//! Who may read and who may do what: accounts with sessions, tokens, and before there are any the rule of
//! `wire` (CONTRACTS, section 2).
//!
//! What a newcomer gets wrong: being let in says nothing yet. The door tells the handlers who it is (`Reader`); each
//! handler asks for its right, and the database narrows what it gives out to the reader's scope.

pub mod account;
pub mod admin;
mod cookie;
pub mod door;
pub mod govern;
mod limits;
pub mod oidc;
mod reader;
pub mod settings;
mod shell;
pub mod sign_in;
pub mod wire;
pub mod words;

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};

use tokio::sync::Semaphore;

pub use door::readers_only;
pub use reader::{Reader, SignedIn};

use crate::domain::clock::SharedClock;
use crate::domain::secret::Secret;
use limits::Limits;
use settings::Settings;

/// Both ends of a connection, put beside every request by the listener.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// What the listener is bound to, not where this connection arrived.
    pub listener: SocketAddr,
    pub peer: SocketAddr,
}

/// Passwords hashed at once: each takes 19 MiB and a core.
const HASHING: usize = 2;
/// Tries to sign in of one address in a minute; offices sit behind one address.
const TRIES_PER_MINUTE: u32 = 30;

/// What the door remembers between requests.
#[derive(Debug)]
pub struct Doorkeeper {
    /// Once there is an account there always is: they are disabled, never deleted.
    has_accounts: AtomicBool,
    requests: Limits,
    tries: Limits,
    hashing: Semaphore,
    /// The provider of OpenID Connect, where one is configured.
    oidc: Option<oidc::Oidc>,
}

impl Doorkeeper {
    pub fn new(settings: &Settings, clock: &SharedClock) -> Self {
        let oidc = settings.oidc.clone();
        Self {
            // Whoever names a provider wants people to sign in, from the first on.
            has_accounts: AtomicBool::new(oidc.is_some()),
            oidc: oidc.map(|oidc| oidc::Oidc::new(oidc, clock.clone())),
            requests: Limits::new(settings.token_requests_per_minute),
            tries: Limits::new(TRIES_PER_MINUTE),
            hashing: Semaphore::new(HASHING),
        }
    }
}

/// The token that readers show; replaced while the server runs when the configuration is read again.
#[derive(Clone, Debug, Default)]
pub struct ApiToken(Arc<RwLock<Option<Arc<Secret>>>>);

impl ApiToken {
    pub fn new(token: Option<Secret>) -> Self {
        let cell = Self::default();
        cell.replace(token);
        cell
    }

    /// From the next request on; `None` lets this very machine alone read.
    pub fn replace(&self, token: Option<Secret>) {
        let token = token.map(Arc::new);
        match self.0.write() {
            Ok(mut guard) => *guard = token,
            Err(poisoned) => *poisoned.into_inner() = token,
        }
    }

    fn now(&self) -> Option<Arc<Secret>> {
        match self.0.read() {
            Ok(guard) => guard.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }
}
