//! Puts an object into the archive and reads it back: the row first, then the bytes, then the proof.
//!
//! What a newcomer gets wrong: a crash can fall between any two lines here. Because the row names key
//! and hash before the first byte leaves, the next holder of the lease finds out what happened by
//! reading back what the row promises.

use crate::archive::contract::{ArchiveErrorKind, Source};
use crate::db::recordings::{Lease, NewObject, ObjectRow, RecordingRow};
use crate::domain::clock::Timestamp;
use crate::domain::keys::Folder;
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::Role;

use super::handoff::{Inspected, Tools, Verdict};

/// The original that an earlier holder of the lease already brought into the archive, if it did.
pub async fn adopt(
    tools: &Tools,
    row: &RecordingRow,
    objects: &[ObjectRow],
) -> Result<Option<ArchiveProof>, Verdict> {
    let Some(original) = objects.iter().rev().find(|o| o.role == Role::Original) else {
        return Ok(None);
    };
    match tools
        .archive
        .read_back(
            &original.key,
            original.version_id.as_deref(),
            &original.fingerprint(),
        )
        .await
    {
        Ok(proof) => {
            tracing::info!(recording = %row.recording_id, "original found in the archive, no new download");
            Ok(Some(proof))
        }
        Err(error) if error.kind() == ArchiveErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ArchiveErrorKind::Mismatch => {
            tracing::error!(recording = %row.recording_id, %error, "staged original differs in the archive");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Stages the row, puts the original and reads it back.
pub async fn store(
    tools: &Tools,
    lease: &Lease,
    row: &RecordingRow,
    inspected: &Inspected,
    now: Timestamp,
) -> Result<ArchiveProof, Verdict> {
    let folder = match &row.folder {
        Some(folder) => folder.clone(),
        None => Folder::of_recording(
            &row.source,
            row.call.started_at.unwrap_or(row.call_arrived_at),
            row.recording_id,
        ),
    };
    let key = folder.original(&inspected.fingerprint.sha256, &inspected.ext);
    let object = NewObject {
        role: Role::Original,
        key: key.clone(),
        bytes: inspected.fingerprint.bytes,
        sha256: inspected.fingerprint.sha256,
        mime: inspected.mime.clone(),
        ..NewObject::default_at(now)
    };
    tools.db.stage(lease, &folder, object, now).await?;
    fail::fail_point!("store.after_stage");
    tools
        .archive
        .put(
            &key,
            Source::File(inspected.scratch.path()),
            &inspected.fingerprint,
            &inspected.mime,
        )
        .await?;
    fail::fail_point!("store.after_put");
    let proof = tools
        .archive
        .read_back(&key, None, &inspected.fingerprint)
        .await?;
    fail::fail_point!("store.after_read_back");
    Ok(proof)
}
