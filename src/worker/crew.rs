//! The loops that a worker runs: inbox, queues, lease loop, schedule, clock watch; and the journal's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ingress::{queue, ways};
use crate::jobs::alarms::{CLOCK, CLOCK_TOLERANCE_MS};
use crate::pipeline::faults::Faults;
use crate::pipeline::handoff::Tools;
use crate::pipeline::inbox;
use crate::pipeline::intake::Intake;
use crate::pipeline::kept;

use super::instance::Instance;
use super::lease_loop;
use super::schedule::{self, Scheduled};
use super::settings::Settings;

const CLOCK_EVERY: Duration = Duration::from_secs(60);
const JOURNAL_EVERY: Duration = Duration::from_secs(2);
const KEPT_EVERY: Duration = Duration::from_secs(600);
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
    let may_claim = Arc::new(AtomicBool::new(false));
    let tracker = TaskTracker::new();
    let guard = |name: &'static str, work| guarded(name, work, stop.clone());
    let clock = watch_clock(
        tools.clone(),
        name.clone(),
        may_claim.clone(),
        wake.clone(),
        stop.clone(),
    );
    tracker.spawn(guard("clock watch", tokio::spawn(clock)));
    let inbox = read_inbox(
        tools.clone(),
        intake.arrivals(),
        name.clone(),
        wake.clone(),
        may_claim.clone(),
        stop.clone(),
    );
    tracker.spawn(guard("inbox", tokio::spawn(inbox)));
    let faults = Faults::new(tools.db.clone(), tools.clock.clone());
    let queues = queue::run(
        tools.sources.clone(),
        intake.clone(),
        faults.clone(),
        stop.clone(),
    );
    tracker.spawn(guard("queues", tokio::spawn(queues)));
    let ways = ways::run(tools.sources.clone(), intake, faults, stop.clone());
    tracker.spawn(guard("ways in", tokio::spawn(ways)));
    let leases = lease_loop::run(
        tools.clone(),
        name.clone(),
        settings.recordings,
        wake,
        may_claim,
        stop.clone(),
    );
    tracker.spawn(guard("lease loop", tokio::spawn(leases)));
    let tidying = tidy_kept(tools.clone(), stop.clone());
    tracker.spawn(guard("kept files", tokio::spawn(tidying)));
    let (db, clock, ticking) = (tools.db.clone(), tools.clock.clone(), stop.clone());
    let ticks = async move {
        if let Err(error) = schedule::run(db, clock, name, chores, ticking).await {
            tracing::error!(%error, "the schedule does not run");
        }
    };
    tracker.spawn(guard("schedule", tokio::spawn(ticks)));
    tracker.close();
    tracker.wait().await;
}

/// A loop that ends before its time ends the process: half a service that answers is worse than none,
/// and whoever supervises us starts a whole one again.
pub async fn guarded(name: &'static str, work: JoinHandle<()>, stop: CancellationToken) {
    let ended = work.await;
    if ended.is_err() || !stop.is_cancelled() {
        tracing::error!(name, "a loop ended before its time, stopping");
        stop.cancel();
    }
}

async fn read_inbox(
    tools: Tools,
    arrivals: Arc<Notify>,
    instance: Arc<str>,
    wake: Arc<Notify>,
    may_claim: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let read = if may_claim.load(Ordering::Relaxed) {
            inbox::read_waiting(&tools.db, &tools.sources, &instance, tools.clock.now()).await
        } else {
            Ok(0)
        };
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

/// This machine's spool is for this machine to tidy, so it is no chore that one process does for all.
async fn tidy_kept(tools: Tools, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(KEPT_EVERY) => {}
            () = stop.cancelled() => return,
        }
        kept::sweep(&tools.db, &tools.spool).await;
    }
}

/// Moves what the journal kept into the database, as often as it takes. Every process that may write
/// into the journal runs this: nobody else drains a living process's file.
pub async fn drain_journal(intake: Intake, stop: CancellationToken) {
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
async fn watch_clock(
    tools: Tools,
    instance: Arc<str>,
    may_claim: Arc<AtomicBool>,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    // Who is off says so for all to see; the machine, for its processes share one clock.
    let doing = format!("{CLOCK} {}", instance.split('/').next().unwrap_or_default());
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
                let told = if fine {
                    tools.db.clear_fault("", &doing).await
                } else {
                    let now = tools.clock.now();
                    tools.db.note_fault("", &doing, CLOCK, now).await
                };
                if let Err(error) = told {
                    tracing::debug!(%error, "clock not told of");
                }
                wake.notify_one();
            }
            Err(error) => tracing::debug!(%error, "clock not compared"),
        }
        tokio::select! {
            () = tokio::time::sleep(CLOCK_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}
