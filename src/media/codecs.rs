//! The decoders: Symphonia's, and those it lacks (Opus, AMR, G.722, G.729, GSM), all behind its trait.
//!
//! A decoder that panics over a packet is a decoder that cannot read it: the panic ends here, as an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use audio_codec::Decoder as _;
use codec_core::codecs::amr::{AmrCodec, AmrFrameType, AmrVariant};
use codec_core::types::{CodecConfig, CodedFrame, FrameKind, VariableRateCodec as _};
use symphonia::core::audio::{
    AsGenericAudioBufferRef as _, Audio as _, AudioBuffer, AudioMut as _, AudioSpec, Channels,
    GenericAudioBufferRef, layouts,
};
use symphonia::core::codecs::CodecInfo;
use symphonia::core::codecs::audio::well_known as ids;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions, FinalizeResult,
};
use symphonia::core::common::FourCc;
use symphonia::core::errors::{Error, Result, decode_error};
use symphonia::core::packet::PacketRef;

use super::gsm::Gsm;

pub const AMR_NB: AudioCodecId = AudioCodecId::new(FourCc::new(*b"samr"));
pub const AMR_WB: AudioCodecId = AudioCodecId::new(FourCc::new(*b"sawb"));
pub const G729: AudioCodecId = AudioCodecId::new(FourCc::new(*b"G729"));
pub const GSM: AudioCodecId = AudioCodecId::new(FourCc::new(*b"agsm"));
pub const G722: AudioCodecId = ids::CODEC_ID_ADPCM_G722;

/// A decoder for `params`; an error when no decoder knows the codec, or not with these parameters.
pub fn decoder(params: &AudioCodecParameters) -> Result<Box<dyn AudioDecoder>> {
    let codec: (&'static str, Box<dyn Codec>) = match params.codec {
        ids::CODEC_ID_OPUS => ("opus", Box::new(Opus::new(params)?)),
        AMR_NB => ("amr_nb", Box::new(Amr::new(AmrBand::Narrow)?)),
        AMR_WB => ("amr_wb", Box::new(Amr::new(AmrBand::Wide)?)),
        G722 => (
            "adpcm_g722",
            Box::new(G722Codec(audio_codec::g722::G722Decoder::new())),
        ),
        G729 => (
            "g729",
            Box::new(G729Codec(audio_codec::g729::G729Decoder::new())),
        ),
        GSM => ("gsm", Box::new(Gsm::default())),
        _ => {
            return symphonia::default::get_codecs()
                .make_audio_decoder(params, &AudioDecoderOptions::default());
        }
    };
    let (short_name, codec) = codec;
    Ok(Box::new(Own {
        params: params.clone(),
        info: CodecInfo {
            short_name,
            long_name: short_name,
            profiles: &[],
        },
        buffer: AudioBuffer::default(),
        samples: Vec::new(),
        codec,
    }))
}

/// One packet in, interleaved samples out.
trait Codec: Send + Sync {
    fn rate_hz(&self) -> u32;

    fn channels(&self) -> usize {
        1
    }

    /// Appends to `samples`; what was appended before an error counts.
    fn decode(
        &mut self,
        packet: &[u8],
        samples: &mut Vec<f32>,
    ) -> std::result::Result<(), &'static str>;

    fn reset(&mut self) {}
}

/// Dresses a [`Codec`] as one of Symphonia's.
struct Own {
    params: AudioCodecParameters,
    info: CodecInfo,
    buffer: AudioBuffer<f32>,
    samples: Vec<f32>,
    codec: Box<dyn Codec>,
}

impl AudioDecoder for Own {
    fn reset(&mut self) {
        self.codec.reset();
    }

    fn codec_info(&self) -> &CodecInfo {
        &self.info
    }

    fn codec_params(&self) -> &AudioCodecParameters {
        &self.params
    }

