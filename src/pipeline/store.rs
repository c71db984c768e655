//! Puts an object into the archive and reads it back: the row first, then the bytes, then the proof.
//!
//! What a newcomer gets wrong: a crash can fall between any two lines here. Because the row names key
//! and hash before the first byte leaves, the next holder of the lease finds out what happened by
//! reading back what the row promises.

use std::path::Path;

use bytes::Bytes;

use crate::archive::contract::{ArchiveErrorKind, Source};
use crate::db::recordings::{Lease, NewObject, ObjectRow, RecordingRow};
use crate::domain::clock::Timestamp;
use crate::domain::digest::Fingerprint;
use crate::domain::keys::Folder;
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::Role;

use super::handoff::{Inspected, Tools, Verdict};

/// Numbers that are tried in a row when keys turn out to be used.
pub const MOST_NUMBERS: u32 = 100;

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

/// What a derived object (manifest, access copy, waveform) is made of.
pub enum Content<'a> {
    File(&'a Path),
    Bytes(Bytes),
}

/// Puts a derived object, row first, and reads it back. `None` when its key already holds other bytes:
/// the number was used by a holder that lost its lease between row and put; that object is left alone
/// and the caller takes the next number.
pub async fn put_derived(
    tools: &Tools,
    lease: &Lease,
    object: NewObject,
    content: &Content<'_>,
    now: Timestamp,
) -> Result<Option<ArchiveProof>, Verdict> {
    let key = object.key.clone();
    let mime = object.mime.clone();
    let fingerprint = Fingerprint {
        sha256: object.sha256,
        bytes: object.bytes,
    };
    tools.db.add_object(lease, object, now).await?;
    fail::fail_point!("derived.after_row");
    let source = match content {
        Content::File(path) => Source::File(path),
        Content::Bytes(bytes) => Source::Bytes(bytes.clone()),
    };
    match tools.archive.put(&key, source, &fingerprint, &mime).await {
        Ok(_) => {}
        Err(error) if error.kind() == ArchiveErrorKind::Conflict => {
            tracing::warn!(%key, "number already used, taking the next one");
            tools.db.drop_object(lease, &key, now).await?;
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    }
    fail::fail_point!("derived.after_put");
    let proof = tools.archive.read_back(&key, None, &fingerprint).await?;
    Ok(Some(proof))
}

/// The number after the highest one whose object is known to lie in the archive.
pub fn next_number(objects: &[ObjectRow], role: Role) -> u32 {
    1 + objects
        .iter()
        .filter(|o| o.role == role && o.verified_at.is_some())
        .map(|o| o.n)
        .max()
        .unwrap_or(0)
}

/// Rows of derived objects that were planned and never came into the archive are taken back, those that
/// did are kept as they are: afterwards every row has its object.
pub async fn tidy_planned(
    tools: &Tools,
    lease: &Lease,
    objects: &[ObjectRow],
    now: Timestamp,
) -> Result<(), Verdict> {
    for object in objects
        .iter()
        .filter(|o| o.verified_at.is_none() && o.role != Role::Original)
    {
        match tools
            .archive
            .read_back(&object.key, None, &object.fingerprint())
            .await
        {
            Ok(proof) => tools.db.mark_verified(lease, &proof, None, now).await?,
            Err(error)
                if matches!(
                    error.kind(),
                    ArchiveErrorKind::NotFound | ArchiveErrorKind::Mismatch
                ) =>
            {
                tools.db.drop_object(lease, &object.key, now).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
