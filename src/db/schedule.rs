//! Scheduled runs: a tick is a row, so that many processes may tick and one of them runs.

use crate::domain::clock::Timestamp;

use super::Database;
use super::error::DbError;
use super::rows;
use super::sql::{exec, models, vals};

/// A job that no worker has named for so long is none any more.
const FORGOTTEN_MS: i64 = 7 * 24 * 3_600_000;

/// A run that this process alone may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub name: String,
    pub due_at: Timestamp,
}

/// A job as the workers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub name: String,
    /// Seconds first, in UTC.
    pub cron: String,
    /// When a worker last said that it runs this.
    pub seen_at: Timestamp,
    /// Somebody wants it to run now, and no worker has begun yet.
    pub asked_at: Option<Timestamp>,
    pub asked_by: Option<String>,
}

/// One run of a job, as it was written down.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct RunView {
    pub due_at: Timestamp,
    pub started_at: Timestamp,
    /// Null while it runs, or when its process died.
    pub finished_at: Option<Timestamp>,
    /// What it came to, in English; `failed: ...` when it did not do what it should.
    pub result: Option<String>,
}

impl Database {
    /// The jobs that this process runs, each with its cron line; forgets those that nobody runs any more.
    pub async fn name_jobs(&self, jobs: &[(&str, &str)], now: Timestamp) -> Result<(), DbError> {
        for (name, cron) in jobs {
            exec(
                self.writer(),
                "insert into schedule_job (name, cron, seen_at_ms) values ($1, $2, $3) \
                 on conflict (name) do update set cron = excluded.cron, seen_at_ms = excluded.seen_at_ms",
                vals![*name, *cron, now.ms()],
            )
            .await?;
        }
        exec(
            self.writer(),
            "delete from schedule_job where seen_at_ms < $1",
            vals![now.ms() - FORGOTTEN_MS],
        )
        .await?;
        Ok(())
    }

    /// By name.
    pub async fn jobs(&self) -> Result<Vec<Job>, DbError> {
        let found: Vec<entity::schedule_job::Model> = models(
            self.reader(),
            "select * from schedule_job order by name",
            vec![],
        )
        .await?;
        let jobs = found.into_iter().map(|row| Job {
            name: row.name,
            cron: row.cron,
            seen_at: Timestamp::from_ms(row.seen_at_ms),
            asked_at: rows::at(row.asked_at_ms),
            asked_by: row.asked_by,
        });
        Ok(jobs.collect())
    }

    /// The last runs of a job, the newest first.
    pub async fn last_runs(&self, name: &str, limit: i64) -> Result<Vec<RunView>, DbError> {
        let found: Vec<entity::schedule_run::Model> = models(
            self.reader(),
            "select * from schedule_run where name = $1 order by due_at_ms desc limit $2",
            vals![name, limit],
        )
        .await?;
        let runs = found.into_iter().map(|row| RunView {
            due_at: Timestamp::from_ms(row.due_at_ms),
            started_at: Timestamp::from_ms(row.started_at_ms),
            finished_at: rows::at(row.finished_at_ms),
            result: row.result,
        });
        Ok(runs.collect())
    }

    /// Wants a job to run now. False when there is none of this name.
    pub async fn ask_for_run(&self, name: &str, by: &str, now: Timestamp) -> Result<bool, DbError> {
        let touched = exec(
            self.writer(),
            "update schedule_job set asked_at_ms = $2, asked_by = $3 where name = $1",
            vals![name, now.ms(), by],
        )
        .await?;
        Ok(touched > 0)
    }

    /// Takes a wish over; false when nobody has one, or another process was faster.
    pub async fn take_asked(&self, name: &str) -> Result<bool, DbError> {
        let touched = exec(
            self.writer(),
            "update schedule_job set asked_at_ms = null, asked_by = null \
             where name = $1 and asked_at_ms is not null",
            vals![name],
        )
        .await?;
        Ok(touched > 0)
    }

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
