//! Files that are frames and little else: AMR, AMR in 3GP, GSM in WAV, and what a source declares for bytes without a header.

use std::fs::File;
use std::io;

use symphonia::core::audio::layouts;
use symphonia::core::codecs::audio::{AudioCodecParameters, well_known as ids};
use symphonia::core::formats::FormatReader;
use symphonia::core::io::MediaSourceStream;

use super::codecs::{self, AmrBand};
use super::frames::{Frames, Layout};
use super::refusal::Refusal;
use super::source::Window;
use super::{gsm, header, mp4, sniff};
use crate::domain::media::{RawAudio, RawCodec, note};

/// Samples per channel in a packet of what has no frames of its own.
const PCM_FRAMES: usize = 4096;

/// What kind of frames, and where.
pub enum Bare {
    /// An AMR storage file.
    Amr(AmrBand),
    /// More channels than one in an AMR storage file: nobody writes them, no decoder reads them.
    ManyChannelAmr,
    /// AMR as the sound track of an MP4 or 3GP.
    AmrTrack(AmrBand),
    /// GSM in a WAV: where it begins, and its bytes.
    WavGsm(u64, u64),
    /// Frames from the first byte on.
    Raw(RawAudio),
}

/// Whether this file is for this room. `prefix` is its start; `raw` counts only where the bytes carry no signature.
pub fn layout(
    prefix: &[u8],
    wav: Option<&header::Wav>,
    sound: Option<&mp4::Sound>,
    raw: Option<&RawAudio>,
) -> Option<Bare> {
    for band in [AmrBand::Narrow, AmrBand::Wide] {
        if prefix.starts_with(band.magic()) {
            return Some(Bare::Amr(band));
        }
    }
    if prefix.starts_with(b"#!AMR") {
        return Some(Bare::ManyChannelAmr);
    }
    match sound.map(|sound| sound.format) {
        Some(format) if &format == b"samr" => return Some(Bare::AmrTrack(AmrBand::Narrow)),
        Some(format) if &format == b"sawb" => return Some(Bare::AmrTrack(AmrBand::Wide)),
        _ => {}
    }
    if let Some(wav) = wav {
        let is_gsm = wav.format_tag == 0x31
            && usize::from(wav.block_align) == gsm::WAV_BLOCK_BYTES
            && wav.channels == 1;
        return is_gsm.then_some(Bare::WavGsm(wav.data_at, wav.held));
    }
    raw.filter(|_| !sniff::has_signature(prefix))
        .map(|raw| Bare::Raw(*raw))
}

impl Bare {
    /// The file as packets, or why there are none.
    pub fn open(
        self,
        file: File,
        file_bytes: u64,
        sound: Option<&mp4::Sound>,
    ) -> io::Result<Result<Box<dyn FormatReader>, Refusal>> {
        let params = |codec, rate_hz, channels| {
            let mut params = AudioCodecParameters::new();
            params
                .for_codec(codec)
                .with_sample_rate(rate_hz)
                .with_channels(match channels {
                    2 => layouts::CHANNEL_LAYOUT_STEREO,
                    _ => layouts::CHANNEL_LAYOUT_MONO,
                });
            params.with_max_frames_per_packet(PCM_FRAMES as u64);
            params
        };
        let (start, length, layout, params) = match self {
            Self::ManyChannelAmr => return Ok(Err((note::UNSUPPORTED_CODEC, Some("amr")))),
            Self::Amr(band) => (
                band.magic().len() as u64,
                file_bytes,
                Layout::Amr(band),
                params(band.codec(), band.rate_hz(), 1),
            ),
            Self::AmrTrack(band) => {
                let name = match band {
                    AmrBand::Narrow => "amr_nb",
                    AmrBand::Wide => "amr_wb",
                };
                // Fragmented 3GP, which no telephone writes, has no table here.
                let Some(samples) = sound.and_then(|sound| sound.samples.clone()) else {
                    return Ok(Err((note::UNSUPPORTED_CODEC, Some(name))));
                };
                let samples = samples.read(&mut &file)?;
                (
                    0,
                    file_bytes,
                    Layout::Listed(samples.into_iter()),
                    params(band.codec(), band.rate_hz(), 1),
                )
            }
            Self::WavGsm(at, bytes) => (
                at,
                bytes,
                Layout::Blocks(gsm::WAV_BLOCK_BYTES),
                params(codecs::GSM, 8_000, 1),
            ),
            Self::Raw(raw) => {
                let channels = usize::from(raw.channels);
                let (codec, block) = match raw.codec {
                    RawCodec::Mulaw => (ids::CODEC_ID_PCM_MULAW, PCM_FRAMES * channels),
                    RawCodec::Alaw => (ids::CODEC_ID_PCM_ALAW, PCM_FRAMES * channels),
                    RawCodec::PcmS16le => (ids::CODEC_ID_PCM_S16LE, PCM_FRAMES * 2 * channels),
                    RawCodec::G722 => (codecs::G722, 2048),
                    RawCodec::G729 => (codecs::G729, 10),
                    RawCodec::Gsm => (codecs::GSM, gsm::FRAME_BYTES),
                };
                (
                    0,
                    file_bytes,
                    Layout::Blocks(block),
                    params(codec, raw.sample_rate_hz, raw.channels),
                )
            }
        };
        let window = Window::new(
            file,
            start,
            length.min(file_bytes - start.min(file_bytes)),
            Vec::new(),
        )?;
        let stream = MediaSourceStream::new(Box::new(window), Default::default());
        Ok(Ok(Box::new(Frames::new(stream, layout, params))))
    }
}
