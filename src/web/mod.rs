//! The door for vendors (`/hooks`), machines (`/api/v1`, `/metrics`) and people (`/`): every route is in `router`.
//!
//! What a newcomer gets wrong: nothing about a call leaves before `audit` has written who asked. A
//! handler that skips it has no data to send: the database's reading calls are made behind it.

pub mod access;
pub mod api;
pub mod headers;
pub mod metrics;
pub mod pages;
pub mod patience;
pub mod problem;
pub mod range;
pub mod router;
pub mod serve;
pub mod settings;
pub mod state;
