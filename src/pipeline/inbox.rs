//! Reads stored notices and writes their facts: calls, legs, recordings that are due.
//!
//! Reading is repeatable: the same notice gives the same facts, and the same facts change no row.

use std::time::Duration;

use crate::db::notices::ClaimedNotice;
use crate::db::readings::SourceFacts;
use crate::db::{Database, DbError};
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::WorkClass;
use crate::domain::reading::Reading;
use crate::providers::contract::{Provider, Told};
use crate::providers::sources::Sources;

use super::foreign;
use super::intake::told_notice;

const BATCH: usize = 64;
/// A notice whose facts the database refuses so often is kept for a person, as unreadable. What is wrong with
/// the database itself is waited out, however long.
const MOST_TRIES: i64 = 20;
const LEASE: Duration = Duration::from_secs(60);
/// How long before each try; what a busy database did not take is tried again well within the lease.
const BUSY_PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
];

/// Reads what waits; gives how many notices were settled. Zero means that nothing waits, or that it has to wait:
/// in a restored database until the archive was read, whoever asks.
pub async fn read_waiting(
    db: &Database,
    sources: &Sources,
    instance: &str,
    now: Timestamp,
) -> Result<usize, DbError> {
    if db.restore_waits().await? {
        tracing::debug!("a restored database: notices wait until the archive was read");
        return Ok(0);
    }
    let claimed = db
        .claim_notices(BATCH, instance, &sources.names(), now, LEASE)
        .await?;
    let mut count = claimed.len();
    let mut waiting = claimed;
    for pause in BUSY_PAUSES {
        if waiting.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        waiting = settle_each(waiting, |notice| async move {
            let settled = settle_or_tell(db, sources, &notice, now).await;
            (notice, settled)
        })
        .await?;
    }
    if !waiting.is_empty() {
        tracing::warn!(
            notices = waiting.len(),
            "the database was busy, notices are read when their leases end"
        );
        count -= waiting.len();
    }
    count += usize::from(db.fill_known_calls(&sources.names(), now).await?);
    Ok(count)
}

/// Goes through all of them and gives those for which the database was busy: they come again soon, and
/// their neighbours do not wait for them. With the database away the rest waits for its leases to end.
async fn settle_each<N, F: Future<Output = (N, Result<(), DbError>)>>(
    notices: Vec<N>,
    settle: impl Fn(N) -> F,
) -> Result<Vec<N>, DbError> {
    let mut busy = Vec::new();
    for notice in notices {
        match settle(notice).await {
            (_, Ok(())) => {}
            (notice, Err(error)) if error.is_busy() => busy.push(notice),
            (_, Err(error)) => return Err(error),
        }
    }
    Ok(busy)
}

/// An error from here is about the database as a whole: away or busy.
async fn settle_or_tell(
    db: &Database,
    sources: &Sources,
    notice: &ClaimedNotice,
    now: Timestamp,
) -> Result<(), DbError> {
    let Some(provider) = sources.get(&notice.notice.source) else {
        return Ok(());
    };
    let error = match settle(db, sources, provider.as_ref(), notice, now).await {
        Err(error) if !error.is_unavailable() => error,
        settled => return settled,
    };
    if error.is_lease_lost() {
        tracing::warn!(notice = %notice.notice.notice_id, "another process reads this notice");
        return Ok(());
    }
    if notice.token < MOST_TRIES || !error.is_refusal() {
        // Its neighbours must not wait for it; it is tried again when its lease runs out.
        tracing::error!(notice = %notice.notice.notice_id, %error, "notice not applied");
        return Ok(());
    }
    let why = format!("not applied after {MOST_TRIES} tries: {error}");
    db.mark_unreadable(notice, &why, now).await
}

async fn settle(
    db: &Database,
    sources: &Sources,
    provider: &dyn Provider,
    claimed: &ClaimedNotice,
    now: Timestamp,
) -> Result<(), DbError> {
    fail::fail_point!("inbox.claimed");
    // A parser that panics on foreign bytes costs its notice, never the inbox.
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        foreign::read(&claimed.notice, provider).unwrap_or_else(|| provider.read(&claimed.notice))
    }));
    let mut reading = match read
        .unwrap_or_else(|_| Err("reading it made the reader panic".to_owned()))
    {
        Ok(reading) => reading,
        Err(why) => {
            tracing::warn!(source = provider.name(), notice = %claimed.notice.notice_id, why, "notice kept, not understood");
            return db.mark_unreadable(claimed, &why, now).await;
        }
    };
    reading.drop_future_times(claimed.notice.arrived_at);
    forward(db, sources, claimed, &mut reading).await?;
    if foreign::is_backfill(&claimed.notice) {
        for recording in &mut reading.recordings {
            recording.class = Some(WorkClass::Backfill);
        }
    }
    if let Some(why) = &reading.ignored
        && reading.is_silent()
    {
        return db.mark_ignored(claimed, why, now).await;
    }
    let applied = db
        .apply_reading(claimed, &facts_of(provider), &reading, now)
        .await?;
    fail::fail_point!("inbox.applied");
    tracing::debug!(source = provider.name(), notice = %claimed.notice.notice_id, ?applied, "notice read");
    Ok(())
}

/// Messages about other sources' calls become notices of those, before this one is done with: a repeat
/// changes nothing.
async fn forward(
    db: &Database,
    sources: &Sources,
    claimed: &ClaimedNotice,
    reading: &mut Reading,
) -> Result<(), DbError> {
    for told in std::mem::take(&mut reading.forward) {
        let Some(target) = sources.get(&told.source) else {
            let why = format!("source {} is not configured any more", told.source);
            reading.unreadable.push(why);
            continue;
        };
        let body = Told {
            topic: foreign::topic::CDR.to_owned(),
            body: told.body.into(),
            dedup_key: told.dedup_key,
            unreadable: None,
        };
        let arrived_at = claimed.notice.arrived_at;
        let door = claimed.notice.door;
        db.add_notice(told_notice(target.as_ref(), door, body, arrived_at))
            .await?;
    }
    Ok(())
}

fn facts_of(provider: &dyn Provider) -> SourceFacts {
    let common = provider.common();
    let ms = |duration: Option<Duration>| duration.map(|d| d.as_millis() as i64);
    SourceFacts {
        kind: provider.kind().to_owned(),
        link_renewable: provider.capabilities().link_renewable,
        provider_keeps_ms: ms(common.provider_keeps),
        expect_recordings: common.expect_recordings,
        expect_within_ms: ms(common.expect_within),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::db::error::DbErrorKind;

    #[tokio::test]
    async fn a_busy_database_puts_off_one_notice_and_not_the_batch() {
        let seen = RefCell::new(Vec::new());
        let settle = |notice: u32| {
            seen.borrow_mut().push(notice);
            let settled = match notice {
                2 => Err(DbError::new(DbErrorKind::Busy, "database is locked")),
                9 => Err(DbError::new(DbErrorKind::Unavailable, "no connection")),
                _ => Ok(()),
            };
            std::future::ready((notice, settled))
        };
        assert_eq!(settle_each(vec![1, 2, 3], &settle).await.unwrap(), [2]);
        assert!(settle_each(vec![4, 9, 5], &settle).await.is_err());
        assert_eq!(*seen.borrow(), [1, 2, 3, 4, 9]);
    }
}
