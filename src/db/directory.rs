//! The party directory: what an id of a vendor's stands for, told by `import`, filled into the calls that
//! name the id.
//!
//! Calls that are read later are filled as they are merged. Calls known already are walked in small steps
//! (`fill_known_calls`), twice: the second walk sees a call that was being read while the entry came.

use std::collections::BTreeMap;

use sea_orm::{DatabaseTransaction, Value};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::call::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::reading::DirectoryEntry;

use super::Database;
use super::announce;
use super::calls::{self, Origin};
use super::connect::for_update;
use super::error::DbError;
use super::rows;
use super::sql::{all, exec, list, models, vals};
use super::words;

/// Transactions that meet another writer of the same call are run again this often.
const RUNS: u32 = 8;
/// Calls filled in one transaction.
const STEP: usize = 50;
/// Longer than any transaction that was reading a call when the entry came.
const SECOND_WALK_AFTER_MS: i64 = 90_000;
const WALKS: i64 = 2;
/// Names and numbers remembered of an entry that keeps changing.
const MOST_EARLIER: usize = 20;

/// What an entry said before: a call that shows it learns the new word, one with the vendor's own keeps that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    name: Option<String>,
    number: Option<String>,
}

struct Known {
    now: Said,
    earlier: Vec<Said>,
}

/// Remembers an entry; a repeat changes nothing. An entry without name and number takes the old ones back.
pub(super) async fn enter(
    txn: &DatabaseTransaction,
    source: &str,
    entry: &DirectoryEntry,
    now: Timestamp,
) -> Result<(), DbError> {
    let found: Vec<entity::party::Model> = models(
        txn,
        format!(
            "select * from party where source = $1 and party_id = $2{}",
            for_update(txn)
        ),
        vals![source, entry.id.as_str()],
    )
    .await?;
    let said = Said {
        name: entry.name.clone(),
        number: entry.number.clone(),
    };
    let mut earlier: Vec<Said> = Vec::new();
    if let Some(row) = found.first() {
        let before = Said {
            name: row.name.clone(),
            number: row.number.clone(),
        };
        if before == said {
            return Ok(());
        }
        earlier = rows::json(&row.earlier)?;
        earlier.retain(|one| *one != before && *one != said);
        earlier.push(before);
        let surplus = earlier.len().saturating_sub(MOST_EARLIER);
        earlier.drain(..surplus);
    }
    exec(
        txn,
        "insert into party (source, party_id, name, number, earlier, passes, after_call, available_at_ms) \
         values ($1, $2, $3, $4, $5, $6, null, $7) on conflict (source, party_id) do update set \
         name = excluded.name, number = excluded.number, earlier = excluded.earlier, \
         passes = excluded.passes, after_call = null, available_at_ms = excluded.available_at_ms",
        vals![
            source,
            entry.id.as_str(),
            said.name,
            said.number,
            rows::text(&earlier),
            WALKS,
            now.ms()
        ],
    )
    .await?;
    Ok(())
}

/// Gives the parties of these facts the names and numbers that the directory knows.
pub(super) async fn fill<const N: usize>(
    txn: &DatabaseTransaction,
    source: &str,
    facts: [&mut CallFacts; N],
) -> Result<(), DbError> {
    let mut ids: Vec<&str> = facts
        .iter()
        .flat_map(|facts| facts.parties.iter().filter_map(|party| party.id.as_deref()))
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    ids.sort_unstable();
    ids.dedup();
    let mut known = BTreeMap::new();
    for chunk in ids.chunks(100) {
        let mut values = vals![source];
        values.extend(chunk.iter().map(|id| Value::from(*id)));
        let found: Vec<entity::party::Model> = models(
            txn,
            format!(
                "select * from party where source = $1 and party_id in {}",
                list(2, chunk.len())
            ),
            values,
        )
        .await?;
        for row in found {
            let entry = Known {
                earlier: rows::json(&row.earlier)?,
                now: Said {
                    name: row.name,
                    number: row.number,
                },
            };
            known.insert(row.party_id, entry);
        }
    }
    if known.is_empty() {
        return Ok(());
    }
    for facts in facts {
        for party in &mut facts.parties {
            let Some(entry) = party.id.as_ref().and_then(|id| known.get(id)) else {
                continue;
            };
            say(&mut party.name, entry, |said| &said.name);
            say(&mut party.number, entry, |said| &said.number);
        }
    }
    Ok(())
}

