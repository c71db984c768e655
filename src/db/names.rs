//! The names under which recordings are announced: one match is enough to know a recording again.

use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use crate::domain::reading::{Announced, PLACEHOLDER};

use super::calls::{Merged, add_recording_word};
use super::error::{DbError, DbErrorKind};
use super::sql::{all, exec, one, vals};

type Row = entity::recording::Model;

/// Nobody at the vendor gave any of these.
pub(super) fn is_placeholder(names: &[String]) -> bool {
    names.iter().all(|name| name.starts_with(PLACEHOLDER))
}

/// What the announcement calls the recording; never nothing.
pub(super) fn names(announced: &Announced) -> Vec<String> {
    let mut names: Vec<String> = announced
        .aliases
        .iter()
        .filter(|name| !name.is_empty())
        .cloned()
        .collect();
    if names.is_empty() {
        names.push(match &announced.provider_recording_id {
            Some(id) => format!("recording:{id}"),
            None => format!(
                "call:{}:{}",
                announced.provider_call_id,
                announced.part.as_str()
            ),
        });
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The call has a recording that somebody told of.
pub(super) async fn has_announced(
    txn: &DatabaseTransaction,
    call_id: Uuid,
) -> Result<bool, DbError> {
    let found = one(
        txn,
        format!(
            "select 1 from recording r where r.call_id = $1 and exists (select 1 from recording_alias a \
             where a.recording_id = r.recording_id and a.alias not like '{PLACEHOLDER}%') limit 1"
        ),
        vals![call_id],
    )
    .await?;
    Ok(found.is_some())
}

/// The names that the recording has in the tables.
pub(super) async fn names_of(
    txn: &DatabaseTransaction,
    recording_id: Uuid,
) -> Result<Vec<String>, DbError> {
    all(
        txn,
        "select alias from recording_alias where recording_id = $1",
        vals![recording_id],
    )
    .await?
    .iter()
    .map(|row| row.try_get_by_index(0).map_err(DbError::from))
    .collect()
}

/// Names that are new; and the placeholder's name goes once the vendor has named the recording.
pub(super) async fn write_names(
    txn: &DatabaseTransaction,
    source: &str,
    call: &Merged,
    row: &Row,
    names: &[String],
    known: &[Uuid],
) -> Result<(), DbError> {
    for name in names {
        exec(
            txn,
            "insert into recording_alias (source, alias, recording_id) values ($1, $2, $3) \
             on conflict (source, alias) do nothing",
            vals![source, name.as_str(), row.recording_id],
        )
        .await?;
        let owner = all(
            txn,
            "select recording_id from recording_alias where source = $1 and alias = $2",
            vals![source, name.as_str()],
        )
        .await?;
        let owner: Option<Uuid> = owner
            .first()
            .map(|row| row.try_get_by_index(0))
            .transpose()?;
        // Two rows that are both in the archive and turn out to be one keep their own names.
        let is_ours = owner.is_some_and(|id| id == row.recording_id || known.contains(&id));
        if !is_ours {
            // Another worker announced the same recording a moment ago: run again and find its row.
            return Err(DbError::new(
                DbErrorKind::Busy,
                "two notices announced the same recording at once",
            ));
        }
    }
    if !is_placeholder(names) {
        exec(
            txn,
            format!("delete from recording_alias where recording_id = $1 and alias like '{PLACEHOLDER}%'"),
            vals![row.recording_id],
        )
        .await?;
    }
    let own = row.recording_id.to_string();
    add_recording_word(txn, call, row.recording_id, &own).await?;
    if let Some(id) = &row.provider_recording_id {
        add_recording_word(txn, call, row.recording_id, id).await?;
    }
    Ok(())
}
