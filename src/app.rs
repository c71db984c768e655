//! The roof: puts the rooms together, the only place that knows every concrete type.

pub mod backup;
mod belonging;
mod late;
mod presence;
mod storage;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::archive::contract::Archive;
use crate::archive::open_archive;
use crate::config::Config;
use crate::db::Database;
use crate::domain::clock::SharedClock;
use crate::domain::notice::Notice;
use crate::ingress::poll::{Mode, Sweeper};
use crate::jobs::{alarms, fixity, provider_delete, reconcile, status, tell};
use crate::pipeline::faults::Faults;
use crate::pipeline::intake::Intake;
use crate::providers::contract::BuildContext;
use crate::providers::http::GuardedClient;
use crate::providers::pace::SharedPace;
use crate::providers::registry;
use crate::providers::sources::Sources;
use crate::spool::Spool;
use crate::spool::journal::Journal;
use crate::web;
use crate::web::access::ApiToken;
use crate::web::serve::{Addresses, Listeners};
use crate::web::state::WebState;
use crate::worker::crew;
use crate::worker::pace::DatabasePace;
use crate::worker::schedule::{Chore, Scheduled};

/// Which loops a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    pub web: bool,
    pub worker: bool,
}

impl Parts {
    pub const ALL: Self = Self {
        web: true,
        worker: true,
    };
    pub const WEB: Self = Self {
        web: true,
        worker: false,
    };
    pub const WORKER: Self = Self {
        web: false,
        worker: true,
    };
}

/// Why the house did not open: what, where, what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what} ({place}): {remedy}")]
pub struct OpenError {
    pub code: &'static str,
    pub is_configuration: bool,
    pub what: String,
    pub place: String,
    pub remedy: String,
}

impl OpenError {
    fn new(
        code: &'static str,
        what: impl Into<String>,
        place: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            is_configuration: false,
            what: what.into(),
            place: place.into(),
            remedy: remedy.into(),
        }
    }
}

/// A supervisor kills after 30 s or later.
const STOP_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// Index and archive, as every command needs them; nothing runs yet.
#[derive(Clone, Debug)]
pub struct House {
    pub config: Arc<Config>,
    pub clock: SharedClock,
    pub db: Database,
    pub archive: Arc<dyn Archive>,
    pub sources: Sources,
    pub client: Arc<GuardedClient>,
    /// What the sources may ask, shared with every process on this database.
    pub pace: SharedPace,
    /// The database was away: neither its schema nor the archive's marker was looked at yet.
    pub is_late: bool,
}

impl House {
    /// Opens database and archive and checks that they belong together.
    pub async fn open(config: Config, clock: SharedClock) -> Result<Self, OpenError> {
        let house = Self::open_apart(config, clock).await?;
        house.check_marker().await?;
        Ok(house)
    }

    /// The same for a service: a PostgreSQL that is away does not keep its doors shut, see [`late`].
    pub async fn open_or_wait(config: Config, clock: SharedClock) -> Result<Self, OpenError> {
        match Database::later(&config.database, &config.base_dir, &clock).await {
            Some(db) => {
                tracing::warn!("the database is away: notices go to the journal until it comes");
                let house = Self::open_over(config, clock, db).await?;
                Ok(Self {
                    is_late: true,
                    ..house
                })
            }
            None => Self::open(config, clock).await,
        }
    }

    /// Opens both without holding them together, for `check` and `rebuild`.
    pub async fn open_apart(config: Config, clock: SharedClock) -> Result<Self, OpenError> {
        let db = open_database(&config, &clock).await?;
        Self::open_over(config, clock, db).await
    }

