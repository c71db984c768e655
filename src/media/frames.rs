//! Packets of formats that Symphonia has no demuxer for: AMR storage files, AMR in 3GP, GSM in WAV, and sound without any header.

use std::io::{self, Seek as _, SeekFrom};
use std::vec;

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::common::FourCc;
use symphonia::core::errors::{Error, Result, SeekErrorKind, decode_error, seek_error};
use symphonia::core::formats::{
    FormatId, FormatInfo, FormatReader, MediaInfo, SeekMode, SeekTo, SeekedTo, Track,
};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::{Metadata, MetadataLog};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};

use super::codecs::AmrBand;
use super::header::read_full;

/// The only track's number.
pub const TRACK: u32 = 0;

const INFO: FormatInfo = FormatInfo {
    format: FormatId::new(FourCc::new(*b"fram")),
    short_name: "frames",
    long_name: "frames without a container of their own",
};

/// Where one packet ends and the next begins.
pub enum Layout {
    /// So many bytes each; the last may hold fewer.
    Blocks(usize),
    /// A header byte in front of each frame names its length (RFC 4867, section 5.3).
    Amr(AmrBand),
    /// Offset and length of each, as an MP4's sample table has them.
    Listed(vec::IntoIter<(u64, u32)>),
}

/// Reads packets from where `source` stands.
pub struct Frames {
    source: MediaSourceStream<'static>,
    layout: Layout,
    tracks: [Track; 1],
    media: MediaInfo,
    metadata: MetadataLog,
}

impl Frames {
    pub fn new(
        source: MediaSourceStream<'static>,
        layout: Layout,
        params: AudioCodecParameters,
    ) -> Self {
        let mut track = Track::new(TRACK);
        track.with_codec_params(CodecParameters::Audio(params));
        Self {
            source,
            layout,
            tracks: [track],
            media: MediaInfo::default(),
            metadata: MetadataLog::default(),
        }
    }

    /// `bytes` bytes, fewer at the end; `None` when nothing is left.
    fn take(&mut self, bytes: usize) -> io::Result<Option<Vec<u8>>> {
        let mut packet = vec![0; bytes];
        let n = read_full(&mut self.source, &mut packet)?;
        packet.truncate(n);
        Ok((n > 0).then_some(packet))
    }
}

/// No frame of any of these codecs is longer; a sample table that says so lies.
const LONGEST_PACKET: u32 = 64 * 1024;

impl FormatReader for Frames {
    fn format_info(&self) -> &FormatInfo {
        &INFO
    }

    fn media_info(&self) -> &MediaInfo {
        &self.media
    }

    fn metadata(&mut self) -> Metadata<'_> {
        self.metadata.metadata()
    }

    fn seek(&mut self, _: SeekMode, _: SeekTo) -> Result<SeekedTo> {
        seek_error(SeekErrorKind::Unseekable)
    }

    fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        let packet = match &mut self.layout {
            Layout::Blocks(bytes) => {
                let bytes = *bytes;
                self.take(bytes)?
            }
            Layout::Amr(band) => {
                let band = *band;
                let Some(head) = self.take(1)? else {
                    return Ok(None);
                };
                // A reserved type: this byte is no header. The next one may be.
                let Some(bytes) = band.frame_bytes(head[0]) else {
                    return decode_error("amr: no such frame type");
                };
                let body = self.take(bytes)?.unwrap_or_default();
                if body.len() < bytes {
                    return Err(Error::IoError(io::ErrorKind::UnexpectedEof.into()));
                }
                Some([head, body].concat())
            }
            Layout::Listed(samples) => match samples.next() {
                None => None,
                Some((_, bytes)) if bytes > LONGEST_PACKET => {
                    return decode_error("sample table: impossible size");
                }
                Some((at, bytes)) => {
                    self.source.seek(SeekFrom::Start(at))?;
                    let packet = self.take(bytes as usize)?;
                    if packet.as_ref().is_none_or(|p| p.len() < bytes as usize) {
                        return Err(Error::IoError(io::ErrorKind::UnexpectedEof.into()));
                    }
                    packet
                }
            },
        };
        Ok(packet.map(|data| Packet::new(TRACK, Timestamp::new(0), Duration::new(0), data)))
    }

    fn into_inner<'s>(self: Box<Self>) -> MediaSourceStream<'s>
    where
        Self: 's,
    {
        self.source
    }
}
