//! Reads as far ahead as it takes to choose the decoder: HE-AAC looks like AAC-LC until its frames are looked into.

use std::collections::VecDeque;
use std::io;

use symphonia::core::codecs::audio::well_known as codec_ids;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::FormatReader;
use symphonia::core::packet::Packet;

use super::decode::is_real;
use super::refusal::{self, Refusal};
use super::{codecs, sbr};
use crate::domain::media::note;

/// The packets that were read before a decoder was chosen.
pub struct Ahead {
    pub format: Box<dyn FormatReader>,
    pub packets: VecDeque<Packet>,
    pub is_he_aac: bool,
    pub truncated: bool,
    pub errors: u64,
}

impl Ahead {
    pub fn read(
        format: Box<dyn FormatReader>,
        track_id: u32,
        params: &AudioCodecParameters,
    ) -> io::Result<Self> {
        let mut ahead = Self {
            format,
            packets: VecDeque::new(),
            is_he_aac: false,
            truncated: false,
            errors: 0,
        };
        if params.codec != codec_ids::CODEC_ID_AAC {
            return Ok(ahead);
        }
        let mut others = 0;
        while ahead.packets.len() < sbr::FRAMES && others < 10_000 && ahead.errors < 16 {
            match ahead.format.next_packet() {
                Ok(Some(packet)) if packet.track_id == track_id => ahead.packets.push_back(packet),
                Ok(Some(_)) => others += 1,
                Ok(None) => break,
                Err(Error::IoError(e)) if is_real(&e) => return Err(e),
                Err(Error::IoError(_)) => {
                    ahead.truncated = true;
                    break;
                }
                Err(_) => ahead.errors += 1,
            }
        }
        let config = params.extra_data.as_deref().unwrap_or_default();
        ahead.is_he_aac = sbr::config_says_sbr(config)
            || sbr::frames_say_sbr(ahead.packets.iter().map(|packet| &packet.data[..]));
        Ok(ahead)
    }
}

pub fn decoder(
    params: &AudioCodecParameters,
    is_he_aac: bool,
) -> Result<Box<dyn AudioDecoder>, Refusal> {
    if is_he_aac {
        return he_aac_decoder(params, &AudioDecoderOptions::default());
    }
    codecs::decoder(params).map_err(|_| match refusal::codec_name(params.codec) {
        Some(name) => (note::UNSUPPORTED_CODEC, Some(name)),
        None => (note::UNDECODABLE, None),
    })
}

#[cfg(feature = "he-aac")]
fn he_aac_decoder(
    params: &AudioCodecParameters,
    options: &AudioDecoderOptions,
) -> Result<Box<dyn AudioDecoder>, Refusal> {
    use symphonia::core::codecs::registry::RegisterableAudioDecoder as _;
    symphonia_adapter_fdk_aac::AacDecoder::try_registry_new(params, options)
        .map_err(|_| (note::UNDECODABLE, Some("he_aac")))
}

#[cfg(not(feature = "he-aac"))]
fn he_aac_decoder(
    _: &AudioCodecParameters,
    _: &AudioDecoderOptions,
) -> Result<Box<dyn AudioDecoder>, Refusal> {
    Err((note::HE_AAC_UNSUPPORTED, Some("he_aac")))
}
