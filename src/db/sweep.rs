//! How far each source's list was read: one process walks a source at a time, and the next one goes on
//! where it ended.

use crate::domain::clock::Timestamp;
use crate::domain::notice::Door;

use super::Database;
use super::error::DbError;
use super::lease::held;
use super::rows;
use super::sql::{all, count, exec, one, vals};

/// The right to walk one source. Every write of a walk names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepLease {
    pub source: String,
    pub token: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// What is new, with an overlap.
    Recent,
    /// As far back as the vendor keeps anything.
    Whole,
    /// What is new in the customer's bucket, with an overlap.
    Bucket,
    /// All of the bucket that was written as far back as the vendor keeps anything.
    BucketWhole,
}

impl Walk {
    pub const fn as_str(self) -> &'static str {
        match self {
            Walk::Recent => "recent",
            Walk::Whole => "whole",
            Walk::Bucket => "bucket",
            Walk::BucketWhole => "bucket_whole",
        }
    }
}

/// Everything before `from` has been read; the walk ends when `from` has come to `to`. A bucket has no list by
/// time: there `from` stays until all pages have been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub from: Timestamp,
    pub to: Timestamp,
    /// The page of the stretch at `from`, or of the bucket, that is read next.
    pub page: Option<String>,
}

impl Cursor {
    pub fn over(from: Timestamp, to: Timestamp) -> Self {
        Self {
            from,
            to,
            page: None,
        }
    }

    pub fn is_open(&self) -> bool {
        self.from < self.to
    }
}

impl Database {
    /// Takes the source's list until `until`; `None` while another process has it.
    pub async fn claim_sweep(
        &self,
        source: &str,
        instance: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<SweepLease>, DbError> {
        exec(
            self.writer(),
            "insert into sweep (source) values ($1) on conflict (source) do nothing",
            vals![source],
        )
        .await?;
        let row = one(
            self.writer(),
            "update sweep set owner = $2, token = token + 1, until_at_ms = $3 \
             where source = $1 and (owner is null or until_at_ms <= $4) returning token",
            vals![source, instance, until.ms(), now.ms()],
        )
        .await?;
        row.map(|row| {
            Ok(SweepLease {
                source: source.to_owned(),
                token: row.try_get_by_index(0)?,
            })
        })
        .transpose()
    }

    pub async fn renew_sweep(&self, lease: &SweepLease, until: Timestamp) -> Result<(), DbError> {
        let touched = exec(
            self.writer(),
            "update sweep set until_at_ms = $3 where source = $1 and token = $2 and owner is not null",
            vals![lease.source.as_str(), lease.token, until.ms()],
        )
        .await?;
        held(touched)
    }

    pub async fn release_sweep(&self, lease: &SweepLease) -> Result<(), DbError> {
        exec(
            self.writer(),
            "update sweep set owner = null where source = $1 and token = $2",
            vals![lease.source.as_str(), lease.token],
        )
        .await?;
        Ok(())
    }

    /// Where the walk stands; `None` before the first.
    pub async fn walk(&self, source: &str, walk: Walk) -> Result<Option<Cursor>, DbError> {
        let row = one(
            self.reader(),
            "select from_at_ms, to_at_ms, page from sweep_walk where source = $1 and walk = $2",
            vals![source, walk.as_str()],
        )
        .await?;
        row.map(|row| {
            Ok(Cursor {
                from: Timestamp::from_ms(row.try_get_by_index(0)?),
                to: Timestamp::from_ms(row.try_get_by_index(1)?),
                page: row.try_get_by_index(2)?,
            })
        })
        .transpose()
    }

    /// Writes down how far the walk has come: only by the holder of the lease.
    pub async fn save_walk(
        &self,
        lease: &SweepLease,
        walk: Walk,
        cursor: &Cursor,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        let touched = exec(
            &txn,
            "update sweep set token = token where source = $1 and token = $2 and owner is not null",
            vals![lease.source.as_str(), lease.token],
        )
        .await?;
        held(touched)?;
        exec(
            &txn,
            "insert into sweep_walk (source, walk, from_at_ms, to_at_ms, page) values ($1, $2, $3, $4, $5) \
             on conflict (source, walk) do update set from_at_ms = excluded.from_at_ms, \
             to_at_ms = excluded.to_at_ms, page = excluded.page",
            vals![
                lease.source.as_str(),
                walk.as_str(),
                cursor.from.ms(),
                cursor.to.ms(),
                cursor.page.clone()
            ],
        )
        .await?;
        txn.commit().await?;
        Ok(())
    }

    /// Recordings of the source that polling found and no notice had announced.
    pub async fn found_by_sweep(&self, source: &str) -> Result<u64, DbError> {
        count(
            self.reader(),
            "select count(*) from recording where source = $1 and found_by = $2",
            vals![source, Door::Poll.as_str()],
        )
        .await
    }

    /// Whether notices of the source are still to be read.
    pub async fn notices_wait(&self, source: &str) -> Result<bool, DbError> {
        let waiting = "select count(*) from (select 1 from notice \
                       where result = 'waiting' and source = $1 limit 1) w";
        Ok(count(self.reader(), waiting, vals![source]).await? > 0)
    }

    /// What is not archived, in the order of work: earliest useful try, and the moment after which the
    /// vendor has it no more. Recordings of which nobody knows that moment are left out.
    pub async fn open_deadlines(
        &self,
        source: &str,
        limit: usize,
    ) -> Result<Vec<(Timestamp, Timestamp)>, DbError> {
        all(
            self.reader(),
            "select coalesce(ready_after_ms, arrived_at_ms), deadline_at_ms from recording \
             where source = $1 and work_class <= 3 and archived_at_ms is null \
             and (gone_at_ms is not null or (link_until_ms is not null and not link_renewable)) \
             order by deadline_at_ms, recording_id limit $2",
            vals![source, i64::try_from(limit).unwrap_or(i64::MAX)],
        )
        .await?
        .iter()
        .map(|row| {
            let ready: Option<i64> = row.try_get_by_index(0)?;
            let ready = rows::at(ready).unwrap_or(Timestamp::from_ms(0));
            Ok((ready, Timestamp::from_ms(row.try_get_by_index(1)?)))
        })
        .collect()
    }
}
