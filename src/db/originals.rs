//! The originals of a recording: usually one, several when it came as a playlist and its segments.
//!
//! Which one counts is decided in one place, `main_original`: it is what pages, API and `get` show, and what
//! the access copy is said to be made from.

use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;
use crate::domain::keys::Folder;
use crate::domain::pieces::Pieces;
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::Role;

use super::Database;
use super::error::{DbError, DbErrorKind};
use super::recordings::{Lease, NewObject, ObjectRow};
use super::rows;
use super::sql::{all, exec, models, vals};

/// The playlist where there is one (the newest), else the newest original. `objects` stand in order of number.
pub fn main_original<'a>(
    objects: impl DoubleEndedIterator<Item = &'a ObjectRow> + Clone,
) -> Option<&'a ObjectRow> {
    let originals = objects.filter(|object| object.role == Role::Original);
    originals
        .clone()
        .rev()
        .find(|object| Pieces::of(object.settings.as_ref()).is_some())
        .or_else(|| originals.clone().next_back())
}

impl Database {
    /// Says `staged`, fixes the folder and plans the originals, before any byte goes to the archive; the
    /// first one names the others. All rows or none.
    pub async fn stage_all(
        &self,
        lease: &Lease,
        folder: &Folder,
        originals: Vec<NewObject>,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        super::objects::stage_in(&txn, lease, folder, now).await?;
        put_originals(&txn, lease.recording_id, originals).await?;
        txn.commit().await?;
        Ok(())
    }

    /// `publish` for a recording of several files: the first proof is the playlist's, and every file that it
    /// names must be proven too.
    pub async fn publish_all(
        &self,
        lease: &Lease,
        originals: &[ArchiveProof],
        manifest: &ArchiveProof,
        notes: &[String],
        now: Timestamp,
    ) -> Result<(), DbError> {
        let Some((main, others)) = originals.split_first() else {
            return Err(DbError::new(
                DbErrorKind::Conflict,
                "nothing is published without a proof".to_owned(),
            ));
        };
        for proof in others {
            self.mark_verified(lease, proof, None, now).await?;
        }
        self.needs_no_other(lease.recording_id, main, originals)
            .await?;
        self.publish(lease, main, manifest, notes, now).await
    }

    async fn needs_no_other(
        &self,
        recording_id: Uuid,
        main: &ArchiveProof,
        originals: &[ArchiveProof],
    ) -> Result<(), DbError> {
        let rows: Vec<entity::archive_object::Model> = models(
            self.writer(),
            "select * from archive_object where recording_id = $1 and object_key = $2",
            vals![recording_id, main.key().as_str()],
        )
        .await?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(());
        };
        let (_, object) = rows::object(row)?;
        let pieces = Pieces::of(object.settings.as_ref()).unwrap_or_default();
        let is_proven = |sha256: &Sha256| {
            originals
                .iter()
                .any(|proof| proof.fingerprint().sha256 == *sha256)
        };
        match pieces.files().find(|sha256| !is_proven(sha256)) {
            None => Ok(()),
            Some(sha256) => Err(DbError::new(
                DbErrorKind::Conflict,
                format!("a file of {} is not proven: {sha256}", main.key()),
            )),
        }
    }
}

/// The same bytes again are the same row (with what the playlist says now); others get the next numbers.
pub(super) async fn put_originals(
    txn: &sea_orm::DatabaseTransaction,
    recording_id: Uuid,
    originals: Vec<NewObject>,
) -> Result<(), DbError> {
    let there = all(
        txn,
        "select object_key, n from archive_object where recording_id = $1 and role = 'original'",
        vals![recording_id],
    )
    .await?;
    let mut known = std::collections::HashSet::new();
    let mut next = 1;
    for row in &there {
        known.insert(row.try_get_by_index::<String>(0)?);
        next = next.max(rows::small(row.try_get_by_index::<i64>(1)?) + 1);
    }
    for original in originals {
        if known.insert(original.key.as_str().to_owned()) {
            super::objects::insert_original(txn, recording_id, original, next).await?;
            next += 1;
        } else if let Some(settings) = &original.settings {
            exec(
                txn,
                "update archive_object set settings = $3 \
                 where recording_id = $1 and role = 'original' and object_key = $2",
                vals![recording_id, original.key.as_str(), rows::text(settings)],
            )
            .await?;
        }
    }
    Ok(())
}
