//! Calls, their legs, the names they go by, and the words they are found by.

crate::dialect::step!(
    "m0002_calls",
    "
create table call (
    call_id {uuid} not null primary key,
    source text not null,
    kind text not null,
    provider_call_id text not null,
    facts text not null,
    direction text,
    started_at_ms bigint,
    duration_ms bigint,
    arrived_at_ms bigint not null,
    at_ms bigint not null,
    has_recording boolean not null default false,
    expect_until_ms bigint
);
create index call_at on call (at_ms, call_id);
create index call_without_recording on call (at_ms, call_id) where not has_recording;
create index call_expecting on call (expect_until_ms) where expect_until_ms is not null;

create table call_alias (
    source text not null,
    alias text not null,
    call_id {uuid} not null references call (call_id),
    primary key (source, alias)
);
create index call_alias_call on call_alias (call_id);

create table call_leg (
    call_id {uuid} not null references call (call_id),
    provider_leg_id text not null,
    facts text not null,
    primary key (call_id, provider_leg_id)
);

create table search_key (
    kind text not null,
    value {ordered} not null,
    call_id {uuid} not null references call (call_id),
    recording_id {uuid},
    at_ms bigint not null,
    primary key (kind, value, call_id)
);
create index search_key_call on search_key (call_id);
"
);
