//! An announced recording becomes a row, or adds to the row that has one of its names.

use sea_orm::{DatabaseTransaction, Value};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::domain::call::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::WorkClass;
use crate::domain::ids::new_id;
use crate::domain::notice::Door;
use crate::domain::reading::{Announced, PLACEHOLDER};
use crate::domain::recording::{Event, Part, State};

use super::calls::Merged;
use super::connect::for_update;
use super::doubles;
use super::error::DbError;
use super::names::{has_announced, is_placeholder, names, names_of, write_names};
use super::objects::{record, step};
use super::readings::{Context, link};
use super::rows;
use super::settle::is_leased;
use super::sql::{exec, list, models, vals};
use super::unite::{absorb, can_be_dropped, drop_into, unite};

type Row = entity::recording::Model;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    New,
    Changed,
    Same,
}

/// Finds the recording by any of its names or makes it, and adds what is new.
pub(super) async fn recording(
    txn: &DatabaseTransaction,
    context: &Context<'_>,
    call: &Merged,
    announced: &Announced,
) -> Result<Outcome, DbError> {
    let names = names(announced);
    let mut found = find(txn, context.origin.source, call.call_id, &names).await?;
    // The one that is furthest on stays; of equals the oldest.
    found.sort_by_key(|row| (can_be_dropped(row), row.recording_id));
    let known: Vec<Uuid> = found.iter().map(|row| row.recording_id).collect();
    let outcome;
    let row = match found.split_first() {
        // Expected, and here already under its own name: the recording came before the call's record.
        None if is_placeholder(&names) && has_announced(txn, call.call_id).await? => {
            return Ok(Outcome::Same);
        }
        None => {
            let row = fresh(context, call, announced);
            insert(txn, context, &row).await?;
            outcome = Outcome::New;
            row
        }
        Some((before, others)) => {
            let mut before = before.clone();
            let mut row = before.clone();
            // Before the names of others come to it.
            let known_names = names_of(txn, row.recording_id).await?;
            let mut took_over = false;
            for other in others {
                if can_be_dropped(other) || doubles::is_spent(txn, other).await? {
                    took_over = true;
                    absorb(&mut row, other)?;
                    drop_into(txn, row.recording_id, other.recording_id).await?;
                } else {
                    doubles::point(txn, &row, other, context.origin.now).await?;
                }
            }
            add(&mut row, context, announced)?;
            if was_only_expected(&row, &known_names) && !is_placeholder(&names) {
                // Only now somebody tells of the recording; whoever made the row merely expected it.
                row.found_by = context.notice.notice.door.as_str().to_owned();
            }
            // `merge` may have joined two calls since the row was made.
            before.call_id = call.call_id;
            row.call_id = call.call_id;
            let new_names = took_over || names.iter().any(|name| !known_names.contains(name));
            let now = context.origin.now;
            outcome = update(txn, now, announced, &before, row.clone(), new_names).await?;
            row
        }
    };
    write_names(txn, context.origin.source, call, &row, &names, &known).await?;
    link(txn, context, row.recording_id).await?;
    exec(
        txn,
        "update call set has_recording = $2, expect_until_ms = case when $3 then expect_until_ms \
         else null end, ask_at_ms = case when $3 then ask_at_ms else null end \
         where call_id = $1 and (not has_recording or expect_until_ms is not null or ask_at_ms is not null)",
        vals![call.call_id, true, is_placeholder(&names)],
    )
    .await?;
    Ok(outcome)
}

/// A fact of the call changed: archived recordings of it get a new manifest.
pub(super) async fn facts_changed(
    txn: &DatabaseTransaction,
    call_id: Uuid,
    now: Timestamp,
) -> Result<(), DbError> {
    exec(
        txn,
        "update recording set facts_version = facts_version + 1 where call_id = $1",
        vals![call_id],
    )
    .await?;
    let archived: Vec<Row> = models(
        txn,
        "select * from recording where call_id = $1 and state = 'archived'",
        vals![call_id],
    )
    .await?;
    for mut row in archived {
        manifest_due(&mut row, now);
        exec(
            txn,
            "update recording set manifest_due = $2, work_class = $3, available_at_ms = $4 \
             where recording_id = $1",
            vals![
                row.recording_id,
                row.manifest_due,
                row.work_class,
                row.available_at_ms
            ],
        )
        .await?;
    }
    Ok(())
}

