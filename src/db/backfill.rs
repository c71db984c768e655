//! How far each backfill has come: written after each page, read by the next start.

use super::Database;
use super::error::DbError;
use super::sql::{count, exec, one, vals};
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
}
