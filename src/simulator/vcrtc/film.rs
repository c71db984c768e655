//! The recordings of simulated meetings: committed MP4 files (a tiny picture, synthetic voices), each labelled
//! so that every recording has bytes of its own and a known length. Made by `voices/make-meetings.sh`.

use super::super::voices::Audio;

/// The file, and how long its sound plays without the encoder's priming, in milliseconds.
const FILMS: [(&[u8], u64); 3] = [
    (include_bytes!("../voices/budget-meeting.mp4"), 10_429),
    (include_bytes!("../voices/launch-meeting.mp4"), 6_509),
    (include_bytes!("../voices/roster-meeting.mp4"), 6_988),
];

/// A film of a meeting, with a `free` box at its end that names the recording.
pub fn film(choice: u64, label: &str) -> Audio {
    let (source, duration_ms) = FILMS[(choice % FILMS.len() as u64) as usize];
    let mut bytes = source.to_vec();
    bytes.extend_from_slice(&(label.len() as u32 + 8).to_be_bytes());
    bytes.extend_from_slice(b"free");
    bytes.extend_from_slice(label.as_bytes());
    Audio {
        bytes: bytes.into(),
        mime: "video/mp4",
        duration_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes and names of the boxes of the outermost level.
    fn boxes(mp4: &[u8]) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let mut rest = mp4;
        while rest.len() >= 8 {
            let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            found.push((size, String::from_utf8_lossy(&rest[4..8]).into_owned()));
            rest = &rest[size..];
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn a_label_makes_other_bytes_and_stays_a_film() {
        for choice in 0..3 {
            let film = film(choice, "5b1e3c52");
            let boxes = boxes(&film.bytes);
            assert_eq!(boxes.last().unwrap(), &(16, "free".to_owned()));
            assert!(boxes.iter().any(|(_, name)| name == "moov"));
            assert_ne!(film.bytes, super::film(choice, "5b1e3c53").bytes);
        }
    }

    #[test]
    fn the_header_of_each_film_tells_the_length_that_the_ledger_names() {
        for (source, duration_ms) in FILMS {
            // `mvhd`, version 0: times, time scale, duration (ISO/IEC 14496-12).
            let at = source.windows(4).position(|four| four == b"mvhd").unwrap() + 4;
            let word = |at: usize| u32::from_be_bytes(source[at..at + 4].try_into().unwrap());
            let (scale, duration) = (u64::from(word(at + 12)), u64::from(word(at + 16)));
            let header_ms = duration * 1000 / scale;
            // The picture lasts up to a second longer than the sound.
            assert!(
                header_ms + 72 >= duration_ms && header_ms <= duration_ms + 1072,
                "{header_ms} {duration_ms}"
            );
        }
    }
}
