//! Takes a second look at a recording that was archived short: vendors sometimes hand out a file that
//! is still being written. A longer body becomes a second original; the first stays as it is.

use crate::archive::contract::Source;
use crate::db::recordings::{Lease, Loaded, NewObject};
use crate::domain::pieces::Pieces;
use crate::domain::recording::Role;
use crate::providers::contract::Provider;

use super::handoff::{Tools, Verdict};
use super::put::next_number;
use super::{fetch, inspect, resolve};

/// How long after it was archived a recording is still looked at again.
const WITHIN_MS: i64 = 24 * 3600 * 1000;

/// One look, whatever it brings: what can be had later no better is not worth asking for again. Trouble on
/// the way is no look: it is tried again within the day.
pub async fn second_look(
    tools: &Tools,
    lease: &Lease,
    loaded: &Loaded,
    provider: &dyn Provider,
) -> Result<(), Verdict> {
    match longer(tools, lease, loaded, provider).await {
        Ok(true) => tracing::info!(recording = %lease.recording_id, "a longer original came"),
        Ok(false) | Err(Verdict::NotReady { .. } | Verdict::Gone { .. }) => {}
        Err(Verdict::LeaseLost) => return Err(Verdict::LeaseLost),
        Err(Verdict::Later { reason, wait }) => {
            let now = tools.clock.now();
            let archived = loaded.row.archived_at.unwrap_or(now);
            let at = wait.until(loaded.row.failures, now, archived.plus_ms(WITHIN_MS));
            if at.since_ms(archived) < WITHIN_MS {
                tracing::info!(recording = %lease.recording_id, reason, "second look put off");
                return Ok(tools.db.recheck_later(lease, at).await?);
            }
        }
        Err(verdict) => {
            tracing::info!(recording = %lease.recording_id, ?verdict, "second look brought nothing");
        }
    }
    let now = tools.clock.now();
    Ok(tools.db.recheck_done(lease, now).await?)
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
    let inspected = inspect::inspect(fetched).await?;
    if Pieces::is_playlist(&inspected.ext) {
        // Its segments were archived with it; a playlist that grew is no longer body of the same file.
        return Ok(false);
    }
    let held = loaded
        .objects
        .iter()
        .filter(|object| object.role == Role::Original && object.verified_at.is_some())
        .map(|object| object.bytes)
        .max()
        .unwrap_or(0);
    let Some(folder) = row
        .folder
        .as_ref()
        .filter(|_| inspected.fingerprint.bytes > held)
    else {
        return Ok(false);
    };
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
