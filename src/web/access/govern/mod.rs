//! What administrators and auditors do, and everybody with their own account: asked for here by pages and API alike.
//!
//! What a newcomer gets wrong: pages decide nothing. Rights, audit rows and refusals are in this room; a page shows an
//! answer or the words of a refusal, the API the same as JSON.

pub mod accounts;
pub mod own;
pub mod schedule;
pub mod sources;
pub mod tokens;
pub mod trail;

use std::future::Future;

use crate::db::{DbError, DbErrorKind};
use crate::domain::rights::{Role, Scope};
use crate::web::problem::ApiError;
use crate::web::reads::ask;
use crate::web::state::WebState;

/// Entries of one list of a scope, and characters of one entry.
const MOST_ENTRIES: usize = 1000;
const MOST_CHARACTERS: usize = 200;

/// White space behind an entry is nobody's; a blank entry stays, and is refused: left out it would widen the scope.
fn tidy(scope: Scope) -> Scope {
    let tidy = |list: Vec<String>| {
        list.into_iter()
            .map(|entry| entry.trim_end().to_owned())
            .collect()
    };
    Scope {
        sources: tidy(scope.sources),
        numbers: tidy(scope.numbers),
        parties: tidy(scope.parties),
    }
}

/// What role and scope somebody may be given together.
pub fn sensible(role: Role, scope: &Scope) -> Result<(), ApiError> {
    if !scope.is_all() && matches!(role, Role::Auditor | Role::Administrator) {
        return Err(ApiError::conflict(
            "whole_house",
            "auditors and administrators have no scope: these roles are for the whole house",
        ));
    }
    for (name, list) in [
        ("sources", &scope.sources),
        ("numbers", &scope.numbers),
        ("parties", &scope.parties),
    ] {
        let sound = |entry: &String| {
            !entry.is_empty()
                && !entry.starts_with(char::is_whitespace)
                && entry.chars().count() <= MOST_CHARACTERS
                && !entry.chars().any(char::is_control)
        };
        if list.len() > MOST_ENTRIES || !list.iter().all(sound) {
            return Err(ApiError::refused(
                "bad_scope",
                format!(
                    "scope.{name}: at most {MOST_ENTRIES} entries of 1 to {MOST_CHARACTERS} characters, that begin with no space and hold no control characters"
                ),
            ));
        }
    }
    Ok(())
}

fn bad_name() -> ApiError {
    ApiError::refused(
        "bad_name",
        "a name has up to 64 of a-z 0-9 . _ @ -, and begins with a letter or digit",
    )
}

fn name_taken() -> ApiError {
    ApiError::conflict("name_taken", "this name is taken")
}

/// Two who take the same name at once: the second is told so.
async fn unless_taken<T>(
    state: &WebState,
    asked: impl Future<Output = Result<T, DbError>>,
) -> Result<T, ApiError> {
    let asked = async {
        match asked.await {
            Err(error) if error.kind() == DbErrorKind::Conflict => Ok(None),
            other => other.map(Some),
        }
    };
    ask(state, asked).await?.ok_or_else(name_taken)
}
