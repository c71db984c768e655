//! Numbers for those who see the last four digits alone: every place of an answer that holds one.
//!
//! What a newcomer gets wrong: vendors write numbers into names, ids and fields of their own as well. So what the call
//! is known to have as a number is masked wherever it stands, and in fields that we do not model whatever looks like one.

use serde_json::Value;

use super::call::Party;
use super::view::{CallView, RecordingView, ShowView};

/// Digits that stay.
const SHOWN: usize = 4;
/// From so many digits on a text of digits and punctuation alone is a number.
const NUMBER_DIGITS: usize = 7;

/// `+86 139-0000-0001` becomes `+** ***-****-0001`.
pub fn number(text: &str) -> String {
    // Full-width digits are digits, too.
    let digits = text.chars().filter(|c| c.is_numeric()).count();
    let mut left = digits.saturating_sub(SHOWN);
    text.chars()
        .map(|c| {
            if c.is_numeric() && left > 0 {
                left -= 1;
                '*'
            } else {
                c
            }
        })
        .collect()
}

/// A line of a list.
pub fn recording(view: &mut RecordingView) {
    let known = known([&view.caller, &view.callee], &view.parties);
    recording_with(view, &known);
}

/// A call with its recordings.
pub fn show(shown: &mut ShowView) {
    let call = &shown.call;
    let legs = call.legs.iter().flat_map(|leg| [&leg.caller, &leg.callee]);
    let ends = [&call.caller, &call.callee].into_iter().chain(legs);
    let known = known(ends, &call.parties);
    call_with(&mut shown.call, &known);
    for detail in &mut shown.recordings {
        recording_with(&mut detail.recording, &known);
    }
}

/// The digits of all numbers of a call, the longest first, each also without what stands in front of a national number.
fn known<'a>(
    ends: impl IntoIterator<Item = &'a Option<String>>,
    parties: &'a [Party],
) -> Vec<String> {
    let numbers = ends
        .into_iter()
        .chain(parties.iter().map(|party| &party.number))
        .flatten();
    let mut found: Vec<String> = Vec::new();
    for number in numbers {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        for prefix in ["", "00", "86", "0086", "0", "1"] {
            if let Some(rest) = digits.strip_prefix(prefix)
                && rest.len() >= NUMBER_DIGITS
            {
                found.push(rest.to_owned());
            }
        }
    }
    found.sort_by_key(|digits| std::cmp::Reverse(digits.len()));
    found.dedup();
    found
}

fn text(value: &mut String, known: &[String]) {
    for digits in known {
        if value.contains(digits.as_str()) {
            *value = value.replace(digits.as_str(), &number(digits));
        }
    }
    let is_number = value
        .chars()
        .all(|c| c.is_ascii_digit() || "+-() .".contains(c))
        && value.chars().filter(char::is_ascii_digit).count() >= NUMBER_DIGITS;
    if is_number {
        *value = number(value);
    }
}

/// What somebody typed or a row of the trail says: every run of digits that may be a number.
pub fn free_text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut run = String::new();
    let flush = |run: &mut String, masked: &mut String| {
        if run.chars().filter(|c| c.is_numeric()).count() >= NUMBER_DIGITS {
            masked.push_str(&number(run));
        } else {
            masked.push_str(run);
        }
        run.clear();
    };
    for c in text.chars() {
        if c.is_numeric() || "+-() ./／".contains(c) {
            run.push(c);
        } else {
            flush(&mut run, &mut masked);
            masked.push(c);
        }
    }
    flush(&mut run, &mut masked);
    masked
}

fn end(value: &mut Option<String>) {
    if let Some(value) = value {
        *value = number(value);
    }
}

fn parties(list: &mut [Party], known: &[String]) {
    for party in list {
        end(&mut party.number);
        for value in [&mut party.id, &mut party.name].into_iter().flatten() {
            text(value, known);
        }
    }
}

/// Ids are digits by nature: of them the known numbers alone are masked.
fn id(value: &mut String, known: &[String]) {
    for digits in known {
        if value.contains(digits.as_str()) {
            *value = value.replace(digits.as_str(), &number(digits));
        }
    }
}

fn recording_with(view: &mut RecordingView, known: &[String]) {
    end(&mut view.caller);
    end(&mut view.callee);
    parties(&mut view.parties, known);
    id(&mut view.provider_call_id, known);
    if let Some(value) = &mut view.provider_recording_id {
        id(value, known);
    }
    for value in &mut view.correlation_ids {
        id(value, known);
    }
}

fn call_with(view: &mut CallView, known: &[String]) {
    end(&mut view.caller);
    end(&mut view.callee);
    parties(&mut view.parties, known);
    id(&mut view.provider_call_id, known);
    for value in &mut view.correlation_ids {
        id(value, known);
    }
    for leg in &mut view.legs {
        end(&mut leg.caller);
        end(&mut leg.callee);
        id(&mut leg.provider_leg_id, known);
    }
    custom(&mut view.custom, known);
}

fn custom(value: &mut Value, known: &[String]) {
    match value {
        Value::String(value) => text(value, known),
        Value::Number(n) => {
            let mut digits = n.to_string();
            id(&mut digits, known);
            if digits.contains('*') {
                *value = Value::String(digits);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| custom(item, known)),
        Value::Object(fields) => fields.values_mut().for_each(|field| custom(field, known)),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_four_digits_stay() {
        for (whole, masked) in [
            ("+8613900000001", "+*********0001"),
            ("+86 139-0000-0001", "+** ***-****-0001"),
            ("１３９００００１１１１", "*******１１１１"),
            ("8001", "8001"),
            ("", ""),
            ("anonymous", "anonymous"),
        ] {
            assert_eq!(number(whole), masked);
        }
    }

    #[test]
    fn what_somebody_typed_is_masked_too() {
        assert_eq!(free_text("wang 13900000001"), "wang *******0001");
        assert_eq!(
            free_text("+86 139-0000-0001 or 8001"),
            "+** ***-****-0001 or 8001"
        );
        assert_eq!(free_text("order 0001"), "order 0001");
    }

    #[test]
    fn a_number_is_masked_wherever_a_vendor_wrote_it() {
        let mut facts = json!({
            "ext": "order of 13900000001, paid", "callbackNumber": "0571-88881234", "n": 13_900_000_001_i64,
            "seconds": 1_712_346_600, "list": [{ "deep": "+8613900000001" }], "name": "Wang 3",
        });
        let known = known([&Some("+8613900000001".to_owned())], &[]);
        custom(&mut facts, &known);
        assert_eq!(
            facts,
            json!({
                "ext": "order of *******0001, paid", "callbackNumber": "****-****1234", "n": "*******0001",
                "seconds": 1_712_346_600, "list": [{ "deep": "+*********0001" }], "name": "Wang 3",
            })
        );
        let mut call_id = "20240405-13900000001-7".to_owned();
        id(&mut call_id, &known);
        assert_eq!(call_id, "20240405-*******0001-7");
    }
}
