//! What a file says of itself before any decoder looks: only to tell what is missing and to mend lengths that lie.

use std::io::{self, Read, Seek, SeekFrom};

use super::sniff;

/// The header of a WAV file (Microsoft "Multimedia Programming Interface 1.0"; RF64: EBU Tech 3306).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wav {
    /// `wFormatTag`; for `WAVE_FORMAT_EXTENSIBLE` the tag inside its GUID.
    pub format_tag: u16,
    pub channels: u16,
    pub rate_hz: u32,
    pub block_align: u16,
    /// Where the four bytes of the data chunk's length stand.
    pub size_at: u64,
    /// Where the sound begins.
    pub data_at: u64,
    /// The length of the sound in bytes by the header; `None` where the writer did not know it.
    pub announced: Option<u64>,
    /// The bytes that are there, at most what is announced.
    pub held: u64,
    /// Samples per channel by the `fact` chunk.
    pub fact: Option<u32>,
    /// Samples per channel in a block of a compressed format, by `fmt `.
    pub block_frames: u16,
}

impl Wav {
    /// Samples per channel in the bytes that are there, where `fact` counts them and the last block is filled up
    /// (ADPCM, GSM): a count that is more than a block off is not believed.
    pub fn counted_frames(&self) -> Option<u64> {
        if !matches!(self.format_tag, 0x02 | 0x11 | 0x31) || self.block_align == 0 {
            return None;
        }
        let block = u64::from(self.block_frames);
        let room = self.held / u64::from(self.block_align) * block;
        self.fact
            .map(u64::from)
            .filter(|fact| *fact <= room && fact + block > room)
    }

    /// How long it plays by its own lengths, in seconds.
    pub fn announced_seconds(&self) -> Option<f64> {
        let announced = self.announced? as f64 / f64::from(self.block_align.max(1));
        let frames_per_block = match self.format_tag {
            0x01 | 0x03 | 0x06 | 0x07 => 1.0,
            0x02 | 0x11 | 0x31 => f64::from(self.block_frames),
            _ => return None,
        };
        (self.rate_hz > 0).then(|| announced * frames_per_block / f64::from(self.rate_hz))
    }

    /// The header says more than the bytes hold.
    pub fn is_short(&self) -> bool {
        self.announced
            .is_some_and(|announced| announced > self.held)
    }
}

/// Lengths that stand for "not known": written to a pipe (ffmpeg 0xFFFFFFFF, sox and others 0x7FFFF000 and thereabouts)
/// or never filled in.
fn is_unknown(size: u32) -> bool {
    size == 0 || size == u32::MAX || (0x7FFF_0000..=0x8000_0000).contains(&size)
}

/// Reads the header of a WAV; `None` when it is none or has no data chunk.
pub fn wav(file: &mut (impl Read + Seek), file_bytes: u64) -> io::Result<Option<Wav>> {
    let mut head = [0; 12];
    file.seek(SeekFrom::Start(0))?;
    if read_full(file, &mut head)? < head.len()
        || !matches!(&head[..4], b"RIFF" | b"RF64" | b"BW64")
        || &head[8..] != b"WAVE"
    {
        return Ok(None);
    }
    let (mut format_tag, mut channels, mut rate_hz, mut block_align) = (0, 0, 0, 0);
    let (mut fact, mut block_frames) = (None, 0);
    let mut at = 12u64;
    // No writer has that many chunks before the sound.
    for _ in 0..64 {
        file.seek(SeekFrom::Start(at))?;
        let mut chunk = [0; 8];
        if read_full(file, &mut chunk)? < chunk.len() {
            return Ok(None);
        }
        let size = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
        match &chunk[..4] {
            b"fmt " => {
                let mut fmt = [0; 26];
                let n = read_full(file, &mut fmt)?.min(size as usize);
                if n >= 14 {
                    format_tag = u16::from_le_bytes([fmt[0], fmt[1]]);
                    channels = u16::from_le_bytes([fmt[2], fmt[3]]);
                    rate_hz = u32::from_le_bytes([fmt[4], fmt[5], fmt[6], fmt[7]]);
                    block_align = u16::from_le_bytes([fmt[12], fmt[13]]);
                }
                if n >= 20 {
                    block_frames = u16::from_le_bytes([fmt[18], fmt[19]]);
                }
                if format_tag == 0xFFFE && n >= 26 {
                    format_tag = u16::from_le_bytes([fmt[24], fmt[25]]);
                }
            }
            b"fact" => {
                let mut count = [0; 4];
                if read_full(file, &mut count)? == count.len() && size >= 4 {
                    fact = Some(u32::from_le_bytes(count));
                }
            }
            b"data" => {
                let data_at = at + 8;
                let left = file_bytes.saturating_sub(data_at);
                let unknown = match size {
                    0 => left > 0 && !is_chunk(file, left)?,
                    size => is_unknown(size) && u64::from(size) > left,
                };
                let announced = (!unknown).then_some(u64::from(size));
                return Ok(Some(Wav {
                    format_tag,
                    channels,
                    rate_hz,
                    block_align,
                    size_at: at + 4,
                    data_at,
                    announced,
                    held: announced.unwrap_or(left).min(left),
                    fact,
                    block_frames,
                }));
            }
            _ => {}
        }
        at = at + 8 + u64::from(size) + u64::from(size & 1);
    }
    Ok(None)
}

