//! How far the move to another archive is, and the one transaction that switches.

use sea_orm::QueryResult;
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Fingerprint;
use crate::domain::keys::ObjectKey;

use super::Database;
use super::error::DbError;
use super::processes::{ProcessRow, lock_processes, running};
use super::rows;
use super::sql::{all, count, exec, groups, list, one, vals};

/// The names under which an installation remembers where its archive lies and where it is moving to.
pub const PLACE: &str = "archive_place";
const MOVE: &str = "archive_move";
const MOVED: &str = "archive_moved";

/// An object that a row says is in the archive, and that is not yet known to lie in the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToMove {
    pub key: ObjectKey,
    pub expected: Fingerprint,
    pub version_id: Option<String>,
    pub mime: String,
}

/// An object that was read back from the new archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedObject {
    pub key: ObjectKey,
    pub fingerprint: Fingerprint,
    pub version_id: Option<String>,
}

/// A move that was begun, as the installation remembers it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MoveRow {
    /// The new archive's place.
    pub place: Uuid,
    pub from: String,
    pub to: String,
    pub at: Timestamp,
}

/// What became of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switch {
    Done,
    /// These still run; nothing was changed.
    Running(Vec<ProcessRow>),
    /// So many objects came since; nothing was changed.
    Behind(u64),
}

const NOT_MOVED: &str = "from archive_object o where o.verified_at_ms is not null \
     and not exists (select 1 from archive_move m where m.object_key = o.object_key)";

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn read(row: &QueryResult) -> Result<ToMove, DbError> {
    Ok(ToMove {
        key: ObjectKey::stored(row.try_get_by_index::<String>(0)?),
        expected: Fingerprint {
            bytes: u64::try_from(row.try_get_by_index::<i64>(1)?).unwrap_or(0),
            sha256: rows::sha256(&row.try_get_by_index::<Vec<u8>>(2)?)?,
        },
        version_id: row.try_get_by_index(3)?,
        mime: row.try_get_by_index(4)?,
    })
}

impl Database {
    /// The move under way, if one is.
    pub async fn move_under_way(&self) -> Result<Option<MoveRow>, DbError> {
        let text = self.installation(MOVE).await?;
        text.map(|text| rows::json(&text)).transpose()
    }

    /// The last move that was switched.
    pub async fn last_move(&self) -> Result<Option<MoveRow>, DbError> {
        let text = self.installation(MOVED).await?;
        text.map(|text| rows::json(&text)).transpose()
    }

    /// Begins a move; what an earlier one to another place had done is forgotten.
    pub async fn begin_move(&self, row: &MoveRow) -> Result<(), DbError> {
        let txn = self.begin().await?;
        lock_processes(&txn).await?;
        exec(&txn, "delete from archive_move", vec![]).await?;
        exec(
            &txn,
            "insert into installation (name, value) values ($1, $2) \
             on conflict (name) do update set value = excluded.value",
            vals![MOVE, rows::text(row)],
        )
        .await?;
        txn.commit().await?;
        Ok(())
    }

    /// A page of what is still to be moved, in the order of keys, one row a key.
    pub async fn to_move(&self, after: &str, limit: u64) -> Result<Vec<ToMove>, DbError> {
        let sql = format!(
            "select o.object_key, o.size_bytes, o.sha256, o.version_id, o.mime {NOT_MOVED} \
             and o.object_key > $1 and not exists (select 1 from archive_object p where \
             p.object_key = o.object_key and p.verified_at_ms is not null and p.object_id < o.object_id) \
             order by o.object_key limit $2"
        );
        let found = all(self.reader(), sql, vals![after, signed(limit)]).await?;
        found.iter().map(read).collect()
    }

