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
    fn slack_needs_both_moments() {
        assert_eq!(slack_s(Some(at(90_000)), Some(at(30_000))), Some(60));
        assert_eq!(slack_s(None, Some(at(1))), None);
    }
}
