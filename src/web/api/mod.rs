//! `/api/v1`: one endpoint a file. What they answer is `domain::view`, the same as the command line's.

pub mod audio;
pub mod calls;
pub mod id;
pub mod openapi;
pub mod query;
pub mod recording;
pub mod recordings;
pub mod status;
pub mod waveform;
