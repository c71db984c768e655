//! `GET /api/v1/recordings.csv` and `.ndjson`: a whole search as a file, streamed, with one audit row in front.
//!
//! What a newcomer gets wrong: a cell that begins like a formula is one, for a spreadsheet. A vendor's caller chooses such
//! text, and the person who opens the file runs it.

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use chrono_tz::Tz;
use futures::StreamExt as _;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};

use super::query::{self, ListQuery};
use crate::domain::clock::Timestamp;
use crate::domain::view::RecordingView;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

/// The columns, in their order; more may come at the end.
const COLUMNS: [&str; 19] = [
    "started_at",
    "local_time",
    "time_zone",
    "source",
    "direction",
    "caller",
    "caller_name",
    "callee",
    "callee_name",
    "duration_s",
    "state",
    "reason",
    "notes",
    "archived_at",
    "provider_call_id",
    "call_id",
    "recording_id",
    "sha256",
    "bytes",
];

#[utoipa::path(
    get,
    path = "/api/v1/recordings.csv",
    tag = "recordings",
    summary = "A whole search as CSV",
    description = "Takes what the search takes, but for `limit`; `bom=1` puts a byte order mark in front, which Excel wants. \
                   Lines end in CR LF. A cell that a spreadsheet would take for a formula begins with an apostrophe.",
    params(
        query::Filters,
        ("bom" = Option<u8>, Query, description = "1 or 0", minimum = 0, maximum = 1),
    ),
    responses(
        (status = 200, description = "The file", content_type = "text/csv", body = String),
        (status = 400, description = "bad_request, bad_cursor", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn csv(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let zone = state.settings.time_zone;
    let (query, bom) = asked(raw.as_deref().unwrap_or_default(), zone)?;
    let pages = Reads::of(&state, &reader).export(query, "csv").await?;
    let mut head = if bom {
        "\u{feff}".to_owned()
    } else {
        String::new()
    };
    line(&mut head, COLUMNS.map(str::to_owned));
    let head = futures::stream::once(async { Ok(Bytes::from(head)) });
    let lines = pages.map(move |page| {
        page.map(|items| {
            let mut text = String::new();
            for item in &items {
                line(&mut text, cells(item, zone));
            }
            Bytes::from(text)
        })
    });
    let body = Body::from_stream(head.chain(lines.map(|page| page.map_err(broken))));
    Ok(file(body, "text/csv; charset=utf-8", "callvault.csv"))
}

#[utoipa::path(
    get,
    path = "/api/v1/recordings.ndjson",
    tag = "recordings",
    summary = "A whole search as NDJSON",
    description = "Takes what the search takes, but for `limit`; a line is an item of the search.",
    params(query::Filters),
    responses(
        (status = 200, description = "The file", content_type = "application/x-ndjson", body = String),
        (status = 400, description = "bad_request, bad_cursor", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 403, description = "token_required", body = super::openapi::Problem, content_type = "application/problem+json"),
        (status = 503, description = "unavailable", body = super::openapi::Problem, content_type = "application/problem+json"),
    )
)]
pub async fn ndjson(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let (query, _) = asked(raw.as_deref().unwrap_or_default(), state.settings.time_zone)?;
    let pages = Reads::of(&state, &reader).export(query, "ndjson").await?;
    let lines = pages.map(|page| {
        let items = page.map_err(broken)?;
        let mut text = Vec::new();
        for item in &items {
            serde_json::to_writer(&mut text, item).map_err(std::io::Error::from)?;
            text.push(b'\n');
        }
        Ok::<_, std::io::Error>(Bytes::from(text))
    });
    Ok(file(
        Body::from_stream(lines),
        "application/x-ndjson",
        "callvault.ndjson",
    ))
}

fn asked(raw: &str, zone: Tz) -> Result<(ListQuery, bool), ApiError> {
    let mut query = ListQuery::default();
    let mut bom = false;
    for (name, value) in super::query::pairs(raw)? {
        match (name.as_str(), value.as_str()) {
            ("bom", "1") => bom = true,
            ("bom", "0") => {}
            ("bom", _) => return Err(ApiError::bad_request("bom is 1 or 0")),
            ("limit", _) => {
                return Err(ApiError::bad_request(
                    "limit is no parameter here: a file holds all lines",
                ));
            }
            _ => query.set(&name, value, zone)?,
        }
    }
    Ok((query, bom))
}

