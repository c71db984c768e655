//! One test binary for everything that needs more than one room.

mod alarms;
mod aliyun_queue;
mod archive;
mod archive_disk;
mod archive_faults;
mod arrows;
mod backfill;
mod config;
mod contract_suite;
#[cfg(feature = "failpoints")]
mod crash;
#[cfg(feature = "failpoints")]
mod crash_ways;
mod db;
mod db_find;
mod db_full;
mod db_notices;
mod db_pace;
mod db_readings;
mod db_work;
mod decoder;
mod egress;
mod egress_bodies;
mod fixity;
mod import;
mod journeys;
mod outage;
mod provider_delete;
mod providers;
mod push_bodies;
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
mod yunxin;
