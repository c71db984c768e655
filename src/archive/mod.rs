//! Where bytes are kept for years: a directory or an S3-compatible store, behind one contract.
//!
//! # To add a store
//!
//! 1. `src/archive/acme.rs`: implement [`contract::Archive`]; its errors become [`contract::ArchiveErrorKind`]
//!    in that file and nowhere else. Make proofs only from bytes that were just read.
//! 2. A kind and its keys in `settings.rs`, and one arm in `open_archive`.
//! 3. What it can be asked at start: a function in `probe.rs`.
//! 4. One line in the list of stores at the top of `tests/it/archive.rs`: the suite holds it to the rest.

pub mod contract;
pub mod disk;
pub mod marker;
mod probe;
pub mod s3;
pub mod settings;

pub use settings::open_archive;
