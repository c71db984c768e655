//! What can go wrong in the database, in words that tell the caller what may still be done.

use std::time::Duration;

use sea_orm::sqlx;
use sea_orm::{DbErr, RuntimeErr};

use crate::domain::retry::RetryAdvice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbErrorKind {
    /// No connection, no answer in time, read-only, or the disk is full: later it may work.
    Unavailable,
    /// Another writer was in the way: the same again may work at once.
    Busy,
    /// A row with this key exists.
    Conflict,
    /// The values themselves are not to the database's taste: no repetition makes it take them.
    Refused,
    /// Somebody else holds the lease, or the row is not in the state it must be: stop at once.
    LeaseLost,
    /// Tables are missing, or made by a newer version.
    Schema,
    /// A cursor that this version did not make.
    BadCursor,
    Other,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct DbError {
    kind: DbErrorKind,
    detail: String,
}

impl DbError {
    pub(crate) fn new(kind: DbErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }

    pub(super) fn lease_lost() -> Self {
        Self::new(DbErrorKind::LeaseLost, "the lease is held by somebody else")
    }

    /// A value in a row that this version does not know.
    pub(super) fn unknown(what: &str, value: impl std::fmt::Display) -> Self {
        Self::new(
            DbErrorKind::Other,
            format!("a row holds the {what} {value:.40}, which this version does not know"),
        )
    }

    pub fn kind(&self) -> DbErrorKind {
        self.kind
    }

    pub fn is_lease_lost(&self) -> bool {
        self.kind == DbErrorKind::LeaseLost
    }

    /// The database cannot be used at this moment; what waits may wait on.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.kind, DbErrorKind::Unavailable | DbErrorKind::Busy)
    }

    /// Another writer was in the way: the same again may work at once.
    pub fn is_busy(&self) -> bool {
        self.kind == DbErrorKind::Busy
    }

    /// No repetition makes it work: what was to be written is not to the database's taste. A list of what is
    /// known to be so; anything else (a damaged file, missing rights, a pooler between) is about the place.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind, DbErrorKind::Conflict | DbErrorKind::Refused)
    }

    pub fn is_bad_cursor(&self) -> bool {
        self.kind == DbErrorKind::BadCursor
    }

    pub fn advice(&self) -> RetryAdvice {
        match self.kind {
            DbErrorKind::Unavailable => RetryAdvice::Backoff,
            DbErrorKind::Busy => RetryAdvice::After(Duration::from_millis(50)),
            DbErrorKind::Conflict
            | DbErrorKind::Refused
            | DbErrorKind::LeaseLost
            | DbErrorKind::Schema
            | DbErrorKind::BadCursor
            | DbErrorKind::Other => RetryAdvice::Never,
        }
    }

    /// The same transaction may succeed when it is run again: two writers met.
    pub(super) fn is_race(&self) -> bool {
        matches!(self.kind, DbErrorKind::Busy | DbErrorKind::Conflict)
    }
}

impl From<DbErr> for DbError {
    fn from(error: DbErr) -> Self {
        let kind = match &error {
            DbErr::Conn(RuntimeErr::SqlxError(inner))
            | DbErr::Exec(RuntimeErr::SqlxError(inner))
            | DbErr::Query(RuntimeErr::SqlxError(inner)) => kind_of(inner),
            DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => DbErrorKind::Unavailable,
            DbErr::Migration(_) => DbErrorKind::Schema,
            _ => DbErrorKind::Other,
        };
        Self::new(kind, format!("database: {error}"))
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        Self::new(kind_of(&error), format!("database: {error}"))
    }
}

fn kind_of(error: &sqlx::Error) -> DbErrorKind {
    use sqlx::Error as E;
    match error {
        E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
            DbErrorKind::Unavailable
        }
        E::Database(inner) => match inner.code().as_deref() {
            // Another version has grown a table that this connection had asked before: a new one asks anew.
            Some("0A000") if inner.message().starts_with("cached plan") => {
                super::plans::are_stale();
                DbErrorKind::Busy
            }
            Some(code) if code.len() == 5 => of_postgres(code),
            Some(code) => of_sqlite(code, inner.message()),
            None => DbErrorKind::Other,
        },
        E::Encode(_) => DbErrorKind::Refused,
        _ => DbErrorKind::Other,
    }
}

/// PostgreSQL manual, appendix A.
fn of_postgres(code: &str) -> DbErrorKind {
    match code {
        "23505" => DbErrorKind::Conflict,
        "40001" | "40P01" | "55P03" => DbErrorKind::Busy,
        // Read-only transaction, statement timeout, shutting down or starting up, wrong password.
        "25006" | "57014" | "28P01" | "28000" | "3D000" => DbErrorKind::Unavailable,
        "42P01" | "42703" | "3F000" => DbErrorKind::Schema,
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") => {
            DbErrorKind::Unavailable
        }
        // Data exceptions and broken constraints; and a value too long for an index.
        _ if code.starts_with("22") || code.starts_with("23") || code == "54000" => {
            DbErrorKind::Refused
        }
        _ => DbErrorKind::Other,
    }
}

/// SQLite, "Result and Error Codes"; the extended code's low byte is the primary one.
fn of_sqlite(code: &str, message: &str) -> DbErrorKind {
    let code: i64 = code.parse().unwrap_or(0);
    match (code, code & 0xff) {
        (1555 | 2067, _) => DbErrorKind::Conflict,
        (_, 5 | 6) => DbErrorKind::Busy,
        // READONLY, IOERR, FULL, CANTOPEN
        (_, 8 | 10 | 13 | 14) => DbErrorKind::Unavailable,
        (_, 1) if message.contains("no such table") || message.contains("no such column") => {
            DbErrorKind::Schema
        }
        // TOOBIG, CONSTRAINT, MISMATCH
        (_, 18..=20) => DbErrorKind::Refused,
        _ => DbErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_values_is_refused_for_good() {
        let is_refusal = |kind: DbErrorKind| DbError::new(kind, "").is_refusal();
        for (code, refused) in [
            ("22001", true),
            ("22021", true),
            ("23502", true),
            ("23505", true),
            ("23514", true),
            ("54000", true),
            // Rights, a damaged file, internal errors, poolers, read-only, a full disk, a lost feature.
            ("42501", false),
            ("XX000", false),
            ("XX001", false),
            ("0A000", false),
            ("08P01", false),
            ("26000", false),
            ("25006", false),
            ("53100", false),
            ("58030", false),
            ("P0001", false),
            ("42P01", false),
        ] {
            assert_eq!(is_refusal(of_postgres(code)), refused, "{code}");
        }
        for (code, refused) in [
            // TOOBIG; CONSTRAINT and some of its extended codes; MISMATCH.
            ("18", true),
            ("19", true),
            ("275", true),
            ("1299", true),
            ("1811", true),
            ("2067", true),
            ("20", true),
            // ERROR, PERM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, AUTH, NOTADB.
            ("1", false),
            ("3", false),
            ("8", false),
            ("10", false),
            ("11", false),
            ("267", false),
            ("13", false),
            ("14", false),
            ("23", false),
            ("26", false),
        ] {
            assert_eq!(is_refusal(of_sqlite(code, "")), refused, "{code}");
        }
        assert!(!is_refusal(DbErrorKind::Other));
    }
}
