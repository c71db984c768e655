//! The order in which notices are read: what vendors tell first, what was imported after it.
//!
//! The expression stands word for word in the claim, or the index is of no use to it.

crate::dialect::step!(
    "m0012_notice_order",
    "
create index notice_order on notice
    ((case when door = 'import' then 1 else 0 end), arrived_at_ms, notice_id)
    where result = 'waiting';
"
);
