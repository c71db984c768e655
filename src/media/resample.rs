//! Another sample rate for a stream of any length: no delay at its start, nothing missing at its end.

use rubato::audioadapter_buffers::direct::SequentialSliceOfVecs;
use rubato::{Fft, FixedSync, Resampler as _};

use super::MediaError;

/// Frames per step at least; large enough for a filter that reaches close to the new Nyquist frequency.
const CHUNK_FRAMES: usize = 2048;

/// Frames per step for these rates: a power of two times what the ratio asks for. The transforms have these lengths, and one
/// with a large prime in it takes several times as long.
fn chunk_frames(from: usize, to: usize) -> usize {
    let (mut a, mut b) = (from, to);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let ratio = from / a.max(1);
    ratio * CHUNK_FRAMES.div_ceil(ratio.max(1)).next_power_of_two()
}

/// Turns planes at one rate into planes at another.
pub struct Resampler {
    fft: Fft<f32>,
    from_hz: u64,
    to_hz: u64,
    waiting: Vec<Vec<f32>>,
    step: Vec<Vec<f32>>,
    /// Frames of the filter's own delay that are still to be dropped.
    delay: usize,
    taken: u64,
    given: u64,
}

impl Resampler {
    /// Rates are within what the decoder admits, channels are 1 or 2.
    pub fn new(from_hz: u32, to_hz: u32, channels: usize) -> Result<Self, MediaError> {
        let (from, to) = (from_hz as usize, to_hz as usize);
        let fft =
            Fft::new(from, to, chunk_frames(from, to), channels, FixedSync::Both).map_err(|e| {
                MediaError::Encoder(format!("resampling {from_hz} Hz to {to_hz} Hz: {e}"))
            })?;
        Ok(Self {
            step: vec![vec![0.0; fft.output_frames_max()]; channels],
            delay: fft.output_delay(),
            waiting: vec![Vec::new(); channels],
            from_hz: from_hz.into(),
            to_hz: to_hz.into(),
            taken: 0,
            given: 0,
            fft,
        })
    }

    /// Takes `planes` and appends what is ready to `out`.
    pub fn push(&mut self, planes: &[Vec<f32>], out: &mut [Vec<f32>]) -> Result<(), MediaError> {
        for (waiting, plane) in self.waiting.iter_mut().zip(planes) {
            waiting.extend_from_slice(plane);
        }
        self.taken += planes.first().map_or(0, Vec::len) as u64;
        self.steps(out, u64::MAX)
    }

    /// Gives the rest: all in all as many frames as the input's length makes at the new rate, rounded.
    pub fn finish(&mut self, out: &mut [Vec<f32>]) -> Result<(), MediaError> {
        let total = (self.taken * self.to_hz + self.from_hz / 2) / self.from_hz;
        while self.given < total {
            let need = self.fft.input_frames_next();
            for waiting in &mut self.waiting {
                let padded = waiting.len().max(need);
                waiting.resize(padded, 0.0);
            }
            self.steps(out, total)?;
        }
        Ok(())
    }

    fn steps(&mut self, out: &mut [Vec<f32>], total: u64) -> Result<(), MediaError> {
        let resampling =
            |e: &dyn std::fmt::Display| MediaError::Encoder(format!("resampling: {e}"));
        let need = self.fft.input_frames_next();
        let channels = self.waiting.len();
        while self.waiting[0].len() >= need {
            let input = SequentialSliceOfVecs::new(&self.waiting, channels, need)
                .map_err(|e| resampling(&e))?;
            let room = self.step[0].len();
            let mut output = SequentialSliceOfVecs::new_mut(&mut self.step, channels, room)
                .map_err(|e| resampling(&e))?;
            let (used, made) = self
                .fft
                .process_into_buffer(&input, &mut output, None)
                .map_err(|e| resampling(&e))?;
            let skip = self.delay.min(made);
            self.delay -= skip;
            let left = usize::try_from(total - self.given).unwrap_or(usize::MAX);
            let give = (made - skip).min(left);
            for (out, step) in out.iter_mut().zip(&self.step) {
                out.extend_from_slice(&step[skip..skip + give]);
            }
            self.given += give as u64;
            for waiting in &mut self.waiting {
                waiting.drain(..used);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resample(from: u32, to: u32, planes: &[Vec<f32>], block: usize) -> Vec<Vec<f32>> {
        let mut resampler = Resampler::new(from, to, planes.len()).unwrap();
        let mut out = vec![Vec::new(); planes.len()];
        let frames = planes[0].len();
        for from in (0..frames).step_by(block) {
            let part: Vec<Vec<f32>> = planes
                .iter()
                .map(|p| p[from..frames.min(from + block)].to_vec())
                .collect();
            resampler.push(&part, &mut out).unwrap();
        }
        resampler.finish(&mut out).unwrap();
        out
    }

    fn sine(hz: f32, rate: u32, frames: usize) -> Vec<f32> {
        (0..frames)
            .map(|i| {
                let turns = i as f64 * f64::from(hz) / f64::from(rate);
                ((turns * std::f64::consts::TAU).sin() * 0.5) as f32
            })
            .collect()
    }

    #[test]
    fn length_and_phase_are_exact_at_any_rate_and_block() {
        for (from, to) in [
            (44_100, 16_000),
            (48_000, 16_000),
            (7_350, 8_000),
            (22_050, 16_000),
            (96_000, 8_000),
        ] {
            for (frames, block) in [(1, 1), (100, 7), (30_011, 1152), (100_000, 65_535)] {
                let seen = resample(from, to, &[sine(100.0, from, frames)], block);
                let expected =
                    (frames as u64 * u64::from(to) + u64::from(from) / 2) / u64::from(from);
                assert_eq!(
                    seen[0].len() as u64,
                    expected,
                    "{from} to {to}, {frames} frames"
                );
                let wanted = sine(100.0, to, seen[0].len());
                // The ends ring: there the tone begins and stops.
                let inner = 1200..seen[0].len().saturating_sub(1200);
                for i in inner {
                    let off = (seen[0][i] - wanted[i]).abs();
                    // Half a sample: 100 Hz climbs at most 0.04 a sample here.
                    assert!(off < 0.02, "{from} to {to}, sample {i} is {off} off");
                }
            }
        }
    }

    #[test]
    fn channels_stay_apart() {
        let seen = resample(
            48_000,
            16_000,
            &[sine(440.0, 48_000, 20_000), vec![0.0; 20_000]],
            999,
        );
        assert!(seen[0].iter().any(|s| s.abs() > 0.4));
        assert!(seen[1].iter().all(|s| s.abs() < 1e-6));
    }
}
