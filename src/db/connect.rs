//! Opens the database: SQLite beside the program, or PostgreSQL; brings its schema up; tells the time difference.
//!
//! SQLite has one writer connection, whose transactions begin immediate: sqlx would begin deferred,
//! and a transaction that reads first and writes later is then refused at once, whatever
//! `busy_timeout` says. Readers have connections of their own and never wait for the writer (WAL).

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use migration::{Migrator, MigratorTrait};
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sea_orm::sqlx::{self, Connection as _};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, SqliteTransactionMode, SqlxPostgresConnector,
    SqlxSqliteConnector, TransactionOptions, TransactionTrait,
};
use serde::Serialize;

use crate::domain::clock::{SharedClock, Timestamp};

use super::audit::Trail;
use super::batch::Batcher;
use super::error::{DbError, DbErrorKind};
use super::late::Gate;
use super::plans;
use super::settings::Settings;
use super::sql::{all, one, vals};
use super::txn::{Txn, answered};

const BUSY: Duration = Duration::from_secs(5);
const ACQUIRE: Duration = Duration::from_secs(10);
const ONE_TRY: Duration = Duration::from_secs(3);
/// For the last word of a connection that goes back into the pool.
const PARTING: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 16;
/// Any number, the same in every version: the lock that migrations run under.
const MIGRATION_LOCK: i64 = 0x63_616c_6c76_6c74;

/// When a write was last tried after some had failed, in what the installation remembers.
const WRITE_TRIED: &str = "write_tried_at";
const WRITE_BYTES: usize = 60_000;

/// A step of the schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub name: String,
    pub applied: bool,
}

/// The index. Cheap to clone; all clones share the connections and the notice writer.
#[derive(Clone, Debug)]
pub struct Database {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub writer: DatabaseConnection,
    pub reader: DatabaseConnection,
    pub clock: SharedClock,
    pub batcher: Batcher,
    pub trail: Trail,
    /// Of SQLite.
    pub file: Option<PathBuf>,
    /// Of a database that was away when we started.
    pub gate: Option<Gate>,
}

impl Database {
    /// Opens the database with a current schema.
    ///
    /// Creates an SQLite file (readable by its owner only) and its folder. Steps that are missing are
    /// applied when `auto_migrate` says so (an SQLite database with rows is copied first) and are an error
    /// of kind `Schema` otherwise.
    pub async fn connect(
        settings: &Settings,
        base_dir: &Path,
        clock: SharedClock,
    ) -> Result<Self, DbError> {
        let db = Self::connect_for_migration(settings, base_dir, clock).await?;
        let missing = db.pending().await?;
        if missing > 0 {
            if !settings.auto_migrate() {
                return Err(DbError::new(
                    DbErrorKind::Schema,
                    format!(
                        "the schema of {} lacks {missing} steps: run `callvault migrate up`",
                        shown(settings)
                    ),
                ));
            }
            db.copy_before_migration().await?;
            db.migrate_up().await?;
        }
        Ok(db)
    }

    /// Opens the database whatever its schema is: for `migrate` and `check`.
    pub async fn connect_for_migration(
        settings: &Settings,
        base_dir: &Path,
        clock: SharedClock,
    ) -> Result<Self, DbError> {
        let url = settings.url.expose();
        let mut file = None;
        let (writer, reader) = if let Some(path) = settings.file(base_dir) {
            open_sqlite(file.insert(path)).await?
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let pool = open_postgres(url).await.map_err(|error| {
                let error = DbError::from(error);
                DbError::new(
                    error.kind(),
                    format!("cannot connect to {}: {error}", tried(settings)),
                )
            })?;
            (pool.clone(), pool)
        } else {
            return Err(DbError::new(
                DbErrorKind::Other,
                format!(
                    "{} is no database that this version knows: write sqlite://path or postgres://...",
                    shown(settings)
                ),
            ));
        };
        Ok(Self::over(writer, reader, clock, file, None))
    }

    pub(super) fn over(
        writer: DatabaseConnection,
        reader: DatabaseConnection,
        clock: SharedClock,
        file: Option<PathBuf>,
        gate: Option<Gate>,
    ) -> Self {
        let batcher = Batcher::start(writer.clone());
        let trail = Trail::start(writer.clone());
        Self {
            inner: Arc::new(Inner {
                writer,
                reader,
                clock,
                batcher,
                trail,
                file,
                gate,
            }),
        }
    }

    /// Applies every step that is missing, all or none, under a lock.
    pub async fn migrate_up(&self) -> Result<(), DbError> {
        self.migrate(None).await
    }

