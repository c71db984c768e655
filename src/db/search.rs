//! Finding calls: every filter of the contract as one page of an ordered list.
//!
//! Recordings and calls without any are two lists in one order (start of the call, else arrival, then
//! id, newest first), merged here. A word or number is looked up first and leads to its calls; only
//! without one is the list walked by time. `cross join` tells SQLite to keep that order, where it has
//! no statistics; PostgreSQL decides by its own.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sea_orm::Value;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::call::Direction;
use crate::domain::clock::Timestamp;
use crate::domain::number;
use crate::domain::rights::Scope;
use crate::domain::view::RecordingView;

use super::Database;
use super::error::{DbError, DbErrorKind};
use super::sql::{all, vals};
use super::words;

/// Lines of one page at most.
const MOST: usize = 10_000;
/// From this many digits on a word is the end of a number.
const NUMBER_DIGITS: usize = 3;

/// What is looked for; everything given must match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Words that must all match.
    pub text: String,
    pub source: Option<String>,
    /// Inclusive, on the call's start, else its arrival.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
    /// With a leading `+` or `00` exactly this number, else the end of one.
    pub number: Option<String>,
    /// A party's id, or the start of a name.
    pub party: Option<String>,
    pub direction: Option<Direction>,
    /// A state, or `none`.
    pub state: Option<String>,
    /// Inclusive.
    pub min_duration_ms: Option<i64>,
    /// Inclusive.
    pub max_duration_ms: Option<i64>,
    /// A note on the sound, by its code.
    pub note: Option<String>,
    /// A word that somebody put on the call.
    pub tag: Option<String>,
    /// The calls that the asker may see.
    pub scope: Scope,
    /// The asker sees the last four digits of numbers, and so may look for no more: else each further digit could be
    /// tried out.
    pub masked: bool,
}

#[derive(Clone, Debug)]
pub struct Page {
    pub items: Vec<RecordingView>,
    /// Where the list goes on; `None` at its end.
    pub next: Option<String>,
}

/// What an id means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Recording(Uuid),
    Call(Uuid),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Recording(id) => write!(f, "recording {id}"),
            Target::Call(id) => write!(f, "call {id}"),
        }
    }
}

/// A place in the list. Opaque outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    #[serde(rename = "t")]
    at_ms: i64,
    #[serde(rename = "i")]
    id: Uuid,
}

pub(super) fn cursor(at_ms: i64, id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(super::rows::text(&Place { at_ms, id }))
}

fn place(cursor: &str) -> Result<Place, DbError> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| DbError::new(DbErrorKind::BadCursor, "this is no cursor of a list"))
}

/// One thing that a search key must be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Is(&'static str, String),
    Begins(&'static str, String),
}

/// Any of the keys will do.
type Word = Vec<Key>;

impl Query {
    /// Words, number and party as keys, the most telling first.
    fn words(&self) -> Vec<Word> {
        let mut found: Vec<Word> = self.text.split_whitespace().map(text_word).collect();
        found.extend(self.number.as_deref().map(number_word));
        found.extend(self.party.as_deref().map(|party| {
            let party = words::folded(party);
            vec![
                Key::Is(words::PARTY, party.clone()),
                Key::Begins(words::NAME, party),
            ]
        }));
        if self.masked {
            found.iter_mut().flatten().for_each(four_digits);
        }
        found.sort_by_key(|word| {
            let length = |key: &Key| match key {
                Key::Is(_, value) | Key::Begins(_, value) => value.len(),
            };
            std::cmp::Reverse(word.iter().map(length).max())
        });
        // Last, so that it leads only where nothing else does.
        found.extend(scope_word(&self.scope));
        found
    }
}

