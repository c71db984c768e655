//! The only room with SQL: one file per table group, rows in and `domain` types out.
//!
//! What a newcomer gets wrong: every write after a claim goes through the lease (`lease_token`), and
//! zero rows touched is [`DbError::is_lease_lost`]: stop at once. Which database it is only
//! `connect`, `lease` and `explain` know; everything else is SQL that both take.

pub mod accounts;
pub mod adopt;
pub mod alarms;
mod announce;
pub mod asking;
pub mod audit;
mod backfill;
pub mod backup;
mod batch;
mod calls;
pub mod connect;
pub mod desk;
mod directory;
pub mod doubles;
pub mod error;
pub mod explain;
mod facts;
pub mod faults;
pub mod fixity;
pub mod holds;
pub mod identities;
mod installation;
mod keys;
mod late;
mod leads;
pub mod lease;
mod made_up;
pub mod moving;
mod names;
pub mod notices;
mod objects;
pub mod operations;
pub mod originals;
pub mod orphans;
pub mod pace;
pub mod pairs;
mod places;
mod plans;
pub mod processes;
pub mod provider_copies;
pub mod readings;
mod reasons;
pub mod rebuild;
pub mod recordings;
mod rows;
pub mod schedule;
pub mod search;
pub mod sessions;
pub mod settings;
mod settle;
pub mod show;
mod sql;
pub mod status;
pub mod sweep;
pub mod tokens;
mod txn;
mod unite;
mod words;

pub use connect::{Database, Step};
pub use error::{DbError, DbErrorKind};
