//! Legal holds: which recordings are held, why, by whom, and of which objects the store was seen to hold them.

use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::keys::ObjectKey;

use super::Database;
use super::error::DbError;
use super::sql::{all, exec, vals};

/// A recording that is held.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Hold {
    pub recording_id: Uuid,
    pub reason: String,
    pub placed_by: String,
    pub placed_at: Timestamp,
    /// Objects that the index says are in the archive.
    pub objects: u64,
    /// Of these, the ones of which the store was seen to hold them.
    pub held: u64,
    /// Somebody is lifting it.
    pub is_lifting: bool,
}

/// An object that the store is to hold, or to let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldObject {
    pub object_id: Uuid,
    pub recording_id: Uuid,
    pub key: ObjectKey,
    pub version_id: Option<String>,
}

fn objects(rows: &[sea_orm::QueryResult]) -> Result<Vec<HeldObject>, DbError> {
    rows.iter()
        .map(|row| {
            Ok(HeldObject {
                object_id: row.try_get_by_index(0)?,
                recording_id: row.try_get_by_index(1)?,
                key: ObjectKey::stored(row.try_get_by_index::<String>(2)?),
                version_id: row.try_get_by_index(3)?,
            })
        })
        .collect()
}

impl Database {
    /// From now on the recording is held; one that is held already keeps its first reason.
    pub async fn place_hold(
        &self,
        recording_id: Uuid,
        reason: &str,
        by: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        exec(
            self.writer(),
            "insert into legal_hold (recording_id, reason, placed_by, placed_at_ms) \
             values ($1, $2, $3, $4) on conflict (recording_id) do update set lifting_by = null",
            vals![recording_id, reason, by, now.ms()],
        )
        .await?;
        Ok(())
    }

    /// Nothing more is held for it; false when there is no hold. [`Self::end_hold`] follows when the store let go.
    pub async fn begin_lifting(&self, recording_id: Uuid, by: &str) -> Result<bool, DbError> {
        let sql = "update legal_hold set lifting_by = $2 where recording_id = $1";
        Ok(exec(self.writer(), sql, vals![recording_id, by]).await? > 0)
    }

    pub async fn end_hold(&self, recording_id: Uuid) -> Result<(), DbError> {
        let txn = self.begin().await?;
        let sql = "delete from legal_hold_object where recording_id = $1";
        exec(&txn, sql, vals![recording_id]).await?;
        let sql = "delete from legal_hold where recording_id = $1 and lifting_by is not null";
        exec(&txn, sql, vals![recording_id]).await?;
        txn.commit().await?;
        Ok(())
    }

    /// All holds, the oldest first.
    pub async fn holds(&self) -> Result<Vec<Hold>, DbError> {
        all(
            self.reader(),
            "select h.recording_id, h.reason, h.placed_by, h.placed_at_ms, h.lifting_by, \
             (select count(*) from archive_object o where o.recording_id = h.recording_id \
              and o.verified_at_ms is not null), \
             (select count(*) from legal_hold_object x join archive_object o on o.object_id = x.object_id \
              where o.recording_id = h.recording_id) \
             from legal_hold h order by h.placed_at_ms, h.recording_id",
            vec![],
        )
        .await?
        .iter()
        .map(|row| {
            let unsigned =
                |at| Ok::<_, DbError>(u64::try_from(row.try_get_by_index::<i64>(at)?).unwrap_or(0));
            Ok(Hold {
                recording_id: row.try_get_by_index(0)?,
                reason: row.try_get_by_index(1)?,
                placed_by: row.try_get_by_index(2)?,
                placed_at: Timestamp::from_ms(row.try_get_by_index(3)?),
                is_lifting: row.try_get_by_index::<Option<String>>(4)?.is_some(),
                objects: unsigned(5)?,
                held: unsigned(6)?,
            })
        })
        .collect()
    }

    /// Objects of held recordings of which the store was not yet seen to hold them: of one recording, or of all.
    pub async fn to_hold(
        &self,
        recording_id: Option<Uuid>,
        limit: u64,
    ) -> Result<Vec<HeldObject>, DbError> {
        let sql = "select o.object_id, o.recording_id, o.object_key, o.version_id from archive_object o \
                   join legal_hold h on h.recording_id = o.recording_id \
                   where h.lifting_by is null and o.verified_at_ms is not null \
                   and (h.recording_id = $1 or $2) \
                   and not exists (select 1 from legal_hold_object x where x.object_id = o.object_id) \
                   order by o.object_key, o.object_id limit $3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let id = recording_id.unwrap_or_default();
        let values = vals![id, recording_id.is_none(), limit];
        objects(&all(self.reader(), sql, values).await?)
    }

    /// The store was seen to hold it.
    pub async fn note_held(&self, object: &HeldObject, now: Timestamp) -> Result<(), DbError> {
        exec(
            self.writer(),
            "insert into legal_hold_object (object_id, recording_id, held_at_ms) values ($1, $2, $3) \
             on conflict (object_id) do nothing",
            vals![object.object_id, object.recording_id, now.ms()],
        )
        .await?;
        Ok(())
    }

    /// Everything of a recording that is in the archive.
    pub async fn objects_of(&self, recording_id: Uuid) -> Result<Vec<HeldObject>, DbError> {
        let sql = "select object_id, recording_id, object_key, version_id from archive_object \
                   where recording_id = $1 and verified_at_ms is not null order by object_key, object_id";
        objects(&all(self.reader(), sql, vals![recording_id]).await?)
    }
}
