//! What tests of several rooms share.

pub mod network;
pub mod s3;
pub mod s3_faults;
