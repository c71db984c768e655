//! Alibaba's loose JSON: numbers as text or text as numbers, null for nothing, ids beyond 64 bits, times without a zone.

use chrono::{NaiveDateTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use serde_json::{Map, Value};

use crate::domain::clock::Timestamp;

/// Values below are seconds, not milliseconds.
const FIRST_MS: i64 = 100_000_000_000;
/// The last moment of the year 9999.
const LAST_MS: i64 = 253_402_300_799_999;
/// Numbers with more digits become text: a JSON parser would round them (RTC user ids, binding ids).
const SAFE_DIGITS: usize = 15;

/// Parses a body; bytes that are not UTF-8 become U+FFFD, long numbers and odd escapes are mended.
///
/// The bytes as received stay in the notice.
pub fn parse(body: &[u8]) -> Result<Value, String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}');
    serde_json::from_str(&mended(text)).map_err(|e| format!("not JSON: {e}"))
}

/// Puts long numbers in quotes, and U+FFFD in the place of escapes that no text can hold: half
/// surrogates (a vendor that cuts texts) and NUL (which no database takes).
fn mended(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' => copy_string(rest, &mut out),
            '-' | '0'..='9' => copy_number(rest, &mut out),
            other => {
                out.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

fn copy_number(rest: &str, out: &mut String) -> usize {
    let end = rest
        .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
        .unwrap_or(rest.len());
    let number = &rest[..end];
    let digits = number.strip_prefix('-').unwrap_or(number);
    if digits.len() > SAFE_DIGITS && digits.bytes().all(|b| b.is_ascii_digit()) {
        out.push('"');
        out.push_str(number);
        out.push('"');
    } else {
        out.push_str(number);
    }
    end
}

fn copy_string(rest: &str, out: &mut String) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    let mut copied = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                out.push_str(&rest[copied..=at]);
                return at + 1;
            }
            b'\\' => match escape_at(rest, at) {
                Escape::Sound(length) => at += length,
                Escape::Unholdable => {
                    out.push_str(&rest[copied..at]);
                    out.push('\u{fffd}');
                    at += 6;
                    copied = at;
                }
            },
            _ => at += 1,
        }
    }
    out.push_str(&rest[copied..]);
    rest.len()
}

enum Escape {
    /// Left as it is, so many bytes long (unsound ones too: the parser will say so).
    Sound(usize),
    Unholdable,
}

fn escape_at(rest: &str, at: usize) -> Escape {
    match unit_at(rest, at) {
        Some(0) => Escape::Unholdable,
        Some(0xd800..=0xdbff) => match unit_at(rest, at + 6) {
            Some(0xdc00..=0xdfff) => Escape::Sound(12),
            _ => Escape::Unholdable,
        },
        Some(0xdc00..=0xdfff) => Escape::Unholdable,
        Some(_) => Escape::Sound(6),
        // A backslash and one byte; what follows may be the start of a longer character.
        None => Escape::Sound(2),
    }
}

