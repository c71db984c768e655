//! What an access copy costs, beside ffmpeg with the same rate, channels and bitrate where it is installed.
//!
//! `cargo bench --bench transcode`. Times are wall clock; both work on one core. ffmpeg's include starting it, which a
//! warm decoder child does not pay for.

use std::path::{Path, PathBuf};
use std::process::Command;

use callvault::domain::media::{AccessSettings, AccessTags, TranscodeJob};
use callvault::media::transcode;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Three minutes, the usual call.
const SECONDS: u32 = 180;

struct Case {
    name: &'static str,
    rate_hz: u32,
    channels: u16,
    /// Made from the WAV by ffmpeg.
    encode: Option<&'static [&'static str]>,
}

const CASES: &[Case] = &[
    Case {
        name: "wav-8k-mono.wav",
        rate_hz: 8_000,
        channels: 1,
        encode: None,
    },
    Case {
        name: "wav-16k-stereo.wav",
        rate_hz: 16_000,
        channels: 2,
        encode: None,
    },
    Case {
        name: "aac-16k-mono.m4a",
        rate_hz: 16_000,
        channels: 1,
        encode: Some(&["-c:a", "aac", "-b:a", "32k"]),
    },
    Case {
        name: "aac-44k-stereo.m4a",
        rate_hz: 44_100,
        channels: 2,
        encode: Some(&["-c:a", "aac", "-b:a", "96k"]),
    },
];

/// Syllables of noise and tones with pauses, other ones in each channel: an encoder works on it as it does on speech.
fn wav(path: &Path, rate_hz: u32, channels: u16) {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 16) / 32_768.0 - 1.0
    };
    let mut data = Vec::new();
    for i in 0..rate_hz * SECONDS {
        let t = f64::from(i) / f64::from(rate_hz);
        for channel in 0..channels {
            let speaks = (t / 3.0) as u32 % u32::from(channels).max(2) == u32::from(channel);
            let syllable = if speaks {
                (t * 12.0).sin().max(0.0)
            } else {
                0.0
            };
            let pitch = 120.0 + 40.0 * (t * 1.7).sin();
            let voice: f64 = (1..12)
                .map(|n| (std::f64::consts::TAU * pitch * f64::from(n) * t).sin() / f64::from(n))
                .sum();
            let sample = syllable * (0.2 * voice + 0.03 * noise()) + 0.0005 * noise();
            data.extend(((sample * 32_000.0) as i16).to_le_bytes());
        }
    }
    let block = channels * 2;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((data.len() as u32 + 36).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate_hz.to_le_bytes());
    bytes.extend((rate_hz * u32::from(block)).to_le_bytes());
    bytes.extend(block.to_le_bytes());
    bytes.extend(b"\x10\0data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    std::fs::write(path, bytes).unwrap();
}

fn ffmpeg(input: &Path, options: &[&str], output: &Path) -> bool {
    Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-threads", "1", "-i"])
        .arg(input)
        .args(options)
        .arg(output)
        .status()
        .is_ok_and(|status| status.success())
}

fn input(folder: &Path, case: &Case) -> Option<PathBuf> {
    let path = folder.join(case.name);
    let Some(encode) = case.encode else {
        wav(&path, case.rate_hz, case.channels);
        return Some(path);
    };
    let plain = folder.join("plain.wav");
    wav(&plain, case.rate_hz, case.channels);
    ffmpeg(&plain, encode, &path).then_some(path)
}

fn transcoding(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let settings = AccessSettings::default();
    for case in CASES {
        let Some(input) = input(folder.path(), case) else {
            eprintln!("skipped: {} needs ffmpeg to be made", case.name);
            continue;
        };
        let mut group = c.benchmark_group(case.name);
        group.sample_size(10);
        // Seconds of sound per second.
        group.throughput(Throughput::Elements(SECONDS.into()));
        let job = TranscodeJob {
            input: input.clone(),
            raw: None,
            mp3: folder.path().join("ours.mp3"),
            waveform: folder.path().join("ours.json"),
            settings,
            tags: AccessTags::default(),
        };
        group.bench_function("callvault", |b| {
            b.iter(|| transcode::transcode(&job).unwrap())
        });
        let rate = case.rate_hz.min(settings.max_sample_rate_hz).to_string();
        let bitrate = format!("{}k", settings.bitrate_kbps * u32::from(case.channels));
        let options = [
            "-c:a",
            "libmp3lame",
            "-b:a",
            &bitrate,
            "-ar",
            &rate,
            "-joint_stereo",
            "0",
        ];
        let theirs = folder.path().join("theirs.mp3");
        if ffmpeg(&input, &options, &theirs) {
            group.bench_function("ffmpeg", |b| b.iter(|| ffmpeg(&input, &options, &theirs)));
        }
        group.finish();
    }
}

criterion_group!(benches, transcoding);
criterion_main!(benches);
