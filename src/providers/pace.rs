//! Turns at a vendor's door: each source has a budget of questions, shared by whoever asks.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

pub type SharedPace = Arc<dyn Pace>;

/// Hands out turns. The roof gives one that all processes share; tests and tools take [`LocalPace`].
#[async_trait]
pub trait Pace: Send + Sync + fmt::Debug {
    /// Waits until this source may ask once more.
    async fn turn(&self, source: &str, per_second: f64);

    /// The vendor said to slow down: nobody asks for this source before `wait` is over.
    async fn slow_down(&self, source: &str, wait: Duration);
}

/// Turns of this process alone.
#[derive(Debug, Default)]
pub struct LocalPace {
    /// The next free moment of each source.
    next: Mutex<HashMap<String, Instant>>,
}

impl LocalPace {
    pub fn shared() -> SharedPace {
        Arc::new(Self::default())
    }
}

/// The time between two turns; a budget that makes no sense is one question a second.
pub fn spacing(per_second: f64) -> Duration {
    if per_second.is_finite() && per_second > 0.0 {
        Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::from_secs(1))
    } else {
        Duration::from_secs(1)
    }
}

#[async_trait]
impl Pace for LocalPace {
    async fn turn(&self, source: &str, per_second: f64) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.get(source).map_or(now, |next| (*next).max(now));
            next.insert(source.to_owned(), turn + spacing(per_second));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }

    async fn slow_down(&self, source: &str, wait: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + wait;
        let turn = next.entry(source.to_owned()).or_insert(until);
        *turn = (*turn).max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_are_spaced_and_a_throttled_source_waits() {
        let pace = LocalPace::default();
        let begun = Instant::now();
        for _ in 0..5 {
            pace.turn("a", 200.0).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(20));
        pace.slow_down("a", Duration::from_secs(3600)).await;
        pace.slow_down("a", Duration::from_millis(1)).await;
        pace.turn("b", 200.0).await;
        let blocked = tokio::time::timeout(Duration::from_millis(30), pace.turn("a", 200.0)).await;
        assert!(blocked.is_err(), "the vendor's longer word holds");
    }

    #[test]
    fn a_budget_that_makes_no_sense_is_one_question_a_second() {
        assert_eq!(spacing(4.0), Duration::from_millis(250));
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(spacing(odd), Duration::from_secs(1), "{odd}");
        }
    }
}
