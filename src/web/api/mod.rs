//! `/api/v1`: one endpoint a file.

pub mod query;
