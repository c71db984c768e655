//! How the recordings of a call's two parties lie beside each other in the call's own access copy.
//!
//! A pure function of what is known of them, so that every worker comes to the same plan, whichever recording it holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clock::Timestamp;
use super::digest::Sha256;
use super::recording::Part;

/// Stamps of two files of one person may overlap by so much and still be one after the other.
const OVERLAP_MS: i64 = 2_000;
/// No call is longer; stamps that lie further apart are not believed.
const LONGEST_MS: i64 = 24 * 3600 * 1000;
/// More files of one call than this are no slices of a conversation.
const MOST_FILES: usize = 64;

/// A decoded recording of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voice {
    pub recording_id: Uuid,
    pub part: Part,
    /// The vendor's id of the person.
    pub party: Option<String>,
    /// Whether the call's own facts name this party as the one who called (or was called).
    pub is_caller: Option<bool>,
    pub began_at: Option<Timestamp>,
    pub duration_ms: i64,
    pub sha256: Sha256,
}

impl Voice {
    /// Whose voice it is; `None`: nobody says, so that it cannot be put on a side.
    fn person(&self) -> Option<String> {
        match (&self.party, self.part) {
            (Some(party), Part::Caller | Part::Callee | Part::Party) => Some(format!("id {party}")),
            (None, Part::Caller | Part::Callee) => Some(self.part.as_str().to_owned()),
            _ => None,
        }
    }

    fn called(&self) -> Option<bool> {
        match self.part {
            Part::Caller => Some(true),
            Part::Callee => Some(false),
            _ => self.is_caller,
        }
    }
}

/// Whether a recording holds one person's voice, so that it may be one of a pair.
pub const fn is_single(part: Part, party: Option<&str>) -> bool {
    matches!(part, Part::Caller | Part::Callee) || matches!(part, Part::Party) && party.is_some()
}

/// What is to be done about a call's joint access copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pair(Plan),
    /// One party's alone, or nobody's.
    Alone,
    /// More than two parties, or stamps that cannot be.
    Cannot,
}

/// Where every file begins. Kept word for word in the copy's `settings.pair`: a copy whose plan is this one is this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub left: Vec<Placed>,
    pub right: Vec<Placed>,
    pub aligned_by: AlignedBy,
    /// The vendor's stamps tell no more than this: 1000 when all of them are whole seconds. 0 without stamps.
    pub exact_to_ms: u32,
    /// Left is the caller; else nobody says who called, and left is who began first.
    pub left_is_caller: bool,
    /// The same sound a second time (a film beside the sound), and what overlaps it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Uuid>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    pub recording_id: Uuid,
    pub sha256: Sha256,
    /// From the beginning of the joint copy.
    pub at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlignedBy {
    /// The vendor's start times.
    Stamps,
    /// Both beginnings at one moment, for want of stamps.
    Beginnings,
}

