//! What a notice says becomes rows: one transaction, the same in any order of notices, and nothing at
//! all when nothing is new.

use std::collections::BTreeMap;

use sea_orm::{DatabaseTransaction, Value};
use uuid::Uuid;

use crate::domain::call::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::notice::{Door, NoticeResult};
use crate::domain::reading::{Announced, Reading, placeholder};

use super::Database;
use super::announce::{self, Outcome};
use super::calls::{self, Merged, Origin};
use super::directory;
use super::error::DbError;
use super::made_up;
use super::names;
use super::notices::{ClaimedNotice, settle_in};
use super::sql::{exec, one, vals};

/// Transactions that meet another writer of the same call are run again this often.
const RUNS: u32 = 8;

/// What the reader must know of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    pub kind: String,
    pub link_renewable: bool,
    /// How long the vendor keeps the audio, counted from the call's end; `None` when nobody knows.
    pub provider_keeps_ms: Option<i64>,
    /// A call with talk time should have a recording, whether or not its CDR says so.
    pub expect_recordings: bool,
    /// How long after its end a talked call's recording must have been announced.
    pub expect_within_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub calls: u32,
    pub recordings_new: u32,
    pub recordings_changed: u32,
}

/// One notice being applied.
pub(super) struct Context<'a> {
    pub origin: Origin<'a>,
    pub source: &'a SourceFacts,
    pub notice: &'a ClaimedNotice,
}

impl Database {
    /// Writes what a claimed notice said, and settles the notice with it.
    pub async fn apply_reading(
        &self,
        claimed: &ClaimedNotice,
        source: &SourceFacts,
        reading: &Reading,
        now: Timestamp,
    ) -> Result<Applied, DbError> {
        let mut run = 1;
        loop {
            match self.apply_once(claimed, source, reading, now).await {
                // Another worker made or locked the same rows: what it wrote is found in the next run.
                Err(error) if error.is_race() && run < RUNS => run += 1,
                done => return done,
            }
        }
    }

    async fn apply_once(
        &self,
        claimed: &ClaimedNotice,
        source: &SourceFacts,
        reading: &Reading,
        now: Timestamp,
    ) -> Result<Applied, DbError> {
        let txn = self.begin().await?;
        let (result, detail) = result_of(reading);
        // First of all the lease: a reader that came too late writes nothing.
        settle_in(&txn, claimed, result, detail.as_deref(), now).await?;
        let context = Context {
            origin: Origin {
                source: &claimed.notice.source,
                kind: &source.kind,
                arrived_at: claimed.notice.arrived_at,
                now,
            },
            source,
            notice: claimed,
        };
        let reading = made_up::give_way(&txn, context.origin.source, reading).await?;
        let mut applied = Applied::default();
        let mut touched: BTreeMap<Uuid, Merged> = BTreeMap::new();
        for entry in &reading.directory {
            directory::enter(&txn, context.origin.source, entry, now).await?;
        }
        for facts in &reading.calls {
            let merged = calls::merge(&txn, &context.origin, facts).await?;
            note(&mut touched, merged);
        }
        for announced in &reading.recordings {
            let mut facts = CallFacts::new(&announced.provider_call_id);
            facts.aliases.clone_from(&announced.call_aliases);
            facts.made_up = made_up::is_made_up(&reading, &announced.provider_call_id);
            let merged = calls::merge(&txn, &context.origin, &facts).await?;
            let call = note(&mut touched, merged);
            if announced.unless_told && is_told(&txn, call).await? {
                continue;
            }
            match announce::recording(&txn, &context, call, announced).await? {
                Outcome::New => applied.recordings_new += 1,
                Outcome::Changed => applied.recordings_changed += 1,
                Outcome::Same => {}
            }
        }
        // Calls that were joined into another one on the way are no longer there.
        touched.retain(|id, call| *id == call.call_id);
        for call in touched.values() {
            link(&txn, &context, call.call_id).await?;
            applied.recordings_new += u32::from(expect(&txn, &context, call).await?);
            if call.changed {
                applied.calls += 1;
                announce::clocks_follow(&txn, &context, call).await?;
                announce::facts_changed(&txn, call.call_id, now).await?;
            }
        }
        txn.commit().await?;
        Ok(applied)
    }
}

/// Remembers the newest sight of a call, and that any of them changed it.
fn note(touched: &mut BTreeMap<Uuid, Merged>, merged: Merged) -> &Merged {
    let before = touched
        .get(&merged.call_id)
        .is_some_and(|call| call.changed);
    let entry = touched
        .entry(merged.call_id)
        .or_insert_with(|| merged.clone());
    *entry = merged;
    entry.changed |= before;
    entry
}

/// The vendor itself told of the call, or a recording of it is known.
async fn is_told(txn: &DatabaseTransaction, call: &Merged) -> Result<bool, DbError> {
    if call.facts.is_cdr {
        return Ok(true);
    }
    let known = "select 1 from recording where call_id = $1 limit 1";
    Ok(one(txn, known, vals![call.call_id]).await?.is_some())
}

