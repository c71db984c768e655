//! What a listener would complain about (nobody recorded, one side missing, distortion), and how loud it is.

use ebur128::{EbuR128, Mode};

use super::dtmf::Ear;
use crate::domain::media::{Analysis, ChannelAnalysis, note};

/// The quietest that counts as sound, from lowest to highest sample. A-law's silence is +-8 of 32768, an idle converter
/// flips one bit of 16.
const SILENCE_SPAN: f32 = 32.0 / 32768.0;
/// Full scale of the narrowest code: mu-law ends at 32124 of 32768, A-law at 32256.
const FULL_SCALE: f32 = 32_100.0 / 32_768.0;
/// A stretch of 20 ms is silent when its mean power is below -50 dBFS: room noise, no voice.
const SILENT_POWER: f32 = 1e-5;
const STRETCHES_PER_SECOND: u32 = 50;
/// From this share of silence on, a listener would ask whether anybody spoke.
const MOSTLY: f64 = 0.98;

#[derive(Clone)]
struct Channel {
    low: f32,
    high: f32,
    at_full_scale: u64,
    power: f32,
    silent: u64,
    ear: Ear,
}

/// Watches all decoded samples of one or two channels.
pub struct Meter {
    channels: Vec<Channel>,
    frames: u64,
    /// Frames in a stretch, and in the one under way.
    stretch: u32,
    in_stretch: u32,
    stretches: u64,
    loudness: Option<Loudness>,
}

/// The standard's meter. Above 32 kHz it hears the mean of two or three samples: below 4 kHz, where speech is, that takes less
/// than 1 dB, and half of the meter's time.
struct Loudness {
    meter: EbuR128,
    step: usize,
    /// Samples that wait for their fellows, and what the meter gets, per channel.
    waiting: Vec<Vec<f32>>,
    means: Vec<Vec<f32>>,
}

impl Loudness {
    /// `None` when the rate is beyond what the standard's filters are for.
    fn new(rate_hz: u32, channels: usize) -> Option<Self> {
        let step = (rate_hz / 16_000).max(1);
        let mode = Mode::I | Mode::HISTOGRAM;
        let meter = EbuR128::new(channels as u32, rate_hz / step, mode).ok()?;
        Some(Self {
            meter,
            step: step as usize,
            waiting: vec![Vec::new(); channels],
            means: vec![Vec::new(); channels],
        })
    }

    fn push(&mut self, planes: &[Vec<f32>]) -> Result<(), ebur128::Error> {
        let planes = if self.step == 1 {
            planes
        } else {
            let share = (self.step as f32).recip();
            for ((plane, waiting), means) in
                planes.iter().zip(&mut self.waiting).zip(&mut self.means)
            {
                waiting.extend_from_slice(plane);
                let groups = waiting.chunks_exact(self.step);
                means.clear();
                means.extend(groups.map(|group| group.iter().sum::<f32>() * share));
                waiting.drain(..means.len() * self.step);
            }
            &self.means
        };
        let planes: Vec<&[f32]> = planes.iter().map(Vec::as_slice).collect();
        self.meter.add_frames_planar_f32(&planes)
    }
}

impl Meter {
    pub fn new(rate_hz: u32, channels: usize) -> Self {
        let channel = Channel {
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            at_full_scale: 0,
            power: 0.0,
            silent: 0,
            ear: Ear::new(rate_hz),
        };
        Self {
            channels: vec![channel; channels],
            frames: 0,
            stretch: (rate_hz / STRETCHES_PER_SECOND).max(1),
            in_stretch: 0,
            stretches: 0,
            loudness: Loudness::new(rate_hz, channels),
        }
    }

    /// `planes`: as many as channels, equally long, samples within -1 to 1.
    pub fn push(&mut self, planes: &[Vec<f32>]) {
        let frames = planes.first().map_or(0, Vec::len);
        self.frames += frames as u64;
        let mut from = 0;
        while from < frames {
            let room = (self.stretch - self.in_stretch) as usize;
            let to = frames.min(from + room);
            for (channel, plane) in self.channels.iter_mut().zip(planes) {
                channel.look(&plane[from..to]);
            }
            self.in_stretch += (to - from) as u32;
            from = to;
            if self.in_stretch == self.stretch {
                self.close();
            }
        }
        for (channel, plane) in self.channels.iter_mut().zip(planes) {
            channel.ear.push(plane);
        }
        if let Some(loudness) = &mut self.loudness
            && loudness.push(planes).is_err()
        {
            self.loudness = None;
        }
    }

    fn close(&mut self) {
        for channel in &mut self.channels {
            let is_silent = channel.power < SILENT_POWER * self.in_stretch as f32;
            channel.silent += u64::from(is_silent);
            channel.power = 0.0;
        }
        self.stretches += 1;
        self.in_stretch = 0;
    }

    /// What all the samples together say.
    pub fn analysis(mut self) -> Analysis {
        if self.in_stretch > 0 {
            self.close();
        }
        let channels: Vec<ChannelAnalysis> = self
            .channels
            .iter()
            .map(|channel| ChannelAnalysis {
                peak_dbfs: decibels(channel.high.max(-channel.low)),
                silence_share: share(channel.silent, self.stretches),
                is_digital_silence: self.frames > 0 && channel.high - channel.low <= SILENCE_SPAN,
                clipped_samples: channel.at_full_scale,
                key_presses: channel.ear.presses(),
            })
            .collect();
        let loudest = channels.iter().filter_map(|c| c.peak_dbfs);
        let loudness = self
            .loudness
            .as_ref()
            .and_then(|l| l.meter.loudness_global().ok());
        Analysis {
            peak_dbfs: loudest.reduce(f64::max),
            loudness_lufs: loudness.filter(|l| l.is_finite()).map(rounded),
            silence_share: channels
                .iter()
                .map(|c| c.silence_share)
                .reduce(f64::min)
                .unwrap_or_default(),
            has_dtmf: channels.iter().any(|c| c.key_presses > 0),
            channels,
        }
    }
}

