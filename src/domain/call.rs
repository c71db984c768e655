//! A call and its legs as a provider tells them (the CDR), and how facts from several notices merge.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clock::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Inbound,
    Outbound,
    Internal,
}

impl Direction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
            Direction::Internal => "internal",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Inbound, Self::Outbound, Self::Internal]
            .into_iter()
            .find(|direction| direction.as_str() == text)
    }
}

/// One end of a call, as far as the provider tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Party {
    /// `caller`, `callee`, `agent` ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The vendor's account or device id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
}

/// One leg's own facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LegFacts {
    pub provider_leg_id: String,
    pub caller: Option<String>,
    pub callee: Option<String>,
    pub started_at: Option<Timestamp>,
    pub answered_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub duration_ms: Option<i64>,
    pub hangup_cause: Option<String>,
}

/// What one notice says about one call. `None` and empty mean "says nothing about it".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFacts {
    /// The vendor's id of the call, byte for byte.
    pub provider_call_id: String,
    /// Other ids under which the same call may be announced (`group:{dialBackId}`, a leg's id).
    pub aliases: Vec<String>,
    /// Ids from other systems; searchable, never used to join calls.
    pub correlation_ids: Vec<String>,
    pub started_at: Option<Timestamp>,
    pub answered_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub duration_ms: Option<i64>,
    pub direction: Option<Direction>,
    pub caller: Option<String>,
    pub callee: Option<String>,
    pub parties: Vec<Party>,
    pub hangup_cause: Option<String>,
    /// Whether the vendor says that it recorded the call.
    pub recorded: Option<bool>,
    /// Whether two people talked (talk time above zero); decides `lost` against `absent`.
    pub talked: Option<bool>,
    /// Vendor facts we do not model.
    pub custom: serde_json::Map<String, Value>,
    pub legs: Vec<LegFacts>,
    /// This notice is a CDR (not only a recording's notice that happens to name the call).
    pub is_cdr: bool,
    /// `provider_call_id` is no id of the vendor's: it was made from a recording's name, because nothing else was
    /// told. A call of such an id gives way to the one that has the recording.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made_up: bool,
    /// A place that the call took, for vendors whose rooms are used again; not kept, only used to find
    /// the call.
    #[serde(skip)]
    pub place: Option<Place>,
}

/// A room at a moment. Of all calls that took place there, it means the one whose time holds the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Unlike any other name of a call within the source.
    pub name: String,
    /// What the place may be called as well, where the vendor does not say which of the two it is.
    pub or: Option<String>,
    pub at: Timestamp,
    /// The call began at this moment.
    pub opens: bool,
}

impl CallFacts {
    pub fn new(provider_call_id: impl Into<String>) -> Self {
        Self {
            provider_call_id: provider_call_id.into(),
            ..Self::default()
        }
    }

    /// Adds what `later` knows to `self` and says whether anything changed.
    ///
    /// The merge gives the same result in any order of notices, so that repeats and reordering do no
    /// harm: a field once set stays, except that a CDR's word replaces what a mere recording notice
    /// said; times widen (earliest start, latest end); lists unite; a vendor's "recorded" stays true,
    /// because "not recorded" never closes a call for good (Feiyu page, section 4.5).
    pub fn merge(&mut self, later: &CallFacts) -> bool {
        let before = self.clone();
        let prefer_later = later.is_cdr && !self.is_cdr;
        let keep = |mine: &mut Option<String>, theirs: &Option<String>| {
            if theirs.is_some() && (mine.is_none() || prefer_later) {
                mine.clone_from(theirs);
            }
        };
        keep(&mut self.caller, &later.caller);
        keep(&mut self.callee, &later.callee);
        keep(&mut self.hangup_cause, &later.hangup_cause);
        if later.direction.is_some() && (self.direction.is_none() || prefer_later) {
            self.direction = later.direction;
        }
        self.started_at = pick(self.started_at, later.started_at, Ord::min);
        self.answered_at = pick(self.answered_at, later.answered_at, Ord::min);
        self.ended_at = pick(self.ended_at, later.ended_at, Ord::max);
        self.duration_ms = pick(self.duration_ms, later.duration_ms, Ord::max);
        self.recorded = pick(self.recorded, later.recorded, Ord::max);
        self.talked = pick(self.talked, later.talked, Ord::max);
        self.is_cdr |= later.is_cdr;
        self.made_up &= later.made_up;
        unite(&mut self.aliases, &later.aliases);
        unite(&mut self.correlation_ids, &later.correlation_ids);
        unite(&mut self.parties, &later.parties);
        for (key, value) in &later.custom {
            if !self.custom.contains_key(key) || prefer_later {
                self.custom.insert(key.clone(), value.clone());
            }
        }
        for leg in &later.legs {
            match self
                .legs
                .iter_mut()
                .find(|mine| mine.provider_leg_id == leg.provider_leg_id)
            {
                Some(mine) => mine.merge(leg),
                None => self.legs.push(leg.clone()),
            }
        }
        *self != before
    }
}

impl LegFacts {
    fn merge(&mut self, later: &LegFacts) {
        fn keep<T: Clone>(mine: &mut Option<T>, theirs: &Option<T>) {
            if mine.is_none() {
                mine.clone_from(theirs);
            }
        }
        keep(&mut self.caller, &later.caller);
        keep(&mut self.callee, &later.callee);
        keep(&mut self.hangup_cause, &later.hangup_cause);
        self.started_at = pick(self.started_at, later.started_at, Ord::min);
        self.answered_at = pick(self.answered_at, later.answered_at, Ord::min);
        self.ended_at = pick(self.ended_at, later.ended_at, Ord::max);
        self.duration_ms = pick(self.duration_ms, later.duration_ms, Ord::max);
    }
}

fn pick<T>(a: Option<T>, b: Option<T>, choose: fn(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(choose(a, b)),
        (a, b) => a.or(b),
    }
}

fn unite<T: Clone + PartialEq>(mine: &mut Vec<T>, theirs: &[T]) {
    for item in theirs {
        if !mine.contains(item) {
            mine.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_is_idempotent_and_keeps_what_is_known() {
        let mut cdr = CallFacts::new("c1");
        cdr.is_cdr = true;
        cdr.started_at = Some(Timestamp::from_ms(1000));
        cdr.recorded = Some(true);
        let mut auth = CallFacts::new("c1");
        auth.caller = Some("+8613900000001".into());
        auth.recorded = Some(false);

        let mut one = cdr.clone();
        assert!(one.merge(&auth));
        assert!(!one.merge(&auth), "a repeat changes nothing");
        assert!(!one.merge(&cdr));
        let mut other = auth.clone();
        other.merge(&cdr);
        assert_eq!(one, other, "the order of notices does not matter");
        assert_eq!(one.recorded, Some(true));
        assert_eq!(one.caller.as_deref(), Some("+8613900000001"));
    }

    #[test]
    fn legs_merge_by_their_id() {
        let leg = |id: &str, end| LegFacts {
            provider_leg_id: id.into(),
            ended_at: Some(Timestamp::from_ms(end)),
            ..LegFacts::default()
        };
        let mut call = CallFacts::new("c");
        call.legs = vec![leg("a", 1)];
        let mut later = CallFacts::new("c");
        later.legs = vec![leg("a", 2), leg("b", 3)];
        assert!(call.merge(&later));
        assert_eq!(call.legs.len(), 2);
        assert_eq!(call.legs[0].ended_at, Some(Timestamp::from_ms(2)));
    }
}
