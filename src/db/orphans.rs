//! Objects in the archive that no row speaks of.

use crate::domain::clock::Timestamp;
use crate::domain::keys::ObjectKey;
use crate::domain::view::Alarm;

use super::Database;
use super::error::DbError;
use super::sql::{all, exec, groups, list, one, vals};

/// The alarm about them.
pub const ORPHANS: &str = "archive_orphans";

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Orphan {
    pub key: ObjectKey,
    pub bytes: u64,
    /// When a look first found it so.
    pub found_at: Timestamp,
}

impl Database {
    /// Of these keys, those that a row speaks of, planned ones included: they were planned before the first byte went.
    pub async fn known_keys(&self, keys: &[ObjectKey]) -> Result<Vec<String>, DbError> {
        let sql = format!(
            "select distinct object_key from archive_object where object_key in {}",
            list(1, keys.len())
        );
        let values = keys.iter().map(|key| key.as_str().into()).collect();
        all(self.reader(), sql, values)
            .await?
            .iter()
            .map(|row| Ok(row.try_get_by_index(0)?))
            .collect()
    }

    pub async fn note_orphans(
        &self,
        orphans: &[(ObjectKey, u64)],
        now: Timestamp,
    ) -> Result<(), DbError> {
        if orphans.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "insert into archive_orphan (object_key, size_bytes, found_at_ms, seen_at_ms) values {} \
             on conflict (object_key) do update set seen_at_ms = excluded.seen_at_ms, \
             size_bytes = excluded.size_bytes",
            groups(1, orphans.len(), 4)
        );
        let values = orphans
            .iter()
            .flat_map(|(key, bytes)| {
                let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
                vals![key.as_str(), bytes, now.ms(), now.ms()]
            })
            .collect();
        exec(self.writer(), sql, values).await?;
        Ok(())
    }

    /// A look that began at `begun` has seen everything: what it did not see so is none any more.
    pub async fn forget_orphans(&self, begun: Timestamp) -> Result<(), DbError> {
        let sql = "delete from archive_orphan where seen_at_ms < $1";
        exec(self.writer(), sql, vals![begun.ms()]).await?;
        Ok(())
    }

    /// The first of them by key.
    pub async fn orphans(&self, limit: u64) -> Result<Vec<Orphan>, DbError> {
        let sql = "select object_key, size_bytes, found_at_ms from archive_orphan \
                   order by object_key limit $1";
        all(
            self.reader(),
            sql,
            vals![i64::try_from(limit).unwrap_or(i64::MAX)],
        )
        .await?
        .iter()
        .map(|row| {
            Ok(Orphan {
                key: ObjectKey::stored(row.try_get_by_index::<String>(0)?),
                bytes: u64::try_from(row.try_get_by_index::<i64>(1)?).unwrap_or(0),
                found_at: Timestamp::from_ms(row.try_get_by_index(2)?),
            })
        })
        .collect()
    }

    pub(super) async fn orphan_alarm(&self) -> Result<Option<Alarm>, DbError> {
        let sql = "select count(*), min(found_at_ms), min(object_key) from archive_orphan";
        let Some(row) = one(self.reader(), sql, vec![]).await? else {
            return Ok(None);
        };
        let count: i64 = row.try_get_by_index(0)?;
        if count == 0 {
            return Ok(None);
        }
        let first: String = row.try_get_by_index(2)?;
        Ok(Some(Alarm {
            code: ORPHANS.to_owned(),
            source: None,
            count: u64::try_from(count).unwrap_or(0),
            since: row
                .try_get_by_index::<Option<i64>>(1)?
                .map(Timestamp::from_ms),
            what: format!("objects in the archive that no row speaks of; the first is {first}"),
            remedy: "`callvault archive orphans` lists them; a folder with a manifest is taken in by `callvault rebuild --from-archive --missing`, what a killed process left is harmless and stays".to_owned(),
        }))
    }
}
