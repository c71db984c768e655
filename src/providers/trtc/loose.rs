//! Fields of the vendor's JSON as it writes them: numbers as numbers or text, times in seconds or milliseconds.

use serde_json::Value;

use crate::domain::clock::Timestamp;

/// Longest id that is believed.
pub const LONGEST_ID: usize = 512;

/// A text, or a whole number with its digits; empty is nothing.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        _ => None,
    }
}

pub fn id(value: &Value) -> Option<String> {
    text(value).filter(|id| id.len() <= LONGEST_ID)
}

pub fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Below 10^11 seconds, else milliseconds (tencent.md, section 8.2); 0 is nothing.
pub fn moment(value: &Value) -> Option<Timestamp> {
    match number(value)? {
        n if n <= 0 => None,
        n if n < 100_000_000_000 => Some(Timestamp::from_ms(n * 1000)),
        n => Some(Timestamp::from_ms(n)),
    }
}

/// The vendor's ISO date, such as `2023-11-14T22:16:41Z`.
pub fn date(value: &Value) -> Option<Timestamp> {
    Timestamp::parse(value.as_str()?)
}
