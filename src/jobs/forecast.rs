//! What a backfill will come to, before it starts: how long, and what the vendor deletes meanwhile. Pure.

use serde::Serialize;

use crate::domain::clock::Timestamp;

/// A loss, or none, of many recordings that are fetched at a steady rate, those that die first before others.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Forecast {
    /// That are new here.
    pub recordings: u64,
    /// Of the same list or file, told by an earlier run: they wait already, or are archived.
    pub told_before: u64,
    /// Of the source, waiting already: they share its rate.
    pub waiting_before: u64,
    pub requests_per_second: f64,
    /// Recordings that this machine archived in a second while more were waiting, lately, where that is
    /// less than the vendor's rate allows: then it is the limit.
    pub machine_per_second: Option<f64>,
    /// Something was waiting lately. Otherwise that this machine keeps up with the vendor's rate is assumed.
    pub machine_was_seen: bool,
    /// Questions to the vendor for all of it.
    pub questions: u64,
    pub done_at: Option<Timestamp>,
    /// The vendor has deleted them by now.
    pub lost_already: u64,
    /// They die before their turn comes.
    pub will_be_lost: u64,
    pub first_loss_at: Option<Timestamp>,
    /// Of so many nobody knows when the vendor deletes them.
    pub unknown_end: u64,
    /// The rate at which nothing more would be lost.
    pub rate_that_would_do: Option<f64>,
}

/// How fast it can go.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub requests_per_second: f64,
    /// To find one and to fetch it.
    pub questions_each: u64,
    /// Recordings a second, where it was seen.
    pub machine_per_second: Option<f64>,
}

impl Pace {
    /// From one recording to the next; whichever is slower, vendor or machine.
    fn ms_each(&self) -> f64 {
        let vendor = self.questions_each.max(1) as f64 * 1000.0 / self.requests_per_second;
        vendor.max(self.machine_per_second.map_or(0.0, |seen| 1000.0 / seen))
    }

    /// The machine is clearly slower than the vendor allows.
    fn is_the_machines(&self) -> bool {
        let vendor = self.requests_per_second / self.questions_each.max(1) as f64;
        self.machine_per_second
            .is_some_and(|seen| seen < vendor * 0.9)
    }
}

/// `gone_at`: of each recording that is new, where it is known.
pub fn forecast(
    mut gone_at: Vec<Option<Timestamp>>,
    told_before: u64,
    waiting_before: u64,
    pace: Pace,
    now: Timestamp,
) -> Forecast {
    let Pace {
        requests_per_second,
        questions_each,
        ..
    } = pace;
    let recordings = gone_at.len() as u64;
    let unknown_end = gone_at.iter().filter(|gone| gone.is_none()).count() as u64;
    let lost_already = gone_at
        .iter()
        .flatten()
        .filter(|gone| **gone <= now)
        .count() as u64;
    gone_at.retain(|gone| gone.is_none_or(|gone| gone > now));
    // In the order of work: deadline first, and what nobody knows last.
    gone_at.sort_by_key(|gone| (gone.is_none(), *gone));
    let ms_each = pace.ms_each();
    let at = |n: u64| now.plus_ms((n as f64 * ms_each).min(1e15) as i64);
    let mut will_be_lost = 0;
    let mut first_loss_at = None;
    let mut rate: f64 = 0.0;
    let mut fetched = waiting_before;
    for gone in gone_at.iter().flatten() {
        let left_s = gone.since_ms(now) as f64 / 1000.0;
        let needed = (fetched + will_be_lost + 1) * questions_each.max(1);
        rate = rate.max(needed as f64 / left_s);
        if at(fetched + 1) > *gone {
            will_be_lost += 1;
            first_loss_at.get_or_insert(*gone);
        } else {
            fetched += 1;
        }
    }
    let still = fetched + unknown_end;
    Forecast {
        recordings,
        told_before,
        waiting_before,
        requests_per_second,
        // What the vendor's rate held back says nothing of the machine.
        machine_per_second: pace.machine_per_second.filter(|_| pace.is_the_machines()),
        machine_was_seen: pace.machine_per_second.is_some(),
        questions: (recordings - lost_already + waiting_before) * questions_each.max(1),
        done_at: Some(at(still)),
        lost_already,
        will_be_lost,
        first_loss_at,
        unknown_end,
        rate_that_would_do: (will_be_lost > 0).then(|| (rate * 1.05 * 1000.0).ceil() / 1000.0),
    }
}

