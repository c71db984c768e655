//! Pages for people: plain HTML from the server, complete without script, nothing from another host.

pub mod assets;
pub mod frame;
pub mod list;
pub mod recording;
pub mod row;
pub mod wave;
pub mod words;
