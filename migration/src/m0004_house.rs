//! Scheduled runs, the audit trail, and what the installation remembers of itself.

crate::dialect::step!(
    "m0004_house",
    "
create table schedule_run (
    name text not null,
    due_at_ms bigint not null,
    instance text not null,
    started_at_ms bigint not null,
    finished_at_ms bigint,
    result text,
    primary key (name, due_at_ms)
);

create table audit_event (
    audit_id {uuid} not null primary key,
    at_ms bigint not null,
    actor text not null,
    action text not null,
    subject text not null,
    detail text not null,
    came_from text not null
);
create index audit_event_at on audit_event (at_ms);

create table installation (
    name text not null primary key,
    value text not null
);
"
);
