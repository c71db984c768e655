//! `sync`: one polling pass now, with a report a source; ends with 3 when a person should look.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::config::Config;
use crate::db::Database;
use crate::domain::clock::{Clock as _, SharedClock, SystemClock};
use crate::domain::ids::new_id;
use crate::domain::notice::Notice;
use crate::domain::values::nearest;
use crate::ingress::poll::{Mode, SourceReport, Sweeper};
use crate::pipeline::inbox;
use crate::pipeline::intake::Intake;
use crate::providers::http::GuardedClient;
use crate::providers::sources::Sources;
use crate::spool::journal::Journal;

use super::{Failure, Global, Out, exit, find};

/// Another process sweeps the source: so long its end is waited for.
const BUSY_WITHIN: Duration = Duration::from_secs(75);
/// A worker may be reading notices of the pass: so long they are waited for before the count.
const READ_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
#[command(
    after_help = "Lists what each vendor has and asks for calls whose recording nobody announced. What is new is fetched\nby the running service. Ends with 3 when a loss is forecast or a vendor did not answer as it should.\n\nExamples:\n  callvault sync\n  callvault sync --source yunxin-main --json"
)]
pub struct Sync {
    /// Only this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

impl Sync {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        if global.verbose > 0 {
            super::run::start_log(&config, global.verbose);
        }
        let clock: SharedClock = Arc::new(SystemClock);
        let db = app::open_database(&config, &clock).await?;
        let client = Arc::new(GuardedClient::new(clock.clone()));
        let pace = app::shared_pace(&db, &clock);
        let sources = app::open_sources(&config, &client, &clock, &pace)?;
        if let Some(name) = &self.source
            && sources.get(name).is_none()
        {
            return Err(unknown(name, &sources));
        }
        find::audit(&db, "sync", self.source.as_deref().unwrap_or("*")).await?;
        let instance = format!("sync/{}", new_id(clock.now()).simple());
        let stop = CancellationToken::new();
        let sweeper = Sweeper::new(
            db.clone(),
            sources.clone(),
            Intake::new(db.clone(), journal(&config).await?, clock.clone()),
            clock,
            instance.as_str(),
            stop.clone(),
        );
        let swept = async {
            let mut reports = Vec::new();
            for name in sources.names() {
                if self.source.as_ref().is_none_or(|only| *only == name) {
                    for report in one(&db, &sources, &sweeper, &name, &instance).await? {
                        out.item(&report, || text(&report));
                        reports.push(report);
                    }
                }
            }
            Ok::<_, Failure>(reports)
        };
        tokio::pin!(swept);
        let reports = tokio::select! {
            reports = &mut swept => reports?,
            _ = tokio::signal::ctrl_c() => {
                stop.cancel();
                swept.await?
            }
        };
        if reports.is_empty() {
            out.say("no source is configured: add a [sources.NAME] block, see deploy/callvault.example.toml");
        } else if !reports.iter().any(|r| r.can_list || r.can_ask) {
            out.say("nothing was asked: no source here can be listed or asked, all depends on their notices");
        }
        Ok(if reports.iter().any(SourceReport::calls_for_a_look) {
            exit::LOOK
        } else {
            exit::DONE
        })
    }
}

/// Sweeps one source, reads what came of it, and counts what nobody had announced.
async fn one(
    db: &Database,
    sources: &Sources,
    sweeper: &Sweeper,
    name: &str,
    instance: &str,
) -> Result<Vec<SourceReport>, Failure> {
    let mode = Mode { thorough: true };
    let before = db.found_by_sweep(name).await?;
    let begun = Instant::now();
    let mut reports = loop {
        let reports = sweeper.pass(Some(name), mode).await;
        if begun.elapsed() >= BUSY_WITHIN || !reports.iter().any(|report| report.busy) {
            break reports;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    for report in reports.iter_mut().filter(|report| report.new > 0) {
        let begun = Instant::now();
        loop {
            let read = inbox::read_waiting(db, sources, instance, SystemClock.now()).await?;
            if read == 0 {
                // The rest is being read by a worker.
                if begun.elapsed() >= READ_WITHIN || !db.notices_wait(name).await? {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        report.found = db.found_by_sweep(name).await?.saturating_sub(before);
        // With what is known only now.
        report.forecast_lost = sweeper.forecast(name).await?;
    }
    Ok(reports)
}

async fn journal(config: &Config) -> Result<Arc<Journal<Notice>>, Failure> {
    let dir = config.spool.dir(&config.base_dir);
    let journal = Journal::open(&dir.join("journal")).await.map_err(|error| {
        Failure::failed(
            "spool",
            format!("cannot open the spool: {error}"),
            dir.display().to_string(),
            "run the command as the service's user",
        )
    })?;
    Ok(Arc::new(journal))
}

fn unknown(name: &str, sources: &Sources) -> Failure {
    let known = sources.names();
    let remedy = match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => "no source is configured".to_owned(),
        None => format!("known are {}", known.join(", ")),
    };
    Failure::usage(
        "unknown_source",
        format!("there is no source {name:?} in the configuration"),
        "--source",
        remedy,
    )
}

fn text(report: &SourceReport) -> String {
    let name = &report.source;
    if report.busy {
        return format!("{name}: another process sweeps it at this moment");
    }
    if !report.can_list && !report.can_ask {
        return format!(
            "{name}: cannot be listed or asked; what its notices do not tell stays unknown"
        );
    }
    let mut parts = Vec::new();
    if report.can_list {
        parts.push(format!("{} listed", report.listed));
    }
    if report.can_ask {
        parts.push(format!("{} calls asked for", report.asked));
    }
    parts.push(format!("{} new", report.new));
    parts.push(format!("{} repeated", report.repeated));
    parts.push(format!(
        "{} recordings that nobody had announced",
        report.found
    ));
    let mut text = format!("{name}: {}", parts.join(", "));
    if report.forecast_lost > 0 {
        text += &format!(
            "\n  LOOK forecast_lost: {} recordings will be gone at the vendor before their turn comes; raise requests_per_second if the vendor allows it",
            report.forecast_lost
        );
    }
    for problem in &report.problems {
        text += &format!("\n  LOOK {}: {}", problem.code, problem.what);
    }
    text
}
