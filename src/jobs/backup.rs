//! Backups of an SQLite database: where they go, how many stay, and what is told when one fails.
//!
//! What a newcomer gets wrong: nothing is deleted from the archive, so `keep` counts the files in the
//! folder alone; copies in the archive stay.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::archive::contract::{Archive, Source};
use crate::db::backup::CopyError;
use crate::db::{Database, DbError};
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::digest::{Fingerprint, Hasher, Sha256};
use crate::domain::keys::ObjectKey;
use crate::domain::units::Span;

use super::alarms::BACKUP;

/// The chore's name in the schedule.
pub const NAME: &str = "backup";
/// When the last scheduled one was made, in what the installation remembers.
const LAST: &str = "backup_last_at";
/// The scheduled one that is not in the archive yet, in what the installation remembers.
const NOT_ARCHIVED: &str = "backup_not_archived";
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A backup is looked for every ten minutes.
const MOST_OFTEN: Duration = Duration::from_secs(600);

/// `[backup]` of the configuration. For SQLite; PostgreSQL has its own tools.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `0s`: never by itself. Unset: daily on SQLite.
    pub every: Option<Span>,
    /// The folder. Unset: `backups` beside the database.
    pub path: Option<PathBuf>,
    /// So many of the newest stay in the folder.
    pub keep: u32,
    /// Each backup is put into the archive too, for good.
    pub archive: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            every: None,
            path: None,
            keep: 7,
            archive: false,
        }
    }
}

impl Settings {
    fn every(&self) -> Duration {
        self.every.map_or(DAY, Span::duration)
    }

    /// Where the backups of this database file go.
    pub fn folder(&self, base_dir: &Path, file: &Path) -> PathBuf {
        match &self.path {
            Some(path) => base_dir.join(path),
            None => file.with_file_name("backups"),
        }
    }

    pub fn is_scheduled(&self) -> bool {
        !self.every().is_zero()
    }

    /// What is wrong, if anything: the key, why, and what to write.
    pub fn problem(&self, is_sqlite: bool) -> Option<(&'static str, String, &'static str)> {
        let remedy =
            "leave it out, and use pg_dump or a base backup (pg_basebackup, WAL archiving)";
        if !is_sqlite
            && (self.archive || self.every.is_some_and(|every| !every.duration().is_zero()))
        {
            let key = if self.archive { "archive" } else { "every" };
            let what = "is for SQLite; callvault makes no backups of PostgreSQL";
            return Some((key, what.to_owned(), remedy));
        }
        if self.is_scheduled() && self.every() < MOST_OFTEN {
            let what = "is more often than every ten minutes".to_owned();
            return Some(("every", what, "write \"24h\", or \"0s\" for never"));
        }
        if self.keep == 0 {
            let what = "= 0 would remove each backup at once".to_owned();
            return Some(("keep", what, "write at least 1; every = \"0s\" makes none"));
        }
        None
    }
}

/// Why there is no backup: what, where, what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what} ({place}): {remedy}")]
pub struct BackupError {
    pub code: &'static str,
    pub what: String,
    pub place: String,
    pub remedy: String,
}

