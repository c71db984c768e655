//! One vendor, one file; `contract` is the trait, `registry` the list, `http` the only client for foreign addresses.
//!
//! To add a provider: (1) `src/providers/acme.rs` with its settings and `impl Provider`, vendor codes
//! turned into our kinds at the bottom; (2) one line in `registry.rs`; (3) scrubbed payloads and how
//! they read in `tests/fixtures/providers/acme/`. The contract suite, `check`, the example
//! configuration and the documentation's table find it by its kind. The simulated vendor is a second,
//! independent reading of the manual: `src/simulator/acme.rs`.

pub mod accounts;
mod aliyun;
/// For the tests that feed parsers with foreign bytes.
#[doc(hidden)]
pub use aliyun::parse_xml;
pub mod api;
pub mod cdr;
pub mod contract;
mod feiyu;
pub mod http;
pub mod pace;
pub mod registry;
pub mod settings;
pub mod sources;
mod trtc;
mod twilio;
mod vcrtc;
mod yunxin;
