//! Makes a call's joint access copy: the recordings of its two parties in one stereo file, beside each recording's own copy.
//!
//! Every recording of one party looks at its call when something of it changed. The oldest of them leads: it makes the copy under
//! its own lease, and its row and manifest name the object. The others only wake it. Nothing here can harm a recording, and
//! a third file, or one that comes days later, only makes the next version.

use uuid::Uuid;

use crate::db::originals::main_original;
use crate::db::recordings::{Lease, Loaded, NewObject, ObjectFacts, ObjectRow, RecordingRow};
use crate::domain::clock::Timestamp;
use crate::domain::keys::Folder;
use crate::domain::media::{AccessTags, PairJob, PairPiece, TranscodeReport, note};
use crate::domain::pair::{AlignedBy, Outcome, Placed, Plan, Voice, is_single, plan};
use crate::domain::pieces::Pieces;
use crate::domain::recording::{Role, State, reason};
use crate::media::transcode::gain_db;
use crate::spool::Scratch;

use super::bring_back::{bring_back, bring_back_pieces, hash_file};
use super::handoff::{Tools, Verdict};
use super::put::{Content, MOST_NUMBERS, put_derived};

/// Where a copy's `settings` keep the plan that it was made by.
const PLAN: &str = "pair";

/// What a look came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Looked {
    /// All notes of the recording, as they should be now.
    pub notes: Vec<String>,
    /// An object came to the recording.
    pub made: bool,
}

/// Whether the recording could be one of a pair.
pub fn concerns(row: &RecordingRow) -> bool {
    is_single(row.part, row.party.as_deref())
}

/// Looks at the call of the recording, and makes what is missing when that falls to this one. `afresh`: its own copy was just made,
/// so the joint one is made again too. `gave_up`: the decoder died over it often enough.
pub async fn pair(
    tools: &Tools,
    lease: &Lease,
    loaded: &Loaded,
    afresh: bool,
    gave_up: bool,
    now: Timestamp,
) -> Result<Looked, Verdict> {
    let me = loaded.row.recording_id;
    let all = tools.db.load_call(loaded.row.call_id).await?;
    let voices: Vec<Voice> = all.iter().filter_map(voice).collect();
    let outcome = match tools.access.pair {
        true => plan(&voices),
        false => Outcome::Alone,
    };
    let leader = voices.iter().map(|voice| voice.recording_id).min();
    let leads = leader == Some(me);
    let newest = all
        .iter()
        .flat_map(|whole| &whole.objects)
        .filter(|o| o.role == Role::CallAccess && o.verified_at.is_some())
        .max_by_key(|o| o.n);
    let mut expected = match &outcome {
        _ if !tools.access.pair => None,
        Outcome::Alone if voices.is_empty() || waits_for_more(&all, me) => None,
        Outcome::Alone => Some(note::OTHER_PARTY_MISSING),
        Outcome::Cannot => Some(note::NOT_PAIRED),
        Outcome::Pair(plan) => Some(match plan.aligned_by {
            AlignedBy::Stamps => note::PAIRED,
            AlignedBy::Beginnings => note::PAIRED_BY_BEGINNINGS,
        }),
    };
    let mut made = false;
    let mut is_current = true;
    if let Outcome::Pair(plan) = &outcome {
        is_current = newest
            .is_some_and(|object| plan_of(object).as_ref() == Some(plan) && object.codec.is_some());
        if leads && (!is_current || afresh) && !gave_up {
            made = make(tools, lease, &all, loaded, plan, newest, now).await?;
            is_current = made || is_current;
        }
        if leads && !is_current {
            expected = Some(match gave_up {
                true => note::PAIRING_GAVE_UP,
                // What was decoded once has no sample now: then it is no voice.
                false => note::OTHER_PARTY_MISSING,
            });
        }
    }
    if !leads && !is_current {
        // It tells when it has come to something else.
        let led = all
            .iter()
            .find(|whole| leader == Some(whole.row.recording_id));
        expected = led.and_then(|whole| pairing_note(&whole.row));
    }
    let others: Vec<Uuid> = all
        .iter()
        .map(|whole| &whole.row)
        .filter(|row| row.recording_id != me && row.state == State::Archived && concerns(row))
        .filter(|row| match (leads, leader == Some(row.recording_id)) {
            (true, _) => pairing_note(row) != expected,
            // The leader knows what it gave up; something new may be what it lacked.
            (false, true) => {
                let its = pairing_note(row);
                (its != expected || !is_current) && (afresh || its != Some(note::PAIRING_GAVE_UP))
            }
            (false, false) => false,
        })
        .map(|row| row.recording_id)
        .collect();
    tools.db.wake_pair(&others, now).await?;
    Ok(Looked {
        notes: with(&loaded.row.notes, expected),
        made,
    })
}

