//! Archived originals back in the spool, for what is made from them later. Not a stage: `transcode` and `pair` begin with it.

use crate::archive::contract::ByteRange;
use crate::db::recordings::{Lease, Loaded, ObjectRow};
use crate::domain::digest::Hasher;
use crate::domain::pieces::Pieces;
use crate::domain::recording::{Role, reason};
use crate::spool::Scratch;

use super::handoff::{Tools, Verdict};

/// The original from the archive into the spool, hashed on the way.
pub(super) async fn bring_back(
    tools: &Tools,
    lease: &Lease,
    source: &ObjectRow,
) -> Result<Scratch, Verdict> {
    use futures::StreamExt as _;
    let mut scratch = tools
        .spool
        .scratch(lease.recording_id, lease.token, source.bytes)
        .await?;
    let mut reader = tools
        .archive
        .open(&source.key, source.version_id.as_deref(), None)
        .await?;
    while let Some(chunk) = reader.body.next().await {
        scratch.write(&chunk?).await?;
    }
    let fingerprint = scratch.finish().await?;
    if fingerprint != source.fingerprint() {
        tracing::error!(key = %source.key, "the archived original reads back with another hash");
        return Err(Verdict::later(reason::ARCHIVE_CONFLICT));
    }
    Ok(scratch)
}

/// The segments of a playlist from the archive, joined as they play. Each file is hashed where it is read
/// whole; a stretch of one is held to its length.
pub(super) async fn bring_back_pieces(
    tools: &Tools,
    lease: &Lease,
    loaded: &Loaded,
    pieces: &Pieces,
) -> Result<Scratch, Verdict> {
    use futures::StreamExt as _;
    let mut scratch = tools
        .spool
        .scratch(lease.recording_id, lease.token, 0)
        .await?;
    for piece in &pieces.pieces {
        let is_it =
            |object: &&ObjectRow| object.role == Role::Original && object.sha256 == piece.sha256;
        let Some(object) = loaded.objects.iter().find(is_it) else {
            tracing::error!(recording = %loaded.row.recording_id, sha256 = %piece.sha256, "a segment has no row");
            return Err(Verdict::later(reason::ARCHIVE_CONFLICT));
        };
        let range = piece.stretch.map(|(from, bytes)| ByteRange {
            start: from,
            end_inclusive: from + bytes.max(1) - 1,
        });
        let expected = piece.stretch.map_or(object.bytes, |(_, bytes)| bytes);
        let mut reader = tools
            .archive
            .open(&object.key, object.version_id.as_deref(), range)
            .await?;
        let mut hasher = Hasher::new();
        while let Some(chunk) = reader.body.next().await {
            let chunk = chunk?;
            hasher.update(&chunk);
            scratch.write(&chunk).await?;
        }
        let read = hasher.finish();
        let is_whole = piece.stretch.is_some() || read.sha256 == object.sha256;
        if read.bytes != expected || !is_whole {
            tracing::error!(key = %object.key, "an archived segment reads back with other bytes");
            return Err(Verdict::later(reason::ARCHIVE_CONFLICT));
        }
    }
    scratch.finish().await?;
    Ok(scratch)
}

/// What the decoder made, before it goes to the archive.
pub(super) async fn hash_file(
    path: &std::path::Path,
) -> std::io::Result<crate::domain::digest::Fingerprint> {
    use tokio::io::AsyncReadExt as _;
    let mut file = tokio::fs::File::open(path).await?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = file.read(&mut buffer).await?;
        if n == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..n]);
    }
}
