//! Puts an object into the archive and reads it back: the row first, then the bytes, then the proof.
//!
//! What a newcomer gets wrong: a crash can fall between any two lines here. Because the row names key
//! and hash before the first byte leaves, the next holder of the lease finds out what happened by
//! reading back what the row promises.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::archive::contract::{ArchiveError, ArchiveErrorKind, Source};
use crate::db::originals::main_original;
use crate::db::recordings::{Lease, NewObject, ObjectRow, RecordingRow};
use crate::domain::clock::Timestamp;
use crate::domain::digest::{Fingerprint, Sha256};
use crate::domain::keys::{Folder, ObjectKey};
use crate::domain::pieces::Pieces;
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::{Role, reason};
use crate::domain::retry::{RetryAdvice, backoff};
use crate::spool::Scratch;

use super::handoff::{Held, Inspected, Tools, Verdict};

/// The original that an earlier holder of the lease already brought into the archive, if it did; of a
/// playlist all files that it names, or none.
pub async fn adopt(
    tools: &Tools,
    row: &RecordingRow,
    objects: &[ObjectRow],
) -> Result<Option<Vec<ArchiveProof>>, Verdict> {
    let Some(main) = main_original(objects.iter()) else {
        return Ok(None);
    };
    let pieces = Pieces::of(main.settings.as_ref()).unwrap_or_default();
    let named: HashSet<&Sha256> = pieces.files().collect();
    let others = objects.iter().filter(|object| {
        object.role == Role::Original
            && object.object_id != main.object_id
            && named.contains(&object.sha256)
    });
    let mut proofs = Vec::with_capacity(1 + named.len());
    for original in std::iter::once(main).chain(others) {
        match there(tools, row, original).await? {
            Some(proof) => proofs.push(proof),
            None => return Ok(None),
        }
    }
    tracing::info!(recording = %row.recording_id, files = proofs.len(), "original found in the archive, no new download");
    Ok(Some(proofs))
}

async fn there(
    tools: &Tools,
    row: &RecordingRow,
    original: &ObjectRow,
) -> Result<Option<ArchiveProof>, Verdict> {
    match tools
        .archive
        .read_back(
            &original.key,
            original.version_id.as_deref(),
            &original.fingerprint(),
        )
        .await
    {
        Ok(proof) => Ok(Some(proof)),
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

/// Stages the row, puts the original (of a playlist: all its files) and reads each back.
pub async fn store(
    tools: &Tools,
    lease: &Lease,
    row: &RecordingRow,
    inspected: &Inspected,
    now: Timestamp,
) -> Result<Vec<ArchiveProof>, Verdict> {
    let folder = match &row.folder {
        Some(folder) => folder.clone(),
        None => Folder::of_recording(
            &row.source,
            row.call.started_at.unwrap_or(row.call_arrived_at),
            row.recording_id,
        ),
    };
    let files = files_of(inspected);
    let rows = files.iter().map(|file| NewObject {
        role: Role::Original,
        key: folder.original(&file.fingerprint.sha256, file.ext),
        bytes: file.fingerprint.bytes,
        sha256: file.fingerprint.sha256,
        mime: file.mime.to_owned(),
        settings: file.settings.clone(),
        ..NewObject::default_at(now)
    });
    tools
        .db
        .stage_all(lease, &folder, rows.collect(), now)
        .await?;
    fail::fail_point!("store.after_stage");
    // The file is in our hands, the vendor may not give it again: while the archive is away it waits
    // here, under a lease that is renewed, rather than being thrown away and fetched once more.
    let patience = if row.clocks.link_until == Some(row.deadline_at) {
        MOST_PATIENCE
    } else {
        LEAST_PATIENCE
    };
    let begun = std::time::Instant::now();
    let mut proofs = Vec::with_capacity(files.len());
    for file in &files {
        let key = folder.original(&file.fingerprint.sha256, file.ext);
        let content = content(tools, lease, inspected, file).await?;
        let mut failures = 0;
        let proof = loop {
            match put_and_prove(tools, &content, file, &key).await {
                Ok(proof) => break proof,
                Err(error)
                    if error.advice() != RetryAdvice::Never && begun.elapsed() < patience =>
                {
                    tracing::warn!(recording = %row.recording_id, %error, "archive away, holding the file");
                    tokio::time::sleep(backoff(failures, rand::random())).await;
                    failures += 1;
                }
                Err(error) => return Err(error.into()),
            }
        };
        proofs.push(proof);
        if proofs.len() < files.len() {
            fail::fail_point!("store.between_files");
        }
    }
    Ok(proofs)
}

/// One file of the recording, as it goes into the archive.
struct Outgoing<'a> {
    fingerprint: Fingerprint,
    ext: &'a str,
    mime: &'a str,
    settings: Option<serde_json::Value>,
    /// `None`: the scratch file of what the address gave.
    held: Option<&'a Held>,
}

/// What the address gave first, then what a playlist named.
fn files_of(inspected: &Inspected) -> Vec<Outgoing<'_>> {
    let beside = inspected.beside.as_ref();
    let mut files = vec![Outgoing {
        fingerprint: inspected.fingerprint,
        ext: &inspected.ext,
        mime: &inspected.mime,
        settings: beside.map(|beside| beside.pieces.to_settings()),
        held: None,
    }];
    for file in beside.into_iter().flat_map(|beside| &beside.files) {
        files.push(Outgoing {
            fingerprint: file.fingerprint,
            ext: &file.ext,
            mime: &file.mime,
            settings: None,
            held: Some(&file.held),
        });
    }
    files
}

