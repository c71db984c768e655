//! What the archive holds and the index does not know: after a backup was restored, the recordings that
//! were archived since, and the objects that came to older ones.
//!
//! What a newcomer gets wrong: the vendor's list brings such a recording back too, under a new id, and
//! then its objects lie in the archive twice. So this comes before any notice is read.

use std::collections::BTreeSet;

use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::manifest::Manifest;
use crate::domain::recording::State;

use super::Database;
use super::error::DbError;
use super::fixity::forget_findings;
use super::names::write_names;
use super::objects::record;
use super::rebuild::{
    Held, StoredManifest, insert_call, insert_new, insert_objects, link_notices, row_of,
};
use super::rows;
use super::settle::{is_leased, locked, rest};
use super::sql::{all, exec, vals};

type Row = entity::recording::Model;

/// What became of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// The index did not know the recording.
    New,
    /// It did, and not all of its objects.
    Completed,
    /// It knew all.
    Known,
    /// A recording with another id goes by its name: nothing was changed.
    Another(Uuid),
    /// A worker is at the recording in this moment: nothing was changed.
    InWork,
}

impl Database {
    /// Keys of the recording that the index knows to lie in the archive; `None` when it knows no such
    /// recording.
    pub async fn verified_keys(
        &self,
        recording_id: Uuid,
    ) -> Result<Option<BTreeSet<String>>, DbError> {
        let c = self.reader();
        let sql = "select 1 from recording where recording_id = $1";
        if all(c, sql, vals![recording_id]).await?.is_empty() {
            return Ok(None);
        }
        let sql = "select object_key from archive_object \
                   where recording_id = $1 and verified_at_ms is not null";
        let keys = all(c, sql, vals![recording_id]).await?;
        let keys: Result<_, _> = keys.iter().map(|row| row.try_get_by_index(0)).collect();
        Ok(Some(keys?))
    }

    /// Brings the rows of a recording up to what its newest manifest says. `manifests` and `held` are as
    /// for [`Database::insert_manifest`].
    ///
    /// A lease that ran out ends: whoever held it finds it lost and stops. One that runs is left alone.
    pub async fn adopt_manifest(
        &self,
        manifest: &Manifest,
        manifests: &[StoredManifest],
        held: &Held,
        now: Timestamp,
    ) -> Result<Adopted, DbError> {
        let told = &manifest.recording;
        let txn = self.begin().await?;
        let row = locked(&txn, told.recording_id).await?;
        // A recording that the index knows may share names with another one: the two were united since, and
        // the other one's folder tells it.
        let mut known = vec![told.recording_id];
        for name in &told.aliases {
            let sql = "select recording_id from recording_alias where source = $1 and alias = $2";
            for owner in all(&txn, sql, vals![manifest.source.as_str(), name.as_str()]).await? {
                let owner: Uuid = owner.try_get_by_index(0)?;
                if owner != told.recording_id && row.is_none() {
                    return Ok(Adopted::Another(owner));
                }
                known.push(owner);
            }
        }
        let adopted = match row {
            None => {
                insert_new(&txn, manifest, manifests, held, &[], now).await?;
                Adopted::New
            }
            Some(row) if is_leased(&row, now) => return Ok(Adopted::InWork),
            Some(row) => complete(&txn, row, manifest, manifests, held, &known, now).await?,
        };
        txn.commit().await?;
        Ok(adopted)
    }
}

pub(super) async fn complete(
    txn: &DatabaseTransaction,
    mut row: Row,
    manifest: &Manifest,
    manifests: &[StoredManifest],
    held: &Held,
    known: &[Uuid],
    now: Timestamp,
) -> Result<Adopted, DbError> {
    let before = rows::state(&row.state)?;
    if matches!(before, State::Expired | State::Purged) {
        return Ok(Adopted::Known);
    }
    let call = insert_call(txn, manifest, now).await?;
    let told = row_of(manifest, held, &call, now);
    // The manifest knows of each of these objects at least what the older index did.
    let mut keys: Vec<&str> = manifest.objects.iter().map(|o| o.key.as_str()).collect();
    keys.extend(manifests.iter().map(|stored| stored.proof.key().as_str()));
    for key in keys {
        let sql = "delete from archive_object where recording_id = $1 and object_key = $2";
        exec(txn, sql, vals![row.recording_id, key]).await?;
    }
    // Plans that came to nothing, or whose object went by another name in the end.
    let sql = "delete from archive_object where recording_id = $1 and verified_at_ms is null";
    exec(txn, sql, vals![row.recording_id]).await?;
    let version = row.facts_version;
    insert_objects(txn, manifest, manifests, held, version, now).await?;
    forget_findings(txn).await?;
    link_notices(txn, manifest).await?;

    row.call_id = call.call_id;
    row.state = State::Archived.as_str().to_owned();
    row.access_due = told.access_due;
    row.pair_wanted += told.pair_wanted;
    rest(txn, &mut row, now).await?;
    exec(
        txn,
        "update recording set call_id = $2, at_ms = $3, state = $4, state_since_ms = $5, archived_at_ms = $6, \
         confirmed_at_ms = coalesce(confirmed_at_ms, $7), \
         provider_recording_id = coalesce(provider_recording_id, $8), began_at_ms = coalesce(began_at_ms, $17), \
         party = coalesce(party, $18), pair_wanted = pair_wanted + $19, folder = $9, notes = $10, \
         reason = null, evidence = null, access_due = $11, manifest_due = $12, work_class = $13, \
         available_at_ms = $14, failures = 0, access_tries = 0, access_lapses = 0, lapses = 0, \
         lease_owner = null, lease_token = lease_token + 1 where recording_id = $1",
        vals![
            row.recording_id,
            call.call_id,
            call.at_ms,
            row.state.as_str(),
            if before == State::Archived {
                row.state_since_ms
            } else {
                told.state_since_ms
            },
            row.archived_at_ms.or(told.archived_at_ms),
            told.confirmed_at_ms,
            told.provider_recording_id.clone(),
            told.folder.clone(),
            told.notes.as_str(),
            row.access_due,
            row.manifest_due,
            row.work_class,
            row.available_at_ms,
            told.began_at_ms,
            told.party.clone(),
            told.pair_wanted
        ],
    )
    .await?;
    let names = &manifest.recording.aliases;
    write_names(txn, &manifest.source, &call, &row, names, known).await?;
    exec(
        txn,
        "update call set has_recording = $2 where call_id = $1",
        vals![call.call_id, true],
    )
    .await?;
    if before != State::Archived {
        record(
            txn,
            row.recording_id,
            Some(before),
            State::Archived,
            Some("rebuilt"),
            now,
        )
        .await?;
    }
    Ok(Adopted::Completed)
}
