//! Takes a second look at a recording that was archived short: vendors sometimes hand out a file that
//! is still being written. A longer body becomes a second original; the first stays as it is. So does
//! another file that the vendor announced under the same name after the first was archived.

use std::time::Duration;

use crate::archive::contract::Source;
use crate::db::recordings::{Lease, Loaded, NewObject, ObjectRow, RecordingRow};
use crate::domain::media::note;
use crate::domain::pieces::Pieces;
use crate::domain::recording::Role;
use crate::providers::contract::Provider;

use super::handoff::{Tools, Verdict};
use super::put::next_number;
use super::{fetch, inspect, resolve};

/// How long after it was archived a recording is still looked at again.
const WITHIN_MS: i64 = 24 * 3600 * 1000;
/// The vendor told of another file and still gives the old one.
const STILL_THE_OLD_ONE: Duration = Duration::from_secs(6 * 3600);

/// One look, whatever it brings: what can be had later no better is not worth asking for again. Trouble on
/// the way is no look: it is tried again within the day; and so is what the vendor said it has.
pub async fn second_look(
    tools: &Tools,
    lease: &Lease,
    loaded: &Loaded,
    provider: &dyn Provider,
) -> Result<(), Verdict> {
    let row = &loaded.row;
    let looked = longer(tools, lease, loaded, provider).await;
    let now = tools.clock.now();
    // For what the vendor said it has, as long as it keeps it; else for a day.
    let is_promised = versions(row) > originals(loaded).count();
    let end = match is_promised {
        true => row.deadline_at,
        false => row.archived_at.unwrap_or(now).plus_ms(WITHIN_MS),
    };
    let put_off = match looked {
        Ok(true) => {
            tracing::info!(recording = %lease.recording_id, "a further original came");
            None
        }
        Ok(false) if is_promised => Some(now.plus(STILL_THE_OLD_ONE)),
        Err(Verdict::NotReady { wait }) if is_promised => Some(now.plus(wait)),
        Ok(false) | Err(Verdict::NotReady { .. } | Verdict::Gone { .. }) => None,
        Err(Verdict::LeaseLost) => return Err(Verdict::LeaseLost),
        Err(Verdict::Later { wait, .. }) => Some(wait.until(row.failures, now, end)),
        Err(verdict) => {
            tracing::info!(recording = %lease.recording_id, ?verdict, "second look brought nothing");
            None
        }
    };
    match put_off.filter(|at| *at < end) {
        Some(at) => tools.db.recheck_later(lease, at).await?,
        None => tools.db.recheck_done(lease, now).await?,
    }
    Ok(())
}

fn originals(loaded: &Loaded) -> impl Iterator<Item = &ObjectRow> {
    let is_there = |o: &&ObjectRow| o.role == Role::Original && o.verified_at.is_some();
    loaded.objects.iter().filter(is_there)
}

async fn longer(
    tools: &Tools,
    lease: &Lease,
    loaded: &Loaded,
    provider: &dyn Provider,
) -> Result<bool, Verdict> {
    let row = &loaded.row;
    let now = tools.clock.now();
    let address = resolve::resolve(provider, row, now).await?;
    let scratch = tools
        .spool
        .scratch(
            lease.recording_id,
            lease.token,
            address.expected_bytes().unwrap_or(0),
        )
        .await?;
    let fetched = fetch::fetch(tools, provider, row, &address, scratch, now).await?;
    let mut inspected = inspect::inspect(fetched).await?;
    if Pieces::is_playlist(&inspected.ext) {
        // Its segments were archived with it; a playlist that grew is no longer body of the same file.
        return Ok(false);
    }
    let held: Vec<_> = originals(loaded).collect();
    let found = &inspected.fingerprint;
    let is_longer = held.iter().all(|object| object.bytes < found.bytes);
    let is_another =
        versions(row) > held.len() && held.iter().all(|object| object.sha256 != found.sha256);
    let Some(folder) = row.folder.as_ref().filter(|_| is_longer || is_another) else {
        return Ok(false);
    };
    if is_another {
        tracing::warn!(recording = %row.recording_id, "the vendor changed the file under its name; both are kept");
        inspected.notes.push(note::CHANGED_AT_VENDOR.to_owned());
    }
    let key = folder.original(&inspected.fingerprint.sha256, &inspected.ext);
    let object = NewObject {
        role: Role::Original,
        n: next_number(&loaded.objects, Role::Original),
        key: key.clone(),
        bytes: inspected.fingerprint.bytes,
        sha256: inspected.fingerprint.sha256,
        mime: inspected.mime.clone(),
        ..NewObject::default_at(now)
    };
    tools.db.stage_second(lease, object, now).await?;
    let source = Source::File(inspected.scratch.path());
    tools
        .archive
        .put(&key, source, &inspected.fingerprint, &inspected.mime)
        .await?;
    let proof = tools
        .archive
        .read_back(&key, None, &inspected.fingerprint)
        .await?;
    // The access copy is made again, from the longer one. The proof comes last: whoever finds the plan
    // without it looks once more.
    tools.db.set_notes(lease, &inspected.notes, now).await?;
    tools.db.access_due_again(lease).await?;
    tools.db.mark_verified(lease, &proof, None, now).await?;
    Ok(true)
}

/// How many files the vendor has announced under this name, by what it says of their bytes.
fn versions(row: &RecordingRow) -> usize {
    let told = row.handle.get("versions");
    told.and_then(|told| told.as_array()).map_or(0, Vec::len)
}
