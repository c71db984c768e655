//! What surrounds every page, and the page that says what went wrong.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::assets;
use crate::domain::ids::new_id;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Debug)]
pub struct Frame {
    /// The folder of style and script.
    pub assets: &'static str,
    pub banner: Option<String>,
    pub zone: &'static str,
    pub version: &'static str,
}

impl Frame {
    pub fn of(state: &WebState) -> Self {
        Self {
            assets: assets::version(),
            banner: state.settings.banner.clone(),
            zone: state.settings.time_zone.name(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    title: &'static str,
    detail: String,
}

/// The same status and headers as the API's answer, in words.
pub fn problem(state: &WebState, error: &ApiError) -> Response {
    let page = ProblemPage {
        frame: Frame::of(state),
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
