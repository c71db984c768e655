//! Claiming work: one conditional `update ... returning`, the only place that decides who works on what.
//!
//! A claim moves `available_at_ms` to the lease's end, so "expired lease", "retry later" and "not ready
//! yet" are one case. On PostgreSQL `for update skip locked` keeps claimers out of each other's way;
//! SQLite has one writer and needs no lock.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Value};
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::deadlines::URGENT_MS;
use crate::domain::digest::Sha256;

use super::Database;
use super::connect::for_update;
use super::error::{DbError, DbErrorKind};
use super::recordings::{Classes, Lease, Leased};
use super::sql::{all, count, exec, list, models, one, vals};

/// `Ok` when the guarded write touched its row.
pub(super) fn held(touched: u64) -> Result<(), DbError> {
    if touched == 0 {
        Err(DbError::lease_lost())
    } else {
        Ok(())
    }
}

/// The row under this lease, locked; an error when somebody else has it or it was settled.
pub(super) async fn guarded(
    txn: &DatabaseTransaction,
    lease: &Lease,
) -> Result<entity::recording::Model, DbError> {
    let rows: Vec<entity::recording::Model> = models(
        txn,
        format!(
            "select * from recording where recording_id = $1 and lease_token = $2 \
             and lease_owner is not null{}",
            for_update(txn)
        ),
        vals![lease.recording_id, lease.token],
    )
    .await?;
    rows.into_iter().next().ok_or_else(DbError::lease_lost)
}

fn skip_locked<C: ConnectionTrait>(c: &C) -> &'static str {
    match c.get_database_backend() {
        DbBackend::Postgres => " for update skip locked",
        _ => "",
    }
}

/// `$1` now, `$2` the lease's end, `$3` instance, `$4` limit, then the sources.
pub(super) fn claim_values(
    now: Timestamp,
    until: Timestamp,
    instance: &str,
    limit: usize,
    sources: &[String],
) -> Vec<Value> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut values = vals![now.ms(), until.ms(), instance, limit];
    values.extend(sources.iter().map(|s| Value::from(s.as_str())));
    values
}

/// Rows of a million do not keep a vendor's notice waiting, whose link lives for minutes. The index
/// `notice_order` has the same words.
pub(super) const NOTICE_ORDER: &str = "(case when door = 'import' then 1 else 0 end)";

/// An expression, so that no index begins with it: SQLite would take an index by source for a single one, read all
/// that ever came from it, and sort that; the queue's own index has the order and only what waits.
const OF_SOURCES: &str = "source || '' in";

fn claim_recordings_sql<C: ConnectionTrait>(c: &C, tier: &str, sources: usize) -> String {
    format!(
        "update recording set available_at_ms = $2, lease_token = lease_token + 1, \
         lapses = lapses + case when lease_owner is not null and work_class <= 3 then 1 else 0 end, \
         access_lapses = access_lapses + case when lease_owner is not null and work_class = 4 then 1 else 0 end, \
         lease_owner = $3 \
         where recording_id in (select recording_id from recording where {tier} \
         and available_at_ms <= $1 and {OF_SOURCES} {} order by deadline_at_ms, recording_id limit $4{}) \
         and available_at_ms <= $1 returning recording_id, lease_token, deadline_at_ms",
        list(5, sources),
        skip_locked(c)
    )
}

pub(super) fn claim_notices_sql<C: ConnectionTrait>(c: &C, sources: usize) -> String {
    format!(
        "update notice set available_at_ms = $2, lease_owner = $3, lease_token = lease_token + 1 \
         where notice_id in (select notice_id from notice where result = 'waiting' \
         and available_at_ms <= $1 and {OF_SOURCES} {} order by {NOTICE_ORDER}, arrived_at_ms, notice_id limit $4{}) \
         and result = 'waiting' and available_at_ms <= $1 returning *",
        list(5, sources),
        skip_locked(c)
    )
}

