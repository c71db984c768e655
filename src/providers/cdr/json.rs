//! JSON as `cdr/1` wants it read: bounded in depth, the last of two equal keys wins and is told, numbers
//! beyond 64 bits stay text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Levels of brackets (pbx-cdr.md, section 4, rule 9).
pub const DEEPEST: usize = 64;

/// A parsed document.
#[derive(Debug)]
pub struct Document {
    pub value: Value,
    /// Somewhere a key stood twice.
    pub has_duplicate_keys: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NotJson,
    TooDeep,
}

/// Reads one JSON value, a byte-order mark in front allowed.
pub fn parse(body: &[u8]) -> Result<Document, Fault> {
    let text = std::str::from_utf8(body).map_err(|_| Fault::NotJson)?;
    let text = text.trim_start_matches('\u{feff}');
    if depth(text) > DEEPEST {
        return Err(Fault::TooDeep);
    }
    let mut has_duplicate_keys = false;
    let mut reader = serde_json::Deserializer::from_str(text);
    let seed = Seed(&mut has_duplicate_keys);
    let value = seed.deserialize(&mut reader).map_err(|_| Fault::NotJson)?;
    reader.end().map_err(|_| Fault::NotJson)?;
    Ok(Document {
        value,
        has_duplicate_keys,
    })
}

/// The deepest level of brackets outside texts, whatever else is wrong with the document.
fn depth(text: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0_usize);
    let (mut in_text, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' if !in_text => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

struct Seed<'a>(&'a mut bool);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed(&mut *self.0))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(Seed(&mut *self.0))?;
            if map.insert(key, value).is_some() {
                *self.0 = true;
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_keys_wins_and_is_told() {
        let document = parse(br#"{"a":1,"b":{"c":1,"c":[2]}}"#).unwrap();
        assert!(document.has_duplicate_keys);
        assert_eq!(document.value["b"]["c"][0], 2);
        assert!(!parse(b"{\"a\":{\"a\":1}}").unwrap().has_duplicate_keys);
    }

    #[test]
    fn depth_and_noise_are_refused() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(64).as_bytes()).is_ok());
        assert_eq!(parse(nested(65).as_bytes()).unwrap_err(), Fault::TooDeep);
        assert_eq!(
            parse(nested(100_000).as_bytes()).unwrap_err(),
            Fault::TooDeep
        );
        for noise in [&b"event=1"[..], b"", b"{} x", b"{\"a\":\xff}", b"{\"a\":"] {
            assert_eq!(parse(noise).unwrap_err(), Fault::NotJson, "{noise:?}");
        }
        assert!(parse("\u{feff}{\"a\":\"[[\\\"[\"}".as_bytes()).is_ok());
    }
}
