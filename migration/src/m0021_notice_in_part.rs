//! Notices of which a part could not be read, for the alarm that counts them.

crate::dialect::step!(
    "m0021_notice_in_part",
    "
create index notice_in_part on notice (source, arrived_at_ms) where result = 'read' and detail is not null;
"
);
