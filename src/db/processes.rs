//! Which processes serve or work on this database, so that nothing is switched under them.
//!
//! What a newcomer gets wrong: a process registers first and looks afterwards whether it may run. Registering and
//! switching lock the same row, so one of them comes second and sees what the other did.

use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use crate::domain::clock::Timestamp;

use super::Database;
use super::error::DbError;
use super::sql::{all, exec, vals};

/// A process that was not seen for so long is gone, or finds out that it was taken for gone before it changes anything.
pub const GONE_AFTER_MS: i64 = 60_000;

/// A process as it wrote itself down.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ProcessRow {
    pub process_id: Uuid,
    pub machine: String,
    /// `serve`, `web` or `worker`.
    pub parts: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
}

/// Locks the row that registering and switching have in common.
pub(super) async fn lock_processes(txn: &DatabaseTransaction) -> Result<(), DbError> {
    exec(
        txn,
        "insert into installation (name, value) values ('processes', '1') \
         on conflict (name) do update set value = excluded.value",
        vec![],
    )
    .await?;
    Ok(())
}

pub(super) async fn running<C: sea_orm::ConnectionTrait>(
    c: &C,
    now: Timestamp,
) -> Result<Vec<ProcessRow>, DbError> {
    all(
        c,
        "select process_id, machine, parts, started_at_ms, seen_at_ms from process \
         where seen_at_ms > $1 order by started_at_ms, process_id",
        vals![now.ms() - GONE_AFTER_MS],
    )
    .await?
    .iter()
    .map(|row| {
        Ok(ProcessRow {
            process_id: row.try_get_by_index(0)?,
            machine: row.try_get_by_index(1)?,
            parts: row.try_get_by_index(2)?,
            started_at: Timestamp::from_ms(row.try_get_by_index(3)?),
            seen_at: Timestamp::from_ms(row.try_get_by_index(4)?),
        })
    })
    .collect()
}

impl Database {
    /// This process runs from now on; rows of those that are long gone are taken away.
    pub async fn register_process(
        &self,
        process_id: Uuid,
        machine: &str,
        parts: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        lock_processes(&txn).await?;
        let long_gone = now.ms() - 10 * GONE_AFTER_MS;
        exec(
            &txn,
            "delete from process where seen_at_ms < $1",
            vals![long_gone],
        )
        .await?;
        exec(
            &txn,
            "insert into process (process_id, machine, parts, started_at_ms, seen_at_ms) \
             values ($1, $2, $3, $4, $4)",
            vals![process_id, machine, parts, now.ms()],
        )
        .await?;
        txn.commit().await?;
        Ok(())
    }

    /// False: the row is gone, this process was taken for dead.
    pub async fn process_is_seen(&self, process_id: Uuid, now: Timestamp) -> Result<bool, DbError> {
        let sql = "update process set seen_at_ms = $2 where process_id = $1";
        Ok(exec(self.writer(), sql, vals![process_id, now.ms()]).await? > 0)
    }

    pub async fn forget_process(&self, process_id: Uuid) -> Result<(), DbError> {
        let sql = "delete from process where process_id = $1";
        exec(self.writer(), sql, vals![process_id]).await?;
        Ok(())
    }

    /// Those that were seen within [`GONE_AFTER_MS`], the oldest first.
    pub async fn running_processes(&self, now: Timestamp) -> Result<Vec<ProcessRow>, DbError> {
        running(self.reader(), now).await
    }
}
