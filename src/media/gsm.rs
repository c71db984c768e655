//! GSM 06.10 full rate, the decoder alone (ETSI ETS 300 961): what recorders of PBXs still write, raw or in a WAV ("WAV49").
//!
//! No crate that decodes it is kept up. The arithmetic is the standard's own, 16-bit and saturating, so that the samples are those
//! that every other decoder gives.

use std::ops::Range;

/// How a log area ratio comes from those of the frame before and of this one.
type Mix = fn(i16, i16) -> i16;

/// Samples that one frame makes.
const FRAME_SAMPLES: usize = 160;
/// A frame as GSM files hold it: a nibble `0xD` and 260 bits.
pub const FRAME_BYTES: usize = 33;
/// Two frames as a WAV holds them (format tag 0x31), the bits from the least significant end.
pub const WAV_BLOCK_BYTES: usize = 65;
const SUBFRAME: usize = 40;
/// How far the long-term predictor looks back.
const MEMORY: usize = 120;

/// What the decoder remembers from frame to frame.
pub struct Gsm {
    /// The reconstructed residual: the memory, and behind it the subframe under way.
    residual: [i16; MEMORY + SUBFRAME],
    lag: usize,
    last_log_area: [i16; 8],
    lattice: [i16; 9],
    deemphasis: i16,
}

impl Default for Gsm {
    fn default() -> Self {
        Self {
            residual: [0; MEMORY + SUBFRAME],
            lag: SUBFRAME,
            last_log_area: [0; 8],
            lattice: [0; 9],
            deemphasis: 0,
        }
    }
}

/// The parameters of one frame, as coded (table 1.1 of the standard).
struct Coded {
    log_area: [i16; 8],
    subframes: [Subframe; 4],
}

#[derive(Clone, Copy, Default)]
struct Subframe {
    lag: usize,
    gain: usize,
    grid: usize,
    block_amplitude: i16,
    pulses: [i16; 13],
}

impl Coded {
    /// `bits` gives the next so many bits as a number.
    fn read(mut bits: impl FnMut(u32) -> u16) -> Self {
        let log_area = [6, 6, 5, 5, 4, 4, 3, 3].map(|n| bits(n).cast_signed());
        let mut subframes = [Subframe::default(); 4];
        for subframe in &mut subframes {
            subframe.lag = bits(7).into();
            subframe.gain = bits(2).into();
            subframe.grid = bits(2).into();
            subframe.block_amplitude = bits(6).cast_signed();
            subframe.pulses = [3; 13].map(|n| bits(n).cast_signed());
        }
        Self {
            log_area,
            subframes,
        }
    }
}

impl Gsm {
    /// Decodes a packet of whole frames ([`FRAME_BYTES`]) or of whole WAV blocks ([`WAV_BLOCK_BYTES`]).
    pub fn decode(&mut self, packet: &[u8], samples: &mut Vec<f32>) -> Result<(), &'static str> {
        if packet.len() == WAV_BLOCK_BYTES {
            let mut at = 0;
            let mut bits = |n: u32| {
                let value = (0..n).fold(0u16, |value, i| {
                    let at = at + i as usize;
                    value | u16::from(packet[at / 8] >> (at % 8) & 1) << i
                });
                at += n as usize;
                value
            };
            let frames = [Coded::read(&mut bits), Coded::read(&mut bits)];
            frames.iter().for_each(|frame| self.frame(frame, samples));
            return Ok(());
        }
        for frame in packet.chunks(FRAME_BYTES) {
            if frame.len() < FRAME_BYTES || frame[0] >> 4 != 0xD {
                return Err("gsm: no frame");
            }
            let mut at = 4;
            let coded = Coded::read(|n| {
                let value = (at..at + n as usize).fold(0u16, |value, at| {
                    value << 1 | u16::from(frame[at / 8] >> (7 - at % 8) & 1)
                });
                at += n as usize;
                value
            });
            self.frame(&coded, samples);
        }
        Ok(())
    }

    fn frame(&mut self, coded: &Coded, samples: &mut Vec<f32>) {
        let mut residual = [0; FRAME_SAMPLES];
        for (subframe, out) in coded.subframes.iter().zip(residual.chunks_mut(SUBFRAME)) {
            self.long_term(subframe);
            out.copy_from_slice(&self.residual[MEMORY..]);
            self.residual.copy_within(SUBFRAME.., 0);
        }
        let log_area = log_area_ratios(&coded.log_area);
        let (old, new) = (self.last_log_area, log_area);
        let mixed = |mix: Mix| {
            let mut coefficients = [0; 8];
            for (i, coefficient) in coefficients.iter_mut().enumerate() {
                *coefficient = reflection(mix(old[i], new[i]));
            }
            coefficients
        };
        // 4.3.3.1: the coefficients glide into the new frame over its first 40 samples.
        let parts: [(Range<usize>, Mix); 4] = [
            (0..13, |old, new| add(add(old >> 2, new >> 2), old >> 1)),
            (13..27, |old, new| add(old >> 1, new >> 1)),
            (27..40, |old, new| add(add(old >> 2, new >> 2), new >> 1)),
            (40..FRAME_SAMPLES, |_, new| new),
        ];
        for (range, mix) in parts {
            let coefficients = mixed(mix);
            for sample in &residual[range] {
                let sample = self.short_term(&coefficients, *sample);
                self.deemphasis = add(sample, mult_r(self.deemphasis, 28_180));
                let out = add(self.deemphasis, self.deemphasis) & !7;
                samples.push(f32::from(out) / 32_768.0);
            }
        }
        self.last_log_area = log_area;
    }

    /// 4.3.2: the pulses of the subframe, and what repeats from before.
    fn long_term(&mut self, subframe: &Subframe) {
        if (40..=MEMORY).contains(&subframe.lag) {
            self.lag = subframe.lag;
        }
        const GAINS: [i16; 4] = [3277, 11_469, 21_299, 32_767];
        let gain = GAINS[subframe.gain];
        let pulses = pulses(subframe);
        for (k, pulse) in pulses.iter().enumerate() {
            let repeated = mult_r(gain, self.residual[MEMORY + k - self.lag]);
            self.residual[MEMORY + k] = add(*pulse, repeated);
        }
    }

    /// 4.3.3.3: the lattice filter that is the mouth.
    fn short_term(&mut self, coefficients: &[i16; 8], residual: i16) -> i16 {
        let mut sample = residual;
        for i in (0..8).rev() {
            sample = sub(sample, mult_r(coefficients[i], self.lattice[i]));
            self.lattice[i + 1] = add(self.lattice[i], mult_r(coefficients[i], sample));
        }
        self.lattice[0] = sample;
        sample
    }
}

