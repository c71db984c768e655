//! Writes the manifest and publishes: the only way for a recording to become `archived`.

use bytes::Bytes;
use uuid::Uuid;

use crate::db::recordings::{Lease, Loaded, NewObject, ObjectRow};
use crate::domain::clock::Timestamp;
use crate::domain::digest::Fingerprint;
use crate::domain::ids::new_id;
use crate::domain::manifest::{Manifest, ManifestCall, ManifestObject, ManifestRecording, SCHEMA};
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::{Role, reason};

use super::handoff::{Tools, Verdict};
use super::put::{Content, MOST_NUMBERS, next_number, put_derived, tidy_planned};

/// Puts the next manifest (0001 for the first) and reads it back.
pub async fn write_manifest(
    tools: &Tools,
    lease: &Lease,
    united_into: Option<Uuid>,
    now: Timestamp,
) -> Result<ArchiveProof, Verdict> {
    // Fresh from the rows: the manifest tells what the index holds, not what this worker remembers.
    let mut loaded = tools.db.load(lease.recording_id).await?;
    let is_planned = |o: &ObjectRow| o.role == Role::Manifest && o.verified_at.is_none();
    if loaded.objects.iter().any(is_planned) {
        // An earlier holder died between a manifest's row and its proof. What it brought in keeps its row;
        // else the new content would meet it under the same number and leave it without one.
        loaded.objects.retain(is_planned);
        tidy_planned(tools, lease, &loaded.objects, now).await?;
        loaded = tools.db.load(lease.recording_id).await?;
    }
    let Some(folder) = loaded.row.folder.clone() else {
        return Err(Verdict::later(reason::ARCHIVE_CONFLICT));
    };
    let next = next_number(&loaded.objects, Role::Manifest);
    for n in next..next + MOST_NUMBERS {
        // The number stands in the content, so each try is made anew.
        let object_id = new_id(now);
        let mut manifest = manifest_of(&loaded, n, object_id, now);
        manifest.united_into = united_into;
        let bytes = manifest.to_bytes().map_err(|error| Verdict::Quarantine {
            reason: reason::ARCHIVE_CONFLICT,
            detail: format!("cannot write the manifest: {error}"),
        })?;
        let fingerprint = Fingerprint::of(&bytes);
        let object = NewObject {
            object_id: Some(object_id),
            role: Role::Manifest,
            n,
            key: folder.manifest(n),
            bytes: fingerprint.bytes,
            sha256: fingerprint.sha256,
            mime: "application/json".to_owned(),
            facts_version: Some(loaded.row.facts_version),
            ..NewObject::default_at(now)
        };
        let content = Content::Bytes(Bytes::from(bytes));
        if let Some(proof) = put_derived(tools, lease, object, &content, now).await? {
            fail::fail_point!("index.after_manifest");
            return Ok(proof);
        }
    }
    Err(Verdict::later(reason::ARCHIVE_CONFLICT))
}

/// A pure function of the rows and of the row that the manifest itself is going to have.
pub fn manifest_of(loaded: &Loaded, n: u32, object_id: Uuid, written_at: Timestamp) -> Manifest {
    let row = &loaded.row;
    let mut facts = row.call.clone();
    let legs = std::mem::take(&mut facts.legs);
    Manifest {
        schema: SCHEMA.to_owned(),
        n,
        object_id,
        written_at,
        source: row.source.clone(),
        kind: row.kind.clone(),
        folder: row
            .folder
            .as_ref()
            .map(|folder| folder.as_str().to_owned())
            .unwrap_or_default(),
        call: ManifestCall {
            call_id: row.call_id,
            facts,
            arrived_at: row.call_arrived_at,
        },
        legs,
        united_into: None,
        recording: ManifestRecording {
            recording_id: row.recording_id,
            provider_recording_id: row.provider_recording_id.clone(),
            aliases: loaded.aliases.clone(),
            part: row.part,
            began_at: row.began_at,
            party: row.party.clone(),
            arrived_at: row.arrived_at,
            clocks: row.clocks,
            confirmed_at: row.confirmed_at,
            archived_at: row.archived_at,
            notes: row.notes.clone(),
        },
        objects: loaded
            .objects
            .iter()
            .filter(|object| !matches!(object.role, Role::Manifest | Role::Duplicate))
            .map(|object| ManifestObject {
                object_id: object.object_id,
                role: object.role,
                n: object.n,
                key: object.key.clone(),
                bytes: object.bytes,
                sha256: object.sha256,
                mime: object.mime.clone(),
                version_id: object.version_id.clone(),
                codec: object.codec.clone(),
                sample_rate_hz: object.sample_rate_hz,
                channels: object.channels,
                duration_ms: object.duration_ms,
                created_at: object.created_at,
                verified_at: object.verified_at,
                made_from: object.made_from,
                tool: object.tool.clone(),
                settings: object.settings.clone(),
            })
            .collect(),
        notices: loaded.notices.clone(),
    }
}

/// Publishes the recording as archived, against both proofs.
pub async fn index(
    tools: &Tools,
    lease: &Lease,
    originals: &[ArchiveProof],
    notes: &[String],
    now: Timestamp,
) -> Result<(), Verdict> {
    let manifest = write_manifest(tools, lease, None, now).await?;
    fail::fail_point!("index.before_publish");
    tools
        .db
        .publish_all(lease, originals, &manifest, notes, now)
        .await?;
    fail::fail_point!("index.after_publish");
    Ok(())
}
