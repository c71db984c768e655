//! Writes under a lease: what is staged, planned, read back and published, and the rows loaded whole.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, Value};
use uuid::Uuid;

use crate::domain::call::LegFacts;
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::WorkClass;
use crate::domain::ids::new_id;
use crate::domain::keys::{Folder, ObjectKey};
use crate::domain::media::note;
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::{Event, Role, State, transition};

use super::Database;
use super::error::{DbError, DbErrorKind};
use super::facts::write_facts;
use super::lease::guarded;
use super::originals;
use super::recordings::{Lease, Loaded, NewObject, ObjectFacts};
use super::rows;
use super::sql::{exec, list, models, one, vals};

/// How long after publishing a short recording is fetched once more.
const RECHECK_AFTER_MS: i64 = 6 * 3600 * 1000;

/// Short, or nothing that a decoder knows: the vendor may have handed out a file that was not finished.
fn deserves_a_second_look(notes: &[String]) -> bool {
    notes
        .iter()
        .any(|code| code == note::SHORT || code == note::UNDECODABLE)
}

impl Database {
    /// Whole recordings by id; ids that do not exist are left out.
    pub(super) async fn load_many(
        &self,
        ids: &[Uuid],
        now: Timestamp,
    ) -> Result<HashMap<Uuid, Loaded>, DbError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let c = self.reader();
        let of = |ids: &[Uuid]| ids.iter().map(|id| Value::from(*id)).collect::<Vec<_>>();
        let placeholders = list(1, ids.len());
        let found: Vec<entity::recording::Model> = models(
            c,
            format!("select * from recording where recording_id in {placeholders}"),
            of(ids),
        )
        .await?;
        let mut call_ids: Vec<Uuid> = found.iter().map(|row| row.call_id).collect();
        call_ids.sort_unstable();
        call_ids.dedup();
        let calls: Vec<entity::call::Model> = models(
            c,
            format!(
                "select * from call where call_id in {}",
                list(1, call_ids.len())
            ),
            of(&call_ids),
        )
        .await?;
        let mut legs = legs_of(c, &call_ids).await?;
        let objects: Vec<entity::archive_object::Model> = models(
            c,
            format!(
                "select * from archive_object where recording_id in {placeholders} \
                 order by recording_id, role, n"
            ),
            of(ids),
        )
        .await?;
        let aliases: Vec<entity::recording_alias::Model> = models(
            c,
            format!("select * from recording_alias where recording_id in {placeholders}"),
            of(ids),
        )
        .await?;
        let notices: Vec<entity::notice_link::Model> = models(
            c,
            format!(
                "select * from notice_link where subject_id in {placeholders} \
                 order by arrived_at_ms, sha256"
            ),
            of(ids),
        )
        .await?;

