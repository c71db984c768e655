//! Chores over the whole archive: rebuild, fixity, backup, reconciliation, status.
//!
//! To add a chore: (1) one file here with a function that takes what it needs and gives a report;
//! (2) a line in `app::start` that schedules it, or a command in `cli/`; (3) its row in the README.

pub mod alarms;
pub mod backfill;
pub mod backup;
pub mod fixity;
pub mod forecast;
pub mod holds;
mod ids;
pub mod import;
pub mod leftovers;
pub mod moving;
pub mod provider_delete;
pub mod rebuild;
pub mod reconcile;
pub mod sources;
pub mod status;
pub mod table;
pub mod tell;
