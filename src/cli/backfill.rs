//! `backfill`: a forecast, then history into intake.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use crate::app;
use crate::domain::clock::{SharedClock, SystemClock, Timestamp};
use crate::domain::moment;
use crate::jobs::backfill::{Backfill, BackfillError, Report};
use crate::providers::contract::Window;
use crate::providers::http::GuardedClient;

use super::{Failure, Global, Out, exit, find};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  callvault backfill --source yunxin-main --from 2024-03-01 --to 2024-04-01 --dry-run\n  callvault backfill --source feiyu-main --ids ids.csv\n\nIDS is a CSV table with a header, or a JSON object on each line: provider_call_id, and started_at or ended_at where\nthey are known (they tell what dies first). Rows of other sources are left out. A run that was cut short goes on\nwhere it was when it is started again in the same way. Ends with 3 when something is or will be lost,\nor a row cannot be read."
)]
pub struct BackfillArgs {
    #[arg(long)]
    source: String,
    /// Inclusive: a date in [server] time_zone, or RFC 3339
    #[arg(long, requires = "to", conflicts_with = "ids")]
    from: Option<String>,
    /// Exclusive
    #[arg(long, requires = "from")]
    to: Option<String>,
    /// Ids of calls
    #[arg(long, value_name = "FILE", required_unless_present = "from")]
    ids: Option<PathBuf>,
    /// Only the forecast: nothing is stored (a list is still walked)
    #[arg(long)]
    dry_run: bool,
}

impl BackfillArgs {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        let clock: SharedClock = Arc::new(SystemClock);
        let db = app::open_database(&config, &clock).await?;
        let client = Arc::new(GuardedClient::new(clock.clone()));
        let pace = app::shared_pace(&db, &clock);
        let sources = app::open_sources(&config, &client, &clock, &pace)?;
        let Some(provider) = sources.get(&self.source) else {
            return Err(Failure::usage(
                "unknown_source",
                format!("there is no source {:?}", self.source),
                "--source",
                format!("configured are: {}", sources.names().join(", ")),
            ));
        };
        find::audit(&db, "backfill", &self.source).await?;
        let watch = Watch::new(out.json);
        let progress = |walked, stored| watch.tell(walked, stored);
        let backfill = Backfill {
            db: &db,
            clock,
            provider,
            dry_run: self.dry_run,
            progress: &progress,
        };
        let report = match (&self.ids, &self.from, &self.to) {
            (Some(file), ..) => {
                let place = file.display().to_string();
                let open = || {
                    std::fs::File::open(file).map_err(|error| {
                        let what = format!("cannot read the file: {error}");
                        Failure::usage(
                            "file",
                            what,
                            place.clone(),
                            "name a file that this user may read",
                        )
                    })
                };
                let (forecast, plan) = backfill
                    .forecast_ids(open()?)
                    .await
                    .map_err(|error| failure(error, &place))?;
                // Before anything is stored: people may still say no.
                out.say(&forecast.text());
                watch.expect(forecast.recordings + forecast.told_before);
                let walk = backfill.ids(open()?, forecast, &plan);
                walk.await.map_err(|error| failure(error, &place))?
            }
            (None, Some(from), Some(to)) => {
                let zone = config.server.time_zone;
                let window = Window {
                    from: read_moment(from, "--from", zone)?,
                    to: read_moment(to, "--to", zone)?,
                };
                if window.from >= window.to {
                    return Err(Failure::usage(
                        "usage",
                        "the range is empty",
                        "--from, --to",
                        "--from is inclusive, --to exclusive",
                    ));
                }
                let walk = backfill.list(window);
                walk.await.map_err(|error| failure(error, &self.source))?
            }
            (None, ..) => {
                return Err(Failure::usage(
                    "usage",
                    "neither a range nor a file",
                    "--from and --to, or --ids",
                    "see callvault backfill --help",
                ));
            }
        };
        out.item(&report, || text(&report, self.ids.is_none()));
        Ok(if report.forecast.is_bad() || !report.refused.is_empty() {
            exit::LOOK
        } else {
            exit::DONE
        })
    }
}

fn read_moment(text: &str, flag: &str, zone: chrono_tz::Tz) -> Result<Timestamp, Failure> {
    moment::parse(text, zone).ok_or_else(|| {
        let what = format!("{text:?} is no time");
        Failure::usage(
            "usage",
            what,
            flag,
            "write 2024-03-01 or 2024-03-01T12:00:00Z",
        )
    })
}

/// Lines about how far it is, with the rate and the time left where it is known how many there are.
struct Watch {
    begun: Instant,
    expected: std::sync::atomic::AtomicU64,
    last: std::sync::Mutex<Instant>,
    is_quiet: bool,
}

impl Watch {
    fn new(is_json: bool) -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            expected: 0.into(),
            last: std::sync::Mutex::new(now),
            is_quiet: is_json && !std::io::stderr().is_terminal(),
        }
    }

    /// So many rows there are in all.
    fn expect(&self, rows: u64) {
        self.expected
            .store(rows, std::sync::atomic::Ordering::Relaxed);
    }

    fn tell(&self, walked: u64, stored: u64) {
        const EVERY: Duration = Duration::from_secs(5);
        let mut last = self
            .last
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.is_quiet || last.elapsed() < EVERY {
            return;
        }
        *last = Instant::now();
        let rate = walked as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        let expected = self.expected.load(std::sync::atomic::Ordering::Relaxed);
        let left = match expected.checked_sub(walked) {
            Some(left @ 1..) if rate > 0.0 => format!(", {:.0} s left", left as f64 / rate),
            _ => String::new(),
        };
        eprintln!("{walked} walked, {stored} new, {rate:.1} a second{left}");
    }
}

fn failure(error: BackfillError, place: &str) -> Failure {
    let what = error.to_string();
    match error {
        BackfillError::NoWay(_) | BackfillError::NotListed(_) => Failure::usage(
            "cannot_backfill",
            what,
            place,
            "see `callvault sources` for what each vendor can do",
        ),
        BackfillError::Header(_) | BackfillError::Table(_) => Failure::usage(
            "file",
            what,
            place,
            "give it a CSV table with the column provider_call_id, or a JSON object with it on each line",
        ),
        BackfillError::Database(error) => error.into(),
        BackfillError::Io(_) | BackfillError::Provider(_) | BackfillError::Circle => {
            Failure::failed(
                "backfill",
                what,
                place,
                "start it again in the same way: it goes on where it was",
            )
        }
    }
}

/// `with_forecast`: of a list it is known only now, of a file it was said before.
fn text(report: &Report, with_forecast: bool) -> String {
    let verb = if report.dry_run {
        "would be stored"
    } else {
        "stored"
    };
    let mut text = format!(
        "{} walked, {} {verb}, {} known already, {} left out",
        report.walked, report.stored, report.repeated, report.skipped
    );
    if report.went_on_from.is_some() {
        text = format!("went on where it was; {text}");
    }
    for (line, why) in &report.refused {
        text += &format!("\n  line {line}: {why}");
    }
    if with_forecast {
        text += &format!("\n{}", report.forecast.text());
    }
    text
}