/// Whether what follows an empty data chunk is another chunk (then it really is empty) and not sound.
fn is_chunk(file: &mut impl Read, left: u64) -> io::Result<bool> {
    let mut chunk = [0; 8];
    if read_full(file, &mut chunk)? < chunk.len() {
        return Ok(false);
    }
    let size = u32::from_le_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]);
    let named = chunk[..4]
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || *b == b' ');
    Ok(named && 8 + u64::from(size) <= left)
}

/// Where the stream begins behind any number of ID3v2 tags, which may be megabytes of pictures.
pub fn behind_id3(file: &mut (impl Read + Seek), file_bytes: u64) -> io::Result<u64> {
    let mut at = 0;
    for _ in 0..8 {
        let mut head = [0; 10];
        file.seek(SeekFrom::Start(at))?;
        let n = read_full(file, &mut head)?;
        match sniff::id3v2_bytes(&head[..n]) {
            Some(tag) if at + tag < file_bytes => at += tag,
            _ => break,
        }
    }
    Ok(at)
}

/// Whether the MP3 that begins at `start` carries its true length (a Xing, Info or VBRI frame comes first).
pub fn mp3_knows_its_length(file: &mut (impl Read + Seek), start: u64) -> io::Result<bool> {
    let mut head = [0; 256];
    file.seek(SeekFrom::Start(start))?;
    let n = read_full(file, &mut head)?;
    let tags = [b"Xing", b"Info", b"VBRI"];
    Ok(head[..n]
        .windows(4)
        .any(|four| tags.iter().any(|tag| four == *tag)))
}

/// Reads until `buf` is full or the file ends.
pub fn read_full(file: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match file.read(&mut buf[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn pcm(size: u32, sound: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        bytes.extend(8000u32.to_le_bytes());
        bytes.extend(16000u32.to_le_bytes());
        bytes.extend(b"\x02\0\x10\0data");
        bytes.extend(size.to_le_bytes());
        bytes.extend(sound);
        bytes
    }

    fn read(bytes: &[u8]) -> Wav {
        wav(&mut Cursor::new(bytes), bytes.len() as u64)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_header_that_says_more_than_there_is_is_short() {
        let whole = read(&pcm(8, &[1; 8]));
        assert!(!whole.is_short());
        assert_eq!((whole.data_at, whole.size_at, whole.held), (44, 40, 8));
        assert_eq!((whole.format_tag, whole.block_align), (1, 2));
        let short = read(&pcm(100, &[1; 8]));
        assert!(short.is_short());
        assert_eq!((short.announced, short.held), (Some(100), 8));
    }

    #[test]
    fn lengths_that_nobody_filled_in_are_unknown() {
        for size in [0, u32::MAX, 0x7FFF_F000, 0x7FFF_FFFF, 0x7FFF_FFDB] {
            let seen = read(&pcm(size, &[1; 8]));
            assert_eq!((seen.announced, seen.held), (None, 8), "{size:x}");
            assert!(!seen.is_short());
        }
    }

    #[test]
    fn an_empty_data_chunk_is_empty_when_nothing_or_a_chunk_follows() {
        assert_eq!(read(&pcm(0, &[])).announced, Some(0));
        let seen = read(&pcm(0, b"LIST\x04\0\0\0INFO"));
        assert_eq!((seen.announced, seen.held), (Some(0), 0));
    }

    #[test]
    fn chunks_that_never_end_are_given_up() {
        let mut bytes = b"RIFF\0\0\0\0WAVE".to_vec();
        bytes.extend(b"JUNK\0\0\0\0".repeat(100));
        assert_eq!(
            wav(&mut Cursor::new(&bytes), bytes.len() as u64).unwrap(),
            None
        );
        assert_eq!(wav(&mut Cursor::new(b"RIFF"), 4).unwrap(), None);
    }

    #[test]
    fn tags_are_stepped_over_but_never_beyond_the_end() {
        let mut bytes = b"ID3\x04\0\0\0\0\0\x02xxID3\x03\0\0\0\0\0\x01y".to_vec();
        bytes.extend(b"sound");
        let n = bytes.len() as u64;
        assert_eq!(behind_id3(&mut Cursor::new(&bytes), n).unwrap(), 23);
        let lying = b"ID3\x04\0\0\x7F\x7F\x7F\x7Fsound";
        assert_eq!(behind_id3(&mut Cursor::new(lying), 15).unwrap(), 0);
    }
}
