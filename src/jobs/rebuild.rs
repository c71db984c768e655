//! The index from the archive alone: every recording's highest manifest becomes its rows again.
//!
//! Calls without recordings, notices and the audit trail are not in the archive; they come back only
//! from a backup of the database.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use serde::Serialize;

use crate::archive::contract::{Archive, ArchiveError};
use crate::db::rebuild::StoredManifest;
use crate::db::{Database, DbError};
use crate::domain::clock::Timestamp;
use crate::domain::digest::Fingerprint;
use crate::domain::keys::{ObjectKey, manifest_number};
use crate::domain::manifest::Manifest;
use crate::domain::proof::ArchiveProof;

/// A manifest describes a handful of objects; anything larger is not one of ours.
const LARGEST_MANIFEST: u64 = 16 * 1024 * 1024;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub recordings: u64,
    pub manifests: u64,
    pub findings: Vec<Finding>,
}

/// Something in the archive that a person should see; the rest is rebuilt all the same.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub code: &'static str,
    pub key: String,
    pub what: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("the database is not empty: it holds {0} recordings")]
    NotEmpty(u64),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Fills an empty database. `on_recording` is told of each one, for a progress line.
pub async fn rebuild(
    db: &Database,
    archive: &dyn Archive,
    now: Timestamp,
    mut on_recording: impl FnMut(u64),
) -> Result<Report, RebuildError> {
    let held = db.count_recordings().await?;
    if held > 0 {
        return Err(RebuildError::NotEmpty(held));
    }
    let mut report = Report::default();
    // Keys come in byte order, so a recording's objects stand together: one folder at a time.
    let mut folder = String::new();
    let mut manifests: BTreeMap<u32, ObjectKey> = BTreeMap::new();
    let mut objects = archive.list("");
    while let Some(object) = objects.next().await {
        let key = object?.key;
        let Some((place, _)) = key.as_str().rsplit_once('/') else {
            continue;
        };
        if place != folder {
            restore(db, archive, &mut manifests, now, &mut report).await?;
            on_recording(report.recordings);
            folder = place.to_owned();
        }
        if let Some(n) = manifest_number(key.as_str()) {
            manifests.insert(n, key);
        }
    }
    restore(db, archive, &mut manifests, now, &mut report).await?;
    Ok(report)
}

/// Writes the rows of one recording from its manifests, the highest sound one counting.
async fn restore(
    db: &Database,
    archive: &dyn Archive,
    manifests: &mut BTreeMap<u32, ObjectKey>,
    now: Timestamp,
    report: &mut Report,
) -> Result<(), RebuildError> {
    let mut newest: Option<Manifest> = None;
    let mut stored: Vec<StoredManifest> = Vec::new();
    for (n, key) in std::mem::take(manifests).into_iter().rev() {
        report.manifests += 1;
        let (manifest, proof) = match read(archive, &key).await {
            Ok(read) => read,
            Err(what) => {
                report.findings.push(Finding {
                    code: "manifest_unreadable",
                    key: key.to_string(),
                    what,
                });
                continue;
            }
        };
        stored.push(StoredManifest {
            n,
            object_id: manifest.object_id,
            written_at: manifest.written_at,
            proof,
        });
        newest.get_or_insert(manifest);
    }
    let Some(manifest) = newest else {
        return Ok(());
    };
    db.insert_manifest(&manifest, &stored, now).await?;
    report.recordings += 1;
    Ok(())
}

async fn read(archive: &dyn Archive, key: &ObjectKey) -> Result<(Manifest, ArchiveProof), String> {
    let mut reader = archive
        .open(key, None, None)
        .await
        .map_err(|error| error.to_string())?;
    if reader.total_bytes > LARGEST_MANIFEST {
        return Err(format!("{} bytes is no manifest", reader.total_bytes));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.body.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| error.to_string())?);
    }
    let manifest = Manifest::from_bytes(&bytes).map_err(|error| error.to_string())?;
    let proof = archive
        .read_back(key, None, &Fingerprint::of(&bytes))
        .await
        .map_err(|error| error.to_string())?;
    Ok((manifest, proof))
}