    fn decode_ref(&mut self, packet: &PacketRef<'_>) -> Result<GenericAudioBufferRef<'_>> {
        self.samples.clear();
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            self.codec.decode(packet.data, &mut self.samples)
        }));
        match decoded {
            Ok(Ok(())) => {}
            Ok(Err(_)) if !self.samples.is_empty() => {}
            Ok(Err(what)) => return decode_error(what),
            Err(_) => return decode_error("the decoder gave up over a packet"),
        }
        let channels = self.codec.channels();
        let frames = self.samples.len() / channels;
        let layout: Channels = if channels == 1 {
            layouts::CHANNEL_LAYOUT_MONO
        } else {
            layouts::CHANNEL_LAYOUT_STEREO
        };
        if self.buffer.capacity() < frames || self.buffer.spec().channels().count() != channels {
            let spec = AudioSpec::new(self.codec.rate_hz(), layout);
            self.buffer = AudioBuffer::new(spec, frames);
        }
        self.buffer.clear();
        self.buffer.render_uninit(Some(frames));
        self.buffer
            .copy_from_slice_interleaved(&&self.samples[..frames * channels]);
        let end = usize::try_from(packet.trim_end.get()).unwrap_or(usize::MAX);
        self.buffer.trim(0, end.min(frames));
        Ok(self.buffer.as_generic_audio_buffer_ref())
    }

    fn finalize(&mut self) -> FinalizeResult {
        FinalizeResult::default()
    }

    fn last_decoded(&self) -> GenericAudioBufferRef<'_> {
        self.buffer.as_generic_audio_buffer_ref()
    }
}

fn as_f32(samples: &[i16]) -> impl Iterator<Item = f32> {
    samples.iter().map(|sample| f32::from(*sample) / 32_768.0)
}

/// Opus always plays at 48 kHz, whatever was recorded (RFC 7845, section 5.1).
pub const OPUS_HZ: u32 = 48_000;
/// 120 ms, the longest packet (RFC 6716, section 3.2.5).
const OPUS_MOST_FRAMES: usize = 5760;

struct Opus {
    decoder: opus_rs::OpusDecoder,
    channels: usize,
    pcm: Vec<f32>,
}

impl Opus {
    fn new(params: &AudioCodecParameters) -> Result<Self> {
        let channels = params.channels.as_ref().map_or(0, Channels::count);
        if !(1..=2).contains(&channels) {
            return Err(Error::Unsupported("opus: more than two channels"));
        }
        let decoder =
            opus_rs::OpusDecoder::new(OPUS_HZ as i32, channels).map_err(Error::Unsupported)?;
        Ok(Self {
            decoder,
            channels,
            pcm: vec![0.0; OPUS_MOST_FRAMES * channels],
        })
    }
}

impl Codec for Opus {
    fn rate_hz(&self) -> u32 {
        OPUS_HZ
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn decode(
        &mut self,
        packet: &[u8],
        samples: &mut Vec<f32>,
    ) -> std::result::Result<(), &'static str> {
        let frames = opus_frames(packet).ok_or("opus: impossible packet")?;
        let pcm = &mut self.pcm[..frames * self.channels];
        let made = self.decoder.decode(packet, frames, pcm)?.min(frames);
        samples.extend_from_slice(&pcm[..made * self.channels]);
        Ok(())
    }

    fn reset(&mut self) {
        if let Ok(fresh) = opus_rs::OpusDecoder::new(OPUS_HZ as i32, self.channels) {
            self.decoder = fresh;
        }
    }
}

/// How long a packet plays at 48 kHz by its first bytes (RFC 6716, section 3.1); at most 120 ms.
fn opus_frames(packet: &[u8]) -> Option<usize> {
    let toc = *packet.first()?;
    let size = usize::from(toc >> 3 & 3);
    let each = match toc >> 3 {
        0..12 => [480, 960, 1920, 2880][size],
        12..16 => [480, 960][size & 1],
        _ => [120, 240, 480, 960][size],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => usize::from(packet.get(1)? & 0x3F),
    };
    Some(each * count).filter(|frames| (1..=OPUS_MOST_FRAMES).contains(frames))
}

/// Samples at 48 kHz to leave out at the start: `OpusHead` says (RFC 7845, section 5.1).
pub fn opus_pre_skip(head: &[u8]) -> u64 {
    match head {
        [
            b'O',
            b'p',
            b'u',
            b's',
            b'H',
            b'e',
            b'a',
            b'd',
            _,
            _,
            low,
            high,
            ..,
        ] => u64::from(u16::from_le_bytes([*low, *high])),
        _ => 0,
    }
}

/// Which of the two AMR codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmrBand {
    Narrow,
    Wide,
}

impl AmrBand {
    fn variant(self) -> AmrVariant {
        match self {
            Self::Narrow => AmrVariant::NarrowBand,
            Self::Wide => AmrVariant::WideBand,
        }
    }

