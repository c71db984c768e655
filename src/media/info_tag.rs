//! The first frame of an MP3, which says how long the sound is to the sample and where to seek: the Xing/Info frame with
//! LAME's extension (gabriel.mp3-tech.org/mp3infotag.html).
//!
//! LAME writes one itself, but only where it fits into a frame of the stream's own bitrate, and at 32 kbit/s and 16 kHz
//! (a frame of 144 bytes) it does not. A tag frame may have a higher bitrate than the rest, so it is made here.

use super::sniff;

/// Samples that LAME's encoder puts in front (`ENCDELAY` in its `encoder.h`).
const ENCODER_DELAY: u64 = 576;
const LAYOUT_BYTES: usize = 156;

/// Counts the frames of an MPEG stream that passes by in pieces.
#[derive(Default)]
pub struct FrameCounter {
    /// The first frame's header, once seen.
    first: Option<[u8; 4]>,
    frames: u64,
    bytes: u64,
    crc: u16,
    /// Bytes left of the frame under way.
    rest: usize,
    /// The header under way.
    head: Vec<u8>,
    broken: bool,
}

impl FrameCounter {
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.crc = crc16(self.crc, bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() && !self.broken {
            let skip = self.rest.min(bytes.len());
            self.rest -= skip;
            bytes = &bytes[skip..];
            while self.rest == 0 && self.head.len() < 4 && !bytes.is_empty() {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
            }
            if let [a, b, c, d] = self.head[..] {
                match sniff::mpeg_frame_bytes(&[a, b, c, d]) {
                    Some(length) if length > 4 => {
                        self.first.get_or_insert([a, b, c, d]);
                        self.frames += 1;
                        self.rest = length - 4;
                        self.head.clear();
                    }
                    _ => self.broken = true,
                }
            }
        }
    }

    /// The tag frame for the stream that passed by, which plays `samples` samples; exactly [`frame_bytes`] long.
    ///
    /// `None` when the stream was no sequence of whole frames.
    pub fn tag(&self, samples: u64, bitrate_kbps: u32) -> Option<Vec<u8>> {
        let first = self.first.filter(|_| !self.broken && self.rest == 0)?;
        let (head, length) = tag_header(first)?;
        let total = u32::try_from(self.bytes + length as u64).unwrap_or(u32::MAX);
        let per_frame = if first[1] & 0x08 == 0 { 576 } else { 1152 };
        let padding = (self.frames * per_frame).checked_sub(ENCODER_DELAY + samples)?;
        let gaps = u32::try_from(ENCODER_DELAY << 12 | padding.min(4095)).ok()?;
        let mut tag = head.to_vec();
        tag.resize(4 + side_info_bytes(first), 0);
        tag.extend(b"Info");
        tag.extend(0x0Fu32.to_be_bytes()); // frames, bytes, table of contents, quality
        tag.extend(u32::try_from(self.frames).unwrap_or(u32::MAX).to_be_bytes());
        tag.extend(total.to_be_bytes());
        tag.extend((0..100u32).map(|percent| (percent * 256 / 100) as u8)); // constant bitrate
        tag.extend((100 - 10 * u32::from(super::mp3::QUALITY)).to_be_bytes());
        tag.extend(b"LAME3.100");
        tag.push(0x01); // revision 0, constant bitrate
        tag.extend([0; 10]); // low-pass, peak, two replay gains, flags: not known
        tag.push(u8::try_from(bitrate_kbps).unwrap_or(u8::MAX));
        tag.extend(&gaps.to_be_bytes()[1..]);
        tag.extend([0; 4]); // source, gain, preset
        tag.extend(total.to_be_bytes());
        tag.extend(self.crc.to_be_bytes());
        tag.extend(crc16(0, &tag).to_be_bytes());
        tag.resize(length, 0);
        Some(tag)
    }
}

/// Bytes to leave free for the tag frame of a stream at `rate_hz` with one or two channels.
pub fn frame_bytes(rate_hz: u32, channels: usize) -> Option<usize> {
    let (version, base) = match rate_hz {
        32_000.. => (0b11, rate_hz),
        16_000.. => (0b10, rate_hz * 2),
        _ => (0b00, rate_hz * 4),
    };
    let index = [44_100, 48_000, 32_000].iter().position(|hz| *hz == base)? as u8;
    let mode = if channels == 1 { 0b1100_0000 } else { 0 };
    let header = [0xFF, 0xE3 | version << 3, 0x10 | index << 2, mode];
    tag_header(header).map(|(_, length)| length)
}

/// The header of a frame like `first`, without padding, at the lowest bitrate at which the tag fits, and its length.
fn tag_header(first: [u8; 4]) -> Option<([u8; 4], usize)> {
    (1..15u8).find_map(|bitrate| {
        let header = [
            first[0],
            first[1] | 1,
            bitrate << 4 | first[2] & 0x0C,
            first[3],
        ];
        let length = sniff::mpeg_frame_bytes(&header)?;
        (length >= 4 + side_info_bytes(first) + LAYOUT_BYTES).then_some((header, length))
    })
}

fn side_info_bytes(header: [u8; 4]) -> usize {
    match (header[1] & 0x08 != 0, header[3] >> 6 == 0b11) {
        (true, false) => 32,
        (true, true) | (false, false) => 17,
        (false, true) => 9,
    }
}

/// CRC-16/ARC, as LAME's tag wants it.
fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        crc >> 8 ^ CRC_TABLE[usize::from(crc as u8 ^ byte)]
    })
}

const CRC_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xA001
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::media::AccessSettings;

    #[test]
    fn the_crc_is_the_usual_one() {
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
    }

    #[test]
    fn every_rate_has_room_for_the_tag() {
        for rate in AccessSettings::MP3_RATES_HZ {
            for channels in [1, 2] {
                assert!(
                    frame_bytes(*rate, channels).unwrap() >= 169,
                    "{rate} {channels}"
                );
            }
        }
        assert_eq!(frame_bytes(7_000, 1), None);
    }

    #[test]
    fn frames_are_counted_whatever_the_pieces() {
        // 32 kbit/s at 16 kHz, mono: 144 bytes.
        let mut frame = vec![0xFF, 0xF3, 0x48, 0xC0];
        frame.resize(144, 0xAA);
        let stream = frame.repeat(10);
        let mut tags = Vec::new();
        for piece in [1, 3, 100, 144, 1440] {
            let mut counter = FrameCounter::default();
            stream.chunks(piece).for_each(|bytes| counter.push(bytes));
            tags.push(counter.tag(5000, 32).unwrap());
        }
        assert!(tags.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(tags[0].len(), frame_bytes(16_000, 1).unwrap());
        assert_eq!(&tags[0][13..17], b"Info");
        assert_eq!(tags[0][21..25], 10u32.to_be_bytes());
        let mut cut = FrameCounter::default();
        cut.push(&stream[..200]);
        assert_eq!(cut.tag(5000, 32), None);
    }
}
