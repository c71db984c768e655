//! The sound of the simulated calls: committed conversations of two synthetic voices, cut and labelled so that
//! every call has bytes of its own and a known length.
//!
//! The files are made by `voices/make.sh`. What is served is derived from them by cutting only (MP3 after a
//! whole frame, WAV after a whole sample), so the length after decoding is known without a decoder.

use bytes::Bytes;

/// A recording as a vendor hands it out.
#[derive(Clone, Debug)]
pub struct Audio {
    pub bytes: Bytes,
    pub mime: &'static str,
    /// Length after decoding, in whole milliseconds (rounded down).
    pub duration_ms: u64,
}

/// Formats that Feiyu sends: MP3, mono at 8 and 16 kHz, and stereo.
const FEIYU: [&[u8]; 3] = [
    include_bytes!("voices/order-8k-mono.mp3"),
    include_bytes!("voices/invoice-16k-mono.mp3"),
    include_bytes!("voices/router-16k-stereo.mp3"),
];

/// Formats that Alibaba sends: WAV at 8 kHz as A-law, mu-law and PCM, and stereo PCM.
const ALIYUN: [&[u8]; 4] = [
    include_bytes!("voices/taxi-8k-mono-alaw.wav"),
    include_bytes!("voices/dentist-8k-mono-mulaw.wav"),
    include_bytes!("voices/parcel-8k-mono-pcm.wav"),
    include_bytes!("voices/hotel-8k-stereo-pcm.wav"),
];

/// What NetEase's server recording makes: AAC of each party, and MP4 with a picture. Made by `voices/make-aac.sh`.
const PARTIES: [&[u8]; 2] = [
    include_bytes!("voices/maple-agent-16k.aac"),
    include_bytes!("voices/maple-caller-16k.aac"),
];
const MIX: &[u8] = include_bytes!("voices/maple-mix-16k.mp4");
const PICTURED: &[u8] = include_bytes!("voices/maple-agent-16k.mp4");
/// By the edit list of both.
const MP4_MS: u64 = 13_307;

/// An MP3 of a call, `keep_percent` of the conversation, with an ID3v2.3 tag that names the call.
pub fn mp3(choice: u64, keep_percent: u64, label: &str) -> Audio {
    let source = FEIYU[(choice % FEIYU.len() as u64) as usize];
    let frames = mp3_frames(source);
    let kept = (frames.len() as u64 * keep_percent.clamp(1, 100)).div_ceil(100) as usize;
    let kept = &frames[..kept.min(frames.len())];
    let end = kept.last().map_or(0, |frame| frame.end);
    let mut bytes = id3(label);
    bytes.extend_from_slice(&source[..end]);
    let samples: u64 = kept.iter().map(|frame| frame.samples).sum();
    let rate = kept.first().map_or(8000, |frame| frame.rate_hz);
    Audio {
        bytes: bytes.into(),
        mime: "audio/mpeg",
        duration_ms: samples * 1000 / rate,
    }
}

/// A WAV of a call, `keep_permille` of the conversation, with a comment chunk that names the call.
pub fn wav(choice: u64, keep_permille: u64, label: &str) -> Audio {
    let source = ALIYUN[(choice % ALIYUN.len() as u64) as usize];
    let Some((format, data)) = wav_chunks(source) else {
        return Audio {
            bytes: Bytes::new(),
            mime: "audio/wav",
            duration_ms: 0,
        };
    };
    let rate = u64::from(u32::from_le_bytes([
        format[4], format[5], format[6], format[7],
    ]));
    let block = usize::from(u16::from_le_bytes([format[12], format[13]])).max(1);
    let samples = (data.len() / block) as u64;
    let kept = (samples * keep_permille.clamp(1, 1000))
        .div_ceil(1000)
        .min(samples);
    let data = &data[..kept as usize * block];
    let mut chunks = Vec::with_capacity(data.len() + 200);
    chunks.extend_from_slice(b"WAVE");
    chunk(&mut chunks, b"fmt ", format);
    let mut info = b"INFO".to_vec();
    chunk(&mut info, b"ICMT", format!("{label}\0").as_bytes());
    chunk(&mut chunks, b"LIST", &info);
    chunk(&mut chunks, b"data", data);
    let mut bytes = Vec::with_capacity(chunks.len() + 8);
    chunk(&mut bytes, b"RIFF", &chunks);
    Audio {
        bytes: bytes.into(),
        mime: "audio/x-wav",
        duration_ms: kept * 1000 / rate.max(1),
    }
}

