//! The audit trail: who saw, heard and changed what; the chain computed again; the whole as lines.

use bytes::Bytes;
use futures::Stream;
use futures::stream;

use crate::db::DbError;
use crate::db::audit::{AuditRow, TrailQuery};
use crate::domain::audit::ChainReport;
use crate::domain::masking;
use crate::domain::moment;
use crate::domain::rights::Right;
use crate::web::access::Reader;
use crate::web::api::query;
use crate::web::problem::ApiError;
use crate::web::reads::{Reads, ask};
use crate::web::state::WebState;

/// Rows of one answer, unless it is asked otherwise, and at most.
pub const USUAL: usize = 100;
const MOST: usize = 1000;

/// Which rows, and how many of them.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub query: TrailQuery,
    pub limit: usize,
}

impl Wanted {
    /// As `parse`, for forms, which send empty fields as well: these do not narrow.
    pub fn typed(raw: &str, state: &WebState) -> Result<Self, ApiError> {
        let fields = query::pairs(raw)?;
        let filled = fields.iter().filter(|(_, value)| !value.is_empty());
        let filled = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(filled)
            .finish();
        Self::parse(&filled, state)
    }

    /// Reads a query string. The cursor is the number of a row.
    pub fn parse(raw: &str, state: &WebState) -> Result<Self, ApiError> {
        let (mut query, mut limit) = (TrailQuery::default(), USUAL);
        for (name, value) in query::pairs(raw)? {
            let wrong = |what: &str| ApiError::bad_request(format!("{name}={value}: {what}"));
            let time = || {
                moment::parse(&value.replace(' ', "+"), state.settings.time_zone).ok_or_else(|| {
                    wrong("write a date as 2024-03-05 or a time as 2024-03-05T12:00:00Z")
                })
            };
            match name.as_str() {
                "actor" => query.actor = Some(value),
                "action" => query.action = Some(value),
                "subject" => query.subject = Some(value),
                "from" => query.from = Some(time()?),
                "to" => query.to = Some(time()?),
                "limit" => {
                    let asked: Option<usize> = value.parse().ok();
                    let asked = asked.filter(|asked| (1..=MOST).contains(asked));
                    limit = asked.ok_or_else(|| wrong("is not a whole number from 1 to 1000"))?;
                }
                "after" => {
                    let seq = value.parse().ok().filter(|seq| *seq > 0);
                    query.before_seq = Some(seq.ok_or_else(ApiError::bad_cursor)?);
                }
                _ => {
                    return Err(ApiError::bad_request(format!(
                        "{name} is no parameter here; known are actor, action, subject, from, to, limit, after"
                    )));
                }
            }
        }
        Ok(Self { query, limit })
    }
}

/// The trail, in the hands of somebody who may read it.
#[derive(Debug)]
pub struct Trail<'a> {
    state: &'a WebState,
    reader: &'a Reader,
}

impl<'a> Trail<'a> {
    pub fn of(state: &'a WebState, reader: &'a Reader) -> Result<Self, ApiError> {
        reader.needs(Right::Trail)?;
        Ok(Self { state, reader })
    }

    /// The newest first, and the cursor of what is older. What is appended meanwhile moves nothing.
    pub async fn page(&self, wanted: &Wanted) -> Result<(Vec<AuditRow>, Option<String>), ApiError> {
        self.reads().note("trail", "").await?;
        self.rows(wanted).await
    }

    /// The same beneath the answer of `verify`, which has its own row.
    pub async fn rows(&self, wanted: &Wanted) -> Result<(Vec<AuditRow>, Option<String>), ApiError> {
        let found = self.state.db.audit_rows(&wanted.query, wanted.limit + 1);
        let mut rows = ask(self.state, found).await?;
        let more = rows.len() > wanted.limit;
        rows.truncate(wanted.limit);
        let next = rows.last().and_then(|row| row.seq).filter(|_| more);
        let rows = rows.into_iter().map(|row| as_seen(self.reader, row));
        Ok((rows.collect(), next.map(|seq| seq.to_string())))
    }

    pub async fn verify(&self) -> Result<ChainReport, ApiError> {
        self.reads().note("audit_verify", "").await?;
        // A long trail takes its time; this one question is not cut short.
        self.state.db.verify_audit().await.map_err(|error| {
            tracing::error!(%error, "the audit trail cannot be verified");
            ApiError::unavailable("database")
        })
    }

    /// All rows of the chain in their order as NDJSON, page by page as the reader takes them.
    pub async fn export(
        &self,
    ) -> Result<impl Stream<Item = Result<Bytes, DbError>> + Send + use<>, ApiError> {
        self.reads().note("audit_export", "").await?;
        let end = ask(self.state, self.state.db.audit_end()).await?;
        let (state, reader) = (self.state.clone(), self.reader.clone());
        Ok(stream::try_unfold(0_i64, move |after| {
            let (state, reader) = (state.clone(), reader.clone());
            async move {
                if after >= end {
                    return Ok(None);
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
        }))
    }

    fn reads(&self) -> Reads<'a> {
        Reads::of(self.state, self.reader)
    }
}

/// What others looked for holds numbers, too. Whoever sees them masked cannot compute the chain from an export, and
/// has `verify` for that.
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
