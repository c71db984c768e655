//! What an MP4 says of its sound track and Symphonia does not tell: the edit list, the codec, whether it is encrypted.
//!
//! An AAC encoder puts priming samples in front (64 ms at 16 kHz); the edit list says how many, and Symphonia 0.6 reads
//! and drops it (pdeljanov/Symphonia#544). Boxes: ISO/IEC 14496-12.

use std::io::{self, Read, Seek, SeekFrom};

use super::header::read_full;

/// The first sound track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sound {
    /// The four letters of its sample entry: `mp4a`, `samr`, `sawb`, `enca`, ...
    pub format: [u8; 4],
    /// Ticks per second of this track.
    pub timescale: u32,
    /// Length in ticks; 0 in fragmented files.
    pub duration: u64,
    /// Where playing starts, in ticks (from a lone edit that is not empty); 0 without.
    pub start: u64,
    /// How long it plays by its edit, in ticks of this track.
    pub play: Option<u64>,
    /// Where its samples lie, unless it is fragmented.
    pub samples: Option<SampleTable>,
}

/// Where the boxes of a sample table stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleTable {
    sizes: Option<Part>,
    per_chunk: Option<Part>,
    chunks: Option<Part>,
    chunks_are_64: bool,
}

/// Five hours of AMR with a frame each; a table beyond is read so far.
const MOST_SAMPLES: usize = 1_000_000;

impl SampleTable {
    fn is_complete(&self) -> bool {
        self.sizes.is_some() && self.per_chunk.is_some() && self.chunks.is_some()
    }

    /// Offset and length of each sample (ISO/IEC 14496-12, 8.7.3 to 8.7.5).
    pub fn read(&self, file: &mut (impl Read + Seek)) -> io::Result<Vec<(u64, u32)>> {
        let (Some(sizes), Some(per_chunk), Some(chunks)) =
            (&self.sizes, &self.per_chunk, &self.chunks)
        else {
            return Ok(Vec::new());
        };
        let head = read_at::<12>(file, sizes.from)?;
        let (same, count) = (be32(&head[4..8]), be32(&head[8..12]));
        let room = if same == 0 {
            (sizes.to - sizes.from) / 4
        } else {
            u64::MAX
        };
        let count = usize::try_from(u64::from(count).min(room))
            .unwrap_or(usize::MAX)
            .min(MOST_SAMPLES);
        let sizes = match same {
            0 => numbers(file, sizes, 12, count, 4)?,
            _ => Vec::new(),
        };
        let runs = numbers(file, per_chunk, 8, MOST_SAMPLES, 4)?;
        let width = if self.chunks_are_64 { 8 } else { 4 };
        let chunks = numbers(file, chunks, 8, MOST_SAMPLES, width)?;
        let mut samples = Vec::with_capacity(sizes.len());
        let mut runs = runs.chunks_exact(3).peekable();
        let mut each = 0;
        for (n, offset) in (1u64..).zip(chunks) {
            while let Some(run) = runs.next_if(|run| run[0] <= n) {
                each = run[1];
            }
            let mut at = offset;
            for _ in 0..each {
                if samples.len() >= count {
                    return Ok(samples);
                }
                let size = match same {
                    0 => sizes[samples.len()] as u32,
                    same => same,
                };
                samples.push((at, size));
                at = at.saturating_add(size.into());
            }
        }
        Ok(samples)
    }
}

