//! Finding calls: every filter of the contract as one page of an ordered list.
//!
//! Recordings and calls without any are two lists in one order (start of the call, else arrival, then
//! id, newest first), merged here. What a page begins with, the rarest of what is asked for, `leads` says.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::call::Direction;
use crate::domain::clock::Timestamp;
use crate::domain::rights::Scope;
use crate::domain::view::RecordingView;

use super::Database;
use super::error::{DbError, DbErrorKind};
use super::keys::{Sql, Word, four_digits, number_word, party_word, scope_word, text_word};
use super::leads::{Lead, List, PARTS, Stream, Window, candidates};
use super::sql::{all, vals};
use super::words;

/// Lines of one page at most.
const MOST: usize = 10_000;
/// Calls that are looked at together: at first, and when many do not match.
const FIRST_CALLS: usize = 200;
const MOST_CALLS: usize = 5_000;

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
pub(super) struct Place {
    #[serde(rename = "t")]
    pub at_ms: i64,
    #[serde(rename = "i")]
    pub id: Uuid,
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

impl Query {
    /// Words, number, party and scope as keys.
    pub(super) fn words(&self) -> Vec<Word> {
        let mut found: Vec<Word> = self.text.split_whitespace().map(text_word).collect();
        found.extend(self.number.as_deref().map(number_word));
        found.extend(self.party.as_deref().map(party_word));
        if self.masked {
            found.iter_mut().flatten().for_each(four_digits);
        }
        found.extend(scope_word(&self.scope));
        found
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
        let mut lists = Vec::new();
        if !none {
            lists.push(List::Recordings);
        }
        if query.note.is_none() && (none || query.state.is_none()) {
            lists.push(List::BareCalls);
        }
        let mut places = match self.lead(query, none).await? {
            None => Vec::new(),
            Some(Lead::Calls(streams)) => {
                self.of_calls(query, &streams, &lists, after, limit + 1)
                    .await?
            }
            Some(Lead::Walk(column, values)) => {
                let mut places = Vec::new();
                for list in lists {
                    let found = self.walked(query, list, (column, &values), after, limit + 1);
                    places.extend(found.await?);
                }
                places
            }
        };
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

    async fn places(&self, list: List, sql: Sql) -> Result<Vec<(Place, List)>, DbError> {
        let mut places = Vec::new();
        for row in all(self.reader(), sql.text, sql.values).await? {
            let id: Uuid = row.try_get_by_index(0)?;
            let at_ms: i64 = row.try_get_by_index(1)?;
            places.push((Place { at_ms, id }, list));
        }
        Ok(places)
    }

    /// The first `wanted` lines behind `after` of a walk for each of these values, and perhaps more.
    async fn walked(
        &self,
        query: &Query,
        list: List,
        (column, values): (&'static str, &[String]),
        after: Option<Place>,
        wanted: usize,
    ) -> Result<Vec<(Place, List)>, DbError> {
        let mut places = Vec::new();
        if !query.is_narrowed(list, column) {
            // One statement without values too.
            for part in values
                .chunks(PARTS)
                .chain(values.is_empty().then_some(values))
            {
                let sql = query.walk(list, column, part, after, wanted);
                places.extend(self.places(list, sql).await?);
            }
            return Ok(places);
        }
        let all = values.is_empty().then_some(None);
        for value in values.iter().map(|value| Some(value.as_str())).chain(all) {
            let (mut after, mut take, mut found) = (after, FIRST_CALLS.max(2 * wanted), 0);
            loop {
                let end = query.end_of_step(list, column, value, after, take);
                let end = self.places(list, end).await?.pop().map(|(place, _)| place);
                let step = query.step_filtered(list, column, value, (after, end), take);
                let step = self.places(list, step).await?;
                found += step.len();
                places.extend(step);
                if end.is_none() || found >= wanted {
                    break;
                }
                after = end;
                take = (2 * take).min(MOST_CALLS.max(take));
            }
        }
        Ok(places)
    }

    /// At least `wanted` lines behind `after`, as long as these calls have so many: calls are taken in order of time,
    /// all of one moment together, until what they hold is enough.
    async fn of_calls(
        &self,
        query: &Query,
        streams: &[Stream],
        lists: &[List],
        after: Option<Place>,
        wanted: usize,
    ) -> Result<Vec<(Place, List)>, DbError> {
        let mut places = Vec::new();
        let mut upto = after.map(|place| place.at_ms);
        let mut take = FIRST_CALLS.max(2 * wanted);
        loop {
            let mut calls = self.calls_of(query, streams, upto, take).await?;
            let is_end = calls.len() < take;
            let last = calls.last().map(|(_, at_ms)| *at_ms);
            if !is_end {
                // Others of the last one's moment may come behind it.
                calls.retain(|(_, at_ms)| Some(*at_ms) != last);
                if calls.is_empty() {
                    take *= 2;
                    continue;
                }
            }
            let mut ids: Vec<Uuid> = calls.into_iter().map(|(id, _)| id).collect();
            ids.sort_unstable();
            ids.dedup();
            for list in lists {
                for ids in ids.chunks(MOST_CALLS) {
                    let found = self.places(*list, query.among(*list, ids)).await?;
                    let behind = |place: &Place| after.is_none_or(|after| *place < after);
                    places.extend(found.into_iter().filter(|(place, _)| behind(place)));
                }
            }
            if is_end || places.len() >= wanted {
                return Ok(places);
            }
            upto = last;
            take = (2 * take).min(MOST_CALLS.max(take));
        }
    }

    /// The newest calls of all streams together, newest first.
    async fn calls_of(
        &self,
        query: &Query,
        streams: &[Stream],
        upto: Option<i64>,
        take: usize,
    ) -> Result<Vec<(Uuid, i64)>, DbError> {
        let window = Window::of(query, upto);
        let mut calls: Vec<(Uuid, i64)> = Vec::new();
        for part in streams.chunks(PARTS) {
            let sql = candidates(part, &window, take);
            for row in all(self.reader(), sql.text, sql.values).await? {
                calls.push((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
            }
        }
        calls.sort_by_key(|(_, at_ms)| std::cmp::Reverse(*at_ms));
        calls.truncate(take);
        Ok(calls)
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
            sql.push(" and exists (select 1 from search_key k where k.call_id = c.call_id and ");
            sql.any_of(&word);
            sql.push(")");
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
}
