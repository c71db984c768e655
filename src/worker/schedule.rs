//! Cron ticks. A tick does nothing but become a row, unique by name and due time; whoever gets the row
//! runs the chore, so any number of processes may tick.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::db::Database;
use crate::domain::clock::{SharedClock, Timestamp};

pub type Chore =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync>;

/// One scheduled chore: its name in `schedule_run`, its cron line (seconds first, UTC), what to do.
#[derive(Clone)]
pub struct Scheduled {
    pub name: &'static str,
    pub cron: String,
    pub chore: Chore,
}

/// Whether a cron line can be read; the error is for the configuration check.
pub fn check_cron(line: &str) -> Result<(), String> {
    Job::new(line, |_, _| {}).map(|_| ()).map_err(|error| {
        format!(
            "{line:?} is not a cron line with seconds first (such as \"0 */5 * * * *\"): {error}"
        )
    })
}

/// Ticks until `stop`. One chore of a name runs at a time in this process; a tick that comes meanwhile
/// is dropped here (the row of the running one is still open).
pub async fn run(
    db: Database,
    clock: SharedClock,
    instance: Arc<str>,
    chores: Vec<Scheduled>,
    stop: CancellationToken,
) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    let mut runners = tokio::task::JoinSet::new();
    let mut wishes = Vec::new();
    for scheduled in chores {
        let (tick, ticks) = mpsc::channel::<()>(1);
        wishes.push((scheduled.name, scheduled.cron.clone(), tick.clone()));
        scheduler
            .add(Job::new(scheduled.cron.as_str(), move |_, _| {
                // Full: the chore still runs from an earlier tick.
                let _ = tick.try_send(());
            })?)
            .await?;
        runners.spawn(run_ticks(
            db.clone(),
            clock.clone(),
            instance.clone(),
            scheduled,
            ticks,
            stop.clone(),
        ));
    }
    runners.spawn(hear_wishes(db, clock, wishes, stop.clone()));
    scheduler.start().await?;
    stop.cancelled().await;
    scheduler.shutdown().await?;
    while runners.join_next().await.is_some() {}
    Ok(())
}

/// How soon a wish of a page is heard, and how often this process says which jobs it runs.
const HEARS_EVERY: Duration = Duration::from_secs(3);
const NAMES_EVERY_MS: i64 = 60_000;

/// Tells which jobs run here, and ticks for those that somebody wants to run now.
async fn hear_wishes(
    db: Database,
    clock: SharedClock,
    jobs: Vec<(&'static str, String, mpsc::Sender<()>)>,
    stop: CancellationToken,
) {
    let names: Vec<(&str, &str)> = jobs
        .iter()
        .map(|(name, cron, _)| (*name, cron.as_str()))
        .collect();
    let mut named_at: Option<Timestamp> = None;
    loop {
        let now = clock.now();
        if named_at.is_none_or(|at| now.since_ms(at) >= NAMES_EVERY_MS) {
            match db.name_jobs(&names, now).await {
                Ok(()) => named_at = Some(now),
                Err(error) => tracing::debug!(%error, "the jobs are not named yet"),
            }
        }
        // One question for all; only a wish is written.
        let asked = db.jobs().await.unwrap_or_default();
        for job in asked.iter().filter(|job| job.asked_at.is_some()) {
            let Some((name, _, tick)) = jobs.iter().find(|(name, ..)| *name == job.name) else {
                continue;
            };
            match db.take_asked(name).await {
                Ok(true) => {
                    // Full: a tick waits already, and its run comes after the wish.
                    let _ = tick.try_send(());
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(chore = name, %error, "a wished run not taken over"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(HEARS_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn run_ticks(
    db: Database,
    clock: SharedClock,
    instance: Arc<str>,
    scheduled: Scheduled,
    mut ticks: mpsc::Receiver<()>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            tick = ticks.recv() => if tick.is_none() { return },
            () = stop.cancelled() => return,
        }
        // Cron ticks on whole seconds: every process names the same due time.
        let now = clock.now();
        let due = Timestamp::from_ms(now.ms() - now.ms().rem_euclid(1000));
        match db.tick(scheduled.name, due, &instance, now).await {
            Ok(Some(run)) => {
                // One run that panics is a failed run, not the end of all later ones.
                let run_once = async { (scheduled.chore)().await };
                let result = AssertUnwindSafe(run_once).catch_unwind().await;
                let result = result.unwrap_or_else(|_| Err("it panicked".to_owned()));
                let text = match &result {
                    Ok(text) => text.clone(),
                    Err(text) => format!("failed: {text}"),
                };
                if let Err(error) = &result {
                    tracing::warn!(chore = scheduled.name, error, "scheduled run failed");
                }
                if let Err(error) = db.finish_run(&run, &text, clock.now()).await {
                    tracing::warn!(chore = scheduled.name, %error, "scheduled run not closed");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(chore = scheduled.name, %error, "tick not recorded"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check_cron;

    #[test]
    fn cron_lines_have_seconds_first() {
        assert!(check_cron("0 */5 * * * *").is_ok());
        assert!(check_cron("*/5 * * * *").is_err());
        assert!(check_cron("soon").is_err());
        for wrong in [
            "99 * * * * *",
            "0 61 * * * *",
            "0 */5 * * * 9",
            "0 */0 * * * *",
        ] {
            assert!(check_cron(wrong).is_err(), "{wrong}");
        }
    }
}
