//! Checks of stored objects: in which order they are walked, what was found, and how far each check has come.
//!
//! What a newcomer gets wrong: `verified_at_ms` moves only when all bytes were read and are right. A damaged
//! object keeps its old time, so the oldest unchecked object that is reported is an honest one.

use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Fingerprint;
use crate::domain::fixity::Damage;
use crate::domain::keys::ObjectKey;
use crate::domain::view::{Alarm, FixityCoverage, FixityFinding};

use super::Database;
use super::error::DbError;
use super::objects::record;
use super::recordings::ObjectRow;
use super::rows;
use super::sql::{all, count, exec, list, models, one, vals};

/// In the history of a recording, when an object is what it should be again.
const WHOLE_AGAIN: &str = "object_whole_again";

const NOT_DAMAGED: &str =
    "not exists (select 1 from fixity_finding f where f.object_id = archive_object.object_id)";

/// An object of which a row says that it lies in the archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub recording_id: Uuid,
    pub object: ObjectRow,
}

/// The right of one process to go on with a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    name: String,
    token: i64,
    /// When this check began; objects that were read since then are done.
    pub begun_at: Timestamp,
    /// How many objects are still to be read.
    pub quota: u64,
}

fn kept(models: Vec<entity::archive_object::Model>) -> Result<Vec<Kept>, DbError> {
    models
        .into_iter()
        .map(|model| {
            let (recording_id, object) = rows::object(model)?;
            Ok(Kept {
                recording_id,
                object,
            })
        })
        .collect()
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn unsigned(row: &QueryResult, index: usize) -> Result<u64, DbError> {
    let n: i64 = row.try_get_by_index(index)?;
    Ok(u64::try_from(n).unwrap_or(0))
}

impl Database {
    /// Begins the check `name`, or goes on with the one that was left open; `None` when it is not due, or when
    /// another process is at it. `quota` counts for a new one.
    pub async fn claim_check(
        &self,
        name: &str,
        quota: u64,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Check>, DbError> {
        exec(
            self.writer(),
            "insert into fixity_run (name, begun_at_ms, next_at_ms, until_at_ms, token, is_open, quota) \
             values ($1, 0, 0, 0, 0, $2, 0) on conflict (name) do nothing",
            vals![name, false],
        )
        .await?;
        let row = one(
            self.writer(),
            "update fixity_run set until_at_ms = $2, token = token + 1, \
             begun_at_ms = case when is_open then begun_at_ms else $3 end, \
             quota = case when is_open then quota else $4 end, is_open = $5 \
             where name = $1 and next_at_ms <= $3 and until_at_ms <= $3 \
             returning token, begun_at_ms, quota",
            vals![name, until.ms(), now.ms(), signed(quota), true],
        )
        .await?;
        row.map(|row| {
            Ok(Check {
                name: name.to_owned(),
                token: row.try_get_by_index(0)?,
                begun_at: Timestamp::from_ms(row.try_get_by_index(1)?),
                quota: unsigned(&row, 2)?,
            })
        })
        .transpose()
    }

    /// Whether another process is at the check now.
    pub async fn check_is_held(&self, name: &str, now: Timestamp) -> Result<bool, DbError> {
        let sql = "select count(*) from fixity_run where name = $1 and until_at_ms > $2";
        Ok(count(self.reader(), sql, vals![name, now.ms()]).await? > 0)
    }

    /// Writes down how far it is; `until` now gives it back. False: another process has it.
    pub async fn keep_check(&self, check: &Check, until: Timestamp) -> Result<bool, DbError> {
        let touched = exec(
            self.writer(),
            "update fixity_run set until_at_ms = $3, quota = $4 where name = $1 and token = $2",
            vals![
                check.name.as_str(),
                check.token,
                until.ms(),
                signed(check.quota)
            ],
        )
        .await?;
        Ok(touched > 0)
    }

    /// The check is through; the next one may begin at `next`.
    pub async fn finish_check(&self, check: &Check, next: Timestamp) -> Result<(), DbError> {
        exec(
            self.writer(),
            "update fixity_run set is_open = $3, until_at_ms = 0, next_at_ms = $4 \
             where name = $1 and token = $2",
            vals![check.name.as_str(), check.token, false, next.ms()],
        )
        .await?;
        Ok(())
    }

    /// How many objects the rows say are in the archive.
    pub async fn count_kept(&self) -> Result<u64, DbError> {
        let sql = "select count(*) from archive_object where verified_at_ms is not null";
        count(self.reader(), sql, vec![]).await
    }

    /// A page of them in the byte order of their keys, without those that are known to be damaged.
    pub async fn kept_by_key(
        &self,
        after: Option<&Kept>,
        limit: usize,
    ) -> Result<Vec<Kept>, DbError> {
        let (key, id) = after.map_or(("", Uuid::nil()), |last| {
            (last.object.key.as_str(), last.object.object_id)
        });
        let sql = format!(
            "select * from archive_object where (object_key, object_id) > ($1, $2) \
             and verified_at_ms is not null and {NOT_DAMAGED} order by object_key, object_id limit $3"
        );
        let values = vals![key, id, signed(limit as u64)];
        kept(models(self.reader(), sql, values).await?)
    }

    /// A page of those that were read last before `before`, the oldest first, without the damaged ones.
    pub async fn kept_by_age(
        &self,
        before: Timestamp,
        after: Option<&Kept>,
        limit: usize,
    ) -> Result<Vec<Kept>, DbError> {
        let (at, id) = after.map_or((i64::MIN, Uuid::nil()), |last| {
            let at = rows::ms(last.object.verified_at).unwrap_or(i64::MIN);
            (at, last.object.object_id)
        });
        let sql = format!(
            "select * from archive_object where (verified_at_ms, object_id) > ($1, $2) \
             and verified_at_ms < $3 and verified_at_ms is not null and {NOT_DAMAGED} \
             order by verified_at_ms, object_id limit $4"
        );
        let values = vals![at, id, before.ms(), signed(limit as u64)];
        kept(models(self.reader(), sql, values).await?)
    }

    /// Damaged ones that nobody looked at since `before`.
    pub async fn kept_damaged(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<Kept>, DbError> {
        let sql = "select o.* from archive_object o join fixity_finding f on f.object_id = o.object_id \
                   where f.checked_at_ms < $1 order by f.checked_at_ms, o.object_id limit $2";
        let values = vals![before.ms(), signed(limit as u64)];
        kept(models(self.reader(), sql, values).await?)
    }

    /// Ids of `n` of them, by chance.
    pub async fn kept_by_chance(&self, n: u64) -> Result<Vec<Uuid>, DbError> {
        let sql = "select object_id from archive_object where verified_at_ms is not null \
                   order by random() limit $1";
        all(self.reader(), sql, vals![signed(n)])
            .await?
            .iter()
            .map(|row| Ok(row.try_get_by_index(0)?))
            .collect()
    }

    pub async fn kept_by_id(&self, ids: &[Uuid]) -> Result<Vec<Kept>, DbError> {
        let sql = format!(
            "select * from archive_object where object_id in {} and verified_at_ms is not null",
            list(1, ids.len())
        );
        let values = ids.iter().map(|id| Value::from(*id)).collect();
        kept(models(self.reader(), sql, values).await?)
    }

    /// Another object that should hold just these bytes. A walk over all rows: for a few questions a check.
    pub async fn whose_bytes(
        &self,
        found: &Fingerprint,
        object_id: Uuid,
    ) -> Result<Option<ObjectKey>, DbError> {
        let row = one(
            self.reader(),
            "select object_key from archive_object \
             where sha256 = $1 and size_bytes = $2 and object_id <> $3 limit 1",
            vals![
                found.sha256.as_bytes().to_vec(),
                signed(found.bytes),
                object_id
            ],
        )
        .await?;
        row.map(|row| Ok(ObjectKey::stored(row.try_get_by_index::<String>(0)?)))
            .transpose()
    }

    /// All its bytes were read and are right. True when it was damaged before.
    pub async fn object_is_whole(&self, kept: &Kept, now: Timestamp) -> Result<bool, DbError> {
        let object = &kept.object;
        let txn = self.begin().await?;
        exec(
            &txn,
            "update archive_object set verified_at_ms = $3 \
             where object_id = $1 and sha256 = $2 and verified_at_ms is not null",
            vals![
                object.object_id,
                object.sha256.as_bytes().to_vec(),
                now.ms()
            ],
        )
        .await?;
        let healed = exec(
            &txn,
            "delete from fixity_finding where object_id = $1",
            vals![object.object_id],
        )
        .await?
            > 0;
        if healed {
            tell(&txn, kept.recording_id, WHOLE_AGAIN, now).await?;
        }
        txn.commit().await?;
        Ok(healed)
    }

    /// The same, where nobody has named what is wrong yet: a name that a check gave is better.
    pub async fn object_looks_damaged(
        &self,
        object_id: Uuid,
        damage: Damage,
        what: &str,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let known = "select count(*) from fixity_finding where object_id = $1";
        if count(self.reader(), known, vals![object_id]).await? == 0 {
            self.object_is_damaged(object_id, damage, what, now).await?;
        }
        Ok(())
    }

    /// It is not what it should be; `what` says what lies there instead, for a person. True when that is news.
    pub async fn object_is_damaged(
        &self,
        object_id: Uuid,
        damage: Damage,
        what: &str,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let txn = self.begin().await?;
        let row = one(
            &txn,
            "select o.recording_id, f.code from archive_object o \
             left join fixity_finding f on f.object_id = o.object_id where o.object_id = $1",
            vals![object_id],
        )
        .await?;
        let Some(row) = row else {
            return Ok(false);
        };
        let before: Option<String> = row.try_get_by_index(1)?;
        exec(
            &txn,
            "insert into fixity_finding (object_id, code, what, found_at_ms, checked_at_ms) \
             values ($1, $2, $3, $4, $4) on conflict (object_id) do update set \
             code = excluded.code, what = excluded.what, checked_at_ms = excluded.checked_at_ms",
            vals![object_id, damage.code(), what, now.ms()],
        )
        .await?;
        let is_news = before.as_deref() != Some(damage.code());
        if is_news {
            tell(&txn, row.try_get_by_index(0)?, damage.code(), now).await?;
        }
        txn.commit().await?;
        Ok(is_news)
    }

    /// What is damaged now, the longest first.
    pub async fn fixity_findings(&self, limit: usize) -> Result<Vec<FixityFinding>, DbError> {
        all(
            self.reader(),
            "select f.code, r.source, o.recording_id, o.role, o.object_key, f.what, f.found_at_ms, \
             f.checked_at_ms from fixity_finding f join archive_object o on o.object_id = f.object_id \
             join recording r on r.recording_id = o.recording_id \
             order by f.found_at_ms, o.object_key, o.object_id limit $1",
            vals![signed(limit as u64)],
        )
        .await?
        .iter()
        .map(|row| {
            Ok(FixityFinding {
                code: row.try_get_by_index(0)?,
                source: row.try_get_by_index(1)?,
                recording_id: row.try_get_by_index(2)?,
                role: row.try_get_by_index(3)?,
                key: row.try_get_by_index(4)?,
                what: row.try_get_by_index(5)?,
                since: Timestamp::from_ms(row.try_get_by_index(6)?),
                checked_at: Timestamp::from_ms(row.try_get_by_index(7)?),
            })
        })
        .collect()
    }

    /// How much of the archive was read since `since`, and which object waits longest.
    pub async fn fixity_coverage(&self, since: Timestamp) -> Result<FixityCoverage, DbError> {
        let mut coverage = FixityCoverage::default();
        let sums = one(
            self.reader(),
            "select count(*), cast(coalesce(sum(size_bytes), 0) as bigint), \
             count(case when verified_at_ms >= $1 then 1 end), \
             cast(coalesce(sum(case when verified_at_ms >= $1 then size_bytes end), 0) as bigint) \
             from archive_object where verified_at_ms is not null",
            vals![since.ms()],
        )
        .await?;
        if let Some(row) = sums {
            coverage.objects = unsigned(&row, 0)?;
            coverage.bytes = unsigned(&row, 1)?;
            coverage.checked_objects = unsigned(&row, 2)?;
            coverage.checked_bytes = unsigned(&row, 3)?;
        }
        let oldest = one(
            self.reader(),
            "select verified_at_ms, object_key from archive_object where verified_at_ms is not null \
             order by verified_at_ms, object_id limit 1",
            vec![],
        )
        .await?;
        if let Some(row) = oldest {
            coverage.oldest_unchecked_at = rows::at(row.try_get_by_index(0)?);
            coverage.oldest_unchecked_key = row.try_get_by_index(1)?;
        }
        let damaged = "select count(*) from fixity_finding f \
                       join archive_object o on o.object_id = f.object_id";
        coverage.damaged = count(self.reader(), damaged, vec![]).await?;
        Ok(coverage)
    }

    /// An alarm for each kind of damage and source.
    pub(super) async fn fixity_alarms(&self) -> Result<Vec<Alarm>, DbError> {
        let rows = all(
            self.reader(),
            "select f.code, r.source, count(*), min(f.found_at_ms) from fixity_finding f \
             cross join archive_object o cross join recording r \
             where o.object_id = f.object_id and r.recording_id = o.recording_id group by f.code, r.source",
            vec![],
        )
        .await?;
        let mut alarms = Vec::new();
        for row in &rows {
            let code: String = row.try_get_by_index(0)?;
            let damage = Damage::parse(&code).ok_or_else(|| DbError::unknown("damage", &code))?;
            alarms.push(Alarm {
                code,
                source: row.try_get_by_index(1)?,
                count: unsigned(row, 2)?,
                since: rows::at(row.try_get_by_index(3)?),
                what: damage.what().to_owned(),
                remedy: damage.remedy().to_owned(),
            });
        }
        Ok(alarms)
    }
}

/// Findings on objects that have no row any more: what deletes rows calls this at its end.
pub(super) async fn forget_findings<C: sea_orm::ConnectionTrait>(c: &C) -> Result<(), DbError> {
    let sql = "delete from fixity_finding where not exists \
               (select 1 from archive_object o where o.object_id = fixity_finding.object_id)";
    exec(c, sql, vec![]).await?;
    Ok(())
}

/// A line in the recording's history; its state stays.
async fn tell(
    txn: &sea_orm::DatabaseTransaction,
    recording_id: Uuid,
    code: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let sql = "select state from recording where recording_id = $1";
    let Some(row) = one(txn, sql, vals![recording_id]).await? else {
        return Ok(());
    };
    let state = rows::state(&row.try_get_by_index::<String>(0)?)?;
    record(txn, recording_id, Some(state), state, Some(code), now).await
}
