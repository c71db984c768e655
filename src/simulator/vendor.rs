//! What every simulated vendor can do; `registry` lists them.

use std::fmt;

use async_trait::async_trait;

use super::Error;
use super::ledger::LedgerLine;
use super::plan::{Mishap, Plan};
use super::wire::{Reply, Request};

/// One vendor: its web server's answers, and the calls it makes.
#[async_trait]
pub trait Simulated: Send + Sync + fmt::Debug {
    /// A ready `[sources.NAME]` block, with callvault's own waiting times at the vendor's speed.
    fn config_block(&self) -> String;

    async fn answer(&self, request: &Request) -> Reply;

    /// Plays these calls and returns when every notice was taken or given up.
    async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error>;

    /// The id of call number `index`, which the seed decides.
    fn call_id_of(&self, index: u64) -> String;

    /// Takes back a call of an earlier run.
    fn recall(&self, index: u64, line: &LedgerLine);
}

/// How a vendor fails, for the planner.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Planned failures, each in its turn.
    pub failures: &'static [Mishap],
    /// Mishaps that this vendor does not have.
    pub never: &'static [Mishap],
    /// Mishaps of its message queue, where it has one.
    pub queue: &'static [Mishap],
    /// A dead address cannot be renewed: then the recording is lost.
    pub expired_is_lost: bool,
}
