//! What is known of a recording's sound, and what a decoder child is asked for and answers: plain values for every room.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;

/// What the first bytes of a body say it is. Names, labels and content types are never asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sniffed {
    /// For the object's key: `wav mp3 m4a mp4 3gp aac amr awb ogg webm flac`, else `bin`.
    pub ext: String,
    pub mime: String,
    pub class: SniffClass,
}

/// Whether a body may be archived as a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SniffClass {
    /// A container or a stream of sound that is known by its first bytes.
    Audio,
    /// Nothing known; archived as it is, the decoder has the last word.
    Unknown,
    /// Certainly no recording: never archived.
    NotARecording(NotARecording),
}

/// Why a body is not a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotARecording {
    Empty,
    Html,
    Xml,
    Json,
    /// Plain text of another kind: an error in words.
    Text,
}

impl NotARecording {
    /// The stable code for rows, pages and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty_body",
            Self::Html => "html_instead_of_audio",
            Self::Xml => "xml_instead_of_audio",
            Self::Json => "json_instead_of_audio",
            Self::Text => "text_instead_of_audio",
        }
    }
}

/// What decoding found; counted on decoded samples, never read from a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioFacts {
    /// Lower case, as ffmpeg calls it: `pcm_s16le pcm_mulaw adpcm_ima_wav mp3 aac he_aac vorbis flac ...`.
    pub codec: String,
    /// The rate of the decoded samples; 0 when none were decoded.
    pub sample_rate_hz: u32,
    /// Channels of the decoded samples; 0 when none were decoded.
    pub channels: u16,
    /// `frames` at `sample_rate_hz`, rounded to the nearest millisecond.
    pub duration_ms: u64,
    /// Decoded samples per channel.
    pub frames: u64,
}

/// What the header says of the sound; for comparing only, `AudioFacts` are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    pub sample_rate_hz: Option<u32>,
    pub channels: Option<u16>,
    pub duration_ms: Option<u64>,
}

/// How the decoded sound is; of the original, before anything was changed for the access copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// The loudest sample; `None` when there is none but zero.
    pub peak_dbfs: Option<f64>,
    /// Integrated loudness (EBU R128); `None` when all is below its gate, or too short for it.
    pub loudness_lufs: Option<f64>,
    /// Of the time, in the channel that has least of it.
    pub silence_share: f64,
    /// Keys were pressed. Which ones is never kept.
    pub has_dtmf: bool,
    /// At most two: more are mixed down first.
    pub channels: Vec<ChannelAnalysis>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelAnalysis {
    pub peak_dbfs: Option<f64>,
    pub silence_share: f64,
    pub is_digital_silence: bool,
    /// At full scale.
    pub clipped_samples: u64,
    pub key_presses: u32,
}

/// Sound without any header, as its source declares it: `mulaw/8000/1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RawAudio {
    pub codec: RawCodec,
    pub sample_rate_hz: u32,
    pub channels: u16,
}

/// Codecs that a source may declare for bytes that say nothing of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawCodec {
    Mulaw,
    Alaw,
    PcmS16le,
    G722,
    G729,
    Gsm,
}

impl RawCodec {
    pub const ALL: [(&'static str, Self); 6] = [
        ("mulaw", Self::Mulaw),
        ("alaw", Self::Alaw),
        ("pcm_s16le", Self::PcmS16le),
        ("g722", Self::G722),
        ("g729", Self::G729),
        ("gsm", Self::Gsm),
    ];

    /// As configuration writes it.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, codec)| *codec == self)
            .map_or("", |(name, _)| *name)
    }

    /// The only rate and channel count that the codec knows, if there is only one.
    const fn fixed(self) -> Option<(u32, u16)> {
        match self {
            Self::Mulaw | Self::Alaw | Self::PcmS16le => None,
            Self::G722 => Some((16_000, 1)),
            Self::G729 | Self::Gsm => Some((8_000, 1)),
        }
    }
}

impl std::fmt::Display for RawAudio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{}/{}",
            self.codec.as_str(),
            self.sample_rate_hz,
            self.channels
        )
    }
}

impl From<RawAudio> for String {
    fn from(raw: RawAudio) -> Self {
        raw.to_string()
    }
}

