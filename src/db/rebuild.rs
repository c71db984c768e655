//! Rows made again from manifests, in a database that has none.

use std::collections::BTreeMap;

use sea_orm::DatabaseTransaction;

use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::manifest::{Manifest, ManifestObject};
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::{Role, State};

use super::Database;
use super::announce::write_new;
use super::calls::{self, Merged, Origin};
use super::error::DbError;
use super::names::write_names;
use super::objects::record;
use super::rows;
use super::sql::{count, exec, models, one, vals};

const FOUND_BY: &str = "rebuild";

/// The folder of a recording as listed: keys and sizes.
pub(super) type Held = BTreeMap<String, u64>;

/// An original that was planned and given up for another one: manifest 0001 is written before the rows
/// are tidied, and names it.
pub fn is_leftover(object: &ManifestObject, manifest: &Manifest, held: &Held) -> bool {
    object.role == Role::Original
        && object.verified_at.is_none()
        && !is_held(object, held)
        && manifest
            .objects
            .iter()
            .any(|other| other.role == Role::Original && is_held(other, held))
}

fn is_held(object: &ManifestObject, held: &Held) -> bool {
    held.get(object.key.as_str()) == Some(&object.bytes)
}

/// A manifest as it lies in the archive, read back.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    pub n: u32,
    pub object_id: Uuid,
    pub written_at: Timestamp,
    pub proof: ArchiveProof,
}

/// A recording as its folder tells of it.
#[derive(Clone, Copy, Debug)]
pub struct ToInsert<'a> {
    /// The newest sound one.
    pub manifest: &'a Manifest,
    /// All its manifests by number, as read back.
    pub manifests: &'a [StoredManifest],
    /// What lies in its folder: what does not is no verified object.
    pub held: &'a BTreeMap<String, u64>,
}

impl Database {
    pub async fn count_recordings(&self) -> Result<u64, DbError> {
        count(self.reader(), "select count(*) from recording", vec![]).await
    }

    /// Recordings that came by a vendor's door: with them this is no index that a rebuild may go on with.
    pub async fn count_not_rebuilt(&self) -> Result<u64, DbError> {
        let sql = "select count(*) from recording where found_by <> $1";
        count(self.reader(), sql, vals![FOUND_BY]).await
    }

    /// [`Self::insert_manifests`] for one.
    pub async fn insert_manifest(
        &self,
        manifest: &Manifest,
        manifests: &[StoredManifest],
        held: &BTreeMap<String, u64>,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let told = ToInsert {
            manifest,
            manifests,
            held,
        };
        self.insert_manifests(&[told], now).await
    }

