//! The words that a call is found by, made from its facts; `search` asks for them.

use std::collections::BTreeSet;

use crate::domain::call::CallFacts;
use crate::domain::number;

/// Digits of a number, reversed: "ends with" is a range.
pub(super) const NUMBER: &str = "n";
/// A number in E.164, with `+`.
pub(super) const EXACT: &str = "e";
/// A name, and each of its words, in lower case.
pub(super) const NAME: &str = "w";
/// A party's id in lower case.
pub(super) const PARTY: &str = "p";
/// An id of a call or recording in lower case.
pub(super) const ID: &str = "i";

/// (kind, value) of each word; ids of recordings are added where recordings are written.
pub(super) fn of_call(facts: &CallFacts) -> BTreeSet<(&'static str, String)> {
    let mut words = BTreeSet::new();
    let legs = facts.legs.iter();
    let numbers = [&facts.caller, &facts.callee]
        .into_iter()
        .chain(legs.flat_map(|leg| [&leg.caller, &leg.callee]))
        .chain(facts.parties.iter().map(|party| &party.number))
        .flatten();
    for received in numbers {
        let reversed = number::reversed_digits(received);
        if !reversed.is_empty() {
            words.insert((NUMBER, reversed));
        }
        if let Some(exact) = number::e164(received) {
            words.insert((EXACT, exact));
        }
    }
    for party in &facts.parties {
        if let Some(name) = &party.name {
            let name = folded(name);
            for word in name.split_whitespace() {
                words.insert((NAME, word.to_owned()));
            }
            words.insert((NAME, name));
        }
        if let Some(id) = &party.id {
            words.insert((PARTY, folded(id)));
        }
    }
    let legs = facts.legs.iter().map(|leg| &leg.provider_leg_id);
    for id in [&facts.provider_call_id]
        .into_iter()
        .chain(&facts.aliases)
        .chain(&facts.correlation_ids)
        .chain(legs)
    {
        words.insert((ID, folded(id)));
    }
    words.retain(|(_, value)| !value.is_empty());
    words
}

/// Case folded, cut where no search reads on (an index has its limits, and vendors send anything).
pub(super) fn folded(text: &str) -> String {
    let lower = text.trim().to_lowercase().replace('\0', "\u{fffd}");
    match lower.char_indices().nth(256) {
        Some((end, _)) => lower[..end].to_owned(),
        None => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::call::Party;

    #[test]
    fn a_call_is_found_by_its_numbers_names_and_ids() {
        let mut facts = CallFacts::new("CALL^1");
        facts.caller = Some("+86 139-0000-0001".into());
        facts.parties = vec![Party {
            id: Some("Agent7".into()),
            name: Some("Wang  Li".into()),
            ..Party::default()
        }];
        let words: Vec<_> = of_call(&facts).into_iter().collect();
        let expected = [
            (EXACT, "+8613900000001"),
            (ID, "call^1"),
            (NUMBER, "1000000093168"),
            (PARTY, "agent7"),
            (NAME, "li"),
            (NAME, "wang"),
            (NAME, "wang  li"),
        ];
        assert_eq!(words, expected.map(|(k, v)| (k, v.to_owned())));
    }

    #[test]
    fn endless_ids_are_cut_between_characters() {
        assert_eq!(folded(&"ü".repeat(5000)).chars().count(), 256);
    }
}
