//! One pass from the original to access copy, waveform and findings; the work of a decoder child.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use serde_json::json;

use super::MediaError;
use super::decode::{self, Block, Found, Opened};
use super::meter::{self, Meter};
use super::mp3::{self, Mp3Writer};
use super::resample::Resampler;
use super::waveform::Peaks;
use crate::domain::media::{
    AccessFacts, AccessSettings, Analysis, AudioFacts, RawAudio, TranscodeJob, TranscodeReport,
    note,
};

/// Makes the access copy and the waveform of `job.input`, or says why there is none.
///
/// Without an access copy (and after an error) neither of the two output files exists. The same input, settings and
/// version make the same bytes.
pub fn transcode(job: &TranscodeJob) -> Result<TranscodeReport, MediaError> {
    if let Some(problem) = job.settings.problem() {
        return Err(MediaError::Settings(problem));
    }
    let result = make(job);
    if !matches!(&result, Ok(report) if report.access.is_some()) {
        for path in [&job.mp3, &job.waveform] {
            // Nothing to remove is the usual case; what cannot be removed the spool's sweep removes.
            let _ = std::fs::remove_file(path);
        }
    }
    result
}

fn make(job: &TranscodeJob) -> Result<TranscodeReport, MediaError> {
    let run = |plan| run(&job.input, job.raw.as_ref(), plan);
    let gain = match job.settings.normalise {
        true => gain_for(run(Plan::Look)?.analysis.as_ref()),
        false => 1.0,
    };
    if job.settings.use_original_mp3 && !job.settings.normalise {
        let report = run(Plan::Serve(job))?;
        // What only the whole file tells (damage, mostly) may still ask for a copy of our own.
        if report.access.is_some() || report.no_access_reason.is_some() {
            return Ok(report);
        }
    }
    run(Plan::Make { job, gain })
}

