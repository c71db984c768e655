//! Calls that should have a recording and have none: when their vendor is asked next.

crate::dialect::step!(
    "m0008_asking",
    "
alter table call add column ask_at_ms bigint;
alter table call add column asks bigint not null default 0;
create index call_asking on call (source, ask_at_ms) where ask_at_ms is not null;
update call set ask_at_ms = expect_until_ms where expect_until_ms is not null;
"
);
