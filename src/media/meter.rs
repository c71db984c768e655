//! What a listener would complain about: nobody recorded, one side missing, distortion.

use crate::domain::media::note;

/// The quietest that counts as sound, from lowest to highest sample. A-law's silence is +-8 of 32768, an idle converter
/// flips one bit of 16.
const SILENCE_SPAN: f32 = 32.0 / 32768.0;
/// Full scale of the narrowest code: mu-law ends at 32124 of 32768, A-law at 32256.
const FULL_SCALE: f32 = 32_100.0 / 32_768.0;

#[derive(Clone)]
struct Channel {
    low: f32,
    high: f32,
    at_full_scale: u64,
}

/// Watches all decoded samples.
pub struct Meter {
    channels: Vec<Channel>,
    frames: u64,
}

impl Meter {
    pub fn new(channels: usize) -> Self {
        let channel = Channel {
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            at_full_scale: 0,
        };
        Self {
            channels: vec![channel; channels],
            frames: 0,
        }
    }

    pub fn push(&mut self, planes: &[Vec<f32>]) {
        self.frames += planes.first().map_or(0, Vec::len) as u64;
        for (channel, plane) in self.channels.iter_mut().zip(planes) {
            for sample in plane {
                channel.low = channel.low.min(*sample);
                channel.high = channel.high.max(*sample);
                channel.at_full_scale += u64::from(sample.abs() >= FULL_SCALE);
            }
        }
    }

    /// Codes of what was found.
    pub fn notes(&self) -> Vec<&'static str> {
        let mut notes = Vec::new();
        if self.frames == 0 {
            return notes;
        }
        let silent = |c: &&Channel| c.high - c.low <= SILENCE_SPAN;
        match self.channels.iter().filter(silent).count() {
            0 => {}
            n if n == self.channels.len() => notes.push(note::DIGITAL_SILENCE),
            _ if self.channels.len() == 2 => notes.push(note::ONE_WAY_AUDIO),
            _ => {}
        }
        if self
            .channels
            .iter()
            .any(|c| c.at_full_scale * 1000 > self.frames)
        {
            notes.push(note::CLIPPED);
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(planes: &[Vec<f32>]) -> Vec<&'static str> {
        let mut meter = Meter::new(planes.len());
        meter.push(planes);
        meter.notes()
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
        assert_eq!(notes(&[tone.clone(), tone.clone()]), [""; 0]);
        assert_eq!(notes(std::slice::from_ref(&quiet)), [note::DIGITAL_SILENCE]);
        assert_eq!(
            notes(&[quiet.clone(), quiet.clone()]),
            [note::DIGITAL_SILENCE]
        );
        assert_eq!(notes(&[tone.clone(), quiet]), [note::ONE_WAY_AUDIO]);
        assert_eq!(notes(&[tone, square]), [note::CLIPPED]);
        assert_eq!(notes(&[Vec::new()]), [""; 0]);
    }
}