    /// Applies the next `steps` steps.
    pub async fn migrate(&self, steps: Option<u32>) -> Result<(), DbError> {
        // Immediate on SQLite: a second process waits here, and then finds nothing left to do.
        let txn = self.begin().await?;
        if txn.get_database_backend() == DbBackend::Postgres {
            one(
                &txn,
                "select pg_advisory_xact_lock($1)::text",
                vals![MIGRATION_LOCK],
            )
            .await?;
        }
        refuse_newer(&txn).await?;
        Migrator::up(&*txn, steps).await.map_err(|error| {
            let error = DbError::from(error);
            match error.kind() {
                DbErrorKind::Other | DbErrorKind::Refused => DbError::new(
                    DbErrorKind::Schema,
                    format!("cannot bring the schema up: {error}"),
                ),
                _ => error,
            }
        })?;
        txn.commit().await?;
        Ok(())
    }

    /// Every step that this version knows, in order. A schema of a newer version is refused.
    pub async fn migration_status(&self) -> Result<Vec<Step>, DbError> {
        refuse_newer(&self.inner.reader).await?;
        let applied = applied(&self.inner.reader).await?;
        Ok(Migrator::migrations()
            .iter()
            .map(|step| Step {
                name: step.name().to_owned(),
                applied: applied.iter().any(|name| name == step.name()),
            })
            .collect())
    }

    async fn pending(&self) -> Result<usize, DbError> {
        let steps = self.migration_status().await?;
        Ok(steps.iter().filter(|step| !step.applied).count())
    }

    /// The file of an SQLite database.
    pub fn file(&self) -> Option<&Path> {
        self.inner.file.as_deref()
    }

    /// One answer from the database.
    pub async fn ping(&self) -> Result<(), DbError> {
        one(&self.inner.reader, "select 1", vec![]).await?;
        Ok(())
    }

    /// Whether notices can be written, as the last ones showed; while they could not be, a write of their size is
    /// tried.
    pub async fn takes_writes(&self) -> Result<(), DbError> {
        if self.inner.batcher.fails() {
            let now = self.inner.clock.now().to_string();
            // A few bytes find room where a notice finds none.
            let large = format!("{now:<WRITE_BYTES$}");
            self.set_installation(WRITE_TRIED, &large).await?;
            self.set_installation(WRITE_TRIED, &now).await?;
            self.inner.batcher.works_again();
        }
        Ok(())
    }

    /// This process's clock minus the database's, in milliseconds; 0 on SQLite, which has no clock of
    /// its own.
    pub async fn clock_offset_ms(&self) -> Result<i64, DbError> {
        if self.inner.reader.get_database_backend() != DbBackend::Postgres {
            return Ok(0);
        }
        let before = self.inner.clock.now();
        let row = one(
            &self.inner.reader,
            "select cast(extract(epoch from clock_timestamp()) * 1000 as bigint)",
            vec![],
        )
        .await?;
        let after = self.inner.clock.now();
        let theirs: i64 = row.map_or(Ok(before.ms()), |row| row.try_get_by_index(0))?;
        let ours = before.plus_ms(after.since_ms(before) / 2);
        Ok(ours.since_ms(Timestamp::from_ms(theirs)))
    }

    /// `sqlite` or `postgres`.
    pub fn backend_name(&self) -> &'static str {
        match self.inner.writer.get_database_backend() {
            DbBackend::Postgres => "postgres",
            _ => "sqlite",
        }
    }

    /// A transaction that may write. Nothing but the database is awaited while it is open.
    pub(super) async fn begin(&self) -> Result<Txn, DbError> {
        begin(&self.inner.writer).await
    }

    pub(super) fn writer(&self) -> &DatabaseConnection {
        &self.inner.writer
    }

    pub(super) fn reader(&self) -> &DatabaseConnection {
        &self.inner.reader
    }
}

pub(super) async fn begin(writer: &DatabaseConnection) -> Result<Txn, DbError> {
    let options = TransactionOptions {
        sqlite_transaction_mode: (writer.get_database_backend() == DbBackend::Sqlite)
            .then_some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let beginning = writer.begin_with_options(options);
    Ok(Txn(
        answered(writer.get_database_backend(), beginning).await?
    ))
}

/// Locks the rows of a `select` until the transaction ends. SQLite has one writer and needs no lock.
pub(super) fn for_update<C: ConnectionTrait>(c: &C) -> &'static str {
    match c.get_database_backend() {
        DbBackend::Postgres => " for update",
        _ => "",
    }
}

