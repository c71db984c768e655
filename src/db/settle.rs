//! The end of a lease: the one place where a verdict becomes the row's next state and next try.

use sea_orm::{ConnectionTrait, DatabaseTransaction};
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::deadlines::WorkClass;
use crate::domain::recording::{Event, Part, State};

use super::Database;
use super::connect::for_update;
use super::doubles;
use super::error::DbError;
use super::lease::guarded;
use super::objects::{impossible, record, step};
use super::pairs;
use super::recordings::{Count, Lease, Settle};
use super::rows;
use super::sql::{count, exec, models, vals};

type Row = entity::recording::Model;

impl Database {
    /// Ends the lease with a verdict. An error of kind `LeaseLost` means that nothing was changed.
    pub async fn settle(
        &self,
        lease: &Lease,
        settle: Settle,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        let before = guarded(&txn, lease).await?;
        let mut row = before.clone();
        row.lease_owner = None;
        match settle {
            Settle::Retry { at, reason, count } => {
                let event = match rows::state(&row.state)? {
                    // The daily try of a quarantined recording failed: it stays with the person.
                    State::Quarantined => Event::Quarantine,
                    _ => Event::Retry,
                };
                move_to(&mut row, event, Some(reason), now)?;
                row.available_at_ms = at.ms();
                match count {
                    Count::Attempt => {
                        row.attempts += 1;
                        row.failures += 1;
                    }
                    Count::NotReady => {
                        row.not_ready_tries += 1;
                        row.failures = 0;
                    }
                    Count::Failure => row.failures += 1,
                    Count::Nothing => {}
                }
            }
            Settle::Quarantine { reason, retry_at } => {
                move_to(&mut row, Event::Quarantine, Some(reason), now)?;
                row.attempts += 1;
                row.available_at_ms = retry_at.ms();
            }
            Settle::Absent { reason } => {
                move_to(&mut row, Event::NeverMade, Some(reason), now)?;
                row.work_class = None;
            }
            Settle::Lost { reason, evidence } => {
                move_to(&mut row, Event::GoneAtProvider, Some(reason), now)?;
                row.evidence = Some(evidence);
                row.work_class = None;
                // What was planned and never came into the archive will not come any more.
                exec(
                    &txn,
                    "delete from archive_object where recording_id = $1 and verified_at_ms is null",
                    vals![row.recording_id],
                )
                .await?;
            }
            Settle::Done if rows::state(&row.state)? != State::Archived => {
                row.available_at_ms = now.ms();
            }
            Settle::Done => rest(&txn, &mut row, now).await?,
            Settle::AccessDone => {
                access_ends(&mut row, None)?;
                rest(&txn, &mut row, now).await?;
            }
            Settle::AccessGaveUp { reason } => {
                access_ends(&mut row, Some(reason))?;
                rest(&txn, &mut row, now).await?;
            }
            Settle::AccessLater { at, reason, counts } => {
                if rows::state(&row.state)? != State::Archived {
                    return Err(impossible("an access copy", &row.state));
                }
                row.access_tries += i64::from(counts);
                row.failures += i64::from(!counts);
                row.reason = Some(reason);
                row.work_class = Some(WorkClass::Access as i64);
                row.available_at_ms = at.ms();
            }
        }
        write(&txn, &before, &row, now).await?;
        if may_be_the_last(&before, &row) {
            pairs::wake_call(&txn, row.call_id, Some(row.recording_id), now).await?;
        }
        doubles::drop_empty(&txn, &row, now).await?;
        txn.commit().await?;
        Ok(())
    }

    /// Another go for a waiting, quarantined, absent or lost recording: due at once, counters at zero.
    /// An archived recording is left alone; gives whether anything was changed.
    pub async fn retry(&self, recording_id: Uuid, now: Timestamp) -> Result<bool, DbError> {
        let txn = self.begin().await?;
        let Some(before) = locked(&txn, recording_id).await? else {
            return Ok(false);
        };
        let mut row = before.clone();
        if step(rows::state(&row.state)?, Event::Retry).is_err() {
            return Ok(false);
        }
        move_to(&mut row, Event::Retry, None, now)?;
        row.attempts = 0;
        row.failures = 0;
        row.work_class = Some(row.work_class.unwrap_or(WorkClass::Live as i64));
        if !is_leased(&row, now) {
            row.available_at_ms = now.ms();
        }
        write(&txn, &before, &row, now).await?;
        txn.commit().await?;
        Ok(true)
    }

    /// The same by the holder of the lease, who goes on to make it.
    pub async fn access_due_again(&self, lease: &Lease) -> Result<(), DbError> {
        let touched = exec(
            self.writer(),
            "update recording set access_due = $3, access_tries = 0, access_lapses = 0, work_class = $4 \
             where recording_id = $1 and lease_token = $2 and lease_owner is not null",
            vals![lease.recording_id, lease.token, true, WorkClass::Access as i64],
        )
        .await?;
        super::lease::held(touched)
    }

