//! Tells from the first bytes what a body is, for the parent process: cheap, safe, and without any decoder.

use crate::domain::media::{NotARecording, SniffClass, Sniffed};

/// As many bytes from the start of a body as [`sniff`] makes use of.
pub const PREFIX_BYTES: usize = 4096;

/// What `prefix`, the first bytes of a body (all of them when it is shorter than [`PREFIX_BYTES`]), say it is.
pub fn sniff(prefix: &[u8]) -> Sniffed {
    if let Some(not) = not_a_recording(prefix) {
        let (ext, mime) = match not {
            NotARecording::Empty => ("bin", "application/octet-stream"),
            NotARecording::Html => ("bin", "text/html"),
            NotARecording::Xml => ("bin", "application/xml"),
            NotARecording::Json => ("bin", "application/json"),
            NotARecording::Text => ("bin", "text/plain"),
        };
        return sniffed(ext, mime, SniffClass::NotARecording(not));
    }
    match container(prefix) {
        Some((ext, mime)) => sniffed(ext, mime, SniffClass::Audio),
        None if is_prose(prefix) => {
            let class = SniffClass::NotARecording(NotARecording::Text);
            sniffed("bin", "text/plain", class)
        }
        None => sniffed("bin", "application/octet-stream", SniffClass::Unknown),
    }
}

/// Whether `prefix` starts with a signature that no sound without a header has by chance. Frame headers of MPEG and ADTS
/// are none: in mu-law and A-law any two bytes may follow each other.
pub(super) fn has_signature(prefix: &[u8]) -> bool {
    container(prefix).is_some() && !adts_frames(prefix) && !mpeg_frames(prefix)
}

fn sniffed(ext: &str, mime: &str, class: SniffClass) -> Sniffed {
    Sniffed {
        ext: ext.into(),
        mime: mime.into(),
        class,
    }
}

fn container(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const MP3: (&str, &str) = ("mp3", "audio/mpeg");
    const AAC: (&str, &str) = ("aac", "audio/aac");
    let at = |from: usize, to: usize| bytes.get(from..to).unwrap_or_default();
    if super::hls::is_playlist(bytes) {
        return Some(("m3u8", "application/vnd.apple.mpegurl"));
    }
    if super::ts::is_stream(bytes) {
        return Some(("ts", "video/mp2t"));
    }
    let magic4 = at(0, 4);
    if matches!(magic4, b"RIFF" | b"RF64" | b"BW64") && at(8, 12) == b"WAVE" {
        return Some(("wav", "audio/wav"));
    }
    if at(0, 3) == b"ID3" {
        // Nearly always an MP3; the stream behind the tag decides when it is within sight.
        let behind = id3v2_bytes(bytes).and_then(|n| bytes.get(usize::try_from(n).ok()?..));
        return Some(match behind {
            Some([0xFF, b, ..]) if b & 0xF6 == 0xF0 => AAC,
            Some(rest) if rest.starts_with(b"fLaC") => ("flac", "audio/flac"),
            _ => MP3,
        });
    }
    match magic4 {
        b"OggS" => return Some(("ogg", "audio/ogg")),
        b"fLaC" => return Some(("flac", "audio/flac")),
        b"ADIF" => return Some(AAC),
        b"\x1A\x45\xDF\xA3" => {
            let head = at(0, bytes.len().min(64));
            return Some(if find(head, b"webm") {
                ("webm", "audio/webm")
            } else {
                ("mkv", "audio/x-matroska")
            });
        }
        _ => {}
    }
    if bytes.starts_with(b"#!AMR-WB") {
        return Some(("awb", "audio/amr-wb"));
    }
    if bytes.starts_with(b"#!AMR") {
        return Some(("amr", "audio/amr"));
    }
    match at(4, 8) {
        b"ftyp" => {
            return Some(match at(8, 11) {
                b"M4A" | b"M4B" => ("m4a", "audio/mp4"),
                b"3gp" | b"3g2" => ("3gp", "audio/3gpp"),
                _ => ("mp4", "video/mp4"),
            });
        }
        b"moov" | b"mdat" | b"moof" | b"styp" | b"sidx" => return Some(("mp4", "video/mp4")),
        _ => {}
    }
    if adts_frames(bytes) {
        return Some(AAC);
    }
    mpeg_frames(bytes).then_some(MP3)
}

/// Length of an ID3v2 tag at the start of `bytes`, its header and footer included (id3.org, ID3v2.4 section 3.1).
pub(super) fn id3v2_bytes(bytes: &[u8]) -> Option<u64> {
    let head = bytes.get(..10)?;
    let sizes = &head[6..10];
    if &head[..3] != b"ID3" || head[3] == 0xFF || sizes.iter().any(|b| b & 0x80 != 0) {
        return None;
    }
    let size = sizes.iter().fold(0u64, |n, b| n << 7 | u64::from(*b));
    let footer = if head[5] & 0x10 == 0 { 0 } else { 10 };
    Some(10 + size + footer)
}