pub(super) async fn applied<C: ConnectionTrait>(c: &C) -> Result<Vec<String>, DbError> {
    let exists = match c.get_database_backend() {
        DbBackend::Postgres => {
            "select 1 from pg_tables where schemaname = current_schema() and tablename = 'seaql_migrations'"
        }
        _ => "select 1 from sqlite_master where type = 'table' and name = 'seaql_migrations'",
    };
    if one(c, exists, vec![]).await?.is_none() {
        return Ok(Vec::new());
    }
    all(
        c,
        "select version from seaql_migrations order by version",
        vec![],
    )
    .await?
    .iter()
    .map(|row| row.try_get_by_index(0).map_err(DbError::from))
    .collect()
}

async fn refuse_newer<C: ConnectionTrait>(c: &C) -> Result<(), DbError> {
    let known = Migrator::migrations();
    match applied(c)
        .await?
        .into_iter()
        .find(|name| !known.iter().any(|step| step.name() == name))
    {
        None => Ok(()),
        Some(name) => Err(DbError::new(
            DbErrorKind::Schema,
            format!(
                "the schema has step {name}, which this version does not know: the database was used by a newer callvault"
            ),
        )),
    }
}

/// Pages that the one writer keeps, at most, in KiB (SQLite's negative form). With SQLite's own 2 MB it reads the pages of
/// its indexes again for each row once a million rows are there, and spends more on that than on writing.
const WRITER_CACHE: &str = "-32768";

async fn open_sqlite(path: &Path) -> Result<(DatabaseConnection, DatabaseConnection), DbError> {
    create_file(path).map_err(|error| {
        DbError::new(
            DbErrorKind::Unavailable,
            format!("cannot open the database file {}: {error}", path.display()),
        )
    })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .statement_cache_capacity(256);
    let named = |error: sea_orm::sqlx::Error| {
        let error = DbError::from(error);
        DbError::new(
            error.kind(),
            format!("cannot open the database file {}: {error}", path.display()),
        )
    };
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(without_transaction(connection)))
        .connect_with(options.clone().pragma("cache_size", WRITER_CACHE))
        .await
        .map_err(named)?;
    let reader = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .connect_lazy_with(options.pragma("query_only", "on"));
    Ok((
        SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
        SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
    ))
}

/// Whether the writer may be handed out: never with a transaction of an earlier user on it.
///
/// When the disk is full SQLite rolls back by itself, the driver's own `ROLLBACK` then fails, and the
/// driver goes on counting a transaction that is none. The next "transaction" would be a savepoint in
/// it, and its commit would make nothing durable. Such a connection is closed and another one opened.
async fn without_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    // A rollback that a dropped transaction left queued runs first.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// The file for its owner alone; SQLite gives its companions the same rights.
fn create_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent().filter(|p| *p != PathBuf::new()) {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map(|_| ())
}

async fn open_postgres(url: &str) -> Result<DatabaseConnection, sea_orm::sqlx::Error> {
    let options = postgres_options(url)?;
    let pool = postgres_pool().connect_with(options.clone()).await;
    let pool = match pool {
        Ok(pool) => pool,
        // The pool tries again until its time is over and then tells of the time alone; one plain try
        // tells what is wrong.
        Err(sqlx::Error::PoolTimedOut) => {
            return Err(plain_try(&options)
                .await
                .err()
                .unwrap_or(sqlx::Error::PoolTimedOut));
        }
        Err(error) => return Err(error),
    };
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

pub(super) fn postgres_options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?.application_name("callvault"))
}

pub(super) fn postgres_pool() -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(ACQUIRE)
        .before_acquire(|_, meta| Box::pin(async move { Ok(!plans::are_older_than(meta.age)) }))
        // The pool itself would wait for ever for a connection whose question was given up.
        .after_release(|connection, _| {
            Box::pin(async move {
                match tokio::time::timeout(PARTING, connection.ping()).await {
                    Ok(alive) => alive.map(|()| true),
                    Err(_) => Err(sqlx::Error::PoolTimedOut),
                }
            })
        })
}

/// One connection without a pool, to learn what is wrong.
pub(super) async fn plain_try(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let plain = sqlx::PgConnection::connect_with(options);
    match tokio::time::timeout(ONE_TRY, plain).await {
        Ok(tried) => tried.map(|_| ()),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

/// Where a PostgreSQL was looked for, with what the address leaves to defaults.
fn tried(settings: &Settings) -> String {
    let Ok(options) = PgConnectOptions::from_str(settings.url.expose()) else {
        return shown(settings);
    };
    let database = options.get_database().unwrap_or("(the user's own)");
    match options.get_socket() {
        Some(folder) => format!("PostgreSQL in {}/{database}", folder.display()),
        None => format!(
            "PostgreSQL at {}:{}/{database}",
            options.get_host(),
            options.get_port()
        ),
    }
}

/// The database without user and password, for messages.
fn shown(settings: &Settings) -> String {
    crate::domain::reading::masked_url(settings.url.expose())
}
