//! The vendor's loose JSON: trailing commas, numbers as text, ids as numbers, times without a zone.

use chrono::{NaiveDateTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use serde_json::{Map, Value};

use crate::domain::clock::Timestamp;

/// Integers with more digits would be rounded by a JSON parser; they become text, which is how ids compare.
const SAFE_DIGITS: usize = 15;
/// The last moment of the year 9999.
const LAST_MS: i64 = 253_402_300_799_999;

/// An object, and whether it took the tolerant pass (vcrtc.md, section 2.4: strict first, then once more
/// without trailing commas).
pub fn object(body: &[u8]) -> Option<(Map<String, Value>, bool)> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}');
    let read = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    };
    if let Some(object) = read(&mended(text, false)) {
        return Some((object, false));
    }
    read(&mended(text, true)).map(|object| (object, true))
}

/// Long integers in quotes; with `commas` also without commas in front of a closing bracket.
fn mended(text: &str, commas: bool) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let from = at;
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
                // A backslash may have jumped into a longer character of a broken text.
                while !text.is_char_boundary(at) {
                    at += 1;
                }
                out.push_str(&text[from..at]);
            }
            b'-' | b'0'..=b'9' => {
                let end = text[at..]
                    .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
                    .map_or(bytes.len(), |length| at + length);
                let number = &text[at..end];
                let is_long =
                    number.len() > SAFE_DIGITS && number.bytes().all(|byte| byte.is_ascii_digit());
                if is_long {
                    out.push('"');
                }
                out.push_str(number);
                if is_long {
                    out.push('"');
                }
                at = end;
            }
            b',' if commas && closes(&text[at + 1..]) => at += 1,
            _ => {
                at += 1;
                while !text.is_char_boundary(at) {
                    at += 1;
                }
                out.push_str(&text[from..at]);
            }
        }
    }
    out
}

fn closes(rest: &str) -> bool {
    rest.trim_start().starts_with(['}', ']'])
}

/// A text or a number as text; empty is nothing. Text is also how record ids compare.
pub fn text(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// `true`, `"true"`, `1` and `"1"`.
pub fn flag(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(flag)) => *flag,
        other => text(other).is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1"),
    }
}

/// A size in bytes: `102779700`, `1.027797E8` (the manual calls it a double), either as text.
pub fn size(value: Option<&Value>) -> Option<u64> {
    let text = text(value)?;
    if let Ok(bytes) = text.parse() {
        return Some(bytes);
    }
    let bytes: f64 = text.parse().ok()?;
    (bytes.is_finite() && (0.0..9.0e15).contains(&bytes)).then(|| bytes.round() as u64)
}

/// `yyyy-MM-dd HH:mm:ss` of a zone, or RFC 3339.
///
/// A time that the clocks skipped is read as one hour later; of two equal ones the first counts.
pub fn time(text: &str, zone: Tz) -> Option<Timestamp> {
    let local = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let at = match local {
        Some(local) => {
            let at = zone.from_local_datetime(&local).earliest().or_else(|| {
                let later = local.checked_add_signed(TimeDelta::hours(1))?;
                zone.from_local_datetime(&later).earliest()
            })?;
            Timestamp::from_ms(at.timestamp_millis())
        }
        None => Timestamp::parse(text)?,
    };
    (0..=LAST_MS).contains(&at.ms()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn trailing_commas_go_and_texts_stay() {
        let (read, tolerant) = object(br#"{"a":[1,2, ],"b":"x, ]","c":{"d":"\\",},}"#).unwrap();
        assert!(tolerant);
        assert_eq!(
            Value::Object(read),
            json!({"a": [1, 2], "b": "x, ]", "c": {"d": "\\"}})
        );
        let (read, tolerant) = object("\u{feff}{\"a\":\"密\"}".as_bytes()).unwrap();
        assert!(!tolerant && read["a"] == "密");
        for broken in [
            &b"[1]"[..],
            b"{",
            b"<html>",
            b"",
            b"\"\\",
            b"{\"a\":\"\\\xe5",
        ] {
            assert!(object(broken).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn ids_beyond_53_bits_keep_their_last_digit() {
        let (read, _) = object(br#"{"recordId":12345678901234567891234}"#).unwrap();
        assert_eq!(
            text(read.get("recordId")).unwrap(),
            "12345678901234567891234"
        );
    }

    #[test]
    fn sizes_come_in_three_dresses() {
        for (written, expected) in [
            (json!(102779700), Some(102_779_700)),
            (json!(1.027797E8), Some(102_779_700)),
            (json!("1.027797E8"), Some(102_779_700)),
            (json!("7"), Some(7)),
            (json!(-1), None),
            (json!("many"), None),
            (json!(1e300), None),
            (json!(null), None),
        ] {
            assert_eq!(size(Some(&written)), expected, "{written}");
        }
    }

    #[test]
    fn times_are_read_in_their_zone_also_where_clocks_jump() {
        for (text, zone, expected) in [
            (
                "2024-04-05 19:40:12",
                Tz::UTC,
                Some("2024-04-05T19:40:12.000Z"),
            ),
            (
                "2024-04-05 19:40:12",
                Tz::Asia__Shanghai,
                Some("2024-04-05T11:40:12.000Z"),
            ),
            (
                "2024-03-31 02:30:00",
                Tz::Europe__Berlin,
                Some("2024-03-31T01:30:00.000Z"),
            ),
            (
                "2024-04-05T19:40:12+08:00",
                Tz::UTC,
                Some("2024-04-05T11:40:12.000Z"),
            ),
            ("2024-13-05 19:40:12", Tz::UTC, None),
            ("soon", Tz::UTC, None),
        ] {
            let read = time(text, zone).map(|at| at.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
