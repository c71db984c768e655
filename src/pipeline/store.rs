//! Puts an object into the archive and reads it back: the row first, then the bytes, then the proof.
//!
//! What a newcomer gets wrong: a crash can fall between any two lines here. Because the row names key
//! and hash before the first byte leaves, the next holder of the lease finds out what happened by
//! reading back what the row promises.

use std::collections::HashSet;
use std::path::Path;

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
use crate::spool::{Kept, Scratch};

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

/// The file of a planned original that an earlier lease left in this machine's spool: the archive did not
/// take it then, or the process ended. No new download.
pub async fn take_up(
    tools: &Tools,
    row: &RecordingRow,
    objects: &[ObjectRow],
) -> Result<Option<Inspected>, Verdict> {
    for original in objects.iter().rev() {
        if original.role != Role::Original || original.verified_at.is_some() {
            continue;
        }
        let fingerprint = original.fingerprint();
        let scratch = match tools
            .spool
            .take_kept(row.recording_id, &fingerprint)
            .await?
        {
            Kept::Nothing => continue,
            // Of a process that is stopping, or has lost its lease and does not know yet.
            Kept::Held => return Err(Verdict::later(reason::ARCHIVE_UNAVAILABLE)),
            Kept::Taken(scratch) => *scratch,
        };
        tracing::info!(recording = %row.recording_id, "original found in the spool, no new download");
        return Ok(Some(Inspected {
            scratch,
            fingerprint,
            ext: original.key.extension().to_owned(),
            mime: original.mime.clone(),
            notes: row.notes.clone(),
            beside: None,
        }));
    }
    Ok(None)
}

/// Stages the row, keeps the file for it, puts the original (of a playlist: all its files) and reads each back.
pub async fn store(
    tools: &Tools,
    lease: &Lease,
    row: &RecordingRow,
    inspected: &mut Inspected,
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
    if inspected.beside.is_none() {
        // The row names the hash, so from here the file need not be fetched again: whatever ends this
        // lease, the next one on this machine goes on with it. The hand is free meanwhile for what dies
        // sooner. A playlist's files are fetched again instead.
        let fingerprint = inspected.fingerprint;
        inspected.scratch.secure(&fingerprint).await?;
        fail::fail_point!("store.after_keep");
    }
    match put_all(tools, lease, &folder, inspected).await {
        Ok(proofs) => Ok(proofs),
        Err(verdict) => {
            // What the vendor gives again makes room for what it does not.
            if row.link_renewable && !tools.spool.has_plenty() {
                inspected.scratch.release();
            }
            Err(verdict)
        }
    }
}

async fn put_all(
    tools: &Tools,
    lease: &Lease,
    folder: &Folder,
    inspected: &Inspected,
) -> Result<Vec<ArchiveProof>, Verdict> {
    let files = files_of(inspected);
    let mut proofs = Vec::with_capacity(files.len());
    for file in &files {
        let key = folder.original(&file.fingerprint.sha256, file.ext);
        let content = content(tools, lease, inspected, file).await?;
        proofs.push(put_and_prove(tools, &content, file, &key).await?);
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
    Own(Box<Scratch>),
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
    Ok(Content::Own(Box::new(own)))
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