/// The order of work (DESIGN section 1): what dies within 48 hours, live, backfill, access copies.
fn tiers(now: Timestamp, classes: Classes) -> Vec<String> {
    let urgent = now.plus_ms(URGENT_MS).ms();
    let archive = [
        format!("work_class <= 3 and deadline_at_ms < {urgent}"),
        "work_class = 2".to_owned(),
        "work_class = 3".to_owned(),
    ];
    let access = ["work_class = 4".to_owned()];
    match classes {
        Classes::Archive => archive.to_vec(),
        Classes::AccessOnly => access.to_vec(),
        Classes::All => archive.into_iter().chain(access).collect(),
    }
}

impl Database {
    /// Takes up to `limit` due recordings of these sources, in the order of work.
    ///
    /// A lease that ran out counts as a lapse: of the transcode phase for an archived recording.
    pub async fn claim(
        &self,
        now: Timestamp,
        instance: &str,
        lease: Duration,
        limit: usize,
        sources: &[String],
        classes: Classes,
    ) -> Result<Vec<Leased>, DbError> {
        if limit == 0 || sources.is_empty() || !self.anything_due(now, sources, classes).await? {
            return Ok(Vec::new());
        }
        let mut leases: Vec<Lease> = Vec::new();
        for tier in tiers(now, classes) {
            if leases.len() >= limit {
                break;
            }
            let sql = claim_recordings_sql(self.writer(), &tier, sources.len());
            let values = claim_values(
                now,
                now.plus(lease),
                instance,
                limit - leases.len(),
                sources,
            );
            let mut claimed = Vec::new();
            for row in all(self.writer(), sql, values).await? {
                let recording_id: Uuid = row.try_get_by_index(0)?;
                let token: i64 = row.try_get_by_index(1)?;
                let deadline: i64 = row.try_get_by_index(2)?;
                claimed.push((
                    deadline,
                    Lease {
                        recording_id,
                        token,
                    },
                ));
            }
            // `returning` promises no order.
            claimed.sort_by_key(|(deadline, lease)| (*deadline, lease.recording_id));
            leases.extend(claimed.into_iter().map(|(_, lease)| lease));
        }
        let ids: Vec<Uuid> = leases.iter().map(|lease| lease.recording_id).collect();
        let mut loaded = self.load_many(&ids, now).await?;
        Ok(leases
            .into_iter()
            .filter_map(|lease| {
                let loaded = loaded.remove(&lease.recording_id)?;
                Some(Leased { lease, loaded })
            })
            .collect())
    }

    /// Asked of a reader first, so that idle workers never wait for the writer.
    async fn anything_due(
        &self,
        now: Timestamp,
        sources: &[String],
        classes: Classes,
    ) -> Result<bool, DbError> {
        let which = match classes {
            Classes::Archive => "work_class <= 3",
            Classes::AccessOnly => "work_class = 4",
            Classes::All => "work_class is not null",
        };
        let mut values = vals![now.ms()];
        values.extend(sources.iter().map(|s| Value::from(s.as_str())));
        let sql = format!(
            "select count(*) from (select 1 from recording where {which} \
             and available_at_ms <= $1 and {OF_SOURCES} {} limit 1) due",
            list(2, sources.len())
        );
        Ok(count(self.reader(), sql, values).await? > 0)
    }

    /// Something that is not archived yet could be claimed now.
    pub async fn archive_work_is_due(
        &self,
        now: Timestamp,
        sources: &[String],
    ) -> Result<bool, DbError> {
        self.anything_due(now, sources, Classes::Archive).await
    }

    /// When anything becomes claimable; a moment in the past means now, `None` that nothing is left.
    pub async fn next_due_at(&self) -> Result<Option<Timestamp>, DbError> {
        let row = one(
            self.reader(),
            "select min(available_at_ms) from recording where work_class is not null",
            vec![],
        )
        .await?;
        let ms: Option<i64> = row.map_or(Ok(None), |row| row.try_get_by_index(0))?;
        Ok(ms.map(Timestamp::from_ms))
    }

    /// Holds the recording until `until`.
    pub async fn heartbeat(&self, lease: &Lease, until: Timestamp) -> Result<(), DbError> {
        let touched = exec(
            self.writer(),
            "update recording set available_at_ms = $3 \
             where recording_id = $1 and lease_token = $2 and lease_owner is not null",
            vals![lease.recording_id, lease.token, until.ms()],
        )
        .await?;
        held(touched)
    }