fn unit_at(rest: &str, at: usize) -> Option<u16> {
    let escape = rest.as_bytes().get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// An object while it is read: understood members leave it, what stays is what we do not model.
#[derive(Clone, Debug, Default)]
pub struct Element(Map<String, Value>);

impl Element {
    pub fn of(value: Value) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self(map)),
            // An object that was packed as text.
            Value::String(text) if text.trim_start().starts_with('{') => {
                match parse(text.as_bytes()) {
                    Ok(Value::Object(map)) => Some(Self(map)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A text or a number as text. Null and empty are nothing; anything else stays where it is.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.take(name, |value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    }

    /// The first of these members that says something; products spell the same member differently.
    pub fn text_of(&mut self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    /// Whole seconds (`63`, `"63"`, `63.0`), as milliseconds.
    pub fn seconds_as_ms(&mut self, name: &str) -> Option<i64> {
        self.take(name, |value| {
            let seconds = match value {
                Value::String(text) => text.trim().parse::<f64>().ok()?,
                Value::Number(number) => number.as_f64()?,
                _ => return None,
            };
            // Ten years: beyond, it is no length of a call.
            (0.0..=315_360_000.0)
                .contains(&seconds)
                .then_some((seconds * 1000.0).round() as i64)
        })
    }

    /// A time of this zone, or milliseconds since 1970.
    pub fn time(&mut self, names: &[&str], zone: Tz) -> Option<Timestamp> {
        names.iter().find_map(|name| {
            self.take(name, |value| match value {
                Value::String(text) => time(text, zone),
                Value::Number(number) => from_epoch(number.as_i64()?),
                _ => None,
            })
        })
    }

    /// A member of any shape, unless it is null or empty.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.take(name, |value| Some(value.clone()))
    }

    fn take<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.0.get(name)?;
        if is_nothing(value) {
            self.0.shift_remove(name);
            return None;
        }
        let read = read(value)?;
        self.0.shift_remove(name);
        Some(read)
    }

    /// What nobody asked for, without members that say nothing.
    pub fn rest(self) -> Map<String, Value> {
        let said = self.0.into_iter().filter(|(_, value)| !is_nothing(value));
        said.collect()
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// `yyyy-MM-dd HH:mm:ss` of a zone (aliyun.md, section 1), RFC 3339, or an epoch time as text.
pub fn time(text: &str, zone: Tz) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(epoch) = text.parse::<i64>() {
        return from_epoch(epoch);
    }
    let local = [
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y/%m/%d %H:%M:%S",
    ]
    .iter()
    .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let at = match local {
        Some(local) => in_zone(local, zone)?,
        None => Timestamp::parse(text)?,
    };
    (0..=LAST_MS).contains(&at.ms()).then_some(at)
}

/// A time that the clocks skipped is read as one hour later; of two equal ones the first counts.
fn in_zone(local: NaiveDateTime, zone: Tz) -> Option<Timestamp> {
    let at = zone.from_local_datetime(&local).earliest().or_else(|| {
        let later = local.checked_add_signed(TimeDelta::hours(1))?;
        zone.from_local_datetime(&later).earliest()
    })?;
    Some(Timestamp::from_ms(at.timestamp_millis()))
}

fn from_epoch(value: i64) -> Option<Timestamp> {
    let ms = match value {
        ..=0 => return None,
        1..FIRST_MS => value * 1000,
        _ => value,
    };
    (ms <= LAST_MS).then_some(Timestamp::from_ms(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn long_numbers_keep_every_digit() {
        let parsed = parse(
            br#"{"a":123456789012345678901234567890,"b":-1234567890123456,"c":"12345678901234567890","d":1.5e3,"e":[9007199254740993],"f":12}"#,
        )
        .unwrap();
        let expected = json!({"a": "123456789012345678901234567890", "b": "-1234567890123456",
            "c": "12345678901234567890", "d": 1500.0, "e": ["9007199254740993"], "f": 12});
        assert_eq!(parsed, expected);
    }

    #[test]
    fn cut_emoji_and_nul_do_not_spoil_a_body() {
        let parsed =
            parse(br#"["\ud83d\ude00","\ud83d","a\u0000b","\\ud83d","\"\ude00"]"#).unwrap();
        assert_eq!(
            parsed,
            json!(["😀", "\u{fffd}", "a\u{fffd}b", "\\ud83d", "\"\u{fffd}"])
        );
        assert_eq!(
            parse(b"\xef\xbb\xbf[\"\xd6\xd0\"]").unwrap()[0],
            "\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn times_are_read_as_the_vendor_writes_them() {
        let zone = chrono_tz::Asia::Shanghai;
        for (text, expected) in [
            ("2021-08-25 20:11:29", Some("2021-08-25T12:11:29.000Z")),
            (" 2021-08-25T20:11:29.5 ", Some("2021-08-25T12:11:29.500Z")),
            ("2021-08-25T12:11:29Z", Some("2021-08-25T12:11:29.000Z")),
            ("1629893489000", Some("2021-08-25T12:11:29.000Z")),
            ("1629893489", Some("2021-08-25T12:11:29.000Z")),
            ("0", None),
            ("-5", None),
            ("2021-13-25 20:11:29", None),
            ("0001-01-01 00:00:00", None),
            ("soon", None),
        ] {
            let read = time(text, zone).map(|at| at.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
        // The hour that Berlin skips in spring.
        let skipped = time("2024-03-31 02:30:00", chrono_tz::Europe::Berlin).unwrap();
        assert_eq!(skipped.to_string(), "2024-03-31T01:30:00.000Z");
    }

    proptest! {
        #[test]
        fn mending_changes_no_sound_json(value in "\\PC{0,40}", number in -999_999_999_999_999_i64..999_999_999_999_999) {
            let sound = json!({"a": value, "b": [number, null, {"c\"\\": "\\"}]});
            prop_assert_eq!(parse(sound.to_string().as_bytes()).unwrap(), sound);
        }

        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in "[\"\\\\u0-9d{}\\[\\],:-]{0,60}") {
            let mut body = bytes;
            body.extend(tail.as_bytes());
            let _ = parse(&body);
        }
    }
}
