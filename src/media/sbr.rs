//! Tells HE-AAC from AAC-LC: Symphonia decodes the core of HE-AAC (half the rate, no upper band) without any error.
//!
//! In MP4 the AudioSpecificConfig may say it; in ADTS, and in many MP4 files, nothing does but the spectral band
//! replication (SBR) data in a fill element at the end of each frame (ISO/IEC 14496-3, 4.4.2.7 and 4.5.2.8).

/// Whether an AudioSpecificConfig announces SBR or parametric stereo.
pub fn config_says_sbr(config: &[u8]) -> bool {
    let bits = Bits(config);
    // Audio object types 5 (SBR) and 29 (PS), explicit and hierarchical.
    if matches!(bits.read(0, 5), Some(5 | 29)) {
        return true;
    }
    // Backward compatible: sync extension 0x2B7, object type 5 or 22, SBR present.
    (16..bits.len().saturating_sub(16)).any(|at| {
        bits.read(at, 11) == Some(0x2B7)
            && matches!(bits.read(at + 11, 5), Some(5 | 22))
            && bits.read(at + 16, 1) == Some(1)
    })
}

/// How many frames [`frames_say_sbr`] is well served with.
pub const FRAMES: usize = 48;

/// Whether more than half of `frames` (raw data blocks) end with SBR data.
///
/// A frame can only be read from its start with all Huffman tables, so this looks from the end: the END element, and
/// before it fill elements that fit exactly. Of frames without SBR about one in fifty looks so by chance.
pub fn frames_say_sbr<'a>(frames: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut seen, mut with_sbr) = (0usize, 0usize);
    for frame in frames {
        seen += 1;
        with_sbr += usize::from(ends_with_sbr(frame));
    }
    with_sbr * 2 > seen
}

fn ends_with_sbr(frame: &[u8]) -> bool {
    let bits = Bits(frame);
    let Some(last) = frame.last().filter(|byte| **byte != 0) else {
        return false;
    };
    // The last set bit ends the END element (0b111); zeros fill the byte.
    let end = bits.len() - last.trailing_zeros() as usize;
    let Some(end_element) = end.checked_sub(3) else {
        return false;
    };
    if bits.read(end_element, 3) != Some(0b111) {
        return false;
    }
    let mut ends = vec![end_element];
    // SBR may be followed by another fill element or two (padding to a constant bitrate).
    for _ in 0..3 {
        let mut before = Vec::new();
        for end in ends {
            for count in 0..=269usize {
                let head = if count < 15 { 7 } else { 15 };
                let Some(start) = end.checked_sub(head + 8 * count) else {
                    break;
                };
                let fits = bits.read(start, 3) == Some(0b110)
                    && if count < 15 {
                        bits.read(start + 3, 4) == Some(count)
                    } else {
                        bits.read(start + 3, 4) == Some(15)
                            && bits.read(start + 7, 8) == Some(count - 14)
                    };
                if !fits {
                    continue;
                }
                // Extension types 13 and 14: SBR data without and with a CRC.
                if count > 0 && matches!(bits.read(start + head, 4), Some(13 | 14)) {
                    return true;
                }
                before.push(start);
            }
        }
        ends = before;
    }
    false
}

struct Bits<'a>(&'a [u8]);

impl Bits<'_> {
    fn len(&self) -> usize {
        self.0.len() * 8
    }

    /// `n` (at most 16) bits from bit `at`, most significant first.
    fn read(&self, at: usize, n: usize) -> Option<usize> {
        if at + n > self.len() {
            return None;
        }
        Some((at..at + n).fold(0, |value, i| {
            value << 1 | usize::from(self.0[i / 8] >> (7 - i % 8) & 1)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configs_that_announce_sbr_are_seen() {
        assert!(!config_says_sbr(&[0x12, 0x10])); // LC, 44.1 kHz, stereo
        assert!(!config_says_sbr(&[]));
        assert!(config_says_sbr(&[0x2B, 0x11, 0x88, 0x00])); // SBR, explicit
        assert!(config_says_sbr(&[0xEB, 0x09, 0x88, 0x00])); // PS, explicit
        assert!(config_says_sbr(&[0x13, 0x10, 0x56, 0xE5, 0xA5, 0x48, 0x80])); // LC with sync extension
        assert!(!config_says_sbr(&[0x12, 0x10, 0x56, 0xE5, 0x00])); // the same, SBR not present
    }

    #[test]
    fn a_fill_element_with_sbr_is_seen_at_any_bit() {
        for shift in 0..8 {
            let mut bits = vec![1u8; 40 + shift];
            bits.extend([1, 1, 0, 0, 0, 1, 0]); // FIL, two bytes
            bits.extend([1, 1, 0, 1]); // SBR
            bits.extend([0; 12]);
            bits.extend([1, 1, 0, 0, 0, 0, 0]); // FIL, empty
            bits.extend([1, 1, 1]); // END
            while !bits.len().is_multiple_of(8) {
                bits.push(0);
            }
            let frame: Vec<u8> = bits
                .chunks(8)
                .map(|byte| byte.iter().fold(0, |n, bit| n << 1 | bit))
                .collect();
            assert!(ends_with_sbr(&frame), "shift {shift}");
            assert!(frames_say_sbr([&frame[..]].into_iter()));
        }
    }

    #[test]
    fn noise_is_rarely_taken_for_sbr() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let frames: Vec<Vec<u8>> = (0..2000)
            .map(|_| {
                let mut frame: Vec<u8> = (0..200).map(|_| noise()).collect();
                frame.push(0b1110_0000);
                frame
            })
            .collect();
        let seen = frames.iter().filter(|frame| ends_with_sbr(frame)).count();
        assert!(seen < 200, "{seen} of 2000");
        assert!(!frames_say_sbr(frames.iter().map(|f| &f[..])));
        assert!(!frames_say_sbr(std::iter::empty()));
    }
}
