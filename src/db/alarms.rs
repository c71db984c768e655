//! Counts behind alarms that need a look at the clock, and who told of which alarm when.

use std::collections::BTreeMap;

use crate::domain::clock::Timestamp;

use super::Database;
use super::error::DbError;
use super::rows;
use super::sql::{all, exec, one, vals};

/// Un-archived work of one source that dies soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dying {
    pub source: String,
    pub recordings: u64,
    pub since: Option<Timestamp>,
}

/// What a source sent us by itself: pushes and queue messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub source: String,
    pub notices: u64,
    pub first: Timestamp,
    pub last: Timestamp,
}

impl Database {
    /// By source: recordings that are not archived, whose vendor deletes them within `within_ms`, and of
    /// whose time less than half is left. Without the second condition a vendor that keeps its files for
    /// a day would be an alarm with every call.
    pub async fn dying(&self, within_ms: i64, now: Timestamp) -> Result<Vec<Dying>, DbError> {
        all(
            self.reader(),
            "select source, count(*), min(arrived_at_ms) from recording \
             where work_class <= 3 and archived_at_ms is null and deadline_at_ms < $2 \
             and (gone_at_ms is not null or (link_until_ms is not null and not link_renewable)) \
             and (deadline_at_ms - $1) * 2 < deadline_at_ms - at_ms group by source order by source",
            vals![now.ms(), now.plus_ms(within_ms).ms()],
        )
        .await?
        .iter()
        .map(|row| {
            let n: i64 = row.try_get_by_index(1)?;
            Ok(Dying {
                source: row.try_get_by_index(0)?,
                recordings: u64::try_from(n).unwrap_or(0),
                since: rows::at(row.try_get_by_index(2)?),
            })
        })
        .collect()
    }

    /// What each source sent by itself, repeats included.
    pub async fn heard(&self) -> Result<Vec<Heard>, DbError> {
        let mut heard: BTreeMap<String, Heard> = BTreeMap::new();
        for row in all(
            self.reader(),
            "select d.source, d.notices + d.repeated, s.first_seen_at_ms, d.last_at_ms from door_counter d \
             join source_seen s on s.source = d.source \
             where d.door in ('push', 'queue') and d.last_at_ms is not null",
            vec![],
        )
        .await?
        {
            let source: String = row.try_get_by_index(0)?;
            let n: i64 = row.try_get_by_index(1)?;
            let first: i64 = row.try_get_by_index(2)?;
            let last: i64 = row.try_get_by_index(3)?;
            let (first, last) = (Timestamp::from_ms(first), Timestamp::from_ms(last));
            let entry = heard.entry(source.clone()).or_insert(Heard {
                source,
                notices: 0,
                first,
                last,
            });
            entry.notices += u64::try_from(n).unwrap_or(0);
            entry.last = entry.last.max(last);
        }
        Ok(heard.into_values().collect())
    }

    /// Takes it upon this process to tell of a reason that nobody told of after `before`.
    pub async fn claim_telling(
        &self,
        code: &str,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let row = one(
            self.writer(),
            "insert into alarm_told (code, told_at_ms) values ($1, $3) \
             on conflict (code) do update set told_at_ms = excluded.told_at_ms \
             where alarm_told.told_at_ms <= $2 returning code",
            vals![code, before.ms(), now.ms()],
        )
        .await?;
        Ok(row.is_some())
    }

    /// It could not be told: as if it had been told at `at`.
    pub async fn telling_failed(&self, code: &str, at: Timestamp) -> Result<(), DbError> {
        exec(
            self.writer(),
            "update alarm_told set told_at_ms = $2 where code = $1",
            vals![code, at.ms()],
        )
        .await?;
        Ok(())
    }
}
