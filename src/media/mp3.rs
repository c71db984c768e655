//! Writes the access copy: an MP3 with its ID3 tag in front and its exact length in the tag frame.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::Path;

use mp3lame_encoder::{Bitrate, Builder, DualPcm, Encoder, FlushGap, Mode, MonoPcm, Quality};

use super::MediaError;
use super::info_tag::{self, FrameCounter};
use crate::domain::media::AccessTags;

/// LAME's quality level. On telephone speech 7 costs half of LAME's own 5 and scores the same PESQ.
pub const QUALITY: u8 = 7;

/// An MP3 file that is being written.
pub struct Mp3Writer {
    file: BufWriter<File>,
    encoder: Encoder,
    buffer: Vec<u8>,
    bitrate_kbps: u32,
    /// Where the tag frame stands: behind the ID3 tag.
    tag_at: u64,
    counter: FrameCounter,
    bytes: u64,
    samples: u64,
}

/// What has been written.
pub struct Written {
    /// Samples per channel that a player plays.
    pub frames: u64,
    pub bytes: u64,
}

impl Mp3Writer {
    /// One or two channels, never joint stereo: it would leak one speaker into the other's channel.
    pub fn create(
        path: &Path,
        rate_hz: u32,
        channels: usize,
        bitrate_kbps: u32,
        tags: &AccessTags,
    ) -> Result<Self, MediaError> {
        let encoder = encoder(rate_hz, channels, bitrate_kbps)?;
        let file = File::create(path).map_err(MediaError::Output)?;
        let mut file = BufWriter::with_capacity(64 * 1024, file);
        let id3 = id3v2(tags);
        let tag_bytes = info_tag::frame_bytes(rate_hz, channels)
            .ok_or_else(|| MediaError::Encoder(format!("no mp3 at {rate_hz} Hz")))?;
        file.write_all(&id3)
            .and_then(|()| file.write_all(&vec![0; tag_bytes]))
            .map_err(MediaError::Output)?;
        Ok(Self {
            file,
            encoder,
            buffer: Vec::new(),
            bitrate_kbps,
            tag_at: id3.len() as u64,
            counter: FrameCounter::default(),
            bytes: (id3.len() + tag_bytes) as u64,
            samples: 0,
        })
    }

    /// `planes`: as many as there are channels, equally long.
    pub fn push(&mut self, planes: &[Vec<f32>]) -> Result<(), MediaError> {
        let frames = planes.first().map_or(0, Vec::len);
        if frames == 0 {
            return Ok(());
        }
        self.room(frames);
        let encoded = match planes {
            [mono] => self
                .encoder
                .encode_to_vec(MonoPcm(&mono[..]), &mut self.buffer),
            [left, right, ..] => {
                let pair = DualPcm {
                    left: &left[..],
                    right: &right[..],
                };
                self.encoder.encode_to_vec(pair, &mut self.buffer)
            }
            [] => return Ok(()),
        };
        encoded.map_err(|e| MediaError::Encoder(e.to_string()))?;
        self.samples += frames as u64;
        self.drain()
    }

    /// Flushes with silence (`FlushNoGap` would cut up to 170 ms off the end) and puts the tag frame in its place.
    pub fn finish(mut self) -> Result<Written, MediaError> {
        self.room(0);
        self.encoder
            .flush_to_vec::<FlushGap>(&mut self.buffer)
            .map_err(|e| MediaError::Encoder(e.to_string()))?;
        self.drain()?;
        let tag = self
            .counter
            .tag(self.samples, self.bitrate_kbps)
            .ok_or_else(|| MediaError::Encoder("lame wrote no whole frames".into()))?;
        self.file
            .seek(SeekFrom::Start(self.tag_at))
            .and_then(|_| self.file.write_all(&tag))
            .and_then(|()| self.file.flush())
            .map_err(MediaError::Output)?;
        Ok(Written {
            frames: self.samples,
            bytes: self.bytes,
        })
    }

    fn room(&mut self, frames: usize) {
        self.buffer.clear();
        self.buffer
            .reserve(mp3lame_encoder::max_required_buffer_size(frames));
    }

    fn drain(&mut self) -> Result<(), MediaError> {
        self.file
            .write_all(&self.buffer)
            .map_err(MediaError::Output)?;
        self.counter.push(&self.buffer);
        self.bytes += self.buffer.len() as u64;
        Ok(())
    }
}

/// The encoder and its version, for the manifest.
pub fn tool() -> String {
    format!("LAME {}", mp3lame_encoder::mp3lame_version())
}

