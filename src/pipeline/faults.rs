//! Remembers for the alarms what fails at a vendor's door, and forgets it when it works again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::db::Database;
use crate::domain::clock::SharedClock;
use crate::domain::recording::reason;
use crate::providers::contract::{ProviderError, ProviderErrorKind};

/// Source and what was tried; the code of its failure, `None` when it worked.
type Seen = BTreeMap<(String, &'static str), Option<&'static str>>;

/// Cheap to clone; all clones know the same.
#[derive(Clone, Debug)]
pub struct Faults {
    db: Database,
    clock: SharedClock,
    /// What this process saw last, so that success after success writes nothing.
    last: Arc<Mutex<Seen>>,
}

impl Faults {
    pub fn new(db: Database, clock: SharedClock) -> Self {
        Self {
            db,
            clock,
            last: Arc::default(),
        }
    }

    /// How a call of the vendor's door ended; `doing` is one of `list`, `ask`, `list_bucket`,
    /// `ask_bucket`, `draw`, `delete`. What cannot be written down now is written with the next failure.
    pub async fn saw(&self, source: &str, doing: &'static str, failed: Option<&ProviderError>) {
        self.saw_code(source, doing, failed.map(code)).await;
    }

    /// The same for what is not the vendor's fault.
    pub async fn saw_code(&self, source: &str, doing: &'static str, code: Option<&'static str>) {
        let key = (source.to_owned(), doing);
        let known = self.lock().get(&key).copied();
        let written = match code {
            None if known == Some(None) => return,
            None => self.db.clear_fault(source, doing).await,
            Some(code) => {
                let now = self.clock.now();
                self.db.note_fault(source, doing, code, now).await
            }
        };
        match written {
            Ok(()) => {
                self.lock().insert(key, code);
            }
            Err(error) => {
                self.lock().remove(&key);
                tracing::debug!(source, doing, %error, "fault not written down");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the words of `domain::recording::reason`.
pub fn code(error: &ProviderError) -> &'static str {
    match error.kind {
        ProviderErrorKind::Throttled => reason::THROTTLED,
        ProviderErrorKind::CredentialsRefused => reason::CREDENTIALS_REFUSED,
        ProviderErrorKind::CannotListBucket => CANNOT_LIST_BUCKET,
        ProviderErrorKind::Unreachable => reason::PROVIDER_UNREACHABLE,
        ProviderErrorKind::BadAnswer => BAD_ANSWER,
    }
}

/// The credentials are good, and may not list the customer's bucket.
pub const CANNOT_LIST_BUCKET: &str = "cannot_list_bucket";
/// An answer came and made no sense.
pub const BAD_ANSWER: &str = "bad_answer";
