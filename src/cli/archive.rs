//! `migrate` and `rebuild`: the database's schema, and its content from the archive.

use std::sync::Arc;

use clap::{Args, Subcommand};

use crate::app::{self, House};
use crate::domain::clock::{Clock as _, SharedClock, SystemClock};
use crate::jobs::rebuild::{self, RebuildError};

use super::{Failure, Global, Out, exit};

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Migrate {
    /// Applies what is missing; an SQLite database that holds rows is copied first, beside it
    Up {
        /// Without that copy
        #[arg(long)]
        without_copy: bool,
    },
    /// Shows each step; ends with 3 when one is missing
    Status,
}

impl Migrate {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let mut config = super::run::load(global)?;
        // Looking must not change anything.
        config.database.auto_migrate = Some(false);
        let clock: SharedClock = Arc::new(SystemClock);
        let db = app::open_database_for_migration(&config, &clock).await?;
        if let Migrate::Up { without_copy } = self {
            if !without_copy && let Some(copy) = db.copy_before_migration().await? {
                out.say(&format!("copied before the first step: {}", copy.display()));
            }
            db.migrate_up().await?;
        }
        let steps = db.migration_status().await?;
        let pending = steps.iter().filter(|step| !step.applied).count();
        for step in &steps {
            out.item(step, || {
                format!(
                    "{}  {}",
                    if step.applied { "applied" } else { "pending" },
                    step.name
                )
            });
        }
        Ok(if pending > 0 { exit::LOOK } else { exit::DONE })
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "With --missing the service must not run: the vendor would be asked again for what the archive has. `serve`\nand `worker` do it by themselves when they start on a restored `callvault backup`.\n\nExamples:\n  callvault rebuild --from-archive\n  callvault rebuild --from-archive --missing"
)]
pub struct Rebuild {
    /// Required: says where the rows come from
    #[arg(long, required = true)]
    from_archive: bool,
    /// Into a database that was restored from a backup: adds what only the archive knows
    #[arg(long)]
    missing: bool,
}

impl Rebuild {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        let house = House::open_apart(config, Arc::new(SystemClock)).await?;
        house.check_marker_for_rebuild().await?;
        let now = SystemClock.now();
        let (db, archive) = (&house.db, house.archive.as_ref());
        let progress = |n: u64| {
            if n > 0 && n.is_multiple_of(1000) {
                out.say(&format!("{n} recordings"));
            }
        };
        let report = if self.missing {
            rebuild::complete(db, archive, now, progress).await
        } else {
            rebuild::rebuild(db, archive, now, progress).await
        };
        let report = report.map_err(|error| match error {
            RebuildError::NotEmpty(n) => Failure::failed(
                "not_empty",
                format!("the database already holds {n} recordings"),
                "[database] of the configuration",
                "rebuild fills an empty database: give [database] url a new one, and keep the old as it is; one that was restored from a backup takes --missing",
            ),
            RebuildError::Archive(error) => error.into(),
            RebuildError::Database(error) => error.into(),
        })?;
        if self.missing {
            rebuild::completed(db, &report).await?;
        }
        out.item(&report, || {
            let mut text = format!(
                "{} recordings from {} manifests",
                report.recordings, report.manifests
            );
            if self.missing {
                text += &format!(", {} completed", report.completed);
            }
            for finding in &report.findings {
                text += &format!("\n  {}: {}: {}", finding.code, finding.key, finding.what);
            }
            text
        });
        Ok(if report.findings.is_empty() {
            exit::DONE
        } else {
            exit::LOOK
        })
    }
}
