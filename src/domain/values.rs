//! Reads settings structs from TOML values, for configuration files and environment variables alike.
//!
//! Beside serde's own reading of TOML it does three things: text is taken as a number, a truth value or a
//! list where the struct wants one (environment variables hold only text, and text that is wanted as
//! text stays so, digits included); an error carries the path of keys to the place; and no error
//! repeats a value, which may be a secret in the wrong place.

use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The table has no key of this name; `known` are those that it has.
    UnknownKey {
        key: String,
        known: Vec<&'static str>,
    },
    MissingKey(&'static str),
    Other(String),
}

/// What is wrong with a value, and where: the keys from the outermost table inwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    pub path: Vec<String>,
    pub problem: Problem,
}

impl ValueError {
    fn below(mut self, key: &str) -> Self {
        self.path.insert(0, key.to_owned());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::UnknownKey { key, known } => {
                write!(f, "unknown key {key:?}")?;
                match nearest(key, known.iter().copied()) {
                    Some(near) => write!(f, ", did you mean {near:?}?"),
                    None if known.is_empty() => f.write_str(", no key is known here"),
                    None => write!(f, ", known are {}", known.join(", ")),
                }
            }
            Problem::MissingKey(key) => write!(f, "the key {key:?} is missing"),
            Problem::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path.join("."))?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for ValueError {}

impl serde::de::Error for ValueError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self {
            path: Vec::new(),
            problem: Problem::Other(text.to_string()),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format!("expected {expected}, found {}", name_of(&found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let near = nearest(variant, expected.iter().copied())
            .map(|near| format!(", did you mean {near:?}?"))
            .unwrap_or_default();
        Self::custom(format!(
            "{variant:?} is none of {}{near}",
            expected.join(", ")
        ))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self {
            path: Vec::new(),
            problem: Problem::UnknownKey {
                key: field.to_owned(),
                known: expected.to_vec(),
            },
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            path: Vec::new(),
            problem: Problem::MissingKey(field),
        }
    }
}

fn name_of(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) => "text",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a table",
        _ => "something else",
    }
}

/// The candidate that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Reads a settings struct; `deny_unknown_fields` on it makes unknown keys an error.
pub fn read<T: DeserializeOwned>(table: toml::Table) -> Result<T, ValueError> {
    T::deserialize(Reader(Value::Table(table)))
}

struct Reader(Value);

impl Reader {
    fn unexpected(&self, expected: &dyn Expected) -> ValueError {
        ValueError::invalid_type(
            match &self.0 {
                Value::String(_) => Unexpected::Str(""),
                Value::Integer(_) => Unexpected::Signed(0),
                Value::Float(_) => Unexpected::Float(0.0),
                Value::Boolean(_) => Unexpected::Bool(true),
                Value::Datetime(_) => Unexpected::Other(""),
                Value::Array(_) => Unexpected::Seq,
                Value::Table(_) => Unexpected::Map,
            },
            expected,
        )
    }

    fn whole<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let number = match &self.0 {
            Value::Integer(number) => Some(*number),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => visitor.visit_i64(number),
            None => Err(self.unexpected(&visitor)),
        }
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_string(number.to_string()),
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn table<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::Table(table) => visitor.visit_map(Entries {
                left: table.into_iter(),
                current: None,
            }),
            Value::String(text) if text.trim_start().starts_with('{') => {
                Reader(inline(&text)?).table(visitor)
            }
            _ => Err(self.unexpected(&visitor)),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items {
                left: items.into_iter(),
                at: 0,
            }),
            Value::String(text) if text.trim_start().starts_with('[') => {
                Reader(inline(&text)?).list(visitor)
            }
            Value::String(text) => {
                let items: Vec<Value> = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Value::String(item.to_owned()))
                    .collect();
                Reader(Value::Array(items)).list(visitor)
            }
            _ => Err(self.unexpected(&visitor)),
        }
    }
}

