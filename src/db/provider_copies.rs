//! Vendors' copies of archived recordings: which are to be deleted there, and which were.

use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::recording::{State, reason};

use super::Database;
use super::error::DbError;
use super::objects::record;
use super::rows;
use super::sql::{all, exec, one, vals};

impl Database {
    /// Archived recordings of the source, of calls after `since`, of whose copies nobody thought yet: with
    /// the time of archiving.
    pub async fn copies_to_plan(
        &self,
        source: &str,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Uuid, Timestamp)>, DbError> {
        all(
            self.reader(),
            "select recording_id, archived_at_ms from recording r \
             where source = $1 and at_ms >= $2 and state = 'archived' and archived_at_ms is not null \
             and not exists (select 1 from provider_delete p where p.recording_id = r.recording_id) \
             order by at_ms, recording_id limit $3",
            vals![
                source,
                since.ms(),
                i64::try_from(limit).unwrap_or(i64::MAX)
            ],
        )
        .await?
        .iter()
        .map(|row| {
            Ok((
                row.try_get_by_index(0)?,
                Timestamp::from_ms(row.try_get_by_index(1)?),
            ))
        })
        .collect()
    }

    /// The vendor's copy is to be deleted at `at`.
    pub async fn plan_copy(
        &self,
        recording_id: Uuid,
        source: &str,
        at: Timestamp,
    ) -> Result<(), DbError> {
        exec(
            self.writer(),
            "insert into provider_delete (recording_id, source, available_at_ms) values ($1, $2, $3) \
             on conflict (recording_id) do nothing",
            vals![recording_id, source, at.ms()],
        )
        .await?;
        Ok(())
    }

    /// Takes the next copy of the source that is due, until `until`: with the tries before this one.
    pub async fn claim_copy(
        &self,
        source: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<(Uuid, u32)>, DbError> {
        // Two processes that chose the same row: the second finds its time moved on and takes none.
        let row = one(
            self.writer(),
            "update provider_delete set available_at_ms = $2, tries = tries + 1 where recording_id = (\
             select recording_id from provider_delete where source = $1 and deleted_at_ms is null \
             and available_at_ms <= $3 order by available_at_ms, recording_id limit 1) \
             and deleted_at_ms is null and available_at_ms <= $3 returning recording_id, tries - 1",
            vals![source, until.ms(), now.ms()],
        )
        .await?;
        row.map(|row| {
            let tries: i64 = row.try_get_by_index(1)?;
            Ok((row.try_get_by_index(0)?, rows::small(tries)))
        })
        .transpose()
    }

    /// Not now: again at `at`.
    pub async fn put_off_copy(&self, recording_id: Uuid, at: Timestamp) -> Result<(), DbError> {
        exec(
            self.writer(),
            "update provider_delete set available_at_ms = $2 \
             where recording_id = $1 and deleted_at_ms is null",
            vals![recording_id, at.ms()],
        )
        .await?;
        Ok(())
    }

    /// The vendor has no copy any more; `by_us` goes into the recording's history.
    pub async fn mark_copy_deleted(
        &self,
        recording_id: Uuid,
        by_us: bool,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        let touched = exec(
            &txn,
            "update provider_delete set deleted_at_ms = $2 \
             where recording_id = $1 and deleted_at_ms is null",
            vals![recording_id, now.ms()],
        )
        .await?;
        if touched > 0 && by_us {
            let archived = State::Archived;
            let why = Some(reason::DELETED_AT_PROVIDER);
            record(&txn, recording_id, Some(archived), archived, why, now).await?;
        }
        txn.commit().await?;
        Ok(())
    }
}
