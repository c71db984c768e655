//! Probe, decode, encode: synchronous and bounded, no tokio; runs in a child process.
//!
//! A newcomer's usual mistake is to trust a header. Rates, channels and lengths come from decoded samples;
//! headers only tell whether something is missing (note `short`).

pub mod child;
pub mod sniff;
pub mod transcode;

pub mod hls;

mod ahead;
mod bare;
mod codecs;
mod decode;
mod dtmf;
#[cfg(test)]
mod format_tests;
pub mod formats;
mod frames;
mod gsm;
pub mod header;
mod info_tag;
mod meter;
mod mp3;
mod mp4;
pub mod pair;
#[cfg(test)]
mod pair_tests;
mod refusal;
mod resample;
mod sandbox;
mod sbr;
mod source;
#[cfg(test)]
mod speech_tests;
mod ts;
mod waveform;

/// What kept this room from answering. Foreign bytes never end here: they end as a note in the report.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    #[error("reading the recording: {0}")]
    Input(std::io::Error),
    #[error("writing the access copy: {0}")]
    Output(std::io::Error),
    #[error("encoding the access copy: {0}")]
    Encoder(String),
    #[error("access copy settings: {0}")]
    Settings(String),
    #[error("shutting the decoder child in: {0}")]
    Sandbox(String),
}

impl MediaError {
    /// The stable code that crosses the pipe to the parent.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Input(_) => "input_unreadable",
            Self::Output(_) => "output_unwritable",
            Self::Encoder(_) => "encoder_failed",
            Self::Settings(_) => "settings_refused",
            Self::Sandbox(_) => "sandbox_failed",
        }
    }
}