/// A file that ends too early must not look whole: the connection is cut.
fn broken(error: ApiError) -> std::io::Error {
    tracing::error!(code = error.code(), "an export broke off");
    std::io::Error::other("the export broke off")
}

fn file(body: Body, kind: &'static str, name: &str) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    response
}

fn cells(item: &RecordingView, zone: Tz) -> [String; COLUMNS.len()] {
    let time = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.to_string());
    let local = |at: Option<Timestamp>| {
        at.map_or(String::new(), |at| {
            let local = at.utc().with_timezone(&zone);
            local.format("%Y-%m-%d %H:%M:%S").to_string()
        })
    };
    let name = |role: &str| {
        let party = item
            .parties
            .iter()
            .find(|party| party.role.as_deref() == Some(role));
        party
            .and_then(|party| party.name.clone())
            .unwrap_or_default()
    };
    [
        time(item.started_at),
        local(item.started_at),
        zone.name().to_owned(),
        item.source.clone(),
        item.direction
            .map_or("", |direction| direction.as_str())
            .to_owned(),
        item.caller.clone().unwrap_or_default(),
        name("caller"),
        item.callee.clone().unwrap_or_default(),
        name("callee"),
        item.duration_ms
            .map_or(String::new(), |ms| format!("{:.3}", ms as f64 / 1000.0)),
        item.state.clone(),
        item.reason.clone().unwrap_or_default(),
        item.notes.join(" "),
        time(item.archived_at),
        item.provider_call_id.clone(),
        item.call_id.to_string(),
        item.recording_id.map_or(String::new(), |id| id.to_string()),
        item.original
            .as_ref()
            .map_or(String::new(), |o| o.sha256.to_string()),
        item.original
            .as_ref()
            .map_or(String::new(), |o| o.bytes.to_string()),
    ]
}

/// One line as RFC 4180 has it.
fn line<const N: usize>(into: &mut String, cells: [String; N]) {
    for (i, cell) in cells.iter().enumerate() {
        if i > 0 {
            into.push(',');
        }
        into.push_str(&cell_text(cell));
    }
    into.push_str("\r\n");
}

/// Quoted where it must be; what a spreadsheet would calculate begins with an apostrophe and stays text. Signs that
/// some of them take for `=` count as well, also behind blanks.
fn cell_text(cell: &str) -> String {
    let first = cell
        .trim_start_matches(|c: char| c.is_whitespace() || c.is_control())
        .chars()
        .next();
    let formula = matches!(
        first,
        Some('=' | '+' | '-' | '@' | '|' | '%' | '＝' | '＋' | '－' | '＠')
    ) || cell.starts_with(['\t', '\r', '\n']);
    let mark = if formula { "'" } else { "" };
    if cell.contains([',', '"', '\r', '\n', ';', '\t']) || formula {
        format!("\"{mark}{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (cell, expected) in [
            ("", ""),
            ("Wang", "Wang"),
            ("13900000001", "13900000001"),
            ("+8613900000001", "\"'+8613900000001\""),
            ("=1+1", "\"'=1+1\""),
            (
                "=HYPERLINK(\"http://x\",\"y\")",
                "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\"",
            ),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("-2+3", "\"'-2+3\""),
            ("\t=1", "\"'\t=1\""),
            ("  =1", "\"'  =1\""),
            ("\u{a0}=1", "\"'\u{a0}=1\""),
            ("＝1", "\"'＝1\""),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\r\n=1", "\"a\r\n=1\""),
        ] {
            assert_eq!(cell_text(cell), expected, "{cell:?}");
        }
    }

    #[test]
    fn a_file_takes_every_filter_and_no_limit() {
        let zone = Tz::UTC;
        assert!(asked("q=1234&state=archived&bom=1", zone).unwrap().1);
        for bad in ["limit=3", "bom=yes", "x=1"] {
            assert!(asked(bad, zone).is_err(), "{bad}");
        }
    }
}
