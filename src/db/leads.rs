//! Which of the things asked for a search begins with, and the statements that follow from it.
//!
//! What a newcomer gets wrong: which filter is rare, neither database knows well (SQLite keeps no statistics here, and
//! PostgreSQL's know no prefix that came this morning). So the few filters that an index can count are counted, each up to
//! a bound, and the rarest leads. What leads by its calls hands out calls in order of time, newest first; what leads by
//! an index of the lists is walked there. Statements are written so that no other index can look better: a column that
//! must not lead stands in an expression.

use uuid::Uuid;

use crate::domain::clock::Timestamp;

use super::Database;
use super::error::DbError;
use super::keys::{Key, Sql, Word, end_of};
use super::search::{Place, Query};
use super::sql::{all, count};
use super::words;

/// What is counted further than this is common.
const COMMON: usize = 20_000;
/// So many unsorted matches are read and sorted for a page; beyond, walking the list by time meets one soon enough.
const SORTABLE: usize = 40_000;
/// A beginning with so many different words behind it at most is asked word by word, each in order of time.
const WORDS: usize = 64;
/// Parts of one statement; SQLite takes 500.
pub(super) const PARTS: usize = 100;

/// The two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Recordings,
    BareCalls,
}

impl List {
    fn id(self) -> &'static str {
        match self {
            List::Recordings => "r.recording_id",
            List::BareCalls => "c.call_id",
        }
    }

    /// What stands in each index of the list, so that a page is read from there alone.
    fn place(self) -> &'static str {
        match self {
            List::Recordings => "select r.recording_id, r.at_ms",
            List::BareCalls => "select c.call_id, c.at_ms",
        }
    }

    fn alias(self) -> &'static str {
        match self {
            List::Recordings => "r",
            List::BareCalls => "c",
        }
    }
}

/// Calls in order of time: one range of an index that holds them so, or few enough to sort.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stream {
    Key(Key),
    Tag(String),
    Direction(&'static str),
    Duration(Option<i64>, Option<i64>),
}

/// What a search begins with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Lead {
    /// The calls that these hand out together; none without any.
    Calls(Vec<Stream>),
    /// A walk for each of these values of a column; without any, one over all.
    Walk(&'static str, Vec<String>),
}

/// Which moments a page may still hold: `upto` inclusive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    upto: Option<i64>,
}

impl Window {
    pub(super) fn of(query: &Query, upto: Option<i64>) -> Self {
        Self {
            from: query.from,
            to: query.to,
            upto,
        }
    }

    fn push(&self, sql: &mut Sql, column: &str) {
        if let Some(from) = self.from {
            sql.and(&format!("{column} >="), from.ms());
        }
        if let Some(to) = self.to {
            sql.and(&format!("{column} <"), to.ms());
        }
        if let Some(upto) = self.upto {
            sql.and(&format!("{column} <="), upto);
        }
    }
}

impl Stream {
    /// `call_id, at_ms` of its calls in the window, without order.
    fn push(&self, sql: &mut Sql, window: &Window) {
        match self {
            Stream::Key(key) => {
                sql.push("select k.call_id, k.at_ms from search_key k where ");
                sql.key(key);
                if key.kind() != words::ID {
                    // The words of the index.
                    sql.push(&format!(" and k.kind <> '{}'", words::ID));
                }
                window.push(sql, "k.at_ms");
            }
            Stream::Tag(tag) => {
                sql.push("select t.call_id, t.at_ms from call_tag t where t.tag = ");
                sql.bind(tag.as_str());
                window.push(sql, "t.at_ms");
            }
            Stream::Direction(direction) => {
                sql.push("select c.call_id, c.at_ms from call c where c.direction = ");
                sql.bind(*direction);
                window.push(sql, "c.at_ms");
            }
            Stream::Duration(least, most) => {
                sql.push("select c.call_id, c.at_ms from call c where c.duration_ms is not null");
                if let Some(ms) = least {
                    sql.and("c.duration_ms >=", *ms);
                }
                if let Some(ms) = most {
                    sql.and("c.duration_ms <=", *ms);
                }
                window.push(sql, "+c.at_ms");
            }
        }
    }
}

/// The newest `limit` calls of these streams in the window, newest first.
pub(super) fn candidates(streams: &[Stream], window: &Window, limit: usize) -> Sql {
    let mut sql = Sql::new("select call_id, at_ms from (");
    for (i, stream) in streams.iter().enumerate() {
        sql.push(if i > 0 { " union all " } else { "" });
        sql.push("select * from (");
        stream.push(&mut sql, window);
        sql.push(" order by 2 desc");
        sql.limit(limit);
        sql.push(&format!(") s{i}"));
        if let Stream::Tag(tag) = stream {
            // Tags of an older version's time do not know it.
            sql.push(
                " union all select * from (select c.call_id, c.at_ms from call_tag t \
                 join call c on c.call_id = t.call_id where t.tag = ",
            );
            sql.bind(tag.as_str());
            sql.push(" and t.at_ms is null");
            window.push(&mut sql, "+c.at_ms");
            sql.push(&format!(") u{i}"));
        }
    }
    sql.push(") m order by at_ms desc");
    sql.limit(limit);
    sql
}

