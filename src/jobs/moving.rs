//! `archive move`: everything of one archive into another one, proved there, and then the switch.
//!
//! What a newcomer gets wrong: nothing here is taken on trust. Bytes are held against the row or the manifest on their
//! way out of the old archive, and read back from the new one before they count; so a bit that fell over in the old
//! archive is named and does not travel under a good name. The old archive is only read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::archive::contract::{Archive, ArchiveError, ArchiveErrorKind, Source};
use crate::archive::marker::{self, Mark};
use crate::db::moving::{MoveRow, MovedObject, Switch, ToMove};
use crate::db::processes::ProcessRow;
use crate::db::{Database, DbError};
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::digest::{Fingerprint, Hasher};
use crate::domain::ids::new_id;
use crate::domain::keys::{ObjectKey, manifest_number};

use super::rebuild;

const PAGE: usize = 256;
const AT_ONCE: usize = 8;
/// Larger objects go through a file, so that memory does not grow with them.
const IN_MEMORY: u64 = 4 << 20;
const NOTE_SCHEMA: &str = "callvault.move/1";
const SCRATCH: &str = "archive-move-";

/// What a move did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub from: String,
    pub to: String,
    /// Objects that this run copied and read back.
    pub copied: u64,
    pub copied_bytes: u64,
    /// Of these, objects that no row speaks of (backups, what a killed process left).
    pub without_row: u64,
    /// Objects that lie verified in the new archive, those of earlier runs included.
    pub verified: u64,
    pub findings: Vec<Finding>,
    /// The new archive is the one that counts now.
    pub switched: bool,
    /// These still run; the switch waits until they are stopped.
    pub running: Vec<ProcessRow>,
}

/// An object that did not come over as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `object_damaged` or `object_missing`.
    pub code: &'static str,
    pub key: String,
    pub what: String,
}

#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error("the new archive is the old one: {0}")]
    SamePlace(String),
    #[error("there is an archive already: {0}")]
    IsAnArchive(String),
    #[error("there lie other things already ({1}): {0}")]
    NotEmpty(String, ObjectKey),
    #[error("{to} has room for {free} bytes, {needed} are to come")]
    NoRoom { to: String, needed: u64, free: u64 },
    #[error("the old archive has no marker: {0}")]
    NoArchive(String),
    #[error("{0}")]
    From(ArchiveError),
    #[error("{0}")]
    To(ArchiveError),
    #[error("a file to pass an object through: {0}")]
    Scratch(#[from] std::io::Error),
    #[error(transparent)]
    Database(#[from] DbError),
}

/// What the new archive carries before it is one.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    schema: String,
    archive_id: Uuid,
    place: Uuid,
    begun_at: Timestamp,
}

/// Moves one archive into another place.
#[derive(Clone, Debug)]
pub struct Mover {
    pub db: Database,
    pub from: Arc<dyn Archive>,
    pub to: Arc<dyn Archive>,
    /// Where files lie for as long as one is copied.
    pub scratch: PathBuf,
    pub clock: SharedClock,
    /// Copy what is damaged as it is, and switch although objects are missing.
    pub despite_damage: bool,
}

impl Mover {
    /// Copies what is not there yet, and switches when all is there and nothing runs. Can be called again after
    /// whatever happened; `progress` is told of the objects and bytes that were copied.
    pub async fn run(&self, progress: &(dyn Fn(&Report) + Sync)) -> Result<Report, MoveError> {
        let row = self.begin().await?;
        let scratch = self.scratch()?;
        let mut report = Report {
            from: row.from.clone(),
            to: row.to.clone(),
            ..Report::default()
        };
        self.has_room().await?;
        loop {
            report.findings.clear();
            self.copy_rows(scratch.path(), &mut report, progress)
                .await?;
            self.copy_the_rest(scratch.path(), &mut report, progress)
                .await?;
            report.verified = self.db.count_moved().await?;
            let damaged = report.findings.len();
            if damaged > 0 && !self.despite_damage {
                return Ok(report);
            }
            report.running = self.db.running_processes(self.clock.now()).await?;
            if !report.running.is_empty() {
                return Ok(report);
            }
            // Whatever was deleted behind our back is found before the switch, not after it.
            self.still_there(&row).await?;
            let mark = Mark {
                archive_id: self.identity().await?,
                place: Some(row.place),
                created_at: self.clock.now(),
            };
            let written = marker::write_mark(self.to.as_ref(), mark, Some(row.from.clone())).await;
            let written = written.map_err(MoveError::To)?;
            if written.place != mark.place || written.archive_id != mark.archive_id {
                return Err(MoveError::IsAnArchive(row.to));
            }
            fail::fail_point!("archive_move.before_switch");
            let missing = report
                .findings
                .iter()
                .filter(|f| f.code == "object_missing");
            let missing = missing.count() as u64;
            match self
                .db
                .switch_archive(&row, missing, self.clock.now())
                .await?
            {
                Switch::Done => {
                    report.switched = true;
                    return Ok(report);
                }
                Switch::Running(processes) => {
                    report.running = processes;
                    return Ok(report);
                }
                // A process came and went meanwhile.
                Switch::Behind(_) => {}
            }
        }
    }