fn text_word(word: &str) -> Word {
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

fn number_word(number: &str) -> Word {
    let trimmed = number.trim();
    if trimmed.starts_with('+') || trimmed.starts_with('＋') || trimmed.starts_with("00") {
        // What cannot be E.164 is nobody's number.
        let exact = number::e164(trimmed).unwrap_or_default();
        vec![Key::Is(words::EXACT, exact)]
    } else {
        vec![Key::Begins(words::NUMBER, number::reversed_digits(trimmed))]
    }
}

/// Codes are plain words; what is none is in no row.
fn like_note(code: &str) -> String {
    let plain = code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain {
        format!("%\"{code}\"%")
    } else {
        String::new()
    }
}

fn four_digits(key: &mut Key) {
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
fn scope_word(scope: &Scope) -> Option<Word> {
    let mut word: Word = scope
        .numbers
        .iter()
        .flat_map(|number| number_word(number))
        .collect();
    let parties = scope.parties.iter();
    word.extend(parties.map(|party| Key::Is(words::PARTY, words::folded(party))));
    (!word.is_empty()).then_some(word)
}

/// SQL that grows together with its values.
#[derive(Default)]
struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends the placeholder of a value.
    fn bind(&mut self, value: impl Into<Value>) {
        self.values.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.values.len().to_string());
    }

    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.push(" and ");
        self.push(condition);
        self.push(" ");
        self.bind(value);
    }

    fn key(&mut self, key: &Key) {
        let (kind, value) = match key {
            Key::Is(kind, value) | Key::Begins(kind, value) => (kind, value),
        };
        self.push(&format!("k.kind = '{kind}' and "));
        match key {
            // An empty word is the beginning of everything, and nobody asked for that.
            _ if value.is_empty() => self.push("1 = 0"),
            Key::Is(..) => {
                self.push("k.value = ");
                self.bind(value.as_str());
            }
            Key::Begins(..) => {
                self.push("k.value >= ");
                self.bind(value.as_str());
                self.push(" and k.value < ");
                self.bind(format!("{value}\u{10ffff}"));
            }
        }
    }

    fn sources(&mut self, column: &str, scope: &Scope) {
        for (i, source) in scope.sources.iter().enumerate() {
            self.push(&if i > 0 {
                ", ".to_owned()
            } else {
                format!(" and {column} in (")
            });
            self.bind(source.as_str());
        }
        if !scope.sources.is_empty() {
            self.push(")");
        }
    }

    fn keys(&mut self, word: &Word, separator: &str) {
        for (i, key) in word.iter().enumerate() {
            self.push(if i > 0 { separator } else { "" });
            self.key(key);
        }
    }
}

/// The two lists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum List {
    Recordings,
    BareCalls,
}

impl Query {
    fn sql(&self, list: List, after: Option<Place>, limit: usize) -> Sql {
        let mut sql = Sql::default();
        let found = self.words();
        let (table, alias, id) = match list {
            List::Recordings => ("recording", "r", "r.recording_id"),
            List::BareCalls => ("call", "c", "c.call_id"),
        };
        sql.push(&format!("select {id}, {alias}.at_ms from "));
        if let Some(word) = found.first() {
            sql.push("(");
            for (i, key) in word.iter().enumerate() {
                sql.push(if i > 0 { " union " } else { "" });
                sql.push("select k.call_id from search_key k where ");
                sql.key(key);
                self.window(&mut sql, "k.at_ms");
            }
            sql.push(&format!(") m cross join {table} {alias}"));
        } else if let Some(tag) = &self.tag {
            sql.push("(select call_id from call_tag where tag = ");
            sql.bind(super::desk::tag(tag));
            sql.push(&format!(") m cross join {table} {alias}"));
        } else {
            sql.push(&format!("{table} {alias}"));
        }
        let needs_call = self.direction.is_some()
            || self.min_duration_ms.is_some()
            || self.max_duration_ms.is_some();
        if list == List::Recordings && needs_call {
            sql.push(" join call c on c.call_id = r.call_id");
        }
        sql.push(match list {
            List::Recordings => " where 1 = 1",
            List::BareCalls => " where not c.has_recording",
        });
        if !found.is_empty() || self.tag.is_some() {
            sql.push(&format!(" and {alias}.call_id = m.call_id"));
        }
        if let (false, Some(tag)) = (found.is_empty(), &self.tag) {
            sql.push(&format!(
                " and exists (select 1 from call_tag t where t.call_id = {alias}.call_id"
            ));
            sql.and("t.tag =", super::desk::tag(tag));
            sql.push(")");
        }
        if let (List::Recordings, Some(note)) = (list, &self.note) {
            // The first condition is that of an index: most recordings have no note.
            sql.push(" and r.notes <> '[]'");
            sql.and("r.notes like", like_note(note));
        }
        for word in &found {
            sql.push(&format!(
                " and exists (select 1 from search_key k where k.call_id = {alias}.call_id and "
            ));
            sql.push(match list {
                List::Recordings => "(k.recording_id is null or k.recording_id = r.recording_id)",
                List::BareCalls => "k.recording_id is null",
            });
            sql.push(" and ((");
            sql.keys(word, ") or (");
            sql.push(")))");
        }
        if let Some(source) = &self.source {
            sql.and(&format!("{alias}.source ="), source.as_str());
        }
        sql.sources(&format!("{alias}.source"), &self.scope);
        self.window(&mut sql, &format!("{alias}.at_ms"));
        if let Some(direction) = self.direction {
            sql.and("c.direction =", direction.as_str());
        }
        if let Some(ms) = self.min_duration_ms {
            sql.and("c.duration_ms >=", ms);
        }
        if let Some(ms) = self.max_duration_ms {
            sql.and("c.duration_ms <=", ms);
        }
        if let (List::Recordings, Some(state)) = (list, &self.state) {
            sql.and("r.state =", state.as_str());
        }
        if let Some(place) = after {
            sql.and(&format!("({alias}.at_ms, {id}) < ("), place.at_ms);
            sql.push(", ");
            sql.bind(place.id);
            sql.push(")");
        }
        sql.push(&format!(" order by {alias}.at_ms desc, {id} desc limit "));
        sql.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        sql
    }