enum Content<'a> {
    File(&'a Path),
    Bytes(Bytes),
    /// A stretch of the joined segments that is too large for memory, in a file of its own.
    Own(Scratch),
}

/// Segments up to this size are put from memory.
const IN_MEMORY_BYTES: u64 = 16 << 20;

async fn content<'a>(
    tools: &Tools,
    lease: &Lease,
    inspected: &'a Inspected,
    file: &Outgoing<'a>,
) -> Result<Content<'a>, Verdict> {
    let (held, beside) = match (file.held, &inspected.beside) {
        (Some(held), Some(beside)) => (held, beside),
        _ => return Ok(Content::File(inspected.scratch.path())),
    };
    let at = match held {
        Held::Bytes(bytes) => return Ok(Content::Bytes(bytes.clone())),
        Held::Joined(at) => *at,
    };
    let cannot_read = |error: std::io::Error| {
        tracing::warn!(%error, "cannot read back a segment");
        Verdict::later(reason::SPOOL_FULL)
    };
    let mut joined = tokio::fs::File::open(beside.joined.path())
        .await
        .map_err(cannot_read)?;
    joined
        .seek(std::io::SeekFrom::Start(at))
        .await
        .map_err(cannot_read)?;
    let mut stretch = joined.take(file.fingerprint.bytes);
    if file.fingerprint.bytes <= IN_MEMORY_BYTES {
        let mut bytes = Vec::new();
        stretch.read_to_end(&mut bytes).await.map_err(cannot_read)?;
        return Ok(Content::Bytes(bytes.into()));
    }
    let mut own = tools
        .spool
        .scratch(lease.recording_id, lease.token, file.fingerprint.bytes)
        .await?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = stretch.read(&mut buffer).await.map_err(cannot_read)?;
        if n == 0 {
            break;
        }
        own.write(&buffer[..n]).await?;
    }
    own.finish().await?;
    Ok(Content::Own(own))
}

async fn put_and_prove(
    tools: &Tools,
    content: &Content<'_>,
    file: &Outgoing<'_>,
    key: &ObjectKey,
) -> Result<ArchiveProof, ArchiveError> {
    let source = match content {
        Content::File(path) => Source::File(path),
        Content::Bytes(bytes) => Source::Bytes(bytes.clone()),
        Content::Own(scratch) => Source::File(scratch.path()),
    };
    tools
        .archive
        .put(key, source, &file.fingerprint, file.mime)
        .await?;
    fail::fail_point!("store.after_put");
    let proof = tools
        .archive
        .read_back(key, None, &file.fingerprint)
        .await?;
    fail::fail_point!("store.after_read_back");
    Ok(proof)
}
