//! Pages for people: plain HTML from the server, complete without script, nothing from another host.

pub mod act;
pub mod alarms;
pub mod assets;
pub mod facts;
pub mod frame;
pub mod list;
pub mod operations;
pub mod recording;
pub mod row;
pub mod text;
pub mod timeline;
pub mod wave;
pub mod words;
