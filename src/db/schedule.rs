//! Scheduled runs: a tick is a row, so that many processes may tick and one of them runs.

use crate::domain::clock::Timestamp;

use super::Database;
use super::error::DbError;
use super::sql::{exec, vals};

/// A run that this process alone may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub name: String,
    pub due_at: Timestamp,
}

impl Database {
    /// Claims the run of `name` that is due at `due_at`; `None` when another process has it.
    pub async fn tick(
        &self,
        name: &str,
        due_at: Timestamp,
        instance: &str,
        now: Timestamp,
    ) -> Result<Option<Run>, DbError> {
        let inserted = exec(
            self.writer(),
            "insert into schedule_run (name, due_at_ms, instance, started_at_ms) \
             values ($1, $2, $3, $4) on conflict (name, due_at_ms) do nothing",
            vals![name, due_at.ms(), instance, now.ms()],
        )
        .await?;
        Ok((inserted > 0).then(|| Run {
            name: name.to_owned(),
            due_at,
        }))
    }

    /// Writes down what the run came to.
    pub async fn finish_run(&self, run: &Run, result: &str, now: Timestamp) -> Result<(), DbError> {
        exec(
            self.writer(),
            "update schedule_run set finished_at_ms = $3, result = $4 \
             where name = $1 and due_at_ms = $2",
            vals![run.name.as_str(), run.due_at.ms(), now.ms(), result],
        )
        .await?;
        Ok(())
    }
}
