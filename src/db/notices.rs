//! Notices: stored durably before anyone gets an answer, claimed later to be read.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use crate::domain::clock::Timestamp;
use crate::domain::notice::{Door, Notice, NoticeResult};

use super::Database;
use super::error::DbError;
use super::lease;
use super::rows;
use super::sql::{count, exec, list, models, vals};

/// What became of a notice that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    Stored,
    /// The source had sent the same message before; only counted.
    Repeated,
}

/// A notice that this process alone may settle, until its lease runs out.
#[derive(Clone, Debug)]
pub struct ClaimedNotice {
    pub notice: Notice,
    pub token: i64,
}

impl Database {
    /// Stores a notice. When this gives `Ok`, the notice survives a power cut.
    pub async fn add_notice(&self, notice: Notice) -> Result<Added, DbError> {
        self.inner.batcher.add(notice).await
    }

    /// Counts a message that was refused; written with the next batch, lost with the process.
    pub fn count_refused(&self, source: &str, door: Door) {
        self.inner.batcher.refused(source, door);
    }

    /// Takes up to `limit` waiting notices of these sources, oldest first.
    pub async fn claim_notices(
        &self,
        limit: usize,
        instance: &str,
        sources: &[String],
        now: Timestamp,
        lease: Duration,
    ) -> Result<Vec<ClaimedNotice>, DbError> {
        let claimed: Vec<entity::notice::Model> = models(
            self.writer(),
            lease::claim_notices_sql(self.writer(), sources.len()),
            lease::claim_values(now, now.plus(lease), instance, limit, sources),
        )
        .await?;
        let mut claimed = claimed
            .into_iter()
            .map(|row| {
                Ok(ClaimedNotice {
                    token: row.lease_token,
                    notice: rows::notice(row)?,
                })
            })
            .collect::<Result<Vec<_>, DbError>>()?;
        claimed.sort_by_key(|c| (c.notice.arrived_at, c.notice.notice_id));
        Ok(claimed)
    }

    /// Keeps the notice as not understood, with the reason.
    pub async fn mark_unreadable(
        &self,
        claimed: &ClaimedNotice,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let result = NoticeResult::Unreadable;
        settle_notice(self.writer(), claimed, result, Some(reason), now).await
    }

    /// Understood, and says nothing about a call.
    pub async fn mark_ignored(
        &self,
        claimed: &ClaimedNotice,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let result = NoticeResult::Ignored;
        settle_notice(self.writer(), claimed, result, Some(reason), now).await
    }

    /// Hands a claimed notice back unread.
    pub async fn release_notice(
        &self,
        claimed: &ClaimedNotice,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let touched = exec(
            self.writer(),
            "update notice set lease_owner = null, available_at_ms = $3 \
             where notice_id = $1 and lease_token = $2 and result = 'waiting'",
            vals![claimed.notice.notice_id, claimed.token, now.ms()],
        )
        .await?;
        lease::held(touched)
    }

    /// No notice waits to be read, of whatever source.
    pub async fn all_notices_read(&self) -> Result<bool, DbError> {
        let waiting =
            "select count(*) from (select 1 from notice where result = 'waiting' limit 1) w";
        Ok(count(self.reader(), waiting, vec![]).await? == 0)
    }

    /// Imported rows wait to be read.
    pub async fn any_import_waiting(&self) -> Result<bool, DbError> {
        let waiting = format!(
            "select count(*) from (select 1 from notice where result = 'waiting' and {} = 1 limit 1) w",
            lease::NOTICE_ORDER
        );
        Ok(count(self.reader(), waiting, vec![]).await? > 0)
    }

    pub async fn count_notices_of(&self, source: &str) -> Result<u64, DbError> {
        let of_source = "select count(*) from notice where source = $1";
        count(self.reader(), of_source, vals![source]).await
    }

    /// Unreadable notices of these sources wait again: for a better parser.
    pub async fn read_again(&self, sources: &[String], now: Timestamp) -> Result<u64, DbError> {
        let mut values = vals![now.ms()];
        values.extend(sources.iter().map(|s| s.as_str().into()));
        exec(
            self.writer(),
            format!(
                "update notice set result = 'waiting', detail = null, read_at_ms = null, \
                 available_at_ms = $1 where result = 'unreadable' and source in {}",
                list(2, sources.len())
            ),
            values,
        )
        .await
    }
}

/// Ends the reading of a claimed notice, within the transaction that writes what it said.
pub(super) async fn settle_in(
    txn: &DatabaseTransaction,
    claimed: &ClaimedNotice,
    result: NoticeResult,
    detail: Option<&str>,
    now: Timestamp,
) -> Result<(), DbError> {
    settle_notice(txn, claimed, result, detail, now).await
}

async fn settle_notice<C: ConnectionTrait>(
    c: &C,
    claimed: &ClaimedNotice,
    result: NoticeResult,
    detail: Option<&str>,
    now: Timestamp,
) -> Result<(), DbError> {
    let touched = exec(
        c,
        "update notice set result = $3, detail = $4, read_at_ms = $5, lease_owner = null \
         where notice_id = $1 and lease_token = $2 and result = 'waiting'",
        vals![
            claimed.notice.notice_id,
            claimed.token,
            result.as_str(),
            detail.map(str::to_owned),
            now.ms()
        ],
    )
    .await?;
    lease::held(touched)
}
