//! Who may do what: roles, the rights that they hold, and the part of the calls that somebody may see.
//!
//! What a newcomer gets wrong: a role says *what* may be done, a scope says *with which calls*. Rights over the
//! whole house need a scope without limits as well, because what they show is of all sources.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an account or token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Searches and plays what is in scope.
    Listener,
    /// A listener who also downloads, and writes notes and tags.
    Officer,
    /// Sees the audit trail and the facts of calls; hears nothing.
    Auditor,
    /// An officer who also looks after accounts, sources, schedule and the trail.
    Administrator,
}

/// One thing that a handler asks for before it does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Find calls and see their facts.
    Search,
    /// Hear the access copy, see the waveform.
    Play,
    /// Take originals, manifests and exports of results away.
    Download,
    /// Write notes, tags and markers.
    Annotate,
    /// See how the house does: queues, alarms, counters of all sources.
    Watch,
    /// Retry, release from quarantine, sync.
    Operate,
    /// Read and export the audit trail.
    Trail,
    /// Accounts, tokens, sources, configuration.
    Administer,
}

impl Role {
    pub const ALL: [Self; 4] = [
        Self::Listener,
        Self::Officer,
        Self::Auditor,
        Self::Administrator,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Listener => "listener",
            Role::Officer => "officer",
            Role::Auditor => "auditor",
            Role::Administrator => "administrator",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    pub const fn may(self, right: Right) -> bool {
        match (self, right) {
            (Role::Administrator, _) => true,
            (_, Right::Search) => true,
            (Role::Listener | Role::Officer, Right::Play) => true,
            (Role::Officer, Right::Download | Right::Annotate | Right::Watch) => true,
            (Role::Auditor, Right::Watch | Right::Trail) => true,
            (Role::Listener, _) | (Role::Officer, _) | (Role::Auditor, _) => false,
        }
    }
}

impl Right {
    /// Shows or changes what belongs to all sources at once.
    pub const fn is_of_the_house(self) -> bool {
        match self {
            Right::Watch | Right::Operate | Right::Trail | Right::Administer => true,
            Right::Search | Right::Play | Right::Download | Right::Annotate => false,
        }
    }
}

/// The calls that somebody may see. An empty list does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Names of sources.
    #[schema(max_items = 1000, value_type = Vec<Entry>)]
    pub sources: Vec<String>,
    /// Numbers of which a call must have one, or one of `parties`: with `+` or `00` exactly, else the end of one.
    #[schema(max_items = 1000, value_type = Vec<Entry>)]
    pub numbers: Vec<String>,
    /// Ids of parties, as the vendor writes them, in any case.
    #[schema(max_items = 1000, value_type = Vec<Entry>)]
    pub parties: Vec<String>,
}

/// One entry of a list, in the API's document.
#[derive(Debug)]
pub struct Entry;

impl Scope {
    /// Every call.
    pub fn is_all(&self) -> bool {
        self.sources.is_empty() && self.numbers.is_empty() && self.parties.is_empty()
    }

    /// Whether calls of this source can be in it at all.
    pub fn has_source(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|name| name == source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_may_what_the_table_says() {
        use Right::*;
        let table = |role: Role| {
            [
                Search, Play, Download, Annotate, Watch, Operate, Trail, Administer,
            ]
            .into_iter()
            .filter(|right| role.may(*right))
            .collect::<Vec<_>>()
        };
        assert_eq!(table(Role::Listener), [Search, Play]);
        assert_eq!(
            table(Role::Officer),
            [Search, Play, Download, Annotate, Watch]
        );
        assert_eq!(table(Role::Auditor), [Search, Watch, Trail]);
        assert_eq!(table(Role::Administrator).len(), 8);
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("Administrator"), None);
    }

    #[test]
    fn a_scope_without_lists_is_everything() {
        assert!(Scope::default().is_all());
        let narrow: Scope = serde_json::from_str(r#"{"sources":["desk"]}"#).unwrap();
        assert!(!narrow.is_all() && narrow.has_source("desk") && !narrow.has_source("other"));
        assert!(serde_json::from_str::<Scope>(r#"{"source":["desk"]}"#).is_err());
    }
}