    async fn open_over(
        config: Config,
        clock: SharedClock,
        db: Database,
    ) -> Result<Self, OpenError> {
        let archive = open_archive(&config.archive, &config.base_dir, clock.clone())
            .await
            .map_err(|error| {
                OpenError::new(
                    error.kind().code(),
                    format!("cannot open the archive: {}", error.whole()),
                    "[archive] of the configuration",
                    "check path or endpoint, credentials and rights; `callvault check` tells more",
                )
            })?;
        let client = Arc::new(GuardedClient::new(clock.clone()));
        let pace = shared_pace(&db, &clock);
        let sources = open_sources(&config, &client, &clock, &pace)?;
        Ok(Self {
            config: Arc::new(config),
            clock,
            db,
            archive,
            sources,
            client,
            pace,
            is_late: false,
        })
    }
}

fn database(error: crate::db::DbError) -> OpenError {
    OpenError::new(
        "database",
        error.to_string(),
        "[database] of the configuration",
        "is the database up, are its address and password right? `callvault check` tells more",
    )
}

fn archive(error: crate::archive::contract::ArchiveError) -> OpenError {
    OpenError::new(
        error.kind().code(),
        error.whole(),
        "[archive] of the configuration",
        "is the store up, are path or endpoint and rights right? `callvault check` tells more",
    )
}

pub async fn open_database(config: &Config, clock: &SharedClock) -> Result<Database, OpenError> {
    Database::connect(&config.database, &config.base_dir, clock.clone())
        .await
        .map_err(database)
}

/// Opens the database whatever its schema is.
pub async fn open_database_for_migration(
    config: &Config,
    clock: &SharedClock,
) -> Result<Database, OpenError> {
    Database::connect_for_migration(&config.database, &config.base_dir, clock.clone())
        .await
        .map_err(database)
}

/// The budgets of the sources, as all processes on this database share them.
pub fn shared_pace(db: &Database, clock: &SharedClock) -> SharedPace {
    Arc::new(DatabasePace::new(db.clone(), clock.clone()))
}

pub fn open_sources(
    config: &Config,
    client: &Arc<GuardedClient>,
    clock: &SharedClock,
    pace: &SharedPace,
) -> Result<Sources, OpenError> {
    let context = BuildContext {
        pace: pace.clone(),
        public_url: config.server.public_url.clone(),
        ..BuildContext::local(client.clone(), clock.clone())
    };
    let providers = config
        .sources
        .iter()
        .map(|source| {
            registry::build(
                &source.kind,
                source.common.clone(),
                source.own.clone(),
                &context,
            )
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| OpenError {
            is_configuration: true,
            ..OpenError::new(
                "configuration",
                error.what.clone(),
                error.place(),
                error.remedy.clone(),
            )
        })?;
    Ok(Sources::new(providers))
}

/// A running installation.
#[derive(Debug)]
pub struct Running {
    pub house: House,
    pub addresses: Addresses,
    api_token: ApiToken,
    /// `None` where the database was away: whoever waits for it says so then (`late`).
    presence: Option<presence::Presence>,
    stop: CancellationToken,
    tasks: tokio_util::task::TaskTracker,
}

impl Running {
    /// Ends gracefully: no new work, leases handed back, answers in flight finished. What does not end
    /// in time is left: its lease runs out.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_WITHIN, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("stopped without waiting any longer");
        }
        if let Some(presence) = &self.presence {
            presence.leave(&self.house).await;
        }
    }

    /// Puts what may change while we run into force: the sources with their secrets, tokens and hosts, and
    /// the token of the readers. All or nothing: an error leaves everything as it was.
    pub fn reload(&self, config: &Config) -> Result<(), OpenError> {
        let house = &self.house;
        let sources = open_sources(config, &house.client, &house.clock, &house.pace)?;
        house.sources.replace(sources.snapshot().values().cloned());
        self.api_token.replace(config.server.api_token.clone());
        Ok(())
    }

    /// Resolves when something inside could not go on.
    pub async fn failed(&self) {
        self.stop.cancelled().await;
    }
}

/// Options that are not in the configuration file.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// A line on every page (the demo's warning).
    pub banner: Option<(&'static str, &'static str)>,
    /// The program that holds the decoder; the running one unless a test says otherwise.
    pub decoder_program: Option<PathBuf>,
    /// Try a free port when the configured one is taken.
    pub any_port: bool,
}