/// At most `most` big-endian numbers of `width` bytes from `skip` bytes into a box.
fn numbers(
    file: &mut (impl Read + Seek),
    part: &Part,
    skip: u64,
    most: usize,
    width: usize,
) -> io::Result<Vec<u64>> {
    let from = part.from.saturating_add(skip);
    let bytes = part.to.saturating_sub(from).min((most * width) as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut raw = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let n = read_full(file, &mut raw)?;
    Ok(raw[..n].chunks_exact(width).map(be64).collect())
}

impl Sound {
    /// Frames to leave out at the start, and how many to play then, at `rate_hz`.
    pub fn edit(&self, rate_hz: u32) -> (u64, Option<u64>) {
        let frames = |ticks: u64| {
            let (ticks, rate) = (u128::from(ticks), u128::from(rate_hz));
            let scale = u128::from(self.timescale.max(1));
            u64::try_from((ticks * rate + scale / 2) / scale).unwrap_or(u64::MAX)
        };
        (frames(self.start), self.play.map(frames))
    }

    /// The length by the header in seconds, what the edit leaves out not counted.
    pub fn announced_seconds(&self) -> Option<f64> {
        let ticks = match self.play {
            Some(play) => play,
            None => self.duration.saturating_sub(self.start),
        };
        (ticks > 0 && self.timescale > 0).then(|| ticks as f64 / f64::from(self.timescale))
    }
}

/// Reads the boxes of `moov`; `None` when the file is no MP4 or has no sound track.
pub fn sound(file: &mut (impl Read + Seek), file_bytes: u64) -> io::Result<Option<Sound>> {
    let mut movie_timescale = 0;
    let mut found = None;
    let Some(moov) = boxes(file, 0, file_bytes)?
        .into_iter()
        .find(|b| &b.name == b"moov")
    else {
        return Ok(None);
    };
    for part in boxes(file, moov.from, moov.to)? {
        match &part.name {
            b"mvhd" => movie_timescale = times(file, &part)?.0,
            b"trak" if found.is_none() => found = track(file, &part, &mut movie_timescale)?,
            _ => {}
        }
    }
    Ok(found)
}

fn track(
    file: &mut (impl Read + Seek),
    trak: &Part,
    movie_timescale: &mut u32,
) -> io::Result<Option<Sound>> {
    let mut sound = Sound::default();
    let mut is_sound = false;
    let mut edits = Vec::new();
    let mut table = SampleTable::default();
    // edts and mdia, then what is in them; the tree is walked by hand, so its depth is fixed.
    let mut parts = boxes(file, trak.from, trak.to)?;
    let mut at = 0;
    while at < parts.len() && parts.len() < 256 {
        let part = parts[at].clone();
        at += 1;
        match &part.name {
            b"edts" | b"mdia" | b"minf" | b"stbl" => parts.extend(boxes(file, part.from, part.to)?),
            b"mdhd" => (sound.timescale, sound.duration) = times(file, &part)?,
            b"hdlr" => is_sound |= read_at::<12>(file, part.from)?.ends_with(b"soun"),
            b"stsd" => {
                let head = read_at::<16>(file, part.from)?;
                sound.format.copy_from_slice(&head[12..16]);
            }
            b"elst" => edits = edit_list(file, &part)?,
            b"stsz" => table.sizes = Some(part),
            b"stsc" => table.per_chunk = Some(part),
            b"stco" => table.chunks = Some(part),
            b"co64" => (table.chunks, table.chunks_are_64) = (Some(part), true),
            _ => {}
        }
    }
    if !is_sound {
        return Ok(None);
    }
    sound.samples = Some(table).filter(SampleTable::is_complete);
    // One edit that plays something; an empty one before it (the sound starts late) changes nothing in the file.
    edits.retain(|edit| edit.media_time >= 0);
    if let [edit] = &edits[..] {
        sound.start = edit.media_time.unsigned_abs();
        if edit.duration > 0 && *movie_timescale > 0 {
            let ticks = u128::from(edit.duration) * u128::from(sound.timescale)
                / u128::from(*movie_timescale);
            sound.play = u64::try_from(ticks).ok().filter(|ticks| *ticks > 0);
        }
    }
    Ok(Some(sound))
}

struct Edit {
    duration: u64,
    media_time: i64,
}

fn edit_list(file: &mut (impl Read + Seek), part: &Part) -> io::Result<Vec<Edit>> {
    let head = read_at::<8>(file, part.from)?;
    let count = u32::from_be_bytes([head[4], head[5], head[6], head[7]]).min(16);
    let mut edits = Vec::new();
    for i in 0..u64::from(count) {
        let edit = if head[0] == 1 {
            let b = read_at::<16>(file, part.from + 8 + i * 20)?;
            Edit {
                duration: be64(&b[..8]),
                media_time: be64(&b[8..]).cast_signed(),
            }
        } else {
            let b = read_at::<8>(file, part.from + 8 + i * 12)?;
            Edit {
                duration: u64::from(be32(&b[..4])),
                media_time: i64::from(be32(&b[4..]).cast_signed()),
            }
        };
        edits.push(edit);
    }
    Ok(edits)
}

/// Timescale and duration of `mvhd` or `mdhd`.
fn times(file: &mut (impl Read + Seek), part: &Part) -> io::Result<(u32, u64)> {
    let b = read_at::<32>(file, part.from)?;
    Ok(if b[0] == 1 {
        (be32(&b[20..24]), be64(&b[24..32]))
    } else {
        let duration = be32(&b[16..20]);
        (
            be32(&b[12..16]),
            if duration == u32::MAX {
                0
            } else {
                duration.into()
            },
        )
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    name: [u8; 4],
    from: u64,
    to: u64,
}

/// The boxes that lie side by side from `at` to `end`; broken sizes end the walk.
fn boxes(file: &mut (impl Read + Seek), mut at: u64, end: u64) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    while at + 8 <= end && parts.len() < 4096 {
        let b = read_at::<16>(file, at)?;
        let mut from = at + 8;
        let size = match be32(&b[..4]) {
            0 => end - at,
            1 => {
                from += 8;
                be64(&b[8..])
            }
            size => u64::from(size),
        };
        let Some(to) = at.checked_add(size).filter(|to| *to <= end && *to >= from) else {
            break;
        };
        parts.push(Part {
            name: [b[4], b[5], b[6], b[7]],
            from,
            to,
        });
        at = to;
    }
    Ok(parts)
}

/// `N` bytes from `at`; what lies beyond the file's end is zero.
fn read_at<const N: usize>(file: &mut (impl Read + Seek), at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at))?;
    read_full(file, &mut bytes)?;
    Ok(bytes)
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |n, b| n << 8 | u32::from(*b))
}

