//! Puts derived objects (manifests, access copies, waveforms): row first, then bytes, then proof.
//!
//! Not a stage: `store`, `index` and `transcode` all end in putting something.

use std::path::Path;

use bytes::Bytes;

use crate::archive::contract::{ArchiveErrorKind, Source};
use crate::db::recordings::{Lease, NewObject, ObjectRow};
use crate::domain::clock::Timestamp;
use crate::domain::digest::Fingerprint;
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::Role;

use super::handoff::{Tools, Verdict};

/// Numbers that are tried in a row when keys turn out to be used.
pub const MOST_NUMBERS: u32 = 100;

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

/// Rows of objects that were planned and never came into the archive are taken back, those that
/// did are kept as they are: afterwards every row has its object.
pub async fn tidy_planned(
    tools: &Tools,
    lease: &Lease,
    objects: &[ObjectRow],
    now: Timestamp,
) -> Result<(), Verdict> {
    for object in objects.iter().filter(|o| o.verified_at.is_none()) {
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
                if is_only_original(object, objects) {
                    tracing::error!(recording = %lease.recording_id, key = %object.key, "the original is not in the archive");
                    continue;
                }
                tools.db.drop_object(lease, &object.key, now).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// An archived recording never forgets what its original was, whatever has become of it.
fn is_only_original(object: &ObjectRow, objects: &[ObjectRow]) -> bool {
    let any_verified = |role| {
        let mut of_role = objects.iter().filter(|other| other.role == role);
        of_role.any(|other| other.verified_at.is_some())
    };
    // Before the first manifest it is a plan among others.
    object.role == Role::Original && any_verified(Role::Manifest) && !any_verified(Role::Original)
}
