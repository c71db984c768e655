//! Turns at the vendors' doors: one row a source, one statement a turn, whoever asks.
//!
//! The moments are of the process clocks, like those of leases. A moment that is hours off was written
//! by a clock that was wrong, and does not count.

use std::time::Duration;

use crate::domain::clock::Timestamp;
use crate::domain::retry::LONGEST_WAIT;

use super::Database;
use super::error::DbError;
use super::sql::{exec, one, vals};

/// Further off than any line of waiting processes.
const FAR: Duration = Duration::from_secs(6 * 3600);

impl Database {
    /// Takes this source's next turn: how long to wait until it comes.
    pub async fn take_turn(
        &self,
        source: &str,
        spacing: Duration,
        now: Timestamp,
    ) -> Result<Duration, DbError> {
        let (now, spacing) = (us(now), micros(spacing));
        let row = one(
            self.writer(),
            "insert into pace (source, next_at_us) values ($1, $2 + $3) \
             on conflict (source) do update set next_at_us = $3 + \
             case when pace.next_at_us between $2 and $4 then pace.next_at_us else $2 end \
             returning next_at_us",
            vals![source, now, spacing, now + micros(FAR)],
        )
        .await?;
        let after: i64 = row.map_or(Ok(now), |row| row.try_get_by_index(0))?;
        Ok(wait(after - spacing, now))
    }

    /// Nobody takes a turn of this source before `wait` (at most [`LONGEST_WAIT`]) is over.
    pub async fn close_door(
        &self,
        source: &str,
        wait: Duration,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let now = us(now);
        let until = now + micros(wait.min(LONGEST_WAIT));
        exec(
            self.writer(),
            "insert into pace (source, next_at_us, closed_until_us) values ($1, $2, $2) \
             on conflict (source) do update set \
             next_at_us = case when pace.next_at_us between $2 and $3 then pace.next_at_us else $2 end, \
             closed_until_us = case when pace.closed_until_us between $2 and $3 \
             then pace.closed_until_us else $2 end",
            vals![source, until, now + micros(FAR)],
        )
        .await?;
        Ok(())
    }

    /// The vendor said to slow down while a turn was waited for: how long the door stays closed.
    pub async fn door_closed(&self, source: &str, now: Timestamp) -> Result<Duration, DbError> {
        let now = us(now);
        let row = one(
            self.reader(),
            "select closed_until_us from pace where source = $1 and closed_until_us <= $2",
            vals![source, now + micros(FAR)],
        )
        .await?;
        let until: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
        Ok(wait(until, now))
    }
}

fn us(at: Timestamp) -> i64 {
    at.ms().saturating_mul(1000)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

fn wait(until: i64, now: i64) -> Duration {
    Duration::from_micros(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
}
