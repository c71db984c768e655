//! Hears whether somebody pressed keys (DTMF, ITU-T Q.23): a flag for reviews of card data. Which keys is never kept.

use std::f32::consts::TAU;

/// Low group, then high group.
const TONES_HZ: [f32; 8] = [697.0, 770.0, 852.0, 941.0, 1209.0, 1336.0, 1477.0, 1633.0];
/// Where the tones are looked for; a sample rate above is averaged down to about this.
const WORKING_HZ: u32 = 8_000;
/// 20 ms: a tone of 40 ms (the shortest allowed, Q.24) fills at least one.
const WINDOWS_PER_SECOND: u32 = 50;
/// Both tones together hold so much of the window's energy. Speech comes near that in one window by chance, hardly ever in
/// two with the same pair.
const SHARE: f32 = 0.8;
/// How much louder than the other one of the pair may be, in energy: 9 dB.
const TWIST: f32 = 8.0;
/// Below -45 dBFS nothing is looked for.
const FLOOR: f32 = 3e-5;

/// One channel's ear.
#[derive(Clone)]
pub struct Ear {
    coefficients: [f32; 8],
    one_back: [f32; 8],
    two_back: [f32; 8],
    energy: f32,
    /// Samples averaged into one, and those under way.
    step: u32,
    gathered: u32,
    sum: f32,
    window: u32,
    heard: u32,
    /// The pair of the last window, and whether it was counted.
    last: Option<(usize, usize)>,
    is_counted: bool,
    presses: u32,
}

impl Ear {
    pub fn new(rate_hz: u32) -> Self {
        let step = (rate_hz / WORKING_HZ).max(1);
        let working_hz = rate_hz as f32 / step as f32;
        Self {
            coefficients: TONES_HZ.map(|hz| 2.0 * (TAU * hz / working_hz).cos()),
            one_back: [0.0; 8],
            two_back: [0.0; 8],
            energy: 0.0,
            step,
            gathered: 0,
            sum: 0.0,
            window: (rate_hz / step / WINDOWS_PER_SECOND).max(1),
            heard: 0,
            last: None,
            is_counted: false,
            presses: 0,
        }
    }

    pub fn push(&mut self, samples: &[f32]) {
        if self.step == 1 {
            let mut rest = samples;
            while !rest.is_empty() {
                let room = (self.window - self.heard) as usize;
                let (now, later) = rest.split_at(room.min(rest.len()));
                rest = later;
                self.listen(now);
            }
            return;
        }
        for sample in samples {
            self.sum += sample;
            self.gathered += 1;
            if self.gathered == self.step {
                let mean = self.sum / self.step as f32;
                (self.sum, self.gathered) = (0.0, 0);
                self.listen(&[mean]);
            }
        }
    }

    /// Goertzel's recurrence for all eight tones side by side; at most to the window's end.
    fn listen(&mut self, samples: &[f32]) {
        let (mut one, mut two, mut energy) = (self.one_back, self.two_back, self.energy);
        for sample in samples {
            energy += sample * sample;
            let mut next = [0.0; 8];
            for i in 0..8 {
                next[i] = self.coefficients[i] * one[i] - two[i] + sample;
            }
            two = one;
            one = next;
        }
        (self.one_back, self.two_back, self.energy) = (one, two, energy);
        self.heard += samples.len() as u32;
        if self.heard == self.window {
            self.judge();
        }
    }

    fn judge(&mut self) {
        let n = self.window as f32;
        let pair = (self.energy > FLOOR * n).then(|| self.pair()).flatten();
        if pair.is_some() && pair == self.last {
            self.presses += u32::from(!self.is_counted);
            self.is_counted = true;
        } else {
            self.is_counted = false;
        }
        self.last = pair;
        (self.one_back, self.two_back) = ([0.0; 8], [0.0; 8]);
        (self.energy, self.heard) = (0.0, 0);
    }

    fn pair(&self) -> Option<(usize, usize)> {
        let mut power = [0.0; 8];
        for (i, power) in power.iter_mut().enumerate() {
            let (one, two) = (self.one_back[i], self.two_back[i]);
            *power = one * one + two * two - self.coefficients[i] * one * two;
        }
        let strongest =
            |range: std::ops::Range<usize>| range.max_by(|a, b| power[*a].total_cmp(&power[*b]));
        let (low, high) = (strongest(0..4)?, strongest(4..8)?);
        // A tone that fills the window has power energy * n / 2.
        let both = (power[low] + power[high]) * 2.0 / self.window as f32;
        let (quiet, loud) = (power[low].min(power[high]), power[low].max(power[high]));
        (both > SHARE * self.energy && loud < quiet * TWIST).then_some((low, high))
    }

    /// Keys that were pressed for 40 ms or longer.
    pub const fn presses(&self) -> u32 {
        self.presses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(low: f32, high: f32, rate: u32, ms: u32) -> Vec<f32> {
        let tone = |hz: f32, i: u32| (TAU * hz * i as f32 / rate as f32).sin() * 0.2;
        (0..rate * ms / 1000)
            .map(|i| tone(low, i) + tone(high, i))
            .collect()
    }

    fn presses(rate: u32, samples: &[f32]) -> u32 {
        let mut ear = Ear::new(rate);
        samples.chunks(77).for_each(|chunk| ear.push(chunk));
        ear.presses()
    }

    #[test]
    fn each_key_counts_once_at_any_rate() {
        for rate in [8_000, 11_025, 16_000, 44_100, 48_000] {
            let mut samples = Vec::new();
            for low in &TONES_HZ[..4] {
                for high in &TONES_HZ[4..] {
                    samples.extend(pair(*low, *high, rate, 90));
                    samples.extend(vec![0.0; rate as usize / 12]);
                }
            }
            assert_eq!(presses(rate, &samples), 16, "{rate}");
        }
    }

    #[test]
    fn single_tones_dial_tones_and_noise_are_no_keys() {
        let silence = vec![0.0; 8000];
        assert_eq!(presses(8000, &silence), 0);
        // Dial tone of North America, ringing tone, and one tone of a pair alone.
        for (low, high) in [
            (350.0, 440.0),
            (440.0, 480.0),
            (697.0, 697.0),
            (620.0, 480.0),
        ] {
            assert_eq!(
                presses(8000, &pair(low, high, 8000, 2000)),
                0,
                "{low} {high}"
            );
        }
        let mut state = 1u32;
        let noise: Vec<f32> = (0..80_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect();
        assert_eq!(presses(8000, &noise), 0);
    }
}
