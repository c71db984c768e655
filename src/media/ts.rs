//! Takes the sound out of an MPEG transport stream (ISO/IEC 13818-1), for decoders that know bare streams only.
//!
//! One pass with constant memory. What it yields is the elementary stream of the first sound track: AAC as
//! ADTS frames, or MPEG audio. Damage costs the packets it touches and nothing more.

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::io::MediaSource;

const PACKET: usize = 188;
const SYNC: u8 = 0x47;
/// Bytes without a packet before the rest is given up as something else.
const MOST_LOST_BYTES: u64 = 1 << 20;

/// What the first sound track is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// AAC in ADTS frames, or MPEG audio layers I to III: a bare stream that decoders know.
    Bare,
    /// AAC in LATM, AC-3 and others.
    Unsupported(&'static str),
    /// Scrambled packets.
    Encrypted,
    /// Tables without any sound, or no tables at all.
    None,
}

/// Whether a file that begins so is a transport stream: three packets in a row, or all there are.
pub fn is_stream(prefix: &[u8]) -> bool {
    prefix.len() >= PACKET
        && (0..3).all(|n| prefix.get(n * PACKET).is_none_or(|byte| *byte == SYNC))
}

/// What sound a stream has, from its first tables. Leaves the reader where it stopped.
pub fn sound(file: &mut impl Read) -> io::Result<Sound> {
    let mut packets = Packets::new(file);
    let mut tables = Tables::default();
    while let Some(packet) = packets.next_packet()? {
        match packet.read(&mut tables) {
            Seen::Scrambled => return Ok(Sound::Encrypted),
            Seen::Sound(_) => return Ok(Sound::Bare),
            Seen::Other => {}
        }
        if let Some(other) = tables.unsupported {
            return Ok(Sound::Unsupported(other));
        }
        if tables.is_read && tables.sound_pid.is_none() {
            return Ok(Sound::None);
        }
    }
    Ok(Sound::None)
}

/// The bare stream as a source for a demuxer. Cannot seek: nobody needs to.
pub struct Bare<R> {
    packets: Packets<R>,
    tables: Tables,
    held: Vec<u8>,
    at: usize,
}

impl<R: Read> Bare<R> {
    pub fn new(from: R) -> Self {
        Self {
            packets: Packets::new(from),
            tables: Tables::default(),
            held: Vec::with_capacity(PACKET),
            at: 0,
        }
    }
}

impl<R: Read> Read for Bare<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at >= self.held.len() {
            let Some(packet) = self.packets.next_packet()? else {
                return Ok(0);
            };
            if let Seen::Sound(bytes) = packet.read(&mut self.tables) {
                self.held.clear();
                self.held.extend_from_slice(bytes);
                self.at = 0;
            }
        }
        let n = buf.len().min(self.held.len() - self.at);
        buf[..n].copy_from_slice(&self.held[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

impl<R: Read> Seek for Bare<R> {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl<R: Read + Send + Sync> MediaSource for Bare<R> {
    fn is_seekable(&self) -> bool {
        false
    }

    fn byte_len(&self) -> Option<u64> {
        None
    }
}

/// Cuts a reader into packets, and finds the next one behind bytes that are none.
struct Packets<R> {
    from: R,
    packet: [u8; PACKET],
    lost: u64,
}

impl<R: Read> Packets<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            packet: [0; PACKET],
            lost: 0,
        }
    }

    fn next_packet(&mut self) -> io::Result<Option<Packet<'_>>> {
        let mut filled = 0;
        loop {
            filled += fill(&mut self.from, &mut self.packet[filled..])?;
            if filled < PACKET {
                return Ok(None);
            }
            if self.packet[0] == SYNC {
                self.lost = 0;
                return Ok(Some(Packet(&self.packet)));
            }
            let skip = self
                .packet
                .iter()
                .position(|byte| *byte == SYNC)
                .unwrap_or(PACKET);
            self.lost += skip as u64;
            if self.lost > MOST_LOST_BYTES {
                return Ok(None);
            }
            self.packet.copy_within(skip.., 0);
            filled = PACKET - skip;
        }
    }
}

fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match from.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// What the tables said so far.
#[derive(Debug, Default)]
struct Tables {
    map_pid: Option<u16>,
    sound_pid: Option<u16>,
    /// A program map was read.
    is_read: bool,
    unsupported: Option<&'static str>,
    /// Header bytes of a PES packet that still have to be skipped.
    skip: usize,
    /// A PES packet of the sound has begun: what comes before it is the end of one whose start is missing.
    has_begun: bool,
}

enum Seen<'a> {
    Sound(&'a [u8]),
    Scrambled,
    Other,
}

struct Packet<'a>(&'a [u8; PACKET]);

impl<'a> Packet<'a> {
    fn read(&self, tables: &mut Tables) -> Seen<'a> {
        let bytes: &'a [u8; PACKET] = self.0;
        let has_error = bytes[1] & 0x80 != 0;
        let starts = bytes[1] & 0x40 != 0;
        let pid = u16::from(bytes[1] & 0x1F) << 8 | u16::from(bytes[2]);
        let payload_at = match bytes[3] >> 4 & 3 {
            1 => 4,
            3 => 5 + usize::from(bytes[4]),
            _ => PACKET,
        };
        let payload = bytes.get(payload_at..).unwrap_or_default();
        if has_error || payload.is_empty() {
            return Seen::Other;
        }
        if pid == 0 {
            if starts && let Some(map) = section(payload, 0x00).and_then(first_program) {
                tables.map_pid = Some(map);
            }
            return Seen::Other;
        }
        if tables.map_pid == Some(pid) {
            if starts && let Some(map) = section(payload, 0x02) {
                tables.take_map(map);
            }
            return Seen::Other;
        }
        if tables.sound_pid != Some(pid) {
            return Seen::Other;
        }
        if bytes[3] & 0xC0 != 0 {
            return Seen::Scrambled;
        }
        tables.pes(payload, starts)
    }
}

impl Tables {
    /// A program map: the first stream of sound (ISO/IEC 13818-1, tables 2-33 and 2-34).
    fn take_map(&mut self, section: &[u8]) {
        let Some(info) = section.get(10..12) else {
            return;
        };
        let info = usize::from(info[0] & 0x0F) << 8 | usize::from(info[1]);
        let mut rest = section.get(12 + info..).unwrap_or_default();
        let mut sound = None;
        let mut other = None;
        while let Some(&[kind, high, low, info_high, info_low]) = rest.get(..5) {
            let pid = u16::from(high & 0x1F) << 8 | u16::from(low);
            let info = usize::from(info_high & 0x0F) << 8 | usize::from(info_low);
            match kind {
                0x03 | 0x04 | 0x0F if sound.is_none() => sound = Some(pid),
                0x11 => other = Some("aac_latm"),
                0x81 => other = Some("ac3"),
                0x87 => other = Some("eac3"),
                0xCF => other = Some("sample_aes"),
                _ => {}
            }
            rest = rest.get(5 + info..).unwrap_or_default();
        }
        self.is_read = true;
        self.unsupported = other.filter(|_| sound.is_none());
        if sound.is_some() && sound != self.sound_pid {
            self.sound_pid = sound;
            self.has_begun = false;
        }
    }

    fn pes<'a>(&mut self, payload: &'a [u8], starts: bool) -> Seen<'a> {
        let mut body = payload;
        if starts {
            let Some(&[0, 0, 1, _, _, _, _, _, header]) = payload.get(..9) else {
                self.has_begun = false;
                return Seen::Other;
            };
            self.has_begun = true;
            self.skip = 9 + usize::from(header);
        }
        if !self.has_begun {
            return Seen::Other;
        }
        let skipped = self.skip.min(body.len());
        self.skip -= skipped;
        body = &body[skipped..];
        if body.is_empty() {
            Seen::Other
        } else {
            Seen::Sound(body)
        }
    }
}

/// The section of this table in a packet where it begins, without its check sum. Tables of recordings fit one packet.
fn section(payload: &[u8], table: u8) -> Option<&[u8]> {
    let pointer = usize::from(*payload.first()?);
    let section = payload.get(1 + pointer..)?;
    let head = section.get(..3)?;
    let length = usize::from(head[1] & 0x0F) << 8 | usize::from(head[2]);
    let end = (3 + length).checked_sub(4)?;
    (head[0] == table).then(|| &section[..end.min(section.len())])
}

