//! Walks one recording under one lease: resolve, fetch, inspect, store, index, then transcode.
//!
//! Each stage hands on or gives a verdict; only this file turns verdicts into a settled row. A crash
//! anywhere costs at most one download, and none once the row says `staged`.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::db::doubles::Pair;
use crate::db::recordings::{Lease, Leased, Loaded, RecordingRow, Settle};
use crate::domain::clock::Timestamp;
use crate::domain::pieces::Pieces;
use crate::domain::recording::{State, reason};
use crate::providers::contract::Provider;
use crate::spool::Scratch;

use super::handoff::{Inspected, Place, Tools, Verdict, Wait, capped};
use super::{fetch, index, inspect, pair, playlist, put, resolve, second_look, store, transcode};

/// Reasons of waits that end when somebody tells more.
const WAITS_FOR_NEWS: [&str; 4] = [
    reason::RECORDING_NOT_ANNOUNCED,
    reason::LINK_EXPIRED,
    reason::LINK_NOT_READY,
    reason::NOT_READY,
];

/// How long a claim holds without a heartbeat.
pub const LEASE: Duration = Duration::from_secs(60);
/// How long work in flight may go on after the word to stop.
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// How often a claim is renewed.
pub const HEARTBEAT: Duration = Duration::from_secs(20);
/// Verdicts on the bytes before a person is asked.
const TRIES: u32 = 5;
/// A quarantined recording is still tried once a day until the vendor's time is over.
const QUARANTINE_AGAIN: Duration = Duration::from_secs(24 * 3600);
/// How long past the vendor's time a machine that keeps a file may stay away before it counts as gone too.
const HELD_ELSEWHERE_MS: i64 = 7 * 24 * 3600 * 1000;
/// Decoder faults and lapses before the access copy is given up.
const ACCESS_TRIES: u32 = 3;

/// Does all that is due for one claimed recording and settles it.
pub async fn ingest(tools: &Tools, leased: Leased, stop: &CancellationToken) {
    let lease = leased.lease;
    let alive = CancellationToken::new();
    let _heart = alive.clone().drop_guard();
    let lost = beat(tools, lease, alive);
    let mut walk = std::pin::pin!(walk(tools, leased));
    let mut walked = tokio::select! {
        walked = &mut walk => Some(walked),
        () = lost.cancelled() => Some(Err(Verdict::LeaseLost)),
        () = stop.cancelled() => None,
    };
    if walked.is_none() {
        // Stopping: a put that is under way had better end than be cut off.
        walked = tokio::time::timeout(FINISH_WITHIN, &mut walk).await.ok();
    }
    let walked = match walked {
        Some(walked) => walked,
        None => {
            // Hand the work back at once instead of letting the lease run out.
            let now = tools.clock.now();
            if let Err(error) = tools.db.release(&lease, now).await {
                tracing::debug!(recording = %lease.recording_id, %error, "lease not released");
            }
            return;
        }
    };
    tracing::debug!(target: "callvault::stage", recording = %lease.recording_id, stage = "settled");
    match walked {
        Ok(()) => {}
        Err(Verdict::LeaseLost) => {
            tracing::warn!(recording = %lease.recording_id, "lease lost, leaving the recording to its new holder");
        }
        Err(verdict) => {
            tracing::error!(recording = %lease.recording_id, ?verdict, "recording left unsettled, its lease runs out")
        }
    }
}

/// Renews the lease; the returned token is cancelled when somebody else has it.
fn beat(tools: &Tools, lease: Lease, alive: CancellationToken) -> CancellationToken {
    let lost = CancellationToken::new();
    let (tools, report) = (tools.clone(), lost.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = alive.cancelled() => return,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
            let until = tools.clock.now().plus(LEASE);
            match tools.db.heartbeat(&lease, until).await {
                Ok(()) => {}
                Err(error) if error.is_lease_lost() => {
                    report.cancel();
                    return;
                }
                // The database is away: the work goes on, every later write is guarded by the token.
                Err(error) => {
                    tracing::warn!(recording = %lease.recording_id, %error, "heartbeat failed")
                }
            }
        }
    });
    lost
}