fn pairing_note(row: &RecordingRow) -> Option<&'static str> {
    let known = note::PAIRING.iter();
    known
        .copied()
        .find(|code| row.notes.iter().any(|n| n == code))
}

fn with(notes: &[String], expected: Option<&str>) -> Vec<String> {
    let others = notes
        .iter()
        .filter(|code| !note::PAIRING.contains(&code.as_str()));
    let mut notes: Vec<String> = others.cloned().collect();
    notes.extend(expected.map(str::to_owned));
    notes
}

/// Something of the call is still to come that may be the other party.
fn waits_for_more(all: &[Loaded], me: Uuid) -> bool {
    all.iter().map(|whole| &whole.row).any(|row| {
        let is_other = row.recording_id != me && concerns(row);
        let is_open = match row.state {
            State::Pending | State::Staged => true,
            State::Archived => row.access_due,
            _ => false,
        };
        is_other && is_open
    })
}

fn plan_of(object: &ObjectRow) -> Option<Plan> {
    serde_json::from_value(object.settings.as_ref()?.get(PLAN)?.clone()).ok()
}

fn voice(whole: &Loaded) -> Option<Voice> {
    let row = &whole.row;
    if row.state != State::Archived || row.same_as.is_some() || !concerns(row) {
        return None;
    }
    let original = main_original(whole.objects.iter())?;
    let parties = &row.call.parties;
    let mut mine = parties
        .iter()
        .filter(|party| party.id.is_some() && party.id == row.party);
    let role = mine.find_map(|party| party.role.as_deref());
    Some(Voice {
        recording_id: row.recording_id,
        part: row.part,
        party: row.party.clone(),
        is_caller: match role {
            Some("caller") => Some(true),
            Some("callee") => Some(false),
            _ => None,
        },
        began_at: row.began_at,
        duration_ms: original.duration_ms.unwrap_or(0),
        sha256: original.sha256,
    })
}

/// The original of a planned file in the spool, and what the decoder is told of it.
async fn piece(
    tools: &Tools,
    lease: &Lease,
    all: &[Loaded],
    placed: &Placed,
) -> Result<(Scratch, PairPiece, u32), Verdict> {
    let conflict = || Verdict::later(reason::ARCHIVE_CONFLICT);
    let is_it = |whole: &&Loaded| whole.row.recording_id == placed.recording_id;
    let whole = all.iter().find(is_it).ok_or_else(conflict)?;
    let original = main_original(whole.objects.iter()).ok_or_else(conflict)?;
    let scratch = match Pieces::of(original.settings.as_ref()) {
        Some(pieces) => bring_back_pieces(tools, lease, whole, &pieces).await?,
        None => bring_back(tools, lease, original).await?,
    };
    let analysis = original.settings.as_ref().and_then(|s| s.get("analysis"));
    let analysis = analysis.and_then(|told| serde_json::from_value(told.clone()).ok());
    let source = tools.sources.get(&whole.row.source);
    let piece = PairPiece {
        input: scratch.path().to_owned(),
        raw: source.and_then(|provider| provider.common().raw_audio),
        at_ms: placed.at_ms,
        gain_cb: match tools.access.normalise {
            true => (gain_db(analysis.as_ref()) * 100.0).round() as i32,
            false => 0,
        },
    };
    Ok((scratch, piece, original.sample_rate_hz.unwrap_or(0)))
}

