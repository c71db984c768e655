//! `backup`: a verified copy of the SQLite database, while the service runs.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::app;
use crate::archive::open_archive;
use crate::domain::clock::{SharedClock, SystemClock};
use crate::jobs::backup::BackupError;

use super::{Failure, Global, Out, exit, find};

#[derive(Debug, Args)]
#[command(
    after_help = "The copy is consistent, checked, readable by its owner only, and never overwrites. Without -o it goes where\nthe scheduled ones go ([backup] path). PostgreSQL has tools of its own: pg_dump, pg_basebackup.\n\nExamples:\n  callvault backup\n  callvault backup -o /mnt/elsewhere/callvault.db"
)]
pub struct BackupArgs {
    /// The new file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl BackupArgs {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        if !config.database.is_sqlite() {
            return Err(BackupError::postgres().into());
        }
        let clock: SharedClock = Arc::new(SystemClock);
        // Whatever its schema is: before an upgrade is when a backup is wanted most.
        let db = app::open_database_for_migration(&config, &clock).await?;
        let backups = app::backup::backups(&config, &db, &clock);
        let target = match self.output {
            Some(file) => file,
            None => backups.next_file()?,
        };
        find::audit(&db, "backup", &target.display().to_string()).await?;
        let mut report = backups.write(&target).await?;
        if config.backup.archive {
            let archive = open_archive(&config.archive, &config.base_dir, clock).await?;
            backups.put(&mut report, archive.as_ref()).await?;
        }
        out.item(&report, || report.to_string());
        Ok(exit::DONE)
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        Failure::failed(error.code, error.what, error.place, error.remedy)
    }
}
