//! `/`: the newest calls and recordings, a search box, and a player in each line.

use askama::Template;
use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::frame::{self, Frame};
use super::row::Row;
use crate::domain::recording;
use crate::web::access::Reader;
use crate::web::api::query::{self, ListQuery};
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

const LINES: u64 = 50;
/// How many pages back are remembered in the address.
const TRAIL: usize = 20;

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage {
    frame: Frame,
    form: Form,
    states: Vec<&'static str>,
    sources: Vec<SourceName>,
    rows: Vec<Row>,
    problem: Option<String>,
    previous: Option<String>,
    next: Option<String>,
}

struct SourceName {
    name: String,
    title: String,
}

/// The search as it was typed; empty fields are none.
#[derive(Clone, Debug, Default)]
struct Form {
    q: Option<String>,
    state: Option<String>,
    source: Option<String>,
    from: Option<String>,
    to: Option<String>,
    after: Option<String>,
    /// Cursors of the pages before this one, the newest first, without the first page's.
    trail: Vec<String>,
    /// Something besides `q` narrows.
    narrowed: bool,
    filtered: bool,
}

impl Form {
    fn parse(raw: &str) -> Result<Self, ApiError> {
        let mut form = Self::default();
        for (name, value) in query::pairs(raw)? {
            if value.trim().is_empty() {
                continue;
            }
            match name.as_str() {
                "q" => form.q = Some(value),
                "state" => form.state = Some(value),
                "source" => form.source = Some(value),
                "from" => form.from = Some(value),
                "to" => form.to = Some(value),
                "after" => form.after = Some(value),
                "trail" => form.trail = value.split('~').map(str::to_owned).collect(),
                _ => {
                    return Err(ApiError::bad_request(format!(
                        "{name} is no parameter here"
                    )));
                }
            }
        }
        form.narrowed = form.state.is_some()
            || form.source.is_some()
            || form.from.is_some()
            || form.to.is_some();
        form.filtered = form.narrowed || form.q.is_some();
        Ok(form)
    }

    fn fields(&self) -> [(&'static str, &Option<String>); 6] {
        [
            ("q", &self.q),
            ("state", &self.state),
            ("source", &self.source),
            ("from", &self.from),
            ("to", &self.to),
            ("after", &self.after),
        ]
    }

    fn query(&self, zone: chrono_tz::Tz) -> Result<ListQuery, ApiError> {
        let mut query = ListQuery {
            limit: Some(LINES),
            ..ListQuery::default()
        };
        for (name, value) in self.fields() {
            if let Some(value) = value {
                query.set(name, value.clone(), zone)?;
            }
        }
        Ok(query)
    }

    fn href(&self) -> String {
        let mut address = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.fields() {
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

    fn next(&self, cursor: String) -> Self {
        let mut next = self.clone();
        if let Some(here) = next.after.replace(cursor) {
            next.trail.insert(0, here);
            next.trail.truncate(TRAIL);
        }
        next
    }

    /// The page before; beyond what the trail remembers, the first.
    fn previous(&self) -> Option<Self> {
        self.after.as_ref()?;
        let mut previous = self.clone();
        previous.after = if previous.trail.is_empty() {
            None
        } else {
            Some(previous.trail.remove(0))
        };
        Some(previous)
    }
}

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Response {
    let zone = state.settings.time_zone;
    let form = match Form::parse(raw.as_deref().unwrap_or_default()) {
        Ok(form) => form,
        Err(error) => return frame::problem(&state, &error),
    };
    let found = match form.query(zone) {
        Ok(query) => Reads::of(&state, &reader).search(query).await,
        Err(error) => Err(error),
    };
    let (rows, next, problem, status) = match found {
        Ok(page) => (
            page.items.iter().map(|view| Row::of(view, zone)).collect(),
            page.next.map(|cursor| form.next(cursor).href()),
            None,
            None,
        ),
        // A field that makes no sense is said above the form, where it can be mended.
        Err(error) if error.status().is_client_error() => (
            Vec::new(),
            None,
            Some(error.detail().to_owned()),
            Some(error.status()),
        ),
        Err(error) => return frame::problem(&state, &error),
    };
    let page = ListPage {
        frame: Frame::of(&state),
        previous: form.previous().map(|form| form.href()),
        states: recording::State::ALL
            .iter()
            .map(|state| state.as_str())
            .chain(["none"])
            .collect(),
        sources: state
            .providers
            .snapshot()
            .values()
            .map(|provider| SourceName {
                name: provider.name().to_owned(),
                title: provider
                    .common()
                    .display_name
                    .clone()
                    .unwrap_or_else(|| provider.name().to_owned()),
            })
            .collect(),
        form,
        rows,
        problem,
        next,
    };
    let mut response = frame::render(&state, &page);
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    response
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

    /// What a hostile caller may call himself.
    const NASTY: &str = r#""><script>alert(1)</script><img src=x onerror='y'>{{ 7*7 }}"#;

    #[test]
    fn what_providers_send_is_text_on_the_page() {
        let row = Row::of(&super::super::row::sample(NASTY), chrono_tz::Tz::UTC);
        let page = ListPage {
            frame: Frame {
                assets: "v",
                banner: Some("Simulated calls <only>".into()),
                zone: "UTC",
                version: "0",
            },
            form: Form::parse(&format!("q={NASTY}&state=lost&from={NASTY}")).unwrap(),
            states: vec!["lost"],
            sources: vec![SourceName {
                name: "feiyu-main".into(),
                title: NASTY.into(),
            }],
            rows: vec![row],
            problem: Some(NASTY.into()),
            previous: None,
            next: Some("/?after=c".into()),
        };
        let html = page.render().unwrap();
        assert_eq!(html.matches("<script").count(), 1, "our own alone");
        assert!(!html.contains("<img") && !html.contains("onerror='y'"));
        assert!(html.contains("&#60;script&#62;"), "{html}");
        assert!(!html.contains("style="), "styles stand in the style sheet");
    }
}
