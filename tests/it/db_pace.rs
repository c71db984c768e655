//! Budgets that all processes share: two of them, on both databases.

use std::time::{Duration, Instant};

use callvault::domain::clock::{SharedClock, SystemClock};
use callvault::providers::pace::Pace;
use callvault::worker::pace::DatabasePace;

use crate::db::{at, on_both};

const SPACING: Duration = Duration::from_millis(250);

#[test]
fn two_processes_take_turns_from_one_budget() {
    on_both(async |house| {
        let other = house.neighbour().await;
        let now = at(0);
        let mut waits = Vec::new();
        for round in 0..4 {
            let db = if round % 2 == 0 { &house.db } else { &other };
            waits.push(db.take_turn("a", SPACING, now).await.unwrap());
        }
        assert_eq!(waits, [0, 250, 500, 750].map(Duration::from_millis));
        // Another source has a budget of its own, and what nobody used is not saved up.
        assert!(other.take_turn("b", SPACING, now).await.unwrap().is_zero());
        let later = now.plus_ms(60_000);
        for db in [&house.db, &other] {
            let wait = db
                .take_turn("c", Duration::from_secs(1), later)
                .await
                .unwrap();
            let first = std::ptr::eq(db, &house.db);
            assert_eq!(wait.is_zero(), first, "{wait:?}");
        }
        assert!(
            house
                .db
                .take_turn("a", SPACING, later)
                .await
                .unwrap()
                .is_zero()
        );
    });
}

#[test]
fn turns_of_many_at_once_are_all_different() {
    on_both(async |house| {
        let other = house.neighbour().await;
        let mut asking = tokio::task::JoinSet::new();
        for round in 0..40 {
            let db = if round % 2 == 0 {
                house.db.clone()
            } else {
                other.clone()
            };
            asking.spawn(async move { db.take_turn("a", SPACING, at(0)).await.unwrap() });
        }
        let mut waits = asking.join_all().await;
        waits.sort_unstable();
        let expected: Vec<Duration> = (0..40).map(|n| SPACING * n).collect();
        assert_eq!(waits, expected);
    });
}

#[test]
fn a_vendor_that_says_slow_down_is_heard_by_every_process() {
    on_both(async |house| {
        let other = house.neighbour().await;
        let minute = Duration::from_secs(60);
        house.db.close_door("a", minute, at(0)).await.unwrap();
        // The longer word holds.
        other
            .close_door("a", Duration::from_secs(1), at(0))
            .await
            .unwrap();
        assert_eq!(other.door_closed("a", at(0)).await.unwrap(), minute);
        assert_eq!(other.take_turn("a", SPACING, at(0)).await.unwrap(), minute);
        assert!(other.door_closed("a", at(1)).await.unwrap().is_zero());
        assert!(
            other
                .door_closed("never-asked", at(1))
                .await
                .unwrap()
                .is_zero()
        );
        // No vendor closes the door for longer than the longest wait.
        house.db.close_door("a", 100 * minute, at(2)).await.unwrap();
        assert_eq!(
            other.take_turn("a", SPACING, at(2)).await.unwrap(),
            60 * minute
        );
    });
}

#[test]
fn a_moment_that_a_wrong_clock_wrote_does_not_stop_the_others() {
    on_both(async |house| {
        let tomorrow = at(24 * 60);
        house.db.take_turn("a", SPACING, tomorrow).await.unwrap();
        house.db.close_door("a", SPACING, tomorrow).await.unwrap();
        assert!(
            house
                .db
                .take_turn("a", SPACING, at(0))
                .await
                .unwrap()
                .is_zero()
        );
        assert!(house.db.door_closed("a", at(0)).await.unwrap().is_zero());
    });
}

#[test]
fn waiting_for_a_turn_takes_the_time_it_says_and_a_database_that_is_away_stops_nobody() {
    on_both(async |house| {
        let clock: SharedClock = std::sync::Arc::new(SystemClock);
        let here = DatabasePace::new(house.db.clone(), clock.clone());
        let there = DatabasePace::new(house.neighbour().await, clock);
        let begun = Instant::now();
        for _ in 0..3 {
            here.turn("a", 20.0).await;
            there.turn("a", 20.0).await;
        }
        assert!(
            begun.elapsed() >= Duration::from_millis(250),
            "six turns, five waits"
        );
        house.sql("drop table pace").await;
        tokio::time::timeout(Duration::from_secs(10), async {
            here.turn("a", 1000.0).await;
            here.slow_down("a", Duration::from_millis(1)).await;
            here.turn("a", 1000.0).await;
        })
        .await
        .unwrap();
    });
}