/// A list or table written on one line, as an environment variable holds it.
fn inline(text: &str) -> Result<Value, ValueError> {
    let text = text.trim();
    let wrong = || ValueError::custom("neither a TOML list nor a TOML table on one line");
    if text.contains('\n') {
        return Err(wrong());
    }
    let mut table: toml::Table = format!("v = {text}").parse().map_err(|_| wrong())?;
    match table.remove("v") {
        Some(value @ (Value::Array(_) | Value::Table(_))) => Ok(value),
        _ => Err(wrong()),
    }
}

macro_rules! whole_numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            self.whole(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(truth) => visitor.visit_bool(truth),
            Value::Datetime(time) => visitor.visit_string(time.to_string()),
            Value::Array(_) => self.list(visitor),
            Value::Table(_) => self.table(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let truth = match &self.0 {
            Value::Boolean(truth) => Some(*truth),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match truth {
            Some(truth) => visitor.visit_bool(truth),
            None => Err(self.unexpected(&"true or false")),
        }
    }

    whole_numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let number = match &self.0 {
            Value::Float(number) => Some(*number),
            Value::Integer(number) => Some(*number as f64),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number.filter(|number| number.is_finite()) {
            Some(number) => visitor.visit_f64(number),
            None => Err(self.unexpected(&visitor)),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.list(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.table(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.table(visitor)
    }

    /// Enums are words.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.0 {
            Value::String(word) => {
                let word: StringDeserializer<ValueError> = word.into_deserializer();
                visitor.visit_enum(word)
            }
            _ => Err(self.unexpected(&visitor)),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Entries {
    left: toml::map::IntoIter<String, Value>,
    current: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ValueError> {
        let Some((key, value)) = self.left.next() else {
            return Ok(None);
        };
        let name: StringDeserializer<ValueError> = key.clone().into_deserializer();
        self.current = Some((key, value));
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ValueError> {
        let (key, value) = self
            .current
            .take()
            .ok_or_else(|| ValueError::custom("a value without its key"))?;
        seed.deserialize(Reader(value)).map_err(|e| e.below(&key))
    }
}

struct Items {
    left: std::vec::IntoIter<Value>,
    at: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        let Some(item) = self.left.next() else {
            return Ok(None);
        };
        let at = self.at;
        self.at += 1;
        seed.deserialize(Reader(item))
            .map(Some)
            .map_err(|e| e.below(&at.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Way {
        Near,
        FarAway,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        way: Way,
        #[serde(default)]
        rate: f64,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        app_id: String,
        count: u32,
        truth: Option<bool>,
        list: Vec<String>,
        inner: Inner,
        #[serde(default)]
        map: BTreeMap<String, String>,
    }

    fn read_text(text: &str) -> Result<Outer, ValueError> {
        read(text.parse().unwrap())
    }

    #[test]
    fn text_becomes_what_the_struct_wants() {
        let typed = read_text(
            "app_id = \"007\"\ncount = 3\ntruth = true\nlist = [\"a\", \"b\"]\n\
             inner = { way = \"far_away\", rate = 2 }\nmap = { a = \"b\" }",
        );
        let texts = read_text(
            "app_id = \"007\"\ncount = \"3\"\ntruth = \"true\"\nlist = \"a, b\"\n\
             inner = \"{ way = 'far_away', rate = 2 }\"\nmap = \"{ a = 'b' }\"",
        );
        assert_eq!(typed, texts);
        assert_eq!(typed.unwrap().app_id, "007", "digits stay text");
    }

    #[test]
    fn an_error_names_its_place_and_no_value() {
        let base = "app_id = \"a\"\ncount = 1\nlist = []\n";
        for (text, expected) in [
            (
                "inner = { way = \"neer\" }",
                "inner.way: \"neer\" is none of near, far_away, did you mean \"near\"?",
            ),
            (
                "inner = { way = \"near\", raet = 1 }",
                "inner: unknown key \"raet\", did you mean \"rate\"?",
            ),
            (
                "inner = { way = \"near\", rate = \"s3cret\" }",
                "inner.rate: expected f64, found text",
            ),
            (
                "inner = { way = \"near\" }\ntruth = [1]",
                "truth: expected true or false, found a list",
            ),
            (
                "inner = 5",
                "inner: expected struct Inner, found a whole number",
            ),
            ("", "the key \"inner\" is missing"),
        ] {
            let error = read_text(&format!("{base}{text}")).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
