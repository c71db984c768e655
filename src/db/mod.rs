//! The only room with SQL: one file per table group.

pub mod settings;
