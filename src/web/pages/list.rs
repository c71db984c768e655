//! `/`: the search box, filters, and calls and recordings as lines. `part=results` gives the lines alone, for the script.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::frame::{self, Frame, Section, Visit};
use super::row::Row;
use super::text::Lang;
use super::words;
use crate::domain::ask;
use crate::domain::call::Direction;
use crate::domain::clock::Timestamp;
use crate::domain::media::note;
use crate::domain::recording;
use crate::domain::rights::Right;
use crate::domain::view::SavedSearch;
use crate::web::access::settings::Asked;
use crate::web::api::query::{self, ListQuery};
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

const LINES: u64 = 50;
/// How many pages back are remembered in the address.
const TRAIL: usize = 20;

/// The fields of the form, in the order of the address.
const FIELDS: [&str; 12] = [
    "q",
    "state",
    "source",
    "direction",
    "party",
    "from",
    "to",
    "min_duration",
    "max_duration",
    "note",
    "tag",
    "after",
];

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage {
    frame: Frame,
    form: Form,
    choices: Choices,
    saved: Vec<Saved>,
    found: Found,
}

/// The lines alone.
#[derive(Template)]
#[template(path = "results.html")]
struct Results {
    frame: Frame,
    form: Form,
    found: Found,
}

struct Found {
    rows: Vec<Row>,
    problem: Option<String>,
    /// The window that the box was read as.
    understood: Option<String>,
    previous: Option<String>,
    next: Option<String>,
    /// The search as the API's files take it.
    export: String,
}

impl Found {
    /// The line is the first of its day.
    fn begins_day(&self, line: &usize) -> bool {
        match line.checked_sub(1).and_then(|before| self.rows.get(before)) {
            Some(before) => self
                .rows
                .get(*line)
                .is_some_and(|row| row.day != before.day),
            None => true,
        }
    }
}

/// A value of a filter, and how the page says it.
struct Choice {
    value: String,
    title: String,
}

struct Choices {
    states: Vec<Choice>,
    sources: Vec<Choice>,
    directions: Vec<Choice>,
    notes: Vec<Choice>,
    tags: Vec<Choice>,
}

struct Saved {
    id: String,
    name: String,
    href: String,
}

/// The search as it was typed; empty fields are none.
#[derive(Clone, Debug, Default)]
struct Form {
    values: [Option<String>; FIELDS.len()],
    /// Cursors of the pages before this one, the newest first, without the first page's.
    trail: Vec<String>,
    /// Something besides `q` narrows.
    narrowed: bool,
    filtered: bool,
    /// The lines alone are wanted.
    part: bool,
}

impl Form {
    fn parse(raw: &str) -> Result<Self, ApiError> {
        let mut form = Self::default();
        for (name, value) in query::pairs(raw)? {
            if value.trim().is_empty() {
                continue;
            }
            match (
                name.as_str(),
                FIELDS.iter().position(|field| *field == name),
            ) {
                (_, Some(at)) => form.values[at] = Some(value),
                ("trail", _) => form.trail = value.split('~').map(str::to_owned).collect(),
                ("part", _) => form.part = value == "results",
                _ => {
                    return Err(ApiError::bad_request(format!(
                        "{name} is no parameter here"
                    )));
                }
            }
        }
        let filters = FIELDS
            .iter()
            .filter(|name| !matches!(**name, "q" | "after"));
        form.narrowed = filters.into_iter().any(|name| form.value(name).is_some());
        form.filtered = form.narrowed || form.value("q").is_some();
        Ok(form)
    }

    fn value(&self, name: &str) -> Option<&str> {
        let at = FIELDS.iter().position(|field| *field == name)?;
        self.values[at].as_deref()
    }

    /// For the field of a template.
    fn text(&self, name: &str) -> &str {
        self.value(name).unwrap_or_default()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.value(name) == Some(value)
    }