    /// The rows that the newest manifest of each recording describes: equal call, leg, recording, object,
    /// alias and search rows, all of them or none. A recording that is there already is left alone.
    pub async fn insert_manifests(
        &self,
        recordings: &[ToInsert<'_>],
        now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        for told in recordings {
            let recording_id = told.manifest.recording.recording_id;
            let known = "select 1 from recording where recording_id = $1";
            if one(&txn, known, vals![recording_id]).await?.is_none() {
                insert_new(&txn, told.manifest, told.manifests, told.held, &[], now).await?;
            }
        }
        txn.commit().await?;
        Ok(())
    }
}

/// Everything that a recording has in the tables, from its manifests. Recordings in `known` may have its
/// names already.
pub(super) async fn insert_new(
    txn: &DatabaseTransaction,
    manifest: &Manifest,
    manifests: &[StoredManifest],
    held: &Held,
    known: &[Uuid],
    now: Timestamp,
) -> Result<(), DbError> {
    let recording_id = manifest.recording.recording_id;
    let call = insert_call(txn, manifest, now).await?;
    let row = row_of(manifest, held, &call, now);
    write_new(txn, &row).await?;
    let names = &manifest.recording.aliases;
    write_names(txn, &manifest.source, &call, &row, names, known).await?;
    exec(
        txn,
        "update call set has_recording = $2 where call_id = $1",
        vals![call.call_id, true],
    )
    .await?;
    link_notices(txn, manifest).await?;
    insert_objects(txn, manifest, manifests, held, 1, now).await?;
    record(
        txn,
        recording_id,
        None,
        State::Archived,
        Some("rebuilt"),
        now,
    )
    .await?;
    Ok(())
}

pub(super) async fn link_notices(
    txn: &DatabaseTransaction,
    manifest: &Manifest,
) -> Result<(), DbError> {
    let recording_id = manifest.recording.recording_id;
    for (i, sha256) in manifest.notices.iter().enumerate() {
        // The manifest tells their order, not when each came.
        let at = manifest.recording.arrived_at.ms() + i64::try_from(i).unwrap_or(0);
        exec(
            txn,
            "insert into notice_link (subject_id, sha256, arrived_at_ms) values ($1, $2, $3) \
             on conflict (subject_id, sha256) do nothing",
            vals![recording_id, sha256.as_bytes().to_vec(), at],
        )
        .await?;
    }
    Ok(())
}

pub(super) async fn insert_call(
    txn: &DatabaseTransaction,
    manifest: &Manifest,
    now: Timestamp,
) -> Result<Merged, DbError> {
    let origin = Origin {
        source: &manifest.source,
        kind: &manifest.kind,
        arrived_at: manifest.call.arrived_at,
        now,
    };
    let mut facts = manifest.call.facts.clone();
    facts.legs.clone_from(&manifest.legs);
    let there: Vec<entity::call::Model> = models(
        txn,
        "select * from call where call_id = $1",
        vals![manifest.call.call_id],
    )
    .await?;
    if there.is_empty() {
        let (known, new) = calls::names_known(txn, origin.source, &facts).await?;
        if known.is_empty() {
            return calls::insert_as(txn, &origin, manifest.call.call_id, facts).await;
        }
        // Two calls that were joined after this manifest was written, or before the other one was: the
        // names say that they are one, and the older id stays, as it did then.
        if !new.is_empty() {
            calls::insert_named(txn, &origin, manifest.call.call_id, facts.clone(), &new).await?;
        }
    }
    // Another recording of the same call: its manifest may be older or newer than the first one's.
    calls::merge(txn, &origin, &facts).await
}

pub(super) fn row_of(
    manifest: &Manifest,
    held: &Held,
    call: &Merged,
    now: Timestamp,
) -> entity::recording::Model {
    let told = &manifest.recording;
    // Manifest 0001 is written just before the recording is archived and cannot tell when.
    let verified = manifest
        .objects
        .iter()
        .filter(|object| object.role == Role::Original)
        .filter_map(|object| object.verified_at)
        .min();
    let archived_at = told.archived_at.or(verified).unwrap_or(now);
    let any_held = |role| {
        manifest
            .objects
            .iter()
            .any(|o| o.role == role && is_held(o, held))
    };
    let has_access = manifest.objects.iter().any(|o| o.role == Role::Access);
    // Manifest 0001 comes before the access copy; any later one tells why there is none. A copy that went
    // missing is made again, as long as there is something to make it from.
    let access_due =
        any_held(Role::Original) && !any_held(Role::Access) && (has_access || manifest.n <= 1);
    // The call's joint copy is named by one of its recordings.
    let lost_pair =
        manifest.objects.iter().any(|o| o.role == Role::CallAccess) && !any_held(Role::CallAccess);
    entity::recording::Model {
        recording_id: told.recording_id,
        call_id: call.call_id,
        source: manifest.source.clone(),
        kind: manifest.kind.clone(),
        provider_recording_id: told.provider_recording_id.clone(),
        part: told.part.as_str().to_owned(),
        began_at_ms: rows::ms(told.began_at),
        party: told.party.clone(),
        pair_wanted: i64::from(lost_pair),
        pair_done: 0,
        handle: "null".to_owned(),
        link_url: None,
        link_url_until_ms: None,
        link_renewable: false,
        ready_after_ms: rows::ms(told.clocks.ready_after),
        link_until_ms: rows::ms(told.clocks.link_until),
        gone_at_ms: rows::ms(told.clocks.gone_at),
        gone_told_ms: None,
        deadline_at_ms: told.clocks.deadline(told.arrived_at, false).ms(),
        arrived_at_ms: told.arrived_at.ms(),
        at_ms: call.at_ms,
        found_by: FOUND_BY.to_owned(),
        confirmed_at_ms: rows::ms(told.confirmed_at),
        archived_at_ms: Some(archived_at.ms()),
        state: State::Archived.as_str().to_owned(),
        state_since_ms: archived_at.ms(),
        reason: None,
        evidence: None,
        notes: rows::text(&told.notes),
        folder: Some(manifest.folder.clone()),
        facts_version: 1,
        work_class: (access_due || lost_pair).then_some(4),
        available_at_ms: now.ms(),
        lease_token: 0,
        lease_owner: None,
        attempts: 0,
        lapses: 0,
        not_ready_tries: 0,
        failures: 0,
        access_due,
        access_tries: 0,
        access_lapses: 0,
        manifest_due: false,
        recheck_at_ms: None,
        recheck_planned: true,
        same_as: None,
    }
}

/// `facts_version` is the recording's: what the manifests tell of.
pub(super) async fn insert_objects(
    txn: &DatabaseTransaction,
    manifest: &Manifest,
    manifests: &[StoredManifest],
    held: &Held,
    facts_version: i64,
    now: Timestamp,
) -> Result<(), DbError> {
    let recording_id = manifest.recording.recording_id;
    let sql = "insert into archive_object (object_id, recording_id, role, n, object_key, size_bytes, sha256, \
               mime, version_id, codec, sample_rate_hz, channels, duration_ms, created_at_ms, \
               verified_at_ms, made_from, tool, settings, facts_version) \
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";
    for object in &manifest.objects {
        if is_leftover(object, manifest, held) {
            continue;
        }
        // Manifest 0001 names the original a moment before its row says so.
        let verified = object
            .verified_at
            .or((object.role == Role::Original).then_some(now));
        exec(
            txn,
            sql,
            vals![
                object.object_id,
                recording_id,
                object.role.as_str(),
                i64::from(object.n),
                object.key.as_str(),
                i64::try_from(object.bytes).unwrap_or(i64::MAX),
                object.sha256.as_bytes().to_vec(),
                object.mime.as_str(),
                object.version_id.clone(),
                object.codec.clone(),
                object.sample_rate_hz.map(i64::from),
                object.channels.map(i64::from),
                object.duration_ms,
                object.created_at.ms(),
                rows::ms(verified.filter(|_| is_held(object, held))),
                object.made_from.map(|sha256| sha256.as_bytes().to_vec()),
                object.tool.clone(),
                object.settings.as_ref().map(rows::text),
                None::<i64>
            ],
        )
        .await?;
    }
    for stored in manifests {
        let proof = &stored.proof;
        exec(
            txn,
            sql,
            vals![
                stored.object_id,
                recording_id,
                Role::Manifest.as_str(),
                i64::from(stored.n),
                proof.key().as_str(),
                i64::try_from(proof.fingerprint().bytes).unwrap_or(i64::MAX),
                proof.fingerprint().sha256.as_bytes().to_vec(),
                "application/json",
                proof.version_id().map(str::to_owned),
                None::<String>,
                None::<i64>,
                None::<i64>,
                None::<i64>,
                stored.written_at.ms(),
                stored.written_at.ms(),
                None::<Vec<u8>>,
                None::<String>,
                None::<String>,
                facts_version
            ],
        )
        .await?;
    }
    Ok(())
}
