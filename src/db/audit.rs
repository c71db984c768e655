//! The audit trail: one row in front of everything that a person sees, hears or changes, chained to the row before it.
//!
//! What a newcomer gets wrong: the chain has one end, and everybody appends there. Rows of one process are gathered
//! into one transaction, which locks the end, writes them and moves it; so searches that come together share a commit.

use sea_orm::DatabaseConnection;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::domain::audit::{ChainReport, Said, beginning, link};
use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;
use crate::domain::ids::new_id;

use super::Database;
use super::connect::{begin, for_update};
use super::error::{DbError, DbErrorKind};
use super::rows;
use super::sql::{count, exec, groups, models, one, vals};

/// Rows in one transaction; also what may wait.
const MOST: usize = 256;
/// For one transaction.
const WRITE_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);
const COLUMNS: usize = 9;
/// Rows looked at together by `verify` and exports.
const PAGE: i64 = 1000;

#[derive(Clone, Debug, PartialEq)]
pub struct AuditEvent {
    /// `cli:{os user}`, `loopback`, `token:{name}`, `account:{name}`.
    pub actor: String,
    /// `search show get list play export retry ...`
    pub action: String,
    /// What was looked for, or whose bytes were taken.
    pub subject: String,
    pub detail: Value,
    /// Where the asker sits: an address, or `local`.
    pub from: String,
    pub at: Timestamp,
}

/// A row as it is stored: with these fields and the hash before it, anybody can compute its hash again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AuditRow {
    /// Null for rows from before the chain.
    pub seq: Option<i64>,
    pub audit_id: Uuid,
    pub at: Timestamp,
    pub at_ms: i64,
    pub actor: String,
    pub action: String,
    pub subject: String,
    /// JSON text, word for word.
    pub detail: String,
    pub from: String,
    #[schema(value_type = Option<String>)]
    pub hash: Option<Sha256>,
}

/// Which rows of the trail.
#[derive(Clone, Debug, Default)]
pub struct TrailQuery {
    pub actor: Option<String>,
    pub action: Option<String>,
    /// Exactly this.
    pub subject: Option<String>,
    /// Inclusive.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
    /// Only rows before this one.
    pub before_seq: Option<i64>,
}

type Waiting = (AuditEvent, oneshot::Sender<Result<(), DbError>>);

#[derive(Debug)]
pub(super) struct Trail {
    waiting: mpsc::Sender<Waiting>,
}

impl Trail {
    pub fn start(writer: DatabaseConnection) -> Self {
        let (waiting, mut rows) = mpsc::channel::<Waiting>(MOST);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(MOST);
            while rows.recv_many(&mut batch, MOST).await > 0 {
                let (events, answers): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut batch).into_iter().unzip();
                let late = || {
                    DbError::new(
                        DbErrorKind::Unavailable,
                        "the audit trail takes no row in time",
                    )
                };
                let written = tokio::time::timeout(WRITE_WITHIN, append(&writer, &events)).await;
                let written = written.unwrap_or_else(|_| Err(late()));
                for answer in answers {
                    let _ = answer.send(written.clone());
                }
            }
        });
        Self { waiting }
    }
}

/// All or none.
async fn append(writer: &DatabaseConnection, events: &[AuditEvent]) -> Result<(), DbError> {
    match append_chained(writer, events).await {
        // A backup before an upgrade: the schema has no chain yet, and this row will be one from before it.
        Err(error) if error.kind() == DbErrorKind::Schema => append_plain(writer, events).await,
        done => done,
    }
}

