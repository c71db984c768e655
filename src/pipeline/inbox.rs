//! Reads stored notices and writes their facts: calls, legs, recordings that are due.
//!
//! Reading is repeatable: the same notice gives the same facts, and the same facts change no row.

use std::time::Duration;

use crate::db::Database;
use crate::db::notices::ClaimedNotice;
use crate::db::readings::SourceFacts;
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::WorkClass;
use crate::domain::reading::Reading;
use crate::providers::contract::{Provider, Told};
use crate::providers::sources::Sources;

use super::foreign;
use super::intake::told_notice;

const BATCH: usize = 64;
/// A notice that cannot be applied so often is kept for a person, as unreadable.
const MOST_TRIES: i64 = 20;
const LEASE: Duration = Duration::from_secs(60);

/// Reads what waits; gives how many notices were settled. Zero means that nothing waits.
pub async fn read_waiting(
    db: &Database,
    sources: &Sources,
    instance: &str,
    now: Timestamp,
) -> Result<usize, crate::db::DbError> {
    let claimed = db
        .claim_notices(BATCH, instance, &sources.names(), now, LEASE)
        .await?;
    let mut count = claimed.len();
    for notice in claimed {
        let Some(provider) = sources.get(&notice.notice.source) else {
            continue;
        };
        match settle(db, sources, provider.as_ref(), &notice, now).await {
            Ok(()) => {}
            Err(error) if error.is_lease_lost() => {
                tracing::warn!(notice = %notice.notice.notice_id, "another process reads this notice");
            }
            Err(error) if error.is_unavailable() => return Err(error),
            // Its neighbours must not wait for it; it is tried again when its lease runs out.
            Err(error) if notice.token < MOST_TRIES => {
                tracing::error!(notice = %notice.notice.notice_id, %error, "notice not applied");
            }
            Err(error) => {
                let why = format!("not applied after {MOST_TRIES} tries: {error}");
                db.mark_unreadable(&notice, &why, now).await?;
            }
        }
    }
    count += usize::from(db.fill_known_calls(&sources.names(), now).await?);
    Ok(count)
}

async fn settle(
    db: &Database,
    sources: &Sources,
    provider: &dyn Provider,
    claimed: &ClaimedNotice,
    now: Timestamp,
) -> Result<(), crate::db::DbError> {
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
) -> Result<(), crate::db::DbError> {
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