    async fn identity(&self) -> Result<Uuid, MoveError> {
        let mark = marker::read_mark(self.from.as_ref()).await;
        let mark = mark.map_err(MoveError::From)?;
        mark.map(|mark| mark.archive_id)
            .ok_or_else(|| MoveError::NoArchive(self.from.describe()))
    }

    /// Finds out whether the new place is empty, or the one that an earlier run began to fill, and remembers it.
    async fn begin(&self) -> Result<MoveRow, MoveError> {
        let (from, to) = (self.from.describe(), self.to.describe());
        if from == to {
            return Err(MoveError::SamePlace(to));
        }
        let archive_id = self.identity().await?;
        let note = self.note().await?;
        let under_way = self.db.move_under_way().await?;
        let mark = marker::read_mark(self.to.as_ref())
            .await
            .map_err(MoveError::To)?;
        if let (Some(row), Some(note)) = (under_way, &note)
            && row.place == note.place
            && mark
                .is_none_or(|mark| mark.place == Some(row.place) && mark.archive_id == archive_id)
        {
            return Ok(row);
        }
        if mark.is_some() {
            return Err(MoveError::IsAnArchive(to));
        }
        let now = self.clock.now();
        let place = match note {
            // Of an earlier move of this archive, of which this database does not know any more: it is gone on with.
            Some(note) if note.archive_id == archive_id => note.place,
            Some(_) => return Err(MoveError::NotEmpty(to, ObjectKey::move_note())),
            None => {
                let mut objects = self.to.list("");
                while let Some(object) = objects.next().await {
                    let object = object.map_err(MoveError::To)?;
                    if !object.key.stays_behind() {
                        return Err(MoveError::NotEmpty(to, object.key));
                    }
                }
                drop(objects);
                let note = Note {
                    schema: NOTE_SCHEMA.to_owned(),
                    archive_id,
                    place: new_id(now),
                    begun_at: now,
                };
                let json = serde_json::to_vec_pretty(&note).unwrap_or_default();
                self.put(
                    &ObjectKey::move_note(),
                    Source::Bytes(json.clone().into()),
                    &Fingerprint::of(&json),
                    "application/json",
                )
                .await?;
                note.place
            }
        };
        let row = MoveRow {
            place,
            from,
            to,
            at: now,
        };
        self.db.begin_move(&row).await?;
        Ok(row)
    }

    async fn note(&self) -> Result<Option<Note>, MoveError> {
        let key = ObjectKey::move_note();
        let reader = match self.to.open(&key, None, None).await {
            Ok(reader) => reader,
            Err(e) if e.kind() == ArchiveErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(MoveError::To(e)),
        };
        let mut json = Vec::new();
        let mut body = reader.body;
        while let Some(piece) = body.next().await {
            json.extend_from_slice(&piece.map_err(MoveError::To)?);
        }
        let note: Option<Note> = serde_json::from_slice(&json).ok();
        match note.filter(|note| note.schema == NOTE_SCHEMA) {
            Some(note) => Ok(Some(note)),
            None => Err(MoveError::NotEmpty(self.to.describe(), key)),
        }
    }

    fn scratch(&self) -> Result<tempfile::TempDir, MoveError> {
        std::fs::create_dir_all(&self.scratch)?;
        // Of a run that was killed.
        for entry in std::fs::read_dir(&self.scratch)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        Ok(tempfile::Builder::new()
            .prefix(SCRATCH)
            .tempdir_in(&self.scratch)?)
    }