    /// Objects and bytes that the rows say are still to be moved.
    pub async fn left_to_move(&self) -> Result<(u64, u64), DbError> {
        let sql =
            format!("select count(*), cast(coalesce(sum(o.size_bytes), 0) as bigint) {NOT_MOVED}");
        let Some(row) = one(self.reader(), sql, vec![]).await? else {
            return Ok((0, 0));
        };
        let unsigned =
            |at| Ok::<_, DbError>(u64::try_from(row.try_get_by_index::<i64>(at)?).unwrap_or(0));
        Ok((unsigned(0)?, unsigned(1)?))
    }

    /// Which of these lie verified in the new archive.
    pub async fn moved_of(&self, keys: &[ObjectKey]) -> Result<Vec<String>, DbError> {
        let sql = format!(
            "select object_key from archive_move where object_key in {}",
            list(1, keys.len())
        );
        let values = keys.iter().map(|key| key.as_str().into()).collect();
        all(self.reader(), sql, values)
            .await?
            .iter()
            .map(|row| Ok(row.try_get_by_index(0)?))
            .collect()
    }

    /// How many objects lie verified in the new archive.
    pub async fn count_moved(&self) -> Result<u64, DbError> {
        count(self.reader(), "select count(*) from archive_move", vec![]).await
    }

    /// These were read back from the new archive.
    pub async fn note_moved(&self, objects: &[MovedObject], now: Timestamp) -> Result<(), DbError> {
        if objects.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "insert into archive_move (object_key, size_bytes, sha256, version_id, verified_at_ms) \
             values {} on conflict (object_key) do update set size_bytes = excluded.size_bytes, \
             sha256 = excluded.sha256, version_id = excluded.version_id, \
             verified_at_ms = excluded.verified_at_ms",
            groups(1, objects.len(), 5)
        );
        let values = objects
            .iter()
            .flat_map(|object| {
                vals![
                    object.key.as_str(),
                    signed(object.fingerprint.bytes),
                    object.fingerprint.sha256.as_bytes().to_vec(),
                    object.version_id.clone(),
                    now.ms()
                ]
            })
            .collect();
        exec(self.writer(), sql, values).await?;
        Ok(())
    }

    /// From now on the archive is the one that was moved to: all or nothing.
    ///
    /// Rows get the new store's version ids, and every lease ends, so that a process which was taken for dead
    /// publishes nothing that it put into the old archive. `missing` is how many objects are known to be left out.
    pub async fn switch_archive(
        &self,
        row: &MoveRow,
        missing: u64,
        now: Timestamp,
    ) -> Result<Switch, DbError> {
        let txn = self.begin().await?;
        lock_processes(&txn).await?;
        let processes = running(&txn, now).await?;
        if !processes.is_empty() {
            return Ok(Switch::Running(processes));
        }
        let sql = format!("select count(distinct o.object_key) {NOT_MOVED}");
        let behind = count(&txn, sql, vec![]).await?;
        if behind > missing {
            return Ok(Switch::Behind(behind - missing));
        }
        exec(
            &txn,
            "update archive_object set version_id = (select m.version_id from archive_move m \
             where m.object_key = archive_object.object_key)",
            vec![],
        )
        .await?;
        for table in ["recording", "notice"] {
            let sql = format!(
                "update {table} set lease_token = lease_token + 1, available_at_ms = $1, \
                 lease_owner = null where lease_owner is not null"
            );
            exec(&txn, sql, vals![now.ms()]).await?;
        }
        for (name, value) in [(PLACE, row.place.to_string()), (MOVED, rows::text(row))] {
            exec(
                &txn,
                "insert into installation (name, value) values ($1, $2) \
                 on conflict (name) do update set value = excluded.value",
                vals![name, value],
            )
            .await?;
        }
        exec(
            &txn,
            "delete from installation where name = $1",
            vals![MOVE],
        )
        .await?;
        exec(&txn, "delete from archive_move", vec![]).await?;
        // The new store's objects were never seen to be held, nor to lie there without a row.
        exec(&txn, "delete from legal_hold_object", vec![]).await?;
        exec(&txn, "delete from archive_orphan", vec![]).await?;
        txn.commit().await?;
        Ok(Switch::Done)
    }
}
