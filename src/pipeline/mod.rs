//! The journey of a notice and of a recording, one stage a file, each named by its verb.

pub mod decoder;
pub mod intake;
