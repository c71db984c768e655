//! The loops that one process runs: inbox, journal, lease loop, schedule, clock watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pipeline::handoff::Tools;
use crate::pipeline::inbox;
use crate::pipeline::intake::Intake;

use super::instance::Instance;
use super::lease_loop;
use super::schedule::{self, Scheduled};
use super::settings::Settings;

/// A process further off the database's clock than this claims nothing.
const CLOCK_TOLERANCE_MS: i64 = 5_000;
const CLOCK_EVERY: Duration = Duration::from_secs(60);
const JOURNAL_EVERY: Duration = Duration::from_secs(2);
const INBOX_IDLE: Duration = Duration::from_millis(500);

/// Runs all loops until `stop` and returns when they have ended.
pub async fn run(
    tools: Tools,
    intake: Intake,
    settings: Settings,
    instance: Arc<Instance>,
    chores: Vec<Scheduled>,
    stop: CancellationToken,
) {
    let name: Arc<str> = instance.id.as_str().into();
    let wake = Arc::new(Notify::new());
    let may_claim = Arc::new(AtomicBool::new(true));
    let tracker = TaskTracker::new();
    tracker.spawn(watch_clock(tools.clone(), may_claim.clone(), stop.clone()));
    tracker.spawn(drain_journal(intake.clone(), stop.clone()));
    tracker.spawn(read_inbox(
        tools.clone(),
        intake.arrivals(),
        name.clone(),
        wake.clone(),
        stop.clone(),
    ));
    tracker.spawn(lease_loop::run(
        tools.clone(),
        name.clone(),
        settings.recordings,
        wake,
        may_claim,
        stop.clone(),
    ));
    let (db, clock, ticking) = (tools.db.clone(), tools.clock.clone(), stop.clone());
    tracker.spawn(async move {
        if let Err(error) = schedule::run(db, clock, name, chores, ticking).await {
            tracing::error!(%error, "the schedule does not run");
        }
    });
    tracker.close();
    tracker.wait().await;
}

async fn read_inbox(
    tools: Tools,
    arrivals: Arc<Notify>,
    instance: Arc<str>,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let read =
            inbox::read_waiting(&tools.db, &tools.sources, &instance, tools.clock.now()).await;
        let pause = match read {
            Ok(0) => INBOX_IDLE,
            Ok(_) => {
                wake.notify_one();
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "inbox not read");
                Duration::from_secs(2)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = arrivals.notified() => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn drain_journal(intake: Intake, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = intake.drain_journal().await {
            tracing::warn!(error, "journal not drained, it stays as it is");
        }
        tokio::select! {
            () = tokio::time::sleep(JOURNAL_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Leases are moments on the process clock; one that is far off would take live leases for dead ones.
async fn watch_clock(tools: Tools, may_claim: Arc<AtomicBool>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match tools.db.clock_offset_ms().await {
            Ok(offset) => {
                let fine = offset.abs() <= CLOCK_TOLERANCE_MS;
                if !fine {
                    tracing::error!(
                        offset_ms = offset,
                        "this machine's clock is off the database's, claiming nothing"
                    );
                }
                may_claim.store(fine, Ordering::Relaxed);
            }
            Err(error) => tracing::debug!(%error, "clock not compared"),
        }
        tokio::select! {
            () = tokio::time::sleep(CLOCK_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}
