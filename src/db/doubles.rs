//! Two rows that had both come too far to be dropped when a notice told that they are one recording.
//!
//! The younger one points to the older (`same_as`). Whichever turns out to hold nothing in the archive
//! goes at the end of its lease; once both are archived with the same originals, the holder of the
//! younger one's lease moves all that it has to the older one. Objects keep their keys and become
//! `duplicate`s; the last manifest of the folder says whose they are, so that a rebuild does the same.

use std::collections::BTreeSet;

use sea_orm::{DatabaseTransaction, Value};
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::deadlines::WorkClass;
use crate::domain::manifest::Manifest;
use crate::domain::media::note;
use crate::domain::recording::{Role, State};

use super::Database;
use super::adopt::{Adopted, complete};
use super::announce::{manifest_due, write_known};
use super::connect::for_update;
use super::error::DbError;
use super::names::names_of;
use super::objects::record;
use super::pairs::wake_call;
use super::rebuild::{Held, StoredManifest, insert_new, is_leftover};
use super::recordings::Lease;
use super::rows;
use super::settle::{is_leased, locked};
use super::sql::{all, count, exec, models, vals};
use super::unite::{absorb, drop_into};

type Row = entity::recording::Model;

/// How long a pair waits until it is looked at again while the other one is at work or not archived.
pub(super) const AGAIN_AFTER_MS: i64 = 10 * 1000;
/// Rows that point to each other one after the other; more are no chain of ours.
const LONGEST_CHAIN: usize = 16;
const UNITED: &str = "united";

/// What can be done about a recording that points to an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// Both are archived and the older one has every original of this one.
    Same(Uuid),
    /// The other is at work, or not archived yet.
    Waits,
    /// Nothing is left to do here: the other is gone, holds other bytes (both say so), or has to go into
    /// this one because it holds less.
    Apart,
}

/// `other` turned out to be `row`, and is too far on to be dropped.
pub(super) async fn point(
    txn: &DatabaseTransaction,
    row: &Row,
    other: &Row,
    now: Timestamp,
) -> Result<(), DbError> {
    let mut other = other.clone();
    // Whatever it points to already is the same recording too: the end of the chain points on.
    for _ in 0..LONGEST_CHAIN {
        let Some(next) = other.same_as.filter(|next| *next != row.recording_id) else {
            break;
        };
        match locked(txn, next).await? {
            Some(next) => other = next,
            None => break,
        }
    }
    let is_told = other.recording_id == row.recording_id
        || other.same_as == Some(row.recording_id)
        || row.same_as == Some(other.recording_id)
        || notes_of(&other)?
            .iter()
            .any(|code| code == note::OTHER_BYTES);
    if is_told {
        return Ok(());
    }
    other.same_as = Some(row.recording_id);
    look_at(&mut other, now);
    write_pointer(txn, &other).await
}

impl Database {
    /// How the recording under this lease stands to the older one that it points to.
    pub async fn judge_pair(&self, lease: &Lease, now: Timestamp) -> Result<Pair, DbError> {
        let txn = self.begin().await?;
        let (mut row, other) = both(&txn, lease).await?;
        let Some(mut other) = other else {
            row.same_as = None;
            write_pointer(&txn, &row).await?;
            txn.commit().await?;
            return Ok(Pair::Apart);
        };
        if !is_archived(&other)? || is_leased(&other, now) {
            return Ok(Pair::Waits);
        }
        let mine = originals(&txn, row.recording_id).await?;
        let theirs = originals(&txn, other.recording_id).await?;
        if mine.is_subset(&theirs) {
            return Ok(Pair::Same(other.recording_id));
        }
        row.same_as = None;
        if theirs.is_subset(&mine) {
            other.same_as = Some(row.recording_id);
            look_at(&mut other, now);
            // Cleared first: two rows never point to each other.
            write_pointer(&txn, &row).await?;
            write_pointer(&txn, &other).await?;
        } else {
            for row in [&mut row, &mut other] {
                let mut notes = notes_of(row)?;
                if !notes.iter().any(|code| code == note::OTHER_BYTES) {
                    notes.push(note::OTHER_BYTES.to_owned());
                }
                row.notes = rows::text(&notes);
                row.facts_version += 1;
                manifest_due(row, now);
            }
            write_pointer(&txn, &row).await?;
            write_pointer(&txn, &other).await?;
        }
        txn.commit().await?;
        Ok(Pair::Apart)
    }

    /// Moves all that the recording under this lease has into `into`, and ends both lease and row. `false`
    /// when that one was claimed meanwhile: then nothing was changed.
    ///
    /// The newest manifest in the archive must say so already ([`crate::domain::manifest::Manifest`]).
    pub async fn unite(&self, lease: &Lease, into: Uuid, now: Timestamp) -> Result<bool, DbError> {
        let txn = self.begin().await?;
        let (row, other) = both(&txn, lease).await?;
        let Some(other) = other.filter(|other| other.recording_id == into) else {
            return Ok(false);
        };
        if !is_archived(&other)? || is_leased(&other, now) {
            return Ok(false);
        }
        let mine = originals(&txn, row.recording_id).await?;
        if !mine.is_subset(&originals(&txn, into).await?) {
            return Ok(false);
        }
        move_into(&txn, other, &row, true, now).await?;
        txn.commit().await?;
        Ok(true)
    }

