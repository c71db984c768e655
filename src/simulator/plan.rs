//! What happens to each simulated call, decided by the seed alone: which mishaps it meets and how it must end.

use super::dice::Dice;
use super::vendor::Manners;
use super::{Error, Mishaps};

/// What can go wrong with a call. All but `gone`, `never_recorded` and `unannounced` (and, where addresses cannot be
/// renewed, `link_expired`) pass after one or two
/// tries, so that the call can still be archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mishap {
    /// A notice comes long after the call.
    Late,
    /// Every notice comes twice.
    Twice,
    /// One of the notices never comes.
    Never,
    /// The recording is announced before the CDR.
    OutOfOrder,
    /// The file is not there when it should be.
    NotReady,
    /// The address is dead when it is used. Feiyu gives a new one; Alibaba has none to give.
    LinkExpired,
    /// HTTP 429.
    TooMany,
    /// HTTP 500.
    Failing,
    /// The connection is reset in the middle of the sound.
    Reset,
    /// Fewer bytes than Content-Length.
    Truncated,
    /// A page for people with status 200.
    Html,
    /// All bytes, and a Content-Length that asks for more.
    WrongLength,
    /// The vendor confirms the recording and has lost the file.
    Gone,
    /// The CDR says "recorded", and there never is a file.
    NeverRecorded,
    /// No notice tells of the recording.
    Unannounced,
    /// A message that nobody can read lies in the queue beside the call's.
    Poison,
    /// The queue's answer breaks off: its messages stay hidden and come again.
    Redelivered,
    /// The queue's tokens are withdrawn before their time.
    TokenDied,
    /// A message is shown again although it was to be deleted.
    DeadHandle,
    /// The queue, or who gives its tokens, is too busy.
    QueueBusy,
}

impl Mishap {
    pub const ALL: [Self; 20] = [
        Self::Late,
        Self::Twice,
        Self::Never,
        Self::OutOfOrder,
        Self::NotReady,
        Self::LinkExpired,
        Self::TooMany,
        Self::Failing,
        Self::Reset,
        Self::Truncated,
        Self::Html,
        Self::WrongLength,
        Self::Gone,
        Self::NeverRecorded,
        Self::Unannounced,
        Self::Poison,
        Self::Redelivered,
        Self::TokenDied,
        Self::DeadHandle,
        Self::QueueBusy,
    ];

    /// Mishaps of a vendor's own queue; only vendors that name them have them.
    pub const OF_QUEUES: &[Self] = &[
        Self::Poison,
        Self::Redelivered,
        Self::TokenDied,
        Self::DeadHandle,
        Self::QueueBusy,
    ];

    /// The name in the ledger and in [`super::Options::only`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Twice => "twice",
            Self::Never => "never",
            Self::OutOfOrder => "out_of_order",
            Self::NotReady => "not_ready",
            Self::LinkExpired => "link_expired",
            Self::TooMany => "429",
            Self::Failing => "500",
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::Html => "html200",
            Self::WrongLength => "wrong_length",
            Self::Gone => "gone",
            Self::NeverRecorded => "never_recorded",
            Self::Unannounced => "unannounced",
            Self::Poison => "poison",
            Self::Redelivered => "redelivered",
            Self::TokenDied => "token_died",
            Self::DeadHandle => "dead_handle",
            Self::QueueBusy => "queue_busy",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mishap| mishap.name() == name)
    }
}

/// How a call must end, in the ledger's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    Archived,
    Lost,
    Absent,
    None,
}

impl Ending {
    pub fn name(self) -> &'static str {
        match self {
            Self::Archived => "archived",
            Self::Lost => "lost",
            Self::Absent => "absent",
            Self::None => "none",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Self::Archived, Self::Lost, Self::Absent, Self::None]
            .into_iter()
            .find(|ending| ending.name() == name)
    }
}

/// One call to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Counts the calls of a source for ever, over all runs.
    pub index: u64,
    pub mishaps: Vec<Mishap>,
    pub ending: Ending,
}

impl Plan {
    pub fn has(&self, mishap: Mishap) -> bool {
        self.mishaps.contains(&mishap)
    }
}

/// Decides the calls of one source.
#[derive(Clone, Debug)]
pub struct Planner {
    manners: Manners,
    seed: u64,
    mishaps: Mishaps,
    /// Sets of mishaps in rotation; empty when chance decides.
    only: Vec<Vec<Mishap>>,
}

