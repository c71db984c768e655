//! When the vendor itself says that a recording goes, apart from what its usual time to keep it gives.

crate::dialect::step!(
    "m0006_gone_told",
    "
alter table recording add column gone_told_ms bigint;
"
);
