//! Why people want to hear calls: said once for a call, held for a while.

use uuid::Uuid;

use crate::domain::clock::Timestamp;

use super::Database;
use super::error::DbError;
use super::sql::{exec, one, vals};

impl Database {
    /// Keeps a reason, in place of one that was given before. Forgets those whose time is over.
    pub async fn give_reason(
        &self,
        who: &str,
        call_id: Uuid,
        reason: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), DbError> {
        exec(
            self.writer(),
            "delete from given_reason where until_ms <= $1",
            vals![now.ms()],
        )
        .await?;
        exec(
            self.writer(),
            "insert into given_reason (who, call_id, reason, until_ms) values ($1, $2, $3, $4) \
             on conflict (who, call_id) do update set reason = excluded.reason, until_ms = excluded.until_ms",
            vals![who, call_id, reason, until.ms()],
        )
        .await?;
        Ok(())
    }

    /// The reason that still holds.
    pub async fn given_reason(
        &self,
        who: &str,
        call_id: Uuid,
        now: Timestamp,
    ) -> Result<Option<String>, DbError> {
        let row = one(
            self.reader(),
            "select reason from given_reason where who = $1 and call_id = $2 and until_ms > $3",
            vals![who, call_id, now.ms()],
        )
        .await?;
        Ok(row.map(|row| row.try_get_by_index(0)).transpose()?)
    }
}