async fn walk(tools: &Tools, leased: Leased) -> Result<(), Verdict> {
    let lease = leased.lease;
    let row = &leased.loaded.row;
    let Some(provider) = tools.sources.get(&row.source) else {
        return settle_later(tools, &lease, row, reason::SOURCE_UNCONFIGURED).await;
    };
    if row.state == State::Archived {
        if row.recheck_due {
            second_look::second_look(tools, &lease, &leased.loaded, provider.as_ref()).await?;
        }
        return derive(tools, &lease, None).await;
    }
    match bring_in(tools, &lease, &leased, &provider).await {
        Ok(scratch) => {
            // What is not archived yet goes before access copies.
            let now = tools.clock.now();
            if tools
                .db
                .archive_work_is_due(now, &tools.sources.names())
                .await?
            {
                drop(scratch);
                tools.db.settle(&lease, Settle::Done, now).await?;
                return Ok(());
            }
            derive(tools, &lease, scratch).await
        }
        Err(verdict) => {
            let now = tools.clock.now();
            let verdict = if waits_elsewhere(row, now) {
                kept_elsewhere(verdict)
            } else {
                verdict
            };
            settle(tools, &lease, row, verdict).await
        }
    }
}

/// Another machine may hold its file in the spool: whoever handed it back for want of the archive kept it.
fn waits_elsewhere(row: &RecordingRow, now: Timestamp) -> bool {
    row.state == State::Staged
        && row.reason.as_deref() == Some(reason::ARCHIVE_UNAVAILABLE)
        && now.since_ms(row.deadline_at) < HELD_ELSEWHERE_MS
}

/// What the vendor does not give (any more) is not lost while a file of it waits for the archive.
fn kept_elsewhere(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::LeaseLost | Verdict::Quarantine { .. } => verdict,
        Verdict::Later {
            reason: reason::ARCHIVE_CONFLICT,
            ..
        } => verdict,
        Verdict::Later { wait, .. } => Verdict::Later {
            reason: reason::ARCHIVE_UNAVAILABLE,
            wait,
        },
        Verdict::NotReady { .. } | Verdict::BadBytes { .. } | Verdict::Gone { .. } => {
            Verdict::Later {
                reason: reason::ARCHIVE_UNAVAILABLE,
                wait: Wait::Backoff,
            }
        }
    }
}

/// From wherever the recording is to `archived`. Gives the file when it is still in the spool.
async fn bring_in(
    tools: &Tools,
    lease: &Lease,
    leased: &Leased,
    provider: &Arc<dyn Provider>,
) -> Result<Option<Scratch>, Verdict> {
    let row = &leased.loaded.row;
    let objects = &leased.loaded.objects;
    let kept = store::take_up(tools, row, objects).await?;
    if row.state == State::Staged {
        match store::adopt(tools, row, objects).await {
            Ok(Some(proofs)) => {
                stage(row, "index");
                index::index(tools, lease, &proofs, &row.notes, tools.clock.now()).await?;
                return Ok(kept.map(|inspected| {
                    let mut scratch = inspected.scratch;
                    scratch.release();
                    scratch
                }));
            }
            Ok(None) => {}
            // The archive is away, the file is not here and its address dies: fetch it while it lives.
            Err(Verdict::Later { reason, .. })
                if reason == reason::ARCHIVE_UNAVAILABLE
                    && kept.is_none()
                    && !row.link_renewable => {}
            Err(verdict) => return Err(verdict),
        }
    }
    let mut inspected = match kept {
        Some(inspected) => inspected,
        None => bring_here(tools, lease, row, provider).await?,
    };
    stage(row, "store");
    let proofs = store::store(tools, lease, row, &mut inspected, tools.clock.now()).await?;
    stage(row, "index");
    index::index(tools, lease, &proofs, &inspected.notes, tools.clock.now()).await?;
    inspected.scratch.release();
    Ok(match inspected.beside {
        None => Some(inspected.scratch),
        Some(beside) => Some(beside.joined).filter(|_| beside.plays),
    })
}