fn say(mine: &mut Option<String>, entry: &Known, of: fn(&Said) -> &Option<String>) {
    let is_ours = entry.earlier.iter().any(|said| of(said) == &*mine);
    if mine.is_none() || is_ours {
        mine.clone_from(of(&entry.now));
    }
}

impl Database {
    /// What the directory says of these ids.
    pub async fn directory_entries(
        &self,
        source: &str,
        ids: &[String],
    ) -> Result<Vec<DirectoryEntry>, DbError> {
        let mut values = vals![source];
        values.extend(ids.iter().map(|id| Value::from(id.as_str())));
        let sql = format!(
            "select * from party where source = $1 and party_id in {}",
            list(2, ids.len())
        );
        let rows: Vec<entity::party::Model> = models(self.reader(), sql, values).await?;
        Ok(rows
            .into_iter()
            .map(|row| DirectoryEntry {
                id: row.party_id,
                name: row.name,
                number: row.number,
            })
            .collect())
    }

    /// One step of one walk over the calls of these sources: fills some known calls with an entry that is
    /// new. False: no entry waits.
    pub async fn fill_known_calls(
        &self,
        sources: &[String],
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let mut run = 0;
        loop {
            match self.fill_step(sources, now).await {
                Err(error) if error.is_race() && run < RUNS => run += 1,
                done => return done,
            }
        }
    }

    async fn fill_step(&self, sources: &[String], now: Timestamp) -> Result<bool, DbError> {
        let due = format!(
            "select * from party where passes > 0 and available_at_ms <= $1 and source in {} \
             order by available_at_ms, source, party_id limit 1",
            list(2, sources.len())
        );
        let mut values = vals![now.ms()];
        values.extend(sources.iter().map(|source| Value::from(source.as_str())));
        // Looked for without a lock: nearly always nothing waits, and the writer is busy.
        if all(self.reader(), due.clone(), values.clone())
            .await?
            .is_empty()
        {
            return Ok(false);
        }
        let txn = self.begin().await?;
        let sql = format!("{due}{}", for_update(&txn));
        let found: Vec<entity::party::Model> = models(&txn, sql, values).await?;
        let Some(row) = found.into_iter().next() else {
            return Ok(false);
        };
        let calls = next_calls(&txn, &row).await?;
        for (call_id, provider_call_id, kind) in &calls {
            let origin = Origin {
                source: &row.source,
                kind,
                // Later than any: this is no notice, the call's arrival stays.
                arrived_at: Timestamp::from_ms(i64::MAX),
                now,
            };
            // A merge that tells nothing: what changes is what the directory knows.
            let told = CallFacts::new(provider_call_id);
            let merged = calls::merge(&txn, &origin, &told).await?;
            if merged.changed {
                announce::facts_changed(&txn, *call_id, now).await?;
            }
        }
        let last = calls.last().map(|(call_id, ..)| *call_id);
        let is_over = calls.len() < STEP;
        let (passes, after, again) = if is_over {
            (row.passes - 1, None, now.plus_ms(SECOND_WALK_AFTER_MS))
        } else {
            (row.passes, last, now)
        };
        exec(
            &txn,
            "update party set passes = $3, after_call = $4, available_at_ms = $5 \
             where source = $1 and party_id = $2",
            vals![
                row.source.as_str(),
                row.party_id.as_str(),
                passes,
                after,
                again.ms()
            ],
        )
        .await?;
        txn.commit().await?;
        Ok(true)
    }
}

/// The next calls of the entry's source that name its id, by id of the call.
async fn next_calls(
    txn: &DatabaseTransaction,
    row: &entity::party::Model,
) -> Result<Vec<(Uuid, String, String)>, DbError> {
    let after = row.after_call.unwrap_or(Uuid::nil());
    let found = all(
        txn,
        format!(
            "select c.call_id, c.provider_call_id, c.kind from search_key k join call c on c.call_id = k.call_id \
             where k.kind = $1 and k.value = $2 and k.call_id > $3 and c.source = $4 \
             order by k.call_id limit {STEP}"
        ),
        vals![
            words::PARTY,
            words::folded(&row.party_id),
            after,
            row.source.as_str()
        ],
    )
    .await?;
    found
        .iter()
        .map(|row| {
            Ok((
                row.try_get_by_index(0)?,
                row.try_get_by_index(1)?,
                row.try_get_by_index(2)?,
            ))
        })
        .collect()
}
