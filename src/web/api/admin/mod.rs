//! What the pages of administrators, auditors and one's own account do: the same through `access::govern`.

pub mod accounts;
pub mod configuration;
pub mod own;
pub mod schedule;
pub mod sources;
pub mod tokens;
pub mod trail;