    /// A disk can be asked beforehand; a bucket says it when it is full.
    async fn has_room(&self) -> Result<(), MoveError> {
        let Some(folder) = self.to.folder() else {
            return Ok(());
        };
        let (_, needed) = self.db.left_to_move().await?;
        let Ok(space) = rustix::fs::statvfs(folder) else {
            return Ok(());
        };
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if needed > free {
            let to = self.to.describe();
            return Err(MoveError::NoRoom { to, needed, free });
        }
        Ok(())
    }

    /// What rows speak of, by its version: an object under a delete marker comes over whole.
    async fn copy_rows(
        &self,
        scratch: &Path,
        report: &mut Report,
        progress: &(dyn Fn(&Report) + Sync),
    ) -> Result<(), MoveError> {
        let mut after = String::new();
        loop {
            let page = self.db.to_move(&after, PAGE as u64).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.key.as_str().to_owned();
            self.copy_page(page, scratch, report).await?;
            progress(report);
        }
    }

    /// What lies in the old archive and no row speaks of: held against the folder's manifest, where it names it.
    async fn copy_the_rest(
        &self,
        scratch: &Path,
        report: &mut Report,
        progress: &(dyn Fn(&Report) + Sync),
    ) -> Result<(), MoveError> {
        let mut listed = self.from.list("").chunks(PAGE);
        let named: BTreeSet<String> = report.findings.iter().map(|f| f.key.clone()).collect();
        while let Some(page) = listed.next().await {
            let infos: Vec<_> = page
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(MoveError::From)?;
            let keys: Vec<ObjectKey> = infos
                .into_iter()
                .map(|info| info.key)
                .filter(|key| !key.stays_behind() && !named.contains(key.as_str()))
                .collect();
            let there: BTreeSet<String> = self.db.moved_of(&keys).await?.into_iter().collect();
            let mut rest = Vec::new();
            let mut manifests: (String, BTreeMap<String, Fingerprint>) = Default::default();
            for key in keys {
                if there.contains(key.as_str()) {
                    continue;
                }
                let folder = key
                    .as_str()
                    .rsplit_once('/')
                    .map_or("", |(folder, _)| folder);
                if manifests.0 != folder {
                    manifests = (folder.to_owned(), self.named_by_manifest(folder).await?);
                }
                rest.push((manifests.1.get(key.as_str()).copied(), key));
            }
            let before = report.copied;
            self.copy_known(rest, scratch, report).await?;
            report.without_row += report.copied - before;
            progress(report);
        }
        Ok(())
    }

    /// What the newest sound manifest of a folder says of its objects.
    async fn named_by_manifest(
        &self,
        folder: &str,
    ) -> Result<BTreeMap<String, Fingerprint>, MoveError> {
        let mut found = BTreeMap::new();
        if folder.starts_with("_callvault") {
            return Ok(found);
        }
        let prefix = format!("{folder}/");
        let mut numbers = BTreeMap::new();
        let mut objects = self.from.list(&prefix);
        while let Some(object) = objects.next().await {
            let key = object.map_err(MoveError::From)?.key;
            if let Some(n) = manifest_number(key.as_str()) {
                numbers.insert(n, key);
            }
        }
        drop(objects);
        for key in numbers.into_values().rev() {
            if let Ok(manifest) = rebuild::read_manifest(self.from.as_ref(), &key).await {
                for object in manifest.objects {
                    let expected = Fingerprint {
                        bytes: object.bytes,
                        sha256: object.sha256,
                    };
                    found.insert(object.key.as_str().to_owned(), expected);
                }
                break;
            }
        }
        Ok(found)
    }

    async fn copy_page(
        &self,
        page: Vec<ToMove>,
        scratch: &Path,
        report: &mut Report,
    ) -> Result<(), MoveError> {
        let copies = page.into_iter().map(|object| async move {
            let key = object.key.clone();
            let version = object.version_id.as_deref();
            let copied = self
                .copy(&key, version, Some(object.expected), &object.mime, scratch)
                .await;
            (key, copied)
        });
        self.gather(copies, report).await
    }

    async fn copy_known(
        &self,
        page: Vec<(Option<Fingerprint>, ObjectKey)>,
        scratch: &Path,
        report: &mut Report,
    ) -> Result<(), MoveError> {
        let copies = page.into_iter().map(|(expected, key)| async move {
            let mime = match key.extension() {
                "json" => "application/json",
                _ => "application/octet-stream",
            };
            let copied = self.copy(&key, None, expected, mime, scratch).await;
            (key, copied)
        });
        self.gather(copies, report).await
    }

