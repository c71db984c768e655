//! What every handler shares.

use std::sync::Arc;

use super::access::{ApiToken, Doorkeeper};
use super::health::Readiness;
use super::metrics::Metrics;
use super::reads::Scrape;
use super::settings::Settings;
use crate::archive::contract::Archive;
use crate::db::Database;
use crate::domain::clock::SharedClock;
use crate::pipeline::intake::Intake;
use crate::providers::sources::Sources;
use crate::spool::Spool;

/// Cheap to clone: every clone is the same house.
#[derive(Clone, Debug)]
pub struct WebState {
    pub db: Database,
    pub archive: Arc<dyn Archive>,
    pub intake: Intake,
    /// Replaced as a whole when the configuration is read again.
    pub providers: Sources,
    pub clock: SharedClock,
    pub spool: Spool,
    pub settings: Arc<Settings>,
    /// Taken out of the settings: the one place where readers' token is looked up.
    pub api_token: ApiToken,
    pub doorkeeper: Arc<Doorkeeper>,
    pub metrics: Arc<Metrics>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) scrape: Arc<Scrape>,
}

impl WebState {
    pub fn new(
        db: Database,
        archive: Arc<dyn Archive>,
        intake: Intake,
        providers: Sources,
        clock: SharedClock,
        spool: Spool,
        mut settings: Settings,
    ) -> Self {
        let api_token = ApiToken::new(settings.api_token.take());
        let doorkeeper = Arc::new(Doorkeeper::new(&settings.access, &clock));
        Self {
            db,
            archive,
            intake,
            providers,
            clock,
            spool,
            settings: Arc::new(settings),
            api_token,
            doorkeeper,
            metrics: Arc::default(),
            readiness: Arc::default(),
            scrape: Arc::default(),
        }
    }
}
