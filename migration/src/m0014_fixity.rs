//! What checks of stored objects found, how far they have come, and the orders in which they walk.

crate::dialect::step!(
    "m0014_fixity",
    "
create table fixity_finding (
    object_id {uuid} not null primary key,
    code text not null,
    what text not null,
    found_at_ms bigint not null,
    checked_at_ms bigint not null
);

create table fixity_run (
    name text not null primary key,
    begun_at_ms bigint not null,
    next_at_ms bigint not null,
    until_at_ms bigint not null,
    token bigint not null,
    is_open boolean not null,
    quota bigint not null
);

{postgres}alter table archive_object alter column object_key type text collate \"C\";{end}
create index archive_object_verified on archive_object (verified_at_ms, object_id, size_bytes) where verified_at_ms is not null;
"
);
