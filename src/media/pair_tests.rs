//! Where two parties' voices lie in the joint copy, measured against what was said: by correlation, and over an hour.

use std::path::{Path, PathBuf};

use super::format_tests::{fixture, hear};
use super::pair;
use crate::domain::media::{AccessSettings, AccessTags, PairJob, PairPiece, TranscodeReport, note};

fn piece(input: &Path, at_ms: u64) -> PairPiece {
    PairPiece {
        input: input.to_owned(),
        raw: None,
        at_ms,
        gain_cb: 0,
    }
}

fn joined(
    left: Vec<PairPiece>,
    right: Vec<PairPiece>,
    rate: u32,
) -> (TranscodeReport, Option<Vec<Vec<f32>>>) {
    let folder = tempfile::tempdir().unwrap();
    let job = PairJob {
        left,
        right,
        sample_rate_hz: rate,
        mp3: folder.path().join("joint.mp3"),
        settings: AccessSettings::default(),
        tags: AccessTags::default(),
    };
    let report = pair::pair(&job).unwrap();
    assert_eq!(job.mp3.exists(), report.access.is_some());
    let heard = report.access.as_ref().map(|access| {
        let (heard_rate, heard) = hear(&job.mp3);
        assert_eq!((heard_rate, heard.len()), (access.sample_rate_hz, 2));
        assert_eq!(access.bytes, std::fs::metadata(&job.mp3).unwrap().len());
        heard
    });
    (report, heard)
}

/// Where `said` begins in `heard`, within 80 ms of `at_ms`, and how alike the two are there.
fn found(said: &[f32], heard: &[f32], at_ms: u64, rate: u32) -> (f64, f64) {
    let (at, most) = (
        (at_ms * u64::from(rate) / 1000) as i64,
        i64::from(rate) * 8 / 100,
    );
    let mut best = (0.0, f64::NAN);
    for lag in -most..=most {
        let begin = at + lag;
        let (said, begin) = match usize::try_from(begin) {
            Ok(begin) => (said, begin),
            Err(_) => (&said[begin.unsigned_abs() as usize..], 0),
        };
        let heard = &heard[begin.min(heard.len())..];
        let (mut dot, mut a, mut b) = (0.0, 0.0, 0.0);
        for (x, y) in said.iter().zip(heard) {
            dot += f64::from(x * y);
            a += f64::from(x * x);
            b += f64::from(y * y);
        }
        let alike = dot / (a * b).sqrt().max(1e-9);
        if alike > best.0 {
            best = (alike, lag as f64 * 1000.0 / f64::from(rate));
        }
    }
    best
}

fn loudest(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |most, s| s.abs().max(most))
}

#[test]
fn each_voice_lies_where_its_stamp_puts_it() {
    // Other rates and codecs on either side; before, after, at one moment, and after a long gap.
    let (_, said) = hear(&fixture("speech-16k.flac"));
    let said = &said[0];
    for (left, left_at, right, right_at) in [
        ("speech-16k.flac", 0, "speech-amr-nb.amr", 1_234),
        ("speech-gsm.wav", 2_345, "speech-16k.flac", 0),
        ("speech-opus.ogg", 0, "speech-amr-wb.awb", 0),
        (
            "speech-aac-lc-16k.3gp",
            61_500,
            "speech-video-moov-last.mp4",
            0,
        ),
    ] {
        let (report, heard) = joined(
            vec![piece(&fixture(left), left_at)],
            vec![piece(&fixture(right), right_at)],
            48_000,
        );
        let heard = heard.unwrap();
        assert_eq!(report.access.as_ref().unwrap().sample_rate_hz, 16_000);
        for (name, channel, at_ms) in [(left, &heard[0], left_at), (right, &heard[1], right_at)] {
            let (alike, off_ms) = found(said, channel, at_ms, 16_000);
            eprintln!("{name} at {at_ms} ms: {off_ms:.2} ms off, {alike:.3} alike");
            // A codec's own delay, which its file does not tell, is not ours.
            assert!(
                alike > 0.7 && (-2.0..30.0).contains(&off_ms),
                "{name}: {off_ms} ms, {alike}"
            );
            // Before its stamp there is nothing of it, and nothing of the other one leaks into it.
            let before = (at_ms * 16) as usize;
            assert!(
                loudest(&channel[..before.saturating_sub(1600)]) < 0.01,
                "{name}"
            );
        }
    }
}