        let mut facts = HashMap::new();
        for call in calls {
            let legs = legs.remove(&call.call_id).unwrap_or_default();
            let value = rows::call_facts(&call.facts, legs)?;
            facts.insert(call.call_id, (value, call.arrived_at_ms));
        }
        let mut loaded = HashMap::new();
        for row in found {
            let (call, arrived) = facts
                .get(&row.call_id)
                .cloned()
                .ok_or_else(|| DbError::unknown("call", row.call_id))?;
            let whole = Loaded {
                row: rows::recording(row, call, arrived, now)?,
                objects: Vec::new(),
                aliases: Vec::new(),
                notices: Vec::new(),
            };
            loaded.insert(whole.row.recording_id, whole);
        }
        for object in objects {
            let (id, object) = rows::object(object)?;
            if let Some(whole) = loaded.get_mut(&id) {
                whole.objects.push(object);
            }
        }
        for alias in aliases {
            if let Some(whole) = loaded.get_mut(&alias.recording_id) {
                whole.aliases.push(alias.alias);
            }
        }
        for notice in notices {
            if let Some(whole) = loaded.get_mut(&notice.subject_id) {
                whole.notices.push(rows::sha256(&notice.sha256)?);
            }
        }
        for whole in loaded.values_mut() {
            whole.aliases.sort_unstable();
        }
        Ok(loaded)
    }

    /// Says `staged`, fixes the folder and plans the original, before any byte goes to the archive.
    ///
    /// The same bytes again are the same object row; other bytes are a further original.
    pub async fn stage(
        &self,
        lease: &Lease,
        folder: &Folder,
        original: NewObject,
        now: Timestamp,
    ) -> Result<(), DbError> {
        self.stage_all(lease, folder, vec![original], now).await
    }

    /// Plans another original of an archived recording: a second look brought other bytes.
    pub async fn stage_second(
        &self,
        lease: &Lease,
        original: NewObject,
        _now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        let row = guarded(&txn, lease).await?;
        if rows::state(&row.state)? != State::Archived {
            return Err(impossible("a second original", &row.state));
        }
        originals::put_originals(&txn, lease.recording_id, vec![original]).await?;
        txn.commit().await?;
        Ok(())
    }

    /// Plans a derived object or a manifest before it is put. Replaces a plan for the same key; an
    /// object that was read back is never replaced.
    pub async fn add_object(
        &self,
        lease: &Lease,
        object: NewObject,
        _now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        let row = guarded(&txn, lease).await?;
        let existing = one(
            &txn,
            "select verified_at_ms, sha256 from archive_object \
             where recording_id = $1 and role = $2 and object_key = $3",
            vals![
                lease.recording_id,
                object.role.as_str(),
                object.key.as_str()
            ],
        )
        .await?;
        if let Some(existing) = existing {
            let verified: Option<i64> = existing.try_get_by_index(0)?;
            let sha256: Vec<u8> = existing.try_get_by_index(1)?;
            if verified.is_some() {
                return if sha256 == object.sha256.as_bytes() {
                    Ok(())
                } else {
                    Err(DbError::new(
                        DbErrorKind::Conflict,
                        format!("{} is in the archive with other bytes", object.key),
                    ))
                };
            }
            exec(
                &txn,
                "delete from archive_object where recording_id = $1 and role = $2 and object_key = $3",
                vals![lease.recording_id, object.role.as_str(), object.key.as_str()],
            )
            .await?;
        }
        let version = object.facts_version.unwrap_or(row.facts_version);
        insert_object(&txn, lease.recording_id, &object, object.n, Some(version)).await?;
        txn.commit().await?;
        Ok(())
    }

    /// Forgets a planned object whose key turned out to be taken. What was read back stays.
    pub async fn drop_object(
        &self,
        lease: &Lease,
        key: &ObjectKey,
        _now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        guarded(&txn, lease).await?;
        exec(
            &txn,
            "delete from archive_object where recording_id = $1 and object_key = $2 \
             and verified_at_ms is null",
            vals![lease.recording_id, key.as_str()],
        )
        .await?;
        txn.commit().await?;
        Ok(())
    }

    /// The object was read back and is what its row says.
    pub async fn mark_verified(
        &self,
        lease: &Lease,
        proof: &ArchiveProof,
        facts: Option<ObjectFacts>,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        guarded(&txn, lease).await?;
        verify(&txn, lease.recording_id, proof, None, now).await?;
        if let Some(facts) = facts {
            write_facts(&txn, lease, proof.key(), &facts).await?;
        }
        txn.commit().await?;
        Ok(())
    }

    /// What decoding found in a stored object.
    pub async fn set_object_facts(
        &self,
        lease: &Lease,
        key: &ObjectKey,
        facts: ObjectFacts,
        _now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        guarded(&txn, lease).await?;
        write_facts(&txn, lease, key, &facts).await?;
        txn.commit().await?;
        Ok(())
    }

    /// Replaces the notes.
    pub async fn set_notes(
        &self,
        lease: &Lease,
        notes: &[String],
        now: Timestamp,
    ) -> Result<(), DbError> {
        // Found only by decoding what is archived already: worth a second look as well.
        let touched = exec(
            self.writer(),
            "update recording set notes = $3, \
             recheck_at_ms = case when $4 and archived_at_ms is not null and not recheck_planned \
             then $5 else recheck_at_ms end, \
             recheck_planned = case when $4 and archived_at_ms is not null then $4 else recheck_planned end \
             where recording_id = $1 and lease_token = $2 and lease_owner is not null",
            vals![
                lease.recording_id,
                lease.token,
                rows::text(&notes),
                deserves_a_second_look(notes),
                now.plus_ms(RECHECK_AFTER_MS).ms()
            ],
        )
        .await?;
        super::lease::held(touched)
    }

    /// The vendor confirmed that the file exists: from now on its absence would be a loss.
    pub async fn confirm(&self, lease: &Lease, now: Timestamp) -> Result<(), DbError> {
        let touched = exec(
            self.writer(),
            "update recording set confirmed_at_ms = coalesce(confirmed_at_ms, $3) \
             where recording_id = $1 and lease_token = $2 and lease_owner is not null",
            vals![lease.recording_id, lease.token, now.ms()],
        )
        .await?;
        super::lease::held(touched)
    }

    /// The only way to `archived`: against proofs of the original and of a manifest. Keeps the lease;
    /// the access copy is due.
    pub async fn publish(
        &self,
        lease: &Lease,
        original: &ArchiveProof,
        manifest: &ArchiveProof,
        notes: &[String],
        now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        let row = guarded(&txn, lease).await?;
        let state = rows::state(&row.state)?;
        let after = step(state, Event::Publish)?;
        verify(
            &txn,
            lease.recording_id,
            original,
            Some(Role::Original),
            now,
        )
        .await?;
        verify(
            &txn,
            lease.recording_id,
            manifest,
            Some(Role::Manifest),
            now,
        )
        .await?;
        let recheck = deserves_a_second_look(notes) && !row.recheck_planned;
        exec(
            &txn,
            "update recording set state = $3, state_since_ms = $4, archived_at_ms = $4, \
             confirmed_at_ms = coalesce(confirmed_at_ms, $4), access_due = $5, work_class = $6, \
             notes = $7, reason = null, evidence = null, failures = 0, \
             recheck_at_ms = $8, recheck_planned = $9 \
             where recording_id = $1 and lease_token = $2",
            vals![
                lease.recording_id,
                lease.token,
                after.as_str(),
                now.ms(),
                true,
                WorkClass::Access as i64,
                rows::text(&notes),
                if recheck {
                    Some(now.plus_ms(RECHECK_AFTER_MS).ms())
                } else {
                    row.recheck_at_ms
                },
                row.recheck_planned || recheck
            ],
        )
        .await?;
        record(&txn, lease.recording_id, Some(state), after, None, now).await?;
        txn.commit().await?;
        Ok(())
    }

    /// The second look could not be taken now.
    pub async fn recheck_later(&self, lease: &Lease, at: Timestamp) -> Result<(), DbError> {
        let touched = exec(
            self.writer(),
            "update recording set recheck_at_ms = $3 \
             where recording_id = $1 and lease_token = $2 and lease_owner is not null",
            vals![lease.recording_id, lease.token, at.ms()],
        )
        .await?;
        super::lease::held(touched)
    }

    /// The second look at a recording was taken.
    pub async fn recheck_done(&self, lease: &Lease, _now: Timestamp) -> Result<(), DbError> {
        let touched = exec(
            self.writer(),
            "update recording set recheck_at_ms = null \
             where recording_id = $1 and lease_token = $2 and lease_owner is not null",
            vals![lease.recording_id, lease.token],
        )
        .await?;
        super::lease::held(touched)
    }
}

