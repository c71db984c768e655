//! What the provider's word makes of somebody here. Pure.
//!
//! What a newcomer gets wrong: nobody gets a role by being known to the provider. A group that the configuration names
//! gives one, at each sign-in anew.

use serde_json::{Map, Value};

use super::id_token::Claims;
use super::refusal::{Refusal, Refused};
use super::settings::Settings;
use crate::db::accounts::account_name;
use crate::domain::digest::Sha256;
use crate::domain::rights::{Right, Role, Scope};

/// What somebody is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub role: Role,
    pub scope: Scope,
}

/// Role and scope by the claims, or why there is none.
pub fn standing(settings: &Settings, claims: &Claims) -> Result<Standing, Refused> {
    let refused = |why: Refusal, detail: String| Err(Refused::new(why, detail).of(&claims.subject));
    if !settings.email_domains.is_empty() {
        let email = confirmed_email(&claims.all);
        let domain = email
            .and_then(|email| email.rsplit_once('@'))
            .map(|at| at.1);
        let known = |domain: &str| {
            let mut all = settings.email_domains.iter();
            all.any(|allowed| allowed.eq_ignore_ascii_case(domain))
        };
        if !domain.is_some_and(known) {
            return refused(
                Refusal::OtherDomain,
                match domain {
                    Some(_) => "the e-mail address is of another domain".to_owned(),
                    None => "no e-mail address that the provider has verified".to_owned(),
                },
            );
        }
    }
    let groups = groups(&claims.all, &settings.role_claim);
    let is_in = |list: &[String]| list.iter().any(|group| groups.contains(&group.as_str()));
    if !settings.required_groups.is_empty() && !is_in(&settings.required_groups) {
        return refused(
            Refusal::NotInGroup,
            format!("none of required_groups is in {}", settings.role_claim),
        );
    }
    let mut roles = settings.roles.of_each().into_iter();
    let Some((role, _)) = roles.find(|(_, list)| is_in(list)) else {
        let claim = &settings.role_claim;
        return if at(&claims.all, claim).is_none() {
            refused(
                Refusal::NoRole,
                format!("the provider sent no claim {claim}; does the client get it?"),
            )
        } else {
            refused(
                Refusal::NoRole,
                format!("{} groups in {claim}, none has a role", groups.len()),
            )
        };
    };
    // Auditors and administrators are for the whole house.
    let is_of_the_house = role.may(Right::Trail);
    if is_of_the_house || settings.group_scopes.is_empty() {
        return Ok(Standing {
            role,
            scope: Scope::default(),
        });
    }
    let mut scopes = settings.group_scopes.iter();
    match scopes.find(|entry| groups.contains(&entry.group.as_str())) {
        Some(entry) => Ok(Standing {
            role,
            scope: entry.scope(),
        }),
        None => refused(
            Refusal::NoScope,
            format!("none of group_scopes is in {}", settings.role_claim),
        ),
    }
}

/// Whether the claim is there at all, so that the provider need not be asked for more.
pub fn says_all(settings: &Settings, claims: &Map<String, Value>) -> bool {
    at(claims, &settings.role_claim).is_some()
        && (settings.email_domains.is_empty() || claims.contains_key("email"))
}

/// By its whole name first: names of claims may hold dots themselves, as those that are addresses do.
fn at<'c>(claims: &'c Map<String, Value>, claim: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(claim) {
        return Some(value);
    }
    let mut parts = claim.split('.');
    let first = claims.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

