//! `/admin/sources`: each source with the exact addresses for its vendor, and the test that `check` makes of it.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Form};
use http::HeaderMap;
use serde::Deserialize;

use super::or_problem;
use crate::jobs::sources::{HookView, SourceView};
use crate::providers::contract::Finding;
use crate::web::access::Reader;
use crate::web::access::govern::sources::{SourceList, Tested};
use crate::web::access::shell::{self, Shell};
use crate::web::pages::frame::Section;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Template)]
#[template(path = "access/sources.html")]
struct SourcesPage {
    shell: Shell,
    lines: Vec<Line>,
}

struct Line {
    source: String,
    kind: String,
    hooks: Vec<HookView>,
    queues: Vec<String>,
    findings: Vec<String>,
    tested: Option<&'static str>,
    is_well: bool,
}

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
) -> Response {
    let page = async {
        let views = SourceList::of(&state, &reader)?.list().await?;
        Ok(page(&state, &reader, &headers, views, None))
    };
    or_problem(&state, &reader, &headers, page.await)
}

fn page(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    views: Vec<SourceView>,
    tested: Option<Tested>,
) -> Response {
    let shell = Shell::of(state, reader, headers).at(Section::Sources, "/admin/sources");
    let w = shell.w;
    let line = |view: SourceView| {
        let mut line = Line {
            findings: view.findings.iter().map(words).collect(),
            source: view.source,
            kind: view.kind,
            hooks: view.hooks,
            queues: view.queues,
            tested: None,
            is_well: true,
        };
        if let Some(found) = tested.as_ref().filter(|found| found.source == line.source) {
            line.is_well = found.is_well;
            line.findings.extend(found.findings.iter().map(words));
            line.tested = Some(if line.is_well {
                w.test_good
            } else {
                w.test_bad
            });
        }
        line
    };
    let page = SourcesPage {
        lines: views.into_iter().map(line).collect(),
        shell,
    };
    shell::render(state, &page)
}

fn words(finding: &Finding) -> String {
    format!("{}: {}. {}", finding.code, finding.what, finding.remedy)
}

#[derive(Deserialize)]
pub struct Which {
    test: String,
}

pub async fn test(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Form(which): Form<Which>,
) -> Response {
    let tested = async {
        let sources = SourceList::of(&state, &reader)?;
        let tested = sources.test(&which.test).await?;
        Ok::<_, ApiError>(page(
            &state,
            &reader,
            &headers,
            sources.views(),
            Some(tested),
        ))
    };
    or_problem(&state, &reader, &headers, tested.await)
}
