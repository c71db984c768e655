//! What surrounds the pages of this room.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::Reader;
use super::words::{self, Words};
use crate::domain::clock::Timestamp;
use crate::domain::ids::new_id;
use crate::domain::rights::{Right, Scope};
use crate::web::pages::assets;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Debug)]
pub struct Shell {
    pub w: &'static Words,
    pub assets: &'static str,
    pub banner: Option<String>,
    pub zone: &'static str,
    pub version: &'static str,
    /// Let in.
    pub known: bool,
    /// Of the account that is signed in.
    pub name: Option<String>,
    /// What forms carry.
    pub word: String,
    pub trail: bool,
    pub administers: bool,
}

impl Shell {
    /// For somebody who is not let in yet.
    pub fn outside(state: &WebState, headers: &HeaderMap) -> Self {
        Self {
            w: words::of(None, headers),
            assets: assets::version(),
            banner: state.settings.banner.clone(),
            zone: state.settings.time_zone.name(),
            version: env!("CARGO_PKG_VERSION"),
            known: false,
            name: None,
            word: String::new(),
            trail: false,
            administers: false,
        }
    }

    pub fn of(state: &WebState, reader: &Reader, headers: &HeaderMap) -> Self {
        let must_change = reader.signed_in.as_ref().is_some_and(|s| s.must_change);
        Self {
            w: words::of(reader.language.as_deref(), headers),
            known: true,
            name: reader.signed_in.as_ref().map(|s| s.name.clone()),
            word: reader.form_word().to_owned(),
            trail: reader.may(Right::Trail) && !must_change,
            administers: reader.may(Right::Administer) && !must_change,
            ..Self::outside(state, headers)
        }
    }
}

#[derive(Template)]
#[template(path = "access/problem.html")]
struct ProblemPage {
    shell: Shell,
    title: &'static str,
    detail: String,
}

/// The same status and headers as the API's answer, in words.
pub fn problem(state: &WebState, headers: &HeaderMap, error: &ApiError) -> Response {
    let page = ProblemPage {
        shell: Shell::outside(state, headers),
        title: error.status().canonical_reason().unwrap_or("Error"),
        detail: error.detail().to_owned(),
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

pub fn render(state: &WebState, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            let id = new_id(state.clock.now()).to_string();
            tracing::error!(id, %error, "a page could not be rendered");
            ApiError::internal(&id).into_response()
        }
    }
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