impl Query {
    /// Lines of `list` among these calls; without order. Window and cursor were seen to.
    pub(super) fn among(&self, list: List, calls: &[Uuid]) -> Sql {
        let mut sql = match list {
            List::Recordings => self.begin(list, "recording r"),
            List::BareCalls => self.begin(list, "call c"),
        };
        self.join_call(&mut sql, list);
        if list == List::BareCalls {
            sql.push(" and not c.has_recording");
        }
        sql.push(&format!(" and {}.call_id in ", list.alias()));
        sql.list(calls.iter().copied());
        self.conditions(&mut sql, list, "");
        sql
    }

    /// The newest lines of `list` with one of these values in `column`, each value for itself; nothing else is looked at
    /// but the time.
    pub(super) fn walk(
        &self,
        list: List,
        column: &'static str,
        values: &[String],
        after: Option<Place>,
        limit: usize,
    ) -> Sql {
        let mut sql = Sql::default();
        if values.is_empty() {
            sql.push(list.place());
            self.step(&mut sql, list, column, None, (after, None));
            sql.limit(limit);
        }
        for (i, value) in values.iter().enumerate() {
            sql.push(if i > 0 { " union all " } else { "" });
            sql.push("select * from (");
            sql.push(list.place());
            self.step(&mut sql, list, column, Some(value), (after, None));
            sql.limit(limit);
            sql.push(&format!(") s{i}"));
        }
        sql
    }

    /// The last of the next `take` lines of one walk; no row where there are fewer.
    pub(super) fn end_of_step(
        &self,
        list: List,
        column: &'static str,
        value: Option<&str>,
        after: Option<Place>,
        take: usize,
    ) -> Sql {
        let mut sql = Sql::new(list.place());
        self.step(&mut sql, list, column, value, (after, None));
        sql.push(" limit 1 offset ");
        sql.bind(i64::try_from(take.saturating_sub(1)).unwrap_or(i64::MAX));
        sql
    }

    /// Those of the next lines of one walk, up to `end`, that are all that is asked for; without order. The inner limit
    /// keeps both databases from beginning anywhere else; there is room in it for what came since `end` was asked for.
    pub(super) fn step_filtered(
        &self,
        list: List,
        column: &'static str,
        value: Option<&str>,
        (after, end): (Option<Place>, Option<Place>),
        take: usize,
    ) -> Sql {
        let mut sql = self.begin(list, "(");
        sql.push(match list {
            List::Recordings => {
                "select r.recording_id, r.at_ms, r.call_id, r.source, r.state, r.notes"
            }
            List::BareCalls => "select c.call_id, c.at_ms, c.source, c.direction, c.duration_ms",
        });
        self.step(&mut sql, list, column, value, (after, end));
        sql.limit(2 * take);
        sql.push(&format!(") {}", list.alias()));
        self.join_call(&mut sql, list);
        self.conditions(&mut sql, list, column);
        sql
    }

    /// Whether more is asked for than the time and what leads.
    pub(super) fn is_narrowed(&self, list: List, column: &'static str) -> bool {
        let mut sql = Sql::default();
        self.conditions(&mut sql, list, column);
        !sql.text.is_empty()
    }

    /// The lines behind `after` up to `end`, newest first, of which columns were named.
    fn step(
        &self,
        sql: &mut Sql,
        list: List,
        column: &'static str,
        value: Option<&str>,
        (after, end): (Option<Place>, Option<Place>),
    ) {
        let (alias, id) = (list.alias(), list.id());
        sql.push(match list {
            List::Recordings => " from recording r where 1 = 1",
            List::BareCalls => " from call c where not c.has_recording",
        });
        if column == "notes" {
            sql.push(" and r.notes <> '[]'");
        }
        if let Some(value) = value {
            sql.and(&format!("{alias}.{column} ="), value);
        }
        Window::of(self, None).push(sql, &format!("{alias}.at_ms"));
        for (place, side) in [(after, "<"), (end, ">=")] {
            if let Some(place) = place {
                sql.and(&format!("({alias}.at_ms, {id}) {side} ("), place.at_ms);
                sql.push(", ");
                sql.bind(place.id);
                sql.push(")");
            }
        }
        sql.push(&format!(" order by {alias}.at_ms desc, {id} desc"));
    }