impl Forecast {
    pub fn is_bad(&self) -> bool {
        self.lost_already + self.will_be_lost > 0
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} recordings, {} more of the source wait already; {} questions at {} a second",
            self.recordings, self.waiting_before, self.questions, self.requests_per_second
        );
        if let Some(at) = self.done_at {
            text += &format!(": done about {at}");
        }
        if self.told_before > 0 {
            text += &format!("\n  {} more were told by an earlier run", self.told_before);
        }
        match self.machine_per_second {
            Some(seen) => {
                text += &format!(
                    "\n  this machine archived {seen:.1} a second while more were waiting: that is the limit, \
                     not the vendor's rate"
                );
            }
            None if !self.machine_was_seen => {
                text += "\n  assumed: this machine keeps up with that rate. Once it is at work, --dry-run tells by \
                         what it did";
            }
            None => {}
        }
        if self.unknown_end > 0 {
            text += &format!(
                "\n  of {} nobody knows when the vendor deletes them",
                self.unknown_end
            );
        }
        if self.lost_already > 0 {
            text += &format!(
                "\n  {} are lost already: the vendor's time to keep them is over",
                self.lost_already
            );
        }
        if let (Some(at), Some(rate)) = (self.first_loss_at, self.rate_that_would_do) {
            text += &format!(
                "\n  {} WILL BE LOST before their turn comes, the first at {at}\n  \
                 requests_per_second = {rate} would do, if the vendor allows it; or ask the vendor to keep them longer",
                self.will_be_lost
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(requests_per_second: f64, questions_each: u64) -> Pace {
        Pace {
            requests_per_second,
            questions_each,
            machine_per_second: None,
        }
    }

    const NOW: Timestamp = Timestamp::from_ms(1_712_346_600_000);

    fn in_s(seconds: i64) -> Option<Timestamp> {
        Some(NOW.plus_ms(seconds * 1000))
    }

    #[test]
    fn what_fits_into_the_time_is_not_lost() {
        let all = (0..100).map(|_| in_s(60)).collect();
        let fine = forecast(all, 0, 0, pace(2.0, 1), NOW);
        assert_eq!((fine.will_be_lost, fine.done_at), (0, in_s(50)));
        assert!(!fine.is_bad());
        assert_eq!(fine.rate_that_would_do, None);
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_would_help() {
        let mut all: Vec<_> = (0..100).map(|_| in_s(60)).collect();
        all.push(in_s(-5));
        all.push(None);
        let told = forecast(all.clone(), 0, 10, pace(1.0, 1), NOW);
        assert_eq!(
            (told.lost_already, told.will_be_lost, told.unknown_end),
            (1, 50, 1)
        );
        assert_eq!(told.first_loss_at, in_s(60));
        let rate = told.rate_that_would_do.unwrap();
        assert!((1.8..2.0).contains(&rate), "{rate}");
        let faster = forecast(all, 0, 10, pace(rate, 1), NOW);
        assert_eq!((faster.will_be_lost, faster.lost_already), (0, 1));
        assert!(told.text().contains("WILL BE LOST"));
    }

    #[test]
    fn each_question_counts() {
        let all = vec![None; 30];
        assert_eq!(
            forecast(all.clone(), 0, 0, pace(3.0, 1), NOW).done_at,
            in_s(10)
        );
        assert_eq!(forecast(all, 0, 0, pace(3.0, 2), NOW).done_at, in_s(20));
    }
    #[test]
    fn the_slower_of_vendor_and_machine_counts() {
        let all = vec![None; 30];
        let told = |seen| {
            let pace = Pace {
                machine_per_second: Some(seen),
                ..pace(6.0, 2)
            };
            forecast(all.clone(), 5, 0, pace, NOW)
        };
        let slow = told(1.5);
        assert_eq!(
            (slow.done_at, slow.machine_per_second),
            (in_s(20), Some(1.5))
        );
        assert!(slow.text().contains("1.5 a second while more were waiting"));
        assert!(slow.text().contains("5 more were told"));
        // Held back by the vendor, or about as fast.
        for seen in [2.9, 3.0, 50.0] {
            let held = told(seen);
            assert_eq!(held.machine_per_second, None);
            assert!(!held.text().contains("machine"));
        }
        assert!(
            forecast(all.clone(), 0, 0, pace(3.0, 1), NOW)
                .text()
                .contains("assumed")
        );
        // What dies while a slow machine works is lost, whatever the vendor allows.
        let all = (0..30).map(|_| in_s(10)).collect();
        let pace = Pace {
            machine_per_second: Some(1.5),
            ..pace(100.0, 1)
        };
        assert_eq!(forecast(all, 0, 0, pace, NOW).will_be_lost, 15);
    }
}