fn be64(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn boxed(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend(name);
        bytes.extend(body);
        bytes
    }

    fn header(timescale: u32, duration: u32) -> Vec<u8> {
        let mut body = vec![0; 12];
        body.extend(timescale.to_be_bytes());
        body.extend(duration.to_be_bytes());
        body.extend([0; 80]);
        body
    }

    fn movie(edits: &[(u32, i32)]) -> Vec<u8> {
        let mut elst = vec![0; 4];
        elst.extend((edits.len() as u32).to_be_bytes());
        for (duration, time) in edits {
            elst.extend(duration.to_be_bytes());
            elst.extend(time.to_be_bytes());
            elst.extend([0, 1, 0, 0]);
        }
        let stsd = boxed(b"stsd", b"\0\0\0\0\0\0\0\x01\0\0\0\x20mp4a");
        let minf = boxed(b"minf", &boxed(b"stbl", &stsd));
        let mut mdia = boxed(b"mdhd", &header(16_000, 17_024));
        mdia.extend(boxed(b"hdlr", b"\0\0\0\0\0\0\0\0soun\0\0"));
        mdia.extend(minf);
        let mut trak = boxed(b"edts", &boxed(b"elst", &elst));
        trak.extend(boxed(b"mdia", &mdia));
        let mut moov = boxed(b"mvhd", &header(1000, 1000));
        moov.extend(boxed(b"trak", &trak));
        let mut file = boxed(b"ftyp", b"M4A \0\0\0\0");
        file.extend(boxed(b"moov", &moov));
        file
    }

    fn read(bytes: &[u8]) -> Option<Sound> {
        sound(&mut Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    #[test]
    fn an_edit_says_what_to_leave_out_and_how_long_to_play() {
        let seen = read(&movie(&[(1000, 1024)])).unwrap();
        assert_eq!(&seen.format, b"mp4a");
        assert_eq!(seen.edit(16_000), (1024, Some(16_000)));
        assert_eq!(seen.edit(8_000), (512, Some(8_000)));
        assert_eq!(seen.announced_seconds(), Some(1.0));
        let late = read(&movie(&[(1300, -1), (1000, 1024)])).unwrap();
        assert_eq!(late.edit(16_000), (1024, Some(16_000)));
    }

    #[test]
    fn several_edits_or_none_change_nothing() {
        let plain = read(&movie(&[])).unwrap();
        assert_eq!(plain.edit(16_000), (0, None));
        assert_eq!(plain.announced_seconds(), Some(1.064));
        assert_eq!(
            read(&movie(&[(500, 0), (500, 9000)])).unwrap().edit(16_000),
            (0, None)
        );
    }

    #[test]
    fn broken_boxes_are_no_sound_and_no_panic() {
        let whole = movie(&[(1000, 1024)]);
        for cut in 0..whole.len() {
            let _ = read(&whole[..cut]);
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xFF;
            if let Some(sound) = read(&bytes) {
                let _ = (sound.edit(u32::MAX), sound.announced_seconds());
            }
        }
        assert_eq!(read(b"RIFF\0\0\0\0WAVE"), None);
    }
}
