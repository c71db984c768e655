//! An online copy of an SQLite database: consistent, verified, on disk, while others read and write.
//!
//! What a newcomer gets wrong: copying the file of a running database gives pages of different moments.
//! `VACUUM INTO` reads inside one snapshot and waits for no writer. The copy carries the moment at which it
//! was made (`backup_at`), so a database that was restored from it knows that the archive may know more.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sea_orm::{DatabaseConnection, SqlxSqliteConnector};

use crate::domain::clock::Timestamp;

use super::Database;
use super::connect::applied;
use super::error::{DbError, DbErrorKind};
use super::sql::{all, exec, one, vals};

const BUSY: Duration = Duration::from_secs(30);
/// In `installation` of a copy: when it was made.
const BACKUP_AT: &str = "backup_at";
/// In `installation` after a restore: of which backup the archive was read to its end since.
const READ_SINCE: &str = "restore_read";

/// A copy that has its name, was read whole and is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub bytes: u64,
    /// Its newest step of the schema.
    pub schema: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("PostgreSQL is not copied by callvault")]
    Postgres,
    #[error("{0} exists already; nothing is overwritten")]
    Exists(PathBuf),
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
    /// The database could not be read, or not written to the target: full disks come as this too.
    #[error("cannot copy the database: {0}")]
    Copy(#[source] DbError),
    #[error("the copy is not sound: {0}")]
    Unsound(String),
}

impl Database {
    /// Copies the whole SQLite database to `target`, which must not exist yet; its folder must.
    ///
    /// The file is 0600. It is written aside, checked (`integrity_check`, the same schema), flushed, and
    /// only then named: what has the name is whole.
    pub async fn copy_to(&self, target: &Path, now: Timestamp) -> Result<Copied, CopyError> {
        let Some(file) = &self.inner.file else {
            return Err(CopyError::Postgres);
        };
        if target.symlink_metadata().is_ok() {
            return Err(CopyError::Exists(target.to_owned()));
        }
        let failed = |error| CopyError::Write {
            path: target.to_owned(),
            error,
        };
        let part = Part::create(target).map_err(failed)?;
        vacuum_into(file, &part.0).await.map_err(CopyError::Copy)?;
        let copied = self.verify_copy(&part.0, now).await?;
        let target = target.to_owned();
        let named = tokio::task::spawn_blocking(move || part.name(&target));
        match named.await {
            Ok(Ok(bytes)) => Ok(Copied { bytes, ..copied }),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(CopyError::Unsound(error.to_string())),
        }
    }

    /// Opens the copy, marks it as one, and reads all of it.
    async fn verify_copy(&self, copy: &Path, now: Timestamp) -> Result<Copied, CopyError> {
        let db = open(copy).await.map_err(CopyError::Copy)?;
        let checked = async {
            let expected = applied(self.reader()).await?;
            let found = applied(&db).await?;
            if found != expected {
                let what = format!("it has {} steps of {}", found.len(), expected.len());
                return Ok(Err(what));
            }
            if has_table(&db, "installation").await? {
                exec(
                    &db,
                    "insert into installation (name, value) values ($1, $2) \
                     on conflict (name) do update set value = excluded.value",
                    vals![BACKUP_AT, now.to_string()],
                )
                .await?;
            }
            let rows = all(&db, "pragma integrity_check", vec![]).await?;
            let words: Result<Vec<String>, _> =
                rows.iter().map(|row| row.try_get_by_index(0)).collect();
            let words = words?;
            if words != ["ok"] {
                return Ok(Err(words.join("; ")));
            }
            Ok::<_, DbError>(Ok(found.last().cloned().unwrap_or_default()))
        };
        let checked = checked.await;
        // Its last words are written here.
        let closed = db.close().await.map_err(DbError::from);
        let schema = checked
            .map_err(CopyError::Copy)?
            .map_err(CopyError::Unsound)?;
        closed.map_err(CopyError::Copy)?;
        Ok(Copied { bytes: 0, schema })
    }

