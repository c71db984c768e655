//! What a process starts once its database is there: at once, or later when PostgreSQL was away.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::db::{Database, DbErrorKind};
use crate::domain::ids::new_id;
use crate::ingress::poll::Sweeper;
use crate::pipeline::decoder::{DecoderCrew, DecoderLimits};
use crate::pipeline::handoff::Tools;
use crate::pipeline::intake::Intake;
use crate::pipeline::kept;
use crate::spool::Spool;
use crate::worker::crew;
use crate::worker::instance::Instance;

use super::presence::Presence;
use super::{House, OpenError, Parts, StartOptions, backup, chores, database};

const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Of archives that do not belong to this database, whatever comes.
const NEVER_OURS: [&str; 4] = [
    "other_archive",
    "archive_marker_missing",
    "archive_moved",
    "archive_not_indexed",
];
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The working half of a process, not started.
pub struct Worker {
    pub house: House,
    pub spool: Spool,
    pub intake: Intake,
    pub options: StartOptions,
    pub stop: CancellationToken,
}

/// Why a database that came up is not ours to use.
enum Not {
    Yet(String),
    Ours(OpenError),
}

/// Waits for the database, looks at schema and marker as every start does, lets questions through, and starts the
/// worker. Ends early when the database turns out not to be ours: the process ends with it.
pub async fn come(house: House, parts: Parts, worker: Option<Worker>, stop: CancellationToken) {
    let mut wait = FIRST_WAIT;
    let presence = loop {
        match begin(&house, parts).await {
            Ok(presence) => break presence,
            Err(Not::Yet(why)) => tracing::debug!(why, "the database is still away"),
            Err(Not::Ours(error)) => {
                tracing::error!(%error, "the database came, and cannot be used");
                return;
            }
        }
        tokio::select! {
            // Many processes that were away together do not come back together.
            () = tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)) => {}
            () = stop.cancelled() => return,
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    };
    tracing::info!("the database is there");
    // Ends by itself at the stop; a move of the archive ends the process.
    let keeping = presence.keep(&house, &stop);
    match worker {
        Some(worker) => match worker.start().await {
            Ok(working) => working.await,
            Err(error) => tracing::error!(%error, "cannot begin to work"),
        },
        None => stop.cancelled().await,
    }
    keeping.abort();
    presence.leave(&house).await;
}

/// Lets questions through once schema and marker are right, and says that this process runs.
async fn begin(house: &House, parts: Parts) -> Result<Presence, Not> {
    settle(house).await?;
    house.db.admit();
    Presence::take(house, parts).await.map_err(not)
}

/// The store may be away as well, and will come.
fn not(error: OpenError) -> Not {
    if NEVER_OURS.contains(&error.code) {
        Not::Ours(error)
    } else {
        Not::Yet(error.to_string())
    }
}

/// On a connection of its own: nobody else is let through before.
async fn settle(house: &House) -> Result<(), Not> {
    let config = &house.config;
    // The pool would try for ten seconds what one look tells.
    if Database::is_away(&config.database).await.unwrap_or(true) {
        return Err(Not::Yet("no answer".to_owned()));
    }
    let opened = Database::connect(&config.database, &config.base_dir, house.clock.clone()).await;
    let db = opened.map_err(|error| match error.kind() {
        DbErrorKind::Unavailable | DbErrorKind::Busy => Not::Yet(error.to_string()),
        _ => Not::Ours(database(error)),
    })?;
    house.check_marker_in(&db).await.map_err(not)
}

impl Worker {
    /// Frees what dead processes held, sweeps the spool, and gives the loops to run.
    pub async fn start(self) -> Result<impl Future<Output = ()> + Send + 'static, OpenError> {
        let Self {
            house,
            spool,
            intake,
            options,
            stop,
        } = self;
        let spool_error = |error: std::io::Error| {
            OpenError::new(
                "spool",
                format!("cannot open the spool: {error}"),
                spool.dir().display().to_string(),
                "give the service a directory that it may write to ([spool] path)",
            )
        };
        let now = house.clock.now();
        // Before this process takes its own id: what dead processes of this machine held is free now.
        for dead in Instance::bury_dead(spool.dir()).map_err(spool_error)? {
            house
                .db
                .free_dead_leases(&dead, now)
                .await
                .map_err(database)?;
        }
        let instance = Arc::new(Instance::take(spool.dir(), new_id(now)).map_err(spool_error)?);
        sweep(&house, &spool).await;
        let tools = tools(&house, spool.clone(), &options).await?;
        let sweeper = Sweeper::new(
            house.db.clone(),
            house.sources.clone(),
            intake.clone(),
            house.clock.clone(),
            instance.id.as_str(),
            stop.clone(),
        );
        let chores = chores(&house, &spool, sweeper, &stop);
        let who = instance.id.clone();
        let crew = crew::run(
            tools,
            intake,
            house.config.worker.clone(),
            instance,
            chores,
            stop.clone(),
        );
        Ok(async move {
            // Nothing is read or fetched before: the vendor would bring again what the archive has.
            backup::complete_restored(&house, &who, &stop).await;
            tokio::join!(crew, backup::complete_the_rest(&house, &who, &stop));
            // A decoder child that was killed at work may have made its file again a moment before.
            sweep(&house, &spool).await;
        })
    }
}

/// Removes what dead leases left in the spool; what cannot be removed now, the next start removes.
async fn sweep(house: &House, spool: &Spool) {
    let live = match house.db.live_leases(house.clock.now()).await {
        Ok(live) => live,
        Err(error) => {
            tracing::warn!(%error, "spool not swept");
            return;
        }
    };
    match spool
        .sweep(|recording, token| live.contains(&(recording, token)))
        .await
    {
        Ok(swept) if swept.files > 0 => {
            tracing::info!(files = swept.files, bytes = swept.bytes, "spool swept");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "spool not swept"),
    }
    kept::sweep(&house.db, spool).await;
}

async fn tools(house: &House, spool: Spool, options: &StartOptions) -> Result<Tools, OpenError> {
    let program = match &options.decoder_program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|error| {
            OpenError::new(
                "decoder",
                format!("cannot find this program's own file: {error}"),
                "this machine",
                "start callvault by its full path",
            )
        })?,
    };
    let children = house.config.worker.decoder_children();
    Ok(Tools {
        db: house.db.clone(),
        archive: house.archive.clone(),
        spool,
        client: house.client.clone(),
        decoder: Arc::new(DecoderCrew::new(
            program,
            children,
            DecoderLimits::default(),
        )),
        sources: house.sources.clone(),
        clock: house.clock.clone(),
        access: house.config.access_copy,
    })
}
