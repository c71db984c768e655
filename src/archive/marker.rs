//! The marker object that carries the archive's id, so that a database and an archive that do not belong
//! together notice it before anything is written.

use bytes::Bytes;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::contract::{Archive, ArchiveError, ArchiveErrorKind, Source};
use crate::domain::clock::Timestamp;
use crate::domain::digest::Fingerprint;
use crate::domain::keys::ObjectKey;

const SCHEMA: &str = "callvault.archive/1";
/// A marker is some hundred bytes; more is not a marker.
const MOST_BYTES: u64 = 64 * 1024;

/// Unknown fields are left alone: a later version may write more.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    schema: String,
    archive_id: Uuid,
    created_at: Timestamp,
    /// Only where an archive was moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moved_from: Option<String>,
}

/// What an archive's marker says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Moves along with the archive.
    pub archive_id: Uuid,
    /// Which of the places it lay in this is; `None` for the first one.
    pub place: Option<Uuid>,
    /// When it came to this place, or was made.
    pub created_at: Timestamp,
}

/// The id of this archive; `new_id` is written when it has none yet.
///
/// Of two processes that start at once one writes and both return what it wrote.
pub async fn read_or_create_marker(
    archive: &dyn Archive,
    new_id: Uuid,
    now: Timestamp,
) -> Result<Uuid, ArchiveError> {
    if let Some(id) = read_marker(archive).await? {
        return Ok(id);
    }
    let mark = Mark {
        archive_id: new_id,
        place: None,
        created_at: now,
    };
    Ok(write_mark(archive, mark, None).await?.archive_id)
}

/// Writes the marker of a new archive, or of a place that an archive was moved to, and gives what is there then:
/// of two that write at once one wins.
pub async fn write_mark(
    archive: &dyn Archive,
    mark: Mark,
    moved_from: Option<String>,
) -> Result<Mark, ArchiveError> {
    let marker = Marker {
        schema: SCHEMA.to_owned(),
        archive_id: mark.archive_id,
        created_at: mark.created_at,
        place: mark.place,
        moved_from,
    };
    let mut json = serde_json::to_vec_pretty(&marker).map_err(|e| unreadable(archive, e))?;
    json.push(b'\n');
    let fingerprint = Fingerprint::of(&json);
    let key = ObjectKey::marker();
    let bytes = Source::Bytes(Bytes::from(json));
    match archive
        .put(&key, bytes, &fingerprint, "application/json")
        .await
    {
        // What was read back counts: where the store has no conditional put, another may have won.
        Ok(_) => {}
        Err(e) if e.kind() == ArchiveErrorKind::Conflict => {}
        Err(e) => return Err(e),
    }
    read_mark(archive).await?.ok_or_else(|| {
        ArchiveError::new(
            ArchiveErrorKind::Unavailable,
            format!(
                "{key} was written to {} and is not there",
                archive.describe()
            ),
        )
    })
}

/// The id of this archive, `None` when it has no marker yet.
pub async fn read_marker(archive: &dyn Archive) -> Result<Option<Uuid>, ArchiveError> {
    Ok(read_mark(archive).await?.map(|mark| mark.archive_id))
}

/// What the marker says, `None` when there is none yet.
pub async fn read_mark(archive: &dyn Archive) -> Result<Option<Mark>, ArchiveError> {
    let reader = match archive.open(&ObjectKey::marker(), None, None).await {
        Ok(reader) => reader,
        Err(e) if e.kind() == ArchiveErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    if reader.total_bytes > MOST_BYTES {
        return Err(unreadable(archive, "it is too long"));
    }
    let mut json = Vec::new();
    let mut body = reader.body;
    while let Some(piece) = body.next().await {
        json.extend_from_slice(&piece?);
    }
    let marker: Marker = serde_json::from_slice(&json).map_err(|e| unreadable(archive, e))?;
    if marker.schema != SCHEMA {
        return Err(unreadable(
            archive,
            format!("its schema is {:?}", marker.schema),
        ));
    }
    Ok(Some(Mark {
        archive_id: marker.archive_id,
        place: marker.place,
        created_at: marker.created_at,
    }))
}

fn unreadable(
    archive: &dyn Archive,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ArchiveError {
    ArchiveError::new(
        ArchiveErrorKind::Other,
        format!(
            "{} in {} is not a marker of callvault; point [archive] at a place of its own, or bring \
             the marker back from a backup",
            ObjectKey::marker(),
            archive.describe()
        ),
    )
    .with_source(why)
}