impl BackupError {
    fn new(
        code: &'static str,
        what: impl Into<String>,
        place: &Path,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            what: what.into(),
            place: place.display().to_string(),
            remedy: remedy.into(),
        }
    }

    fn copy(error: CopyError, target: &Path) -> Self {
        let what = error.to_string();
        let room = "make room on that disk, or name another place with -o or [backup] path";
        match error {
            CopyError::Postgres => Self::postgres(),
            CopyError::Exists(_) => Self::new(
                "backup_exists",
                what,
                target,
                "name a file that does not exist yet",
            ),
            CopyError::Write { error, .. } => Self::write(&error, what, target),
            CopyError::Copy(_) if what.contains("is full") => {
                Self::new("backup_disk_full", what, target, room)
            }
            CopyError::Copy(_) => Self::new(
                "backup_failed",
                what,
                target,
                "see `callvault check`; is there room, can the database be read?",
            ),
            CopyError::Unsound(_) => Self::new(
                "backup_unsound",
                what,
                target,
                "keep the earlier backups, look at the disk, and run `pragma integrity_check` on the database",
            ),
        }
    }

    fn write(error: &io::Error, what: String, target: &Path) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::new(
                "backup_disk_full",
                what,
                target,
                "make room on that disk, or name another place with -o or [backup] path",
            ),
            io::ErrorKind::NotFound => Self::new(
                "backup_not_writable",
                what,
                target,
                "make the folder first, or name another one",
            ),
            _ => Self::new(
                "backup_not_writable",
                what,
                target,
                "give this user a folder that it may write to, with -o or [backup] path",
            ),
        }
    }

    /// PostgreSQL has its own tools.
    pub fn postgres() -> Self {
        Self {
            code: "backup_postgres",
            what: "callvault makes no backups of PostgreSQL".to_owned(),
            place: "[database] url".to_owned(),
            remedy: "use `pg_dump --format=custom`, or a base backup (pg_basebackup) with WAL archiving; README, \"Backup and restore\"".to_owned(),
        }
    }

    fn archive(error: &crate::archive::contract::ArchiveError, file: &Path) -> Self {
        Self::new(
            "backup_not_archived",
            format!("the backup is not in the archive: {}", error.whole()),
            file,
            "the file itself is whole; see `callvault check` about the archive",
        )
    }

    fn database(error: &DbError) -> Self {
        Self {
            code: "backup_failed",
            what: error.to_string(),
            place: "[database] of the configuration".to_owned(),
            remedy: "see `callvault check`".to_owned(),
        }
    }
}

/// A backup that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub file: PathBuf,
    pub made_at: Timestamp,
    pub bytes: u64,
    pub sha256: Sha256,
    /// The newest step of the schema.
    pub schema: String,
    pub archived_as: Option<ObjectKey>,
    /// Older ones that went.
    pub removed: u32,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        write!(f, "{file}: {} bytes, sha256 {}", self.bytes, self.sha256)?;
        if let Some(key) = &self.archived_as {
            write!(f, ", in the archive as {key}")?;
        }
        if self.removed > 0 {
            write!(f, ", {} older removed", self.removed)?;
        }
        Ok(())
    }
}

/// Makes the backups of one database.
#[derive(Clone, Debug)]
pub struct Backups {
    pub db: Database,
    pub settings: Settings,
    pub base_dir: PathBuf,
    /// Of an archive in a directory: no place for a file that is not one of its objects.
    pub archive_folder: Option<PathBuf>,
    pub clock: SharedClock,
}

impl Backups {
    /// The folder of the scheduled ones.
    pub fn folder(&self) -> Result<PathBuf, BackupError> {
        let file = self.db.file().ok_or_else(BackupError::postgres)?;
        Ok(self.settings.folder(&self.base_dir, file))
    }