/// What to do with the decoded samples.
#[derive(Clone, Copy)]
enum Plan<'a> {
    /// Only look.
    Look,
    /// Make the access copy, unless the original can serve as one.
    Serve(&'a TranscodeJob),
    /// Make the access copy, so much louder.
    Make { job: &'a TranscodeJob, gain: f32 },
}

/// The loudness that `normalise` aims at (EBU R128).
const TARGET_LUFS: f64 = -23.0;
/// Peaks stay below: the encoder adds a little of its own.
const HIGHEST_PEAK_DBFS: f64 = -1.0;
/// More than that would lift noise into speech.
const MOST_GAIN_DB: f64 = 20.0;

/// The factor that brings what was analysed to the target.
fn gain_for(analysis: Option<&Analysis>) -> f32 {
    10f64.powf(gain_db(analysis) / 20.0) as f32
}

/// How many decibels bring it there.
pub fn gain_db(analysis: Option<&Analysis>) -> f64 {
    let Some((loudness, peak)) = analysis.and_then(|a| a.loudness_lufs.zip(a.peak_dbfs)) else {
        return 0.0;
    };
    let wanted = (TARGET_LUFS - loudness).clamp(-MOST_GAIN_DB, MOST_GAIN_DB);
    let room = HIGHEST_PEAK_DBFS - peak;
    wanted.min(room)
}

/// Decodes `input` and reports what it is; writes nothing.
pub fn probe(input: &Path, raw: Option<&RawAudio>) -> Result<TranscodeReport, MediaError> {
    run(input, raw, Plan::Look)
}

/// Name and versions of what makes access copies, for the manifest.
pub fn tool() -> String {
    format!(
        "callvault {} (symphonia 0.6, rubato 5, {})",
        env!("CARGO_PKG_VERSION"),
        mp3::tool()
    )
}

fn run(
    input: &Path,
    raw: Option<&RawAudio>,
    plan: Plan<'_>,
) -> Result<TranscodeReport, MediaError> {
    let mut stream = match decode::open(input, raw)? {
        Opened::Stream(stream) => stream,
        Opened::Refused { reason, codec } => {
            let original = codec.map(|codec| AudioFacts {
                codec,
                sample_rate_hz: 0,
                channels: 0,
                duration_ms: 0,
                frames: 0,
            });
            return Ok(without_access(original, reason, vec![reason]));
        }
    };
    let mut desk: Option<Desk> = None;
    let stream_kbps = stream.playable_mp3_kbps();
    while let Some(Block { rate_hz, planes }) = stream.next_block()? {
        let desk = match &mut desk {
            Some(desk) => desk,
            none => {
                let kbps = stream_kbps;
                none.insert(Desk::new(rate_hz, planes.len(), plan, kbps)?)
            }
        };
        desk.push(planes)?;
    }
    let found = stream.found();
    let mut notes = decode_notes(&found);
    let Some(desk) = desk.filter(|_| !stream.is_noise()) else {
        let (original, reason) = if stream.is_noise() {
            (None, note::UNDECODABLE)
        } else {
            (Some(facts(&found)), note::NO_AUDIO)
        };
        notes.push(reason);
        return Ok(without_access(original, reason, notes));
    };
    if desk.source_channels > 2 {
        notes.push(note::MIXED_DOWN);
    }
    let serves = desk.output.as_ref().is_some_and(|o| o.writer.is_none());
    // A damaged original does not serve: the caller comes back with another plan.
    let desk = match serves && !notes.is_empty() {
        true => Desk {
            output: None,
            ..desk
        },
        false => desk,
    };
    let (analysis, access, settings) = desk.finish(input)?;
    notes.extend(meter::notes(&analysis, found.frames));
    if header_differs(&found) {
        notes.push(note::HEADER_DIFFERS);
    }
    Ok(TranscodeReport {
        original: Some(facts(&found)),
        declared: Some(found.declared),
        analysis: Some(analysis),
        access_is_original: serves && access.is_some(),
        access,
        no_access_reason: None,
        notes: in_order(&notes),
        tool: tool(),
        settings,
    })
}

fn facts(found: &Found) -> AudioFacts {
    AudioFacts {
        codec: found.codec.clone(),
        sample_rate_hz: found.rate_hz,
        channels: u16::try_from(found.channels).unwrap_or(u16::MAX),
        duration_ms: duration_ms(found.frames, found.rate_hz),
        frames: found.frames,
    }
}

/// Whether the header tells another rate, other channels or (well) less sound than was decoded. More than was decoded is
/// `short`.
fn header_differs(found: &Found) -> bool {
    // In HE-AAC the header tells of the core, at half the rate.
    if found.codec == "he_aac" {
        return false;
    }
    let declared = &found.declared;
    let decoded_ms = duration_ms(found.frames, found.rate_hz);
    let is_longer = |declared: u64| decoded_ms > declared + 500.max(declared / 50);
    declared
        .sample_rate_hz
        .is_some_and(|hz| hz != found.rate_hz)
        || declared
            .channels
            .is_some_and(|n| usize::from(n) != found.channels)
        || declared.duration_ms.is_some_and(is_longer)
}

pub(super) fn duration_ms(frames: u64, rate_hz: u32) -> u64 {
    let rate = u64::from(rate_hz.max(1));
    (frames * 1000 + rate / 2) / rate
}

fn decode_notes(found: &Found) -> Vec<&'static str> {
    let noted = [
        (found.short, note::SHORT),
        (found.truncated, note::TRUNCATED_AUDIO),
        (found.decode_errors > 0, note::DECODE_ERRORS),
        (found.format_changed, note::FORMAT_CHANGED),
        (found.too_long, note::TOO_LONG),
    ];
    noted
        .into_iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, code)| code)
        .collect()
}

pub(super) fn in_order(notes: &[&'static str]) -> Vec<String> {
    let known = note::ALL.iter().filter(|code| notes.contains(code));
    known.map(|code| (*code).to_owned()).collect()
}

fn without_access(
    original: Option<AudioFacts>,
    reason: &'static str,
    mut notes: Vec<&'static str>,
) -> TranscodeReport {
    notes.push(reason);
    TranscodeReport {
        original,
        declared: None,
        analysis: None,
        access: None,
        access_is_original: false,
        no_access_reason: Some(reason.into()),
        notes: in_order(&notes),
        tool: tool(),
        settings: serde_json::Value::Null,
    }
}

/// Where the decoded samples go: one look at each, then to the encoder.
struct Desk<'a> {
    source_rate_hz: u32,
    source_channels: usize,
    mixed: Vec<Vec<f32>>,
    meter: Meter,
    output: Option<Output<'a>>,
}