impl Planner {
    /// `seed` already belongs to the source. Each text in `only` is a mishap, several joined by `+`, or `none`.
    pub fn new(
        manners: Manners,
        seed: u64,
        mishaps: Mishaps,
        only: &[String],
    ) -> Result<Self, Error> {
        let read = |text: &String| {
            text.split('+')
                .filter(|name| *name != "none")
                .map(|name| {
                    Mishap::named(name)
                        .filter(|mishap| !manners.never.contains(mishap))
                        .filter(|mishap| {
                            !Mishap::OF_QUEUES.contains(mishap) || manners.queue.contains(mishap)
                        })
                        .ok_or_else(|| Error::UnknownMishap(name.to_owned()))
                })
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            manners,
            seed,
            mishaps,
            only: only.iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    /// The calls from number `first` on until `calls` of them can be archived, planned failures on top; with
    /// forced mishaps exactly `calls`, whatever becomes of them.
    pub fn calls(&self, first: u64, calls: u32) -> Vec<Plan> {
        let mut plans = Vec::new();
        let mut counted = 0;
        for index in first.. {
            if counted >= calls {
                break;
            }
            let plan = self.plan(index);
            if plan.ending == Ending::Archived || !self.only.is_empty() {
                counted += 1;
            }
            plans.push(plan);
        }
        plans
    }

    fn plan(&self, index: u64) -> Plan {
        let mishaps = if self.only.is_empty() {
            self.drawn(index)
        } else {
            self.only[(index % self.only.len() as u64) as usize].clone()
        };
        let ending = mishaps.iter().find_map(|mishap| match mishap {
            Mishap::Gone => Some(Ending::Lost),
            Mishap::LinkExpired if self.manners.expired_is_lost => Some(Ending::Lost),
            Mishap::NeverRecorded => Some(Ending::Absent),
            Mishap::Unannounced => Some(Ending::None),
            _ => None,
        });
        Plan {
            index,
            mishaps,
            ending: ending.unwrap_or(Ending::Archived),
        }
    }

    fn drawn(&self, index: u64) -> Vec<Mishap> {
        // Every so many calls one fails as planned, each way of failing in its turn.
        let every = match self.mishaps {
            Mishaps::None => return Vec::new(),
            Mishaps::Fair => 7,
            Mishaps::Storm => 5,
        };
        let manners = self.manners;
        let failures = manners.failures;
        if index % every == 3 {
            let turn = (index / every).wrapping_add(self.seed % 3) % failures.len() as u64;
            return vec![failures[turn as usize]];
        }
        let mut dice = Dice::named(self.seed.wrapping_add(index), "mishaps");
        let usual = [
            Mishap::Late,
            Mishap::Twice,
            Mishap::Never,
            Mishap::OutOfOrder,
        ];
        let mut notice = dice.pick(&[&usual, manners.queue].concat());
        if manners.never.contains(&notice) {
            notice = Mishap::Twice;
        }
        let mut file = dice.pick(&[
            Mishap::NotReady,
            Mishap::LinkExpired,
            Mishap::TooMany,
            Mishap::Failing,
            Mishap::Reset,
            Mishap::Truncated,
            Mishap::Html,
            Mishap::WrongLength,
        ]);
        if manners.expired_is_lost && file == Mishap::LinkExpired || manners.never.contains(&file) {
            file = Mishap::Reset;
        }
        let first = if dice.happens(1, 3) { notice } else { file };
        let chance = dice.below(100);
        match self.mishaps {
            Mishaps::Fair if chance < 35 => vec![first],
            Mishaps::Storm if chance < 50 => vec![notice, file],
            Mishaps::Storm if chance < 92 => vec![first],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::{Profile, VendorKind, Way};

    fn planner(kind: VendorKind, mishaps: Mishaps, only: &[&str]) -> Planner {
        let only: Vec<String> = only.iter().map(ToString::to_string).collect();
        Planner::new(kind.manners(Profile::V2, Way::Http), 99, mishaps, &only).unwrap()
    }

    #[test]
    fn the_same_seed_plans_the_same_calls_wherever_a_run_begins() {
        let planner = planner(VendorKind::Feiyu, Mishaps::Storm, &[]);
        let long = planner.calls(0, 60);
        assert_eq!(long, planner.calls(0, 60));
        assert_eq!(&long[20..30], &planner.calls(20, 40)[..10]);
    }

    #[test]
    fn planned_failures_come_on_top_of_the_calls_asked_for() {
        for &kind in VendorKind::ALL {
            let plans = planner(kind, Mishaps::Fair, &[]).calls(0, 60);
            let archived = plans
                .iter()
                .filter(|p| p.ending == Ending::Archived)
                .count();
            let touched =
                plans.iter().filter(|p| !p.mishaps.is_empty()).count() * 100 / plans.len();
            assert_eq!(archived, 60);
            assert!(plans.len() > 66, "{}", plans.len());
            assert!((25..60).contains(&touched), "{touched} of 100");
            assert!(
                planner(kind, Mishaps::None, &[])
                    .calls(0, 9)
                    .iter()
                    .all(|p| p.mishaps.is_empty())
            );
        }
    }

    #[test]
    fn forced_mishaps_rotate_and_none_is_added() {
        let plans = planner(
            VendorKind::Feiyu,
            Mishaps::Storm,
            &["late+reset", "none", "gone"],
        )
        .calls(0, 4);
        assert_eq!(plans[0].mishaps, [Mishap::Late, Mishap::Reset]);
        assert_eq!(plans[1].mishaps, []);
        assert_eq!(plans[2].ending, Ending::Lost);
        assert_eq!(
            plans[3],
            Plan {
                index: 3,
                ..plans[0].clone()
            }
        );
    }

    #[test]
    fn a_mishap_that_nobody_knows_is_refused_by_name() {
        for (kind, name) in [
            (VendorKind::Feiyu, "lost_horse"),
            (VendorKind::Aliyun, "never_recorded"),
            (VendorKind::Aliyun, "poison"),
        ] {
            let told = Planner::new(
                kind.manners(Profile::V2, Way::Http),
                1,
                Mishaps::None,
                &[name.to_owned()],
            )
            .unwrap_err()
            .to_string();
            assert!(told.contains(name), "{told}");
        }
    }
}
