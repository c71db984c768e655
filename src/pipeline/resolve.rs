//! Asks the provider where a recording can be had at this moment.

use crate::db::recordings::RecordingRow;
use crate::domain::clock::Timestamp;
use crate::domain::recording::reason;
use crate::domain::retry::{LONGEST_WAIT, RetryAdvice, not_ready};
use crate::providers::contract::{Located, Provider, ProviderError, ProviderErrorKind, Wanted};

use super::handoff::{Place, Verdict, Wait};

/// An address to fetch from, used at once; or what follows when there is none.
pub async fn resolve(
    provider: &dyn Provider,
    row: &RecordingRow,
    now: Timestamp,
) -> Result<Place, Verdict> {
    fail::fail_point!("resolve.before_call");
    let mut wanted = Wanted {
        recording_id: row.recording_id,
        provider_call_id: row.call.provider_call_id.clone(),
        provider_recording_id: row.provider_recording_id.clone(),
        handle: row.handle.clone(),
        link: row.link.clone().filter(|_| !was_refused(row)),
        call_ended_at: row.call.ended_at,
        arrived_at: row.arrived_at,
    };
    let mut located = provider.locate(&wanted, now).await;
    if was_refused(row) && matches!(located, Ok(Located::Unannounced)) {
        // Nobody knows another address than the one that was told: it, or what was told since, is tried again, and
        // the reason stays what the address answers.
        wanted.link.clone_from(&row.link);
        located = provider.locate(&wanted, now).await;
    }
    fail::fail_point!("resolve.after_call");
    let over = row.clocks.is_over(row.link_renewable, now);
    match located {
        Ok(Located::Ready(address)) => Ok(Place::Web(address)),
        Ok(Located::File(file)) => Ok(Place::Disk(file)),
        Ok(Located::NotReady { .. } | Located::Later { .. }) if over => Err(Verdict::Gone {
            reason: reason::EXPIRED_AT_PROVIDER,
            evidence: format!("not ready, and the provider's time to keep it ended before {now}"),
        }),
        Ok(Located::NotReady { code }) => Err(still_not_ready(provider, row, code, now)),
        Ok(Located::Gone { code }) => Err(Verdict::Gone {
            reason: reason::GONE,
            evidence: format!("the provider says gone, code {}", code.unwrap_or_default()),
        }),
        Ok(Located::Unannounced) => Err(Verdict::Later {
            reason: reason::RECORDING_NOT_ANNOUNCED,
            wait: Wait::Exactly(LONGEST_WAIT),
        }),
        Ok(Located::Later { reason, wait }) => Err(Verdict::later_after(reason, wait)),
        Err(error) => Err(refused(&error)),
    }
}

/// The address we hold was refused at the last try, and another one can be asked for. While the file may
/// not be there yet, address and vendor are tried in turn: the address may begin to work, or the vendor
/// may know by now that the file is gone. Whose turn it is, the reason says: `not_ready` is the vendor's word,
/// `link_not_ready` the address's.
fn was_refused(row: &RecordingRow) -> bool {
    row.link_renewable
        && matches!(
            row.reason.as_deref(),
            Some(reason::LINK_EXPIRED | reason::LINK_NOT_READY)
        )
}

/// Nobody talked and the file does not come within the vendor's `ready_deadline`: it was never made.
/// Otherwise the plan goes on until the vendor's time is over.
fn still_not_ready(
    provider: &dyn Provider,
    row: &RecordingRow,
    code: Option<String>,
    now: Timestamp,
) -> Verdict {
    let plan = provider.waiting_plan();
    let since = row.call.ended_at.unwrap_or(row.arrived_at);
    let deadline = since.plus(plan.ready_deadline);
    let talked = row
        .call
        .talked
        .unwrap_or_else(|| row.call.duration_ms.is_some_and(|ms| ms > 0));
    if now >= deadline && row.confirmed_at.is_none() && !talked {
        return Verdict::Gone {
            reason: reason::NEVER_MADE,
            evidence: format!(
                "not ready {} after the call's end, code {}",
                humane(now.since_ms(since)),
                code.unwrap_or_default()
            ),
        };
    }
    Verdict::NotReady {
        wait: not_ready(&plan.waits, row.not_ready_tries, now, Some(deadline)),
    }
}

fn refused(error: &ProviderError) -> Verdict {
    tracing::warn!(source = error.source_name, %error, "provider did not say where");
    let reason = match error.kind {
        ProviderErrorKind::Throttled => reason::THROTTLED,
        ProviderErrorKind::CredentialsRefused | ProviderErrorKind::CannotListBucket => {
            reason::CREDENTIALS_REFUSED
        }
        ProviderErrorKind::Unreachable | ProviderErrorKind::BadAnswer => {
            reason::PROVIDER_UNREACHABLE
        }
    };
    match error.advice {
        RetryAdvice::After(wait) => Verdict::later_after(reason, wait),
        RetryAdvice::Backoff | RetryAdvice::Never => Verdict::later(reason),
    }
}

fn humane(ms: i64) -> String {
    match ms / 1000 {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}
