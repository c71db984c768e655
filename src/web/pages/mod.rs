//! Pages for people.

pub mod wave;
pub mod words;
