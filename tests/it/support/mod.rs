//! What tests of several rooms share.

pub mod s3;
pub mod s3_faults;