/// Frames of 1024 samples at 16 kHz.
const AAC_FRAME_MS: u64 = 64;

/// An ADTS file of one party (of two), `keep_percent` of the conversation. The bits that the format sets aside
/// for a copyright number carry `label`, so that every call has bytes of its own and sounds the same.
pub fn aac(party: usize, keep_percent: u64, label: u64) -> Audio {
    let source = PARTIES[party % PARTIES.len()];
    let frames = adts_frames(source);
    let kept = (frames.len() as u64 * keep_percent.clamp(1, 100)).div_ceil(100) as usize;
    let kept = &frames[..kept.min(frames.len())];
    let mut bytes = source[..kept.last().map_or(0, |frame| frame.end)].to_vec();
    for (bit, frame) in kept.iter().enumerate().take(64) {
        if label >> bit & 1 == 1 {
            // copyright_identification_bit of ISO/IEC 13818-7, section 6.2.2.
            bytes[frame.start + 3] |= 0x08;
        }
    }
    Audio {
        bytes: bytes.into(),
        mime: "audio/aac",
        duration_ms: kept.len() as u64 * AAC_FRAME_MS,
    }
}

/// An MP4 with a picture: both parties together, or the first alone. A box that every reader skips names the call.
pub fn mp4(mixed: bool, label: &str) -> Audio {
    let mut bytes = if mixed { MIX } else { PICTURED }.to_vec();
    let size = 8 + label.len() as u32;
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(b"free");
    bytes.extend_from_slice(label.as_bytes());
    Audio {
        bytes: bytes.into(),
        mime: "video/mp4",
        duration_ms: MP4_MS,
    }
}

/// Where each ADTS frame lies; every frame of the committed files.
fn adts_frames(adts: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(head) = adts.get(at..at + 7) {
        let len = (usize::from(head[3] & 3) << 11)
            | (usize::from(head[4]) << 3)
            | usize::from(head[5] >> 5);
        if head[0] != 0xff || head[1] & 0xf6 != 0xf0 || len < 7 || at + len > adts.len() {
            break;
        }
        frames.push(at..at + len);
        at += len;
    }
    frames
}

fn chunk(out: &mut Vec<u8>, name: &[u8; 4], body: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    if body.len() % 2 == 1 {
        out.push(0);
    }
}

/// The bodies of the `fmt ` and `data` chunks; none when `wav` is not one of ours.
fn wav_chunks(wav: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = wav.get(12..)?;
    let mut format = None;
    while rest.len() >= 8 {
        let size = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        let body = rest.get(8..8 + size)?;
        match &rest[..4] {
            b"fmt " if size >= 16 => format = Some(body),
            b"data" => return Some((format?, body)),
            _ => {}
        }
        rest = rest.get(8 + size + size % 2..)?;
    }
    None
}

struct Frame {
    end: usize,
    samples: u64,
    rate_hz: u64,
}

