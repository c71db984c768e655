//! NetEase's loose JSON: ids as numbers or text, JSON text inside JSON, booleans as text, times in seconds or
//! milliseconds, null anywhere.

use serde_json::{Map, Value};

use crate::domain::clock::Timestamp;

/// Times below are seconds (netease.md, section 7, rule 4).
const FIRST_MS: i64 = 100_000_000_000;
/// The last moment of the year 9999.
const LAST_MS: i64 = 253_402_300_799_999;
/// JSON text inside JSON text inside JSON text, and no deeper.
const MOST_LEVELS: usize = 3;

/// Parses a body; bytes that are not UTF-8 become U+FFFD, and so does NUL, which no database takes.
///
/// The bytes as received stay in the notice.
pub fn parse(body: &[u8]) -> Result<Value, String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}');
    let mut value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    without_nul(&mut value);
    Ok(value)
}

fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(items) => items.iter_mut().for_each(without_nul),
        Value::Object(fields) => fields.values_mut().for_each(without_nul),
        _ => {}
    }
}

/// What was packed as JSON text, up to three times; anything else as it is.
pub fn unpacked(value: &Value) -> Value {
    let mut value = value.clone();
    for _ in 0..MOST_LEVELS {
        let Value::String(text) = &value else { break };
        if !text.trim_start().starts_with(['{', '[', '"']) {
            break;
        }
        match parse(text.as_bytes()) {
            Ok(inner) => value = inner,
            Err(_) => break,
        }
    }
    value
}

/// The elements of a list: an array, packed or not; a lone object counts as one.
pub fn elements(value: &Value) -> Option<Vec<Value>> {
    match unpacked(value) {
        Value::Array(items) => Some(items),
        object @ Value::Object(_) => Some(vec![object]),
        _ => None,
    }
}

/// A member by any of its spellings, unless it says nothing.
fn member<'a>(of: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| {
        of.get(*name)
            .filter(|value| !value.is_null() && value.as_str() != Some(""))
    })
}

/// A text, or a whole number with all its digits.
pub fn text(of: &Map<String, Value>, names: &[&str]) -> Option<String> {
    match member(of, names)? {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        // A number beyond 64 bits was rounded when it was parsed: no id.
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

pub fn count(of: &Map<String, Value>, names: &[&str]) -> Option<u64> {
    match member(of, names)? {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_u64(),
        _ => None,
    }
}

/// Seconds, as milliseconds; at most ten years.
pub fn seconds_as_ms(of: &Map<String, Value>, names: &[&str]) -> Option<i64> {
    let seconds = match member(of, names)? {
        Value::String(text) => text.trim().parse::<f64>().ok()?,
        Value::Number(number) => number.as_f64()?,
        _ => return None,
    };
    (0.0..=315_360_000.0)
        .contains(&seconds)
        .then_some((seconds * 1000.0).round() as i64)
}

pub fn truth(of: &Map<String, Value>, names: &[&str]) -> Option<bool> {
    match member(of, names)? {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => number.as_i64().map(|n| n != 0),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

pub fn time(of: &Map<String, Value>, names: &[&str]) -> Option<Timestamp> {
    let told = match member(of, names)? {
        Value::String(text) => text.trim().parse::<i64>().ok()?,
        Value::Number(number) => number.as_i64()?,
        _ => return None,
    };
    let ms = match told {
        ..=0 => return None,
        1..FIRST_MS => told * 1000,
        _ => told,
    };
    (ms <= LAST_MS).then_some(Timestamp::from_ms(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_keep_every_digit_and_a_rounded_one_is_none() {
        let body = br#"{"a":9007199254740993,"b":"6290737000999801234","c":18446744073709551615,"d":123456789012345678901,"e":1.5}"#;
        let parsed = parse(body).unwrap();
        let of = parsed.as_object().unwrap();
        assert_eq!(text(of, &["a"]).unwrap(), "9007199254740993");
        assert_eq!(text(of, &["x", "b"]).unwrap(), "6290737000999801234");
        assert_eq!(text(of, &["c"]).unwrap(), "18446744073709551615");
        assert_eq!((text(of, &["d"]), text(of, &["e"])), (None, None));
    }

    #[test]
    fn json_text_is_unpacked_three_times_and_no_more() {
        let mut packed = json!([{ "a": 1 }]);
        for level in 0..5 {
            let found = elements(&packed);
            assert_eq!(found.is_some(), level <= MOST_LEVELS, "level {level}");
            packed = Value::String(packed.to_string());
        }
        assert_eq!(elements(&json!("[{")), None);
        assert_eq!(elements(&json!("plain")), None);
    }

    #[test]
    fn times_and_truths_come_in_several_shapes() {
        let of = json!({"s": "1700000123", "ms": 1_700_000_123_000_i64, "t": "1", "f": "false", "n": 1, "bad": -5});
        let of = of.as_object().unwrap();
        assert_eq!(time(of, &["s"]), time(of, &["ms"]));
        assert_eq!(time(of, &["bad"]), None);
        assert_eq!(truth(of, &["t"]), Some(true));
        assert_eq!(truth(of, &["f"]), Some(false));
        assert_eq!(truth(of, &["n"]), Some(true));
        assert_eq!(
            parse(b"[\"a\\u0000b\"]").unwrap(),
            json!(["a\u{fffd}b"]),
            "no NUL reaches the database"
        );
    }
}