/// From the vendor into the spool, judged.
async fn bring_here(
    tools: &Tools,
    lease: &Lease,
    row: &RecordingRow,
    provider: &Arc<dyn Provider>,
) -> Result<Inspected, Verdict> {
    stage(row, "resolve");
    let now = tools.clock.now();
    let address = resolve::resolve(provider.as_ref(), row, now).await?;
    if row.confirmed_at.is_none() {
        tools.db.confirm(lease, now).await?;
    }
    stage(row, "fetch");
    let scratch = tools
        .spool
        .scratch(
            lease.recording_id,
            lease.token,
            address.expected_bytes().unwrap_or(0),
        )
        .await?;
    let fetched = fetch::fetch(
        tools,
        provider.as_ref(),
        row,
        &address,
        scratch,
        tools.clock.now(),
    )
    .await?;
    stage(row, "inspect");
    let from = fetched.at.clone();
    let mut inspected = inspect::inspect(fetched).await?;
    if Pieces::is_playlist(&inspected.ext)
        && let (Place::Web(address), Some(from)) = (&address, &from)
    {
        let came = playlist::Came { address, from };
        playlist::gather(tools, provider.as_ref(), lease, row, came, &mut inspected).await?;
    }
    // Before the bytes: whoever takes over after a crash publishes with the same notes.
    tools
        .db
        .set_notes(lease, &inspected.notes, tools.clock.now())
        .await?;
    Ok(inspected)
}

/// Access copy, waveform and the manifest that names them.
async fn derive(tools: &Tools, lease: &Lease, scratch: Option<Scratch>) -> Result<(), Verdict> {
    let loaded = tools.db.load(lease.recording_id).await?;
    let row = loaded.row.clone();
    stage(&row, "transcode");
    match derive_steps(tools, lease, loaded, scratch).await {
        Ok(None) => Ok(()),
        Ok(Some(settle)) => {
            tools.db.settle(lease, settle, tools.clock.now()).await?;
            Ok(())
        }
        Err(Verdict::LeaseLost) => Err(Verdict::LeaseLost),
        Err(Verdict::BadBytes { reason, detail }) => {
            let now = tools.clock.now();
            tracing::warn!(recording = %row.recording_id, detail, "no access copy yet");
            let later = Settle::AccessLater {
                at: now.plus(crate::domain::retry::backoff(
                    row.access_tries,
                    rand::random(),
                )),
                reason: reason.to_owned(),
                counts: true,
            };
            tools.db.settle(lease, later, now).await?;
            Ok(())
        }
        Err(verdict) => {
            let now = tools.clock.now();
            let (reason, at) = match verdict {
                Verdict::Later { reason, wait } => (
                    reason,
                    wait.until(row.failures, now, Timestamp::from_ms(i64::MAX)),
                ),
                _ => (reason::ARCHIVE_UNAVAILABLE, now.plus(LEASE)),
            };
            let later = Settle::AccessLater {
                at,
                reason: reason.to_owned(),
                counts: false,
            };
            tools.db.settle(lease, later, now).await?;
            Ok(())
        }
    }
}

/// `None` when the recording went over into another one, and with it row and lease.
async fn derive_steps(
    tools: &Tools,
    lease: &Lease,
    mut loaded: Loaded,
    scratch: Option<Scratch>,
) -> Result<Option<Settle>, Verdict> {
    let is_planned = loaded.objects.iter().any(|o| o.verified_at.is_none());
    if is_planned {
        put::tidy_planned(tools, lease, &loaded.objects, tools.clock.now()).await?;
    }
    let is_double = loaded.row.same_as.is_some();
    if is_double && unite(tools, lease).await? {
        return Ok(None);
    }
    if is_planned || is_double {
        loaded = tools.db.load(lease.recording_id).await?;
    }
    let row = &loaded.row;
    let is_wanted = row.pair_wanted > row.pair_done;
    let looks = pair::concerns(row) && (row.access_due || row.manifest_due || is_wanted);
    if is_wanted && !looks {
        tools.db.pair_looked(lease, row.pair_wanted).await?;
    }
    if !row.access_due && !row.manifest_due && !looks {
        return Ok(Some(Settle::Done));
    }
    let mut settle = Settle::Done;
    let mut is_told = row.access_due || row.manifest_due;
    if row.access_due {
        if row.access_tries + row.access_lapses >= ACCESS_TRIES {
            let notes = with_note(&row.notes, crate::domain::media::note::TRANSCODE_GAVE_UP);
            tools.db.set_notes(lease, &notes, tools.clock.now()).await?;
            settle = Settle::AccessGaveUp {
                reason: reason::TRANSCODE_GAVE_UP.to_owned(),
            };
        } else {
            let notes =
                transcode::transcode(tools, lease, &loaded, scratch, tools.clock.now()).await?;
            tools.db.set_notes(lease, &notes, tools.clock.now()).await?;
            settle = Settle::AccessDone;
        }
    }
    if looks {
        is_told |= pair_up(tools, lease).await?;
        // Its tries are over, however they ended.
        if !row.access_due {
            settle = Settle::AccessDone;
        }
    }
    if !is_told {
        return Ok(Some(settle));
    }
    // One moment for all of it: the manifest itself tells when it was written and read back.
    let now = tools.clock.now();
    let proof = index::write_manifest(tools, lease, None, now).await?;
    tools.db.mark_verified(lease, &proof, None, now).await?;
    fail::fail_point!("transcode.before_settle");
    Ok(Some(settle))
}