    /// A new file in that folder, which is made when it is missing. Names are exact to the second; where one is taken, the
    /// next free second names the file.
    pub fn next_file(&self) -> Result<PathBuf, BackupError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let folder = self.folder()?;
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder);
        made.map_err(|error| {
            let what = format!("cannot make the folder: {error}");
            BackupError::write(&error, what, &folder)
        })?;
        let mut at = self.clock.now();
        loop {
            let file = folder.join(file_name(at));
            if !file.exists() {
                return Ok(file);
            }
            at = at.plus(Duration::from_secs(1));
        }
    }

    /// Writes one backup.
    pub async fn write(&self, target: &Path) -> Result<Report, BackupError> {
        self.not_in_the_archive(target)?;
        let now = self.clock.now();
        let copied = self.db.copy_to(target, now).await;
        let copied = copied.map_err(|error| BackupError::copy(error, target))?;
        let file = target.to_owned();
        let read = tokio::task::spawn_blocking(move || fingerprint(&file)).await;
        let fingerprint = read.map_err(io::Error::from).flatten().map_err(|error| {
            let what = format!("cannot read the backup: {error}");
            BackupError::new("backup_unsound", what, target, "look at that disk")
        })?;
        Ok(Report {
            file: target.to_owned(),
            made_at: now,
            bytes: fingerprint.bytes,
            sha256: fingerprint.sha256,
            schema: copied.schema,
            archived_as: None,
            removed: 0,
        })
    }

    /// Puts a backup into the archive and reads it back.
    pub async fn put(&self, report: &mut Report, archive: &dyn Archive) -> Result<(), BackupError> {
        // The file's own name may be anything, and the same one twice.
        let key = ObjectKey::backup(&format!(
            "{}-{}.db",
            stamp(report.made_at),
            report.sha256.short()
        ));
        let expected = Fingerprint {
            sha256: report.sha256,
            bytes: report.bytes,
        };
        let failed = |error| BackupError::archive(&error, &report.file);
        let (file, mime) = (Source::File(&report.file), "application/vnd.sqlite3");
        archive
            .put(&key, file, &expected, mime)
            .await
            .map_err(failed)?;
        archive
            .read_back(&key, None, &expected)
            .await
            .map_err(failed)?;
        report.archived_as = Some(key);
        Ok(())
    }

    /// Makes one when it is due, and removes what is more than `keep`. `None`: not due, or another
    /// process of this machine is at it. A failure stands as a fault until one is made.
    pub async fn scheduled(&self, archive: &dyn Archive) -> Result<Option<Report>, BackupError> {
        let made = self.when_due(archive).await;
        let told = match &made {
            Ok(None) => return made,
            Ok(Some(report)) => {
                tracing::info!(%report, "database backed up");
                self.db.clear_fault("", BACKUP).await
            }
            Err(error) => {
                let now = self.clock.now();
                self.db.note_fault("", BACKUP, error.code, now).await
            }
        };
        if let Err(error) = told {
            tracing::warn!(%error, "backup not told of");
        }
        made
    }

    async fn when_due(&self, archive: &dyn Archive) -> Result<Option<Report>, BackupError> {
        let failed = |error: DbError| BackupError::database(&error);
        let last = self.db.installation(LAST).await.map_err(failed)?;
        let last = last.as_deref().and_then(Timestamp::parse);
        let now = self.clock.now();
        let is_due = |last: Timestamp| last.plus(self.settings.every()) <= now || last > now;
        if last.is_some_and(|last| !is_due(last)) {
            return self.put_again(archive).await;
        }
        let target = self.next_file()?;
        let Some(_lock) = lock(&target)? else {
            return Ok(None);
        };
        let mut report = self.write(&target).await?;
        // It counts and older ones go before the archive is asked: with that away no second copy is made.
        report.removed = self.prune(&target);
        if self.settings.archive {
            let told = serde_json::to_string(&report).unwrap_or_default();
            let noted = self.db.set_installation(NOT_ARCHIVED, &told).await;
            noted.map_err(failed)?;
        }
        let now = now.to_string();
        self.db.set_installation(LAST, &now).await.map_err(failed)?;
        if self.settings.archive {
            self.put(&mut report, archive).await?;
            self.is_archived().await?;
        }
        Ok(Some(report))
    }

    /// The copy that the archive did not take when it was made, as long as it is there.
    async fn put_again(&self, archive: &dyn Archive) -> Result<Option<Report>, BackupError> {
        let failed = |error: DbError| BackupError::database(&error);
        let left = self.db.installation(NOT_ARCHIVED).await.map_err(failed)?;
        let left = left.and_then(|told| serde_json::from_str::<Report>(&told).ok());
        let Some(mut report) = left.filter(|_| self.settings.archive) else {
            return Ok(None);
        };
        if !report.file.exists() {
            tracing::warn!(file = %report.file.display(), "the backup went before the archive took it");
            self.is_archived().await?;
            return Ok(None);
        }
        let Some(_lock) = lock(&report.file)? else {
            return Ok(None);
        };
        self.put(&mut report, archive).await?;
        self.is_archived().await?;
        report.removed = 0;
        Ok(Some(report))
    }

    async fn is_archived(&self) -> Result<(), BackupError> {
        let forgotten = self.db.forget_installation(NOT_ARCHIVED).await;
        forgotten.map_err(|error| BackupError::database(&error))
    }

    /// What cannot be removed stays, and is told of. The one that was just made is never removed, whatever its
    /// name; names from a time to come are of a clock that ran ahead, and go first.
    fn prune(&self, newest: &Path) -> u32 {
        let folder = newest.parent().unwrap_or(Path::new("."));
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries
            .filter(|entry| is_ours(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .filter(|file| file.file_name() != newest.file_name())
            .collect();
        let is_ahead = |file: &PathBuf| file.file_name() > newest.file_name();
        files.sort_by_cached_key(|file| (!is_ahead(file), file.clone()));
        let keep = usize::try_from(self.settings.keep).unwrap_or(usize::MAX);
        let keep = keep.saturating_sub(1);
        let mut removed = 0;
        for file in files.iter().take(files.len().saturating_sub(keep)) {
            match std::fs::remove_file(file) {
                Ok(()) => removed += 1,
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "old backup not removed");
                }
            }
        }
        removed
    }

    fn not_in_the_archive(&self, target: &Path) -> Result<(), BackupError> {
        let Some(archive) = self
            .archive_folder
            .as_ref()
            .and_then(|a| a.canonicalize().ok())
        else {
            return Ok(());
        };
        let folder = target.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize();
        if folder.is_ok_and(|folder| folder.starts_with(&archive)) {
            return Err(BackupError::new(
                "backup_in_archive",
                "the file would lie among the archive's objects",
                target,
                "name another place; [backup] archive = true puts backups into the archive as objects",
            ));
        }
        Ok(())
    }
}

