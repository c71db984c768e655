//! How far each backfill has come.

crate::dialect::step!(
    "m0013_backfill",
    "
create table backfill (
    source text not null,
    plan text not null,
    cursor text not null,
    updated_at_ms bigint not null,
    primary key (source, plan)
);
"
);
