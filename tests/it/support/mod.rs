//! What tests of several rooms share.

pub mod brokers;
pub mod disk;
pub mod house;
pub mod http;
pub mod issuer;
pub mod moody;
pub mod network;
pub mod postgres;
pub mod s3;
pub mod s3_faults;
pub mod seed;
pub mod shelf;
pub mod web;