#[test]
fn slices_of_one_person_follow_each_other_and_the_gap_between_them_is_silent() {
    let speech = fixture("speech-16k.flac");
    let (_, said) = hear(&speech);
    let ends = said[0].len();
    let (report, heard) = joined(
        vec![piece(&speech, 0), piece(&speech, 10_000)],
        // The second stamp is a little early: it begins where the first one has ended.
        vec![piece(&speech, 500), piece(&speech, 2_900)],
        16_000,
    );
    let heard = heard.unwrap();
    let (left, right) = (&heard[0], &heard[1]);
    assert_eq!(left.len(), 160_000 + ends);
    assert_eq!(report.access.unwrap().duration_ms as usize, left.len() / 16);
    for (channel, at_ms) in [(left, 0), (left, 10_000), (right, 500)] {
        let (alike, off_ms) = found(&said[0], channel, at_ms, 16_000);
        assert!(
            alike > 0.9 && off_ms.abs() < 1.0,
            "{at_ms}: {off_ms} {alike}"
        );
    }
    let second_ms = 500 + ends as u64 / 16;
    let (alike, off_ms) = found(&said[0], right, second_ms, 16_000);
    assert!(alike > 0.9 && off_ms.abs() < 1.0, "{off_ms} {alike}");
    assert!(loudest(&left[ends + 1600..160_000 - 1600]) < 0.005);
}

/// An hour of silence as 8-bit PCM with a short burst every ten minutes.
fn hour(path: PathBuf, rate: u32) -> PathBuf {
    use std::io::Write as _;
    let frames = rate * 3600;
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let mut head = b"RIFF".to_vec();
    head.extend((36 + frames).to_le_bytes());
    head.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    head.extend(rate.to_le_bytes());
    head.extend(rate.to_le_bytes());
    head.extend(b"\x01\0\x08\0data");
    head.extend(frames.to_le_bytes());
    file.write_all(&head).unwrap();
    let second: Vec<u8> = vec![128; rate as usize];
    let mut burst = second.clone();
    for (i, sample) in burst.iter_mut().take(rate as usize / 10).enumerate() {
        let turns = i as f64 * 700.0 / f64::from(rate);
        *sample = (128.0 + 90.0 * (turns * std::f64::consts::TAU).sin()) as u8;
    }
    for n in 0..3600 {
        let is_burst = n % 600 == 0 || n == 3599;
        file.write_all(if is_burst { &burst } else { &second })
            .unwrap();
    }
    file.flush().unwrap();
    path
}

#[test]
fn nothing_drifts_over_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    // A rate that has to be resampled beside one that has not.
    let left = hour(folder.path().join("left.wav"), 11_025);
    let right = hour(folder.path().join("right.wav"), 8_000);
    let (report, heard) = joined(vec![piece(&left, 0)], vec![piece(&right, 250)], 11_025);
    let heard = heard.unwrap();
    assert_eq!(report.access.unwrap().duration_ms, 3_600_250);
    let begins = |channel: &[f32], second: usize| {
        let from = second * 11_025;
        let loud = channel[from..].iter().position(|s| s.abs() > 0.3);
        loud.unwrap() as f64 * 1000.0 / 11_025.0
    };
    for second in [0, 600, 1800, 3000, 3599] {
        let (left, right) = (begins(&heard[0], second), begins(&heard[1], second));
        eprintln!("{second} s: left {left:.2} ms, right {right:.2} ms");
        // A burst rises over some milliseconds; 50 ms would be the bar.
        assert!((-1.0..4.0).contains(&left) && (left + 246.0..left + 254.0).contains(&right));
    }
}

#[test]
fn a_side_that_cannot_be_heard_makes_no_joint_copy_and_a_cut_one_is_joined_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let speech = fixture("speech-16k.flac");
    let junk = folder.path().join("junk.wav");
    std::fs::write(&junk, [b"RIFF".as_slice(), &[9; 5000]].concat()).unwrap();
    let (report, _) = joined(vec![piece(&speech, 0)], vec![piece(&junk, 0)], 16_000);
    assert!(report.access.is_none());
    assert_eq!(report.no_access_reason.as_deref(), Some(note::NO_AUDIO));

    let cut = folder.path().join("cut.awb");
    let whole = std::fs::read(fixture("speech-amr-wb.awb")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2 + 7]).unwrap();
    let (report, heard) = joined(vec![piece(&speech, 0)], vec![piece(&cut, 400)], 16_000);
    let heard = heard.unwrap();
    let (_, said) = hear(&speech);
    let half = said[0].len() * 4 / 10;
    let (alike, off_ms) = found(&said[0][..half], &heard[1], 400, 16_000);
    assert!(
        alike > 0.7 && (-2.0..30.0).contains(&off_ms),
        "{off_ms} {alike}"
    );
    let (alike, _) = found(&said[0], &heard[0], 0, 16_000);
    assert!(alike > 0.9, "the other side is whole: {alike}");
    assert!(
        report.notes.contains(&note::TRUNCATED_AUDIO.to_owned()),
        "{:?}",
        report.notes
    );
}

#[test]
fn the_same_job_makes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let job = PairJob {
            left: vec![piece(&fixture("speech-gsm.wav"), 300)],
            right: vec![piece(&fixture("speech-opus.ogg"), 0)],
            sample_rate_hz: 48_000,
            mp3: folder.path().join(name),
            settings: AccessSettings::default(),
            tags: AccessTags::default(),
        };
        pair::pair(&job).unwrap();
        std::fs::read(&job.mp3).unwrap()
    };
    assert_eq!(make("one.mp3"), make("two.mp3"));
}
