//! Prepared statements that a newer version's migration made useless.
//!
//! PostgreSQL refuses a prepared `select *` once its table has another column ("cached plan must not change
//! result type"), for as long as the connection lives. Old and new processes run together during an upgrade, so
//! the old ones close every connection that is older than the first such refusal, and ask again.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Of the whole process: an error knows no pool, and a process has one database.
static STALE_AT: Mutex<Option<Instant>> = Mutex::new(None);

pub(super) fn are_stale() {
    *STALE_AT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
}

/// Whether a connection of this age was made before.
pub(super) fn are_older_than(age: Duration) -> bool {
    let stale_at = *STALE_AT
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    stale_at.is_some_and(|at| at.elapsed() <= age)
}