    /// What the search is, and the window that the box named.
    fn query(
        &self,
        now: Timestamp,
        zone: chrono_tz::Tz,
    ) -> Result<(ListQuery, ask::Asked), ApiError> {
        let mut query = ListQuery {
            limit: Some(LINES),
            ..ListQuery::default()
        };
        for (name, value) in FIELDS.iter().zip(&self.values) {
            if let Some(value) = value {
                query.set(name, value.clone(), zone)?;
            }
        }
        let asked = ask::understand(self.text("q"), now, zone);
        query.q = Some(asked.text.clone()).filter(|text| !text.is_empty());
        // Both the box and the fields narrow.
        query.from = query.from.max(asked.from);
        query.to = match (query.to, asked.to) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok((query, asked))
    }

    fn href(&self) -> String {
        let mut address = form_urlencoded::Serializer::new(String::new());
        for (name, value) in FIELDS.iter().zip(&self.values) {
            if let Some(value) = value {
                address.append_pair(name, value);
            }
        }
        if !self.trail.is_empty() {
            address.append_pair("trail", &self.trail.join("~"));
        }
        let address = address.finish();
        if address.is_empty() {
            "/".to_owned()
        } else {
            format!("/?{address}")
        }
    }

    /// What is kept of it under a name: not the page.
    fn kept(&self) -> String {
        let mut first = self.clone();
        if let Some(after) = first.values.last_mut() {
            *after = None;
        }
        first.trail.clear();
        first.href().trim_start_matches(['/', '?']).to_owned()
    }

    fn after(&mut self) -> &mut Option<String> {
        &mut self.values[FIELDS.len() - 1]
    }

    fn next(&self, cursor: String) -> Self {
        let mut next = self.clone();
        if let Some(here) = next.after().replace(cursor) {
            next.trail.insert(0, here);
            next.trail.truncate(TRAIL);
        }
        next
    }

    /// The page before; beyond what the trail remembers, the first.
    fn previous(&self) -> Option<Self> {
        self.value("after")?;
        let mut previous = self.clone();
        let before = (!previous.trail.is_empty()).then(|| previous.trail.remove(0));
        *previous.after() = before;
        Some(previous)
    }
}

/// The parameters of the API that mean the same, for files.
fn export(query: &ListQuery) -> String {
    let mut address = form_urlencoded::Serializer::new(String::new());
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            address.append_pair(name, &value);
        }
    };
    add("q", query.q.clone());
    add("source", query.source.clone());
    add("from", query.from.map(|at| at.to_string()));
    add("to", query.to.map(|at| at.to_string()));
    add("party", query.party.clone());
    add("direction", query.direction.map(|d| d.as_str().to_owned()));
    let state = query.state.map(|wanted| match wanted {
        query::Wanted::State(state) => state.as_str(),
        query::Wanted::NoRecording => "none",
    });
    add("state", state.map(str::to_owned));
    add(
        "min_duration",
        query.min_duration_ms.map(|ms| format!("{}s", ms / 1000)),
    );
    add(
        "max_duration",
        query.max_duration_ms.map(|ms| format!("{}s", ms / 1000)),
    );
    add("note", query.note.clone());
    add("tag", query.tag.clone());
    address.finish()
}

pub async fn show(
    State(state): State<WebState>,
    visit: Visit,
    RawQuery(raw): RawQuery,
) -> Response {
    match page(&state, &visit, raw.as_deref().unwrap_or_default()).await {
        Ok(response) => response,
        Err(error) => frame::problem(&state, &visit, &error),
    }
}

