//! How far each backfill has come: written after each page, read by the next start.

use std::time::Duration;

use super::Database;
use super::error::DbError;
use super::sql::{all, count, exec, list, one, vals};
use crate::domain::clock::Timestamp;

impl Database {
    /// Where a backfill that did not finish goes on; `None`: from the start.
    pub async fn backfill_cursor(
        &self,
        source: &str,
        plan: &str,
    ) -> Result<Option<String>, DbError> {
        let row = one(
            self.reader(),
            "select cursor from backfill where source = $1 and plan = $2",
            vals![source, plan],
        )
        .await?;
        Ok(row.map(|row| row.try_get_by_index(0)).transpose()?)
    }

    /// Everything before `cursor` is durable.
    pub async fn set_backfill_cursor(
        &self,
        source: &str,
        plan: &str,
        cursor: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        exec(
            self.writer(),
            "insert into backfill (source, plan, cursor, updated_at_ms) values ($1, $2, $3, $4) \
             on conflict (source, plan) do update set cursor = excluded.cursor, \
             updated_at_ms = excluded.updated_at_ms",
            vals![source, plan, cursor, now.ms()],
        )
        .await?;
        Ok(())
    }

    /// The backfill is through: the next one of the same plan begins anew.
    pub async fn end_backfill(&self, source: &str, plan: &str) -> Result<(), DbError> {
        exec(
            self.writer(),
            "delete from backfill where source = $1 and plan = $2",
            vals![source, plan],
        )
        .await?;
        Ok(())
    }

    /// Recordings of a source that are still to be fetched.
    pub async fn count_to_fetch(&self, source: &str) -> Result<u64, DbError> {
        count(
            self.reader(),
            "select count(*) from recording where source = $1 and state in ('pending', 'staged')",
            vals![source],
        )
        .await
    }

    /// Notices of a source that nobody has read yet.
    pub async fn count_unread(&self, source: &str) -> Result<u64, DbError> {
        count(
            self.reader(),
            "select count(*) from notice where result = 'waiting' and source = $1",
            vals![source],
        )
        .await
    }

    /// Which of these keys the source told before.
    pub async fn known_notices(&self, source: &str, keys: &[&str]) -> Result<Vec<String>, DbError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "select dedup_key from notice where source = $1 and dedup_key in {}",
            list(2, keys.len())
        );
        let mut values = vals![source];
        values.extend(keys.iter().map(|key| sea_orm::Value::from(*key)));
        let rows = all(self.reader(), sql, values).await?;
        let keys = rows.iter().map(|row| Ok(row.try_get_by_index(0)?));
        keys.collect()
    }

    /// What was archived of a source lately, over the time in which something of it waited that could have been
    /// fetched at any moment; `None` when nothing waits.
    pub async fn seen_while_waiting(
        &self,
        source: &str,
        now: Timestamp,
        within: Duration,
    ) -> Result<Option<Seen>, DbError> {
        let row = one(
            self.reader(),
            "select min(arrived_at_ms) from recording where work_class <= 3 and source || '' = $1 \
             and available_at_ms <= $2 and failures = 0 and not_ready_tries = 0 and lease_owner is null",
            vals![source, now.ms()],
        )
        .await?;
        let oldest: Option<i64> = row
            .map(|row| row.try_get_by_index(0))
            .transpose()?
            .flatten();
        let Some(oldest) = oldest else {
            return Ok(None);
        };
        let within = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        let from = oldest.max(now.ms().saturating_sub(within));
        let recordings = count(
            self.reader(),
            "select count(*) from recording where source = $1 and archived_at_ms >= $2",
            vals![source, from],
        )
        .await?;
        Ok(Some(Seen {
            recordings,
            elapsed_ms: now.ms() - from,
        }))
    }
}

/// Recordings that were archived within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub recordings: u64,
    pub elapsed_ms: i64,
}
