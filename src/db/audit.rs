//! The audit trail: one row in front of everything that a person sees, hears or changes.

use serde_json::Value;

use crate::domain::clock::Timestamp;
use crate::domain::ids::new_id;

use super::Database;
use super::error::DbError;
use super::rows;
use super::sql::{exec, vals};

#[derive(Clone, Debug, PartialEq)]
pub struct AuditEvent {
    /// `cli:{os user}`, `loopback`, a token's name.
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

impl Database {
    /// Written before anything leaves: no row, no access.
    pub async fn audit(&self, event: AuditEvent) -> Result<(), DbError> {
        exec(
            self.writer(),
            "insert into audit_event (audit_id, at_ms, actor, action, subject, detail, came_from) \
             values ($1, $2, $3, $4, $5, $6, $7)",
            vals![
                new_id(event.at),
                event.at.ms(),
                event.actor,
                event.action,
                event.subject,
                rows::text(&event.detail),
                event.from
            ],
        )
        .await?;
        Ok(())
    }

    /// The newest rows first, at most `limit`.
    pub async fn audit_trail(&self, limit: usize) -> Result<Vec<AuditEvent>, DbError> {
        let rows: Vec<entity::audit_event::Model> = super::sql::models(
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
}