    /// Copies an SQLite database that holds notices or calls, before its schema is brought up: beside it,
    /// as `NAME.before-STEP.db`. `None` where there is nothing to copy or to bring up. One copy a step: starts
    /// that fail again and again find it there.
    pub async fn copy_before_migration(&self) -> Result<Option<PathBuf>, DbError> {
        let Some(file) = &self.inner.file else {
            return Ok(None);
        };
        let steps = self.migration_status().await?;
        let Some(next) = steps.iter().find(|step| !step.applied) else {
            return Ok(None);
        };
        let mut holds_rows = false;
        for (table, any) in [
            ("notice", "select 1 from notice limit 1"),
            ("call", "select 1 from call limit 1"),
        ] {
            let c = self.reader();
            holds_rows |= has_table(c, table).await? && one(c, any, vec![]).await?.is_some();
        }
        if !holds_rows {
            return Ok(None);
        }
        let now = self.inner.clock.now();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let target = file.with_file_name(format!("{stem}.before-{}.db", next.name));
        match self.copy_to(&target, now).await {
            Ok(copied) => tracing::info!(
                file = %target.display(),
                bytes = copied.bytes,
                schema = copied.schema,
                "database copied before its schema is brought up"
            ),
            // Of a start before this one, or of another process; what has the name is whole.
            Err(CopyError::Exists(_)) => {}
            Err(error) => {
                return Err(DbError::new(
                    DbErrorKind::Schema,
                    format!(
                        "the schema is not brought up, because the copy before it failed: {error}. Make room \
                         beside the database, or keep a copy of your own and run `callvault migrate up --without-copy`"
                    ),
                ));
            }
        }
        Ok(Some(target))
    }

    /// Whether this is a restored backup and the archive was not read to its end yet: until then no notice is
    /// read, for what the vendor tells again would become a second recording.
    pub async fn restore_waits(&self) -> Result<bool, DbError> {
        let sql = "select value from installation where name = $1 and value not in \
                   (select value from installation where name = $2)";
        let waits = one(self.reader(), sql, vals![BACKUP_AT, READ_SINCE]).await?;
        Ok(waits.is_some())
    }

    /// The archive was read to its end, and something in it could not be taken in: work may begin, and the
    /// archive is read again until nothing is left out.
    pub async fn restore_is_read(&self) -> Result<(), DbError> {
        let of = self.restored_from().await?.unwrap_or_default();
        self.set_installation(READ_SINCE, &of).await
    }

    /// When the backup was made that this database was restored from; `None` once everything that the archive
    /// holds is known.
    pub async fn restored_from(&self) -> Result<Option<String>, DbError> {
        self.installation(BACKUP_AT).await
    }

    /// Everything that the archive holds is known again.
    pub async fn restore_is_complete(&self) -> Result<(), DbError> {
        self.forget_installation(READ_SINCE).await?;
        self.forget_installation(BACKUP_AT).await
    }
}

async fn has_table(c: &DatabaseConnection, name: &str) -> Result<bool, DbError> {
    let sql = "select 1 from sqlite_master where type = 'table' and name = $1";
    Ok(one(c, sql, vals![name]).await?.is_some())
}

/// A connection of its own: the copy takes as long as it takes, and the readers' would refuse to write.
async fn vacuum_into(file: &Path, target: &Path) -> Result<(), DbError> {
    let Some(path) = target.to_str() else {
        return Err(DbError::new(
            DbErrorKind::Other,
            format!("the path {} is not UTF-8", target.display()),
        ));
    };
    let db = connect(SqliteConnectOptions::new().filename(file)).await?;
    let copied = exec(&db, "vacuum into $1", vals![path]).await;
    let closed = db.close().await;
    copied?;
    Ok(closed?)
}

async fn open(copy: &Path) -> Result<DatabaseConnection, DbError> {
    let options = SqliteConnectOptions::new().filename(copy);
    // One file, without companions.
    connect(options.journal_mode(SqliteJournalMode::Delete)).await
}

async fn connect(options: SqliteConnectOptions) -> Result<DatabaseConnection, DbError> {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options.busy_timeout(BUSY))
        .await?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// A file that is being written; removed unless it got its name.
struct Part(PathBuf);

impl Part {
    fn create(target: &Path) -> io::Result<Self> {
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
        let part = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
        let part = target.with_file_name(part);
        // Of a process with our number that was killed.
        let _ = std::fs::remove_file(&part);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        Ok(Self(part))
    }

    fn name(self, target: &Path) -> Result<u64, CopyError> {
        let failed = |error| CopyError::Write {
            path: target.to_owned(),
            error,
        };
        let file = File::open(&self.0).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let named = match renameat_with(CWD, &self.0, CWD, target, RenameFlags::NOREPLACE) {
            // Some network file systems do not know the flag; a hard link is create-only as well.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                std::fs::hard_link(&self.0, target)
            }
            other => other.map_err(io::Error::from),
        };
        match named {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(CopyError::Exists(target.to_owned()));
            }
            Err(error) => return Err(failed(error)),
        }
        let folder = target.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        Ok(bytes)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut journal = self.0.clone().into_os_string();
        journal.push("-journal");
        let _ = std::fs::remove_file(journal);
        // Gone already when it got its name.
        let _ = std::fs::remove_file(&self.0);
    }
}
