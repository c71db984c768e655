//! Puts an object into the archive and reads it back: the row first, then the bytes, then the proof.
//!
//! What a newcomer gets wrong: a crash can fall between any two lines here. Because the row names key
//! and hash before the first byte leaves, the next holder of the lease finds out what happened by
//! reading back what the row promises.

use std::time::Duration;

use crate::archive::contract::{ArchiveError, ArchiveErrorKind, Source};
use crate::db::recordings::{Lease, NewObject, ObjectRow, RecordingRow};
use crate::domain::clock::Timestamp;
use crate::domain::keys::{Folder, ObjectKey};
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::Role;
use crate::domain::retry::{RetryAdvice, backoff};

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

/// How long a file may wait in the spool for the archive: where its address dies for good, and where the
/// vendor gives another one.
const MOST_PATIENCE: Duration = Duration::from_secs(48 * 3600);
const LEAST_PATIENCE: Duration = Duration::from_secs(300);

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
    // The file is in our hands, the vendor may not give it again: while the archive is away it waits
    // here, under a lease that is renewed, rather than being thrown away and fetched once more.
    let patience = if row.clocks.link_until == Some(row.deadline_at) {
        MOST_PATIENCE
    } else {
        LEAST_PATIENCE
    };
    let begun = std::time::Instant::now();
    let mut failures = 0;
    loop {
        match put_and_prove(tools, inspected, &key).await {
            Ok(proof) => return Ok(proof),
            Err(error) if error.advice() != RetryAdvice::Never && begun.elapsed() < patience => {
                tracing::warn!(recording = %row.recording_id, %error, "archive away, holding the file");
                tokio::time::sleep(backoff(failures, rand::random())).await;
                failures += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn put_and_prove(
    tools: &Tools,
    inspected: &Inspected,
    key: &ObjectKey,
) -> Result<ArchiveProof, ArchiveError> {
    let source = Source::File(inspected.scratch.path());
    tools
        .archive
        .put(key, source, &inspected.fingerprint, &inspected.mime)
        .await?;
    fail::fail_point!("store.after_put");
    let proof = tools
        .archive
        .read_back(key, None, &inspected.fingerprint)
        .await?;
    fail::fail_point!("store.after_read_back");
    Ok(proof)
}
