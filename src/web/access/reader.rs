//! Who reads: the name for the audit trail, the role, and the calls that may be seen.
//!
//! It lies in the extensions of every request behind the door. A handler asks `reader.needs(Right::Play)?` before it
//! does anything; which calls the answer may hold is the scope's matter, and the database applies it.

use uuid::Uuid;

use crate::domain::rights::{Right, Role, Scope};
use crate::web::problem::ApiError;

/// Who reads; stands in every audit row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// `account:NAME`, `token:NAME`, `loopback`.
    pub actor: String,
    /// The address of the caller, through trusted proxies.
    pub from: String,
    pub role: Role,
    pub scope: Scope,
    /// Of numbers the last four digits alone are shown, and looked for.
    pub masks_numbers: bool,
    /// Whose saved searches and settings these are; none for `api_token` and loopback.
    pub account: Option<Uuid>,
    /// `en` or `zh-CN`, where the account says so.
    pub language: Option<String>,
    /// In a browser.
    pub signed_in: Option<SignedIn>,
}

/// A session as pages need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    pub session: Uuid,
    /// Of the account.
    pub name: String,
    /// What every form of a page carries as its field `word`, and every script as the header `x-callvault-word`.
    pub form_word: String,
    pub must_change: bool,
}

impl Reader {
    /// Somebody without an account who may do everything: the configured token, or this machine.
    pub fn of_the_house(actor: impl Into<String>, from: impl Into<String>) -> Self {
        Self {
            actor: actor.into(),
            from: from.into(),
            role: Role::Administrator,
            scope: Scope::default(),
            masks_numbers: false,
            account: None,
            language: None,
            signed_in: None,
        }
    }

    /// The hidden field of forms; empty where there is no session, and then none is asked for.
    pub fn form_word(&self) -> &str {
        self.signed_in
            .as_ref()
            .map_or("", |session| &session.form_word)
    }

    /// Whether to show the way to something at all.
    pub fn may(&self, right: Right) -> bool {
        self.role.may(right) && (self.scope.is_all() || !right.is_of_the_house())
    }

    /// To be asked before a handler looks anything up: the answer depends on the reader alone, never on what exists.
    pub fn needs(&self, right: Right) -> Result<(), ApiError> {
        if self.may(right) {
            Ok(())
        } else {
            Err(ApiError::not_allowed(self.role))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_over_the_house_need_a_whole_scope() {
        let mut reader = Reader::of_the_house("account:ann", "local");
        assert!(reader.may(Right::Administer) && reader.needs(Right::Trail).is_ok());
        reader.scope.sources.push("desk".into());
        assert!(reader.may(Right::Play) && reader.may(Right::Download));
        for right in [
            Right::Watch,
            Right::Operate,
            Right::Trail,
            Right::Administer,
        ] {
            assert!(!reader.may(right), "{right:?}");
        }
        let error = reader.needs(Right::Trail).unwrap_err();
        assert_eq!(
            (error.status().as_u16(), error.code()),
            (403, "not_allowed")
        );
    }
}
