//! Copies at the vendors that are to be deleted, or were.

crate::dialect::step!(
    "m0010_provider_delete",
    "
create table provider_delete (
    recording_id {uuid} not null primary key,
    source text not null,
    available_at_ms bigint not null,
    tries bigint not null default 0,
    deleted_at_ms bigint
);
create index provider_delete_due on provider_delete (source, available_at_ms) where deleted_at_ms is null;
"
);