    fn begin(&self, list: List, table: &str) -> Sql {
        Sql::new(&format!(
            "select {}, {}.at_ms from {table}",
            list.id(),
            list.alias()
        ))
    }

    /// The call beside its recording, where something of it is asked for, and the beginning of the conditions.
    fn join_call(&self, sql: &mut Sql, list: List) {
        let needs_call = self.direction.is_some()
            || self.min_duration_ms.is_some()
            || self.max_duration_ms.is_some();
        sql.push(if list == List::Recordings && needs_call {
            " join call c on c.call_id = r.call_id where 1 = 1"
        } else {
            " where 1 = 1"
        });
    }

    /// Everything that was asked for but the time and the values of `led`.
    fn conditions(&self, sql: &mut Sql, list: List, led: &str) {
        let alias = list.alias();
        for word in self.words() {
            sql.push(&format!(
                " and exists (select 1 from search_key k where k.call_id = {alias}.call_id and "
            ));
            sql.push(match list {
                List::Recordings => "(k.recording_id is null or k.recording_id = r.recording_id)",
                List::BareCalls => "k.recording_id is null",
            });
            sql.push(" and ");
            sql.any_of(&word);
            sql.push(")");
        }
        if let Some(tag) = &self.tag {
            sql.push(&format!(
                " and exists (select 1 from call_tag t where t.call_id = {alias}.call_id"
            ));
            sql.and("t.tag =", super::desk::tag(tag));
            sql.push(")");
        }
        if led != "source" {
            if let Some(source) = &self.source {
                sql.and(&format!("{alias}.source || '' ="), source.as_str());
            }
            sql.sources(&format!("{alias}.source || ''"), &self.scope);
        }
        if let Some(direction) = self.direction {
            sql.and("c.direction || '' =", direction.as_str());
        }
        if let Some(ms) = self.min_duration_ms {
            sql.and("c.duration_ms + 0 >=", ms);
        }
        if let Some(ms) = self.max_duration_ms {
            sql.and("c.duration_ms + 0 <=", ms);
        }
        if list == List::Recordings {
            if let (Some(state), true) = (&self.state, led != "state") {
                sql.and("r.state || '' =", state.as_str());
            }
            if let (Some(note), true) = (&self.note, led != "notes") {
                sql.and("r.notes || '' like", like_note(note));
            }
        }
    }

