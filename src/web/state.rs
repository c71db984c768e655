//! What every handler shares.

use std::sync::Arc;

use super::metrics::Metrics;
use super::settings::Settings;
use crate::archive::contract::Archive;
use crate::domain::clock::SharedClock;
use crate::providers::sources::Sources;

#[derive(Clone, Debug)]
pub struct WebState {
    pub archive: Arc<dyn Archive>,
    pub providers: Sources,
    pub clock: SharedClock,
    pub settings: Arc<Settings>,
    pub metrics: Arc<Metrics>,
}
