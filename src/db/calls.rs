//! Calls: found by any of their names, merged on the locked row, and joined when a notice shows that
//! two are one.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, Value};
use uuid::Uuid;

use crate::domain::call::{CallFacts, LegFacts, Party};
use crate::domain::clock::Timestamp;
use crate::domain::ids::new_id;

use super::connect::for_update;
use super::directory;
use super::error::DbError;
use super::objects::legs_of;
use super::pairs;
use super::rows;
use super::sql::{all, exec, groups, list, models, one, vals};
use super::words;

/// Where a fact comes from.
pub(super) struct Origin<'a> {
    pub source: &'a str,
    pub kind: &'a str,
    pub arrived_at: Timestamp,
    pub now: Timestamp,
}

/// A call after its facts were merged.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    pub call_id: Uuid,
    pub facts: CallFacts,
    /// The call's start, else its arrival.
    pub at_ms: i64,
    /// A fact changed, or the call is new.
    pub changed: bool,
}

/// Finds the call of these facts or makes it, and merges. The row stays locked.
pub(super) async fn merge(
    txn: &DatabaseTransaction,
    origin: &Origin<'_>,
    told: &CallFacts,
) -> Result<Merged, DbError> {
    let placed = match &told.place {
        Some(place) => Some(super::places::named(txn, origin.source, told, place).await?),
        None => None,
    };
    let told = placed.as_ref().unwrap_or(told);
    let names = names(told);
    let found = find(txn, origin.source, &names).await?;
    let Some((first, others)) = found.split_first() else {
        return insert(txn, origin, told).await;
    };
    let mut told = told.clone();
    let mut legs = legs_of(txn, &found.iter().map(|c| c.call_id).collect::<Vec<_>>()).await?;
    let mut legs = |id: &Uuid| legs.remove(id).unwrap_or_default();
    let before = rows::call_facts(&first.facts, legs(&first.call_id))?;
    let mut facts = before.clone();
    let mut arrived = first.arrived_at_ms.min(origin.arrived_at.ms());
    for other in others {
        // One call under two names, told apart until now.
        let theirs = rows::call_facts(&other.facts, legs(&other.call_id))?;
        combine(&mut facts, &theirs);
        arrived = arrived.min(other.arrived_at_ms);
        join(txn, first.call_id, other.call_id).await?;
        pairs::wake_call(txn, first.call_id, None, origin.now).await?;
    }
    // Both sides before they meet: a party with its name and the same one without would be two.
    directory::fill(txn, origin.source, [&mut facts, &mut told]).await?;
    combine(&mut facts, &told);
    let facts_changed = facts != before;
    let merged = Merged {
        call_id: first.call_id,
        at_ms: facts.started_at.map_or(arrived, Timestamp::ms),
        changed: facts_changed || !others.is_empty(),
        facts,
    };
    if merged.changed || arrived != first.arrived_at_ms {
        let direction = merged.facts.direction.map(|d| d.as_str().to_owned());
        exec(
            txn,
            "update call set provider_call_id = $2, facts = $3, direction = $4, started_at_ms = $5, \
             duration_ms = $6, arrived_at_ms = $7, at_ms = $8 where call_id = $1",
            vals![
                merged.call_id,
                merged.facts.provider_call_id.as_str(),
                without_legs(&merged.facts),
                direction,
                rows::ms(merged.facts.started_at),
                merged.facts.duration_ms,
                arrived,
                merged.at_ms
            ],
        )
        .await?;
        write_names(txn, origin.source, &merged).await?;
        write_legs(txn, &merged).await?;
        write_words(txn, &merged).await?;
        if merged.at_ms != first.at_ms || !others.is_empty() {
            exec(
                txn,
                "update recording set at_ms = $2 where call_id = $1",
                vals![merged.call_id, merged.at_ms],
            )
            .await?;
            exec(
                txn,
                "update call_tag set at_ms = $2 where call_id = $1",
                vals![merged.call_id, merged.at_ms],
            )
            .await?;
        }
    }
    Ok(merged)
}

/// A row as it is written when the same manifest or notice comes to an empty database.
async fn insert(
    txn: &DatabaseTransaction,
    origin: &Origin<'_>,
    told: &CallFacts,
) -> Result<Merged, DbError> {
    let mut facts = told.clone();
    directory::fill(txn, origin.source, [&mut facts]).await?;
    canonical(&mut facts);
    insert_as(txn, origin, new_id(origin.now), facts).await
}

pub(super) async fn insert_as(
    txn: &DatabaseTransaction,
    origin: &Origin<'_>,
    call_id: Uuid,
    facts: CallFacts,
) -> Result<Merged, DbError> {
    let names = names(&facts);
    insert_named(txn, origin, call_id, facts, &names).await
}

