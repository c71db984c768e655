//! What tests of several rooms share.

pub mod brokers;
pub mod cluster;
pub mod disk;
pub mod house;
pub mod http;
pub mod issuer;
pub mod moody;
pub mod network;
pub mod pbx;
pub mod postgres;
pub mod s3;
pub mod s3_faults;
pub mod seed;
pub mod shelf;
pub mod web;
pub mod wire;

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
