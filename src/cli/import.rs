//! `import`: call facts from elsewhere, and party directories.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::app;
use crate::domain::clock::{Clock as _, SharedClock, SystemClock};
use crate::domain::ids::new_id;
use crate::jobs::import::{self, ImportError, Progress, Report, Target};
use crate::jobs::table::TableError;
use crate::providers::http::GuardedClient;

use super::{Failure, Global, Out, exit, find};

#[derive(Debug, Args)]
#[command(
    after_help = "The file is a table with a header (CSV; , ; or tab; columns in any order) or a cdr/1 message on each line.\n\nExamples:\n  callvault import calls.csv --source feiyu-main\n      provider_call_id,started_at,caller,callee,agent,agent_id,correlation_ids\n  callvault import people.csv --source yunxin-main\n      id,name,number\n\nEnds with 3 when rows were refused (each with its line; the others are kept), with 1 when all were."
)]
pub struct Import {
    file: PathBuf,
    /// Whose calls these are, for rows that do not say so
    #[arg(long)]
    source: Option<String>,
}

impl Import {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        let place = self.file.display().to_string();
        let unreadable = |error: std::io::Error| {
            Failure::usage(
                "file",
                format!("cannot read the file: {error}"),
                place.clone(),
                "name a file that this user may read",
            )
        };
        let file = std::fs::File::open(&self.file).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let clock: SharedClock = Arc::new(SystemClock);
        let db = app::open_database(&config, &clock).await?;
        let client = Arc::new(GuardedClient::new(clock.clone()));
        let sources = app::open_sources(&config, &client, &clock, &app::shared_pace(&db, &clock))?;
        find::audit(&db, "import", &place).await?;
        let progress = Arc::new(Progress::default());
        let target = Target {
            sources: sources.clone(),
            source: self.source,
            zone: config.server.time_zone,
        };
        let importing = import::store(&db, &clock, target, file, progress.clone());
        let mut report = watched(importing, &progress, length)
            .await
            .map_err(|error| failure(error, &place))?;
        let instance = format!("import-{}", new_id(SystemClock.now()));
        report.unread = import::read(&db, &clock, &sources, &instance, |read| {
            if read % (64 * 500) == 0 {
                eprintln!("{read} of {} rows read", report.stored);
            }
        })
        .await?;
        out.item(&report, || text(&report));
        Ok(match report.refused {
            0 => exit::DONE,
            all if all == report.rows => exit::FAILED,
            _ => exit::LOOK,
        })
    }
}

/// Shows how far it is: a bar on a terminal, a line now and then elsewhere.
async fn watched(
    importing: impl Future<Output = Result<Report, ImportError>>,
    progress: &Progress,
    length: u64,
) -> Result<Report, ImportError> {
    const LINE_EVERY: u32 = 50;
    let bar = std::io::stderr().is_terminal().then(|| {
        let style = "{bar:30} {bytes}/{total_bytes}, {msg} rows, {eta} left";
        let bar = ProgressBar::new(length);
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar
    });
    let mut importing = std::pin::pin!(importing);
    let mut ticks = 0;
    loop {
        let tick = tokio::time::sleep(Duration::from_millis(200));
        tokio::select! {
            report = &mut importing => {
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                }
                return report;
            }
            () = tick => {}
        }
        ticks += 1;
        let rows = progress.rows.load(Ordering::Relaxed);
        let bytes = progress.bytes.load(Ordering::Relaxed);
        match &bar {
            Some(bar) => {
                bar.set_position(bytes);
                bar.set_message(rows.to_string());
            }
            None if ticks % LINE_EVERY == 0 => eprintln!("{rows} rows, {bytes} of {length} bytes"),
            None => {}
        }
    }
}

fn failure(error: ImportError, place: &str) -> Failure {
    let what = error.to_string();
    match error {
        ImportError::Table(TableError::Io(_)) | ImportError::Broken => Failure::failed(
            "file",
            what,
            place,
            "rows before this point are kept; run it again, repeats do no harm",
        ),
        ImportError::Table(_) => Failure::usage(
            "file",
            what,
            place,
            "give it a CSV table with a header in UTF-8, or a cdr/1 message on each line",
        ),
        ImportError::Header(_) => Failure::usage(
            "header",
            what,
            format!("{place}, the header"),
            "see callvault import --help for the columns",
        ),
        ImportError::Source(_) => {
            Failure::usage("unknown_source", what, "--source", "name one of them")
        }
        ImportError::Database(error) => error.into(),
    }
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{} rows ({}): {} stored, {} known already, {} refused",
        report.rows, report.content, report.stored, report.repeated, report.refused
    );
    for refused in &report.refusals {
        text += &format!(
            "\n  line {}: {} ({})",
            refused.line, refused.what, refused.code
        );
    }
    let untold = report.refused - report.refusals.len() as u64;
    if untold > 0 {
        text += &format!("\n  and {untold} more");
    }
    if report.unread {
        text += "\nsome rows still wait to be read; a running service goes on with them";
    }
    text
}