    /// The same from the archive alone: the newest manifest of a folder says whose its objects are. When the
    /// index does not know that recording, they are a recording of their own again. Arguments as for
    /// [`Database::insert_manifest`].
    pub async fn adopt_united(
        &self,
        manifest: &Manifest,
        manifests: &[StoredManifest],
        held: &Held,
        now: Timestamp,
    ) -> Result<Adopted, DbError> {
        let (from, names) = (manifest.recording.recording_id, &manifest.recording.aliases);
        let txn = self.begin().await?;
        let into = match manifest.united_into {
            Some(id) if id != from => locked(&txn, id).await?,
            _ => None,
        };
        let Some(into) = into else {
            drop(txn);
            return self.adopt_manifest(manifest, manifests, held, now).await;
        };
        let keys = all(
            &txn,
            "select object_key from archive_object where recording_id = $1 and verified_at_ms is not null",
            vals![into.recording_id],
        )
        .await?;
        let keys: BTreeSet<String> = keys
            .iter()
            .map(|row| row.try_get_by_index(0))
            .collect::<Result<_, _>>()?;
        let mut told = manifest
            .objects
            .iter()
            .filter(|object| !is_leftover(object, manifest, held))
            .map(|object| object.key.as_str())
            .chain(manifests.iter().map(|stored| stored.proof.key().as_str()))
            .filter(|key| held.contains_key(*key));
        if told.all(|key| keys.contains(key)) {
            return Ok(Adopted::Known);
        }
        let tell = brings_names(&txn, names, into.recording_id).await?;
        let known = [from, into.recording_id];
        match locked(&txn, from).await? {
            Some(row) => {
                complete(&txn, row, manifest, manifests, held, &known, now).await?;
            }
            None => {
                insert_new(&txn, manifest, manifests, held, &known, now).await?;
            }
        }
        let Some(row) = locked(&txn, from).await? else {
            return Err(DbError::unknown("recording", from));
        };
        move_into(&txn, into, &row, tell, now).await?;
        txn.commit().await?;
        Ok(Adopted::Completed)
    }
}

/// Everything of `row` goes to `into`, archived both. With `tell` the next manifest of `into` is due.
pub(super) async fn move_into(
    txn: &DatabaseTransaction,
    mut into: Row,
    row: &Row,
    tell: bool,
    now: Timestamp,
) -> Result<(), DbError> {
    let (to, from) = (into.recording_id, row.recording_id);
    absorb(&mut into, row)?;
    if tell {
        into.facts_version += 1;
        manifest_due(&mut into, now);
    }
    write_known(txn, &into).await?;
    let taken = count(
        txn,
        "select coalesce(max(n), 0) from archive_object where recording_id = $1 and role = $2",
        vals![to, Role::Duplicate.as_str()],
    )
    .await?;
    let objects: Vec<entity::archive_object::Model> = models(
        txn,
        "select * from archive_object where recording_id = $1 order by object_key",
        vals![from],
    )
    .await?;
    let first = i64::try_from(taken).unwrap_or(i64::MAX - 1) + 1;
    for (n, object) in (first..).zip(&objects) {
        exec(
            txn,
            "update archive_object set recording_id = $2, role = $3, n = $4, facts_version = null \
             where object_id = $1",
            vals![object.object_id, to, Role::Duplicate.as_str(), n],
        )
        .await?;
    }
    exec(
        txn,
        "delete from provider_delete where recording_id = $1",
        vals![from],
    )
    .await?;
    pass_on_pointers(txn, to, from).await?;
    drop_into(txn, to, from).await?;
    // The call's joint copy, if that row named it, is a duplicate now.
    wake_call(txn, into.call_id, None, now).await?;
    record(
        txn,
        to,
        Some(State::Archived),
        State::Archived,
        Some(UNITED),
        now,
    )
    .await
}

