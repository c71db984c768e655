//! The sweep: what the vendor has is listed, and asked for call by call, so that nothing depends on
//! notices alone.
//!
//! What a newcomer gets wrong: the sweep fetches no recording. What it hears becomes notices, stored like
//! any other, and a repeat changes nothing. That is why it may list everything twice and die anywhere.

mod ask;
mod bucket;
mod walk;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::db::notices::Added;
use crate::db::sweep::SweepLease;
use crate::db::{Database, DbError};
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::deadlines::forecast_lost;
use crate::domain::notice::Door;
use crate::pipeline::faults::{Faults, code};
use crate::pipeline::intake::Intake;
use crate::providers::contract::{Provider, ProviderError, Told};
use crate::providers::sources::Sources;

/// A sweep whose process died is free for others after this time.
const LEASE: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Where the vendor's time is not known.
const LIFE: Duration = Duration::from_secs(7 * DAY_S);
/// No list is read further back: what is older was listed when it was young.
const LONGEST_LIFE: Duration = Duration::from_secs(60 * DAY_S);
const DAY_S: u64 = 24 * 3600;
/// Each of the longer walks leaves off after this time, so that the next pass looks at what is new first.
const PASS: Duration = Duration::from_secs(240);
/// Items that are stored at once.
const STORING: usize = 64;
/// Work that a forecast looks at.
const FORECAST: usize = 10_000;

/// How a pass goes about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Every call that waits for a recording is asked for, due or not; and no walk leaves off half way.
    pub thorough: bool,
}

/// What a pass over one source came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceReport {
    pub source: String,
    pub kind: String,
    pub can_list: bool,
    pub can_ask: bool,
    /// Another process sweeps this source at this moment.
    pub busy: bool,
    /// Items that the vendor listed.
    pub listed: u64,
    /// News among them and among the answers to questions: notices stored.
    pub new: u64,
    pub repeated: u64,
    /// Calls whose recordings the vendor was asked for.
    pub asked: u64,
    /// Recordings that no notice had announced; counted once the notices are read.
    pub found: u64,
    /// Recordings that will be lost at the source's rate of questions.
    pub forecast_lost: u64,
    pub problems: Vec<Problem>,
}

/// Something about the sweep that a person should see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub code: &'static str,
    pub what: String,
}

impl SourceReport {
    fn of(provider: &dyn Provider) -> Self {
        let can = provider.capabilities();
        Self {
            source: provider.name().to_owned(),
            kind: provider.kind().to_owned(),
            can_list: can.lists(),
            can_ask: can.asks(),
            ..Self::default()
        }
    }

    fn problem(&mut self, code: &'static str, what: impl Into<String>) {
        self.problems.push(Problem {
            code,
            what: what.into(),
        });
    }

    /// Whether a person should look.
    pub fn calls_for_a_look(&self) -> bool {
        self.forecast_lost > 0 || !self.problems.is_empty()
    }
}

impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.busy {
            return write!(f, "{}: swept by another process", self.source);
        }
        write!(
            f,
            "{}: {} listed, {} asked for, {} new, {} repeated",
            self.source, self.listed, self.asked, self.new, self.repeated
        )?;
        for problem in &self.problems {
            write!(f, ", {}", problem.code)?;
        }
        Ok(())
    }
}

/// Why a source's pass ended before its end. The next one goes on.
enum Halt {
    /// Already in the report.
    Vendor,
    Database(DbError),
}

impl From<DbError> for Halt {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sweeper {
    db: Database,
    sources: Sources,
    intake: Intake,
    clock: SharedClock,
    faults: Faults,
    /// Who holds the leases.
    instance: Arc<str>,
    stop: CancellationToken,
}

/// One source being swept.
struct Run<'a> {
    sweeper: &'a Sweeper,
    provider: &'a dyn Provider,
    lease: &'a SweepLease,
    report: &'a mut SourceReport,
    mode: Mode,
    begun: Timestamp,
    /// When the part of the pass that runs now began: a long walk leaves time for what follows it.
    part_begun: Timestamp,
}