/// The look at the call's joint access copy; gives whether the manifest has something to tell of it.
///
/// Trouble with it is no trouble of the recording's own copy: when that was just made, the look is put off to a lease of its own.
async fn pair_up(tools: &Tools, lease: &Lease) -> Result<bool, Verdict> {
    let loaded = tools.db.load(lease.recording_id).await?;
    let row = &loaded.row;
    let afresh = row.access_due;
    let gave_up = !afresh && row.access_tries + row.access_lapses >= ACCESS_TRIES;
    let now = tools.clock.now();
    let looked = match pair::pair(tools, lease, &loaded, afresh, gave_up, now).await {
        Ok(looked) => looked,
        Err(Verdict::LeaseLost) => return Err(Verdict::LeaseLost),
        Err(verdict) if afresh => {
            tracing::warn!(recording = %row.recording_id, ?verdict, "joint copy put off");
            tools.db.wake_pair(&[row.recording_id], now).await?;
            return Ok(false);
        }
        Err(verdict) => return Err(verdict),
    };
    let is_news = looked.notes != row.notes;
    if is_news {
        tools.db.set_notes(lease, &looked.notes, now).await?;
    }
    tools.db.pair_looked(lease, row.pair_wanted).await?;
    Ok(looked.made || is_news)
}

/// Two archived recordings that a later notice called one become one: the leased one goes over into the
/// older. `true` when it did, and row and lease are gone; otherwise it goes on by itself for now.
///
/// The archive is told first: from then on a rebuild unites them, and so does the next holder of the lease
/// if this one dies in between.
async fn unite(tools: &Tools, lease: &Lease) -> Result<bool, Verdict> {
    let now = tools.clock.now();
    let Pair::Same(into) = tools.db.judge_pair(lease, now).await? else {
        return Ok(false);
    };
    let proof = index::write_manifest(tools, lease, Some(into), now).await?;
    tools.db.mark_verified(lease, &proof, None, now).await?;
    let united = tools.db.unite(lease, into, tools.clock.now()).await?;
    if united {
        tracing::info!(recording = %lease.recording_id, %into, "united with the recording that it turned out to be");
    }
    Ok(united)
}

fn with_note(notes: &[String], code: &str) -> Vec<String> {
    let mut notes = notes.to_vec();
    if !notes.iter().any(|note| note == code) {
        notes.push(code.to_owned());
    }
    notes
}

