//! When a recording's sound began and whose it is, by its vendor's word, and whether its call's joint access copy is to be
//! looked at: as long as `pair_wanted` is ahead of `pair_done`.

crate::dialect::step!(
    "m0027_pairs",
    "
alter table recording add column began_at_ms bigint;
alter table recording add column party text;
alter table recording add column pair_wanted bigint not null default 0;
alter table recording add column pair_done bigint not null default 0;
"
);