/// ADTS: sync word, layer 0, a known rate, and the next frame where the first one says (if that is in sight).
fn adts_frames(bytes: &[u8]) -> bool {
    let frame = |b: &[u8]| -> Option<usize> {
        let h = b.get(..7)?;
        let length =
            usize::from(h[3] & 0x03) << 11 | usize::from(h[4]) << 3 | usize::from(h[5]) >> 5;
        (h[0] == 0xFF && h[1] & 0xF6 == 0xF0 && h[2] >> 2 & 0x0F < 13 && length > 7)
            .then_some(length)
    };
    match frame(bytes) {
        None => false,
        Some(length) => match bytes.get(length..) {
            Some(rest) if rest.len() >= 7 => frame(rest).is_some(),
            _ => true,
        },
    }
}

/// MPEG audio, any layer: two frame headers in a row, or one when the second is out of sight.
fn mpeg_frames(bytes: &[u8]) -> bool {
    match mpeg_frame_bytes(bytes) {
        None => false,
        Some(length) => match bytes.get(length..) {
            Some(rest) if rest.len() >= 4 => mpeg_frame_bytes(rest).is_some(),
            _ => true,
        },
    }
}

/// Length of the MPEG layer III frame whose header stands at the start of `bytes` (ISO/IEC 11172-3, 13818-3).
pub(super) fn mpeg_frame_bytes(bytes: &[u8]) -> Option<usize> {
    const V1: [usize; 14] = [
        32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ];
    const V2: [usize; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let h = bytes.get(..4)?;
    let (version, layer) = (h[1] >> 3 & 3, h[1] >> 1 & 3);
    let (bitrate, rate) = (usize::from(h[2] >> 4), usize::from(h[2] >> 2 & 3));
    if h[0] != 0xFF || h[1] & 0xE0 != 0xE0 || version == 1 || layer != 1 {
        return None;
    }
    if bitrate == 0 || bitrate == 15 || rate == 3 {
        return None;
    }
    let (kbps, factor, divisor) = match version {
        3 => (V1[bitrate - 1], 144_000, 1),
        2 => (V2[bitrate - 1], 72_000, 2),
        _ => (V2[bitrate - 1], 72_000, 4),
    };
    let hz = [44_100, 48_000, 32_000][rate] / divisor;
    Some(kbps * factor / hz + usize::from(h[2] >> 1 & 1))
}

/// Error pages and answers of an API that came with status 200.
fn not_a_recording(prefix: &[u8]) -> Option<NotARecording> {
    let text = unspace(prefix);
    if text.is_empty() {
        return Some(NotARecording::Empty);
    }
    // Text has no control bytes; a sound that starts like text has some within its first bytes.
    let is_text = |b: &u8| *b >= 0x20 && *b != 0x7F || matches!(b, b'\t' | b'\n' | b'\r' | 0x0C);
    if !text.iter().take(512).all(is_text) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    match lower.first()? {
        b'<' => {
            let html = [&b"<html"[..], b"<!doctype html", b"<head", b"<body"];
            if html.iter().any(|tag| find(&lower, tag)) {
                return Some(NotARecording::Html);
            }
            let next = *lower.get(1)?;
            (next.is_ascii_alphabetic() || matches!(next, b'?' | b'!'))
                .then_some(NotARecording::Xml)
        }
        b'{' => matches!(unspace(&lower[1..]).first(), None | Some(b'"' | b'}'))
            .then_some(NotARecording::Json),
        b'[' => match unspace(&lower[1..]).first() {
            None | Some(b'{' | b'[' | b'"' | b']' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                Some(NotARecording::Json)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Words in UTF-8 from the first to the last byte in sight. No sound is: sampled speech is no valid UTF-8
/// for long, and every container has control bytes. A playlist names sounds and is none of these.
fn is_prose(prefix: &[u8]) -> bool {
    let cut = match std::str::from_utf8(prefix) {
        Ok(text) => text,
        // The prefix may end within a character.
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(&prefix[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let printable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{c}');
    !cut.is_empty() && cut.chars().all(printable) && !cut.starts_with("#EXTM3U")
}

/// `bytes` as 8-bit text without its byte order mark and leading blanks; UTF-16 loses its zero bytes.
fn unspace(bytes: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => rest.to_vec(),
        [0xFF, 0xFE, rest @ ..] | [0xFE, 0xFF, rest @ ..]
            if rest.iter().take(64).any(|b| *b == 0) =>
        {
            rest.iter().copied().filter(|b| *b != 0).collect()
        }
        _ => bytes.to_vec(),
    };
    let start = text
        .iter()
        .position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0C))
        .unwrap_or(text.len());
    text[start..].to_vec()
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(bytes: &[u8]) -> SniffClass {
        sniff(bytes).class
    }

    fn ext(bytes: &[u8]) -> String {
        sniff(bytes).ext
    }

    #[test]
    fn error_pages_are_not_recordings() {
        use NotARecording::{Empty, Html, Json, Text, Xml};
        let cases: &[(&[u8], NotARecording)] = &[
            (b"", Empty),
            (b" \r\n\t ", Empty),
            (b"\xEF\xBB\xBF", Empty),
            (b"<!DOCTYPE html><html><body>502", Html),
            (b"\xEF\xBB\xBF\n\n  <HTML>\n", Html),
            (b"<?xml version=\"1.0\"?><html xmlns=\"x\">", Html),
            (b"<!-- nginx --><html>", Html),
            (b"\xFF\xFE<\0h\0t\0m\0l\0>\0", Html),
            (
                b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>",
                Xml,
            ),
            (b"  <Error><Code>NoSuchKey</Code></Error>", Xml),
            (b"{\"code\":404,\"msg\":\"\xE4\xB8\x8D\"}", Json),
            (b"\r\n { \"code\" : 1 }", Json),
            (b"{}", Json),
            (b"[]", Json),
            (b"[{\"a\":1}]", Json),
            (b"{\"msg\":\"\xB2\xBB\xB4\xE6\xD4\xDA\"}", Json), // GBK, not UTF-8
            (b"Not Found", Text),
            (b"[error] no such file", Text),
            ("\u{8bf7}\u{6c42}\u{8d85}\u{65f6}".as_bytes(), Text),
        ];
        for (bytes, expected) in cases {
            let seen = class(bytes);
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(seen, SniffClass::NotARecording(*expected), "{text}");
        }
    }

    #[test]
    fn sound_that_starts_like_text_is_no_error_page() {
        for start in [&b"{\""[..], b"<html", b"[1", b"   {\""] {
            let mut bytes = start.to_vec();
            bytes.extend([0x00, 0x01, 0xFF, 0x7F].repeat(100));
            assert_eq!(class(&bytes), SniffClass::Unknown);
        }
        // A playlist names sounds; silence in mu-law is no text.
        assert_eq!(class(b"#EXTM3U\n#EXT-X-VERSION:3\n"), SniffClass::Audio);
        assert_eq!(class(&[0xFF; 4096]), SniffClass::Unknown);
    }

    #[test]
    fn containers_are_known_by_their_first_bytes() {
        let cases: &[(&[u8], &str)] = &[
            (b"RIFF\x24\0\0\0WAVEfmt ", "wav"),
            (b"RF64\xFF\xFF\xFF\xFFWAVEds64", "wav"),
            (b"RIFF\x24\0\0\0AVI LIST", "bin"),
            (b"ID3\x04\0\0\0\0\x02\x01", "mp3"),
            (b"\xFF\xFB\x90\x00", "mp3"),
            (b"\xFF\xE3\x18\xC4", "mp3"),
            (b"\xFF\xF1\x50\x80\x02\x1F\xFC", "aac"),
            (b"\0\0\0\x20ftypM4A \0\0", "m4a"),
            (b"\0\0\0\x20ftypisom\0\0", "mp4"),
            (b"\0\0\0\x14ftyp3gp4\0\0", "3gp"),
            (b"#!AMR\n\x3C", "amr"),
            (b"#!AMR-WB\n\x44", "awb"),
            (b"OggS\0\x02", "ogg"),
            (b"\x1A\x45\xDF\xA3\x9F\x42\x82\x84webm", "webm"),
            (b"\x1A\x45\xDF\xA3\x9F\x42\x82\x88matroska", "mkv"),
            (b"fLaC\0\0\0\x22", "flac"),
            (b"#EXTM3U\n#EXT-X-VERSION:3\n", "m3u8"),
            (b"\0\0\0\x18stypmsdh", "mp4"),
            (b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "bin"),
            (b"\x80\x80\x80\x80\x80\x80\x80\x80", "bin"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(&ext(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn the_stream_behind_an_id3_tag_decides() {
        let mut bytes = b"ID3\x04\0\0\0\0\0\x02xx".to_vec();
        assert_eq!(id3v2_bytes(&bytes), Some(12));
        bytes.extend(b"\xFF\xF1\x50\x80\x02\x1F\xFC");
        assert_eq!(ext(&bytes), "aac");
        // A size with a high bit set is no ID3 tag.
        assert_eq!(id3v2_bytes(b"ID3\x04\0\0\x80\0\0\x02"), None);
    }

    #[test]
    fn a_false_sync_without_a_second_frame_is_not_mp3() {
        let mut bytes = b"\xFF\xFB\x90\x00".to_vec();
        bytes.resize(2000, 0x55);
        assert_eq!(ext(&bytes), "bin");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let _ = sniff(&bytes);
        }
    }
}
