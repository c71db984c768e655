//! `fixity`: stored objects are read again; ends with 3 when one is not what it should be.

use std::io::IsTerminal as _;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::app::House;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::view::{FixityCoverage, FixityFinding};
use crate::jobs::fixity::{Fixity, FixityError, Report};

use super::{Failure, Global, Out, exit, find};

/// More are counted, not listed.
const MOST_FINDINGS: usize = 1000;
/// A line so often where there is no terminal.
const LINE_EVERY: u64 = 1000;

#[derive(Debug, Args)]
#[command(
    after_help = "Without options what is due is done: once a day every object is looked for, and the day's share is read,\nthe oldest first, so that everything is read within `[fixity] every`. A running worker does the same by itself.\nNothing is mended and nothing deleted. Ends with 3 when an object is damaged.\n\nExamples:\n  callvault fixity\n  callvault fixity --sample 100\n  callvault fixity --all --json"
)]
pub struct FixityArgs {
    /// Read N objects, taken by chance
    #[arg(long, value_name = "N", conflicts_with = "all", value_parser = clap::value_parser!(u64).range(1..))]
    sample: Option<u64>,
    /// Look for every object and read all of them; cut short, the next run goes on
    #[arg(long)]
    all: bool,
}

/// What `--json` gives.
#[derive(Serialize)]
struct Answer {
    mode: &'static str,
    #[serde(flatten)]
    report: Report,
    /// Of the period; null when the schedule is off, and the default counts for the coverage.
    every_s: Option<u64>,
    coverage: FixityCoverage,
    /// All that is damaged now, whenever it was found; at most 1000.
    findings: Vec<FixityFinding>,
}

impl FixityArgs {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        if global.verbose > 0 {
            super::run::start_log(&config, global.verbose);
        }
        let house = House::open(config, Arc::new(SystemClock)).await?;
        let (mode, subject) = match self.sample {
            Some(n) => ("sample", format!("sample {n}")),
            None if self.all => ("all", "all".to_owned()),
            None => ("due", "due".to_owned()),
        };
        find::audit(&house.db, "fixity", &subject).await?;
        let stop = CancellationToken::new();
        let fixity = Fixity {
            db: house.db.clone(),
            archive: house.archive.clone(),
            clock: house.clock.clone(),
            settings: house.config.fixity,
            stop: stop.clone(),
        };
        let total = match self.sample {
            Some(n) => Some(n),
            None if self.all => Some(house.db.count_kept().await?),
            None => None,
        };
        let bar = bar(total);
        let progress = |report: &Report| tell(bar.as_ref(), total, report);
        let checking = async {
            match self.sample {
                Some(n) => fixity.sample(n, &progress).await,
                None if self.all => fixity.all(&progress).await,
                None => fixity.due(&progress).await,
            }
        };
        tokio::pin!(checking);
        let report = tokio::select! {
            report = &mut checking => report,
            _ = tokio::signal::ctrl_c() => {
                stop.cancel();
                checking.await
            }
        };
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        let report = report.map_err(|error| match error {
            FixityError::Archive(error) => Failure::from(error),
            FixityError::Database(error) => error.into(),
        })?;
        let settings = house.config.fixity;
        let answer = Answer {
            mode,
            report,
            every_s: settings.every.map(|span| span.duration().as_secs()),
            coverage: house
                .db
                .fixity_coverage(settings.since(SystemClock.now()))
                .await?,
            findings: house.db.fixity_findings(MOST_FINDINGS).await?,
        };
        out.item(&answer, || text(&answer));
        Ok(if answer.coverage.damaged > 0 {
            exit::LOOK
        } else {
            exit::DONE
        })
    }
}

fn bar(total: Option<u64>) -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let style = if total.is_some() {
        "{bar:30} {pos}/{len} objects, {msg}, {eta} left"
    } else {
        "{spinner} {pos} objects, {msg}"
    };
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    Some(bar)
}

fn tell(bar: Option<&ProgressBar>, total: Option<u64>, report: &Report) {
    match bar {
        Some(bar) => {
            bar.set_position(report.checked);
            bar.set_message(format!("{} damaged", report.damaged));
        }
        None if report.checked > 0 && report.checked.is_multiple_of(LINE_EVERY) => {
            let of = total.map_or(String::new(), |total| format!(" of {total}"));
            eprintln!(
                "{}{of} objects read, {} damaged",
                report.checked, report.damaged
            );
        }
        None => {}
    }
}

fn text(answer: &Answer) -> String {
    let (report, coverage) = (&answer.report, &answer.coverage);
    let mut text = report.to_string();
    if report.busy {
        text += "\nanother process is at it; it goes on by itself";
    }
    if report.stopped {
        text += "\nstopped before the end; the next run goes on there";
    }
    let period = answer.every_s.map_or_else(
        || "within 90 days (the schedule is off)".to_owned(),
        |s| format!("within {} days", s / 86_400),
    );
    text += &format!(
        "\ncoverage     {} of {} objects, {} of {} bytes read {period}",
        coverage.checked_objects, coverage.objects, coverage.checked_bytes, coverage.bytes
    );
    if let (Some(at), Some(key)) = (coverage.oldest_unchecked_at, &coverage.oldest_unchecked_key) {
        text += &format!("\noldest       {at}  {key}");
    }
    for finding in &answer.findings {
        text += &format!(
            "\nDAMAGED {}  {}\n      recording {} [{}], since {}: {}",
            finding.code,
            finding.key,
            finding.recording_id,
            finding.source,
            finding.since,
            finding.what
        );
    }
    let listed = answer.findings.len() as u64;
    if coverage.damaged > listed {
        text += &format!("\n{} more are damaged", coverage.damaged - listed);
    }
    text
}
