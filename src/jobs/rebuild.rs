//! The index from the archive alone: every recording's highest manifest becomes its rows again.
//!
//! Calls without recordings, notices and the audit trail are not in the archive; they come back only
//! from a backup of the database. [`complete`] does the same for a database that was restored from a
//! backup: it adds what only the archive knows.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use futures::stream;
use serde::Serialize;
use uuid::Uuid;

use crate::archive::contract::{Archive, ArchiveError};
use crate::archive::marker;
use crate::db::adopt::Adopted;
use crate::db::rebuild::{StoredManifest, ToInsert, is_leftover};
use crate::db::{Database, DbError};
use crate::domain::clock::Timestamp;
use crate::domain::digest::Fingerprint;
use crate::domain::keys::{ObjectKey, manifest_number};
use crate::domain::manifest::Manifest;
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::Role;

/// A manifest describes a handful of objects; anything larger is not one of ours.
const LARGEST_MANIFEST: u64 = 16 * 1024 * 1024;
/// Folders whose rows go into one transaction: a flush of the database costs more than a recording's rows.
const AT_A_TIME: usize = 64;
/// A bucket is far away, so its manifests are asked for together.
const READ_AT_ONCE: usize = 16;

/// Keys and sizes of a folder's objects, as listed.
type Held = BTreeMap<String, u64>;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Added to the index.
    pub recordings: u64,
    /// Known to the index, and brought up to what the archive holds.
    pub completed: u64,
    /// Manifests that were read.
    pub manifests: u64,
    pub findings: Vec<Finding>,
}

impl Report {
    /// Something in the archive has no rows because of what was found: the vendor may bring it again.
    pub fn leaves_out(&self) -> bool {
        let left_out = ["manifest_unreadable", "not_restored", "in_work"];
        self.findings
            .iter()
            .any(|finding| left_out.contains(&finding.code))
    }
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
    #[error("the database is not empty: it holds {0} recordings that no rebuild made")]
    NotEmpty(u64),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Fills an empty database, or goes on filling one that a rebuild began. `on_recording` is told of each
/// one, for a progress line.
pub async fn rebuild(
    db: &Database,
    archive: &dyn Archive,
    now: Timestamp,
    on_recording: impl FnMut(u64),
) -> Result<Report, RebuildError> {
    let held = db.count_not_rebuilt().await?;
    if held > 0 {
        return Err(RebuildError::NotEmpty(held));
    }
    walk(db, archive, Mode::Empty, now, on_recording).await
}

/// Adds to a restored database what only the archive knows: recordings that were archived after the
/// backup, and objects that came to older ones. What is known already is left as it is.
///
/// Before notices are read, for what the vendor tells again would become a second recording.
pub async fn complete(
    db: &Database,
    archive: &dyn Archive,
    now: Timestamp,
    on_recording: impl FnMut(u64),
) -> Result<Report, RebuildError> {
    walk(db, archive, Mode::Missing, now, on_recording).await
}

/// Takes the mark of a restored database away, unless `report` left something out: then the mark stays, work
/// begins all the same, and the archive is read again later.
pub async fn completed(db: &Database, report: &Report) -> Result<(), DbError> {
    if report.leaves_out() {
        return db.restore_is_read().await;
    }
    db.restore_is_complete().await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Empty,
    Missing,
}

async fn walk(
    db: &Database,
    archive: &dyn Archive,
    mode: Mode,
    now: Timestamp,
    mut on_recording: impl FnMut(u64),
) -> Result<Report, RebuildError> {
    // A marker that cannot be read is other commands' trouble; here it only tells of versions.
    let mark = marker::read_mark(archive).await.ok().flatten();
    let mut walk = Walk {
        moved_at: mark
            .filter(|mark| mark.place.is_some())
            .map(|mark| mark.created_at),
        db,
        archive,
        mode,
        now,
        report: Report::default(),
        united: BTreeSet::new(),
        into: BTreeMap::new(),
    };
    // Keys come in byte order, so a recording's objects stand together: one folder at a time.
    let mut folder = String::new();
    let mut held = Held::new();
    let mut waiting: Vec<(String, Held)> = Vec::new();
    let mut objects = archive.list("");
    loop {
        let object = objects.next().await.transpose()?;
        let place = match &object {
            Some(object) => match object.key.as_str().rsplit_once('/') {
                Some((place, _)) => place,
                None => continue,
            },
            None => "",
        };
        if place != folder {
            waiting.push((std::mem::take(&mut folder), std::mem::take(&mut held)));
            folder = place.to_owned();
            if waiting.len() >= AT_A_TIME || object.is_none() {
                walk.folders(std::mem::take(&mut waiting), &mut on_recording)
                    .await?;
            }
        }
        match object {
            Some(object) => held.insert(object.key.to_string(), object.bytes),
            None => break,
        };
    }
    // Last, for the recordings that they went over into may lie behind them.
    for (_, folder) in std::mem::take(&mut walk.united) {
        let mut held = BTreeMap::new();
        let mut objects = archive.list(&format!("{folder}/"));
        while let Some(object) = objects.next().await {
            let object = object?;
            held.insert(object.key.to_string(), object.bytes);
        }
        walk.united_folder(&folder, &held).await?;
    }
    Ok(walk.report)
}

/// What was read of one folder.
#[derive(Debug, Default)]
struct Read {
    folder: String,
    held: Held,
    /// The index has rows of this recording.
    is_known: bool,
    newest: Option<Manifest>,
    stored: Vec<StoredManifest>,
    manifests: u64,
    findings: Vec<Finding>,
}

/// What one walk over the archive's list needs and finds.
struct Walk<'a> {
    db: &'a Database,
    archive: &'a dyn Archive,
    mode: Mode,
    now: Timestamp,
    /// When the archive came to this place: version ids that a manifest named before are another store's.
    moved_at: Option<Timestamp>,
    report: Report,
    /// Folders of recordings that went over into another one, in the order in which they did.
    united: BTreeSet<(Timestamp, String)>,
    /// Which recording went over into which: that one may have gone on itself.
    into: BTreeMap<Uuid, Uuid>,
}

