//! The sound of TRTC's simulated calls: AAC frames, an MP4, and a playlist of transport stream segments, all of
//! the same two synthetic voices (`voices/make.sh`).
//!
//! As in `voices`, what is served is derived by cutting after whole frames or segments and by labels that no
//! decoder hears, so the length after decoding is known without a decoder.

use bytes::Bytes;

use super::voices::{Audio, id3};

const BANK: &[u8] = include_bytes!("voices/bank-16k-mono.aac");
const CLINIC: &[u8] = include_bytes!("voices/clinic-48k-stereo.aac");
const BANK_MP4: &[u8] = include_bytes!("voices/bank-16k-mono.mp4");
const PLAYLIST: &str = include_str!("voices/bank-16k-mono.m3u8");
const SEGMENTS: [&[u8]; 5] = [
    include_bytes!("voices/bank-16k-mono-0.ts"),
    include_bytes!("voices/bank-16k-mono-1.ts"),
    include_bytes!("voices/bank-16k-mono-2.ts"),
    include_bytes!("voices/bank-16k-mono-3.ts"),
    include_bytes!("voices/bank-16k-mono-4.ts"),
];

/// Samples of an AAC-LC frame.
const FRAME: u64 = 1024;

/// A recording as a playlist and its segments.
#[derive(Clone, Debug)]
pub struct Playlist {
    /// The playlist itself, with the length of what it plays.
    pub audio: Audio,
    /// Names as the playlist writes them, and their bytes.
    pub segments: Vec<(String, Bytes)>,
}

/// AAC in ADTS frames, `keep_percent` of the conversation, with an ID3 tag that names the file.
pub fn aac(choice: u64, keep_percent: u64, label: &str) -> Audio {
    let (source, rate) = if choice.is_multiple_of(3) {
        (CLINIC, 48_000)
    } else {
        (BANK, 16_000)
    };
    let ends = adts_ends(source);
    let kept = (ends.len() as u64 * keep_percent.clamp(1, 100)).div_ceil(100) as usize;
    let end = ends.get(kept.saturating_sub(1)).copied().unwrap_or(0);
    let mut bytes = id3(label);
    bytes.extend_from_slice(&source[..end]);
    Audio {
        bytes: bytes.into(),
        mime: "audio/aac",
        duration_ms: kept as u64 * FRAME * 1000 / rate,
    }
}

/// The whole conversation in an MP4, with a `free` box that names the file.
pub fn mp4(label: &str) -> Audio {
    let mut bytes = BANK_MP4.to_vec();
    bytes.extend_from_slice(&(8 + label.len() as u32).to_be_bytes());
    bytes.extend_from_slice(b"free");
    bytes.extend_from_slice(label.as_bytes());
    Audio {
        bytes: bytes.into(),
        mime: "video/mp4",
        duration_ms: adts_ends(BANK).len() as u64 * FRAME * 1000 / 16_000,
    }
}

/// The first `keep` segments; the file's name stands in a packet that no demuxer looks at.
pub fn hls(keep: usize, stem: &str, label: &str) -> Playlist {
    let lengths: Vec<f64> = PLAYLIST
        .lines()
        .filter_map(|line| {
            line.strip_prefix("#EXTINF:")?
                .trim_end_matches(',')
                .parse()
                .ok()
        })
        .collect();
    let keep = keep.clamp(1, SEGMENTS.len().min(lengths.len()));
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n## {label}\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n"
    );
    let mut segments = Vec::new();
    for (n, (bytes, length)) in SEGMENTS.iter().zip(&lengths).take(keep).enumerate() {
        let name = format!("{stem}_{n}.ts");
        text.push_str(&format!("#EXTINF:{length:.6},\n{name}\n"));
        let mut bytes = bytes.to_vec();
        bytes.extend(null_packet(&format!("{label} {n}")));
        segments.push((name, bytes.into()));
    }
    text.push_str("#EXT-X-ENDLIST\n");
    let seconds: f64 = lengths[..keep].iter().sum();
    Playlist {
        audio: Audio {
            bytes: text.into(),
            mime: "application/vnd.apple.mpegurl",
            duration_ms: (seconds * 1000.0).round() as u64,
        },
        segments,
    }
}

/// A packet of stuffing (PID 0x1FFF) that carries a text.
fn null_packet(text: &str) -> Vec<u8> {
    let mut packet = vec![0x47, 0x1f, 0xff, 0x10];
    packet.extend(text.bytes().take(184));
    packet.resize(188, 0xff);
    packet
}

/// Where each ADTS frame ends.
fn adts_ends(aac: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while let Some(&[0xff, _, _, c, d, e, _]) = aac.get(at..at + 7) {
        let length = usize::from(c & 3) << 11 | usize::from(d) << 3 | usize::from(e) >> 5;
        if length < 7 || at + length > aac.len() {
            break;
        }
        at += length;
        ends.push(at);
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_committed_file_is_whole_and_as_long_as_its_playlist_says() {
        for (source, rate, seconds) in [(BANK, 16_000.0, 12.736), (CLINIC, 48_000.0, 11.562_666)] {
            let ends = adts_ends(source);
            assert_eq!(*ends.last().unwrap(), source.len());
            let length = ends.len() as f64 * 1024.0 / rate;
            assert!((length - seconds).abs() < 0.001, "{length}");
        }
        let whole = hls(5, "x", "label");
        assert_eq!(whole.audio.duration_ms, 12_736);
        assert_eq!(adts_ends(BANK).len() as u64 * 64, whole.audio.duration_ms);
        for (_, segment) in &whole.segments {
            assert_eq!(segment.len() % 188, 0);
        }
    }

    #[test]
    fn two_files_never_share_their_bytes() {
        assert_ne!(aac(0, 90, "a").bytes, aac(0, 90, "b").bytes);
        assert_ne!(mp4("a").bytes, mp4("b").bytes);
        let (one, other) = (hls(2, "s", "a"), hls(2, "s", "b"));
        assert_ne!(one.audio.bytes, other.audio.bytes);
        assert_ne!(one.segments[0].1, other.segments[0].1);
    }
}
