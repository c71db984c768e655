//! Notices as they came in, and what is counted of them.

crate::dialect::step!(
    "m0001_notices",
    "
create table notice (
    notice_id {uuid} not null primary key,
    source text not null,
    kind text not null,
    door text not null,
    topic text not null,
    method text not null,
    query text not null,
    headers text not null,
    body {bytes} not null,
    sha256 {bytes} not null,
    dedup_key text not null,
    arrived_at_ms bigint not null,
    result text not null,
    detail text,
    read_at_ms bigint,
    available_at_ms bigint not null,
    lease_token bigint not null default 0,
    lease_owner text
);
create unique index notice_source_dedup_key on notice (source, dedup_key);
create index notice_waiting on notice (arrived_at_ms, notice_id) where result = 'waiting';
create index notice_unreadable on notice (source, arrived_at_ms) where result = 'unreadable';

create table door_counter (
    source text not null,
    door text not null,
    notices bigint not null default 0,
    repeated bigint not null default 0,
    refused bigint not null default 0,
    primary key (source, door)
);

create table source_seen (
    source text not null primary key,
    kind text not null,
    first_seen_at_ms bigint not null,
    last_notice_at_ms bigint
);
"
);
