//! The door for vendors (`/hooks`), machines (`/api/v1`, `/metrics`) and people (`/`): every route is in `router`.
//!
//! What a newcomer gets wrong: nothing about a call leaves before the audit trail holds who asked.
//! Handlers have no other way to the data than `reads`, which writes that row first.

pub mod access;
pub mod api;
pub mod form;
pub mod headers;
pub mod health;
pub mod hooks;
pub mod metrics;
pub mod pages;
pub mod patience;
mod places;
pub mod problem;
pub mod range;
pub mod reads;
mod reasons;
pub mod router;
pub mod serve;
pub mod settings;
pub mod state;
pub mod writes;

pub use serve::{Addresses, BindError, Listeners, serve};
pub use state::WebState;