/// Nobody at the vendor has told of it yet: a placeholder, or what another system's list of calls made
/// us expect.
fn was_only_expected(row: &Row, known_names: &[String]) -> bool {
    is_placeholder(known_names)
        || (row.found_by == Door::Import.as_str()
            && row.confirmed_at_ms.is_none()
            && row.archived_at_ms.is_none())
}

/// By name, oldest first; else the call's placeholder. Locked.
async fn find(
    txn: &DatabaseTransaction,
    source: &str,
    call_id: Uuid,
    names: &[String],
) -> Result<Vec<Row>, DbError> {
    let mut values = vals![source];
    values.extend(names.iter().map(|name| Value::from(name.as_str())));
    let by_name: Vec<Row> = models(
        txn,
        format!(
            "select * from recording where recording_id in (select recording_id from recording_alias \
             where source = $1 and alias in {}) order by recording_id{}",
            list(2, names.len()),
            for_update(txn)
        ),
        values,
    )
    .await?;
    if !by_name.is_empty() {
        return Ok(by_name);
    }
    models(
        txn,
        format!(
            "select * from recording where call_id = $1 and not exists (select 1 from recording_alias a \
             where a.recording_id = recording.recording_id and a.alias not like '{PLACEHOLDER}%') \
             order by recording_id{}",
            for_update(txn)
        ),
        vals![call_id],
    )
    .await
}

fn fresh(context: &Context<'_>, call: &Merged, announced: &Announced) -> Row {
    let origin = &context.origin;
    let now = origin.now;
    let class = announced.class.unwrap_or(WorkClass::Live);
    let mut clocks = announced.clocks;
    let told = clocks.gone_at;
    clocks.gone_at = told.or_else(|| kept_until(context, &call.facts, origin.arrived_at));
    if let Some(link) = &announced.link {
        clocks.link_until = link.until.or(clocks.link_until);
    }
    let link_renewable = announced
        .link_renewable
        .unwrap_or(context.source.link_renewable);
    let confirmed = announced.confirmed.then(|| origin.arrived_at.ms());
    Row {
        recording_id: new_id(now),
        call_id: call.call_id,
        source: origin.source.to_owned(),
        kind: origin.kind.to_owned(),
        provider_recording_id: announced.provider_recording_id.clone(),
        part: announced.part.as_str().to_owned(),
        began_at_ms: rows::ms(announced.began_at),
        party: announced.party.clone(),
        handle: {
            // United with itself: in the order that every later union keeps.
            let told = told_of(announced);
            let mut handle = told.clone();
            unite(&mut handle, &told);
            handle.to_string()
        },
        link_url: announced.link.as_ref().map(|link| link.url.clone()),
        link_url_until_ms: announced
            .link
            .as_ref()
            .and_then(|link| rows::ms(link.until)),
        link_renewable,
        ready_after_ms: rows::ms(clocks.ready_after),
        link_until_ms: rows::ms(clocks.link_until),
        gone_at_ms: rows::ms(clocks.gone_at),
        deadline_at_ms: clocks.deadline(origin.arrived_at, link_renewable).ms(),
        arrived_at_ms: origin.arrived_at.ms(),
        at_ms: call.at_ms,
        found_by: context.notice.notice.door.as_str().to_owned(),
        confirmed_at_ms: confirmed,
        archived_at_ms: None,
        state: State::Pending.as_str().to_owned(),
        state_since_ms: now.ms(),
        reason: None,
        evidence: None,
        notes: "[]".to_owned(),
        folder: None,
        facts_version: 1,
        work_class: Some(class as i64),
        available_at_ms: first_try(
            now,
            rows::ms(clocks.ready_after),
            clocks.deadline(origin.arrived_at, link_renewable),
        ),
        lease_token: 0,
        lease_owner: None,
        attempts: 0,
        lapses: 0,
        not_ready_tries: 0,
        failures: 0,
        access_due: false,
        access_tries: 0,
        access_lapses: 0,
        manifest_due: false,
        recheck_at_ms: None,
        recheck_planned: false,
        gone_told_ms: rows::ms(told),
        same_as: None,
        pair_wanted: 0,
        pair_done: 0,
    }
}

