//! The files of a recording that came as a playlist and its segments: which are the sound, and in what order.
//!
//! The list stands in the row of the playlist (and so in the manifest): files are known by their hash, so
//! neither addresses nor the vendor's names are needed to join them again.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::digest::Sha256;

const KEY: &str = "hls";

/// A recording's sound, cut into files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces {
    /// In playing order; a file may come more than once.
    pub pieces: Vec<Piece>,
    /// Files that belong to it and are no sound: the playlist that a master playlist led to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Sha256>,
    /// The segments are encrypted: kept, and never decoded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
}

/// A file of the sound, or a stretch of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub sha256: Sha256,
    /// First byte and number of bytes; without it the whole file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stretch: Option<(u64, u64)>,
}

impl Pieces {
    /// By the extension that a file's bytes gave it.
    pub fn is_playlist(ext: &str) -> bool {
        ext == "m3u8"
    }

    /// Every file that the playlist needs, each as often as it is named.
    pub fn files(&self) -> impl Iterator<Item = &Sha256> {
        let sound = self.pieces.iter().map(|piece| &piece.sha256);
        sound.chain(&self.others)
    }

    /// What an object's `settings` say, when it is a playlist.
    pub fn of(settings: Option<&Value>) -> Option<Self> {
        serde_json::from_value(settings?.get(KEY)?.clone()).ok()
    }

    /// For the `settings` of the playlist's object.
    pub fn to_settings(&self) -> Value {
        json!({ KEY: self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_from_the_settings_they_were_written_to() {
        let pieces = Pieces {
            pieces: vec![
                Piece {
                    sha256: Sha256::of(b"a"),
                    stretch: None,
                },
                Piece {
                    sha256: Sha256::of(b"b"),
                    stretch: Some((10, 20)),
                },
            ],
            others: vec![Sha256::of(b"inner")],
            encrypted: false,
        };
        assert_eq!(Pieces::of(Some(&pieces.to_settings())), Some(pieces));
        assert_eq!(Pieces::of(None), None);
        assert_eq!(Pieces::of(Some(&json!({ "bitrate_kbps": 32 }))), None);
    }
}