impl Channel {
    fn look(&mut self, samples: &[f32]) {
        // Eight lanes, so that the compiler may do them at once.
        let (mut low, mut high, mut power) = ([self.low; 8], [self.high; 8], [0.0f32; 8]);
        let mut full = [0u32; 8];
        let (eights, rest) = samples.as_chunks::<8>();
        for eight in eights {
            for i in 0..8 {
                let sample = eight[i];
                low[i] = if sample < low[i] { sample } else { low[i] };
                high[i] = if sample > high[i] { sample } else { high[i] };
                power[i] += sample * sample;
                full[i] += u32::from(sample.abs() >= FULL_SCALE);
            }
        }
        for sample in rest {
            low[0] = low[0].min(*sample);
            high[0] = high[0].max(*sample);
            power[0] += sample * sample;
            full[0] += u32::from(sample.abs() >= FULL_SCALE);
        }
        self.low = low.into_iter().fold(self.low, f32::min);
        self.high = high.into_iter().fold(self.high, f32::max);
        self.power += power.iter().sum::<f32>();
        self.at_full_scale += u64::from(full.iter().sum::<u32>());
    }
}

/// Codes of what the analysis of `frames` frames shows.
pub fn notes(analysis: &Analysis, frames: u64) -> Vec<&'static str> {
    let mut notes = Vec::new();
    let channels = &analysis.channels;
    match channels.iter().filter(|c| c.is_digital_silence).count() {
        0 if frames > 0 && analysis.silence_share >= MOSTLY => notes.push(note::MOSTLY_SILENT),
        0 => {}
        n if n == channels.len() => notes.push(note::DIGITAL_SILENCE),
        _ if channels.len() == 2 => notes.push(note::ONE_WAY_AUDIO),
        _ => {}
    }
    if channels.iter().any(|c| c.clipped_samples * 1000 > frames) {
        notes.push(note::CLIPPED);
    }
    if analysis.has_dtmf {
        notes.push(note::DTMF);
    }
    notes
}

fn decibels(amplitude: f32) -> Option<f64> {
    (amplitude > 0.0).then(|| rounded(20.0 * f64::from(amplitude).log10()))
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64 * 1000.0).round() / 1000.0
}

/// To a hundredth, without a negative zero.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analyse(rate_hz: u32, planes: &[Vec<f32>]) -> Analysis {
        let mut meter = Meter::new(rate_hz, planes.len());
        meter.push(planes);
        meter.analysis()
    }

    fn notes_of(planes: &[Vec<f32>]) -> Vec<&'static str> {
        notes(&analyse(8000, planes), planes[0].len() as u64)
    }

    fn sine(hz: f32, rate: f32, frames: usize, size: f32) -> Vec<f32> {
        (0..frames)
            .map(|i| (std::f32::consts::TAU * hz * i as f32 / rate).sin() * size)
            .collect()
    }

    #[test]
    fn silence_and_one_way_and_clipping_are_told_apart() {
        let tone: Vec<f32> = (0..800).map(|i| (i as f32 / 4.0).sin() * 0.3).collect();
        let quiet: Vec<f32> = (0..800)
            .map(|i| if i % 2 == 0 { 8.0 } else { -8.0 } / 32768.0)
            .collect();
        let square: Vec<f32> = (0..800)
            .map(|i| if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        assert_eq!(notes_of(&[tone.clone(), tone.clone()]), [""; 0]);
        assert_eq!(
            notes_of(std::slice::from_ref(&quiet)),
            [note::DIGITAL_SILENCE]
        );
        assert_eq!(
            notes_of(&[quiet.clone(), quiet.clone()]),
            [note::DIGITAL_SILENCE]
        );
        assert_eq!(notes_of(&[tone.clone(), quiet]), [note::ONE_WAY_AUDIO]);
        assert_eq!(notes_of(&[tone, square]), [note::CLIPPED]);
        assert_eq!(notes_of(&[Vec::new()]), [""; 0]);
    }

    #[test]
    fn peak_silence_and_loudness_are_measured() {
        // A full-scale sine of 997 Hz in one channel has -3.01 LUFS (ITU-R BS.1770-4, annex 1).
        let mut plane = sine(997.0, 48_000.0, 48_000 * 5, 0.5);
        let seen = analyse(48_000, std::slice::from_ref(&plane));
        assert!((seen.loudness_lufs.unwrap() + 9.03).abs() < 0.1, "{seen:?}");
        assert!((seen.peak_dbfs.unwrap() + 6.02).abs() < 0.02);
        assert_eq!(seen.silence_share, 0.0);
        plane.extend(vec![0.0; 48_000 * 15]);
        let seen = analyse(48_000, &[plane]);
        assert_eq!(seen.silence_share, 0.75);
        // The gate leaves silence out.
        assert!((seen.loudness_lufs.unwrap() + 9.03).abs() < 0.2, "{seen:?}");
        let silent = analyse(8000, &[vec![0.0; 8000]]);
        assert_eq!((silent.peak_dbfs, silent.loudness_lufs), (None, None));
    }

    #[test]
    fn a_room_without_a_voice_is_mostly_silent() {
        let hiss = sine(300.0, 8000.0, 80_000, 0.002);
        assert_eq!(notes_of(&[hiss]), [note::MOSTLY_SILENT]);
    }
}