/// 4.3.1 and 5.2.15 to 5.2.17: 13 pulses, three samples apart.
fn pulses(subframe: &Subframe) -> [i16; SUBFRAME] {
    const MANTISSAS: [i16; 8] = [
        18_431, 20_479, 22_527, 24_575, 26_623, 28_671, 30_719, 32_767,
    ];
    let mut exponent = 0;
    if subframe.block_amplitude > 15 {
        exponent = (subframe.block_amplitude >> 3) - 1;
    }
    let mut mantissa = subframe.block_amplitude - (exponent << 3);
    if mantissa == 0 {
        (exponent, mantissa) = (-4, 7);
    } else {
        while mantissa <= 7 {
            mantissa = mantissa << 1 | 1;
            exponent -= 1;
        }
        mantissa -= 8;
    }
    let factor = MANTISSAS[mantissa as usize & 7];
    let shift = 6 - exponent;
    let rounding = if shift == 0 { 0 } else { 1 << (shift - 1) };
    let mut pulses = [0; SUBFRAME];
    for (i, coded) in subframe.pulses.iter().enumerate() {
        let scaled = mult_r(factor, ((coded << 1) - 7) << 12);
        pulses[subframe.grid + 3 * i] = add(scaled, rounding) >> shift;
    }
    pulses
}

/// 5.2.8: the logarithmic area ratios from their codes.
fn log_area_ratios(coded: &[i16; 8]) -> [i16; 8] {
    const TABLE: [(i16, i16, i16); 8] = [
        (0, -32, 13_107),
        (0, -32, 13_107),
        (2048, -16, 13_107),
        (-2560, -16, 13_107),
        (94, -8, 19_223),
        (-1792, -8, 17_476),
        (-341, -4, 31_454),
        (-1144, -4, 29_708),
    ];
    let mut ratios = [0; 8];
    for ((ratio, coded), (offset, least, inverse)) in ratios.iter_mut().zip(coded).zip(TABLE) {
        let shifted = sub(add(*coded, least) << 10, offset << 1);
        let scaled = mult_r(inverse, shifted);
        *ratio = add(scaled, scaled);
    }
    ratios
}

/// 5.2.9.2: a reflection coefficient from its logarithmic area ratio.
fn reflection(ratio: i16) -> i16 {
    let size = ratio.saturating_abs();
    let size = match size {
        ..11_059 => size << 1,
        11_059..20_070 => size + 11_059,
        _ => add(size >> 2, 26_112),
    };
    if ratio < 0 { -size } else { size }
}

fn add(a: i16, b: i16) -> i16 {
    a.saturating_add(b)
}

fn sub(a: i16, b: i16) -> i16 {
    a.saturating_sub(b)
}

fn mult_r(a: i16, b: i16) -> i16 {
    let product = (i32::from(a) * i32::from(b) + 16_384) >> 15;
    i16::try_from(product).unwrap_or(i16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_frame_is_decoded_and_silence_stays_silent() {
        let mut gsm = Gsm::default();
        let mut samples = Vec::new();
        let mut state = 5u32;
        for _ in 0..200 {
            let mut block = [0; WAV_BLOCK_BYTES];
            for byte in &mut block {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            gsm.decode(&block, &mut samples).unwrap();
            block[0] = block[0] & 0x0F | 0xD0;
            gsm.decode(&block[..FRAME_BYTES], &mut samples).unwrap();
        }
        assert_eq!(samples.len(), 200 * 3 * FRAME_SAMPLES);
        assert!(gsm.decode(&[0; FRAME_BYTES], &mut samples).is_err());
        assert!(gsm.decode(&[0xD0; 20], &mut samples).is_err());
    }
}