/// Starts the chosen parts and returns once they answer.
pub async fn start(
    house: House,
    parts: Parts,
    options: StartOptions,
) -> Result<Running, OpenError> {
    let stop = CancellationToken::new();
    let tasks = tokio_util::task::TaskTracker::new();
    let spool_dir = house.config.spool.dir(&house.config.base_dir);
    let spool_error = |error: &dyn std::fmt::Display| {
        OpenError::new(
            "spool",
            format!("cannot open the spool: {error}"),
            spool_dir.display().to_string(),
            "give the service a directory that it may write to ([spool] path)",
        )
    };
    let spool = Spool::open(&house.config.spool, &house.config.base_dir)
        .await
        .map_err(|e| spool_error(&e))?;
    let journal = Arc::new(
        Journal::<Notice>::open(&spool_dir.join("journal"))
            .await
            .map_err(|e| spool_error(&e))?,
    );
    let intake = Intake::new(house.db.clone(), journal, house.clock.clone());
    let presence = if house.is_late {
        None
    } else {
        let presence = presence::Presence::take(&house, parts).await?;
        tasks.spawn(crew::guarded(
            "presence",
            presence.keep(&house, &stop),
            stop.clone(),
        ));
        Some(presence)
    };

    let worker = parts.worker.then(|| late::Worker {
        house: house.clone(),
        spool: spool.clone(),
        intake: intake.clone(),
        options: options.clone(),
        stop: stop.clone(),
    });
    if house.is_late {
        let coming = late::come(house.clone(), parts, worker, stop.clone());
        tasks.spawn(crew::guarded(
            "database that was away",
            tokio::spawn(coming),
            stop.clone(),
        ));
    } else if let Some(worker) = worker {
        tasks.spawn(worker.start().await?);
    }
    let journal = tokio::spawn(crew::drain_journal(intake.clone(), stop.clone()));
    tasks.spawn(crew::guarded("journal", journal, stop.clone()));
    let mut api_token = ApiToken::default();
    let addresses = if parts.web {
        let settings = web::settings::Settings {
            banner: options.banner,
            ..house.config.server.clone()
        };
        let listeners = Listeners::bind(&settings, options.any_port)
            .await
            .map_err(|error| {
                OpenError::new(
                    "listen",
                    error.to_string(),
                    "[server] listen of the configuration",
                    "another program holds the port: stop it, or choose another address",
                )
            })?;
        let addresses = listeners.addresses();
        let state = WebState::new(
            house.db.clone(),
            house.archive.clone(),
            intake.clone(),
            house.sources.clone(),
            house.clock.clone(),
            spool.clone(),
            settings,
        );
        api_token = state.api_token.clone();
        let serving = tokio::spawn(web::serve::serve(listeners, state, stop.clone()));
        tasks.spawn(crew::guarded("web server", serving, stop.clone()));
        addresses
    } else {
        Addresses::default()
    };
    Ok(Running {
        house,
        addresses,
        api_token,
        presence,
        stop,
        tasks,
    })
}

/// What this process does by the clock.
fn chores(
    house: &House,
    spool: &Spool,
    sweeper: Sweeper,
    stop: &CancellationToken,
) -> Vec<Scheduled> {
    let mut chores = vec![poll_chore(house, sweeper)];
    chores.push(provider_delete_chore(house));
    chores.extend(storage::chores(house));
    if house.config.fixity.every.is_some() {
        chores.push(fixity_chore(house, stop));
    }
    if house.config.alarms.is_used() {
        chores.push(alarm_chore(house, spool));
    }
    if house.db.file().is_some() && house.config.backup.is_scheduled() {
        chores.push(backup::chore(house));
    }
    chores
}

