//! `/audit`: who saw, heard and changed what; the chain computed again; the trail as lines.

use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::HeaderMap;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use crate::db::audit::{AuditRow, TrailQuery};
use crate::domain::audit::ChainReport;
use crate::domain::masking;
use crate::domain::rights::Right;
use crate::web::access::Reader;
use crate::web::access::shell::{self, Shell};
use crate::web::api::query;
use crate::web::problem::ApiError;
use crate::web::reads::{Reads, ask};
use crate::web::state::WebState;

const LINES: usize = 100;

#[derive(Template)]
#[template(path = "access/trail.html")]
struct TrailPage {
    shell: Shell,
    chain: Option<String>,
    is_whole: bool,
    actor: String,
    action: String,
    subject: String,
    rows: Vec<Line>,
    older: Option<String>,
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

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Response {
    let page = async {
        reader.needs(Right::Trail)?;
        let wanted = wanted(raw.as_deref().unwrap_or_default())?;
        Reads::of(&state, &reader).note("trail", "").await?;
        page(&state, &reader, &headers, wanted, None).await
    };
    page.await
        .unwrap_or_else(|error: ApiError| shell::problem(&state, &headers, &error))
}

fn wanted(raw: &str) -> Result<TrailQuery, ApiError> {
    let mut wanted = TrailQuery::default();
    for (name, value) in query::pairs(raw)? {
        if value.is_empty() {
            continue;
        }
        match name.as_str() {
            "actor" => wanted.actor = Some(value),
            "action" => wanted.action = Some(value),
            "subject" => wanted.subject = Some(value),
            "before" => {
                let seq = value.parse();
                wanted.before_seq = Some(seq.map_err(|_| ApiError::bad_cursor())?);
            }
            _ => {
                return Err(ApiError::bad_request(format!(
                    "{name} is no parameter here"
                )));
            }
        }
    }
    Ok(wanted)
}

async fn page(
    state: &WebState,
    reader: &Reader,
    headers: &HeaderMap,
    wanted: TrailQuery,
    chain: Option<ChainReport>,
) -> Result<Response, ApiError> {
    let shell = Shell::of(state, reader, headers);
    let w = shell.w;
    let mut rows = ask(state, state.db.audit_rows(&wanted, LINES + 1)).await?;
    let more = rows.len() > LINES;
    rows.truncate(LINES);
    let older = rows.last().and_then(|row| row.seq).filter(|_| more);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (actor, action, subject) = (
        text(&wanted.actor),
        text(&wanted.action),
        text(&wanted.subject),
    );
    let page = TrailPage {
        is_whole: chain.as_ref().is_none_or(|chain| chain.whole),
        chain: chain.map(|chain| match chain.what {
            None => format!("{} {}:{}", w.chain_whole, chain.last_seq, chain.last_hash),
            Some(what) => format!("{} {what}", w.chain_broken),
        }),
        older: older.map(|seq| {
            let seq = seq.to_string();
            let fields = [
                ("actor", &actor),
                ("action", &action),
                ("subject", &subject),
                ("before", &seq),
            ];
            let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(fields);
            format!("/audit?{}", query.finish())
        }),
        rows: rows
            .into_iter()
            .map(|row| {
                let row = as_seen(reader, row);
                Line {
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
                }
            })
            .collect(),
        actor,
        action,
        subject,
        shell,
    };
    Ok(shell::render(state, &page))
}

/// What others looked for holds numbers, too. Whoever sees them masked cannot compute the chain from an export, and
/// has the button for that.
fn as_seen(reader: &Reader, mut row: AuditRow) -> AuditRow {
    if reader.masks_numbers {
        // Ids of recordings are looked for by what stands before their digits; a number stands alone.
        if uuid::Uuid::parse_str(&row.subject).is_err() {
            row.subject = masking::free_text(&row.subject);
        }
        row.detail = masking::free_text(&row.detail);
    }
    row
}

pub async fn verify(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
) -> Response {
    let verified = async {
        reader.needs(Right::Trail)?;
        Reads::of(&state, &reader).note("audit_verify", "").await?;
        // A long trail takes its time; this one question is not cut short.
        let report = state.db.verify_audit().await.map_err(|error| {
            tracing::error!(%error, "the audit trail cannot be verified");
            ApiError::unavailable("database")
        })?;
        page(
            &state,
            &reader,
            &headers,
            TrailQuery::default(),
            Some(report),
        )
        .await
    };
    verified
        .await
        .unwrap_or_else(|error: ApiError| shell::problem(&state, &headers, &error))
}

/// All rows of the chain in their order, page by page as the reader takes them.
pub async fn export(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    reader.needs(Right::Trail)?;
    query::none(raw.as_deref())?;
    Reads::of(&state, &reader).note("audit_export", "").await?;
    let end = ask(&state, state.db.audit_end()).await?;
    let lines = stream::try_unfold(0_i64, move |after| {
        let (state, reader) = (state.clone(), reader.clone());
        async move {
            if after >= end {
                return Ok::<_, crate::db::DbError>(None);
            }
            let page = state.db.audit_rows_after(after).await?;
            let Some(last) = page.last().and_then(|row| row.seq) else {
                return Ok(None);
            };
            let mut text = String::new();
            for row in page
                .into_iter()
                .filter(|row| row.seq.is_some_and(|seq| seq <= end))
            {
                text += &serde_json::to_string(&as_seen(&reader, row)).unwrap_or_default();
                text.push('\n');
            }
            Ok(Some((Bytes::from(text), last)))
        }
    });
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson"),
        (CONTENT_DISPOSITION, "attachment; filename=\"audit.ndjson\""),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}
