//! `/audit`: who saw, heard and changed what; the chain computed again; the trail as lines.

use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::or_problem;
use crate::db::audit::AuditRow;
use crate::domain::audit::ChainReport;
use crate::web::access::Reader;
use crate::web::access::govern::trail::{Trail, Wanted};
use crate::web::access::shell::{self, Shell};
use crate::web::api::query;
use crate::web::pages::frame::Section;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Template)]
#[template(path = "access/trail.html")]
struct TrailPage {
    shell: Shell,
    chain: Option<String>,
    is_whole: bool,
    asked: Asked,
    rows: Vec<Line>,
    older: Option<String>,
}

/// The filters as they were typed.
#[derive(Default)]
struct Asked {
    actor: String,
    action: String,
    subject: String,
    from: String,
    to: String,
}

struct Line {
    seq: i64,
    when: String,
    actor: String,
    action: String,
    subject: String,
    detail: String,
    from: String,
}

impl Asked {
    fn of(raw: &str) -> Result<Self, ApiError> {
        let mut asked = Self::default();
        for (name, value) in query::pairs(raw)? {
            match name.as_str() {
                "actor" => asked.actor = value,
                "action" => asked.action = value,
                "subject" => asked.subject = value,
                "from" => asked.from = value,
                "to" => asked.to = value,
                _ => {}
            }
        }
        Ok(asked)
    }

    /// The address of the page behind this one.
    fn older(&self, after: &str) -> String {
        let fields = [
            ("actor", self.actor.as_str()),
            ("action", &self.action),
            ("subject", &self.subject),
            ("from", &self.from),
            ("to", &self.to),
            ("after", after),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(fields);
        format!("/audit?{}", query.finish())
    }
}

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Response {
    let page = async {
        let trail = Trail::of(&state, &reader)?;
        let raw = raw.unwrap_or_default();
        let wanted = Wanted::typed(&raw, &state)?;
        let found = trail.page(&wanted).await?;
        Ok(page(&state, &reader, &headers, &raw, found, None))
    };
    let page: Result<_, ApiError> = page.await;
    or_problem(&state, &reader, &headers, page.and_then(|page| page))
}

fn page(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    raw: &str,
    (rows, next): (Vec<AuditRow>, Option<String>),
    chain: Option<ChainReport>,
) -> Result<Response, ApiError> {
    let here = if raw.is_empty() {
        "/audit".to_owned()
    } else {
        format!("/audit?{raw}")
    };
    let shell = Shell::of(state, reader, headers).at(Section::Trail, &here);
    let w = shell.w;
    let asked = Asked::of(raw)?;
    let page = TrailPage {
        is_whole: chain.as_ref().is_none_or(|chain| chain.whole),
        chain: chain.map(|chain| match chain.what {
            None => format!("{} {}:{}", w.chain_whole, chain.last_seq, chain.last_hash),
            Some(what) => format!("{} {what}", w.chain_broken),
        }),
        older: next.map(|after| asked.older(&after)),
        rows: rows
            .into_iter()
            .map(|row| Line {
                seq: row.seq.unwrap_or_default(),
                when: shell::time(state, row.at),
                actor: row.actor,
                action: row.action,
                subject: row.subject,
                detail: if row.detail == "null" {
                    String::new()
                } else {
                    row.detail
                },
                from: row.from,
            })
            .collect(),
        asked,
        shell,
    };
    Ok(shell::render(state, &page))
}

pub async fn verify(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
) -> Response {
    let verified = async {
        let trail = Trail::of(&state, &reader)?;
        let report = trail.verify().await?;
        let found = trail.rows(&Wanted::parse("", &state)?).await?;
        page(&state, &reader, &headers, "", found, Some(report))
    };
    or_problem(&state, &reader, &headers, verified.await)
}

/// All rows of the chain in their order, page by page as the reader takes them.
pub async fn export(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let trail = Trail::of(&state, &reader)?;
    query::none(raw.as_deref())?;
    let lines = trail.export().await?;
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson"),
        (CONTENT_DISPOSITION, "attachment; filename=\"audit.ndjson\""),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}