fn result_of(reading: &Reading) -> (NoticeResult, Option<String>) {
    let says_something = !reading.is_silent();
    let unreadable = reading.unreadable.join("; ");
    match (says_something, unreadable.is_empty(), &reading.ignored) {
        (true, true, _) => (NoticeResult::Read, None),
        (true, false, _) => (NoticeResult::Read, Some(format!("in part: {unreadable}"))),
        (false, false, _) => (NoticeResult::Unreadable, Some(unreadable)),
        (false, true, Some(why)) => (NoticeResult::Ignored, Some(why.clone())),
        (false, true, None) => (NoticeResult::Ignored, Some("says nothing".to_owned())),
    }
}

/// The notice spoke of this call or recording.
pub(super) async fn link(
    txn: &DatabaseTransaction,
    context: &Context<'_>,
    subject: Uuid,
) -> Result<(), DbError> {
    let notice = &context.notice.notice;
    exec(
        txn,
        "insert into notice_link (subject_id, sha256, notice_id, arrived_at_ms) \
         values ($1, $2, $3, $4) on conflict (subject_id, sha256) do nothing",
        vals![
            subject,
            notice.sha256.as_bytes().to_vec(),
            notice.notice_id,
            notice.arrived_at.ms()
        ],
    )
    .await?;
    Ok(())
}

/// How long after its end a call without a recording is first asked for, where the source does not say
/// by when one is expected: before that the vendor's own notice is on its way.
const ASK_AFTER_MS: i64 = 15 * 60 * 1000;

/// A talked call without a recording: expected by the source's settings, watched for the alarm, and asked
/// for where the vendor can be asked. Says whether a recording was made.
async fn expect(
    txn: &DatabaseTransaction,
    context: &Context<'_>,
    call: &Merged,
) -> Result<bool, DbError> {
    let facts = &call.facts;
    let talked = facts
        .talked
        .unwrap_or(facts.duration_ms.is_some_and(|ms| ms > 0));
    let talked = facts.is_cdr && talked;
    let imported = context.notice.notice.door == Door::Import;
    if talked || imported {
        ask_for(txn, context, call, imported).await?;
    } else if context.notice.notice.door == Door::Poll {
        ask_for_the_rest(txn, context, call).await?;
    }
    if !talked {
        return Ok(false);
    }
    let announced = one(
        txn,
        "select 1 from recording where call_id = $1 limit 1",
        vals![call.call_id],
    )
    .await?;
    if announced.is_some() {
        return Ok(false);
    }
    if let Some(within) = context.source.expect_within_ms {
        let ended = facts.ended_at.unwrap_or(context.origin.arrived_at);
        exec(
            txn,
            "update call set expect_until_ms = coalesce(expect_until_ms, $2) where call_id = $1",
            vals![call.call_id, Value::from(ended.plus_ms(within).ms())],
        )
        .await?;
    }
    if !context.source.expect_recordings {
        return Ok(false);
    }
    let expected = Announced {
        provider_call_id: facts.provider_call_id.clone(),
        aliases: vec![placeholder(&facts.provider_call_id)],
        ..Announced::default()
    };
    let outcome = announce::recording(txn, context, call, &expected).await?;
    Ok(outcome == Outcome::New)
}

/// A call of which only a list told may have more recordings than the list shows (Yunxin's leaves some
/// files out): it is asked for once.
async fn ask_for_the_rest(
    txn: &DatabaseTransaction,
    context: &Context<'_>,
    call: &Merged,
) -> Result<(), DbError> {
    exec(
        txn,
        "update call set ask_at_ms = case when ask_at_ms < $2 then ask_at_ms else $2 end \
         where call_id = $1 and asks = 0 and exists \
         (select 1 from recording r where r.call_id = $1 and r.found_by = $3)",
        vals![
            call.call_id,
            context.origin.arrived_at.ms(),
            Door::Poll.as_str()
        ],
    )
    .await?;
    Ok(())
}

/// Plans the question for the call's recordings, or takes it back once they are announced. Known only
/// from another system, a call is asked for at once.
async fn ask_for(
    txn: &DatabaseTransaction,
    context: &Context<'_>,
    call: &Merged,
    imported: bool,
) -> Result<(), DbError> {
    let facts = &call.facts;
    // "Not recorded" is believed here, unless the operator says that every call is recorded.
    let should_have = facts.recorded != Some(false) || context.source.expect_recordings;
    if names::has_announced(txn, call.call_id).await? {
        exec(
            txn,
            "update call set ask_at_ms = null where call_id = $1 and ask_at_ms is not null",
            vals![call.call_id],
        )
        .await?;
        return Ok(());
    }
    if !imported && !should_have {
        return Ok(());
    }
    let first = if imported {
        context.origin.arrived_at
    } else {
        let ended = facts.ended_at.unwrap_or(context.origin.arrived_at);
        ended.plus_ms(context.source.expect_within_ms.unwrap_or(ASK_AFTER_MS))
    };
    exec(
        txn,
        "update call set ask_at_ms = case when ask_at_ms < $2 then ask_at_ms else $2 end \
         where call_id = $1 and asks = 0",
        vals![call.call_id, first.ms()],
    )
    .await?;
    Ok(())
}
