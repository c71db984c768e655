//! Two rows that turn out to be one recording become one: what the second knew goes into the first.

use sea_orm::DatabaseTransaction;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::recording::Part;

use super::error::DbError;
use super::rows;
use super::sql::{exec, vals};

type Row = entity::recording::Model;

/// Nothing of it is in the archive and nobody works on it: a second row for what is one recording.
pub(super) fn can_be_dropped(row: &Row) -> bool {
    row.folder.is_none() && row.lease_owner.is_none() && row.archived_at_ms.is_none()
}

/// What the dropped row knew.
pub(super) fn absorb(row: &mut Row, other: &Row) -> Result<(), DbError> {
    if row.provider_recording_id.is_none() {
        row.provider_recording_id
            .clone_from(&other.provider_recording_id);
    }
    if Part::parse(&row.part) == Part::Unknown {
        row.part.clone_from(&other.part);
    }
    row.began_at_ms = row.began_at_ms.or(other.began_at_ms);
    if row.party.is_none() {
        row.party.clone_from(&other.party);
    }
    let mut handle: Json = rows::json(&row.handle)?;
    unite(&mut handle, &rows::json(&other.handle)?);
    row.handle = handle.to_string();
    if row.archived_at_ms.is_none()
        && (row.link_url.is_none() || other.link_url_until_ms > row.link_url_until_ms)
    {
        row.link_url.clone_from(&other.link_url);
        row.link_url_until_ms = other.link_url_until_ms;
        row.link_until_ms = other.link_until_ms.or(row.link_until_ms);
    }
    row.link_renewable |= other.link_renewable && row.archived_at_ms.is_none();
    row.gone_told_ms = [row.gone_told_ms, other.gone_told_ms]
        .into_iter()
        .flatten()
        .min();
    row.gone_at_ms = row.gone_told_ms.or(row.gone_at_ms).or(other.gone_at_ms);
    row.confirmed_at_ms = [row.confirmed_at_ms, other.confirmed_at_ms]
        .into_iter()
        .flatten()
        .min();
    row.arrived_at_ms = row.arrived_at_ms.min(other.arrived_at_ms);
    row.deadline_at_ms = rows::clocks(row)
        .deadline(Timestamp::from_ms(row.arrived_at_ms), row.link_renewable)
        .ms();
    Ok(())
}

pub(super) async fn drop_into(
    txn: &DatabaseTransaction,
    into: Uuid,
    from: Uuid,
) -> Result<(), DbError> {
    for sql in [
        "update recording_alias set recording_id = $1 where recording_id = $2",
        "update marker set recording_id = $1 where recording_id = $2",
        "insert into notice_link (subject_id, sha256, notice_id, arrived_at_ms) \
         select $1, sha256, notice_id, arrived_at_ms from notice_link where subject_id = $2 \
         on conflict (subject_id, sha256) do nothing",
        // Also by its own id: whoever noted that one down finds the recording.
        "insert into search_key (kind, value, call_id, recording_id, at_ms) \
         select k.kind, k.value, r.call_id, r.recording_id, r.at_ms from search_key k, recording r \
         where k.recording_id = $2 and r.recording_id = $1 on conflict (kind, value, call_id) do nothing",
        "update search_key set recording_id = $1 where recording_id = $2 \
         and call_id = (select call_id from recording where recording_id = $1)",
        "update call set has_recording = exists (select 1 from recording r \
         where r.call_id = call.call_id and r.recording_id <> $2) or call_id = (select call_id from recording \
         where recording_id = $1) where call_id = (select call_id from recording where recording_id = $2)",
    ] {
        exec(txn, sql, vals![into, from]).await?;
    }
    for sql in [
        "delete from notice_link where subject_id = $1",
        "delete from search_key where recording_id = $1",
        "delete from recording_event where recording_id = $1",
        "delete from recording where recording_id = $1",
    ] {
        exec(txn, sql, vals![from]).await?;
    }
    Ok(())
}

/// Adds fields and items that are new; what is known stays.
pub(super) fn unite(mine: &mut Json, theirs: &Json) {
    match (mine, theirs) {
        (Json::Object(mine), Json::Object(theirs)) => {
            for (key, value) in theirs {
                match mine.get_mut(key) {
                    Some(known) => unite(known, value),
                    None => {
                        mine.insert(key.clone(), value.clone());
                    }
                }
            }
            mine.sort_keys();
        }
        (Json::Array(mine), Json::Array(theirs)) => {
            for value in theirs {
                if !mine.contains(value) {
                    mine.push(value.clone());
                }
            }
            mine.sort_by_key(Json::to_string);
        }
        (mine @ Json::Null, theirs) => *mine = theirs.clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn handles_unite_in_any_order() {
        let parts = [
            json!({"call_ids": ["a"], "x": null}),
            json!({"call_ids": ["b", "a"], "y": {"z": 1}}),
            json!({"x": "1"}),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
            let mut handle = Json::Null;
            for i in order {
                unite(&mut handle, &parts[i]);
            }
            seen.insert(handle.to_string());
        }
        assert_eq!(
            seen.into_iter().collect::<Vec<_>>(),
            [r#"{"call_ids":["a","b"],"x":"1","y":{"z":1}}"#]
        );
    }
}
