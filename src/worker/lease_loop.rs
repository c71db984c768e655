//! Claims recordings, as many as there are free hands, and lets `ingest` walk each of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::db::recordings::Classes;
use crate::pipeline::handoff::Tools;
use crate::pipeline::ingest::{LEASE, ingest};

/// Longest sleep when nothing is due: new work also wakes the loop, this is the net below.
const IDLE: Duration = Duration::from_secs(1);
const DATABASE_AWAY: Duration = Duration::from_secs(2);

/// Runs until `stop`; then waits for what is in flight (each hands its lease back).
pub async fn run(
    tools: Tools,
    instance: Arc<str>,
    hands: usize,
    wake: Arc<Notify>,
    may_claim: Arc<std::sync::atomic::AtomicBool>,
    stop: CancellationToken,
) {
    let free = Arc::new(Semaphore::new(hands.max(1)));
    let tracker = TaskTracker::new();
    while !stop.is_cancelled() {
        let permit = tokio::select! {
            permit = free.clone().acquire_owned() => permit,
            () = stop.cancelled() => break,
        };
        // Never closed; were it, there would be nothing to do.
        let Ok(permit) = permit else { break };
        // One permit is in hand; claim for it and for all others that are free at this moment.
        let mut permits = vec![permit];
        while let Ok(more) = free.clone().try_acquire_owned() {
            permits.push(more);
        }
        if !may_claim.load(std::sync::atomic::Ordering::Relaxed) {
            drop(permits);
            pause(IDLE, &wake, &stop).await;
            continue;
        }
        let now = tools.clock.now();
        let names = tools.sources.names();
        let claimed = tools
            .db
            .claim(now, &instance, LEASE, permits.len(), &names, Classes::All)
            .await;
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, "cannot claim work");
                drop(permits);
                pause(DATABASE_AWAY, &wake, &stop).await;
                continue;
            }
        };
        let idle = claimed.is_empty();
        for leased in claimed {
            fail::fail_point!("claim.after_commit");
            let (tools, stop) = (tools.clone(), stop.clone());
            let permit = permits.pop();
            let wake = wake.clone();
            tracker.spawn(async move {
                ingest(&tools, leased, &stop).await;
                drop(permit);
                wake.notify_one();
            });
        }
        drop(permits);
        if idle {
            pause(IDLE, &wake, &stop).await;
        }
    }
    tracker.close();
    tracker.wait().await;
}

async fn pause(longest: Duration, wake: &Notify, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(longest) => {}
        () = wake.notified() => {}
        () = stop.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::ingest::HEARTBEAT;

    #[test]
    fn what_a_dead_worker_held_is_claimed_within_65_s() {
        // Its lease was renewed a moment before it died; a living worker looks this often at the latest.
        assert!(LEASE + IDLE.max(DATABASE_AWAY) <= Duration::from_secs(65));
        // One heartbeat may fail and the lease still stands.
        assert!(HEARTBEAT * 2 < LEASE);
    }
}
