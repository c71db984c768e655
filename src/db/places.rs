//! Which call a moment in a room belongs to, for vendors whose room ids are used again.
//!
//! The names `{place}|open|{ms}` and `{place}|seen|{ms}` are aliases of calls like any other. A moment belongs
//! to the newest life that had begun by then and had not ended; while nobody told of the beginning, moments
//! near each other hold together, and the beginning takes them over when it comes.

use sea_orm::{DatabaseTransaction, Value};

use crate::domain::call::{CallFacts, Place};
use crate::domain::clock::Timestamp;

use super::error::DbError;
use super::rows;
use super::sql::{all, models, vals};

/// Clocks of the vendor's machines differ, and the last event of a life may be told just after its end.
const SLACK_MS: i64 = 5_000;
/// No life of a room is believed to be longer.
const LONGEST_MS: i64 = 24 * 3600 * 1000;

const OPEN: &str = "open";
const SEEN: &str = "seen";

fn name(place: &Place, what: &str, ms: i64) -> String {
    // Fifteen digits: in order as text until the year 33658.
    format!("{}|{what}|{:015}", place.name, ms.max(0))
}

/// `told` under the names by which its call is found.
pub(super) async fn named(
    txn: &DatabaseTransaction,
    source: &str,
    told: &CallFacts,
    place: &Place,
) -> Result<CallFacts, DbError> {
    let mut told = CallFacts {
        place: None,
        ..told.clone()
    };
    let at = place.at.ms();
    if place.opens {
        told.aliases.push(name(place, OPEN, at));
        let next = opened(txn, source, place, at + 1, at + LONGEST_MS, "asc").await?;
        let until = next.map_or(at + LONGEST_MS, |(ms, _)| ms - 1);
        told.aliases
            .extend(orphans(txn, source, place, at - SLACK_MS, until).await?);
        return Ok(told);
    }
    let other = place.or.clone().map(|name| Place {
        name,
        or: None,
        ..place.clone()
    });
    for place in std::iter::once(place).chain(&other) {
        if let Some((alias, is_known)) = nearest_call(txn, source, place).await? {
            take_name(txn, source, &mut told, alias).await?;
            if is_known {
                return Ok(told);
            }
            break;
        }
    }
    for place in std::iter::once(place).chain(&other) {
        told.aliases.push(name(place, SEEN, at));
    }
    Ok(told)
}

/// A name of the call that the moment belongs to, and whether it is the life's own; else a neighbour's.
async fn nearest_call(
    txn: &DatabaseTransaction,
    source: &str,
    place: &Place,
) -> Result<Option<(String, bool)>, DbError> {
    let at = place.at.ms();
    let life = opened(txn, source, place, at - LONGEST_MS, at + SLACK_MS, "desc").await?;
    if let Some((_, alias)) = life
        && !is_over(txn, source, &alias, place.at).await?
    {
        return Ok(Some((alias, true)));
    }
    let before = seen(txn, source, place, at - LONGEST_MS, at, "desc").await?;
    let after = seen(txn, source, place, at, at + LONGEST_MS, "asc").await?;
    for (moment, alias) in before.into_iter().chain(after) {
        let (from, to) = (moment.min(at), moment.max(at));
        let is_divided = opened(txn, source, place, from + 1, to, "asc")
            .await?
            .is_some();
        if !is_divided && !is_over(txn, source, &alias, place.at).await? {
            return Ok(Some((alias, false)));
        }
    }
    Ok(None)
}

/// The found call keeps its name; a name of the notice's own (a task) stays beside it.
async fn take_name(
    txn: &DatabaseTransaction,
    source: &str,
    told: &mut CallFacts,
    alias: String,
) -> Result<(), DbError> {
    let found = call_of(txn, source, &alias).await?;
    if let Some(call) = found
        && told.provider_call_id.contains("_~")
    {
        told.provider_call_id = call.provider_call_id;
    }
    told.aliases.push(alias);
    Ok(())
}

async fn call_of(
    txn: &DatabaseTransaction,
    source: &str,
    alias: &str,
) -> Result<Option<entity::call::Model>, DbError> {
    let found: Vec<entity::call::Model> = models(
        txn,
        "select * from call where call_id in \
         (select call_id from call_alias where source = $1 and alias = $2)",
        vals![source, alias],
    )
    .await?;
    Ok(found.into_iter().next())
}

/// The call had ended some time before.
async fn is_over(
    txn: &DatabaseTransaction,
    source: &str,
    alias: &str,
    at: Timestamp,
) -> Result<bool, DbError> {
    let Some(call) = call_of(txn, source, alias).await? else {
        return Ok(false);
    };
    let facts = rows::call_facts(&call.facts, Vec::new())?;
    Ok(facts
        .ended_at
        .is_some_and(|ended| at.ms() > ended.ms() + SLACK_MS))
}

async fn opened(
    txn: &DatabaseTransaction,
    source: &str,
    place: &Place,
    from: i64,
    to: i64,
    order: &str,
) -> Result<Option<(i64, String)>, DbError> {
    nearest(txn, source, place, OPEN, from, to, order).await
}

async fn seen(
    txn: &DatabaseTransaction,
    source: &str,
    place: &Place,
    from: i64,
    to: i64,
    order: &str,
) -> Result<Option<(i64, String)>, DbError> {
    nearest(txn, source, place, SEEN, from, to, order).await
}

/// The first name of this kind within these moments, in this order.
async fn nearest(
    txn: &DatabaseTransaction,
    source: &str,
    place: &Place,
    what: &str,
    from: i64,
    to: i64,
    order: &str,
) -> Result<Option<(i64, String)>, DbError> {
    let rows = all(
        txn,
        format!(
            "select alias from call_alias where source = $1 and alias >= $2 and alias <= $3 \
             order by alias {order} limit 1"
        ),
        vals![source, name(place, what, from), name(place, what, to)],
    )
    .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let alias: String = row.try_get_by_index(0)?;
    let ms = alias.rsplit('|').next().and_then(|ms| ms.parse().ok());
    Ok(ms.map(|ms: i64| (ms, alias)))
}

/// Moments within the life that just became known, of calls without a beginning of their own.
async fn orphans(
    txn: &DatabaseTransaction,
    source: &str,
    place: &Place,
    from: i64,
    to: i64,
) -> Result<Vec<String>, DbError> {
    let rows = all(
        txn,
        "select a.alias from call_alias a where a.source = $1 and a.alias >= $2 and a.alias <= $3 \
         and not exists (select 1 from call_alias b where b.call_id = a.call_id and b.source = $1 \
         and b.alias >= $4 and b.alias <= $5)",
        vals![
            source,
            name(place, SEEN, from),
            name(place, SEEN, to),
            name(place, OPEN, 0),
            Value::from(name(place, OPEN, 999_999_999_999_999))
        ],
    )
    .await?;
    rows.iter()
        .map(|row| Ok(row.try_get_by_index(0)?))
        .collect()
}
