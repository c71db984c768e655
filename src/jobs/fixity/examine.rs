//! One stored object: read whole, held against its row, and what is wrong with it named.
//!
//! What a newcomer gets wrong: an object that is not there may be a disk that is not mounted. Before anything
//! is said about an object, the archive's own marker must be there.

use std::collections::HashMap;

use futures::StreamExt as _;
use uuid::Uuid;

use crate::archive::contract::{Archive, ArchiveError, ArchiveErrorKind, Measured};
use crate::db::Database;
use crate::db::fixity::Kept;
use crate::db::recordings::{Loaded, ObjectRow};
use crate::domain::fixity::Damage;
use crate::domain::keys::ObjectKey;
use crate::domain::manifest::{Manifest, ManifestObject};
use crate::domain::recording::Role;

use super::FixityError;

/// A manifest describes a handful of objects; anything larger is not one of ours.
const LARGEST_MANIFEST: u64 = 16 * 1024 * 1024;
/// Asking whose bytes were found walks over all rows: so often in one run.
const QUESTIONS: u32 = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Whole,
    /// And what lies there instead.
    Damaged(Damage, String),
    /// The store is busy or slow with this one: it is read again, and nothing is said about it.
    NotNow(String),
}

pub(super) struct Examiner<'a> {
    db: &'a Database,
    archive: &'a dyn Archive,
    questions: u32,
}

impl<'a> Examiner<'a> {
    pub fn new(db: &'a Database, archive: &'a dyn Archive) -> Self {
        Self {
            db,
            archive,
            questions: QUESTIONS,
        }
    }

    /// An error when the store does not answer: then nothing is known about the object.
    pub async fn examine(&mut self, kept: &Kept) -> Result<Verdict, FixityError> {
        let object = &kept.object;
        match self.archive.measure(&object.key, None).await {
            Ok(found) if found.fingerprint == object.fingerprint() => {
                self.version_too(kept, &found).await
            }
            Ok(found) => self.other_bytes(object, &found).await,
            Err(error) => {
                if error.kind() == ArchiveErrorKind::NotFound {
                    self.is_answering(&error).await?;
                    return self.missing(object).await;
                }
                self.trouble(error).await
            }
        }
    }

    /// The newest version is right. What is handed out is the version that the row names.
    async fn version_too(&self, kept: &Kept, found: &Measured) -> Result<Verdict, FixityError> {
        let object = &kept.object;
        let other = match (&object.version_id, &found.version_id) {
            (Some(ours), Some(newest)) if ours != newest => Some(ours.as_str()),
            _ => None,
        };
        if let Some(ours) = other {
            match self.archive.measure(&object.key, Some(ours)).await {
                Ok(found) if found.fingerprint == object.fingerprint() => {}
                Ok(found) => {
                    let what = format!("version {ours} holds {}", bytes_of(&found));
                    return Ok(Verdict::Damaged(Damage::Changed, what));
                }
                Err(error) if error.kind() == ArchiveErrorKind::NotFound => {
                    self.is_answering(&error).await?;
                    let what = format!(
                        "version {ours} is gone; a newer version with the same bytes lies there"
                    );
                    return Ok(Verdict::Damaged(Damage::Missing, what));
                }
                Err(error) => return self.trouble(error).await,
            }
        }
        if object.role == Role::Manifest {
            return self.manifest(kept).await;
        }
        Ok(Verdict::Whole)
    }

    async fn other_bytes(
        &mut self,
        object: &ObjectRow,
        found: &Measured,
    ) -> Result<Verdict, FixityError> {
        let mut what = format!(
            "{} bytes with sha256 {} were archived, {} lie there",
            object.bytes,
            object.sha256,
            bytes_of(found)
        );
        if let (Some(ours), true) = (
            object.version_id.as_deref(),
            object.version_id != found.version_id,
        ) && let Ok(below) = self.archive.measure(&object.key, Some(ours)).await
            && below.fingerprint == object.fingerprint()
        {
            what += &format!("; version {ours} below is still whole");
        }
        let owner = if self.questions > 0 {
            self.questions -= 1;
            let (found, id) = (&found.fingerprint, object.object_id);
            self.db.whose_bytes(found, id).await?
        } else {
            None
        };
        Ok(match owner {
            Some(key) => {
                Verdict::Damaged(Damage::Swapped, format!("{what}: they are those of {key}"))
            }
            None if object.role == Role::Manifest => Verdict::Damaged(Damage::ManifestWrong, what),
            None => Verdict::Damaged(Damage::Changed, what),
        })
    }

    async fn missing(&self, object: &ObjectRow) -> Result<Verdict, FixityError> {
        if let Some(ours) = object.version_id.as_deref() {
            match self.archive.measure(&object.key, Some(ours)).await {
                Ok(below) if below.fingerprint == object.fingerprint() => {
                    let what =
                        format!("a delete marker hides it; version {ours} below is still whole");
                    return Ok(Verdict::Damaged(Damage::Hidden, what));
                }
                Ok(below) => {
                    let what = format!("version {ours} holds {}", bytes_of(&below));
                    return Ok(Verdict::Damaged(Damage::Changed, what));
                }
                Err(error) if error.kind() == ArchiveErrorKind::NotFound => {}
                Err(error) => return self.trouble(error).await,
            }
        }
        let what = "nothing lies under its key".to_owned();
        Ok(Verdict::Damaged(Damage::Missing, what))
    }