/// When the vendor deletes what belongs to this call, by the source's `provider_keeps`.
///
/// Counted from the call's end as all its notices together tell it. One notice alone proves little (some
/// vendors sign no field of a CDR), so what seems to be over already is still tried for a while.
fn kept_until(context: &Context<'_>, call: &CallFacts, arrived_at: Timestamp) -> Option<Timestamp> {
    const LEAST_MS: i64 = 24 * 3600 * 1000;
    let keeps = context.source.provider_keeps_ms?;
    let ended = call.ended_at.or(call.started_at).unwrap_or(arrived_at);
    let least = arrived_at.plus_ms(LEAST_MS.min(keeps / 10));
    Some(ended.plus_ms(keeps).max(least))
}

/// The first try: when the file should be ready, but never so late that a wrong time in a notice lets the
/// recording sleep past its deadline.
fn first_try(now: Timestamp, ready_after_ms: Option<i64>, deadline: Timestamp) -> i64 {
    let ready = ready_after_ms.unwrap_or(now.ms()).max(now.ms());
    let left = deadline.since_ms(now);
    if left > 0 && ready >= deadline.ms() {
        now.ms() + left / 2
    } else {
        ready
    }
}

/// The call's end became known or moved: the clocks of what is not archived yet follow it.
pub(super) async fn clocks_follow(
    txn: &DatabaseTransaction,
    context: &Context<'_>,
    call: &Merged,
) -> Result<(), DbError> {
    if context.source.provider_keeps_ms.is_none() {
        return Ok(());
    }
    let waiting: Vec<Row> = models(
        txn,
        format!(
            "select * from recording where call_id = $1 and archived_at_ms is null \
             and gone_told_ms is null order by recording_id{}",
            for_update(txn)
        ),
        vals![call.call_id],
    )
    .await?;
    for mut row in waiting {
        let arrived = Timestamp::from_ms(row.arrived_at_ms);
        let before = (row.gone_at_ms, row.deadline_at_ms);
        row.gone_at_ms = rows::ms(kept_until(context, &call.facts, arrived));
        row.deadline_at_ms = rows::clocks(&row)
            .deadline(arrived, row.link_renewable)
            .ms();
        if before != (row.gone_at_ms, row.deadline_at_ms) {
            exec(
                txn,
                "update recording set gone_at_ms = $2, deadline_at_ms = $3 where recording_id = $1",
                vals![row.recording_id, row.gone_at_ms, row.deadline_at_ms],
            )
            .await?;
        }
    }
    Ok(())
}

async fn insert(
    txn: &DatabaseTransaction,
    context: &Context<'_>,
    row: &Row,
) -> Result<(), DbError> {
    write_new(txn, row).await?;
    let now = context.origin.now;
    record(txn, row.recording_id, None, State::Pending, None, now).await
}

/// The row as it is; counters begin at zero.
pub(super) async fn write_new(txn: &DatabaseTransaction, row: &Row) -> Result<(), DbError> {
    exec(
        txn,
        "insert into recording (recording_id, call_id, source, kind, provider_recording_id, part, handle, \
         link_url, link_url_until_ms, link_renewable, ready_after_ms, link_until_ms, gone_at_ms, \
         deadline_at_ms, arrived_at_ms, at_ms, found_by, confirmed_at_ms, archived_at_ms, state, \
         state_since_ms, notes, folder, facts_version, work_class, available_at_ms, access_due, manifest_due, \
         gone_told_ms, began_at_ms, party, pair_wanted, pair_done) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
         $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33)",
        vals![
            row.recording_id,
            row.call_id,
            row.source.as_str(),
            row.kind.as_str(),
            row.provider_recording_id.clone(),
            row.part.as_str(),
            row.handle.as_str(),
            row.link_url.clone(),
            row.link_url_until_ms,
            row.link_renewable,
            row.ready_after_ms,
            row.link_until_ms,
            row.gone_at_ms,
            row.deadline_at_ms,
            row.arrived_at_ms,
            row.at_ms,
            row.found_by.as_str(),
            row.confirmed_at_ms,
            row.archived_at_ms,
            row.state.as_str(),
            row.state_since_ms,
            row.notes.as_str(),
            row.folder.clone(),
            row.facts_version,
            row.work_class,
            row.available_at_ms,
            row.access_due,
            row.manifest_due,
            row.gone_told_ms,
            row.began_at_ms,
            row.party.clone(),
            row.pair_wanted,
            row.pair_done
        ],
    )
    .await?;
    Ok(())
}

