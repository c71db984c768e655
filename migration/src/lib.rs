//! The schema, step by step: what `migrate up` applies, on SQLite and on PostgreSQL.
//!
//! A step names its own columns and never imports `entity`; once merged it is not edited any more.
//! Every step runs in a transaction on both databases.

mod dialect;
mod m0001_notices;
mod m0002_calls;
mod m0003_recordings;
mod m0004_house;
mod m0005_pace;
mod m0006_gone_told;
mod m0007_sweep;
mod m0008_asking;
mod m0009_alarms;
mod m0010_provider_delete;
mod m0011_party;
mod m0012_notice_order;
mod m0013_backfill;
mod m0014_fixity;
mod m0015_accounts;
mod m0016_audit_chain;
mod m0018_same_as;
mod m0020_desk;
mod m0021_notice_in_part;
mod m0023_identities;
mod m0024_schedule_job;
mod m0025_speed;
mod m0026_storage;
mod m0027_pairs;

use sea_orm_migration::MigrationTrait;
pub use sea_orm_migration::MigratorTrait;

/// All steps in order.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_notices::Step),
            Box::new(m0002_calls::Step),
            Box::new(m0003_recordings::Step),
            Box::new(m0004_house::Step),
            Box::new(m0005_pace::Step),
            Box::new(m0006_gone_told::Step),
            Box::new(m0007_sweep::Step),
            Box::new(m0008_asking::Step),
            Box::new(m0009_alarms::Step),
            Box::new(m0010_provider_delete::Step),
            Box::new(m0011_party::Step),
            Box::new(m0012_notice_order::Step),
            Box::new(m0013_backfill::Step),
            Box::new(m0014_fixity::Step),
            Box::new(m0015_accounts::Step),
            Box::new(m0016_audit_chain::Step),
            Box::new(m0018_same_as::Step),
            Box::new(m0020_desk::Step),
            Box::new(m0021_notice_in_part::Step),
            Box::new(m0023_identities::Step),
            Box::new(m0024_schedule_job::Step),
            Box::new(m0025_speed::Step),
            Box::new(m0026_storage::Step),
            Box::new(m0027_pairs::Step),
        ]
    }
}