fn encoder(rate_hz: u32, channels: usize, bitrate_kbps: u32) -> Result<Encoder, MediaError> {
    let build = || -> Result<Encoder, String> {
        let text = |e: mp3lame_encoder::BuildError| e.to_string();
        let mut builder = Builder::new().ok_or("out of memory")?;
        let channels = u8::try_from(channels).map_err(|e| e.to_string())?;
        builder.set_num_channels(channels).map_err(text)?;
        builder.set_sample_rate(rate_hz).map_err(text)?;
        builder
            .set_output_sample_rate(NonZeroU32::new(rate_hz))
            .map_err(text)?;
        let bitrate =
            bitrate(bitrate_kbps).ok_or_else(|| format!("no bitrate of {bitrate_kbps} kbit/s"))?;
        builder.set_brate(bitrate).map_err(text)?;
        builder.set_quality(Quality::Ok).map_err(text)?;
        let mode = if channels == 1 {
            Mode::Mono
        } else {
            Mode::Stereo
        };
        builder.set_mode(mode).map_err(text)?;
        builder.set_to_write_vbr_tag(false).map_err(text)?;
        builder.build().map_err(text)
    };
    build().map_err(MediaError::Encoder)
}

fn bitrate(kbps: u32) -> Option<Bitrate> {
    Some(match kbps {
        8 => Bitrate::Kbps8,
        16 => Bitrate::Kbps16,
        24 => Bitrate::Kbps24,
        32 => Bitrate::Kbps32,
        40 => Bitrate::Kbps40,
        48 => Bitrate::Kbps48,
        64 => Bitrate::Kbps64,
        80 => Bitrate::Kbps80,
        96 => Bitrate::Kbps96,
        128 => Bitrate::Kbps128,
        160 => Bitrate::Kbps160,
        _ => return None,
    })
}

/// An ID3v2.4 tag (id3.org, id3v2.4.0-structure): text frames in UTF-8, no phone number ever.
fn id3v2(tags: &AccessTags) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut frame = |id: &[u8; 4], texts: &[&str]| {
        let body = [&[3u8][..], texts.join("\0").as_bytes()].concat();
        frames.extend(id);
        frames.extend(syncsafe(body.len()));
        frames.extend([0, 0]);
        frames.extend(body);
    };
    if let Some(id) = &tags.recording_id {
        frame(b"TIT2", &[&format!("Call recording {id}")]);
        frame(b"TXXX", &["callvault recording id", id]);
    }
    if let Some(id) = &tags.call_id {
        frame(b"TXXX", &["callvault call id", id]);
    }
    if let Some(at) = tags.started_at {
        // TDRC takes whole seconds in UTC and no zone (id3v2.4.0-structure, section 4).
        let text = at.to_string();
        frame(b"TDRC", &[text.get(..19).unwrap_or_default()]);
        frame(b"TXXX", &["started at", &text]);
    }
    if let Some(at) = tags.ended_at {
        frame(b"TXXX", &["ended at", &at.to_string()]);
    }
    if frames.is_empty() {
        return frames;
    }
    let mut tag = b"ID3\x04\0\0".to_vec();
    tag.extend(syncsafe(frames.len()));
    tag.extend(frames);
    tag
}

fn syncsafe(n: usize) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (n >> shift & 0x7F) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::media::AccessSettings;
    use crate::media::sniff;

    #[test]
    fn the_tag_names_the_recording_and_its_times() {
        let tag = id3v2(&AccessTags {
            recording_id: Some("0191".into()),
            call_id: Some("0192".into()),
            started_at: Timestamp::parse("2024-03-05T04:04:06.700Z"),
            ended_at: Timestamp::parse("2024-03-05T04:05:06Z"),
        });
        assert_eq!(sniff::id3v2_bytes(&tag), Some(tag.len() as u64));
        let text = String::from_utf8_lossy(&tag);
        assert!(text.contains("Call recording 0191"));
        assert!(text.contains("TDRC"));
        assert!(
            text.contains("2024-03-05T04:04:06\u{0}") || text.contains("2024-03-05T04:04:06TXXX")
        );
        assert!(id3v2(&AccessTags::default()).is_empty());
    }

    #[test]
    fn every_allowed_setting_has_an_encoder() {
        for kbps in AccessSettings::BITRATES_KBPS {
            for rate in AccessSettings::MP3_RATES_HZ {
                assert!(encoder(*rate, 1, *kbps).is_ok(), "{rate} Hz, {kbps} kbit/s");
                assert!(
                    encoder(*rate, 2, kbps * 2).is_ok(),
                    "{rate} Hz, 2 x {kbps} kbit/s"
                );
            }
        }
    }
}