/// Asks every vendor that can be asked, then looks for what is still missing.
fn poll_chore(house: &House, sweeper: Sweeper) -> Scheduled {
    let house = house.clone();
    let cron = house.config.schedule.poll.clone();
    let chore: Chore = Arc::new(move || {
        let (house, sweeper) = (house.clone(), sweeper.clone());
        Box::pin(async move {
            let swept = sweeper.pass(None, Mode::default()).await;
            let mut told: Vec<String> = swept
                .iter()
                .filter(|report| report.can_list || report.can_ask)
                .map(ToString::to_string)
                .collect();
            let report = reconcile::pass(&house.db, &house.sources, house.clock.now())
                .await
                .map_err(|error| error.to_string())?;
            told.push(report.to_string());
            Ok(told.join("; "))
        })
    });
    Scheduled {
        name: "poll",
        cron,
        chore,
    }
}

/// Rarely enough to look for candidates, often enough for a vendor that charges by the day.
const PROVIDER_DELETE: &str = "30 */10 * * * *";

/// Deletes at the vendors what sources want deleted there.
fn provider_delete_chore(house: &House) -> Scheduled {
    let deleter = provider_delete::Deleter {
        db: house.db.clone(),
        archive: house.archive.clone(),
        sources: house.sources.clone(),
        faults: Faults::new(house.db.clone(), house.clock.clone()),
        clock: house.clock.clone(),
    };
    let chore: Chore = Arc::new(move || {
        let deleter = deleter.clone();
        Box::pin(async move {
            let report = deleter.pass().await.map_err(|error| error.to_string())?;
            Ok(format!(
                "{} deleted, {} failed",
                report.deleted, report.failed
            ))
        })
    });
    Scheduled {
        name: "provider_delete",
        cron: PROVIDER_DELETE.to_owned(),
        chore,
    }
}

/// A look whether anything is due; what a process left when it died is gone on with.
const FIXITY: &str = "45 */10 * * * *";

/// Looks for stored objects and reads them again, a share each day.
fn fixity_chore(house: &House, stop: &CancellationToken) -> Scheduled {
    let fixity = fixity::Fixity {
        db: house.db.clone(),
        archive: house.archive.clone(),
        clock: house.clock.clone(),
        settings: house.config.fixity,
        stop: stop.clone(),
    };
    let chore: Chore = Arc::new(move || {
        let fixity = fixity.clone();
        Box::pin(async move {
            let checked = fixity.due(&|_| {}).await;
            let (db, now) = (&fixity.db, fixity.clock.now());
            let told = match &checked {
                Ok(report) if report.busy || report.stopped => Ok(()),
                Ok(_) => db.clear_fault("", alarms::FIXITY_DOING).await,
                Err(_) => {
                    db.note_fault("", alarms::FIXITY_DOING, alarms::FIXITY_FAILING, now)
                        .await
                }
            };
            if let Err(error) = told {
                tracing::warn!(%error, "fixity not told of");
            }
            let report = checked.map_err(|error| error.to_string())?;
            Ok(report.to_string())
        })
    });
    Scheduled {
        name: "fixity",
        cron: FIXITY.to_owned(),
        chore,
    }
}

/// Each minute; a reason is told at most once an hour all the same.
const ALARMS: &str = "20 * * * * *";

/// Tells of alarms where the operator wants to hear of them.
fn alarm_chore(house: &House, spool: &Spool) -> Scheduled {
    let (house, spool) = (house.clone(), spool.clone());
    let chore: Chore = Arc::new(move || {
        let (house, spool) = (house.clone(), spool.clone());
        Box::pin(async move {
            let now = house.clock.now();
            let usage = spool.usage().await.map_err(|error| error.to_string())?;
            let folder = house.archive.folder();
            let told = async {
                let view = status::status(&house.db, &house.sources, usage, folder, now).await?;
                let settings = &house.config.alarms;
                tell::tell(settings, &house.db, &house.client, &view.alarms, now).await
            };
            let told = told.await.map_err(|error| error.to_string())?;
            Ok(format!("{} told, {} failed", told.told, told.failed))
        })
    });
    Scheduled {
        name: "alarms",
        cron: ALARMS.to_owned(),
        chore,
    }
}