/// The frames of a layer III stream of MPEG 2 or 2.5 (16 kHz and below), which is what the committed files are.
fn mp3_frames(mp3: &[u8]) -> Vec<Frame> {
    const KBPS: [u64; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(&[sync, head, rates, _]) = mp3.get(at..at + 4) {
        let (version, layer) = (head >> 3 & 3, head >> 1 & 3);
        let base = match version {
            2 => [22_050, 24_000, 16_000],
            0 => [11_025, 12_000, 8_000],
            _ => break,
        };
        let (Some(&kbps), Some(&rate_hz)) = (
            KBPS.get(usize::from(rates >> 4)),
            base.get(usize::from(rates >> 2 & 3)),
        ) else {
            break;
        };
        let len = (72_000 * kbps / rate_hz + u64::from(rates >> 1 & 1)) as usize;
        if sync != 0xff || head < 0xe0 || layer != 1 || kbps == 0 || at + len > mp3.len() {
            break;
        }
        at += len;
        frames.push(Frame {
            end: at,
            samples: 576,
            rate_hz,
        });
    }
    frames
}

/// An ID3v2.3 tag with one comment, `label` in Latin-1.
pub fn id3(label: &str) -> Vec<u8> {
    let mut comment = vec![0];
    comment.extend_from_slice(b"eng\0");
    comment.extend_from_slice(label.as_bytes());
    let mut frame = b"COMM".to_vec();
    frame.extend_from_slice(&(comment.len() as u32).to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&comment);
    let size = frame.len() as u32;
    let mut tag = b"ID3\x03\0\0".to_vec();
    // A tag's own size is written with seven bits to the byte.
    tag.extend((0..4).rev().map(|n| (size >> (7 * n) & 0x7f) as u8));
    tag.extend_from_slice(&frame);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_committed_mp3_is_frames_to_its_last_byte() {
        for (source, seconds) in FEIYU.iter().zip([19.296, 12.816, 13.5]) {
            let frames = mp3_frames(source);
            assert_eq!(frames.last().unwrap().end, source.len());
            let length = frames.len() as f64 * 576.0 / frames[0].rate_hz as f64;
            assert!((length - seconds).abs() < 0.001, "{length}");
        }
    }

    #[test]
    fn a_cut_wav_says_how_long_it_is() {
        for choice in 0..4 {
            let audio = wav(choice, 700, "100001^200002");
            let riff = u32::from_le_bytes(audio.bytes[4..8].try_into().unwrap()) as usize;
            assert_eq!(riff + 8, audio.bytes.len());
            let (format, data) = wav_chunks(&audio.bytes).unwrap();
            let rate = u32::from_le_bytes(format[8..12].try_into().unwrap()) as usize;
            assert_eq!((data.len() * 1000 / rate) as u64, audio.duration_ms);
            assert!(audio.duration_ms > 4_000);
        }
    }

    /// Samples of one channel, as a decoder that is not ours hears them, in milliseconds.
    fn heard_ms(audio: &Audio) -> u64 {
        use symphonia::core::formats::{FormatOptions, TrackType, probe::Hint};
        use symphonia::core::io::MediaSourceStream;
        let source = std::io::Cursor::new(audio.bytes.to_vec());
        let source = MediaSourceStream::new(Box::new(source), Default::default());
        let mut format = symphonia::default::get_probe()
            .probe(
                &Hint::new(),
                source,
                FormatOptions::default(),
                Default::default(),
            )
            .unwrap();
        let track = format.default_track(TrackType::Audio).unwrap();
        let params = track
            .codec_params
            .as_ref()
            .unwrap()
            .audio()
            .unwrap()
            .clone();
        let mut decoder = symphonia::default::get_codecs()
            .make_audio_decoder(&params, &Default::default())
            .unwrap();
        let mut frames = 0;
        while let Some(packet) = format.next_packet().unwrap() {
            frames += decoder.decode(&packet).unwrap().frames() as u64;
        }
        frames * 1000 / u64::from(params.sample_rate.unwrap())
    }

    #[test]
    fn a_decoder_hears_exactly_the_length_that_the_ledger_names() {
        for choice in 0..4 {
            for keep in [70, 83, 100] {
                for audio in [
                    mp3(choice, keep, "0A1B@fy"),
                    wav(choice, keep * 10 - 3, "1^2"),
                ] {
                    assert_eq!(
                        heard_ms(&audio),
                        audio.duration_ms,
                        "{} {choice}",
                        audio.mime
                    );
                }
            }
        }
    }

    #[test]
    fn every_committed_adts_file_is_frames_to_its_last_byte() {
        for (party, source) in PARTIES.iter().enumerate() {
            assert_eq!(adts_frames(source).last().unwrap().end, source.len());
            for keep in [50, 100] {
                let audio = aac(party, keep, u64::MAX);
                assert_eq!(heard_ms(&audio), audio.duration_ms);
            }
        }
        assert_ne!(aac(0, 90, 1).bytes, aac(0, 90, 2).bytes);
        assert_ne!(mp4(true, "a").bytes, mp4(true, "b").bytes);
    }

    #[test]
    fn two_calls_never_share_their_bytes() {
        assert_ne!(mp3(0, 90, "a").bytes, mp3(0, 90, "b").bytes);
        assert_ne!(wav(0, 900, "a").bytes, wav(0, 900, "b").bytes);
    }
}