fn groups<'c>(claims: &'c Map<String, Value>, claim: &str) -> Vec<&'c str> {
    match at(claims, claim) {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        // Some providers write an object whose keys are the roles.
        Some(Value::Object(keys)) => keys.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Some providers write the word `true`.
fn confirmed_email(claims: &Map<String, Value>) -> Option<&str> {
    let confirmed = match claims.get("email_verified") {
        Some(Value::Bool(confirmed)) => *confirmed,
        Some(Value::String(word)) => word == "true",
        _ => false,
    };
    let email = claims.get("email")?.as_str()?;
    confirmed.then_some(email)
}

/// Names for a new account, the best first; the last is of this person alone.
pub fn names(issuer: &str, claims: &Claims) -> Vec<String> {
    let text = |name: &str| claims.all.get(name).and_then(Value::as_str);
    let told = ["preferred_username", "email"]
        .into_iter()
        .filter_map(text)
        .find_map(account_name);
    let own = Sha256::of(format!("{issuer}\n{}", claims.subject).as_bytes()).short();
    match told {
        Some(name) => {
            let short: String = name.chars().take(40).collect();
            vec![name, format!("{short}-{own}")]
        }
        None => vec![format!("person-{own}")],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(more: &str) -> Settings {
        let text = format!(
            "issuer = \"https://id.example.com\"\nclient_id = \"callvault\"\n{more}\n\
             [roles]\nlistener = [\"desk\"]\nofficer = [\"law\"]\nauditor = [\"audit\"]\nadministrator = [\"it\"]\n"
        );
        toml::from_str(&text).unwrap()
    }

    fn claims(all: Value) -> Claims {
        let Value::Object(all) = all else { panic!() };
        Claims {
            subject: "s-1".into(),
            all,
        }
    }

    fn role(settings: &Settings, all: Value) -> Result<Role, Refusal> {
        standing(settings, &claims(all))
            .map(|standing| standing.role)
            .map_err(|refused| refused.why)
    }

    #[test]
    fn a_group_gives_a_role_and_nothing_else_does() {
        let plain = settings("");
        for (groups, expected) in [
            (json!(["desk"]), Ok(Role::Listener)),
            (json!("desk"), Ok(Role::Listener)),
            (json!({"desk": {}}), Ok(Role::Listener)),
            (json!(["law", "desk"]), Ok(Role::Officer)),
            // Who audits hears nothing, whatever else they are.
            (json!(["law", "audit"]), Ok(Role::Auditor)),
            (json!(["audit", "it"]), Ok(Role::Administrator)),
            (json!(["DESK"]), Err(Refusal::NoRole)),
            (json!(["desk "]), Err(Refusal::NoRole)),
            (json!([]), Err(Refusal::NoRole)),
            (json!(7), Err(Refusal::NoRole)),
            (json!(null), Err(Refusal::NoRole)),
        ] {
            let all = json!({ "groups": groups });
            assert_eq!(role(&plain, all.clone()), expected, "{all}");
        }
        assert_eq!(
            role(&plain, json!({"administrator": true})),
            Err(Refusal::NoRole)
        );
        let nested = settings("role_claim = \"realm_access.roles\"");
        let all = json!({"realm_access": {"roles": ["law"]}});
        assert_eq!(role(&nested, all), Ok(Role::Officer));
        let address = settings("role_claim = \"https://example.com/roles\"");
        let all = json!({"https://example.com/roles": ["law"]});
        assert_eq!(role(&address, all), Ok(Role::Officer));
    }

    #[test]
    fn domains_and_groups_may_be_asked_for() {
        let domain = settings("email_domains = [\"example.com\"]");
        let person = |email: &str, verified: Value| json!({"groups": ["desk"], "email": email, "email_verified": verified});
        assert_eq!(
            role(&domain, person("a@Example.com", json!(true))),
            Ok(Role::Listener)
        );
        assert_eq!(
            role(&domain, person("a@example.com", json!("true"))),
            Ok(Role::Listener)
        );
        for (email, verified) in [
            ("a@example.com", json!(false)),
            ("a@example.com", json!(null)),
            ("a@evil.example", json!(true)),
            ("a@sub.example.com", json!(true)),
            ("a@example.com@evil.example", json!(true)),
            ("example.com", json!(true)),
        ] {
            let asked = role(&domain, person(email, verified));
            assert_eq!(asked, Err(Refusal::OtherDomain), "{email}");
        }
        let group = settings("required_groups = [\"staff\"]");
        assert_eq!(
            role(&group, json!({"groups": ["desk"]})),
            Err(Refusal::NotInGroup)
        );
        assert_eq!(
            role(&group, json!({"groups": ["desk", "staff"]})),
            Ok(Role::Listener)
        );
    }

    #[test]
    fn the_first_group_that_fits_says_what_is_seen() {
        let scoped = settings(
            "group_scopes = [{ group = \"north\", sources = [\"n\"] }, { group = \"south\", numbers = [\"+861\"] }, { group = \"all\" }]",
        );
        let of = |groups: Value| standing(&scoped, &claims(json!({ "groups": groups })));
        assert_eq!(
            of(json!(["desk", "south", "north"])).unwrap().scope.sources,
            ["n"]
        );
        assert_eq!(
            of(json!(["desk", "south"])).unwrap().scope.numbers,
            ["+861"]
        );
        assert!(of(json!(["desk", "all"])).unwrap().scope.is_all());
        assert_eq!(of(json!(["desk"])).unwrap_err().why, Refusal::NoScope);
        assert!(of(json!(["it"])).unwrap().scope.is_all());
    }

    #[test]
    fn a_name_that_is_taken_is_never_shared() {
        let names = |all: Value| names("https://id.example.com", &claims(all));
        let found = names(json!({"preferred_username": "Ann", "email": "b@example.com"}));
        assert_eq!(found[0], "ann");
        assert!(found[1].starts_with("ann-") && found[1].len() == 20);
        assert_eq!(names(json!({"email": "b@example.com"}))[0], "b@example.com");
        let foreign = names(json!({"preferred_username": "王丽"}));
        assert!(foreign[0].starts_with("person-") && foreign.len() == 1);
    }
}