/// Turns a verdict into the row's next state.
///
/// `seen` is the row as it was claimed: a verdict that waits for news waits no more when they came meanwhile.
async fn settle(
    tools: &Tools,
    lease: &Lease,
    seen: &RecordingRow,
    verdict: Verdict,
) -> Result<(), Verdict> {
    if verdict == Verdict::LeaseLost {
        return Err(Verdict::LeaseLost);
    }
    // Fresh: the vendor may have confirmed the file since the claim, and that is evidence.
    let loaded = tools.db.load(lease.recording_id).await?;
    let row = &loaded.row;
    let now = tools.clock.now();
    let deadline = row.deadline_at;
    let over = row.clocks.is_over(row.link_renewable, now);
    let has_news = row.handle != seen.handle || row.link != seen.link;
    let waits = match &verdict {
        Verdict::NotReady { .. } => true,
        Verdict::Later { reason, .. } => WAITS_FOR_NEWS.contains(reason),
        _ => false,
    };
    let verdict = match verdict {
        Verdict::Later { reason, .. } if waits && has_news => {
            Verdict::later_after(reason, Duration::ZERO)
        }
        Verdict::NotReady { .. } if has_news => Verdict::NotReady {
            wait: Duration::ZERO,
        },
        verdict => verdict,
    };
    let settle = match verdict {
        Verdict::LeaseLost => return Err(Verdict::LeaseLost),
        // The vendor's time is over and the vendor does not give it: nothing will change any more.
        Verdict::Later {
            reason:
                why @ (reason::LINK_EXPIRED
                | reason::PROVIDER_UNREACHABLE
                | reason::THROTTLED
                | reason::CREDENTIALS_REFUSED
                | reason::HOST_NOT_ALLOWED
                | reason::ADDRESS_FORBIDDEN),
            ..
        } if over => gone(row, reason::EXPIRED_AT_PROVIDER, why),
        Verdict::Later { reason, wait } => Settle::Retry {
            at: wait.until(row.failures, now, deadline),
            reason: reason.to_owned(),
            count: crate::db::recordings::Count::Failure,
        },
        Verdict::NotReady { wait } => Settle::Retry {
            at: capped(wait, now, deadline),
            reason: reason::NOT_READY.to_owned(),
            count: crate::db::recordings::Count::NotReady,
        },
        Verdict::BadBytes { reason, detail } => {
            tracing::warn!(recording = %row.recording_id, reason, detail, "bytes refused");
            bad_bytes(row, reason, now)
        }
        Verdict::Quarantine { reason, detail } => {
            tracing::error!(recording = %row.recording_id, reason, detail, "recording quarantined");
            Settle::Quarantine {
                reason: reason.to_owned(),
                retry_at: capped(QUARANTINE_AGAIN, now, deadline),
            }
        }
        Verdict::Gone { reason, evidence } => gone(row, reason, &evidence),
    };
    tools.db.settle(lease, settle, now).await?;
    // What came between that look and this write found the row leased, and nobody else looks before its time.
    if waits
        && let Ok(after) = tools.db.load(lease.recording_id).await
        && (after.row.handle != row.handle || after.row.link != row.link)
    {
        tools
            .db
            .retry(lease.recording_id, tools.clock.now())
            .await?;
    }
    Ok(())
}

fn bad_bytes(row: &RecordingRow, reason: &'static str, now: Timestamp) -> Settle {
    if row.clocks.is_over(row.link_renewable, now) {
        return gone(
            row,
            crate::domain::recording::reason::EXPIRED_AT_PROVIDER,
            reason,
        );
    }
    if row.attempts + 1 >= TRIES {
        return Settle::Quarantine {
            reason: reason.to_owned(),
            retry_at: capped(QUARANTINE_AGAIN, now, row.deadline_at),
        };
    }
    Settle::Retry {
        at: capped(
            crate::domain::retry::backoff(row.attempts, rand::random()),
            now,
            row.deadline_at,
        ),
        reason: reason.to_owned(),
        count: crate::db::recordings::Count::Attempt,
    }
}

/// Lost needs evidence that it existed; without it, it was never made.
fn gone(row: &RecordingRow, reason: &'static str, evidence: &str) -> Settle {
    if row.confirmed_at.is_some() {
        tracing::error!(recording = %row.recording_id, reason, evidence, "recording lost");
        Settle::Lost {
            reason: reason.to_owned(),
            evidence: evidence.to_owned(),
        }
    } else {
        Settle::Absent {
            reason: reason.to_owned(),
        }
    }
}

async fn settle_later(
    tools: &Tools,
    lease: &Lease,
    row: &RecordingRow,
    reason: &'static str,
) -> Result<(), Verdict> {
    let now = tools.clock.now();
    let settle = Settle::Retry {
        at: capped(crate::domain::retry::LONGEST_WAIT, now, row.deadline_at),
        reason: reason.to_owned(),
        count: crate::db::recordings::Count::Nothing,
    };
    tools.db.settle(lease, settle, now).await?;
    Ok(())
}

/// One line per stage, and `settled` at the end; the kill loop counts its kills by them.
fn stage(row: &RecordingRow, name: &'static str) {
    tracing::debug!(target: "callvault::stage", recording = %row.recording_id, stage = name);
}
