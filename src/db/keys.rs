//! What is looked for among the words of calls: each word of a search as keys of `search_key`, and how they become SQL.

use sea_orm::Value;

use crate::domain::number;
use crate::domain::rights::Scope;

use super::words;

/// From this many digits on a word is the end of a number.
const NUMBER_DIGITS: usize = 3;

/// One thing that a search key must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Is(&'static str, String),
    Begins(&'static str, String),
}

/// Any of the keys will do.
pub(super) type Word = Vec<Key>;

pub(super) fn text_word(word: &str) -> Word {
    let digits = number::digits(word);
    let only_digits = word
        .chars()
        .all(|c| "+-().／/".contains(c) || !number::digits(&c.to_string()).is_empty());
    if only_digits && digits.chars().count() >= NUMBER_DIGITS {
        vec![
            Key::Begins(words::NUMBER, number::reversed_digits(word)),
            Key::Is(words::ID, words::folded(word)),
        ]
    } else {
        let word = words::folded(word);
        vec![
            Key::Begins(words::NAME, word.clone()),
            Key::Begins(words::ID, word),
        ]
    }
}

pub(super) fn number_word(number: &str) -> Word {
    let trimmed = number.trim();
    if trimmed.starts_with('+') || trimmed.starts_with('＋') || trimmed.starts_with("00") {
        // What cannot be E.164 is nobody's number.
        let exact = number::e164(trimmed).unwrap_or_default();
        vec![Key::Is(words::EXACT, exact)]
    } else {
        vec![Key::Begins(words::NUMBER, number::reversed_digits(trimmed))]
    }
}

pub(super) fn party_word(party: &str) -> Word {
    let party = words::folded(party);
    vec![
        Key::Is(words::PARTY, party.clone()),
        Key::Begins(words::NAME, party),
    ]
}

/// Where the asker sees four digits of a number, the key asks for no more.
pub(super) fn four_digits(key: &mut Key) {
    const SHOWN: usize = 4;
    let ending =
        |reversed: String| Key::Begins(words::NUMBER, reversed.chars().take(SHOWN).collect());
    match key {
        Key::Begins(words::NUMBER, reversed) => *key = ending(std::mem::take(reversed)),
        Key::Is(words::EXACT, number) => *key = ending(number::reversed_digits(number)),
        // A number may stand in a name or an id, and beginnings would give it away digit by digit.
        Key::Begins(kind, value) if number::digits(value).chars().count() > SHOWN => {
            *key = Key::Is(kind, std::mem::take(value));
        }
        _ => {}
    }
}

/// Of a call in scope one of these is true; none where the scope names neither numbers nor parties.
pub(super) fn scope_word(scope: &Scope) -> Option<Word> {
    let mut word: Word = scope
        .numbers
        .iter()
        .flat_map(|number| number_word(number))
        .collect();
    let parties = scope.parties.iter();
    word.extend(parties.map(|party| Key::Is(words::PARTY, words::folded(party))));
    (!word.is_empty()).then_some(word)
}

impl Key {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Key::Is(kind, _) | Key::Begins(kind, _) => kind,
        }
    }

    /// An empty word is the beginning of everything, and nobody asked for that.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Key::Is(_, value) | Key::Begins(_, value) => value.is_empty(),
        }
    }
}

/// Behind everything that begins with `value`.
pub(super) fn end_of(value: &str) -> String {
    format!("{value}\u{10ffff}")
}

/// SQL that grows together with its values.
#[derive(Debug, Default)]
pub(super) struct Sql {
    pub text: String,
    pub values: Vec<Value>,
}

impl Sql {
    pub(super) fn new(text: &str) -> Self {
        let mut sql = Self::default();
        sql.push(text);
        sql
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends the placeholder of a value.
    pub(super) fn bind(&mut self, value: impl Into<Value>) {
        self.values.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.values.len().to_string());
    }

    pub(super) fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.push(" and ");
        self.push(condition);
        self.push(" ");
        self.bind(value);
    }

    pub(super) fn limit(&mut self, rows: usize) {
        self.push(" limit ");
        self.bind(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// `(...)` for `in`.
    pub(super) fn list<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) {
        self.push("(");
        for (i, value) in values.into_iter().enumerate() {
            self.push(if i > 0 { ", " } else { "" });
            self.bind(value);
        }
        self.push(")");
    }

    pub(super) fn key(&mut self, key: &Key) {
        self.push(&format!("k.kind = '{}' and ", key.kind()));
        match key {
            _ if key.is_nothing() => self.push("1 = 0"),
            Key::Is(_, value) => {
                self.push("k.value = ");
                self.bind(value.as_str());
            }
            Key::Begins(_, value) => {
                self.push("k.value >= ");
                self.bind(value.as_str());
                self.push(" and k.value < ");
                self.bind(end_of(value));
            }
        }
    }

    /// That the word `k` of a call, which is found by the call, is one of these keys.
    pub(super) fn any_of(&mut self, word: &Word) {
        for (i, key) in word.iter().enumerate() {
            self.push(if i > 0 { " or (" } else { "((" });
            match key {
                // Expressions, or SQLite reads all that begins so, for each call again.
                Key::Begins(kind, value) if !value.is_empty() => {
                    self.push(&format!("k.kind || '' = '{kind}' and k.value || '' >= "));
                    self.bind(value.as_str());
                    self.push(" and k.value || '' < ");
                    self.bind(end_of(value));
                }
                _ => self.key(key),
            }
            self.push(")");
        }
        self.push(")");
    }

    pub(super) fn sources(&mut self, column: &str, scope: &Scope) {
        if !scope.sources.is_empty() {
            self.push(&format!(" and {column} in "));
            self.list(scope.sources.iter().map(String::as_str));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_digits_are_ends_of_numbers_and_others_beginnings() {
        assert_eq!(
            text_word("139-00"),
            [
                Key::Begins(words::NUMBER, "00931".into()),
                Key::Is(words::ID, "139-00".into())
            ]
        );
        assert_eq!(text_word("12")[0], Key::Begins(words::NAME, "12".into()));
        assert_eq!(
            text_word("Wang")[0],
            Key::Begins(words::NAME, "wang".into())
        );
        assert_eq!(
            number_word("0086 139"),
            [Key::Is(words::EXACT, String::new())]
        );
    }
}