/// The names of these facts by which a call is known, and those by which none is.
pub(super) async fn names_known(
    txn: &DatabaseTransaction,
    source: &str,
    facts: &CallFacts,
) -> Result<(Vec<String>, Vec<String>), DbError> {
    let (mut known, mut new) = (Vec::new(), Vec::new());
    for name in names(facts) {
        let sql = "select 1 from call_alias where source = $1 and alias = $2";
        match one(txn, sql, vals![source, name.as_str()]).await? {
            Some(_) => known.push(name),
            None => new.push(name),
        }
    }
    Ok((known, new))
}

/// The call under these of its names only.
pub(super) async fn insert_named(
    txn: &DatabaseTransaction,
    origin: &Origin<'_>,
    call_id: Uuid,
    facts: CallFacts,
    names: &[String],
) -> Result<Merged, DbError> {
    let merged = Merged {
        call_id,
        at_ms: facts.started_at.unwrap_or(origin.arrived_at).ms(),
        facts,
        changed: true,
    };
    exec(
        txn,
        "insert into call (call_id, source, kind, provider_call_id, facts, direction, started_at_ms, \
         duration_ms, arrived_at_ms, at_ms, has_recording) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        vals![
            call_id,
            origin.source,
            origin.kind,
            merged.facts.provider_call_id.as_str(),
            without_legs(&merged.facts),
            merged.facts.direction.map(|d| d.as_str().to_owned()),
            rows::ms(merged.facts.started_at),
            merged.facts.duration_ms,
            origin.arrived_at.ms(),
            merged.at_ms,
            false
        ],
    )
    .await?;
    // Without "on conflict": when another worker made the call a moment ago, this transaction starts again.
    for name in names {
        exec(
            txn,
            "insert into call_alias (source, alias, call_id) values ($1, $2, $3)",
            vals![origin.source, name.as_str(), call_id],
        )
        .await?;
    }
    write_legs(txn, &merged).await?;
    write_words(txn, &merged).await?;
    Ok(merged)
}

fn names(facts: &CallFacts) -> Vec<String> {
    let mut names: Vec<String> = std::iter::once(&facts.provider_call_id)
        .chain(&facts.aliases)
        .filter(|name| !name.is_empty())
        .cloned()
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The calls that go by any of these names, oldest first, locked.
async fn find(
    txn: &DatabaseTransaction,
    source: &str,
    names: &[String],
) -> Result<Vec<entity::call::Model>, DbError> {
    let mut values = vals![source];
    values.extend(names.iter().map(|name| Value::from(name.as_str())));
    models(
        txn,
        format!(
            "select * from call where call_id in (select call_id from call_alias \
             where source = $1 and alias in {}) order by call_id{}",
            list(2, names.len()),
            for_update(txn)
        ),
        values,
    )
    .await
}

/// Merges `theirs` so that the order of notices does not matter: a made-up id names no call that has another, a CDR
/// names the call, of two equals
/// the smaller name counts, and every other name is an alias.
fn combine(mine: &mut CallFacts, theirs: &CallFacts) {
    if mine.provider_call_id != theirs.provider_call_id {
        let by_vendor = |facts: &CallFacts| (!facts.made_up, facts.is_cdr);
        let theirs_counts = match by_vendor(theirs).cmp(&by_vendor(mine)) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => theirs.provider_call_id < mine.provider_call_id,
        };
        let other = if theirs_counts {
            std::mem::replace(&mut mine.provider_call_id, theirs.provider_call_id.clone())
        } else {
            theirs.provider_call_id.clone()
        };
        mine.aliases.push(other);
    }
    mine.merge(theirs);
    canonical(mine);
}

/// One order for everything that has none, so that equal facts are equal rows.
fn canonical(facts: &mut CallFacts) {
    let own = facts.provider_call_id.clone();
    facts
        .aliases
        .retain(|alias| *alias != own && !alias.is_empty());
    facts.aliases.sort_unstable();
    facts.aliases.dedup();
    facts.correlation_ids.sort_unstable();
    facts.correlation_ids.dedup();
    let key = |p: &Party| {
        (
            p.role.clone(),
            p.id.clone(),
            p.name.clone(),
            p.number.clone(),
        )
    };
    facts.parties.sort_by_key(key);
    facts.parties.dedup();
    let custom: BTreeMap<_, _> = std::mem::take(&mut facts.custom).into_iter().collect();
    facts.custom = custom.into_iter().collect();
    let order = |leg: &LegFacts| (leg.started_at, leg.provider_leg_id.clone());
    facts.legs.sort_by_key(order);
}

