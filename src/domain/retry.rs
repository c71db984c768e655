//! When to try again: backoff with jitter, and the vendor's own plan for files that are not ready yet.

use std::time::Duration;

use super::clock::Timestamp;

/// What the caller of a failed operation may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAdvice {
    /// The same request will fail again.
    Never,
    /// Later, with growing waits.
    Backoff,
    /// Not before this much time has passed (the other side said so).
    After(Duration),
}

/// Longest wait between two tries of anything that is not settled.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// The wait before try `failures + 1`: doubled from 5 s up to one hour, spread over 50 to 100 % by
/// `jitter` (0.0 to 1.0) so that many recordings that failed together do not come back together.
pub fn backoff(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.min(16));
    doubled
        .min(LONGEST_WAIT)
        .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// When to look again for a file that the vendor has not made yet.
///
/// `plan` holds the vendor's waits in order; after its end the last wait repeats up to `deadline`,
/// afterwards every six hours (Feiyu page, section 6: hourly for 24 h, then every 6 h).
pub fn not_ready(
    plan: &[Duration],
    tries: u32,
    now: Timestamp,
    deadline: Option<Timestamp>,
) -> Duration {
    if deadline.is_some_and(|deadline| now >= deadline) {
        return Duration::from_secs(6 * 3600);
    }
    plan.get(tries as usize)
        .or(plan.last())
        .copied()
        .unwrap_or(LONGEST_WAIT)
}

/// The longest wait between two questions for a call's recordings.
const LONGEST_ASKING: Duration = Duration::from_secs(3 * 24 * 3600);

/// The wait after question number `asks` (from 0) for the recordings of a call: the vendor's own plan,
/// then its last wait doubled each time, up to three days.
pub fn asking(plan: &[Duration], asks: u32) -> Duration {
    let planned = u32::try_from(plan.len()).unwrap_or(u32::MAX);
    if let Some(wait) = plan.get(asks as usize) {
        return *wait;
    }
    let last = plan.last().copied().unwrap_or(Duration::from_secs(300));
    let doublings = asks.saturating_sub(planned) + u32::from(planned > 0);
    last.saturating_mul(1 << doublings.min(20))
        .min(LONGEST_ASKING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_spread() {
        assert_eq!(backoff(0, 1.0), Duration::from_secs(5));
        assert_eq!(backoff(3, 1.0), Duration::from_secs(40));
        assert_eq!(backoff(3, 0.0), Duration::from_secs(20));
        assert_eq!(backoff(40, 1.0), LONGEST_WAIT);
    }

    #[test]
    fn questions_for_a_call_follow_the_plan_and_then_grow() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let plan = [minutes(5), minutes(60)];
        let waits: Vec<Duration> = (0..4).map(|asks| asking(&plan, asks)).collect();
        assert_eq!(waits, [5, 60, 120, 240].map(minutes));
        assert_eq!(asking(&plan, 60), LONGEST_ASKING);
        assert_eq!(asking(&[], 0), minutes(5));
        assert_eq!(asking(&[], 1), minutes(10));
    }

    #[test]
    fn the_vendors_plan_is_followed_then_its_last_wait_then_six_hours() {
        let minute = |m: u64| Duration::from_secs(60 * m);
        let plan = [minute(5), minute(10), minute(60)];
        let now = Timestamp::from_ms(0);
        let until = Some(Timestamp::from_ms(1));
        assert_eq!(not_ready(&plan, 0, now, until), minute(5));
        assert_eq!(not_ready(&plan, 9, now, until), minute(60));
        assert_eq!(
            not_ready(&plan, 9, Timestamp::from_ms(1), until),
            minute(360)
        );
        assert_eq!(not_ready(&[], 0, now, None), LONGEST_WAIT);
    }
}