    /// Hands the recording back as it is, available at once; no lapse.
    pub async fn release(&self, lease: &Lease, now: Timestamp) -> Result<(), DbError> {
        let touched = exec(
            self.writer(),
            "update recording set available_at_ms = $3, lease_owner = null \
             where recording_id = $1 and lease_token = $2 and lease_owner is not null",
            vals![lease.recording_id, lease.token, now.ms()],
        )
        .await?;
        held(touched)
    }

    /// Ends the leases of a process of this machine that is known to be dead. The next claim counts
    /// the lapse. Gives how many recordings and notices are free again.
    pub async fn free_dead_leases(&self, instance: &str, now: Timestamp) -> Result<u64, DbError> {
        let mut freed = 0;
        // A notice that does not wait has no lease.
        for (table, waits) in [("recording", ""), ("notice", "result = 'waiting' and ")] {
            freed += exec(
                self.writer(),
                format!(
                    "update {table} set available_at_ms = $2 \
                     where {waits}lease_owner = $1 and available_at_ms > $2"
                ),
                vals![instance, now.ms()],
            )
            .await?;
        }
        Ok(freed)
    }

    /// The leases that have not run out, as (recording, token): what the spool's sweep must spare.
    pub async fn live_leases(&self, now: Timestamp) -> Result<HashSet<(Uuid, i64)>, DbError> {
        all(
            self.reader(),
            "select recording_id, lease_token from recording \
             where lease_owner is not null and available_at_ms > $1",
            vals![now.ms()],
        )
        .await?
        .iter()
        .map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)))
        .collect()
    }

    /// The recording still waits for an original with these bytes: a kept file of it is needed.
    pub async fn awaits_original(
        &self,
        recording_id: Uuid,
        sha256: &Sha256,
    ) -> Result<bool, DbError> {
        let row = one(
            self.reader(),
            "select 1 from recording r join archive_object o on o.recording_id = r.recording_id \
             where r.recording_id = $1 and r.archived_at_ms is null and r.work_class is not null \
             and o.role = 'original' and o.sha256 = $2 and o.verified_at_ms is null",
            vals![recording_id, sha256.as_bytes().to_vec()],
        )
        .await?;
        Ok(row.is_some())
    }

    /// The recording as it stands now.
    pub async fn load(&self, recording_id: Uuid) -> Result<super::recordings::Loaded, DbError> {
        let now = self.inner.clock.now();
        self.load_many(&[recording_id], now)
            .await?
            .remove(&recording_id)
            .ok_or_else(|| {
                DbError::new(
                    DbErrorKind::Other,
                    format!("there is no recording {recording_id}"),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;
    use crate::domain::clock::ManualClock;

    #[tokio::test]
    async fn claims_read_what_waits_and_not_all_that_ever_came() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_ms(0));
        let settings = Settings {
            url: crate::domain::secret::Secret::new("sqlite://callvault.db".to_owned()),
            ..Settings::default()
        };
        let db = Database::connect(&settings, dir.path(), clock)
            .await
            .unwrap();
        let now = Timestamp::from_ms(1_700_000_000_000);
        for sources in [
            vec!["one".to_owned()],
            vec!["one".to_owned(), "two".to_owned()],
        ] {
            let mut claims = vec![(
                "notice_order",
                claim_notices_sql(db.writer(), sources.len()),
            )];
            for tier in tiers(now, Classes::All) {
                let index = if tier.contains('<') {
                    "recording_urgent"
                } else {
                    "recording_work"
                };
                let sql = claim_recordings_sql(db.writer(), &tier, sources.len());
                claims.push((index, sql));
            }
            for (index, sql) in claims {
                let values = claim_values(now, now, "i", 64, &sources);
                let rows = all(db.reader(), format!("explain query plan {sql}"), values)
                    .await
                    .unwrap();
                let steps: Vec<String> = rows
                    .iter()
                    .map(|row| row.try_get_by_index(3).unwrap())
                    .collect();
                assert!(
                    steps.iter().any(|step| step.contains(index)),
                    "{sql}: {steps:?}"
                );
                assert!(
                    !steps.iter().any(|step| step.contains("TEMP B-TREE")),
                    "{sql}: {steps:?}"
                );
            }
        }
    }
}
