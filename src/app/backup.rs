//! Backups of this house's database, and what a house does first on a database that was one.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::db::Database;
use crate::domain::clock::SharedClock;
use crate::jobs::backup::{Backups, NAME};
use crate::jobs::rebuild;
use crate::worker::schedule::{Chore, Scheduled};

use super::House;

/// How often it is looked whether a backup is due.
const OFTEN: &str = "40 */10 * * * *";

/// What makes backups of this house's database.
pub fn backups(config: &Config, db: &Database, clock: &SharedClock) -> Backups {
    Backups {
        db: db.clone(),
        settings: config.backup.clone(),
        base_dir: config.base_dir.clone(),
        archive_folder: config.archive.folder(&config.base_dir),
        clock: clock.clone(),
    }
}

/// Makes backups when they are due.
pub(super) fn chore(house: &House) -> Scheduled {
    let backups = backups(&house.config, &house.db, &house.clock);
    let archive = house.archive.clone();
    let chore: Chore = Arc::new(move || {
        let (backups, archive) = (backups.clone(), archive.clone());
        Box::pin(async move {
            match backups.scheduled(archive.as_ref()).await {
                Ok(Some(report)) => Ok(report.to_string()),
                Ok(None) => Ok("not due".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
    });
    Scheduled {
        name: NAME,
        cron: OFTEN.to_owned(),
        chore,
    }
}

/// Between two tries to read the archive after a restore.
const RESTORE_AGAIN: Duration = Duration::from_secs(10);

/// A database that was restored from a backup first learns what the archive got since.
pub(super) async fn complete_restored(house: &House, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let again = match restored(house).await {
            Ok(()) => return,
            Err(error) => error,
        };
        tracing::error!(
            error = again,
            "the archive was not read, and no work begins before it is: again in 10 s"
        );
        tokio::select! {
            () = tokio::time::sleep(RESTORE_AGAIN) => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn restored(house: &House) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let Some(backup_at) = house.db.restored_from().await.map_err(|e| text(&e))? else {
        return Ok(());
    };
    tracing::warn!(
        backup_at,
        "this database is a restored backup: reading from the archive what came since"
    );
    let (db, archive, now) = (&house.db, house.archive.as_ref(), house.clock.now());
    let report = rebuild::complete(db, archive, now, |_| {})
        .await
        .map_err(|error| text(&error))?;
    for finding in &report.findings {
        tracing::warn!(
            code = finding.code,
            key = finding.key,
            what = finding.what,
            "found in the archive"
        );
    }
    db.restore_is_complete().await.map_err(|e| text(&e))?;
    tracing::warn!(
        added = report.recordings,
        completed = report.completed,
        findings = report.findings.len(),
        "the archive was read, work begins"
    );
    Ok(())
}
