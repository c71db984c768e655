//! A PostgreSQL that is away when we start: the process opens its doors, and the pool lets nobody through before
//! the schema was looked at.
//!
//! What a newcomer gets wrong: a server that comes up in the middle may have another schema, or belong to another
//! archive. Until [`Database::admit`] every question fails as if the server were still away, so notices go on to
//! the journal.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sea_orm::{SqlxPostgresConnector, sqlx};

use crate::domain::clock::SharedClock;

use super::Database;
use super::connect::{plain_try, postgres_options, postgres_pool};
use super::error::DbError;
use super::settings::Settings;

/// Open once schema and archive were found right.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<AtomicBool>);

impl Database {
    /// A PostgreSQL that may come up later, without waiting for it; `None` when it is there, when it says what is
    /// wrong (a password, a name), or when it is no PostgreSQL.
    pub async fn later(settings: &Settings, base_dir: &Path, clock: &SharedClock) -> Option<Self> {
        if settings.file(base_dir).is_some() {
            return None;
        }
        let options = postgres_options(settings.url.expose()).ok()?;
        if !is_away(&plain_try(&options).await.err()?) {
            return None;
        }
        let gate = Gate::default();
        let seen = gate.clone();
        let pool = postgres_pool()
            .after_connect(move |_, _| {
                let is_open = seen.0.load(Ordering::Acquire);
                Box::pin(async move {
                    if is_open {
                        Ok(())
                    } else {
                        Err(sqlx::Error::PoolClosed)
                    }
                })
            })
            .connect_lazy_with(options);
        let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
        let (writer, reader) = (connection.clone(), connection);
        Some(Self::over(writer, reader, clock.clone(), None, Some(gate)))
    }

    /// One look whether the server answers at all.
    pub async fn is_away(settings: &Settings) -> Result<bool, DbError> {
        let options = postgres_options(settings.url.expose())?;
        Ok(matches!(plain_try(&options).await, Err(error) if is_away(&error)))
    }

    /// Lets questions through from now on.
    pub fn admit(&self) {
        if let Some(gate) = &self.inner.gate {
            gate.0.store(true, Ordering::Release);
        }
    }
}

/// Nothing listens, nothing answers, or the server says that it starts, stops or is full. A wrong password or name
/// is for the operator, at once.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(told) => told.code().is_some_and(|code| {
            code.starts_with("57P") || code.starts_with("08") || code.starts_with("53")
        }),
        _ => false,
    }
}
