//! `/admin/sources`: each source with the exact addresses for its vendor, and the test that `check` makes of it.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Form};
use http::HeaderMap;
use serde::Deserialize;

use crate::domain::rights::Right;
use crate::jobs::sources::{HookView, SourceView, views};
use crate::providers::contract::{Finding, Severity};
use crate::web::access::Reader;
use crate::web::access::shell::{self, Shell};
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

/// A vendor that takes longer is told of as one that does not answer.
const TEST_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

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
        reader.needs(Right::Administer)?;
        // The addresses hold the vendors' tokens.
        Reads::of(&state, &reader).note("source_list", "").await?;
        Ok(page(&state, &reader, &headers, None))
    };
    page.await
        .unwrap_or_else(|error: ApiError| shell::problem(&state, &headers, &error))
}

fn page(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    tested: Option<(String, Vec<Finding>)>,
) -> Response {
    let shell = Shell::of(state, reader, headers);
    let w = shell.w;
    let line = |view: SourceView| {
        let mut line = Line {
            findings: view.findings.iter().map(words).collect(),
            source: view.source,
            kind: view.kind,
            hooks: view.hooks,
            tested: None,
            is_well: true,
        };
        if let Some((_, found)) = tested.as_ref().filter(|(name, _)| *name == line.source) {
            line.is_well = found.iter().all(|f| f.severity == Severity::Info);
            line.findings.extend(found.iter().map(words));
            line.tested = Some(if line.is_well {
                w.test_good
            } else {
                w.test_bad
            });
        }
        line
    };
    let sources = views(&state.providers, &state.settings.public_base());
    let page = SourcesPage {
        lines: sources.into_iter().map(line).collect(),
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
        reader.needs(Right::Administer)?;
        let sources = state.providers.snapshot();
        let provider = sources
            .values()
            .find(|provider| provider.name() == which.test)
            .ok_or_else(|| ApiError::not_found("source"))?;
        Reads::of(&state, &reader)
            .note("source_test", &which.test)
            .await?;
        let found = tokio::time::timeout(TEST_WITHIN, provider.check()).await;
        let found = found.unwrap_or_else(|_| {
            vec![Finding {
                code: "no_answer",
                severity: Severity::Warning,
                what: "the vendor did not answer in time".to_owned(),
                place: which.test.clone(),
                remedy: "is its address right, and can this machine reach it?".to_owned(),
            }]
        });
        Ok(page(&state, &reader, &headers, Some((which.test, found))))
    };
    tested
        .await
        .unwrap_or_else(|error: ApiError| shell::problem(&state, &headers, &error))
}
