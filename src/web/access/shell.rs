//! What surrounds the pages of this room: the frame of all pages, and beneath it the way to the pages of administrators.

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::HeaderMap;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::Reader;
use super::words::{self, Words};
use crate::domain::clock::Timestamp;
use crate::domain::rights::Scope;
use crate::web::pages::frame::{self, Frame, Section, Visit};
use crate::web::pages::text::Lang;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

pub use crate::web::pages::frame::render;

#[derive(Debug)]
pub struct Shell {
    pub frame: Frame,
    pub w: &'static Words,
    /// What forms carry.
    pub word: String,
}

impl Shell {
    /// For somebody who is not let in yet.
    pub fn outside(state: &WebState, headers: &HeaderMap) -> Self {
        Self::speaking(state, Lang::of(headers, None))
    }

    /// The same in a language that was just chosen.
    pub fn speaking(state: &WebState, lang: Lang) -> Self {
        Self::around(Frame::outside(state, lang))
    }

    pub fn of(state: &WebState, reader: &Reader, headers: &HeaderMap) -> Self {
        let visit = Visit {
            lang: Lang::of(headers, reader.language.as_deref()),
            reader: reader.clone(),
            here: "/account".to_owned(),
        };
        Self::around(Frame::of(state, &visit, Section::Other))
    }

    fn around(frame: Frame) -> Self {
        Self {
            w: words::of(frame.lang),
            word: frame.word.clone(),
            frame,
        }
    }

    /// The page that this is, for the navigation and for forms that lead back.
    pub fn at(mut self, section: Section, here: &str) -> Self {
        self.frame.section = section;
        self.frame.here = here.to_owned();
        self
    }
}

#[derive(Template)]
#[template(path = "access/problem.html")]
struct ProblemPage {
    shell: Shell,
    title: &'static str,
    words: Option<&'static str>,
    detail: Option<String>,
}

/// The same status and headers as the API's answer, in words.
pub fn problem(state: &WebState, headers: &HeaderMap, error: &ApiError) -> Response {
    problem_in(Shell::outside(state, headers), state, error)
}

/// The same for somebody who is let in.
pub fn problem_for(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    error: &ApiError,
) -> Response {
    problem_in(Shell::of(state, reader, headers), state, error)
}

fn problem_in(shell: Shell, state: &WebState, error: &ApiError) -> Response {
    let (title, words) = frame::said(error.code(), shell.frame.lang);
    let own = words.or_else(|| shell.w.said(error.code()));
    let page = ProblemPage {
        title,
        // Where we have words of our own, the API's are only for those who want to know more.
        detail: (own.is_none() || error.code() == "bad_request").then(|| error.detail().to_owned()),
        words: own,
        shell,
    };
    let mut response = render(state, &page);
    if response.status() == StatusCode::OK {
        *response.status_mut() = error.status();
        for (name, value) in error.headers() {
            if name != CONTENT_TYPE {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    response
}

/// On to another page after a form.
pub fn see(place: &str) -> Response {
    Redirect::to(place).into_response()
}

/// A time of the configured zone, to the second.
pub fn time(state: &WebState, at: Timestamp) -> String {
    let zone = state.settings.time_zone;
    at.utc()
        .with_timezone(&zone)
        .format("%Y-%m-%d %H:%M:%S")
        .to_string()
}

pub fn scope(w: &Words, scope: &Scope) -> String {
    if scope.is_all() {
        return w.everything.to_owned();
    }
    let lists = [
        (w.sources, &scope.sources),
        (w.only_numbers, &scope.numbers),
        (w.only_parties, &scope.parties),
    ];
    let told = lists
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}: {}", list.join(", ")));
    told.collect::<Vec<_>>().join("; ")
}
