//! Which scheduled jobs there are, and who asked for one to run now; and how often a session's owner was refused.

crate::dialect::step!(
    "m0024_schedule_job",
    "
create table schedule_job (
    name text not null primary key,
    cron text not null,
    seen_at_ms bigint not null,
    asked_at_ms bigint,
    asked_by text
);

alter table session add column refused bigint not null default 0;
"
);
