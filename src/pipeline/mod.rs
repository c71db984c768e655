//! The journey of a notice and of a recording, one stage a file, each named by its verb.
//!
//! `intake` makes a message a durable notice; `inbox` reads notices; `ingest` walks one recording
//! under one lease through `resolve`, `fetch`, `inspect`, `store`, `index` and `transcode`. A stage
//! knows the tray it receives and the tray it hands on (`handoff`), never another stage.

mod bring_back;
pub mod decoder;
pub mod faults;
pub mod fetch;
pub mod foreign;
pub mod handoff;
pub mod inbox;
pub mod index;
pub mod ingest;
pub mod inspect;
pub mod intake;
pub mod kept;
mod local;
pub mod pair;
pub mod playlist;
pub mod put;
pub mod resolve;
pub mod second_look;
pub mod store;
pub mod transcode;