impl Walk<'_> {
    /// Reads the manifests of these folders, some at once, and writes what they tell.
    async fn folders(
        &mut self,
        folders: Vec<(String, Held)>,
        on_recording: &mut impl FnMut(u64),
    ) -> Result<(), RebuildError> {
        let this = &*self;
        let read: Vec<Result<Option<Read>, RebuildError>> = stream::iter(folders)
            .map(|(folder, held)| this.look(folder, held))
            .buffered(READ_AT_ONCE)
            .collect()
            .await;
        let mut told = Vec::new();
        for read in read {
            let Some(read) = read? else { continue };
            told.extend(self.sort_out(read));
        }
        for (manifest, read) in &mut told {
            self.with_joint(manifest, &mut read.held).await?;
        }
        if self.mode == Mode::Empty {
            self.insert(told, on_recording).await?;
            return Ok(());
        }
        for (manifest, read) in told {
            let adopted = self
                .db
                .adopt_manifest(&manifest, &read.stored, &read.held, self.now);
            let adopted = adopted.await;
            self.note(&manifest, &read.held, adopted)?;
            on_recording(self.report.recordings);
        }
        Ok(())
    }

    /// In one transaction; where that fails, one by one, so that one recording that does not fit is named alone.
    async fn insert(
        &mut self,
        told: Vec<(Manifest, Read)>,
        on_recording: &mut impl FnMut(u64),
    ) -> Result<(), RebuildError> {
        let (db, now) = (self.db, self.now);
        let rows: Vec<ToInsert<'_>> = told
            .iter()
            .map(|(manifest, read)| ToInsert {
                manifest,
                manifests: &read.stored,
                held: &read.held,
            })
            .collect();
        let all = db.insert_manifests(&rows, now).await;
        for row in &rows {
            let written = match &all {
                Ok(()) => Ok(()),
                Err(_) => db.insert_manifests(&[*row], now).await,
            };
            self.note(row.manifest, row.held, written.map(|()| Adopted::New))?;
            on_recording(self.report.recordings);
        }
        Ok(())
    }

    /// What a folder tells; `None` when the index knows all of it. `held` is the folder as listed, with sizes.
    async fn look(&self, folder: String, held: Held) -> Result<Option<Read>, RebuildError> {
        let mut is_known = false;
        if self.mode == Mode::Missing {
            let id = folder.rsplit('/').next().and_then(|id| id.parse().ok());
            let Some(id) = id else {
                return Ok(None);
            };
            if let Some(known) = self.db.verified_keys(id).await? {
                is_known = true;
                if held.keys().all(|key| known.contains(key)) {
                    return Ok(None);
                }
            }
        }
        let mut read = self.manifests(held).await?;
        read.folder = folder;
        read.is_known = is_known;
        Ok(Some(read))
    }

    /// Puts aside what has no rows of its own, and gives the rest.
    fn sort_out(&mut self, mut read: Read) -> Option<(Manifest, Read)> {
        self.report.manifests += read.manifests;
        self.report.findings.append(&mut read.findings);
        let Some(manifest) = read.newest.take() else {
            // A recording that the index knows is gone on with: its bytes go under the same key.
            if self.mode == Mode::Missing && !read.is_known {
                self.report.findings.push(Finding {
                    code: "no_manifest",
                    key: format!("{}/", read.folder),
                    what: format!(
                        "{} objects without a manifest: the process died while it archived, and nothing tells whose they are; the vendor is asked for the recording again",
                        read.held.len()
                    ),
                });
            }
            return None;
        };
        if let Some(into) = manifest.united_into {
            self.into.insert(manifest.recording.recording_id, into);
            self.united.insert((manifest.written_at, read.folder));
            return None;
        }
        Some((manifest, read))
    }

    async fn united_folder(
        &mut self,
        folder: &str,
        held: &BTreeMap<String, u64>,
    ) -> Result<(), RebuildError> {
        let Read {
            newest,
            stored,
            manifests,
            findings,
            ..
        } = self.manifests(held.clone()).await?;
        self.report.manifests += manifests;
        self.report.findings.extend(findings);
        let Some(mut manifest) = newest else {
            tracing::warn!(folder, "its manifests went away during the walk");
            return Ok(());
        };
        let mut held = held.clone();
        self.with_joint(&manifest, &mut held).await?;
        let held = &held;
        // To the end of the chain; a ring, which nobody writes, ends where it began.
        for _ in 0..self.into.len() {
            let next = manifest.united_into.and_then(|id| self.into.get(&id));
            match next {
                Some(next) => manifest.united_into = Some(*next),
                None => break,
            }
        }
        let written = self
            .db
            .adopt_united(&manifest, &stored, held, self.now)
            .await;
        self.note(&manifest, held, written)
    }

    /// The call's joint copy is named by a recording's manifest and lies in the call's folder: looked for there.
    async fn with_joint(
        &self,
        manifest: &Manifest,
        held: &mut BTreeMap<String, u64>,
    ) -> Result<(), RebuildError> {
        let joint = manifest
            .objects
            .iter()
            .filter(|o| o.role == Role::CallAccess);
        for object in joint {
            if let Some(info) = self.archive.head(&object.key).await? {
                held.insert(object.key.to_string(), info.bytes);
            }
        }
        Ok(())
    }

    /// The sound manifests of a folder, and what the newest of them says.
    async fn manifests(&self, held: Held) -> Result<Read, RebuildError> {
        let manifests: BTreeMap<u32, ObjectKey> = held
            .keys()
            .filter_map(|key| Some((manifest_number(key)?, ObjectKey::stored(key.as_str()))))
            .collect();
        let mut found = Read {
            held,
            ..Read::default()
        };
        for (n, key) in manifests.into_iter().rev() {
            found.manifests += 1;
            let (mut manifest, proof) = match read(self.archive, &key).await {
                Ok(read) => read,
                Err(Unread::Store(error)) => return Err(error.into()),
                Err(Unread::Damaged(what)) => {
                    found.findings.push(Finding {
                        code: "manifest_unreadable",
                        key: key.to_string(),
                        what,
                    });
                    continue;
                }
            };
            if self.moved_at.is_some_and(|at| manifest.written_at < at) {
                for object in &mut manifest.objects {
                    object.version_id = None;
                }
            }
            found.stored.push(StoredManifest {
                n,
                object_id: manifest.object_id,
                written_at: manifest.written_at,
                proof,
            });
            found.newest.get_or_insert(manifest);
        }
        Ok(found)
    }

    fn note(
        &mut self,
        manifest: &Manifest,
        held: &BTreeMap<String, u64>,
        written: Result<Adopted, DbError>,
    ) -> Result<(), RebuildError> {
        let report = &mut self.report;
        match written {
            Ok(Adopted::New) => report.recordings += 1,
            Ok(Adopted::Completed) => report.completed += 1,
            Ok(Adopted::Known) => {}
            Ok(Adopted::Another(id)) => report.findings.push(Finding {
                code: "known_as_another",
                key: manifest.folder.clone(),
                what: format!(
                    "recording {id} goes by the same names; these objects stay without rows"
                ),
            }),
            Ok(Adopted::InWork) => report.findings.push(Finding {
                code: "in_work",
                key: manifest.folder.clone(),
                what: "a worker is at this recording; it is looked at again".to_owned(),
            }),
            Err(error) if error.is_unavailable() => return Err(error.into()),
            // One recording that does not fit must not keep the others out of the index.
            Err(error) => report.findings.push(Finding {
                code: "not_restored",
                key: manifest.folder.clone(),
                what: error.to_string(),
            }),
        }
        report.findings.extend(missing(manifest, held));
        Ok(())
    }
}

