//! Speech through every format: as long as what was said to a frame, and what was said; the page lists what the tests hold.

use std::path::Path;

use super::format_tests::{Made, fixture, hear, make, make_as, make_bytes, refusal};
use super::formats::{FORMATS, Outcome, table};
use super::transcode;
use crate::domain::media::{
    AccessSettings, AccessTags, RawAudio, TranscodeJob, TranscodeReport, note,
};

/// What was said, at the access copy's rate, and how alike the copy is: the best correlation within 60 ms.
fn likeness(made: &Made) -> (f64, f64) {
    let (rate, heard) = made.heard.as_ref().unwrap();
    let said = match rate {
        8_000 => "speech-8k.flac",
        16_000 => "speech-16k.flac",
        rate => panic!("no source at {rate} Hz"),
    };
    let (_, said) = hear(&fixture(said));
    let (said, heard) = (&said[0], &heard[0]);
    let most = *rate as usize * 6 / 100;
    let mut best = (0.0, 0.0);
    for lag in 0..=2 * most {
        let (said, heard) = match lag.checked_sub(most) {
            Some(late) => (&said[..], &heard[late.min(heard.len())..]),
            None => (&said[most - lag..], &heard[..]),
        };
        let (mut dot, mut a, mut b) = (0.0, 0.0, 0.0);
        for (x, y) in said.iter().zip(heard) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            dot += x * y;
            a += x * x;
            b += y * y;
        }
        let alike = dot / (a * b).sqrt().max(1e-9);
        if alike > best.0 {
            best = (alike, (lag as f64 - most as f64) / f64::from(*rate));
        }
    }
    best
}

/// Decoded as `codec`, `ms` long within `within_ms`, and at least as `alike` as that, with no more delay than the codec's own.
fn check(name: &str, raw: Option<&str>, codec: &str, ms: i64, within_ms: i64, alike: f64) {
    let made = make_as(&fixture(name), raw.map(|raw| raw.parse().unwrap()));
    let original = made.report.original.as_ref().unwrap();
    let off = original.duration_ms as i64 - ms;
    let (seen, delay) = likeness(&made);
    let what = format!("{name}: {off} ms off, {seen:.4} alike, {delay:.4} s late");
    eprintln!("{what}, {:?}", made.report.notes);
    assert_eq!(original.codec, codec, "{name}");
    assert_eq!(made.report.notes, [""; 0], "{name}");
    assert!(off.abs() <= within_ms && seen >= alike, "{what}");
    assert!((-0.002..0.03).contains(&delay), "{what}");
}

#[test]
fn speech_in_every_format_is_what_was_said() {
    check("speech-amr-nb.amr", None, "amr_nb", 2500, 20, 0.8);
    check("speech-amr-nb.3gp", None, "amr_nb", 2500, 20, 0.8);
    check("speech-amr-wb.awb", None, "amr_wb", 2500, 20, 0.9);
    check("speech-amr-wb.3gp", None, "amr_wb", 2500, 20, 0.9);
    check("speech-opus.ogg", None, "opus", 2500, 20, 0.9);
    check("speech-opus-60ms.ogg", None, "opus", 2500, 60, 0.9);
    check("speech-opus-stereo.webm", None, "opus", 2500, 20, 0.9);
    check("speech-gsm.wav", None, "gsm", 2500, 40, 0.9);
    check("speech-rf64.wav", None, "pcm_mulaw", 2500, 0, 0.99);
    check("speech-aac-lc-16k.3gp", None, "aac", 2500, 0, 0.9);
    check("speech-video-moov-last.mp4", None, "aac", 2500, 0, 0.9);
    check(
        "speech.ul",
        Some("mulaw/8000/1"),
        "pcm_mulaw",
        2500,
        0,
        0.99,
    );
    check("speech.al", Some("alaw/8000/1"), "pcm_alaw", 2500, 0, 0.99);
    check("speech.g722", Some("g722"), "adpcm_g722", 2500, 0, 0.99);
    check("speech.g729", Some("g729"), "g729", 2500, 10, 0.8);
    check("speech-gsm.gsm", Some("gsm"), "gsm", 2500, 20, 0.9);
}

