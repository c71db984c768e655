//! Pure rules: no I/O, no clock of its own, no SQL. Everything here can be tested as a table of cases.

pub mod ask;
pub mod call;
pub mod clock;
pub mod deadlines;
pub mod digest;
pub mod fixity;
pub mod ids;
pub mod keys;
pub mod manifest;
pub mod media;
pub mod moment;
pub mod notice;
pub mod number;
pub mod pieces;
pub mod proof;
pub mod reading;
pub mod recording;
pub mod retry;
pub mod secret;
pub mod units;
pub mod values;
pub mod view;
