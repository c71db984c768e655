//! Pages for administrators, and the audit trail for auditors as well.

pub mod accounts;
pub mod configuration;
pub mod sources;
pub mod tokens;
pub mod trail;

use crate::domain::rights::{Role, Scope};

use super::words::Words;

/// What the forms for accounts and tokens have in common, as typed.
struct Grant<'a> {
    name: &'a str,
    role: &'a str,
    sources: &'a str,
    numbers: &'a str,
    parties: &'a str,
}

type Problem = fn(&Words) -> &'static str;

/// The typed grant, or what is wrong with it.
fn granted(typed: &Grant<'_>) -> Result<(String, Role, Scope), Problem> {
    let name = crate::db::accounts::account_name(typed.name).ok_or::<Problem>(|w| w.bad_name)?;
    let role = Role::parse(typed.role).ok_or::<Problem>(|w| w.bad_name)?;
    let list = |text: &str| {
        text.split([',', ';', ' ', '\n', '，', '、'])
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let scope = Scope {
        sources: list(typed.sources),
        numbers: list(typed.numbers),
        parties: list(typed.parties),
    };
    if !scope.is_all() && matches!(role, Role::Auditor | Role::Administrator) {
        return Err(|w| w.whole_house);
    }
    Ok((name, role, scope))
}
