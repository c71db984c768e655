//! One test binary for everything that needs more than one room.

mod account_command;
mod accounts;
mod admin;
mod admin_api;
mod alarms;
mod aliyun_queue;
mod archive;
mod archive_disk;
mod archive_faults;
mod arrows;
mod audit_chain;
mod backfill;
mod backup;
mod batches;
mod brokers;
mod brokers_bad;
mod command_line;
mod config;
mod contract_suite;
#[cfg(feature = "failpoints")]
mod crash;
#[cfg(feature = "failpoints")]
mod crash_move;
#[cfg(feature = "failpoints")]
mod crash_ways;
mod database_away;
mod db;
mod db_desk;
mod db_find;
mod db_full;
mod db_made_up;
mod db_notices;
mod db_pace;
mod db_readings;
mod db_work;
mod decoder;
mod desk;
mod desk_lists;
mod doubles;
mod egress;
mod egress_bodies;
mod fixity;
mod folders;
mod import;
mod journeys;
mod locks;
mod matrix;
mod moving;
mod mutating;
mod oidc;
mod oidc_bad;
mod oidc_provider;
mod outage;
mod pairs;
mod pbx;
mod plans;
mod power_cut;
mod promises;
mod provider_delete;
mod providers;
mod push_bodies;
mod reasons;
mod rights;
mod service;
mod simulation;
mod spool;
mod support;
mod sweep;
mod sync;
mod trtc;
mod trtc_bucket;
mod twilio;
mod vcrtc;
mod vendors;
mod ways;
mod web_access;
mod web_api;
mod web_discretion;
mod web_hooks;
mod workers;
mod yunxin;

/// Counts what each thread holds, for `mutating`.
#[global_allocator]
static ALLOCATOR: mutating::Counting = mutating::Counting;