impl TryFrom<String> for RawAudio {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for RawAudio {
    type Err = String;

    /// `CODEC/RATE/CHANNELS`; rate and channels may be left out where the codec has only one.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('/');
        let name = parts.next().unwrap_or_default();
        let Some((_, codec)) = RawCodec::ALL.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = RawCodec::ALL.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "the codec {name:?} is none of {}",
                known.join(", ")
            ));
        };
        let fixed = codec.fixed();
        let (default_rate, default_channels) = fixed.unwrap_or((8_000, 1));
        let number = |part: Option<&str>, default: u32| match part {
            None => Ok(default),
            Some(part) => part.parse().map_err(|_| format!("{part:?} is no number")),
        };
        let sample_rate_hz = number(parts.next(), default_rate)?;
        let channels = number(parts.next(), default_channels.into())?;
        if parts.next().is_some() {
            return Err("write it as CODEC/RATE/CHANNELS, mulaw/8000/1".into());
        }
        if fixed.is_some_and(|(rate, n)| (rate, u32::from(n)) != (sample_rate_hz, channels)) {
            return Err(format!(
                "{name} is always {default_rate}/{default_channels}"
            ));
        }
        if !(4_000..=192_000).contains(&sample_rate_hz) || !(1..=2).contains(&channels) {
            return Err("the rate is 4000 to 192000, with one or two channels".into());
        }
        Ok(Self {
            codec: *codec,
            sample_rate_hz,
            channels: channels as u16,
        })
    }
}

/// Stable codes of audio findings. They stand on rows, pages, metrics and in the runbook; a code is never renamed.
///
/// None of them keeps an original out of the archive.
pub mod note {
    /// Shorter than its own header (or the CDR) says.
    pub const SHORT: &str = "short";
    /// The sound ends in the middle of a frame; everything up to there was kept.
    pub const TRUNCATED_AUDIO: &str = "truncated_audio";
    /// Some packets could not be decoded and were left out.
    pub const DECODE_ERRORS: &str = "decode_errors";
    /// Every decoded sample is (within 8 bits' rounding) the same: nobody was recorded.
    pub const DIGITAL_SILENCE: &str = "digital_silence";
    /// One of two channels is digital silence while the other is not.
    pub const ONE_WAY_AUDIO: &str = "one_way_audio";
    /// More than one sample in a thousand lies at full scale.
    pub const CLIPPED: &str = "clipped";
    /// Readable, but without any sample of sound (header only, video only): no access copy.
    pub const NO_AUDIO: &str = "no_audio";
    /// HE-AAC, which this build refuses to decode wrongly (feature `he-aac` is off): no access copy.
    pub const HE_AAC_UNSUPPORTED: &str = "he_aac_unsupported";
    /// A known container with a codec that this version does not decode: no access copy.
    pub const UNSUPPORTED_CODEC: &str = "unsupported_codec";
    /// No decoder recognises the bytes: no access copy.
    pub const UNDECODABLE: &str = "undecodable";
    /// Three decoder children died over it: no access copy.
    pub const TRANSCODE_GAVE_UP: &str = "transcode_gave_up";
    /// The stream changed its rate or its channels on the way; only the part before is in the access copy.
    pub const FORMAT_CHANGED: &str = "format_changed";
    /// More than two channels were mixed down to one for the access copy.
    pub const MIXED_DOWN: &str = "mixed_down";
    /// There is more sound than one recording may have; the access copy ends at the limit.
    pub const TOO_LONG: &str = "too_long";
    /// Fetched by plain http, after https was tried.
    pub const FETCHED_PLAIN_HTTP: &str = "fetched_plain_http";
    /// Keys were pressed during the call (DTMF); which ones is not kept. For reviews of card data.
    pub const DTMF: &str = "dtmf";
    /// Nearly all of it is below -50 dBFS, without being digital silence.
    pub const MOSTLY_SILENT: &str = "mostly_silent";
    /// Rate, channels or length by its header are not those of the decoded samples.
    pub const HEADER_DIFFERS: &str = "header_differs";
    /// The decoded length and the CDR's differ by more than the tolerance.
    pub const DURATION_DIFFERS: &str = "duration_differs";
    /// The vendor calls it and another recording of the call by one name, and their bytes differ: both are kept.
    pub const OTHER_BYTES: &str = "same_recording_other_bytes";
    /// The vendor announced another file under the same name after this one was archived: both are kept.
    pub const CHANGED_AT_VENDOR: &str = "changed_at_vendor";
    /// One of two single-party recordings that are joined in the call's own access copy; how they lie to each other is as exact as the
    /// vendor's start stamps.
    pub const PAIRED: &str = "paired";
    /// The same without stamps: both beginnings were laid to one moment.
    pub const PAIRED_BY_BEGINNINGS: &str = "paired_by_beginnings";
    /// One party's recording, and none of the other party that can be heard: no joint copy.
    pub const OTHER_PARTY_MISSING: &str = "other_party_missing";
    /// Recordings of more than two parties, or with start stamps days apart: no joint copy.
    pub const NOT_PAIRED: &str = "not_paired";
    /// Three decoder children died over the joint copy: there is none.
    pub const PAIRING_GAVE_UP: &str = "pairing_gave_up";
    /// What says how a recording stands to the call's joint access copy; at most one of them is on it.
    pub const PAIRING: &[&str] = &[
        PAIRED,
        PAIRED_BY_BEGINNINGS,
        OTHER_PARTY_MISSING,
        NOT_PAIRED,
        PAIRING_GAVE_UP,
    ];
    /// The vendor encrypted it and the key is not known: no access copy.
    pub const ENCRYPTED: &str = "encrypted";