/// The end of a lease on a row that is one of a pair and brought nothing into the archive: the other one
/// is the recording. Gives whether the row is gone.
pub(super) async fn drop_empty(
    txn: &DatabaseTransaction,
    row: &Row,
    now: Timestamp,
) -> Result<bool, DbError> {
    if row.archived_at_ms.is_some() || (row.folder.is_some() && !is_over(row)?) {
        return Ok(false);
    }
    let others: Vec<Row> = models(
        txn,
        format!(
            "select * from recording where recording_id = $2 or same_as = $1 order by recording_id{}",
            for_update(txn)
        ),
        vals![row.recording_id, row.same_as],
    )
    .await?;
    // The one that is furthest on stays.
    let Some(mut other) = others
        .into_iter()
        .max_by_key(|other| (other.archived_at_ms.is_some(), other.folder.is_some()))
    else {
        return Ok(false);
    };
    // Nothing that may still come is dropped into what was given up.
    if holds_objects(txn, row).await? || (is_over(&other)? && !is_over(row)?) {
        return Ok(false);
    }
    absorb(&mut other, row)?;
    other.facts_version += 1;
    if is_archived(&other)? {
        manifest_due(&mut other, now);
    }
    if other.same_as == Some(row.recording_id) {
        other.same_as = None;
    }
    write_known(txn, &other).await?;
    write_pointer(txn, &other).await?;
    pass_on_pointers(txn, other.recording_id, row.recording_id).await?;
    drop_into(txn, other.recording_id, row.recording_id).await?;
    Ok(true)
}

/// Given up, at nobody's hands, and nothing of it is in the archive: no more than a second row.
pub(super) async fn is_spent(txn: &DatabaseTransaction, row: &Row) -> Result<bool, DbError> {
    Ok(is_over(row)? && row.lease_owner.is_none() && !holds_objects(txn, row).await?)
}

fn is_over(row: &Row) -> Result<bool, DbError> {
    let state = rows::state(&row.state)?;
    Ok(matches!(state, State::Lost | State::Absent))
}

async fn holds_objects(txn: &DatabaseTransaction, row: &Row) -> Result<bool, DbError> {
    let sql = "select count(*) from archive_object where recording_id = $1";
    Ok(count(txn, sql, vals![row.recording_id]).await? > 0)
}

/// Whether `row` brings names that `into` does not have: a rebuilt recording's manifest tells them then.
pub(super) async fn brings_names(
    txn: &DatabaseTransaction,
    names: &[String],
    into: Uuid,
) -> Result<bool, DbError> {
    let known = names_of(txn, into).await?;
    Ok(names.iter().any(|name| !known.contains(name)))
}

/// The leased row and the one it points to, locked in the order in which all others lock them.
async fn both(txn: &DatabaseTransaction, lease: &Lease) -> Result<(Row, Option<Row>), DbError> {
    let found: Vec<Row> = models(
        txn,
        format!(
            "select * from recording where recording_id = $1 \
             or recording_id in (select same_as from recording where recording_id = $1) \
             order by recording_id{}",
            for_update(txn)
        ),
        vals![lease.recording_id],
    )
    .await?;
    let (mine, mut others): (Vec<Row>, Vec<Row>) = found
        .into_iter()
        .partition(|row| row.recording_id == lease.recording_id);
    let row = mine
        .into_iter()
        .find(|row| row.lease_token == lease.token && row.lease_owner.is_some())
        .ok_or_else(DbError::lease_lost)?;
    others.retain(|other| row.same_as == Some(other.recording_id));
    Ok((row, others.pop()))
}

/// Files of the recording by hash; of a playlist all of them.
async fn originals(
    txn: &DatabaseTransaction,
    recording_id: Uuid,
) -> Result<BTreeSet<Vec<u8>>, DbError> {
    all(
        txn,
        "select sha256 from archive_object where recording_id = $1 and role = $2 \
         and verified_at_ms is not null",
        vals![recording_id, Role::Original.as_str()],
    )
    .await?
    .iter()
    .map(|row| row.try_get_by_index(0).map_err(DbError::from))
    .collect()
}

/// An archived one is claimed next, when nobody has it.
fn look_at(row: &mut Row, now: Timestamp) {
    if row.archived_at_ms.is_some() {
        row.work_class = Some(WorkClass::Access as i64);
        if !is_leased(row, now) {
            row.available_at_ms = now.ms();
        }
    }
}

fn is_archived(row: &Row) -> Result<bool, DbError> {
    Ok(rows::state(&row.state)? == State::Archived)
}

fn notes_of(row: &Row) -> Result<Vec<String>, DbError> {
    rows::json(&row.notes)
}

async fn pass_on_pointers(txn: &DatabaseTransaction, to: Uuid, from: Uuid) -> Result<(), DbError> {
    exec(
        txn,
        "update recording set same_as = $1 where same_as = $2 and recording_id <> $1",
        vals![to, from],
    )
    .await?;
    Ok(())
}

async fn write_pointer(txn: &DatabaseTransaction, row: &Row) -> Result<(), DbError> {
    exec(
        txn,
        "update recording set same_as = $2, notes = $3, facts_version = $4, manifest_due = $5, \
         work_class = $6, available_at_ms = $7 where recording_id = $1",
        vals![
            row.recording_id,
            row.same_as.map_or(Value::Uuid(None), Value::from),
            row.notes.as_str(),
            row.facts_version,
            row.manifest_due,
            row.work_class,
            row.available_at_ms
        ],
    )
    .await?;
    Ok(())
}
