//! What an access copy costs, beside ffmpeg with the same rate, channels and bitrate where it is installed.
//!
//! `cargo bench --bench transcode`. Times are wall clock; all work on one core. ffmpeg's include starting it, which a
//! warm decoder child does not pay for. `lame alone` is the floor: the same encoder with the same settings over samples that lie
//! ready in memory, without reading, decoding, resampling, measuring or writing.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;

use callvault::domain::media::{AccessSettings, AccessTags, TranscodeJob};
use callvault::media::transcode;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mp3lame_encoder::{Bitrate, Builder, DualPcm, FlushGap, Mode, MonoPcm, Quality};

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

/// The samples of a 16-bit WAV, one plane per channel.
fn planes(path: &Path, channels: u16) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(path).unwrap();
    let data = bytes.windows(4).position(|name| name == b"data").unwrap() + 8;
    let mut planes = vec![Vec::new(); usize::from(channels)];
    for (i, sample) in bytes[data..].chunks_exact(2).enumerate() {
        let sample = i16::from_le_bytes([sample[0], sample[1]]);
        planes[i % usize::from(channels)].push(f32::from(sample) / 32_768.0);
    }
    planes
}

/// The bytes that the encoder makes with the access copy's default settings.
fn lame_alone(planes: &[Vec<f32>], rate_hz: u32) -> usize {
    const STEP: usize = 4096;
    let is_mono = planes.len() == 1;
    let mut builder = Builder::new().unwrap();
    builder.set_num_channels(planes.len() as u8).unwrap();
    builder.set_sample_rate(rate_hz).unwrap();
    builder
        .set_output_sample_rate(NonZeroU32::new(rate_hz))
        .unwrap();
    builder
        .set_brate(if is_mono {
            Bitrate::Kbps32
        } else {
            Bitrate::Kbps64
        })
        .unwrap();
    builder.set_quality(Quality::Ok).unwrap();
    builder
        .set_mode(if is_mono { Mode::Mono } else { Mode::Stereo })
        .unwrap();
    builder.set_to_write_vbr_tag(false).unwrap();
    let mut encoder = builder.build().unwrap();
    let mut out = Vec::new();
    let mut made = 0;
    for from in (0..planes[0].len()).step_by(STEP) {
        let to = planes[0].len().min(from + STEP);
        out.clear();
        out.reserve(mp3lame_encoder::max_required_buffer_size(to - from));
        made += match planes {
            [mono] => encoder.encode_to_vec(MonoPcm(&mono[from..to]), &mut out),
            both => encoder.encode_to_vec(
                DualPcm {
                    left: &both[0][from..to],
                    right: &both[1][from..to],
                },
                &mut out,
            ),
        }
        .unwrap();
    }
    out.reserve(mp3lame_encoder::max_required_buffer_size(0));
    made + encoder.flush_to_vec::<FlushGap>(&mut out).unwrap()
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
        // What the encoder is given: the decoded sound at the copy's rate.
        let samples = folder.path().join("samples.wav");
        if ffmpeg(&input, &["-c:a", "pcm_s16le", "-ar", &rate], &samples) {
            let planes = planes(&samples, case.channels);
            let rate_hz = case.rate_hz.min(settings.max_sample_rate_hz);
            group.bench_function("lame alone", |b| b.iter(|| lame_alone(&planes, rate_hz)));
        }
        let theirs = folder.path().join("theirs.mp3");
        if ffmpeg(&input, &options, &theirs) {
            group.bench_function("ffmpeg", |b| b.iter(|| ffmpeg(&input, &options, &theirs)));
        }
        group.finish();
    }
}

criterion_group!(benches, transcoding);
criterion_main!(benches);