    /// All codes above, for pages and for tests.
    pub const ALL: &[&str] = &[
        SHORT,
        TRUNCATED_AUDIO,
        DECODE_ERRORS,
        DIGITAL_SILENCE,
        ONE_WAY_AUDIO,
        CLIPPED,
        DTMF,
        MOSTLY_SILENT,
        HEADER_DIFFERS,
        NO_AUDIO,
        HE_AAC_UNSUPPORTED,
        UNSUPPORTED_CODEC,
        UNDECODABLE,
        TRANSCODE_GAVE_UP,
        FORMAT_CHANGED,
        MIXED_DOWN,
        TOO_LONG,
        FETCHED_PLAIN_HTTP,
        DURATION_DIFFERS,
        ENCRYPTED,
        PAIRED,
        PAIRED_BY_BEGINNINGS,
        OTHER_PARTY_MISSING,
        NOT_PAIRED,
        PAIRING_GAVE_UP,
    ];
}

/// How access copies are made (`[access_copy]`). A change touches new copies only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSettings {
    /// For one channel; stereo gets twice as much.
    pub bitrate_kbps: u32,
    /// Sources above are resampled, sources below keep their rate.
    pub max_sample_rate_hz: u32,
    /// An undamaged MP3 within these limits is its own access copy.
    pub use_original_mp3: bool,
    /// Brings the loudness to -23 LUFS (EBU R128), as far as the peaks leave room.
    pub normalise: bool,
    /// Two single-party recordings of a call get a stereo access copy of the call beside their own.
    pub pair: bool,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            bitrate_kbps: 32,
            max_sample_rate_hz: 16_000,
            use_original_mp3: true,
            normalise: false,
            pair: true,
        }
    }
}

impl AccessSettings {
    /// Bitrates that may be asked for one channel: what MPEG-1, 2 and 2.5 know, at both one and two channels.
    pub const BITRATES_KBPS: &[u32] = &[8, 16, 24, 32, 40, 48, 64, 80];

    /// Rates that an MP3 can have.
    pub const MP3_RATES_HZ: &[u32] = &[
        8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000,
    ];

    /// What is wrong with these settings, in words for the configuration check.
    pub fn problem(&self) -> Option<String> {
        if !Self::BITRATES_KBPS.contains(&self.bitrate_kbps) {
            return Some(format!(
                "bitrate_kbps = {} is none of {:?}",
                self.bitrate_kbps,
                Self::BITRATES_KBPS
            ));
        }
        if !Self::MP3_RATES_HZ.contains(&self.max_sample_rate_hz) {
            return Some(format!(
                "max_sample_rate_hz = {} is none of {:?}",
                self.max_sample_rate_hz,
                Self::MP3_RATES_HZ
            ));
        }
        None
    }
}

