//! When each door was last used, and when each reason was last told.

crate::dialect::step!(
    "m0009_alarms",
    "
alter table door_counter add column last_at_ms bigint;
update door_counter set last_at_ms = (select s.last_notice_at_ms from source_seen s where s.source = door_counter.source);

create table alarm_told (
    code text not null primary key,
    told_at_ms bigint not null
);
"
);