async fn page(state: &WebState, visit: &Visit, raw: &str) -> Result<Response, ApiError> {
    let form = Form::parse(raw)?;
    let reads = Reads::of(state, &visit.reader);
    let frame = Frame::of(state, visit, Section::Search);
    let (found, status) = match find(state, visit, &reads, &form).await {
        Ok(found) => (found, None),
        // A field that makes no sense is said above the form, where it can be mended.
        Err(error) if error.status().is_client_error() => {
            let nothing = Found {
                rows: Vec::new(),
                problem: Some(error.detail().to_owned()),
                understood: None,
                previous: form.previous().map(|form| form.href()),
                next: None,
                export: String::new(),
            };
            (nothing, Some(error.status()))
        }
        Err(error) => return Err(error),
    };
    let mut response = if form.part {
        frame::render(state, &Results { frame, form, found })
    } else {
        let page = ListPage {
            frame,
            choices: choices(state, visit.lang, &reads).await?,
            saved: reads
                .saved_searches()
                .await?
                .into_iter()
                .map(saved)
                .collect(),
            form,
            found,
        };
        frame::render(state, &page)
    };
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    Ok(response)
}

async fn find(
    state: &WebState,
    visit: &Visit,
    reads: &Reads<'_>,
    form: &Form,
) -> Result<Found, ApiError> {
    let zone = state.settings.time_zone;
    let (query, asked) = form.query(state.clock.now(), zone)?;
    let export = export(&query);
    let page = reads.search(query).await?;
    let tags = reads.tags_of(&page.items).await?;
    let rows = page.items.iter().map(|view| {
        let mut row = Row::of(view, zone, visit.lang);
        let mine = tags.iter().filter(|(call, _)| *call == view.call_id);
        row.tags = mine.map(|(_, tag)| tag.clone()).collect();
        // Where a reason is wanted, the call's page asks for it first.
        let asks = state.settings.access.asks(visit.reader.role, Asked::Play);
        row.audio = row.audio.filter(|_| visit.reader.may(Right::Play) && !asks);
        row
    });
    let understood = asked
        .from
        .zip(asked.to)
        .map(|(from, to)| window(from, to, zone));
    Ok(Found {
        rows: rows.collect(),
        problem: None,
        understood,
        previous: form.previous().map(|form| form.href()),
        next: page.next.map(|cursor| form.next(cursor).href()),
        export,
    })
}

/// `2026-11-24`, `2026-11-16 – 2026-11-22`, `2026-11-24 12:00 – 18:00`.
fn window(from: Timestamp, to: Timestamp, zone: chrono_tz::Tz) -> String {
    let (from, to) = (
        from.utc().with_timezone(&zone),
        to.utc().with_timezone(&zone),
    );
    let midnight = |at: &chrono::DateTime<chrono_tz::Tz>| at.format("%H:%M").to_string() == "00:00";
    if midnight(&from) && midnight(&to) {
        let last = to - chrono::TimeDelta::hours(1);
        let (first, last) = (from.date_naive(), last.date_naive());
        return if first == last {
            first.to_string()
        } else {
            format!("{first} – {last}")
        };
    }
    format!("{} – {}", from.format("%Y-%m-%d %H:%M"), to.format("%H:%M"))
}

fn saved(search: SavedSearch) -> Saved {
    Saved {
        id: search.search_id.to_string(),
        href: format!("/?{}", search.query),
        name: search.name,
    }
}

