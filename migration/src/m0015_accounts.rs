//! Who may sign in, with what, and until when. Of every secret its hash alone is kept.

crate::dialect::step!(
    "m0015_accounts",
    "
create table account (
    account_id {uuid} not null primary key,
    name text not null unique,
    password_hash text,
    role text not null,
    scope text not null,
    language text,
    failures bigint not null,
    locked_until_ms bigint,
    must_change boolean not null,
    disabled boolean not null,
    created_at_ms bigint not null,
    changed_at_ms bigint not null
);

create table session (
    token_sha256 {bytes} not null primary key,
    session_id {uuid} not null unique,
    account_id {uuid} not null references account (account_id),
    created_at_ms bigint not null,
    last_seen_at_ms bigint not null,
    expires_at_ms bigint not null,
    came_from text not null,
    agent text not null
);
create index session_account on session (account_id);

create table api_token (
    token_id {uuid} not null primary key,
    token_sha256 {bytes} not null unique,
    name text not null unique,
    role text not null,
    scope text not null,
    created_at_ms bigint not null,
    created_by text not null,
    expires_at_ms bigint,
    last_used_at_ms bigint,
    revoked_at_ms bigint
);

create table one_time_link (
    token_sha256 {bytes} not null primary key,
    account_id {uuid} not null references account (account_id),
    expires_at_ms bigint not null
);
"
);
