//! Call records of telephone systems: our own message contract `cdr/1` (pbx-cdr.md, section 4).

pub mod facts;
mod json;
pub mod message;
