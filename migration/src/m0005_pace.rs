//! Turns at the vendors' doors, which all processes share.

crate::dialect::step!(
    "m0005_pace",
    "
create table pace (
    source text not null primary key,
    next_at_us bigint not null,
    closed_until_us bigint not null default 0
);
"
);