async fn choices(state: &WebState, lang: Lang, reads: &Reads<'_>) -> Result<Choices, ApiError> {
    let states = recording::State::ALL.iter().map(|state| state.as_str());
    let built = |state: &&str| !matches!(*state, "expired" | "purged");
    let directions = [Direction::Inbound, Direction::Outbound, Direction::Internal];
    let providers = state.providers.snapshot();
    Ok(Choices {
        states: states
            .filter(built)
            .chain(["none"])
            .map(|state| Choice {
                value: state.to_owned(),
                title: words::state(state, lang).to_owned(),
            })
            .collect(),
        sources: providers
            .values()
            .map(|provider| Choice {
                value: provider.name().to_owned(),
                title: provider
                    .common()
                    .display_name
                    .clone()
                    .unwrap_or_else(|| provider.name().to_owned()),
            })
            .collect(),
        directions: directions
            .into_iter()
            .map(|direction| Choice {
                value: direction.as_str().to_owned(),
                title: words::direction(direction, lang).to_owned(),
            })
            .collect(),
        notes: note::ALL
            .iter()
            .map(|code| Choice {
                value: (*code).to_owned(),
                title: words::Coded::new(code, lang).words,
            })
            .collect(),
        tags: reads
            .tags()
            .await?
            .into_iter()
            .map(|tag| Choice {
                title: format!("{} ({})", tag.tag, tag.calls),
                value: tag.tag,
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lead_forth_and_back() {
        let first = Form::parse("q=wang+1&state=").unwrap();
        assert!(first.filtered && !first.narrowed && first.previous().is_none());
        let second = first.next("c1".into());
        assert_eq!(second.href(), "/?q=wang+1&after=c1");
        let third = second.next("c2".into());
        assert_eq!(third.href(), "/?q=wang+1&after=c2&trail=c1");
        assert_eq!(third.kept(), "q=wang+1");
        let again = Form::parse(third.href().strip_prefix("/?").unwrap()).unwrap();
        assert_eq!(again.previous().unwrap().href(), second.href());
        assert_eq!(second.previous().unwrap().href(), first.href());
        let mut deep = first;
        for page in 0..100 {
            deep = deep.next(format!("c{page}"));
        }
        assert_eq!(deep.trail.len(), TRAIL);
        assert!(Form::parse("x=1").is_err());
        assert_eq!(Form::default().href(), "/");
    }

    #[test]
    fn the_box_and_the_fields_narrow_together() {
        let now = Timestamp::parse("2026-11-25T07:00:00Z").unwrap();
        let form = Form::parse("q=1234+yesterday&to=2026-11-24T06:00:00Z&tag=vip").unwrap();
        let (query, asked) = form.query(now, chrono_tz::Tz::UTC).unwrap();
        assert_eq!(query.q.as_deref(), Some("1234"));
        assert_eq!(query.from, Timestamp::parse("2026-11-24T00:00:00Z"));
        assert_eq!(query.to, Timestamp::parse("2026-11-24T06:00:00Z"));
        let window = window(asked.from.unwrap(), asked.to.unwrap(), chrono_tz::Tz::UTC);
        assert_eq!(window, "2026-11-24");
        assert!(export(&query).contains("tag=vip"));
    }

    /// What a hostile caller may call himself.
    const NASTY: &str = r#""><script>alert(1)</script><img src=x onerror='y'>{{ 7*7 }}"#;

    #[test]
    fn what_providers_send_is_text_on_the_page() {
        for lang in [Lang::En, Lang::Zh] {
            let mut row = Row::of(&super::super::row::sample(NASTY), chrono_tz::Tz::UTC, lang);
            row.tags = vec![NASTY.into()];
            let nasty = || {
                vec![Choice {
                    value: NASTY.into(),
                    title: NASTY.into(),
                }]
            };
            let page = ListPage {
                frame: Frame::sample(lang),
                form: Form::parse(&format!("q={NASTY}&state=lost&from={NASTY}")).unwrap(),
                choices: Choices {
                    states: nasty(),
                    sources: nasty(),
                    directions: nasty(),
                    notes: nasty(),
                    tags: nasty(),
                },
                saved: vec![Saved {
                    id: NASTY.into(),
                    name: NASTY.into(),
                    href: "/?q=x".into(),
                }],
                found: Found {
                    rows: vec![row],
                    problem: Some(NASTY.into()),
                    understood: Some(NASTY.into()),
                    previous: None,
                    next: Some("/?after=c".into()),
                    export: "q=x".into(),
                },
            };
            let html = page.render().unwrap();
            assert_eq!(html.matches("<script").count(), 1, "our own alone");
            assert!(!html.contains("<img") && !html.contains("onerror='y'"));
            assert!(html.contains("&#60;script&#62;"), "{html}");
            assert!(!html.contains("style="), "styles stand in the style sheet");
        }
    }
}