/// The row is `staged`, and its folder is fixed.
pub(super) async fn stage_in(
    txn: &DatabaseTransaction,
    lease: &Lease,
    folder: &Folder,
    now: Timestamp,
) -> Result<(), DbError> {
    let row = guarded(txn, lease).await?;
    let state = rows::state(&row.state)?;
    let after = step(state, Event::Stage)?;
    exec(
        txn,
        "update recording set state = $3, state_since_ms = $4, folder = coalesce(folder, $5) \
         where recording_id = $1 and lease_token = $2",
        vals![
            lease.recording_id,
            lease.token,
            after.as_str(),
            if state == after {
                row.state_since_ms
            } else {
                now.ms()
            },
            folder.as_str()
        ],
    )
    .await?;
    if state != after {
        record(txn, lease.recording_id, Some(state), after, None, now).await?;
    }
    Ok(())
}

/// The state after an event, or an error: nobody changes a state but through the table.
pub(super) fn step(state: State, event: Event) -> Result<State, DbError> {
    transition(state, event).ok_or_else(|| impossible(&format!("{event:?}"), state.as_str()))
}

pub(super) fn impossible(what: &str, state: &str) -> DbError {
    DbError::new(
        DbErrorKind::Conflict,
        format!("{what} cannot happen to a recording that is {state}"),
    )
}

