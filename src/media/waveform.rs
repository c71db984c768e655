//! Peaks for the page's waveform, computed while the sound passes by, in memory that does not grow with its length.

use std::io::{self, Write};

use serde::Serialize;

/// Peaks per channel at most; a page loads and draws so many at once.
const MAX_POINTS: usize = 4000;
/// Where the resolution starts; it is halved whenever [`MAX_POINTS`] is reached.
const FIRST_SAMPLES_PER_PIXEL: u32 = 64;

/// The layout of the BBC's audiowaveform, JSON version 2 (github.com/bbc/audiowaveform, doc/DataFormat.md).
#[derive(Debug, Serialize)]
struct Waveform<'a> {
    version: u8,
    channels: usize,
    sample_rate: u32,
    samples_per_pixel: u32,
    bits: u8,
    /// Points per channel.
    length: usize,
    /// Per point, per channel: minimum, maximum.
    data: &'a [i8],
}

/// Collects minimum and maximum per channel and point.
pub struct Peaks {
    channels: usize,
    samples_per_pixel: u32,
    data: Vec<i8>,
    /// Minimum and maximum of the point under way, per channel, and how many samples it has.
    open: Vec<(f32, f32)>,
    open_samples: u32,
}

/// The lowest and the highest of some samples.
fn span(samples: &[f32]) -> (f32, f32) {
    // Eight lanes, so that the compiler may do them at once.
    let (mut low, mut high) = ([EMPTY.0; 8], [EMPTY.1; 8]);
    let (eights, rest) = samples.as_chunks::<8>();
    for eight in eights {
        for i in 0..8 {
            low[i] = if eight[i] < low[i] { eight[i] } else { low[i] };
            high[i] = if eight[i] > high[i] {
                eight[i]
            } else {
                high[i]
            };
        }
    }
    let low = low.iter().chain(rest).copied().fold(EMPTY.0, f32::min);
    let high = high.iter().chain(rest).copied().fold(EMPTY.1, f32::max);
    (low, high)
}

const EMPTY: (f32, f32) = (f32::INFINITY, f32::NEG_INFINITY);

impl Peaks {
    pub fn new(channels: usize) -> Self {
        Self {
            channels,
            samples_per_pixel: FIRST_SAMPLES_PER_PIXEL,
            data: Vec::with_capacity(MAX_POINTS * channels * 2),
            open: vec![EMPTY; channels],
            open_samples: 0,
        }
    }

    /// `planes`: one slice per channel, equally long, samples within -1 to 1.
    pub fn push(&mut self, planes: &[Vec<f32>]) {
        let frames = planes.first().map_or(0, Vec::len);
        let mut from = 0;
        while from < frames {
            let room = (self.samples_per_pixel - self.open_samples) as usize;
            let to = frames.min(from + room);
            for (open, plane) in self.open.iter_mut().zip(planes) {
                let (low, high) = span(&plane[from..to]);
                *open = (open.0.min(low), open.1.max(high));
            }
            self.open_samples += (to - from) as u32;
            from = to;
            if self.open_samples == self.samples_per_pixel {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        for (low, high) in self
            .open
            .iter_mut()
            .map(|open| std::mem::replace(open, EMPTY))
        {
            self.data
                .push((low * 128.0).floor().clamp(-128.0, 127.0) as i8);
            self.data
                .push((high * 128.0).floor().clamp(-128.0, 127.0) as i8);
        }
        self.open_samples = 0;
        if self.data.len() == MAX_POINTS * self.channels * 2 {
            self.halve();
        }
    }

    fn halve(&mut self) {
        let stride = self.channels * 2;
        for point in 0..MAX_POINTS / 2 {
            for i in 0..stride {
                let (a, b) = (
                    self.data[2 * point * stride + i],
                    self.data[(2 * point + 1) * stride + i],
                );
                self.data[point * stride + i] = if i % 2 == 0 { a.min(b) } else { a.max(b) };
            }
        }
        self.data.truncate(MAX_POINTS / 2 * stride);
        self.samples_per_pixel *= 2;
    }

    /// Closes the last, shorter point and writes the JSON.
    pub fn write(mut self, sample_rate: u32, mut to: impl Write) -> io::Result<()> {
        if self.open_samples > 0 {
            self.close();
        }
        let waveform = Waveform {
            version: 2,
            channels: self.channels,
            sample_rate,
            samples_per_pixel: self.samples_per_pixel,
            bits: 8,
            length: self.data.len() / (self.channels * 2).max(1),
            data: &self.data,
        };
        serde_json::to_writer(&mut to, &waveform)?;
        to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(peaks: Peaks) -> serde_json::Value {
        let mut out = Vec::new();
        peaks.write(8000, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn peaks_lie_per_point_and_channel() {
        let mut peaks = Peaks::new(2);
        let mut left = vec![0.0; 70];
        left[3] = 0.5;
        left[65] = -1.0;
        peaks.push(&[left, vec![0.25; 70]]);
        let seen = json(peaks);
        assert_eq!(seen["length"], 2);
        assert_eq!(seen["samples_per_pixel"], 64);
        assert_eq!(
            seen["data"],
            serde_json::json!([0, 64, 32, 32, -128, 0, 32, 32])
        );
    }

    #[test]
    fn a_long_sound_keeps_its_peaks_in_few_points() {
        let mut peaks = Peaks::new(1);
        // Ten minutes at 8 kHz, one click at every full minute.
        for minute in 0..10 {
            let mut plane = vec![0.0; 480_000];
            plane[0] = 1.0 - minute as f32 / 20.0;
            peaks.push(&[plane]);
        }
        let seen = json(peaks);
        let length = seen["length"].as_u64().unwrap();
        assert!((2000..=4000).contains(&length));
        let per_pixel = seen["samples_per_pixel"].as_u64().unwrap();
        assert_eq!(length, 4_800_000u64.div_ceil(per_pixel));
        let data = seen["data"].as_array().unwrap();
        for minute in 0..10u64 {
            let point = (minute * 480_000 / per_pixel) as usize;
            let expected = ((1.0 - minute as f32 / 20.0) * 128.0).min(127.0) as i64;
            assert_eq!(data[point * 2 + 1], expected);
        }
    }
}
