//! Numbers for those who keep the archive running: what came in, what is near its end, why things wait.

use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::view::{ExpiryBucket, HourCount, RecordingView, WaitReason};

use super::Database;
use super::error::DbError;
use super::rows;
use super::sql::{all, vals};

const HOUR_MS: i64 = 3_600_000;

/// Hours until the provider deletes: the upper ends of the classes of the histogram; the first is what is over.
pub const EXPIRY_HOURS: [i64; 8] = [0, 1, 6, 24, 72, 168, 720, i64::MAX];

impl Database {
    /// Notices of the last `hours` hours, the oldest hour first; every hour is there. Ids rise with time, so this is a
    /// range of the primary key.
    pub async fn notices_by_hour(
        &self,
        hours: i64,
        now: Timestamp,
    ) -> Result<Vec<HourCount>, DbError> {
        let this_hour = now.ms().div_euclid(HOUR_MS);
        let first = this_hour - hours + 1;
        let mut counts: Vec<HourCount> = (first..=this_hour)
            .map(|hour| HourCount {
                from: Timestamp::from_ms(hour * HOUR_MS),
                notices: 0,
            })
            .collect();
        let since = first * HOUR_MS;
        for row in all(
            self.reader(),
            "select arrived_at_ms / 3600000, count(*) from notice \
             where notice_id >= $1 and arrived_at_ms >= $2 group by arrived_at_ms / 3600000",
            vals![least_id(since), since],
        )
        .await?
        {
            let hour: i64 = row.try_get_by_index(0)?;
            let n: i64 = row.try_get_by_index(1)?;
            let at = usize::try_from(hour - first).unwrap_or(usize::MAX);
            if let Some(count) = counts.get_mut(at) {
                count.notices = u64::try_from(n).unwrap_or(0);
            }
        }
        Ok(counts)
    }

    /// Recordings that are not yet archived, by the time until their provider deletes them.
    pub async fn time_to_expiry(&self, now: Timestamp) -> Result<Vec<ExpiryBucket>, DbError> {
        let mut counts = vec![0_u64; EXPIRY_HOURS.len()];
        let mut unknown = 0;
        let mut case = String::new();
        for (i, hours) in EXPIRY_HOURS.iter().enumerate().take(EXPIRY_HOURS.len() - 1) {
            case.push_str(&format!(
                "when gone_at_ms - $1 < {} then {i} ",
                hours.saturating_mul(HOUR_MS)
            ));
        }
        let sql = format!(
            "select case when gone_at_ms is null then -1 {case} else {} end as class, count(*) \
             from recording where work_class <= 3 and archived_at_ms is null group by class",
            EXPIRY_HOURS.len() - 1
        );
        for row in all(self.reader(), sql, vals![now.ms()]).await? {
            // PostgreSQL calls it a small integer, SQLite a large one.
            let class = row
                .try_get_by_index::<i32>(0)
                .map(i64::from)
                .or_else(|_| row.try_get_by_index::<i64>(0))?;
            let n: i64 = row.try_get_by_index(1)?;
            let n = u64::try_from(n).unwrap_or(0);
            match usize::try_from(class) {
                Ok(at) => counts[at.min(EXPIRY_HOURS.len() - 1)] = n,
                Err(_) => unknown = n,
            }
        }
        let mut buckets: Vec<ExpiryBucket> = counts
            .into_iter()
            .zip(EXPIRY_HOURS)
            .map(|(recordings, hours)| ExpiryBucket {
                below_hours: Some(hours).filter(|hours| *hours < i64::MAX),
                is_known: true,
                recordings,
            })
            .collect();
        buckets.push(ExpiryBucket {
            below_hours: None,
            is_known: false,
            recordings: unknown,
        });
        Ok(buckets)
    }

    /// Why unfinished recordings wait, by source; the most first.
    pub async fn wait_reasons(&self) -> Result<Vec<WaitReason>, DbError> {
        all(
            self.reader(),
            // By a source as it is, SQLite would group over an index of all recordings.
            "select source || '', reason, count(*) as n, min(arrived_at_ms) from recording \
             where work_class is not null and reason is not null \
             group by 1, 2 order by 3 desc, 1, 2 limit 200",
            vec![],
        )
        .await?
        .iter()
        .map(|row| {
            let n: i64 = row.try_get_by_index(2)?;
            Ok(WaitReason {
                source: row.try_get_by_index(0)?,
                reason: row.try_get_by_index(1)?,
                recordings: u64::try_from(n).unwrap_or(0),
                since: rows::at(row.try_get_by_index(3)?),
            })
        })
        .collect()
    }

    /// What was put aside, the latest first.
    pub async fn put_aside(&self, limit: i64) -> Result<Vec<RecordingView>, DbError> {
        self.picked(
            "select recording_id from recording where state = 'quarantined' \
             order by at_ms desc, recording_id desc limit $1",
            limit,
        )
        .await
    }

    /// Unfinished recordings that their provider deletes next.
    pub async fn nearest_loss(&self, limit: i64) -> Result<Vec<RecordingView>, DbError> {
        self.picked(
            "select recording_id from recording where work_class <= 3 and archived_at_ms is null \
             and gone_at_ms is not null order by deadline_at_ms, recording_id limit $1",
            limit,
        )
        .await
    }

    async fn picked(&self, sql: &str, limit: i64) -> Result<Vec<RecordingView>, DbError> {
        let ids = all(self.reader(), sql, vals![limit])
            .await?
            .iter()
            .map(|row| row.try_get_by_index(0))
            .collect::<Result<Vec<Uuid>, _>>()?;
        let mut views = self.recording_views(&ids).await?;
        Ok(ids.iter().filter_map(|id| views.remove(id)).collect())
    }
}

/// The least id that can have been made at this moment.
fn least_id(ms: i64) -> Uuid {
    let ms = u128::try_from(ms.max(0)).unwrap_or(0);
    Uuid::from_u128(ms << 80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::new_id;

    #[test]
    fn no_id_of_a_moment_is_below_the_least() {
        let at = Timestamp::from_ms(1_712_346_600_123);
        assert!(new_id(at) > least_id(at.ms()));
        assert!(new_id(at) < least_id(at.ms() + 1));
    }
}