/// The plan for all decoded recordings of one call, in any order.
pub fn plan(voices: &[Voice]) -> Outcome {
    let mut persons: BTreeMap<String, Vec<&Voice>> = BTreeMap::new();
    for voice in voices.iter().filter(|voice| voice.duration_ms > 0) {
        if let Some(person) = voice.person() {
            persons.entry(person).or_default().push(voice);
        }
    }
    let mut persons: Vec<Vec<&Voice>> = persons.into_values().collect();
    if persons.len() > 2 || persons.iter().map(Vec::len).sum::<usize>() > MOST_FILES {
        return Outcome::Cannot;
    }
    let (Some(second), Some(first)) = (persons.pop(), persons.pop()) else {
        return Outcome::Alone;
    };
    let says = |person: &[&Voice], called| person.iter().any(|v| v.called() == Some(called));
    let first_is_caller = says(&first, true) || says(&second, false);
    let second_is_caller = says(&second, true) || says(&first, false);
    let began = |person: &[&Voice]| person.iter().map(|voice| voice.began_at).min().flatten();
    let swap = match (first_is_caller, second_is_caller) {
        (true, false) => false,
        (false, true) => true,
        _ => began(&second) < began(&first),
    };
    let (left, right) = if swap {
        (second, first)
    } else {
        (first, second)
    };
    let left_is_caller = first_is_caller != second_is_caller;
    let all = || left.iter().chain(&right);
    let Some(stamps) = all().map(|v| v.began_at).collect::<Option<Vec<_>>>() else {
        return beside_each_other(&left, &right, left_is_caller);
    };
    let Some(base) = stamps.iter().min().copied() else {
        return Outcome::Alone;
    };
    if all().any(|v| v.began_at.is_some_and(|at| at.since_ms(base) > LONGEST_MS)) {
        return Outcome::Cannot;
    }
    let exact_to_ms = match stamps.iter().all(|at| at.ms() % 1000 == 0) {
        true => 1000,
        false => 1,
    };
    let mut left_out = Vec::new();
    let (left, right) = (
        in_order(left, base, &mut left_out),
        in_order(right, base, &mut left_out),
    );
    Outcome::Pair(Plan {
        left,
        right,
        aligned_by: AlignedBy::Stamps,
        exact_to_ms,
        left_is_caller,
        left_out,
    })
}

fn placed(voice: &Voice, at_ms: i64) -> Placed {
    Placed {
        recording_id: voice.recording_id,
        sha256: voice.sha256,
        at_ms: u64::try_from(at_ms).unwrap_or(0),
    }
}

/// One after the other by their stamps; what begins while another one still plays is the same sound again.
fn in_order(mut voices: Vec<&Voice>, base: Timestamp, left_out: &mut Vec<Uuid>) -> Vec<Placed> {
    voices.sort_by_key(|v| (v.began_at, -v.duration_ms, v.recording_id));
    let mut kept = Vec::new();
    let mut end = i64::MIN;
    for voice in voices {
        let at = voice.began_at.map_or(0, |at| at.since_ms(base));
        if at < end.saturating_sub(OVERLAP_MS) {
            left_out.push(voice.recording_id);
            continue;
        }
        kept.push(placed(voice, at));
        end = at + voice.duration_ms;
    }
    kept
}

