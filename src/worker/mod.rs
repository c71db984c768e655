//! The lease loop, the schedule, and the crew of loops that one process runs.

pub mod crew;
pub mod instance;
pub mod lease_loop;
pub mod pace;
pub mod schedule;
pub mod settings;