async fn append_chained(writer: &DatabaseConnection, events: &[AuditEvent]) -> Result<(), DbError> {
    let txn = begin(writer).await?;
    let sql = format!(
        "select * from audit_head where head = 1{}",
        for_update(&txn)
    );
    let heads: Vec<entity::audit_head::Model> = models(&txn, sql, vec![]).await?;
    let Some(head) = heads.into_iter().next() else {
        return Err(DbError::new(
            DbErrorKind::Other,
            "the end of the audit trail is not there",
        ));
    };
    let (mut seq, mut hash) = (head.seq, end_of(&head)?);
    let mut values = Vec::with_capacity(events.len() * COLUMNS);
    for event in events {
        seq += 1;
        let id = new_id(event.at);
        // As it will be stored: what is hashed must be what is read back.
        let [actor, action, subject, detail, from] = [
            &event.actor,
            &event.action,
            &event.subject,
            &rows::text(&event.detail),
            &event.from,
        ]
        .map(|text| text.replace('\0', "\u{fffd}"));
        let said = Said {
            seq,
            audit_id: id,
            at: event.at,
            actor: &actor,
            action: &action,
            subject: &subject,
            detail: &detail,
            from: &from,
        };
        hash = link(&hash, &said);
        values.extend(vals![
            id,
            event.at.ms(),
            actor,
            action,
            subject,
            detail,
            from,
            seq,
            hash.as_bytes().to_vec()
        ]);
    }
    let sql = format!(
        "insert into audit_event (audit_id, at_ms, actor, action, subject, detail, came_from, seq, hash) values {}",
        groups(1, events.len(), COLUMNS)
    );
    exec(&txn, sql, values).await?;
    exec(
        &txn,
        "update audit_head set seq = $1, hash = $2 where head = 1",
        vals![seq, hash.as_bytes().to_vec()],
    )
    .await?;
    txn.commit().await?;
    Ok(())
}

async fn append_plain(writer: &DatabaseConnection, events: &[AuditEvent]) -> Result<(), DbError> {
    for event in events {
        exec(
            writer,
            "insert into audit_event (audit_id, at_ms, actor, action, subject, detail, came_from) \
             values ($1, $2, $3, $4, $5, $6, $7)",
            vals![
                new_id(event.at),
                event.at.ms(),
                event.actor.as_str(),
                event.action.as_str(),
                event.subject.as_str(),
                rows::text(&event.detail),
                event.from.as_str()
            ],
        )
        .await?;
    }
    Ok(())
}

fn end_of(head: &entity::audit_head::Model) -> Result<Sha256, DbError> {
    match &head.hash {
        Some(hash) => rows::sha256(hash),
        None => Ok(beginning(head.earlier)),
    }
}

