//! Makes the access copy and the waveform of an archived original, in a decoder child.
//!
//! Nothing here can harm the recording: it is archived already, and stays so when this fails.

use crate::db::originals::main_original;
use crate::db::recordings::{Lease, Loaded, NewObject, ObjectFacts, ObjectRow};
use crate::domain::clock::Timestamp;
use crate::domain::media::{AccessSettings, AccessTags, TranscodeJob, TranscodeReport, note};
use crate::domain::pieces::Pieces;
use crate::domain::proof::ArchiveProof;
use crate::domain::recording::{Part, Role, reason};
use crate::spool::Scratch;

use super::bring_back::{bring_back, bring_back_pieces, hash_file};
use super::handoff::{Tools, Verdict};
use super::put::{Content, MOST_NUMBERS, next_number, put_derived};

/// A CDR and the sound may differ by this much before a note says so (2 s or 2 %).
const TOLERANCE_MS: i64 = 2000;

/// Makes what is due and gives the notes that go on the row. `original` is the file in the spool when
/// this worker still has it, else it comes back from the archive.
pub async fn transcode(
    tools: &Tools,
    lease: &Lease,
    loaded: &Loaded,
    original: Option<Scratch>,
    now: Timestamp,
) -> Result<Vec<String>, Verdict> {
    let row = &loaded.row;
    let Some(source) = main_original(loaded.objects.iter()) else {
        return Ok(row.notes.clone());
    };
    let pieces = Pieces::of(source.settings.as_ref());
    if pieces.as_ref().is_some_and(|pieces| pieces.encrypted) {
        return Ok(row.notes.clone());
    }
    let input = match (original, &pieces) {
        (Some(scratch), _) => scratch,
        (None, None) => bring_back(tools, lease, source).await?,
        (None, Some(pieces)) => bring_back_pieces(tools, lease, loaded, pieces).await?,
    };
    fail::fail_point!("transcode.before_decode");
    let mp3 = tools
        .spool
        .derived(lease.recording_id, lease.token, "mp3")?;
    let waveform = tools
        .spool
        .derived(lease.recording_id, lease.token, "json")?;
    let job = TranscodeJob {
        input: input.path().to_owned(),
        raw: tools
            .sources
            .get(&row.source)
            .and_then(|provider| provider.common().raw_audio),
        mp3: mp3.path().to_owned(),
        waveform: waveform.path().to_owned(),
        settings: AccessSettings {
            // Pieces play only when they are joined.
            use_original_mp3: tools.access.use_original_mp3 && pieces.is_none(),
            ..tools.access
        },
        tags: AccessTags {
            recording_id: Some(row.recording_id.to_string()),
            call_id: Some(row.call_id.to_string()),
            started_at: row.call.started_at,
            ended_at: row.call.ended_at,
        },
    };
    let report = tools.decoder.transcode(&job).await.map_err(|fault| {
        tracing::warn!(recording = %row.recording_id, %fault, "decoder child failed");
        if fault.blames_the_file() {
            Verdict::BadBytes {
                reason: reason::DECODER_FAILED,
                detail: fault.to_string(),
            }
        } else {
            Verdict::later(reason::DECODER_UNAVAILABLE)
        }
    })?;
    fail::fail_point!("transcode.after_decode");
    mark_original(tools, lease, loaded, source, &report, now).await?;
    if let Some(access) = &report.access {
        let proof = if report.access_is_original {
            point_at(tools, lease, loaded, source, &report, now).await?
        } else {
            let path = mp3.path();
            put_file(
                tools,
                lease,
                loaded,
                Role::Access,
                path,
                &report,
                source,
                now,
            )
            .await?
        };
        let facts = ObjectFacts {
            codec: "mp3".to_owned(),
            sample_rate_hz: access.sample_rate_hz,
            channels: access.channels,
            duration_ms: access.duration_ms as i64,
            analysis: None,
        };
        tools
            .db
            .mark_verified(lease, &proof, Some(facts), now)
            .await?;
        let proof = put_file(
            tools,
            lease,
            loaded,
            Role::Waveform,
            waveform.path(),
            &report,
            source,
            now,
        )
        .await?;
        tools.db.mark_verified(lease, &proof, None, now).await?;
    }
    fail::fail_point!("transcode.after_put");
    Ok(all_notes(loaded, &report))
}

/// The original plays as it is: a row of role access with its key, and no second object.
async fn point_at(
    tools: &Tools,
    lease: &Lease,
    loaded: &Loaded,
    source: &ObjectRow,
    report: &TranscodeReport,
    now: Timestamp,
) -> Result<ArchiveProof, Verdict> {
    // Made before, with other settings: those numbers are used. Pointed at before: that is the row.
    let is_it = |object: &&ObjectRow| object.role == Role::Access && object.key == source.key;
    let known = loaded.objects.iter().find(is_it).map(|object| object.n);
    let object = NewObject {
        role: Role::Access,
        n: known.unwrap_or_else(|| next_number(&loaded.objects, Role::Access)),
        key: source.key.clone(),
        bytes: source.bytes,
        sha256: source.sha256,
        mime: "audio/mpeg".to_owned(),
        made_from: Some(source.sha256),
        tool: Some(report.tool.clone()),
        settings: Some(report.settings.clone()),
        ..NewObject::default_at(now)
    };
    tools.db.add_object(lease, object, now).await?;
    let version = source.version_id.as_deref();
    Ok(tools
        .archive
        .read_back(&source.key, version, &source.fingerprint())
        .await?)
}