impl Sweeper {
    pub fn new(
        db: Database,
        sources: Sources,
        intake: Intake,
        clock: SharedClock,
        instance: impl Into<Arc<str>>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            faults: Faults::new(db.clone(), clock.clone()),
            db,
            sources,
            intake,
            clock,
            instance: instance.into(),
            stop,
        }
    }

    /// One pass over `only` this source, or all; a slow vendor does not hold up the others.
    pub async fn pass(&self, only: Option<&str>, mode: Mode) -> Vec<SourceReport> {
        let mut passes: futures::stream::FuturesOrdered<_> = self
            .sources
            .snapshot()
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == *name))
            .map(|(_, provider)| {
                let provider = provider.clone();
                async move { self.source(provider.as_ref(), mode).await }
            })
            .collect();
        let mut reports = Vec::new();
        while let Some(report) = passes.next().await {
            reports.push(report);
        }
        reports
    }

    /// How many recordings of the source will be gone at the vendor before their turn comes.
    pub async fn forecast(&self, source: &str) -> Result<u64, DbError> {
        let Some(provider) = self.sources.get(source) else {
            return Ok(0);
        };
        let waiting = self.db.open_deadlines(source, FORECAST).await?;
        let per_second = provider.common().requests_per_second;
        Ok(forecast_lost(&waiting, self.clock.now(), per_second))
    }

    async fn source(&self, provider: &dyn Provider, mode: Mode) -> SourceReport {
        let mut report = SourceReport::of(provider);
        if !report.can_list && !report.can_ask {
            return report;
        }
        let now = self.clock.now();
        let name = provider.name();
        let claimed = self
            .db
            .claim_sweep(name, &self.instance, now.plus(LEASE), now)
            .await;
        let lease = match claimed {
            Ok(Some(lease)) => lease,
            Ok(None) => {
                report.busy = true;
                return report;
            }
            Err(error) => {
                report.problem("database", error.to_string());
                return report;
            }
        };
        let mut run = Run {
            sweeper: self,
            provider,
            lease: &lease,
            report: &mut report,
            mode,
            begun: now,
            part_begun: now,
        };
        let ended = tokio::select! {
            ended = run.all() => ended,
            lost = self.hold(&lease) => Err(Halt::Database(lost)),
            () = self.stop.cancelled() => Ok(()),
        };
        if let Err(Halt::Database(error)) = ended {
            tracing::warn!(source = name, %error, "sweep left off, the next pass goes on");
            report.problem("database", error.to_string());
        }
        if let Err(error) = self.db.release_sweep(&lease).await {
            tracing::debug!(source = name, %error, "sweep not released, its lease runs out");
        }
        report
    }

    /// Renews the lease for as long as it is polled; ends when the lease is lost.
    async fn hold(&self, lease: &SweepLease) -> DbError {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            let until = self.clock.now().plus(LEASE);
            match self.db.renew_sweep(lease, until).await {
                Err(error) if error.is_lease_lost() => return error,
                Err(error) => tracing::debug!(%error, "sweep's lease not renewed"),
                Ok(()) => {}
            }
        }
    }
}

impl Run<'_> {
    async fn all(&mut self) -> Result<(), Halt> {
        let can = self.provider.capabilities();
        // A list that fails says nothing about the bucket, nor about questions for single calls.
        let mut ended = Ok(());
        if can.can_list {
            ended = self.walks().await;
        }
        if can.can_list_bucket && !matches!(ended, Err(Halt::Database(_))) {
            self.part_begun = self.sweeper.clock.now();
            ended = self.bucket().await.and(ended);
        }
        if can.asks() && !matches!(ended, Err(Halt::Database(_))) {
            self.part_begun = self.sweeper.clock.now();
            ended = self.questions().await.and(ended);
        }
        self.report.forecast_lost = self.sweeper.forecast(self.provider.name()).await?;
        ended
    }

    /// Stores what the vendor told.
    async fn store(&mut self, told: Vec<Told>) -> Result<(), Halt> {
        let (intake, provider) = (&self.sweeper.intake, self.provider);
        let mut stored = futures::stream::iter(told)
            .map(|told| intake.take(provider, Door::Poll, told))
            .buffered(STORING);
        while let Some(added) = stored.next().await {
            match added? {
                Added::Stored => self.report.new += 1,
                Added::Repeated => self.report.repeated += 1,
            }
        }
        Ok(())
    }

    /// How far back anything can be had.
    fn life(&self) -> Duration {
        let keeps = self.provider.common().provider_keeps;
        keeps.unwrap_or(LIFE).min(LONGEST_LIFE)
    }

    fn time_is_up(&self) -> bool {
        !self.mode.thorough && self.sweeper.clock.now() >= self.part_begun.plus(PASS)
    }

    async fn worked(&self, doing: &'static str) {
        let name = self.provider.name();
        self.sweeper.faults.saw(name, doing, None).await;
    }

    async fn failed(&mut self, doing: &'static str, error: &ProviderError) {
        let source = self.provider.name();
        tracing::warn!(source, %error, "sweep");
        self.sweeper.faults.saw(source, doing, Some(error)).await;
        // One line a code: a vendor that is away is away for every question.
        let code = code(error);
        if !self.report.problems.iter().any(|known| known.code == code) {
            self.report.problem(code, error.to_string());
        }
    }
}
