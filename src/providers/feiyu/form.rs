//! The fields of a Feiyu push, the same whether they came by GET or as a POST form.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;

use crate::domain::digest::Hasher;

/// Field names and values, decoded to bytes: a value need not be UTF-8 (GBK happens).
///
/// Of a repeated field the first value counts; the others are only told of by [`Form::repeated`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form(BTreeMap<String, Vec<Vec<u8>>>);

impl Form {
    /// The body's fields, unless the method is GET, then those of the query.
    pub fn of(method: &str, query: &str, body: &[u8]) -> Self {
        let mut form = Self::default();
        if !method.eq_ignore_ascii_case("GET") {
            form.add(body);
        }
        form.add(query.as_bytes());
        form
    }

    fn add(&mut self, encoded: &[u8]) {
        for pair in encoded.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
            let (name, value) = match pair.iter().position(|b| *b == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            let name = text(&decoded(name));
            self.0.entry(name).or_default().push(decoded(value));
        }
    }

    /// The first value of a field; undecodable bytes and NUL become U+FFFD (no database takes NUL).
    pub fn get(&self, name: &str) -> Option<String> {
        Some(text(self.0.get(name)?.first()?))
    }

    /// The first of these fields that is there and not empty, with its name.
    pub fn first_of<'a>(&self, names: &'a [String]) -> Option<(&'a str, String)> {
        names.iter().find_map(|name| {
            let value = self.get(name).filter(|value| !value.is_empty())?;
            Some((name.as_str(), value))
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names of the fields that came more than once.
    pub fn repeated(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(_, values)| values.len() > 1)
            .map(|(name, _)| name.as_str())
    }

    /// Hashes every field but those in `but`, whatever the order in which they were sent.
    pub fn hash_into(&self, hasher: &mut Hasher, but: &[&str]) {
        for (name, values) in &self.0 {
            if but.contains(&name.as_str()) {
                continue;
            }
            for value in values {
                for part in [name.as_bytes(), value] {
                    hasher.update(&(part.len() as u64).to_be_bytes());
                    hasher.update(part);
                }
            }
        }
    }
}

fn decoded(encoded: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = encoded
        .iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect();
    percent_decode(&spaced).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_is_a_blank_and_an_encoded_plus_is_a_plus() {
        let form = Form::of("POST", "", b"a=x+y%2Bz%40&b&=c&a=2&%ff=%D6%D0%00");
        assert_eq!(form.get("a").as_deref(), Some("x y+z@"));
        assert_eq!(form.get("b").as_deref(), Some(""));
        assert_eq!(
            form.get("\u{fffd}").unwrap().chars().last(),
            Some('\u{fffd}')
        );
        assert_eq!(form.repeated().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn the_way_of_sending_changes_nothing() {
        let hash = |form: &Form| {
            let mut hasher = Hasher::new();
            form.hash_into(&mut hasher, &["ti"]);
            hasher.finish()
        };
        let posted = Form::of("POST", "", b"a=1&b=%40&ti=5");
        let asked = Form::of("GET", "ti=6&b=@&a=1", b"");
        assert_eq!(hash(&posted), hash(&asked));
        let other = Form::of("POST", "", b"a=1&b=%41");
        assert_ne!(hash(&posted), hash(&other));
        assert_eq!(Form::of("GET", "a=1", b"a=2"), Form::of("POST", "a=1", b""));
    }
}