#[test]
fn comfort_noise_fills_the_pauses_of_amr() {
    let made = make(&fixture("speech-amr-nb-dtx.amr"));
    // A second of faint noise behind the speech; frames that were not sent count in full.
    assert_eq!(made.report.original.as_ref().unwrap().frames, 28_000);
    assert_eq!(made.report.notes, [""; 0]);
    assert!(likeness(&made).0 > 0.7);
}

#[test]
fn sound_without_a_header_is_not_guessed_at() {
    for name in ["speech.ul", "speech.g722", "speech.g729", "speech-gsm.gsm"] {
        assert_eq!(refusal(&make(&fixture(name))), note::UNDECODABLE, "{name}");
    }
    // What a source declares never overrules a signature.
    let raw = "mulaw/8000/1".parse().ok();
    let made = make_as(&fixture("speech-opus.ogg"), raw);
    assert_eq!(made.report.original.unwrap().codec, "opus");
}

#[test]
fn a_wrong_declaration_is_refused_with_the_choices() {
    let read = |text: &str| text.parse::<RawAudio>();
    assert_eq!(read("g722").unwrap().to_string(), "g722/16000/1");
    assert_eq!(read("alaw/16000/2").unwrap().to_string(), "alaw/16000/2");
    for wrong in [
        "",
        "mp3",
        "gsm/16000/1",
        "mulaw/0/1",
        "mulaw/8000/3",
        "mulaw/8000/1/1",
        "mulaw/x",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    assert!(read("ulaw").unwrap_err().contains("mulaw, alaw"));
}

#[test]
fn each_line_of_the_list_is_true() {
    for format in FORMATS {
        assert!(!format.fixtures.is_empty(), "{format:?}");
        for name in format.fixtures {
            let raw = match format.outcome {
                Outcome::Declared(raw) => raw.parse().ok(),
                _ => None,
            };
            let made = make_as(&fixture(name), raw);
            let codec = made.report.original.as_ref().map_or("", |o| &o.codec);
            let is_pcm = format.codec.starts_with("pcm_s16le and") && codec.starts_with("pcm_");
            assert!(codec == format.codec || is_pcm, "{name}: {codec}");
            match format.outcome {
                Outcome::Refused(why) => assert_eq!(refusal(&made), why, "{name}"),
                _ => assert!(made.report.access.is_some(), "{name}"),
            }
        }
    }
}

#[test]
fn the_page_holds_the_list() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audio.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains(&table()),
        "put this into docs/audio.md:\n{}",
        table()
    );
    for code in note::ALL {
        assert!(
            page.contains(&format!("| `{code}` |")),
            "docs/audio.md does not explain {code}"
        );
    }
}

/// Real speech in real formats, where `CALLVAULT_SAMPLES` points (its `manifest.tsv` has the truth).
#[test]
fn the_shared_samples_decode_to_their_length() {
    let Some(folder) = std::env::var_os("CALLVAULT_SAMPLES").map(std::path::PathBuf::from) else {
        eprintln!("skipped: CALLVAULT_SAMPLES is not set");
        return;
    };
    let manifest = std::fs::read_to_string(folder.join("manifest.tsv")).unwrap();
    for line in manifest.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let (file, codec) = (fields[0], fields[3]);
        let (rate, channels): (u32, u16) =
            (fields[4].parse().unwrap(), fields[5].parse().unwrap_or(0));
        let seconds: f64 = fields[7].parse().unwrap();
        let raw = match file.rsplit('.').next() {
            Some("g722") => "g722".parse().ok(),
            Some("ul") => "mulaw/8000/1".parse().ok(),
            Some("al") => "alaw/8000/1".parse().ok(),
            Some("gsm") => "gsm".parse().ok(),
            _ => None,
        };
        let made = make_as(&folder.join(file), raw);
        let seen = (made.report.original.as_ref(), &made.report.notes);
        eprintln!("{file}: {seen:?}");
        let is_he = codec == "aac/HE-AACv2";
        if seconds == 0.0 || codec == "adpcm_g726" {
            assert!(made.report.access.is_none(), "{file}");
            continue;
        }
        if is_he && cfg!(not(feature = "he-aac")) {
            assert_eq!(refusal(&made), note::HE_AAC_UNSUPPORTED, "{file}");
            continue;
        }
        let original = made.report.original.as_ref().unwrap();
        assert_eq!(
            (original.sample_rate_hz, original.channels),
            (rate, channels),
            "{file}"
        );
        // One frame of the codec; damaged files have no exact truth.
        let tolerance = if file.starts_with("bad/") {
            0.2
        } else {
            2304.0 / f64::from(rate)
        };
        let decoded = original.frames as f64 / f64::from(rate);
        assert!(
            (decoded - seconds).abs() <= tolerance,
            "{file}: {decoded} s, should be {seconds} s"
        );
        let (heard_rate, heard) = made.heard.as_ref().unwrap();
        let heard_seconds = heard[0].len() as f64 / f64::from(*heard_rate);
        assert!(
            (heard_seconds - decoded).abs() < 0.001,
            "{file}: access copy of {heard_seconds} s"
        );
    }
}