    /// The access copy of an archived recording is made again; gives whether there is one to be made.
    pub async fn request_access_again(
        &self,
        recording_id: Uuid,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let txn = self.begin().await?;
        let Some(before) = locked(&txn, recording_id).await? else {
            return Ok(false);
        };
        let mut row = before.clone();
        if rows::state(&row.state)? != State::Archived {
            return Ok(false);
        }
        row.access_due = true;
        row.access_tries = 0;
        row.access_lapses = 0;
        row.reason = None;
        row.work_class = Some(WorkClass::Access as i64);
        if !is_leased(&row, now) {
            row.available_at_ms = now.ms();
        }
        write(&txn, &before, &row, now).await?;
        txn.commit().await?;
        Ok(true)
    }
}

/// A party's recording that will not be heard: the other one does not wait for it any longer.
fn may_be_the_last(before: &Row, row: &Row) -> bool {
    let is_gone = matches!(State::parse(&row.state), Some(State::Lost | State::Absent));
    let is_over = before.state != row.state && is_gone || before.access_due && !row.access_due;
    is_over
        && matches!(
            Part::parse(&row.part),
            Part::Caller | Part::Callee | Part::Party
        )
}

pub(super) fn is_leased(row: &Row, now: Timestamp) -> bool {
    row.lease_owner.is_some() && row.available_at_ms > now.ms()
}

/// The row by id, locked.
pub(super) async fn locked(
    txn: &DatabaseTransaction,
    recording_id: Uuid,
) -> Result<Option<Row>, DbError> {
    let rows: Vec<Row> = models(
        txn,
        format!(
            "select * from recording where recording_id = $1{}",
            for_update(txn)
        ),
        vals![recording_id],
    )
    .await?;
    Ok(rows.into_iter().next())
}

fn move_to(
    row: &mut Row,
    event: Event,
    reason: Option<String>,
    now: Timestamp,
) -> Result<(), DbError> {
    let state = rows::state(&row.state)?;
    let after = step(state, event)?;
    if after != state {
        row.state = after.as_str().to_owned();
        row.state_since_ms = now.ms();
    }
    row.reason = reason;
    Ok(())
}

fn access_ends(row: &mut Row, reason: Option<String>) -> Result<(), DbError> {
    if rows::state(&row.state)? != State::Archived {
        return Err(impossible("an access copy", &row.state));
    }
    row.access_due = false;
    row.access_tries = 0;
    row.access_lapses = 0;
    row.reason = reason;
    Ok(())
}

/// What an archived recording still needs: an access copy or a manifest now, a second look later, or
/// nothing. A manifest is due when a fact changed after the newest one was made, even while it was
/// being written.
pub(super) async fn rest<C: ConnectionTrait>(
    c: &C,
    row: &mut Row,
    now: Timestamp,
) -> Result<(), DbError> {
    let told = count(
        c,
        "select coalesce(max(facts_version), 0) from archive_object \
         where recording_id = $1 and role = 'manifest' and verified_at_ms is not null",
        vals![row.recording_id],
    )
    .await?;
    row.failures = 0;
    row.manifest_due = i64::try_from(told).unwrap_or(i64::MAX) < row.facts_version;
    if row.access_due || row.manifest_due || pairs::is_wanted(row) {
        row.work_class = Some(WorkClass::Access as i64);
        row.available_at_ms = now.ms();
    } else if row.same_as.is_some() {
        row.work_class = Some(WorkClass::Access as i64);
        row.available_at_ms = now.plus_ms(doubles::AGAIN_AFTER_MS).ms();
    } else if let Some(at) = row.recheck_at_ms {
        row.work_class = Some(WorkClass::Live as i64);
        row.available_at_ms = at;
    } else {
        row.work_class = None;
    }
    Ok(())
}

/// Writes the state and work columns of a row that this transaction holds, and its history.
pub(super) async fn write(
    txn: &DatabaseTransaction,
    before: &Row,
    row: &Row,
    now: Timestamp,
) -> Result<(), DbError> {
    let touched = exec(
        txn,
        "update recording set state = $3, state_since_ms = $4, reason = $5, evidence = $6, \
         work_class = $7, available_at_ms = $8, lease_owner = $9, attempts = $10, \
         not_ready_tries = $11, failures = $12, access_due = $13, access_tries = $14, \
         access_lapses = $15, manifest_due = $16 \
         where recording_id = $1 and lease_token = $2",
        vals![
            row.recording_id,
            row.lease_token,
            row.state.as_str(),
            row.state_since_ms,
            row.reason.clone(),
            row.evidence.clone(),
            row.work_class,
            row.available_at_ms,
            row.lease_owner.clone(),
            row.attempts,
            row.not_ready_tries,
            row.failures,
            row.access_due,
            row.access_tries,
            row.access_lapses,
            row.manifest_due
        ],
    )
    .await?;
    super::lease::held(touched)?;
    if before.state != row.state {
        let from = rows::state(&before.state)?;
        let to = rows::state(&row.state)?;
        record(
            txn,
            row.recording_id,
            Some(from),
            to,
            row.reason.as_deref(),
            now,
        )
        .await?;
    }
    Ok(())
}