impl Database {
    /// Written before anything leaves: no row, no access.
    pub async fn audit(&self, event: AuditEvent) -> Result<(), DbError> {
        let gone = || {
            DbError::new(
                DbErrorKind::Unavailable,
                "the writer of the audit trail has ended",
            )
        };
        let (answer, answered) = oneshot::channel();
        let waiting = &self.inner.trail.waiting;
        waiting.send((event, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// The newest rows first, at most `limit`.
    pub async fn audit_trail(&self, limit: usize) -> Result<Vec<AuditEvent>, DbError> {
        let rows: Vec<entity::audit_event::Model> = models(
            self.reader(),
            "select * from audit_event order by at_ms desc, audit_id desc limit $1",
            vals![i64::try_from(limit).unwrap_or(i64::MAX)],
        )
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(AuditEvent {
                    detail: rows::json(&row.detail)?,
                    actor: row.actor,
                    action: row.action,
                    subject: row.subject,
                    from: row.came_from,
                    at: Timestamp::from_ms(row.at_ms),
                })
            })
            .collect()
    }

    /// Rows of the chain, the newest first, at most `limit`.
    pub async fn audit_rows(
        &self,
        query: &TrailQuery,
        limit: usize,
    ) -> Result<Vec<AuditRow>, DbError> {
        let found: Vec<entity::audit_event::Model> = models(
            self.reader(),
            "select * from audit_event where seq is not null and seq < $1 \
             and ($2 = '' or actor = $2) and ($3 = '' or action = $3) and ($4 = '' or subject = $4) \
             and at_ms >= $5 and at_ms < $6 order by seq desc limit $7",
            vals![
                query.before_seq.unwrap_or(i64::MAX),
                query.actor.clone().unwrap_or_default(),
                query.action.clone().unwrap_or_default(),
                query.subject.clone().unwrap_or_default(),
                query.from.map_or(i64::MIN, Timestamp::ms),
                query.to.map_or(i64::MAX, Timestamp::ms),
                i64::try_from(limit).unwrap_or(i64::MAX)
            ],
        )
        .await?;
        found.into_iter().map(row).collect()
    }

    /// The rows of the chain behind `seq`, in their order; empty at its end. For exports, page by page.
    pub async fn audit_rows_after(&self, seq: i64) -> Result<Vec<AuditRow>, DbError> {
        let found: Vec<entity::audit_event::Model> = models(
            self.reader(),
            "select * from audit_event where seq > $1 order by seq limit $2",
            vals![seq, PAGE],
        )
        .await?;
        found.into_iter().map(row).collect()
    }

    /// Computes the whole chain again, up to where its end was when this began.
    pub async fn verify_audit(&self) -> Result<ChainReport, DbError> {
        let heads: Vec<entity::audit_head::Model> = models(
            self.reader(),
            "select * from audit_head where head = 1",
            vec![],
        )
        .await?;
        let Some(head) = heads.into_iter().next() else {
            return Ok(ChainReport {
                whole: false,
                rows: 0,
                earlier: 0,
                last_seq: 0,
                last_hash: beginning(0),
                broken_seq: Some(0),
                what: Some("the row that holds the end of the chain is gone".to_owned()),
            });
        };
        let mut report = ChainReport {
            whole: true,
            rows: 0,
            earlier: u64::try_from(head.earlier).unwrap_or(0),
            last_seq: head.seq,
            last_hash: end_of(&head)?,
            broken_seq: None,
            what: None,
        };
        let broken = |report: &mut ChainReport, seq: i64, what: String| {
            report.whole = false;
            report.broken_seq = Some(seq);
            report.what = Some(what);
        };
        let earlier = count(
            self.reader(),
            "select count(*) from audit_event where seq is null",
            vec![],
        )
        .await?;
        if earlier != report.earlier {
            let told = report.earlier;
            broken(
                &mut report,
                0,
                format!("{told} rows were there before the chain began, now there are {earlier}"),
            );
            return Ok(report);
        }
        let (mut seq, mut hash) = (0, beginning(head.earlier));
        while seq < head.seq {
            let page = self.audit_rows_after(seq).await?;
            for row in &page {
                let at = row.seq.unwrap_or_default();
                if at > head.seq && seq == head.seq {
                    break;
                }
                if at != seq + 1 {
                    broken(
                        &mut report,
                        seq + 1,
                        format!("row {} is not there", seq + 1),
                    );
                    return Ok(report);
                }
                seq = at;
                hash = link(&hash, &row.said(seq));
                if row.hash != Some(hash) {
                    broken(
                        &mut report,
                        seq,
                        format!(
                            "row {seq} ({}, {} {}) is not what was written, or the row before it is not",
                            row.at, row.actor, row.action
                        ),
                    );
                    return Ok(report);
                }
                report.rows += 1;
            }
            if page.is_empty() {
                broken(
                    &mut report,
                    seq + 1,
                    format!("the rows from {} on are not there", seq + 1),
                );
                return Ok(report);
            }
        }
        if hash != report.last_hash {
            broken(
                &mut report,
                seq,
                "the end of the chain is not the hash of its last row".to_owned(),
            );
        }
        Ok(report)
    }

    /// The number of the last row of the chain; 0 when there is none yet.
    pub async fn audit_end(&self) -> Result<i64, DbError> {
        let row = one(
            self.reader(),
            "select seq from audit_head where head = 1",
            vec![],
        )
        .await?;
        Ok(row.map_or(Ok(0), |row| row.try_get_by_index(0))?)
    }

    /// The hash of row `seq`: for an end of the chain that was noted elsewhere.
    pub async fn audit_hash(&self, seq: i64) -> Result<Option<Sha256>, DbError> {
        let found = one(
            self.reader(),
            "select hash from audit_event where seq = $1",
            vals![seq],
        )
        .await?;
        found
            .map(|row| rows::sha256(&row.try_get_by_index::<Vec<u8>>(0)?))
            .transpose()
    }
}

impl AuditRow {
    fn said(&self, seq: i64) -> Said<'_> {
        Said {
            seq,
            audit_id: self.audit_id,
            at: self.at,
            actor: &self.actor,
            action: &self.action,
            subject: &self.subject,
            detail: &self.detail,
            from: &self.from,
        }
    }
}

fn row(row: entity::audit_event::Model) -> Result<AuditRow, DbError> {
    Ok(AuditRow {
        seq: row.seq,
        audit_id: row.audit_id,
        at: Timestamp::from_ms(row.at_ms),
        at_ms: row.at_ms,
        actor: row.actor,
        action: row.action,
        subject: row.subject,
        detail: row.detail,
        from: row.came_from,
        hash: row.hash.as_deref().map(rows::sha256).transpose()?,
    })
}
