//! Legal holds are carried to the store: on what is there, and on what comes later to a recording that is held.

use uuid::Uuid;

use crate::archive::contract::{Archive, ArchiveError};
use crate::db::{Database, DbError};
use crate::domain::clock::Timestamp;

const PAGE: u64 = 200;

#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    #[error("{}", .0.whole())]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Holds every object that should be held and was not seen to be, of one recording or of all; gives how many.
pub async fn apply(
    db: &Database,
    archive: &dyn Archive,
    recording_id: Option<Uuid>,
    now: Timestamp,
) -> Result<u64, HoldError> {
    let mut held = 0;
    loop {
        let page = db.to_hold(recording_id, PAGE).await?;
        if page.is_empty() {
            return Ok(held);
        }
        for object in page {
            archive
                .set_hold(&object.key, object.version_id.as_deref(), true)
                .await?;
            db.note_held(&object, now).await?;
            held += 1;
        }
    }
}

/// Lifts the hold of a recording: first nothing new is held, then the store lets go, then it is forgotten. Cut short
/// anywhere, it can be done again. `None` when there is no hold, else how many objects were let go.
pub async fn lift(
    db: &Database,
    archive: &dyn Archive,
    recording_id: Uuid,
    by: &str,
) -> Result<Option<u64>, HoldError> {
    if !db.begin_lifting(recording_id, by).await? {
        return Ok(None);
    }
    let objects = db.objects_of(recording_id).await?;
    for object in &objects {
        archive
            .set_hold(&object.key, object.version_id.as_deref(), false)
            .await?;
    }
    db.end_hold(recording_id).await?;
    Ok(Some(objects.len() as u64))
}