/// Without stamps the longest file of each.
fn beside_each_other(left: &[&Voice], right: &[&Voice], left_is_caller: bool) -> Outcome {
    let mut left_out = Vec::new();
    let mut longest = |side: &[&Voice]| {
        let longest = side
            .iter()
            .max_by_key(|v| (v.duration_ms, std::cmp::Reverse(v.recording_id)));
        let others = side
            .iter()
            .filter(|v| longest.is_none_or(|l| l.recording_id != v.recording_id));
        left_out.extend(others.map(|v| v.recording_id));
        longest.map(|voice| placed(voice, 0)).into_iter().collect()
    };
    let (left, right) = (longest(left), longest(right));
    left_out.sort_unstable();
    Outcome::Pair(Plan {
        left,
        right,
        aligned_by: AlignedBy::Beginnings,
        exact_to_ms: 0,
        left_is_caller,
        left_out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(id: u128, part: Part, party: Option<&str>, began: Option<i64>, ms: i64) -> Voice {
        Voice {
            recording_id: Uuid::from_u128(id),
            part,
            party: party.map(str::to_owned),
            is_caller: None,
            began_at: began.map(Timestamp::from_ms),
            duration_ms: ms,
            sha256: Sha256::of(&id.to_be_bytes()),
        }
    }

    fn ids(side: &[Placed]) -> Vec<(u128, u64)> {
        side.iter()
            .map(|p| (p.recording_id.as_u128(), p.at_ms))
            .collect()
    }

    fn pair(voices: &[Voice]) -> Plan {
        let Outcome::Pair(plan) = plan(voices) else {
            panic!("no pair: {:?}", super::plan(voices));
        };
        // Whoever holds which recording, and in whatever order they came.
        let mut other = voices.to_vec();
        other.reverse();
        assert_eq!(super::plan(&other), Outcome::Pair(plan.clone()));
        plan
    }

    #[test]
    fn the_caller_is_left_and_the_first_stamp_is_the_beginning() {
        let plan = pair(&[
            voice(1, Part::Callee, Some("b"), Some(1_234), 60_000),
            voice(2, Part::Caller, Some("a"), Some(3_000), 60_000),
        ]);
        assert_eq!(
            (ids(&plan.left), ids(&plan.right)),
            (vec![(2, 1_766)], vec![(1, 0)])
        );
        assert!(plan.left_is_caller);
        assert_eq!((plan.aligned_by, plan.exact_to_ms), (AlignedBy::Stamps, 1));
        let plan = pair(&[
            voice(1, Part::Callee, None, Some(1_000), 60_000),
            voice(2, Part::Caller, None, Some(3_000), 60_000),
        ]);
        assert_eq!(plan.exact_to_ms, 1000);
    }

    #[test]
    fn slices_follow_each_other_and_a_film_of_the_same_sound_is_left_out() {
        let plan = pair(&[
            voice(1, Part::Party, Some("a"), Some(0), 60_000),
            voice(2, Part::Party, Some("a"), Some(0), 59_000),
            voice(3, Part::Party, Some("a"), Some(59_200), 10_000),
            voice(4, Part::Party, Some("b"), Some(5), 30_000),
            voice(5, Part::Party, Some("b"), Some(7_200_000), 30_000),
        ]);
        assert_eq!(ids(&plan.left), [(1, 0), (3, 59_200)]);
        assert_eq!(ids(&plan.right), [(4, 5), (5, 7_200_000)]);
        assert_eq!(plan.left_out, [Uuid::from_u128(2)]);
        assert!(!plan.left_is_caller, "nobody says who called");
    }

    #[test]
    fn without_stamps_both_begin_at_one_moment() {
        let plan = pair(&[
            voice(1, Part::Caller, None, None, 60_000),
            voice(2, Part::Callee, None, Some(9), 50_000),
        ]);
        assert_eq!(
            (ids(&plan.left), ids(&plan.right)),
            (vec![(1, 0)], vec![(2, 0)])
        );
        assert_eq!(
            (plan.aligned_by, plan.exact_to_ms),
            (AlignedBy::Beginnings, 0)
        );
    }

    #[test]
    fn one_party_or_three_make_no_pair() {
        let one = voice(1, Part::Caller, None, Some(0), 1_000);
        let two = voice(2, Part::Party, Some("x"), Some(0), 1_000);
        let three = voice(3, Part::Party, Some("y"), Some(0), 1_000);
        assert_eq!(plan(&[]), Outcome::Alone);
        assert_eq!(plan(std::slice::from_ref(&one)), Outcome::Alone);
        let silent = Voice {
            duration_ms: 0,
            ..two.clone()
        };
        assert_eq!(plan(&[one.clone(), silent]), Outcome::Alone);
        let mixed = voice(4, Part::Mixed, None, Some(0), 1_000);
        assert_eq!(plan(&[one.clone(), mixed]), Outcome::Alone);
        assert_eq!(plan(&[one.clone(), two, three]), Outcome::Cannot);
        let years_later = voice(5, Part::Callee, None, Some(LONGEST_MS + 1), 1_000);
        assert_eq!(plan(&[one, years_later]), Outcome::Cannot);
    }

    #[test]
    fn the_calls_own_facts_say_who_called_where_the_file_does_not() {
        let mut a = voice(1, Part::Party, Some("a"), Some(0), 1_000);
        let mut b = voice(2, Part::Party, Some("b"), Some(7), 1_000);
        b.is_caller = Some(true);
        let plan = pair(&[a.clone(), b.clone()]);
        assert_eq!((ids(&plan.left), plan.left_is_caller), (vec![(2, 7)], true));
        b.is_caller = None;
        a.is_caller = Some(false);
        assert_eq!(ids(&pair(&[a, b]).left), [(2, 7)]);
    }
}
