//! callvault: the archive of record for call recordings.
//!
//! Each module is a room; data flows one way, from `providers` and `ingress` through `pipeline` to
//! `archive` and `db`, and out through `web`. `ARCHITECTURE.md` has the map and who may import whom.

pub mod app;
pub mod archive;
pub mod cli;
pub mod config;
pub mod db;
pub mod domain;
pub mod ingress;
pub mod jobs;
pub mod media;
pub mod pipeline;
pub mod providers;
pub mod simulator;
pub mod spool;
pub mod web;
pub mod worker;