    /// The sources that are asked for and may be seen; empty means all, `None` that none is left.
    fn wanted_sources(&self) -> Option<Vec<String>> {
        let may =
            |source: &String| self.scope.sources.is_empty() || self.scope.sources.contains(source);
        match &self.source {
            Some(source) => may(source).then(|| vec![source.clone()]),
            None => {
                let mut sources = self.scope.sources.clone();
                sources.sort_unstable();
                sources.dedup();
                Some(sources)
            }
        }
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

/// Different values of a column from `from` to before `to`, by leaps over an index.
pub(super) fn leaps(
    table: &str,
    column: &str,
    condition: &str,
    from: &str,
    to: Option<String>,
) -> Sql {
    let mut sql = Sql::new(&format!(
        "with recursive v(value) as (select * from (select {column} from {table} where {condition} and {column} >= "
    ));
    sql.bind(from);
    let mut end = String::new();
    if let Some(to) = to {
        end = format!(" and {column} < $2");
        sql.values.push(to.into());
    }
    sql.push(&format!(
        "{end} order by {column} limit 1) a union all select (select {column} from {table} where {condition} \
         and {column} > v.value{end} order by {column} limit 1) from v where v.value is not null) \
         select value from v where value is not null"
    ));
    sql
}

/// A filter that could lead.
struct Offer {
    lead: Lead,
    count: Vec<Sql>,
    /// The lead is in order of time, so that it may lead however common it is.
    in_order: bool,
}

impl Database {
    /// What this search begins with; `None` when nothing can be found.
    pub(super) async fn lead(&self, query: &Query, bare: bool) -> Result<Option<Lead>, DbError> {
        let Some(sources) = query.wanted_sources() else {
            return Ok(None);
        };
        let mut offers = Vec::new();
        if let Some(note) = &query.note {
            offers.push(self.noted(note).await?);
        }
        for word in query.words() {
            offers.push(self.word(&word).await?);
        }
        if let Some(tag) = &query.tag {
            let tag = super::desk::tag(tag);
            let mut sql = Sql::new("select 1 from call_tag where tag = ");
            sql.bind(tag.as_str());
            offers.push(Offer {
                lead: Lead::Calls(vec![Stream::Tag(tag)]),
                count: vec![sql],
                in_order: true,
            });
        }
        if let Some(direction) = query.direction {
            let mut sql = Sql::new("select 1 from call where direction = ");
            sql.bind(direction.as_str());
            offers.push(Offer {
                lead: Lead::Calls(vec![Stream::Direction(direction.as_str())]),
                count: vec![sql],
                in_order: true,
            });
        }
        if let (Some(state), false) = (&query.state, bare) {
            let mut sql = Sql::new("select 1 from recording where state = ");
            sql.bind(state.as_str());
            offers.push(Offer {
                lead: Lead::Walk("state", vec![state.clone()]),
                count: vec![sql],
                in_order: true,
            });
        }
        if query.min_duration_ms.is_some() || query.max_duration_ms.is_some() {
            let stream = Stream::Duration(query.min_duration_ms, query.max_duration_ms);
            let mut sql = Sql::default();
            stream.push(&mut sql, &Window::default());
            offers.push(Offer {
                lead: Lead::Calls(vec![stream]),
                count: vec![sql],
                in_order: false,
            });
        }
        // Of several that are all common the first leads, and one of many sources holds less than one of three directions.
        if !sources.is_empty() && sources.len() <= PARTS {
            let counts = sources.iter().map(|source| {
                let mut sql = Sql::new("select 1 from recording where source = ");
                sql.bind(source.as_str());
                sql
            });
            let at = if sources.len() == 1 { 0 } else { offers.len() };
            let offer = Offer {
                count: counts.collect(),
                lead: Lead::Walk("source", sources),
                in_order: true,
            };
            offers.insert(at, offer);
        }
        Ok(Some(self.rarest(offers).await?))
    }

    async fn rarest(&self, mut offers: Vec<Offer>) -> Result<Lead, DbError> {
        if offers.len() == 1 && offers[0].in_order {
            return Ok(offers.remove(0).lead);
        }
        let mut best: Option<(usize, Lead)> = None;
        for offer in offers {
            let most = if offer.in_order { COMMON } else { SORTABLE };
            let mut rows = 0;
            for sql in offer.count {
                if rows < most {
                    rows += self.counted(sql, most - rows).await?;
                }
            }
            if rows >= most && !offer.in_order {
                continue;
            }
            if best.as_ref().is_none_or(|(least, _)| rows < *least) {
                best = Some((rows, offer.lead));
            }
        }
        Ok(match best {
            Some((_, lead)) => lead,
            None => Lead::Walk("at_ms", Vec::new()),
        })
    }

    async fn counted(&self, mut sql: Sql, most: usize) -> Result<usize, DbError> {
        sql.text.insert_str(0, "select count(*) from (");
        sql.limit(most);
        sql.push(") counted");
        let rows = count(self.reader(), sql.text, sql.values).await?;
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    /// Beginnings with few words behind them become those words; a word whose keys are each in order leads in order.
    async fn word(&self, word: &Word) -> Result<Offer, DbError> {
        let mut streams = Vec::new();
        let mut in_order = true;
        for key in word.iter().filter(|key| !key.is_nothing()) {
            if let Key::Begins(kind, value) = key {
                let mut sql = leaps(
                    "search_key k",
                    "k.value",
                    &format!("k.kind = '{kind}'"),
                    value,
                    Some(end_of(value)),
                );
                sql.limit(WORDS + 1);
                let rows = all(self.reader(), sql.text, sql.values).await?;
                if rows.len() <= WORDS {
                    for row in rows {
                        let value: String = row.try_get_by_index(0)?;
                        streams.push(Stream::Key(Key::Is(kind, value)));
                    }
                    continue;
                }
                in_order = false;
            }
            streams.push(Stream::Key(key.clone()));
        }
        let counts = streams.iter().map(|stream| {
            let mut sql = Sql::default();
            stream.push(&mut sql, &Window::default());
            sql
        });
        Ok(Offer {
            count: counts.collect(),
            lead: Lead::Calls(streams),
            in_order,
        })
    }

    /// The lists of notes that hold this one.
    async fn noted(&self, note: &str) -> Result<Offer, DbError> {
        let wanted = format!("\"{note}\"");
        let sql = leaps("recording", "notes", "notes <> '[]'", "", None);
        let mut lists: Vec<String> = Vec::new();
        let rows = all(self.reader(), sql.text, sql.values).await?;
        for row in rows {
            let value: String = row.try_get_by_index(0)?;
            if value.contains(&wanted) {
                lists.push(value);
            }
        }
        let counts = lists.iter().map(|value| {
            let mut sql = Sql::new("select 1 from recording where notes <> '[]' and notes = ");
            sql.bind(value.as_str());
            sql
        });
        Ok(Offer {
            count: counts.collect(),
            lead: if lists.is_empty() {
                Lead::Calls(Vec::new())
            } else {
                Lead::Walk("notes", lists)
            },
            in_order: true,
        })
    }
}