/// Adds what the notice knows to the row. Facts of an archived recording change too, but for its
/// address, which nobody needs any more.
fn add(row: &mut Row, context: &Context<'_>, announced: &Announced) -> Result<(), DbError> {
    let origin = &context.origin;
    let archived = row.archived_at_ms.is_some();
    row.arrived_at_ms = row.arrived_at_ms.min(origin.arrived_at.ms());
    if row.provider_recording_id.is_none() {
        row.provider_recording_id
            .clone_from(&announced.provider_recording_id);
    }
    if Part::parse(&row.part) == Part::Unknown {
        row.part = announced.part.as_str().to_owned();
    }
    row.began_at_ms = row.began_at_ms.or(rows::ms(announced.began_at));
    if row.party.is_none() {
        row.party.clone_from(&announced.party);
    }
    let mut handle: Json = rows::json(&row.handle)?;
    let is_another_file = archived && is_another_version(&handle, announced);
    unite(&mut handle, &told_of(announced));
    row.handle = handle.to_string();
    if is_another_file {
        // Fetched beside what is there: nothing archived is replaced.
        row.recheck_at_ms = Some(origin.now.ms());
        row.recheck_planned = true;
        if let Some(link) = &announced.link {
            row.link_url = Some(link.url.clone());
            row.link_url_until_ms = rows::ms(link.until);
        }
    }
    if !archived {
        // One notice that brings what a question needs is enough, whatever the others lack.
        row.link_renewable |= announced.link_renewable == Some(true);
        match &announced.link {
            Some(link)
                if row.link_url.is_none() || rows::ms(link.until) > row.link_url_until_ms =>
            {
                row.link_url = Some(link.url.clone());
                row.link_url_until_ms = rows::ms(link.until);
                row.link_until_ms = rows::ms(link.until).or(row.link_until_ms);
            }
            Some(_) => {}
            None => {
                row.link_until_ms = row.link_until_ms.max(rows::ms(announced.clocks.link_until));
            }
        }
        // The earlier of two: asking too early costs a question, a wrong late one would cost the recording.
        row.ready_after_ms = earlier(row.ready_after_ms, rows::ms(announced.clocks.ready_after));
    }
    if let Some(told) = announced.clocks.gone_at {
        row.gone_told_ms = earlier(row.gone_told_ms, Some(told.ms()));
        row.gone_at_ms = row.gone_told_ms;
    }
    if announced.confirmed && !archived {
        let at = origin.arrived_at.ms();
        row.confirmed_at_ms = Some(row.confirmed_at_ms.map_or(at, |known| known.min(at)));
    }
    row.deadline_at_ms = rows::clocks(row)
        .deadline(Timestamp::from_ms(row.arrived_at_ms), row.link_renewable)
        .ms();
    Ok(())
}

/// What the vendor has told of the bytes stands in the handle, so that another file is known as such.
const VERSIONS: &str = "versions";

fn told_of(announced: &Announced) -> Json {
    let mut told = announced.handle.clone();
    if let (Some(version), Some(told)) = (&announced.version, told.as_object_mut()) {
        told.insert(VERSIONS.to_owned(), Json::from(vec![version.clone()]));
    }
    told
}

fn is_another_version(handle: &Json, announced: &Announced) -> bool {
    let known = handle.get(VERSIONS).and_then(Json::as_array);
    match (known, &announced.version) {
        (Some(known), Some(version)) => {
            !known.is_empty() && !known.iter().any(|known| known == version)
        }
        _ => false,
    }
}

fn earlier(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    [a, b].into_iter().flatten().min()
}

