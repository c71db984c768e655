//! Why a file has no access copy: the code, and the codec where the container names it.

use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::codecs::audio::well_known as codec_ids;

use super::{header, mp4};
use crate::domain::media::note;

/// A code of `note`, and a codec's name.
pub type Refusal = (&'static str, Option<&'static str>);

/// The demuxer refused the file.
pub fn unreadable(wav: Option<&header::Wav>, sound: Option<&mp4::Sound>) -> Refusal {
    match (wav, sound) {
        (Some(wav), _) => match wav.format_tag {
            0x31 | 0x32 => (note::UNSUPPORTED_CODEC, Some("gsm_ms")),
            0x45 | 0x64 | 0x14 | 0x40 => (note::UNSUPPORTED_CODEC, Some("adpcm_g726")),
            0x42 | 0x111 => (note::UNSUPPORTED_CODEC, Some("g723_1")),
            0x83 | 0x133 => (note::UNSUPPORTED_CODEC, Some("g729")),
            _ => (note::UNDECODABLE, None),
        },
        (None, Some(sound)) => trackless(Some(sound)),
        (None, None) => (note::UNDECODABLE, None),
    }
}

/// A container without a sound track that the demuxer knows.
pub fn trackless(sound: Option<&mp4::Sound>) -> Refusal {
    match sound.map(|sound| sound.format) {
        None => (note::NO_AUDIO, None),
        Some(format) => match &format {
            b"enca" => (note::ENCRYPTED, None),
            b"samr" => (note::UNSUPPORTED_CODEC, Some("amr_nb")),
            b"sawb" => (note::UNSUPPORTED_CODEC, Some("amr_wb")),
            _ => (note::UNSUPPORTED_CODEC, None),
        },
    }
}

/// Codecs that are named though not decoded.
pub fn codec_name(id: AudioCodecId) -> Option<&'static str> {
    const NAMES: &[(AudioCodecId, &str)] = &[
        (codec_ids::CODEC_ID_OPUS, "opus"),
        (codec_ids::CODEC_ID_SPEEX, "speex"),
        (codec_ids::CODEC_ID_AAC, "aac"),
        (codec_ids::CODEC_ID_MP1, "mp1"),
        (codec_ids::CODEC_ID_MP2, "mp2"),
        (codec_ids::CODEC_ID_AC3, "ac3"),
        (codec_ids::CODEC_ID_EAC3, "eac3"),
        (codec_ids::CODEC_ID_ALAC, "alac"),
        (codec_ids::CODEC_ID_ADPCM_G722, "adpcm_g722"),
        (codec_ids::CODEC_ID_ADPCM_G726, "adpcm_g726"),
        (codec_ids::CODEC_ID_WMA, "wma"),
    ];
    NAMES
        .iter()
        .find(|(known, _)| *known == id)
        .map(|(_, name)| *name)
}
