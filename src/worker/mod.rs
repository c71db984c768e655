//! The lease loop, the schedule, and the crew of loops that one process runs.

pub mod settings;