async fn mark_original(
    tools: &Tools,
    lease: &Lease,
    loaded: &Loaded,
    source: &ObjectRow,
    report: &TranscodeReport,
    now: Timestamp,
) -> Result<(), Verdict> {
    if let Some(facts) = report.original.as_ref().filter(|facts| facts.frames > 0) {
        let facts = ObjectFacts {
            codec: facts.codec.clone(),
            sample_rate_hz: facts.sample_rate_hz,
            channels: facts.channels,
            duration_ms: facts.duration_ms as i64,
            analysis: analysis_of(report, talk_ms(loaded)),
        };
        tools
            .db
            .set_object_facts(lease, &source.key, facts, now)
            .await?;
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)] // one call, two roles: a struct would only rename the list
async fn put_file(
    tools: &Tools,
    lease: &Lease,
    loaded: &Loaded,
    role: Role,
    path: &std::path::Path,
    report: &TranscodeReport,
    source: &ObjectRow,
    now: Timestamp,
) -> Result<ArchiveProof, Verdict> {
    let Some(folder) = loaded.row.folder.clone() else {
        return Err(Verdict::later(reason::ARCHIVE_CONFLICT));
    };
    let fingerprint = hash_file(path).await.map_err(|error| {
        tracing::warn!(%error, path = %path.display(), "cannot read what the decoder made");
        Verdict::later(reason::SPOOL_FULL)
    })?;
    // The encoder gives the same bytes each time: what an earlier holder of the lease brought in is
    // what would be put now.
    if let Some(same) = loaded.objects.iter().find(|object| {
        object.role == role
            && object.verified_at.is_some()
            && object.fingerprint() == fingerprint
            && object.made_from == Some(source.sha256)
    }) {
        let version = same.version_id.as_deref();
        return Ok(tools
            .archive
            .read_back(&same.key, version, &fingerprint)
            .await?);
    }
    let next = next_number(&loaded.objects, role);
    for n in next..next + MOST_NUMBERS {
        let (key, mime) = match role {
            Role::Waveform => (folder.waveform(n), "application/json"),
            _ => (folder.access(n), "audio/mpeg"),
        };
        let object = NewObject {
            role,
            n,
            key,
            bytes: fingerprint.bytes,
            sha256: fingerprint.sha256,
            mime: mime.to_owned(),
            made_from: Some(source.sha256),
            tool: Some(report.tool.clone()),
            settings: Some(report.settings.clone()),
            ..NewObject::default_at(now)
        };
        if let Some(proof) = put_derived(tools, lease, object, &Content::File(path), now).await? {
            return Ok(proof);
        }
    }
    Err(Verdict::later(reason::ARCHIVE_CONFLICT))
}

/// What was noted at the fetch, what decoding found, and whether the CDR tells another length.
fn all_notes(loaded: &Loaded, report: &TranscodeReport) -> Vec<String> {
    let mut notes: Vec<String> = loaded
        .row
        .notes
        .iter()
        .filter(|code| {
            [
                note::SHORT,
                note::FETCHED_PLAIN_HTTP,
                note::ENCRYPTED,
                note::OTHER_BYTES,
                note::CHANGED_AT_VENDOR,
            ]
            .contains(&code.as_str())
                || note::PAIRING.contains(&code.as_str())
        })
        .cloned()
        .collect();
    notes.extend(
        report
            .notes
            .iter()
            .filter(|code| !loaded.row.notes.contains(code))
            .cloned(),
    );
    let decoded = report
        .original
        .as_ref()
        .map(|facts| facts.duration_ms as i64);
    if let (Some(told), Some(decoded)) = (talk_ms(loaded), decoded) {
        let tolerance = TOLERANCE_MS.max(told / 50);
        if (told - decoded).abs() > tolerance {
            notes.push(note::DURATION_DIFFERS.to_owned());
        }
        // Of the whole call only: one party, one leg of several, or one piece of many, may well be shorter.
        let call = &loaded.row.call;
        let is_whole =
            matches!(loaded.row.part, Part::Mixed | Part::Unknown) && call.legs.len() < 2;
        if is_whole && told - decoded > tolerance && !notes.iter().any(|code| code == note::SHORT) {
            notes.push(note::SHORT.to_owned());
        }
    }
    notes
}

/// What was measured, what the header says, and how far the CDR is from it, for the original's `settings`.
fn analysis_of(report: &TranscodeReport, told_ms: Option<i64>) -> Option<serde_json::Value> {
    let analysis = report.analysis.as_ref()?;
    let mut value = serde_json::to_value(analysis).ok()?;
    let decoded = report.original.as_ref()?.duration_ms as i64;
    value["declared"] = serde_json::to_value(&report.declared).ok()?;
    value["longer_than_cdr_ms"] = told_ms.map(|told| decoded - told).into();
    Some(value)
}

/// Talk time by the CDR.
fn talk_ms(loaded: &Loaded) -> Option<i64> {
    let call = &loaded.row.call;
    call.duration_ms.or_else(|| {
        let from = call.answered_at?;
        Some(call.ended_at?.since_ms(from))
    })
}
