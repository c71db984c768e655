//! The three clocks of a recording, and the order of work that follows from them.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;

const DAY_MS: i64 = 24 * 3600 * 1000;
/// Work that dies within this time goes first, whichever door it came through.
pub const URGENT_MS: i64 = 48 * 3600 * 1000;
/// How soon to treat a recording whose gone-at nobody knows.
pub const UNKNOWN_GONE_MS: i64 = 7 * DAY_MS;

/// When a recording can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// Earliest useful try.
    pub ready_after: Option<Timestamp>,
    /// The address we hold dies.
    pub link_until: Option<Timestamp>,
    /// The vendor deletes the audio.
    pub gone_at: Option<Timestamp>,
}

impl Clocks {
    /// The moment to order work by: the earlier of gone-at and, where the address cannot be renewed,
    /// link-until; arrival + 7 days when neither is known.
    pub fn deadline(&self, arrived_at: Timestamp, link_renewable: bool) -> Timestamp {
        let link = if link_renewable {
            None
        } else {
            self.link_until
        };
        match (self.gone_at, link) {
            (Some(gone), Some(link)) => gone.min(link),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => arrived_at.plus_ms(UNKNOWN_GONE_MS),
        }
    }

    /// The vendor's copy is gone by the clock: only where a time is known.
    pub fn is_over(&self, link_renewable: bool, now: Timestamp) -> bool {
        let link = if link_renewable {
            None
        } else {
            self.link_until
        };
        self.gone_at.or(link).is_some_and(|end| now >= end)
    }
}

/// How many recordings will be lost if the vendor is asked `per_second` times a second from `now` on, one
/// question each, in the order of their deadlines. `waiting` holds each one's earliest useful try and its
/// deadline, by deadline.
pub fn forecast_lost(waiting: &[(Timestamp, Timestamp)], now: Timestamp, per_second: f64) -> u64 {
    let spacing_ms = 1000.0 / per_second.max(0.001);
    let mut lost = 0;
    let mut turn_ms = 0.0;
    for (ready, deadline) in waiting {
        let turn = now.plus_ms(turn_ms as i64).max(*ready);
        if turn >= *deadline {
            // It takes no turn any more.
            lost += 1;
        } else {
            turn_ms += spacing_ms;
        }
    }
    lost
}

/// The order of work after urgency (CONTRACTS: live, backfill, access copies).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(i16)]
pub enum WorkClass {
    Live = 2,
    Backfill = 3,
    Access = 4,
}

/// Seconds between archiving and the vendor's deletion; the published margin.
pub fn slack_s(gone_at: Option<Timestamp>, archived_at: Option<Timestamp>) -> Option<i64> {
    Some(gone_at?.since_ms(archived_at?) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn the_deadline_is_the_first_thing_that_cannot_be_healed() {
        let clocks = |link, gone| Clocks {
            ready_after: None,
            link_until: link,
            gone_at: gone,
        };
        let arrived = at(1000);
        for (link, gone, renewable, expected) in [
            (Some(at(5)), Some(at(9)), false, at(5)),
            (Some(at(5)), Some(at(9)), true, at(9)),
            (Some(at(5)), None, false, at(5)),
            (Some(at(5)), None, true, at(1000 + UNKNOWN_GONE_MS)),
            (None, None, false, at(1000 + UNKNOWN_GONE_MS)),
            (None, Some(at(9)), false, at(9)),
        ] {
            assert_eq!(clocks(link, gone).deadline(arrived, renewable), expected);
        }
        assert!(clocks(Some(at(5)), None).is_over(false, at(5)));
        assert!(!clocks(Some(at(5)), None).is_over(true, at(5)));
        assert!(!clocks(None, None).is_over(false, at(i64::MAX)));
    }

    #[test]
    fn a_loss_is_forecast_when_the_turns_do_not_suffice() {
        let waiting: Vec<_> = (1..=10).map(|n| (at(0), at(n * 1000))).collect();
        assert_eq!(forecast_lost(&waiting, at(0), 2.0), 0);
        assert_eq!(forecast_lost(&waiting, at(0), 1.0), 0);
        assert_eq!(forecast_lost(&waiting, at(0), 0.5), 5);
        assert_eq!(forecast_lost(&waiting, at(4000), 100.0), 4);
        // Not made before the vendor deletes it.
        assert_eq!(forecast_lost(&[(at(9), at(9))], at(0), 5.0), 1);
        assert_eq!(forecast_lost(&[], at(0), 5.0), 0);
    }

    #[test]
    fn slack_needs_both_moments() {
        assert_eq!(slack_s(Some(at(90_000)), Some(at(30_000))), Some(60));
        assert_eq!(slack_s(None, Some(at(1))), None);
    }
}