/// What the access copy says of itself in its ID3 tag. Never a phone number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTags {
    pub recording_id: Option<String>,
    pub call_id: Option<String>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// One file for a decoder child. Paths are absolute and in the spool; both outputs are created or overwritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscodeJob {
    pub input: PathBuf,
    /// What the source says of bytes that say nothing of themselves.
    #[serde(default)]
    pub raw: Option<RawAudio>,
    pub mp3: PathBuf,
    pub waveform: PathBuf,
    pub settings: AccessSettings,
    pub tags: AccessTags,
}

/// Files of two persons for a decoder child: the call's joint access copy. Paths as in [`TranscodeJob`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairJob {
    /// In the order in which they play.
    pub left: Vec<PairPiece>,
    pub right: Vec<PairPiece>,
    /// The highest of all files; the copy's own follows from it and the settings.
    pub sample_rate_hz: u32,
    pub mp3: PathBuf,
    pub settings: AccessSettings,
    pub tags: AccessTags,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairPiece {
    pub input: PathBuf,
    #[serde(default)]
    pub raw: Option<RawAudio>,
    /// From the beginning of the copy.
    pub at_ms: u64,
    /// Hundredths of a decibel by which it is made louder.
    pub gain_cb: i32,
}

/// The access copy that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessFacts {
    pub sample_rate_hz: u32,
    pub channels: u16,
    /// What a player that reads the LAME tag plays.
    pub duration_ms: u64,
    pub bytes: u64,
}

/// What a decoder child found and made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TranscodeReport {
    /// `None` when the bytes could not be recognised at all.
    pub original: Option<AudioFacts>,
    /// What the header says, where a stream was found.
    #[serde(default)]
    pub declared: Option<Declared>,
    /// `None` when no sample was decoded.
    #[serde(default)]
    pub analysis: Option<Analysis>,
    /// `None`: neither MP3 nor waveform exists, `no_access_reason` says why (or only a probe was asked for).
    pub access: Option<AccessFacts>,
    /// The original is its own access copy: there is a waveform, and no MP3 was written.
    #[serde(default)]
    pub access_is_original: bool,
    /// A code of [`note`].
    pub no_access_reason: Option<String>,
    /// Codes of [`note`], each once, in the order of [`note::ALL`]; holds `no_access_reason` too.
    pub notes: Vec<String>,
    /// Tool and versions, for the lineage in the manifest.
    pub tool: String,
    /// The settings that shaped the access copy, for the lineage in the manifest.
    pub settings: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_settings_are_sound() {
        assert_eq!(AccessSettings::default().problem(), None);
        let odd = AccessSettings {
            bitrate_kbps: 33,
            ..AccessSettings::default()
        };
        assert!(odd.problem().unwrap().starts_with("bitrate_kbps = 33"));
        let odd = AccessSettings {
            max_sample_rate_hz: 0,
            ..AccessSettings::default()
        };
        assert!(odd.problem().unwrap().starts_with("max_sample_rate_hz = 0"));
    }

    #[test]
    fn note_codes_are_snake_case_and_unique() {
        let mut seen = std::collections::HashSet::new();
        for code in note::ALL {
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(seen.insert(code));
        }
    }

    #[test]
    fn a_report_survives_the_way_through_json() {
        let report = TranscodeReport {
            original: Some(AudioFacts {
                codec: "pcm_mulaw".into(),
                sample_rate_hz: 8000,
                channels: 2,
                duration_ms: 1000,
                frames: 8000,
            }),
            declared: None,
            analysis: None,
            access: None,
            access_is_original: false,
            no_access_reason: Some(note::NO_AUDIO.into()),
            notes: vec![note::NO_AUDIO.into()],
            tool: "callvault".into(),
            settings: serde_json::json!({"bitrate_kbps": 32}),
        };
        let line = serde_json::to_string(&report).unwrap();
        assert_eq!(
            serde_json::from_str::<TranscodeReport>(&line).unwrap(),
            report
        );
    }
}