/// What the manifest names and the archive does not hold as it says. That something lies there with the
/// right length is no proof of its bytes; reading all of it is the fixity check's work.
fn missing(manifest: &Manifest, held: &BTreeMap<String, u64>) -> Vec<Finding> {
    let expected = manifest
        .objects
        .iter()
        .filter(|o| !is_leftover(o, manifest, held));
    let finding = |code, key: &ObjectKey, what| Finding {
        code,
        key: key.to_string(),
        what,
    };
    expected
        .filter_map(|object| match held.get(object.key.as_str()) {
            None => Some(finding(
                "object_missing",
                &object.key,
                format!(
                    "the manifest names this {}, it is not there",
                    object.role.as_str()
                ),
            )),
            Some(bytes) if *bytes != object.bytes => Some(finding(
                "object_size",
                &object.key,
                format!("{bytes} bytes where the manifest says {}", object.bytes),
            )),
            Some(_) => None,
        })
        .collect()
}

/// Why a manifest was not read.
enum Unread {
    /// The store does not give anything now: nothing is said about the manifest.
    Store(ArchiveError),
    Damaged(String),
}

impl From<ArchiveError> for Unread {
    fn from(error: ArchiveError) -> Self {
        match error.kind().is_of_the_object() {
            true => Self::Damaged(error.to_string()),
            false => Self::Store(error),
        }
    }
}

/// One manifest, for whoever only wants to know what it says; the text says why it could not be had.
pub(super) async fn read_manifest(
    archive: &dyn Archive,
    key: &ObjectKey,
) -> Result<Manifest, String> {
    match read(archive, key).await {
        Ok((manifest, _)) => Ok(manifest),
        Err(Unread::Store(error)) => Err(error.whole()),
        Err(Unread::Damaged(what)) => Err(what),
    }
}

async fn read(archive: &dyn Archive, key: &ObjectKey) -> Result<(Manifest, ArchiveProof), Unread> {
    let mut reader = archive.open(key, None, None).await?;
    if reader.total_bytes > LARGEST_MANIFEST {
        let what = format!("{} bytes is no manifest", reader.total_bytes);
        return Err(Unread::Damaged(what));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    let damaged = |error: &dyn std::fmt::Display| Unread::Damaged(error.to_string());
    let manifest = Manifest::from_bytes(&bytes).map_err(|error| damaged(&error))?;
    let proof = archive
        .read_back(key, None, &Fingerprint::of(&bytes))
        .await?;
    Ok((manifest, proof))
}
