//! The audit trail as a chain. Rows from before it are counted, and that count is what the chain begins with.

crate::dialect::step!(
    "m0016_audit_chain",
    "
alter table audit_event add column seq bigint;
alter table audit_event add column hash {bytes};
create unique index audit_event_seq on audit_event (seq);

create table audit_head (
    head bigint not null primary key,
    seq bigint not null,
    hash {bytes},
    earlier bigint not null
);
insert into audit_head (head, seq, hash, earlier) select 1, 0, null, count(*) from audit_event;
"
);
