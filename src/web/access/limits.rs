//! How often somebody may ask: a bucket for each name, filled by time, in memory.
//!
//! What a newcomer gets wrong: each process counts for itself. The limits are there against a runaway script and
//! against guessing, not as a price list; the tries of an account are counted in the database.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Names remembered; beyond it those that have waited longest are forgotten.
const MOST_NAMES: usize = 10_000;

#[derive(Debug)]
pub struct Limits {
    per_minute: f64,
    buckets: Mutex<HashMap<String, (f64, Instant)>>,
}

impl Limits {
    /// 0 does not limit.
    pub fn new(per_minute: u32) -> Self {
        Self {
            per_minute: f64::from(per_minute),
            buckets: Mutex::default(),
        }
    }

    /// Takes one; the error says after how long the next may be taken.
    pub fn take(&self, name: &str, now: Instant) -> Result<(), Duration> {
        if self.per_minute == 0.0 {
            return Ok(());
        }
        let mut buckets = self
            .buckets
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if buckets.len() >= MOST_NAMES && !buckets.contains_key(name) {
            let full_again = Duration::from_secs(60);
            buckets.retain(|_, (_, at)| now.saturating_duration_since(*at) < full_again);
            if buckets.len() >= MOST_NAMES
                && let Some(oldest) = buckets.iter().min_by_key(|(_, (_, at))| *at)
            {
                let oldest = oldest.0.clone();
                buckets.remove(&oldest);
            }
        }
        let (left, at) = buckets
            .entry(name.to_owned())
            .or_insert((self.per_minute, now));
        let gained = now.saturating_duration_since(*at).as_secs_f64() * self.per_minute / 60.0;
        *left = (*left + gained).min(self.per_minute);
        *at = now;
        if *left < 1.0 {
            let wait = (1.0 - *left) * 60.0 / self.per_minute;
            return Err(Duration::from_secs_f64(wait));
        }
        *left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_asks_too_often_waits_and_others_do_not() {
        let limits = Limits::new(3);
        let now = Instant::now();
        for _ in 0..3 {
            assert!(limits.take("a", now).is_ok());
        }
        let wait = limits.take("a", now).unwrap_err();
        assert!((wait.as_secs_f64() - 20.0).abs() < 0.1, "{wait:?}");
        assert!(limits.take("b", now).is_ok());
        assert!(limits.take("a", now + Duration::from_secs(21)).is_ok());
        assert!(limits.take("a", now + Duration::from_secs(21)).is_err());
        let none = Limits::new(0);
        assert!((0..1000).all(|_| none.take("a", now).is_ok()));
    }

    #[test]
    fn names_do_not_pile_up() {
        let limits = Limits::new(3);
        let now = Instant::now();
        for n in 0..MOST_NAMES + 50 {
            limits.take(&n.to_string(), now).unwrap();
        }
        assert!(limits.buckets.lock().unwrap().len() <= MOST_NAMES);
    }
}