    async fn all_bytes(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
    ) -> Result<Vec<u8>, ArchiveError> {
        let mut reader = self.archive.open(key, version, None).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reader.body.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }

    /// The object could not be read: what is said of it, if anything.
    async fn trouble(&self, error: ArchiveError) -> Result<Verdict, FixityError> {
        self.is_answering(&error).await?;
        Ok(match error.kind().is_passing() {
            true => Verdict::NotNow(error.whole()),
            false => Verdict::Damaged(Damage::Unreadable, error.whole()),
        })
    }

    /// The marker is there, so the store answers, and it is the archive that it was.
    async fn is_answering(&self, error: &ArchiveError) -> Result<(), FixityError> {
        if self.archive.head(&ObjectKey::marker()).await?.is_some() {
            return Ok(());
        }
        let what = format!("{error}, and the archive's marker is not there either");
        let away = ArchiveError::new(ArchiveErrorKind::Unavailable, what);
        Err(away.into())
    }

    /// Bytes of a manifest that are right by its row must still say what the rows say.
    async fn manifest(&self, kept: &Kept) -> Result<Verdict, FixityError> {
        let object = &kept.object;
        if object.bytes > LARGEST_MANIFEST {
            let what = format!("{} bytes is no manifest", object.bytes);
            return Ok(Verdict::Damaged(Damage::ManifestWrong, what));
        }
        let version = object.version_id.as_deref();
        let bytes = match self.all_bytes(&object.key, version).await {
            Ok(bytes) => bytes,
            Err(error) => return self.trouble(error).await,
        };
        let wrong = match Manifest::from_bytes(&bytes) {
            Err(error) => Some(error.to_string()),
            Ok(manifest) => {
                match self.db.load(kept.recording_id).await {
                    Ok(loaded) => disagreement(&manifest, object, &loaded),
                    Err(error) if error.is_unavailable() => return Err(error.into()),
                    // Of this recording alone: the others are not held up by it.
                    Err(error) => Some(format!("the index cannot be held against it: {error}")),
                }
            }
        };
        Ok(wrong.map_or(Verdict::Whole, |what| {
            Verdict::Damaged(Damage::ManifestWrong, what)
        }))
    }
}

fn bytes_of(found: &Measured) -> String {
    let found = &found.fingerprint;
    format!("{} with sha256 {}", found.bytes, found.sha256)
}

/// In what a manifest and the rows differ that a rebuild would take from it. Facts of the call may be newer in
/// the rows; objects never change.
fn disagreement(manifest: &Manifest, own: &ObjectRow, loaded: &Loaded) -> Option<String> {
    let row = &loaded.row;
    let folder = row.folder.as_ref().map_or("", |folder| folder.as_str());
    if manifest.recording.recording_id != row.recording_id || manifest.folder != folder {
        return Some(format!(
            "it is the manifest of {} in {:.200}",
            manifest.recording.recording_id, manifest.folder
        ));
    }
    if manifest.n != own.n {
        return Some(format!("it calls itself manifest {}", manifest.n));
    }
    let rows: HashMap<Uuid, &ObjectRow> = loaded
        .objects
        .iter()
        .map(|object| (object.object_id, object))
        .collect();
    for named in &manifest.objects {
        match rows.get(&named.object_id) {
            Some(row) if !is_same(named, row) => {
                return Some(format!(
                    "it says {} bytes with sha256 {} of {:.300}, the index says {} with {} of {}",
                    named.bytes,
                    named.sha256,
                    named.key.as_str(),
                    row.bytes,
                    row.sha256,
                    row.key
                ));
            }
            // Planned, and given up before it was read back: its row is gone.
            None if named.verified_at.is_some() => {
                return Some(format!(
                    "it names {:.300}, which the index does not know",
                    named.key.as_str()
                ));
            }
            _ => {}
        }
    }
    let newest = loaded
        .objects
        .iter()
        .filter(|object| object.role == Role::Manifest && object.verified_at.is_some())
        .map(|object| object.n)
        .max();
    if newest != Some(own.n) {
        return None;
    }
    // What was there when the newest manifest was written, a rebuild must find in it.
    loaded
        .objects
        .iter()
        .filter(|object| object.role != Role::Manifest && object.verified_at.is_some())
        .filter(|object| object.created_at < manifest.written_at)
        .find(|object| {
            let is_named = |named: &ManifestObject| named.object_id == object.object_id;
            !manifest.objects.iter().any(is_named)
        })
        .map(|object| format!("it does not name {}", object.key))
}

fn is_same(named: &ManifestObject, row: &ObjectRow) -> bool {
    (named.role, named.n, &named.key) == (row.role, row.n, &row.key)
        && (named.bytes, named.sha256) == (row.bytes, row.sha256)
}
