//! Two parties' recordings of one call in one stereo MP3: each on its own channel, each file where its stamp puts it.
//!
//! What a newcomer gets wrong: adding up rounded lengths. A file's place is counted from its stamp in samples of the output, and within
//! a file only decoded samples count, so that nothing of our own drifts, however long the call is.

use serde_json::json;

use super::MediaError;
use super::decode::{self, Block, Opened, Stream};
use super::mp3::{self, Mp3Writer};
use super::resample::Resampler;
use super::transcode::{access_rate_hz, duration_ms, in_order, tool};
use crate::domain::media::{AccessFacts, PairJob, PairPiece, TranscodeReport, note};

/// Silence and what is decoded come in steps of this many samples at most.
const STEP_FRAMES: usize = 4096;

/// Makes the joint access copy, or says why there is none: a side without a sample has nothing to say.
///
/// Without a copy (and after an error) the output file does not exist. The same job makes the same bytes.
pub fn pair(job: &PairJob) -> Result<TranscodeReport, MediaError> {
    if let Some(problem) = job.settings.problem() {
        return Err(MediaError::Settings(problem));
    }
    let result = make(job);
    if !matches!(&result, Ok(report) if report.access.is_some()) {
        // Nothing to remove is the usual case; what cannot be removed the spool's sweep removes.
        let _ = std::fs::remove_file(&job.mp3);
    }
    result
}

fn make(job: &PairJob) -> Result<TranscodeReport, MediaError> {
    let rate_hz = access_rate_hz(job.sample_rate_hz, &job.settings);
    let bitrate_kbps = job.settings.bitrate_kbps * 2;
    let mut writer = Mp3Writer::create(&job.mp3, rate_hz, 2, bitrate_kbps, &job.tags)?;
    let mut sides = [
        Side::new(&job.left, rate_hz),
        Side::new(&job.right, rate_hz),
    ];
    let mut planes = vec![Vec::new(), Vec::new()];
    loop {
        for side in &mut sides {
            side.fill()?;
        }
        // Who has ended is silent until the other one ends too.
        let ready = sides.iter().filter(|s| !s.ready.is_empty());
        let Some(frames) = ready.map(|s| s.ready.len()).min() else {
            break;
        };
        for (side, plane) in sides.iter_mut().zip(&mut planes) {
            plane.clear();
            let from_it = frames.min(side.ready.len());
            plane.extend(side.ready.drain(..from_it));
            plane.resize(frames, 0.0);
        }
        writer.push(&planes)?;
    }
    let decoded: Vec<u64> = sides.iter().map(|side| side.decoded).collect();
    let mut notes: Vec<&'static str> = sides.iter().flat_map(|side| side.notes.clone()).collect();
    if decoded.contains(&0) {
        notes.push(note::NO_AUDIO);
        return Ok(report(None, notes, serde_json::Value::Null));
    }
    let written = writer.finish()?;
    let settings = json!({
        "bitrate_kbps": bitrate_kbps,
        "sample_rate_hz": rate_hz,
        "max_sample_rate_hz": job.settings.max_sample_rate_hz,
        "mode": "stereo",
        "quality": mp3::QUALITY,
    });
    let access = AccessFacts {
        sample_rate_hz: rate_hz,
        channels: 2,
        duration_ms: duration_ms(written.frames, rate_hz),
        bytes: written.bytes,
    };
    Ok(report(Some(access), notes, settings))
}

fn report(
    access: Option<AccessFacts>,
    notes: Vec<&'static str>,
    settings: serde_json::Value,
) -> TranscodeReport {
    TranscodeReport {
        original: None,
        declared: None,
        analysis: None,
        no_access_reason: access.is_none().then(|| note::NO_AUDIO.to_owned()),
        access,
        access_is_original: false,
        notes: in_order(&notes),
        tool: tool(),
        settings,
    }
}

/// One channel: its files in the order in which they play.
struct Side<'a> {
    pieces: std::slice::Iter<'a, PairPiece>,
    rate_hz: u32,
    playing: Option<Playing>,
    /// A file that waits until its time has come.
    next: Option<&'a PairPiece>,
    /// Samples of the output that were handed to `ready`.
    at: u64,
    decoded: u64,
    ready: Vec<f32>,
    notes: Vec<&'static str>,
}