fn without_legs(facts: &CallFacts) -> String {
    let facts = CallFacts {
        legs: Vec::new(),
        ..facts.clone()
    };
    rows::text(&facts)
}

/// Everything of the call `from` becomes the call `into`'s.
async fn join(txn: &DatabaseTransaction, into: Uuid, from: Uuid) -> Result<(), DbError> {
    for sql in [
        "update call_alias set call_id = $1 where call_id = $2",
        "update recording set call_id = $1 where call_id = $2",
        "insert into notice_link (subject_id, sha256, notice_id, arrived_at_ms) \
         select $1, sha256, notice_id, arrived_at_ms from notice_link where subject_id = $2 \
         on conflict (subject_id, sha256) do nothing",
        "update search_key set call_id = $1 where call_id = $2 and recording_id is not null",
        "update call_note set call_id = $1 where call_id = $2",
        "insert into call_tag (call_id, tag, author, made_at_ms, at_ms) \
         select $1, tag, author, made_at_ms, at_ms from call_tag where call_id = $2 \
         on conflict (call_id, tag) do nothing",
        "update call set has_recording = exists (select 1 from recording where call_id = $1), \
         expect_until_ms = coalesce(expect_until_ms, \
         (select expect_until_ms from call where call_id = $2)) where call_id = $1",
    ] {
        exec(txn, sql, vals![into, from]).await?;
    }
    for sql in [
        "delete from notice_link where subject_id = $1",
        "delete from call_tag where call_id = $1",
        "delete from search_key where call_id = $1",
        "delete from call_leg where call_id = $1",
        "delete from call where call_id = $1",
    ] {
        exec(txn, sql, vals![from]).await?;
    }
    Ok(())
}

async fn write_names(
    txn: &DatabaseTransaction,
    source: &str,
    call: &Merged,
) -> Result<(), DbError> {
    let known = all(
        txn,
        "select alias from call_alias where call_id = $1",
        vals![call.call_id],
    )
    .await?;
    let known: Vec<String> = known
        .iter()
        .map(|row| row.try_get_by_index(0))
        .collect::<Result<_, _>>()?;
    for name in names(&call.facts) {
        if !known.contains(&name) {
            exec(
                txn,
                "insert into call_alias (source, alias, call_id) values ($1, $2, $3)",
                vals![source, name, call.call_id],
            )
            .await?;
        }
    }
    Ok(())
}

async fn write_legs(txn: &DatabaseTransaction, call: &Merged) -> Result<(), DbError> {
    for leg in &call.facts.legs {
        exec(
            txn,
            "insert into call_leg (call_id, provider_leg_id, facts) values ($1, $2, $3) \
             on conflict (call_id, provider_leg_id) do update set facts = excluded.facts",
            vals![call.call_id, leg.provider_leg_id.as_str(), rows::text(leg)],
        )
        .await?;
    }
    Ok(())
}

/// Replaces the call's words; those of its recordings only follow its time.
async fn write_words<C: ConnectionTrait>(c: &C, call: &Merged) -> Result<(), DbError> {
    exec(
        c,
        "delete from search_key where call_id = $1 and recording_id is null",
        vals![call.call_id],
    )
    .await?;
    exec(
        c,
        "update search_key set at_ms = $2 where call_id = $1",
        vals![call.call_id, call.at_ms],
    )
    .await?;
    let words: Vec<_> = words::of_call(&call.facts).into_iter().collect();
    for chunk in words.chunks(100) {
        let mut values = Vec::with_capacity(chunk.len() * 4);
        for (kind, value) in chunk {
            values.extend(vals![*kind, value.as_str(), call.call_id, call.at_ms]);
        }
        exec(
            c,
            format!(
                "insert into search_key (kind, value, call_id, at_ms) values {} \
                 on conflict (kind, value, call_id) do update set recording_id = null",
                groups(1, chunk.len(), 4)
            ),
            values,
        )
        .await?;
    }
    Ok(())
}

/// A word that finds one recording of the call only.
pub(super) async fn add_recording_word<C: ConnectionTrait>(
    c: &C,
    call: &Merged,
    recording_id: Uuid,
    id: &str,
) -> Result<(), DbError> {
    let word = words::folded(id);
    if word.is_empty() {
        return Ok(());
    }
    exec(
        c,
        "insert into search_key (kind, value, call_id, recording_id, at_ms) \
         values ($1, $2, $3, $4, $5) on conflict (kind, value, call_id) do nothing",
        vals![words::ID, word, call.call_id, recording_id, call.at_ms],
    )
    .await?;
    Ok(())
}