fn with(name: &str, settings: AccessSettings) -> (TranscodeReport, Option<Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    let job = TranscodeJob {
        input: fixture(name),
        raw: None,
        mp3: folder.path().join("access.mp3"),
        waveform: folder.path().join("waveform.json"),
        settings,
        tags: AccessTags::default(),
    };
    let report = transcode::transcode(&job).unwrap();
    assert!(job.waveform.exists());
    (report, std::fs::read(&job.mp3).ok())
}

#[test]
fn an_mp3_within_the_limits_is_its_own_access_copy() {
    let defaults = AccessSettings::default();
    let (report, made) = with("mp3-8k-mono.mp3", defaults);
    assert!(report.access_is_original && made.is_none());
    let access = report.access.unwrap();
    assert_eq!((access.sample_rate_hz, access.duration_ms), (8000, 1500));
    // Without its length in it, at too high a rate, at too many bits, or when nobody wants it: a copy is made.
    let low = AccessSettings {
        bitrate_kbps: 8,
        ..defaults
    };
    let never = AccessSettings {
        use_original_mp3: false,
        ..defaults
    };
    for (name, settings) in [
        ("mp3-16k-mono-noxing.mp3", defaults),
        ("mp3-44k-joint-stereo-vbr.mp3", defaults),
        ("mp3-8k-mono.mp3", low),
        ("mp3-8k-mono.mp3", never),
    ] {
        let (report, made) = with(name, settings);
        assert!(!report.access_is_original && made.is_some(), "{name}");
    }
}

#[test]
fn a_damaged_mp3_gets_a_copy_of_what_is_there() {
    let bytes = std::fs::read(fixture("mp3-8k-mono.mp3")).unwrap();
    let made = make_bytes(&bytes[..bytes.len() * 2 / 3]);
    assert!(!made.report.access_is_original && made.report.access.is_some());
    assert_eq!(made.report.notes, [note::SHORT]);
}

#[test]
fn normalising_brings_the_copy_to_the_target() {
    let settings = AccessSettings {
        normalise: true,
        ..AccessSettings::default()
    };
    let loudness = |bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.mp3");
        std::fs::write(&path, bytes).unwrap();
        let analysis = transcode::probe(&path, None).unwrap().analysis.unwrap();
        analysis.loudness_lufs.unwrap()
    };
    let (plain, copy) = with("speech-16k.flac", AccessSettings::default());
    let before = loudness(&copy.unwrap());
    let (report, copy) = with("speech-16k.flac", settings);
    let after = loudness(&copy.unwrap());
    assert!((after + 23.0).abs() < 0.5, "from {before} to {after} LUFS");
    assert_eq!(report.analysis, plain.analysis, "of the original, as it is");
    let gain = report.settings["gain_db"].as_f64().unwrap();
    assert!((after - before - gain).abs() < 0.3, "{gain} dB");
}