    fn window(&self, sql: &mut Sql, column: &str) {
        if let Some(from) = self.from {
            sql.and(&format!("{column} >="), from.ms());
        }
        if let Some(to) = self.to {
            sql.and(&format!("{column} <"), to.ms());
        }
    }
}

impl Database {
    /// One page, newest first, behind the line whose cursor is `after`.
    pub async fn search(
        &self,
        query: &Query,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, DbError> {
        let after = after.map(place).transpose()?;
        let limit = limit.clamp(1, MOST);
        let none = query.state.as_deref() == Some(crate::db::show::STATE_NONE);
        let mut places: Vec<(Place, List)> = Vec::new();
        for list in [List::Recordings, List::BareCalls] {
            let wanted = match list {
                List::Recordings => !none,
                List::BareCalls => query.note.is_none() && (none || query.state.is_none()),
            };
            if !wanted {
                continue;
            }
            let sql = query.sql(list, after, limit + 1);
            for row in all(self.reader(), sql.text, sql.values).await? {
                let id: Uuid = row.try_get_by_index(0)?;
                let at_ms: i64 = row.try_get_by_index(1)?;
                places.push((Place { at_ms, id }, list));
            }
        }
        places.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        let more = places.len() > limit;
        places.truncate(limit);
        let next = match places.last() {
            Some((place, _)) if more => Some(cursor(place.at_ms, place.id)),
            _ => None,
        };
        let ids = |which: List| -> Vec<Uuid> {
            let of = places.iter().filter(|(_, list)| *list == which);
            of.map(|(place, _)| place.id).collect()
        };
        let mut views = self.recording_views(&ids(List::Recordings)).await?;
        views.extend(self.bare_call_views(&ids(List::BareCalls)).await?);
        let items = places
            .iter()
            .filter_map(|(place, _)| views.remove(&place.id))
            .collect();
        Ok(Page { items, next })
    }

    /// Whether this call is among those that the scope holds; an unknown one is not.
    pub async fn in_scope(&self, call: Uuid, scope: &Scope) -> Result<bool, DbError> {
        if scope.is_all() {
            return Ok(true);
        }
        let mut sql = Sql::default();
        sql.push("select 1 from call c where c.call_id = ");
        sql.bind(call);
        sql.sources("c.source", scope);
        if let Some(word) = scope_word(scope) {
            sql.push(" and exists (select 1 from search_key k where k.call_id = c.call_id and ((");
            sql.keys(&word, ") or (");
            sql.push(")))");
        }
        Ok(!all(self.reader(), sql.text, sql.values).await?.is_empty())
    }

    /// What an id means: our own, or a vendor's of a call, leg or recording, or a correlation id. None
    /// when it is unknown, several when it is ambiguous.
    pub async fn resolve_id(&self, id: &str) -> Result<Vec<Target>, DbError> {
        let rows = if let Ok(uuid) = Uuid::parse_str(id.trim()) {
            all(
                self.reader(),
                "select call_id, recording_id from recording where recording_id = $1 \
                 union select call_id, null from call where call_id = $1",
                vals![uuid],
            )
            .await?
        } else {
            Vec::new()
        };
        let rows = if rows.is_empty() {
            all(
                self.reader(),
                "select distinct call_id, recording_id from search_key where kind = $1 and value = $2 \
                 limit 21",
                vals![words::ID, words::folded(id)],
            )
            .await?
        } else {
            rows
        };
        let mut calls = Vec::new();
        let mut recordings = Vec::new();
        for row in &rows {
            let call: Uuid = row.try_get_by_index(0)?;
            match row.try_get_by_index::<Option<Uuid>>(1)? {
                Some(recording) => recordings.push((call, recording)),
                None => calls.push(call),
            }
        }
        // A recording of a call that was found anyway is no second meaning.
        recordings.retain(|(call, _)| !calls.contains(call));
        let mut targets: Vec<Target> = calls.into_iter().map(Target::Call).collect();
        targets.extend(recordings.into_iter().map(|(_, id)| Target::Recording(id)));
        targets.sort();
        targets.dedup();
        Ok(targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_the_place_it_was_made_of() {
        let id = Uuid::from_u128(7);
        let text = cursor(1_700_000_000_000, id);
        assert_eq!(
            place(&text).unwrap(),
            Place {
                at_ms: 1_700_000_000_000,
                id
            }
        );
        for bad in ["", "%%%", "bm90IGpzb24", "e30"] {
            assert!(place(bad).unwrap_err().is_bad_cursor(), "{bad}");
        }
    }

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