/// A line of the recording's history.
pub(super) async fn record<C: ConnectionTrait>(
    c: &C,
    recording_id: Uuid,
    from: Option<State>,
    to: State,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), DbError> {
    exec(
        c,
        "insert into recording_event (event_id, recording_id, at_ms, from_state, to_state, reason) \
         values ($1, $2, $3, $4, $5, $6)",
        vals![
            new_id(now),
            recording_id,
            now.ms(),
            from.map(|state| state.as_str().to_owned()),
            to.as_str(),
            reason.map(str::to_owned)
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn legs_of<C: ConnectionTrait>(
    c: &C,
    call_ids: &[Uuid],
) -> Result<HashMap<Uuid, Vec<LegFacts>>, DbError> {
    let legs: Vec<entity::call_leg::Model> = models(
        c,
        format!(
            "select * from call_leg where call_id in {}",
            list(1, call_ids.len())
        ),
        call_ids.iter().map(|id| Value::from(*id)).collect(),
    )
    .await?;
    let mut by_call: HashMap<Uuid, Vec<LegFacts>> = HashMap::new();
    for leg in legs {
        by_call
            .entry(leg.call_id)
            .or_default()
            .push(rows::json(&leg.facts)?);
    }
    Ok(by_call)
}

pub(super) async fn insert_original(
    txn: &DatabaseTransaction,
    recording_id: Uuid,
    original: NewObject,
    n: u32,
) -> Result<(), DbError> {
    let original = NewObject {
        role: Role::Original,
        ..original
    };
    insert_object(txn, recording_id, &original, n, None).await
}

async fn insert_object<C: ConnectionTrait>(
    c: &C,
    recording_id: Uuid,
    object: &NewObject,
    n: u32,
    facts_version: Option<i64>,
) -> Result<(), DbError> {
    exec(
        c,
        "insert into archive_object (object_id, recording_id, role, n, object_key, size_bytes, sha256, \
         mime, created_at_ms, made_from, tool, settings, facts_version) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        vals![
            object.object_id.unwrap_or_else(|| new_id(object.created_at)),
            recording_id,
            object.role.as_str(),
            i64::from(n),
            object.key.as_str(),
            i64::try_from(object.bytes).unwrap_or(i64::MAX),
            object.sha256.as_bytes().to_vec(),
            object.mime.as_str(),
            object.created_at.ms(),
            object.made_from.map(|sha256| sha256.as_bytes().to_vec()),
            object.tool.clone(),
            object.settings.as_ref().map(rows::text),
            facts_version.filter(|_| object.role == Role::Manifest)
        ],
    )
    .await?;
    Ok(())
}

/// Marks the object of this key and these bytes; an error when the row means something else.
async fn verify<C: ConnectionTrait>(
    c: &C,
    recording_id: Uuid,
    proof: &ArchiveProof,
    role: Option<Role>,
    now: Timestamp,
) -> Result<(), DbError> {
    let touched = exec(
        c,
        format!(
            "update archive_object set verified_at_ms = $5, version_id = coalesce($6, version_id) \
             where recording_id = $1 and object_key = $2 and sha256 = $3 and size_bytes = $4{}",
            role.map_or(String::new(), |role| format!(
                " and role = '{}'",
                role.as_str()
            ))
        ),
        vals![
            recording_id,
            proof.key().as_str(),
            proof.fingerprint().sha256.as_bytes().to_vec(),
            i64::try_from(proof.fingerprint().bytes).unwrap_or(i64::MAX),
            now.ms(),
            proof.version_id().map(str::to_owned)
        ],
    )
    .await?;
    if touched == 0 {
        return Err(DbError::new(
            DbErrorKind::Conflict,
            format!(
                "no object row of this recording means what was read back from {}",
                proof.key()
            ),
        ));
    }
    Ok(())
}