struct Playing {
    stream: Box<Stream>,
    gain: f32,
    resampler: Option<Resampler>,
    mono: Vec<Vec<f32>>,
    lost: u64,
}

impl<'a> Side<'a> {
    fn new(pieces: &'a [PairPiece], rate_hz: u32) -> Self {
        Self {
            pieces: pieces.iter(),
            rate_hz,
            playing: None,
            next: None,
            at: 0,
            decoded: 0,
            ready: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Puts something into `ready` unless it holds something, or all has ended.
    fn fill(&mut self) -> Result<(), MediaError> {
        while self.ready.is_empty() {
            if let Some(playing) = self.playing.take() {
                self.play(playing)?;
            } else if let Some(piece) = self.next.take().or_else(|| self.pieces.next()) {
                // What begins before the one before it has ended begins at that one's end.
                let begins = piece.at_ms * u64::from(self.rate_hz) / 1000;
                match usize::try_from(begins.saturating_sub(self.at)) {
                    Ok(0) => self.open(piece)?,
                    silent => {
                        let silent = silent.unwrap_or(STEP_FRAMES).min(STEP_FRAMES);
                        self.ready.resize(silent, 0.0);
                        self.at += silent as u64;
                        self.next = Some(piece);
                    }
                }
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    fn open(&mut self, piece: &PairPiece) -> Result<(), MediaError> {
        match decode::open(&piece.input, piece.raw.as_ref())? {
            Opened::Stream(stream) => {
                self.playing = Some(Playing {
                    stream,
                    gain: 10f32.powf(piece.gain_cb as f32 / 2000.0),
                    resampler: None,
                    mono: vec![Vec::new()],
                    lost: 0,
                });
            }
            Opened::Refused { reason, .. } => self.notes.push(reason),
        }
        Ok(())
    }

    /// The next samples of the file; without any it has ended.
    fn play(&mut self, mut playing: Playing) -> Result<(), MediaError> {
        let rate_hz = self.rate_hz;
        let mut ready = vec![std::mem::take(&mut self.ready)];
        let block = playing.stream.next_block()?;
        let is_over = block.is_none();
        if let Some(Block {
            rate_hz: from_hz,
            planes,
        }) = block
        {
            let mono = &mut playing.mono[0];
            mono.clear();
            mix(planes, playing.gain, mono);
            self.decoded += mono.len() as u64;
            // What could not be decoded took its time all the same.
            let lost = playing.stream.lost_frames();
            let hole = usize::try_from(lost - playing.lost).unwrap_or(0);
            playing.lost = lost;
            mono.splice(0..0, std::iter::repeat_n(0.0, hole));
            if from_hz == rate_hz {
                ready[0].append(mono);
            } else {
                let resampler = match &mut playing.resampler {
                    Some(resampler) => resampler,
                    none => none.insert(Resampler::new(from_hz, rate_hz, 1)?),
                };
                resampler.push(&playing.mono, &mut ready)?;
            }
        } else if let Some(resampler) = &mut playing.resampler {
            resampler.finish(&mut ready)?;
        }
        self.ready = ready.pop().unwrap_or_default();
        self.at += self.ready.len() as u64;
        if is_over {
            let found = playing.stream.found();
            let noted = [
                (found.short, note::SHORT),
                (found.truncated, note::TRUNCATED_AUDIO),
                (found.decode_errors > 0, note::DECODE_ERRORS),
                (found.format_changed, note::FORMAT_CHANGED),
            ];
            let noted = noted.into_iter().filter(|(is_so, _)| *is_so);
            self.notes.extend(noted.map(|(_, code)| code));
        } else {
            self.playing = Some(playing);
        }
        Ok(())
    }
}

/// One voice, whatever the file's channels.
fn mix(planes: &[Vec<f32>], gain: f32, mono: &mut Vec<f32>) {
    let gain = gain / planes.len().max(1) as f32;
    let frames = planes.first().map_or(0, Vec::len);
    mono.extend((0..frames).map(|i| {
        let sum: f32 = planes.iter().map(|plane| plane[i]).sum();
        (sum * gain).clamp(-1.0, 1.0)
    }));
}
