//! `/admin/configuration`: what file and environment said when this process started, without secrets.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use crate::domain::rights::Right;
use crate::web::access::Reader;
use crate::web::access::shell::{self, Shell};
use crate::web::pages::frame::Section;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

#[derive(Template)]
#[template(path = "access/configuration.html")]
struct ConfigurationPage {
    shell: Shell,
    text: String,
}

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
) -> Response {
    let page = async {
        reader.needs(Right::Administer)?;
        Reads::of(&state, &reader).note("configuration", "").await?;
        let page = ConfigurationPage {
            shell: Shell::of(&state, &reader, &headers)
                .at(Section::Configuration, "/admin/configuration"),
            text: state.settings.in_force.clone(),
        };
        Ok(shell::render(&state, &page))
    };
    page.await
        .unwrap_or_else(|error: ApiError| shell::problem_for(&state, &reader, &headers, &error))
}
