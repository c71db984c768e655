//! What goes wrong at a vendor's door, as long as it does: for the alarms.

use crate::domain::clock::Timestamp;

use super::Database;
use super::error::DbError;
use super::sql::{all, exec, vals};

/// What was tried at which source, how it failed, and since when it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Empty: the house itself.
    pub source: String,
    /// `list`, `ask`, `draw`, `receive`, `delete` ...
    pub doing: String,
    /// A stable code, such as those of `domain::recording::reason`.
    pub code: String,
    pub since: Timestamp,
    pub last: Timestamp,
}

impl Database {
    /// It failed; with the same code as before it fails since then.
    pub async fn note_fault(
        &self,
        source: &str,
        doing: &str,
        code: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        exec(
            self.writer(),
            "insert into fault (source, doing, code, since_at_ms, last_at_ms) values ($1, $2, $3, $4, $4) \
             on conflict (source, doing) do update set last_at_ms = excluded.last_at_ms, \
             since_at_ms = case when fault.code = excluded.code then fault.since_at_ms \
             else excluded.since_at_ms end, code = excluded.code",
            vals![source, doing, code, now.ms()],
        )
        .await?;
        Ok(())
    }

    /// It worked.
    pub async fn clear_fault(&self, source: &str, doing: &str) -> Result<(), DbError> {
        exec(
            self.writer(),
            "delete from fault where source = $1 and doing = $2",
            vals![source, doing],
        )
        .await?;
        Ok(())
    }

    pub async fn faults(&self) -> Result<Vec<Fault>, DbError> {
        all(
            self.reader(),
            "select source, doing, code, since_at_ms, last_at_ms from fault order by source, doing",
            vec![],
        )
        .await?
        .iter()
        .map(|row| {
            Ok(Fault {
                source: row.try_get_by_index(0)?,
                doing: row.try_get_by_index(1)?,
                code: row.try_get_by_index(2)?,
                since: Timestamp::from_ms(row.try_get_by_index(3)?),
                last: Timestamp::from_ms(row.try_get_by_index(4)?),
            })
        })
        .collect()
    }
}