    async fn gather<F>(
        &self,
        copies: impl Iterator<Item = F>,
        report: &mut Report,
    ) -> Result<(), MoveError>
    where
        F: Future<Output = (ObjectKey, Result<Copied, MoveError>)>,
    {
        let mut done = Vec::new();
        let mut failed = None;
        let mut copies = stream::iter(copies).buffer_unordered(AT_ONCE);
        while let Some((key, copied)) = copies.next().await {
            let finding = |code, what| Finding {
                code,
                key: key.to_string(),
                what,
            };
            match copied {
                Ok(Copied::Whole(object)) => done.push(object),
                Ok(Copied::Damaged(object, what)) => {
                    report.findings.push(finding("object_damaged", what));
                    done.extend(object);
                }
                Ok(Copied::Missing(what)) => {
                    report.findings.push(finding("object_missing", what));
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(copies);
        // What was proved is written down, also when the rest fails.
        self.db.note_moved(&done, self.clock.now()).await?;
        report.copied += done.len() as u64;
        report.copied_bytes += done
            .iter()
            .map(|object| object.fingerprint.bytes)
            .sum::<u64>();
        failed.map_or(Ok(()), Err)
    }

    /// Reads one object out of the old archive, holds it against what it should be, puts it, reads it back.
    async fn copy(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
        expected: Option<Fingerprint>,
        mime: &str,
        scratch: &Path,
    ) -> Result<Copied, MoveError> {
        let reader = match self.from.open(key, version, None).await {
            Ok(reader) => reader,
            Err(e) if e.kind() == ArchiveErrorKind::NotFound => {
                return Ok(Copied::Missing(e.whole()));
            }
            Err(e) => return Err(MoveError::From(e)),
        };
        let mut hasher = Hasher::new();
        let mut body = reader.body;
        let (mut memory, mut file) = (Vec::new(), None);
        if reader.total_bytes > IN_MEMORY {
            let path = tempfile::Builder::new()
                .tempfile_in(scratch)?
                .into_temp_path();
            file = Some((tokio::fs::File::create(&path).await?, path));
        }
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(MoveError::From)?;
            hasher.update(&piece);
            match &mut file {
                Some((file, _)) => file.write_all(&piece).await?,
                None => memory.extend_from_slice(&piece),
            }
        }
        let found = hasher.finish();
        let damage = expected
            .filter(|expected| *expected != found)
            .map(|expected| {
                format!(
                    "{} bytes with sha256 {}, expected {} bytes with {}",
                    found.bytes, found.sha256, expected.bytes, expected.sha256
                )
            });
        if let (Some(what), false) = (&damage, self.despite_damage) {
            return Ok(Copied::Damaged(None, what.clone()));
        }
        let moved = match &mut file {
            Some((file, path)) => {
                file.flush().await?;
                self.put(key, Source::File(path), &found, mime).await?
            }
            None => {
                let source = Source::Bytes(Bytes::from(memory));
                self.put(key, source, &found, mime).await?
            }
        };
        fail::fail_point!("archive_move.copied");
        Ok(match damage {
            Some(what) => Copied::Damaged(Some(moved), what),
            None => Copied::Whole(moved),
        })
    }

    async fn put(
        &self,
        key: &ObjectKey,
        source: Source<'_>,
        expected: &Fingerprint,
        mime: &str,
    ) -> Result<MovedObject, MoveError> {
        let stored = self
            .to
            .put(key, source, expected, mime)
            .await
            .map_err(MoveError::To)?;
        let version = stored.version_id.as_deref();
        let proof = self.to.read_back(key, version, expected).await;
        let proof = proof.map_err(MoveError::To)?;
        Ok(MovedObject {
            key: key.clone(),
            fingerprint: *proof.fingerprint(),
            version_id: proof.version_id().map(str::to_owned),
        })
    }

    /// The new place is still the one that was filled.
    async fn still_there(&self, row: &MoveRow) -> Result<(), MoveError> {
        match self.note().await? {
            Some(note) if note.place == row.place => Ok(()),
            _ => Err(MoveError::NotEmpty(row.to.clone(), ObjectKey::move_note())),
        }
    }
}

/// What became of one object.
enum Copied {
    Whole(MovedObject),
    /// Copied as it is, when that was wanted.
    Damaged(Option<MovedObject>, String),
    Missing(String),
}