/// Held while a backup is made; `None` while another process makes one.
fn lock(target: &Path) -> Result<Option<std::fs::File>, BackupError> {
    use rustix::fs::{FlockOperation, flock};
    let path = target.with_file_name(".lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| {
            let what = format!("cannot write there: {error}");
            BackupError::write(&error, what, &path)
        })?;
    Ok(flock(&file, FlockOperation::NonBlockingLockExclusive)
        .is_ok()
        .then_some(file))
}

fn stamp(now: Timestamp) -> String {
    now.utc().format("%Y%m%dT%H%M%SZ").to_string()
}

fn file_name(now: Timestamp) -> String {
    format!("callvault-{}.db", stamp(now))
}

/// Only what has our name is ever removed.
fn is_ours(name: &str) -> bool {
    let stamp = name
        .strip_prefix("callvault-")
        .and_then(|name| name.strip_suffix(".db"));
    stamp.is_some_and(|stamp| {
        stamp.len() == 16
            && stamp.bytes().enumerate().all(|(at, b)| match at {
                8 => b == b'T',
                15 => b == b'Z',
                _ => b.is_ascii_digit(),
            })
    })
}

fn fingerprint(file: &Path) -> io::Result<Fingerprint> {
    let mut file = std::fs::File::open(file)?;
    let mut hasher = Hasher::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => hasher.update(&chunk[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_our_own_name_are_ours() {
        let at = Timestamp::parse("2024-03-05T04:00:00.000Z").unwrap();
        assert_eq!(file_name(at), "callvault-20240305T040000Z.db");
        assert!(is_ours(&file_name(at)));
        for other in [
            "callvault.db",
            "callvault-before.db",
            "callvault-20240305T040000Z.db-journal",
            ".callvault-20240305T040000Z.db.7.part",
            "mine-20240305T040000Z.db",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn postgresql_is_refused_with_its_own_tools_named() {
        let daily = Settings {
            every: Some("24h".parse().unwrap()),
            ..Settings::default()
        };
        assert!(daily.problem(true).is_none());
        assert!(daily.problem(false).unwrap().2.contains("pg_dump"));
        assert!(Settings::default().problem(false).is_none());
        let often = Settings {
            every: Some("5m".parse().unwrap()),
            ..Settings::default()
        };
        assert_eq!(often.problem(true).unwrap().0, "every");
        let never = Settings {
            every: Some("0s".parse().unwrap()),
            ..Settings::default()
        };
        assert!(never.problem(true).is_none() && !never.is_scheduled());
    }
}
