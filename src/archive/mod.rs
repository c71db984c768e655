//! Where bytes are kept for years: a directory or an S3-compatible store, behind one contract.

pub mod contract;