struct Output<'a> {
    job: &'a TranscodeJob,
    peaks: Peaks,
    resampler: Option<Resampler>,
    resampled: Vec<Vec<f32>>,
    /// `None` when the original serves.
    writer: Option<Mp3Writer>,
    gain: f32,
    louder: Vec<Vec<f32>>,
    frames: u64,
    rate_hz: u32,
    channels: usize,
    bitrate_kbps: u32,
}

impl<'a> Desk<'a> {
    fn new(
        source_rate_hz: u32,
        source_channels: usize,
        plan: Plan<'a>,
        mp3_kbps: Option<u32>,
    ) -> Result<Self, MediaError> {
        // Two channels are two people and stay apart; more are a conference or a film and become one.
        let channels = if source_channels == 2 { 2 } else { 1 };
        Ok(Self {
            source_rate_hz,
            source_channels,
            mixed: Vec::new(),
            meter: Meter::new(source_rate_hz, channels),
            output: match plan {
                Plan::Look => None,
                Plan::Make { job, gain } => {
                    Some(Output::new(job, source_rate_hz, channels, gain, false)?)
                }
                Plan::Serve(job) => {
                    let serves = source_channels <= 2
                        && source_rate_hz <= job.settings.max_sample_rate_hz
                        && mp3_kbps.is_some_and(|kbps| {
                            kbps <= job.settings.bitrate_kbps * channels as u32
                        });
                    Some(Output::new(job, source_rate_hz, channels, 1.0, serves)?)
                }
            },
        })
    }

    fn push(&mut self, planes: &[Vec<f32>]) -> Result<(), MediaError> {
        let planes = if planes.len() > 2 {
            mix_down(planes, &mut self.mixed);
            &self.mixed
        } else {
            planes
        };
        self.meter.push(planes);
        match &mut self.output {
            Some(output) => output.push(planes),
            None => Ok(()),
        }
    }

    fn finish(
        self,
        input: &Path,
    ) -> Result<(Analysis, Option<AccessFacts>, serde_json::Value), MediaError> {
        let analysis = self.meter.analysis();
        match self.output {
            None => Ok((analysis, None, serde_json::Value::Null)),
            Some(output) => {
                let (access, settings) = output.finish(input, self.source_rate_hz)?;
                Ok((analysis, Some(access), settings))
            }
        }
    }
}

impl<'a> Output<'a> {
    fn new(
        job: &'a TranscodeJob,
        source_rate_hz: u32,
        channels: usize,
        gain: f32,
        original_serves: bool,
    ) -> Result<Self, MediaError> {
        let rate_hz = access_rate_hz(source_rate_hz, &job.settings);
        let bitrate_kbps = job.settings.bitrate_kbps * channels as u32;
        Ok(Self {
            job,
            peaks: Peaks::new(channels),
            resampler: (rate_hz != source_rate_hz)
                .then(|| Resampler::new(source_rate_hz, rate_hz, channels))
                .transpose()?,
            resampled: vec![Vec::new(); channels],
            writer: match original_serves {
                true => None,
                false => Some(Mp3Writer::create(
                    &job.mp3,
                    rate_hz,
                    channels,
                    bitrate_kbps,
                    &job.tags,
                )?),
            },
            gain,
            louder: Vec::new(),
            frames: 0,
            rate_hz,
            channels,
            bitrate_kbps,
        })
    }

    fn push(&mut self, planes: &[Vec<f32>]) -> Result<(), MediaError> {
        self.peaks.push(planes);
        self.frames += planes.first().map_or(0, Vec::len) as u64;
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let mut planes = planes;
        if self.gain != 1.0 {
            self.louder.resize(planes.len(), Vec::new());
            for (louder, plane) in self.louder.iter_mut().zip(planes) {
                louder.clear();
                louder.extend(plane.iter().map(|s| (s * self.gain).clamp(-1.0, 1.0)));
            }
            planes = &self.louder;
        }
        let Some(resampler) = &mut self.resampler else {
            return writer.push(planes);
        };
        self.resampled.iter_mut().for_each(Vec::clear);
        resampler.push(planes, &mut self.resampled)?;
        writer.push(&self.resampled)
    }

