//! Calls that should have a recording and have none: whose vendor is asked for them, and when again.

use uuid::Uuid;

use crate::domain::call::CallFacts;
use crate::domain::clock::Timestamp;

use super::Database;
use super::error::DbError;
use super::rows;
use super::sql::{all, exec, vals};

/// A call whose vendor may be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asking {
    pub call_id: Uuid,
    /// Without the legs.
    pub facts: CallFacts,
    pub arrived_at: Timestamp,
    /// Questions so far.
    pub asks: u32,
}

impl Database {
    /// The calls of the source that are due at `due`, the oldest calls first.
    pub async fn calls_to_ask(
        &self,
        source: &str,
        due: Timestamp,
        limit: usize,
    ) -> Result<Vec<Asking>, DbError> {
        all(
            self.reader(),
            "select call_id, facts, arrived_at_ms, asks from call \
             where source = $1 and ask_at_ms <= $2 order by at_ms, call_id limit $3",
            vals![source, due.ms(), i64::try_from(limit).unwrap_or(i64::MAX)],
        )
        .await?
        .iter()
        .map(|row| {
            let facts: String = row.try_get_by_index(1)?;
            Ok(Asking {
                call_id: row.try_get_by_index(0)?,
                facts: rows::call_facts(&facts, Vec::new())?,
                arrived_at: Timestamp::from_ms(row.try_get_by_index(2)?),
                asks: rows::small(row.try_get_by_index(3)?),
            })
        })
        .collect()
    }

    /// The vendor was asked: again at `again`, or never. A call whose recording was announced meanwhile
    /// is not asked for any more.
    pub async fn mark_asked(&self, call_id: Uuid, again: Option<Timestamp>) -> Result<(), DbError> {
        exec(
            self.writer(),
            "update call set asks = asks + 1, ask_at_ms = case when exists (select 1 from recording r \
             where r.call_id = $1 and r.confirmed_at_ms is not null) then null else $2 end \
             where call_id = $1 and ask_at_ms is not null",
            vals![call_id, rows::ms(again)],
        )
        .await?;
        Ok(())
    }
}
