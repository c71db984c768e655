//! Chores over the whole archive: rebuild, reconciliation, fixity.
