//! The scheduled jobs: when each runs next, what its last runs came to, and one that shall run now.

use serde::Serialize;

use crate::db::schedule::RunView;
use crate::domain::clock::Timestamp;
use crate::domain::cron;
use crate::domain::rights::Right;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads::{Reads, ask};
use crate::web::state::WebState;

/// Workers say every minute which jobs they run.
const ALIVE_MS: i64 = 3 * 60_000;
const RUNS: i64 = 5;

/// A job as people see it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct JobView {
    pub name: String,
    /// Seconds first, in UTC.
    pub cron: String,
    /// A worker that runs it is there.
    pub is_alive: bool,
    /// Null when no worker is there to run it.
    pub next_at: Option<Timestamp>,
    /// Somebody wants it to run now, and no worker has begun yet.
    pub asked_at: Option<Timestamp>,
    pub asked_by: Option<String>,
    /// The last ones, the newest first.
    pub runs: Vec<RunView>,
}

/// The schedule, in the hands of one administrator.
#[derive(Debug)]
pub struct Schedule<'a> {
    state: &'a WebState,
    reader: &'a Reader,
}

impl<'a> Schedule<'a> {
    pub fn of(state: &'a WebState, reader: &'a Reader) -> Result<Self, ApiError> {
        reader.needs(Right::Administer)?;
        Ok(Self { state, reader })
    }

    pub async fn list(&self) -> Result<Vec<JobView>, ApiError> {
        Reads::of(self.state, self.reader)
            .note("schedule", "")
            .await?;
        let now = self.state.clock.now();
        let mut jobs = Vec::new();
        for job in ask(self.state, self.state.db.jobs()).await? {
            let is_alive = now.since_ms(job.seen_at) < ALIVE_MS;
            let runs = ask(self.state, self.state.db.last_runs(&job.name, RUNS)).await?;
            jobs.push(JobView {
                next_at: cron::next_after(&job.cron, now).filter(|_| is_alive),
                name: job.name,
                cron: job.cron,
                is_alive,
                asked_at: job.asked_at,
                asked_by: job.asked_by,
                runs,
            });
        }
        Ok(jobs)
    }

    /// A worker begins it within seconds, or right after the run that goes on.
    pub async fn run(&self, name: &str) -> Result<(), ApiError> {
        self.reader.needs(Right::Operate)?;
        let missing = || ApiError::not_found("job");
        if name.contains('\0') {
            return Err(missing());
        }
        let name: String = name.chars().take(200).collect();
        Reads::of(self.state, self.reader)
            .note("schedule_run", &name)
            .await?;
        let now = self.state.clock.now();
        let asking = self.state.db.ask_for_run(&name, &self.reader.actor, now);
        if ask(self.state, asking).await? {
            Ok(())
        } else {
            Err(missing())
        }
    }
}
