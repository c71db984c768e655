//! Backups of this house's database, and what a house does first on a database that was one.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::db::sweep::SweepLease;
use crate::db::{Database, DbError};
use crate::domain::clock::SharedClock;
use crate::domain::recording::reason;
use crate::jobs::alarms::{LEFT_OUT, RESTORE};
use crate::jobs::backup::{Backups, NAME};
use crate::jobs::rebuild::{self, RebuildError};
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
/// Between two looks at what an archive that was read to its end left out.
const LEFT_OUT_AGAIN: Duration = Duration::from_secs(3600);
/// The name of the lease under which one process reads the archive; no source can have it.
const LEASE_NAME: &str = "_restore";
const LEASE: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(20);

/// A database that was restored from a backup first learns what the archive got since.
pub(super) async fn complete_restored(house: &House, instance: &str, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let again = match house.db.restore_waits().await {
            Ok(false) => return,
            Ok(true) => restored(house, instance, stop).await.err(),
            Err(error) => Some(error.to_string()),
        };
        let Some(error) = again else {
            continue;
        };
        tracing::error!(
            error,
            "the archive was not read, and no work begins before it is: again in 10 s"
        );
        tokio::select! {
            () = tokio::time::sleep(RESTORE_AGAIN) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Reads the archive again for as long as something in it was left out.
pub(super) async fn complete_the_rest(house: &House, instance: &str, stop: &CancellationToken) {
    while matches!(house.db.restored_from().await, Ok(Some(_)) | Err(_)) {
        tokio::select! {
            () = tokio::time::sleep(LEFT_OUT_AGAIN) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = restored(house, instance, stop).await {
            tracing::warn!(error, "the archive was not read again, the next hour tries");
        }
    }
}

/// Reads the archive, unless another process does, and says what stands in the way for all to see.
async fn restored(house: &House, instance: &str, stop: &CancellationToken) -> Result<(), String> {
    let (db, now) = (&house.db, house.clock.now());
    let claimed = db.claim_sweep(LEASE_NAME, instance, now.plus(LEASE), now);
    let Some(lease) = claimed.await.map_err(|error| error.to_string())? else {
        return Err("another process reads it at this moment".to_owned());
    };
    let read = tokio::select! {
        read = read_archive(house) => read,
        lost = hold(house, &lease) => Err((reason::DATABASE_UNAVAILABLE, lost)),
        () = stop.cancelled() => Err(("", "told to stop".to_owned())),
    };
    let told = match &read {
        Ok(None) => db.clear_fault("", RESTORE).await,
        Err(("", _)) => Ok(()),
        Ok(Some(code)) | Err((code, _)) => db.note_fault("", RESTORE, code, now).await,
    };
    if let Err(error) = told.and(db.release_sweep(&lease).await) {
        tracing::debug!(%error, "restore not told of, or its lease not released");
    }
    read.map(|_| ()).map_err(|(_, error)| error)
}

/// Renews the lease for as long as it is polled; ends when it is lost.
async fn hold(house: &House, lease: &SweepLease) -> String {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let until = house.clock.now().plus(LEASE);
        match house.db.renew_sweep(lease, until).await {
            Err(error) if error.is_lease_lost() => return error.to_string(),
            Err(error) => tracing::debug!(%error, "lease on the restore not renewed"),
            Ok(()) => {}
        }
    }
}

/// Gives a code when something was left out.
async fn read_archive(house: &House) -> Result<Option<&'static str>, (&'static str, String)> {
    let of_database = |error: DbError| (reason::DATABASE_UNAVAILABLE, error.to_string());
    let Some(backup_at) = house.db.restored_from().await.map_err(of_database)? else {
        return Ok(None);
    };
    tracing::warn!(
        backup_at,
        "this database is a restored backup: reading from the archive what came since"
    );
    let (db, archive, now) = (&house.db, house.archive.as_ref(), house.clock.now());
    let report = rebuild::complete(db, archive, now, |_| {}).await;
    let report = report.map_err(|error| match error {
        RebuildError::Database(error) => of_database(error),
        error => (reason::ARCHIVE_UNAVAILABLE, error.to_string()),
    })?;
    for finding in &report.findings {
        tracing::warn!(
            code = finding.code,
            key = finding.key,
            what = finding.what,
            "found in the archive"
        );
    }
    rebuild::completed(db, &report).await.map_err(of_database)?;
    tracing::warn!(
        added = report.recordings,
        completed = report.completed,
        findings = report.findings.len(),
        "the archive was read"
    );
    Ok(report.leaves_out().then_some(LEFT_OUT))
}
