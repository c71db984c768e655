//! What decoding found in a stored object, and what was measured in it.

use sea_orm::ConnectionTrait;

use crate::domain::keys::ObjectKey;

use super::error::DbError;
use super::recordings::{Lease, ObjectFacts};
use super::rows;
use super::sql::{exec, one, vals};

/// Writes the facts of every row with this key; the caller holds the lease.
pub(super) async fn write_facts<C: ConnectionTrait>(
    c: &C,
    lease: &Lease,
    key: &ObjectKey,
    facts: &ObjectFacts,
) -> Result<(), DbError> {
    exec(
        c,
        "update archive_object set codec = $3, sample_rate_hz = $4, channels = $5, duration_ms = $6 \
         where recording_id = $1 and object_key = $2",
        vals![
            lease.recording_id,
            key.as_str(),
            facts.codec.as_str(),
            i64::from(facts.sample_rate_hz),
            i64::from(facts.channels),
            facts.duration_ms
        ],
    )
    .await?;
    let Some(analysis) = &facts.analysis else {
        return Ok(());
    };
    let written = one(
        c,
        "select settings from archive_object \
         where recording_id = $1 and object_key = $2 and role = 'original'",
        vals![lease.recording_id, key.as_str()],
    )
    .await?;
    let written: Option<String> = match written {
        Some(row) => row.try_get_by_index(0)?,
        None => None,
    };
    let mut settings: serde_json::Value = match &written {
        Some(text) => rows::json(text)?,
        None => serde_json::json!({}),
    };
    if let Some(settings) = settings.as_object_mut() {
        settings.insert("analysis".to_owned(), analysis.clone());
    }
    exec(
        c,
        "update archive_object set settings = $3 \
         where recording_id = $1 and object_key = $2 and role = 'original'",
        vals![lease.recording_id, key.as_str(), rows::text(&settings)],
    )
    .await?;
    Ok(())
}