/// Decides what follows from the change, and writes the row when there is one.
async fn update(
    txn: &DatabaseTransaction,
    now: Timestamp,
    announced: &Announced,
    before: &Row,
    mut row: Row,
    new_names: bool,
) -> Result<Outcome, DbError> {
    // An earlier notice that is read later moves the arrival only; the vendor told nothing new.
    let facts_changed = new_names || {
        let mut same = before.clone();
        same.arrived_at_ms = row.arrived_at_ms;
        same.deadline_at_ms = row.deadline_at_ms;
        same != row
    };
    if facts_changed {
        row.facts_version += 1;
    }
    let state = rows::state(&row.state)?;
    let after = step(state, Event::Announced)?;
    let deadline = Timestamp::from_ms(row.deadline_at_ms);
    let ready = first_try(now, row.ready_after_ms, deadline);
    let class = announced.class.unwrap_or(WorkClass::Live) as i64;
    if after != state {
        // Given up, and the vendor shows a new sign of life.
        row.state = after.as_str().to_owned();
        row.state_since_ms = now.ms();
        row.reason = None;
        row.evidence = None;
        row.work_class = Some(class);
        row.available_at_ms = ready;
    } else if matches!(state, State::Pending | State::Staged) {
        // Live beats backfill. Forward only: a plan that the vendor confirmed is never put off.
        row.work_class = Some(row.work_class.map_or(class, |before| before.min(class)));
        let untried = row.attempts == 0 && row.not_ready_tries == 0 && row.failures == 0;
        if (announced.ready_now || untried) && !is_leased(&row, now) && ready < row.available_at_ms
        {
            row.available_at_ms = ready;
        }
    } else if state == State::Archived && facts_changed {
        manifest_due(&mut row, now);
        if row.recheck_at_ms != before.recheck_at_ms {
            // Its address may not live long.
            row.work_class = Some(class);
        }
    }
    if *before == row {
        return Ok(Outcome::Same);
    }
    write_known(txn, &row).await?;
    if after != state {
        record(txn, row.recording_id, Some(state), after, None, now).await?;
    }
    Ok(Outcome::Changed)
}

/// Writes what notices change: facts, state and the next try.
pub(super) async fn write_known(txn: &DatabaseTransaction, row: &Row) -> Result<(), DbError> {
    exec(
        txn,
        "update recording set call_id = $2, provider_recording_id = $3, part = $4, handle = $5, \
         link_url = $6, link_url_until_ms = $7, ready_after_ms = $8, link_until_ms = $9, \
         gone_at_ms = $10, deadline_at_ms = $11, arrived_at_ms = $12, confirmed_at_ms = $13, \
         state = $14, state_since_ms = $15, reason = $16, evidence = $17, facts_version = $18, \
         work_class = $19, available_at_ms = $20, manifest_due = $21, gone_told_ms = $22, \
         found_by = $23, link_renewable = $24, recheck_at_ms = $25, recheck_planned = $26, \
         began_at_ms = $27, party = $28 \
         where recording_id = $1",
        vals![
            row.recording_id,
            row.call_id,
            row.provider_recording_id.clone(),
            row.part.as_str(),
            row.handle.as_str(),
            row.link_url.clone(),
            row.link_url_until_ms,
            row.ready_after_ms,
            row.link_until_ms,
            row.gone_at_ms,
            row.deadline_at_ms,
            row.arrived_at_ms,
            row.confirmed_at_ms,
            row.state.as_str(),
            row.state_since_ms,
            row.reason.clone(),
            row.evidence.clone(),
            row.facts_version,
            row.work_class,
            row.available_at_ms,
            row.manifest_due,
            row.gone_told_ms,
            row.found_by.as_str(),
            row.link_renewable,
            row.recheck_at_ms,
            row.recheck_planned,
            row.began_at_ms,
            row.party.clone()
        ],
    )
    .await?;
    Ok(())
}

/// A fact changed after the recording was archived: the next manifest tells it.
pub(super) fn manifest_due(row: &mut Row, now: Timestamp) {
    row.manifest_due = true;
    if !is_leased(row, now) && row.work_class != Some(WorkClass::Access as i64) {
        row.available_at_ms = now.ms();
    }
    row.work_class = Some(WorkClass::Access as i64);
}
