//! The party directory: who stands behind a vendor's ids.

crate::dialect::step!(
    "m0011_party",
    "
create table party (
    source text not null,
    party_id text not null,
    name text,
    number text,
    earlier text not null,
    passes bigint not null,
    after_call {uuid},
    available_at_ms bigint not null,
    primary key (source, party_id)
);
create index party_due on party (available_at_ms) where passes > 0;
"
);