/// Gives whether the call has the copy of this plan now.
async fn make(
    tools: &Tools,
    lease: &Lease,
    all: &[Loaded],
    loaded: &Loaded,
    plan: &Plan,
    newest: Option<&ObjectRow>,
    now: Timestamp,
) -> Result<bool, Verdict> {
    let row = &loaded.row;
    let Some(own_folder) = &row.folder else {
        return Err(Verdict::later(reason::ARCHIVE_CONFLICT));
    };
    // Held until the child is done: a scratch file goes with its value.
    let mut held = Vec::new();
    let mut sides = [Vec::new(), Vec::new()];
    let mut sample_rate_hz = 0;
    for (side, planned) in sides.iter_mut().zip([&plan.left, &plan.right]) {
        for placed in planned {
            let (scratch, piece, rate_hz) = piece(tools, lease, all, placed).await?;
            held.push(scratch);
            side.push(piece);
            sample_rate_hz = sample_rate_hz.max(rate_hz);
        }
    }
    let mp3 = tools
        .spool
        .derived(lease.recording_id, lease.token, "mp3")?;
    let [left, right] = sides;
    let job = PairJob {
        left,
        right,
        sample_rate_hz,
        mp3: mp3.path().to_owned(),
        settings: tools.access,
        tags: AccessTags {
            recording_id: None,
            call_id: Some(row.call_id.to_string()),
            started_at: row.call.started_at,
            ended_at: row.call.ended_at,
        },
    };
    fail::fail_point!("pair.before_decode");
    let report = tools.decoder.pair(&job).await.map_err(|fault| {
        tracing::warn!(recording = %row.recording_id, %fault, "decoder child failed over a joint copy");
        match fault.blames_the_file() {
            true => Verdict::BadBytes {
                reason: reason::DECODER_FAILED,
                detail: fault.to_string(),
            },
            false => Verdict::later(reason::DECODER_UNAVAILABLE),
        }
    })?;
    drop(held);
    let Some(access) = report.access.clone() else {
        return Ok(false);
    };
    let mut settings = report.settings.clone();
    settings[PLAN] = serde_json::to_value(plan).unwrap_or_default();
    let fingerprint = hash_file(mp3.path()).await.map_err(|error| {
        tracing::warn!(%error, "cannot read what the decoder made");
        Verdict::later(reason::SPOOL_FULL)
    })?;
    let facts = ObjectFacts {
        codec: "mp3".to_owned(),
        sample_rate_hz: access.sample_rate_hz,
        channels: access.channels,
        duration_ms: access.duration_ms as i64,
        analysis: None,
    };
    if let Some(same) = newest.filter(|o| o.fingerprint() == fingerprint)
        && plan_of(same).as_ref() == Some(plan)
    {
        // Whoever brought it in may have died before it said what it is.
        tools
            .db
            .set_object_facts(lease, &same.key, facts, now)
            .await?;
        return Ok(true);
    }
    // Beside the earlier ones, whatever day their leader's folder was of.
    let of_this_call = format!("/call-{}/", row.call_id);
    let folder = match newest.filter(|o| o.key.as_str().contains(&of_this_call)) {
        Some(newest) => Folder::holding(&newest.key),
        None => own_folder.of_call(row.call_id),
    };
    let first = newest.map_or(0, |newest| newest.n) + 1;
    for n in first..first + MOST_NUMBERS {
        let object = object(&folder, n, plan, &report, &settings, &fingerprint, now);
        let content = Content::File(mp3.path());
        if let Some(proof) = put_derived(tools, lease, object, &content, now).await? {
            fail::fail_point!("pair.after_put");
            tools
                .db
                .mark_verified(lease, &proof, Some(facts.clone()), now)
                .await?;
            return Ok(true);
        }
    }
    Err(Verdict::later(reason::ARCHIVE_CONFLICT))
}

fn object(
    folder: &Folder,
    n: u32,
    plan: &Plan,
    report: &TranscodeReport,
    settings: &serde_json::Value,
    fingerprint: &crate::domain::digest::Fingerprint,
    now: Timestamp,
) -> NewObject {
    NewObject {
        role: Role::CallAccess,
        n,
        key: folder.access(n),
        bytes: fingerprint.bytes,
        sha256: fingerprint.sha256,
        mime: "audio/mpeg".to_owned(),
        // The first of them; `settings` names all.
        made_from: plan.left.first().map(|placed| placed.sha256),
        tool: Some(report.tool.clone()),
        settings: Some(settings.clone()),
        ..NewObject::default_at(now)
    }
}