    /// What stands at the start of a storage file (RFC 4867, section 5.1).
    pub const fn magic(self) -> &'static [u8] {
        match self {
            Self::Narrow => b"#!AMR\n",
            Self::Wide => b"#!AMR-WB\n",
        }
    }

    pub const fn rate_hz(self) -> u32 {
        match self {
            Self::Narrow => 8_000,
            Self::Wide => 16_000,
        }
    }

    pub const fn codec(self) -> AudioCodecId {
        match self {
            Self::Narrow => AMR_NB,
            Self::Wide => AMR_WB,
        }
    }

    /// Bytes behind the header byte of a frame; `None` when it is no header byte.
    pub fn frame_bytes(self, head: u8) -> Option<usize> {
        AmrFrameType::from_index(self.variant(), head >> 3 & 0x0F)
            .ok()
            .map(AmrFrameType::octet_aligned_bytes)
    }
}

struct Amr {
    codec: AmrCodec,
    band: AmrBand,
    /// The last speech mode, which a gap goes on with.
    mode: u8,
}

impl Amr {
    fn new(band: AmrBand) -> Result<Self> {
        let config = match band {
            AmrBand::Narrow => CodecConfig::amr_nb(),
            AmrBand::Wide => CodecConfig::amr_wb(),
        };
        let codec = AmrCodec::new(&config).map_err(|_| Error::Unsupported("amr"))?;
        Ok(Self {
            codec,
            band,
            mode: 0,
        })
    }
}

impl Codec for Amr {
    fn rate_hz(&self) -> u32 {
        self.band.rate_hz()
    }

    fn decode(
        &mut self,
        packet: &[u8],
        samples: &mut Vec<f32>,
    ) -> std::result::Result<(), &'static str> {
        let mut rest = packet;
        while let Some((&head, behind)) = rest.split_first() {
            let kind = AmrFrameType::from_index(self.band.variant(), head >> 3 & 0x0F)
                .map_err(|_| "amr: no such frame type")?;
            let (data, next) = behind
                .split_at_checked(kind.octet_aligned_bytes())
                .ok_or("amr: half a frame")?;
            rest = next;
            let kind = match kind {
                AmrFrameType::Speech(mode) => {
                    self.mode = mode.index();
                    FrameKind::Speech
                }
                AmrFrameType::Sid(_) => FrameKind::ComfortNoise,
                AmrFrameType::NoData => FrameKind::NoData,
                AmrFrameType::SpeechLost => FrameKind::Lost,
            };
            let frame = CodedFrame {
                kind,
                mode: self.mode,
                quality_ok: head >> 2 & 1 == 1,
                data: data.to_vec(),
            };
            let decoded = self
                .codec
                .decode_frame(&frame)
                .map_err(|_| "amr: a frame that cannot be decoded")?;
            samples.extend(as_f32(&decoded));
        }
        Ok(())
    }

    fn reset(&mut self) {
        if let Ok(fresh) = Self::new(self.band) {
            *self = fresh;
        }
    }
}

/// G.722 at 64 kbit/s: a byte holds two samples.
struct G722Codec(audio_codec::g722::G722Decoder);

impl Codec for G722Codec {
    fn rate_hz(&self) -> u32 {
        16_000
    }

    fn decode(
        &mut self,
        packet: &[u8],
        samples: &mut Vec<f32>,
    ) -> std::result::Result<(), &'static str> {
        samples.extend(as_f32(&self.0.decode(packet)));
        Ok(())
    }
}

impl Codec for Gsm {
    fn rate_hz(&self) -> u32 {
        8_000
    }

    fn decode(
        &mut self,
        packet: &[u8],
        samples: &mut Vec<f32>,
    ) -> std::result::Result<(), &'static str> {
        Gsm::decode(self, packet, samples)
    }

    fn reset(&mut self) {
        *self = Gsm::default();
    }
}

/// G.729: 10 bytes make 10 ms.
struct G729Codec(audio_codec::g729::G729Decoder);

impl Codec for G729Codec {
    fn rate_hz(&self) -> u32 {
        8_000
    }

    fn decode(
        &mut self,
        packet: &[u8],
        samples: &mut Vec<f32>,
    ) -> std::result::Result<(), &'static str> {
        if !packet.len().is_multiple_of(10) {
            return Err("g729: half a frame");
        }
        samples.extend(as_f32(&self.0.decode(packet)));
        Ok(())
    }
}
