//! What can be wrong with a stored object: a code for each, what it means, and what to do about it.
//!
//! What a newcomer gets wrong: nothing of this is mended by us. A finding stands until a later look finds the
//! object whole, and a person decides where its bytes come from.

/// A stored object is not what its row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Nothing lies under the key.
    Missing,
    /// A delete marker lies over the bytes, which are still there as a version.
    Hidden,
    /// Other bytes than those that were read back.
    Changed,
    /// The bytes of another object of this archive.
    Swapped,
    /// The store answers, but does not give this object.
    Unreadable,
    /// A manifest that does not say what the index says, or is no manifest any more.
    ManifestWrong,
}

impl Damage {
    pub const ALL: [Self; 6] = [
        Self::Missing,
        Self::Hidden,
        Self::Changed,
        Self::Swapped,
        Self::Unreadable,
        Self::ManifestWrong,
    ];

    /// Stable: in rows, alarms, histories and the runbook.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Missing => "object_missing",
            Self::Hidden => "object_delete_marker",
            Self::Changed => "object_changed",
            Self::Swapped => "object_swapped",
            Self::Unreadable => "object_unreadable",
            Self::ManifestWrong => "manifest_wrong",
        }
    }

    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|damage| damage.code() == code)
    }

    /// For an alarm on any number of objects.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Missing => "archived objects are not in the archive any more",
            Self::Hidden => {
                "archived objects are hidden by a delete marker; their bytes are still there"
            }
            Self::Changed => "archived objects hold other bytes than those that were archived",
            Self::Swapped => "archived objects hold the bytes of other objects of this archive",
            Self::Unreadable => {
                "archived objects cannot be read, though the store answers for others"
            }
            Self::ManifestWrong => "manifests do not say what the index says",
        }
    }

    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Missing => {
                "`callvault fixity` names them; bring them back from a backup or a replica, and find out who can delete there"
            }
            Self::Hidden => {
                "`callvault fixity` names them; delete the delete marker in the store, and find out who can delete there"
            }
            Self::Changed => {
                "`callvault fixity` names them; bring the archived bytes back from an older version, a backup or a replica, and look at the disk"
            }
            Self::Swapped => {
                "`callvault fixity` names them and what lies there; was something restored to the wrong place?"
            }
            Self::Unreadable => {
                "`callvault fixity` names them; look at the disk, or at rights and keys in the store"
            }
            Self::ManifestWrong => {
                "`callvault fixity` names them; compare with `callvault show ID` and a backup before any rebuild"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damage_has_a_code_of_its_own() {
        for damage in Damage::ALL {
            assert_eq!(Damage::parse(damage.code()), Some(damage));
        }
        assert_eq!(Damage::parse("object_fine"), None);
    }
}