/// The map's packet id of the first program (number 0 names the network).
fn first_program(section: &[u8]) -> Option<u16> {
    let programs = section.get(8..)?;
    programs
        .chunks_exact(4)
        .find(|entry| entry[0] != 0 || entry[1] != 0)
        .map(|entry| u16::from(entry[2] & 0x1F) << 8 | u16::from(entry[3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(pid: u16, starts: bool, control: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![
            SYNC,
            (u8::from(starts) << 6) | (pid >> 8) as u8,
            pid as u8,
            control,
        ];
        if payload.len() < PACKET - 4 {
            // Filled up by an adaptation field.
            bytes[3] |= 0x20;
            let stuffing = PACKET - 5 - payload.len();
            bytes.push(stuffing as u8);
            bytes.extend(std::iter::repeat_n(0xFF, stuffing));
        }
        bytes.extend_from_slice(payload);
        assert_eq!(bytes.len(), PACKET);
        bytes
    }

    fn tables(kind: u8) -> Vec<u8> {
        let pat = [
            0, 0x00, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xE1, 0x00, 0, 0, 0, 0,
        ];
        let pmt = [
            0, 0x02, 0xB0, 18, 0, 1, 0xC1, 0, 0, 0xE1, 0x01, 0xF0, 0, kind, 0xE1, 0x01, 0xF0, 0, 0,
            0, 0, 0,
        ];
        let mut bytes = packet(0, true, 0x10, &pat);
        bytes.extend(packet(0x100, true, 0x10, &pmt));
        bytes
    }

    fn pes(sound: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 1, 0xC0, 0, 0, 0x80, 0x80, 5, 1, 2, 3, 4, 5];
        bytes.extend_from_slice(sound);
        bytes
    }

    fn taken(stream: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Bare::new(stream).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn the_sound_comes_out_whole_from_joined_streams() {
        let mut stream = tables(0x0F);
        stream.extend(packet(0x101, true, 0x10, &pes(b"one ")));
        stream.extend(packet(0x1FFF, false, 0x10, b"stuffing"));
        stream.extend(packet(0x101, false, 0x10, b"two "));
        // The next segment begins with its own tables.
        stream.extend(tables(0x0F));
        stream.extend(packet(0x101, true, 0x10, &pes(b"three")));
        assert!(is_stream(&stream));
        assert_eq!(sound(&mut &stream[..]).unwrap(), Sound::Bare);
        assert_eq!(taken(&stream), b"one two three");
    }

    #[test]
    fn damage_costs_the_packets_it_touches() {
        let mut stream = tables(0x0F);
        stream.extend(packet(0x101, true, 0x10, &pes(b"one ")));
        stream.extend([0x12, 0x34, 0x56]);
        stream.extend(packet(0x101, true, 0x10, &pes(b"two")));
        stream.extend(&packet(0x101, true, 0x10, &pes(b"cut off"))[..100]);
        assert_eq!(taken(&stream), b"one two");
    }

    #[test]
    fn what_cannot_be_decoded_is_named() {
        let of = |kind, control| {
            let mut stream = tables(kind);
            stream.extend(packet(0x101, true, control, &pes(b"x")));
            sound(&mut &stream[..]).unwrap()
        };
        assert_eq!(of(0x11, 0x10), Sound::Unsupported("aac_latm"));
        assert_eq!(of(0x0F, 0x90), Sound::Encrypted);
        assert_eq!(of(0x1B, 0x10), Sound::None);
        assert_eq!(sound(&mut &[SYNC; 400][..]).unwrap(), Sound::None);
        assert!(!is_stream(b"G"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_get_an_answer(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..1500)) {
            for at in (0..bytes.len()).step_by(PACKET) {
                bytes[at] = SYNC;
            }
            let mut stream = tables(0x0F);
            stream.extend(bytes);
            let _ = sound(&mut &stream[..]);
            assert!(taken(&stream).len() <= stream.len());
        }
    }
}
