//! `/api/v1`: one endpoint a file. What they answer is `domain::view`, the same as the command line's.

pub mod admin;
pub mod ask;
pub mod audio;
pub mod calls;
pub mod etag;
pub mod export;
pub mod heard;
pub mod id;
pub mod markers;
pub mod notes;
pub mod openapi;
pub mod operations;
pub mod query;
pub mod recording;
pub mod recordings;
pub mod retry;
pub mod searches;
pub mod status;
pub mod tags;
pub mod waveform;
