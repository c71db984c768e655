//! Turns at the vendors' doors that all processes share: the budget of a source stands in the database.
//!
//! The wait is slept outside any transaction. While the database is away each process keeps the budget
//! by itself: a vendor may then be asked more often than planned, and recordings do not wait for us.

use std::time::Duration;

use async_trait::async_trait;

use crate::db::{Database, DbError};
use crate::domain::clock::SharedClock;
use crate::providers::pace::{LocalPace, Pace, spacing};

/// A turn that the database does not give within this time is taken from the process's own budget.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct DatabasePace {
    db: Database,
    clock: SharedClock,
    own: LocalPace,
}

impl DatabasePace {
    pub fn new(db: Database, clock: SharedClock) -> Self {
        Self {
            db,
            clock,
            own: LocalPace::default(),
        }
    }
}

/// `None` when the database is away; a budget is no reason to stop.
async fn asked<T>(answer: impl Future<Output = Result<T, DbError>>) -> Option<T> {
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::debug!(%error, "shared budget not asked");
            None
        }
        Err(_) => None,
    }
}

#[async_trait]
impl Pace for DatabasePace {
    async fn turn(&self, source: &str, per_second: f64) {
        let spacing = spacing(per_second);
        loop {
            let taken = self.db.take_turn(source, spacing, self.clock.now());
            let Some(wait) = asked(taken).await else {
                return self.own.turn(source, per_second).await;
            };
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait).await;
            // Somebody may have been told to slow down while we slept: then we line up again.
            let closed = asked(self.db.door_closed(source, self.clock.now())).await;
            if closed.is_none_or(|wait| wait.is_zero()) {
                return;
            }
        }
    }

    async fn slow_down(&self, source: &str, wait: Duration) {
        self.own.slow_down(source, wait).await;
        let _ = asked(self.db.close_door(source, wait, self.clock.now())).await;
    }
}