    fn finish(
        mut self,
        input: &Path,
        source_rate_hz: u32,
    ) -> Result<(AccessFacts, serde_json::Value), MediaError> {
        if let (Some(resampler), Some(writer)) = (&mut self.resampler, &mut self.writer) {
            self.resampled.iter_mut().for_each(Vec::clear);
            resampler.finish(&mut self.resampled)?;
            writer.push(&self.resampled)?;
        }
        let waveform = File::create(&self.job.waveform).map_err(MediaError::Output)?;
        self.peaks
            .write(source_rate_hz, BufWriter::new(waveform))
            .map_err(MediaError::Output)?;
        let (frames, bytes, settings) = match self.writer {
            None => {
                let bytes = input.metadata().map_err(MediaError::Input)?.len();
                (self.frames, bytes, json!({ "is_original": true }))
            }
            Some(writer) => {
                let written = writer.finish()?;
                let mut settings = json!({
                    "bitrate_kbps": self.bitrate_kbps,
                    "sample_rate_hz": self.rate_hz,
                    "max_sample_rate_hz": self.job.settings.max_sample_rate_hz,
                    "mode": if self.channels == 1 { "mono" } else { "stereo" },
                    "quality": mp3::QUALITY,
                });
                if self.job.settings.normalise {
                    let db = 20.0 * f64::from(self.gain).log10();
                    settings["gain_db"] = ((db * 100.0).round() / 100.0).into();
                }
                (written.frames, written.bytes, settings)
            }
        };
        let access = AccessFacts {
            sample_rate_hz: self.rate_hz,
            channels: self.channels as u16,
            duration_ms: duration_ms(frames, self.rate_hz),
            bytes,
        };
        Ok((access, settings))
    }
}

/// The rate of the access copy: the source's if an MP3 can have it and it is not too high, else the next one up.
pub(super) fn access_rate_hz(source_hz: u32, settings: &AccessSettings) -> u32 {
    let next = AccessSettings::MP3_RATES_HZ
        .iter()
        .find(|rate| **rate >= source_hz);
    next.copied()
        .unwrap_or(u32::MAX)
        .min(settings.max_sample_rate_hz)
}

/// Sums the channels so that one speaker among many stays audible: divided by the root of their number.
fn mix_down(planes: &[Vec<f32>], mixed: &mut Vec<Vec<f32>>) {
    mixed.resize(1, Vec::new());
    let gain = (planes.len() as f32).sqrt().recip();
    let frames = planes.first().map_or(0, Vec::len);
    let mono = &mut mixed[0];
    mono.clear();
    mono.resize(frames, 0.0);
    for plane in planes {
        for (sum, sample) in mono.iter_mut().zip(plane) {
            *sum += sample * gain;
        }
    }
    for sample in mono {
        *sample = sample.clamp(-1.0, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_access_rate_is_one_that_an_mp3_can_have() {
        let settings = AccessSettings::default();
        for (source, access) in [
            (8_000, 8_000),
            (11_025, 11_025),
            (16_000, 16_000),
            (22_050, 16_000),
            (44_100, 16_000),
            (192_000, 16_000),
            (7_350, 8_000),
            (14_000, 16_000),
            (1_000, 8_000),
        ] {
            assert_eq!(access_rate_hz(source, &settings), access, "{source}");
        }
    }

    #[test]
    fn mixing_down_keeps_one_speaker_audible_and_never_overflows() {
        let mut mixed = Vec::new();
        let silent = vec![0.0; 3];
        mix_down(
            &[vec![0.5; 3], silent.clone(), silent.clone(), silent],
            &mut mixed,
        );
        assert_eq!(mixed, [vec![0.25; 3]]);
        mix_down(&[vec![1.0], vec![1.0], vec![1.0]], &mut mixed);
        assert_eq!(mixed, [vec![1.0]]);
    }
}
