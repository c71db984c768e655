//! The list of formats, from which `docs/audio.md` is made; a test holds the page to it, and each line to a fixture.

use std::fmt::Write as _;

use crate::domain::media::note;

/// One line of the list.
#[derive(Debug)]
pub struct Format {
    /// For people.
    pub name: &'static str,
    pub containers: &'static str,
    /// As reports and rows name it.
    pub codec: &'static str,
    pub outcome: Outcome,
    /// In `tests/fixtures/audio`.
    pub fixtures: &'static [&'static str],
}

/// What becomes of an original of this format, which is archived in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Decoded,
    /// Only when the source declares it in `raw_audio`, as in this example.
    Declared(&'static str),
    /// No access copy; a code of [`note`] says why.
    Refused(&'static str),
}

const HE_AAC: Outcome = if cfg!(feature = "he-aac") {
    Outcome::Decoded
} else {
    Outcome::Refused(note::HE_AAC_UNSUPPORTED)
};

/// All formats that are told apart.
#[rustfmt::skip]
pub const FORMATS: &[Format] = &[
    Format { name: "PCM, 8 to 32 bits and float", containers: "WAV, RF64", codec: "pcm_s16le and its like", outcome: Outcome::Decoded,
        fixtures: &["pcm-u8-8k-mono.wav", "pcm-s16-16k-stereo.wav", "pcm-s24-11k-mono.wav", "pcm-s32-12k-mono.wav", "pcm-f32-22k-mono.wav"] },
    Format { name: "G.711 A-law", containers: "WAV", codec: "pcm_alaw", outcome: Outcome::Decoded, fixtures: &["alaw-8k-mono.wav"] },
    Format { name: "G.711 mu-law", containers: "WAV, RF64", codec: "pcm_mulaw", outcome: Outcome::Decoded, fixtures: &["mulaw-8k-stereo.wav", "speech-rf64.wav"] },
    Format { name: "IMA ADPCM", containers: "WAV", codec: "adpcm_ima_wav", outcome: Outcome::Decoded, fixtures: &["ima-adpcm-8k-mono.wav"] },
    Format { name: "Microsoft ADPCM", containers: "WAV", codec: "adpcm_ms", outcome: Outcome::Decoded, fixtures: &["ms-adpcm-8k-mono.wav"] },
    Format { name: "GSM 06.10", containers: "WAV (WAV49)", codec: "gsm", outcome: Outcome::Decoded, fixtures: &["speech-gsm.wav"] },
    Format { name: "MP3, any bitrate mode, any tags", containers: "bare, WAV", codec: "mp3", outcome: Outcome::Decoded,
        fixtures: &["mp3-8k-mono.mp3", "mp3-16k-mono-noxing.mp3", "mp3-44k-joint-stereo-vbr.mp3"] },
    Format { name: "AAC-LC", containers: "ADTS, MP4, M4A, 3GP, fragmented MP4", codec: "aac", outcome: Outcome::Decoded,
        fixtures: &["aac-lc-16k-mono.aac", "aac-lc-8k-mono.m4a", "speech-aac-lc-16k.3gp", "aac-lc-44k-stereo-fragmented.mp4", "speech-video-moov-last.mp4"] },
    Format { name: "HE-AAC v1 and v2", containers: "ADTS, MP4, M4A", codec: "he_aac", outcome: HE_AAC,
        fixtures: &["he-aac-v1-48k-stereo.aac", "he-aac-v2-48k-stereo.aac", "he-aac-v1-48k-stereo.m4a"] },
    Format { name: "AMR-NB", containers: "AMR, 3GP, MP4", codec: "amr_nb", outcome: Outcome::Decoded, fixtures: &["speech-amr-nb.amr", "speech-amr-nb-dtx.amr", "speech-amr-nb.3gp"] },
    Format { name: "AMR-WB", containers: "AMR, 3GP, MP4", codec: "amr_wb", outcome: Outcome::Decoded, fixtures: &["speech-amr-wb.awb", "speech-amr-wb.3gp"] },
    Format { name: "Opus, one or two channels", containers: "Ogg, WebM", codec: "opus", outcome: Outcome::Decoded,
        fixtures: &["speech-opus.ogg", "speech-opus-60ms.ogg", "speech-opus-stereo.webm"] },
    Format { name: "Vorbis", containers: "Ogg, WebM", codec: "vorbis", outcome: Outcome::Decoded, fixtures: &["vorbis-16k-mono.ogg", "vorbis-48k-stereo.webm"] },
    Format { name: "FLAC", containers: "bare, Ogg", codec: "flac", outcome: Outcome::Decoded, fixtures: &["flac-8k-mono.flac"] },
    Format { name: "G.711 mu-law without a header", containers: "none", codec: "pcm_mulaw", outcome: Outcome::Declared("mulaw/8000/1"), fixtures: &["speech.ul"] },
    Format { name: "G.711 A-law without a header", containers: "none", codec: "pcm_alaw", outcome: Outcome::Declared("alaw/8000/1"), fixtures: &["speech.al"] },
    Format { name: "G.722 at 64 kbit/s", containers: "none", codec: "adpcm_g722", outcome: Outcome::Declared("g722/16000/1"), fixtures: &["speech.g722"] },
    Format { name: "G.729", containers: "none", codec: "g729", outcome: Outcome::Declared("g729/8000/1"), fixtures: &["speech.g729"] },
    Format { name: "GSM 06.10 without a header", containers: "none", codec: "gsm", outcome: Outcome::Declared("gsm/8000/1"), fixtures: &["speech-gsm.gsm"] },
    Format { name: "G.726", containers: "WAV", codec: "adpcm_g726", outcome: Outcome::Refused(note::UNSUPPORTED_CODEC), fixtures: &["speech-g726.wav"] },
    Format { name: "Speex", containers: "Ogg", codec: "speex", outcome: Outcome::Refused(note::UNSUPPORTED_CODEC), fixtures: &["speech-speex.ogg"] },
    Format { name: "Video without sound", containers: "MP4", codec: "", outcome: Outcome::Refused(note::NO_AUDIO), fixtures: &["video-only.mp4"] },
];

/// The list as `docs/audio.md` shows it, for a build without `he-aac`.
pub fn table() -> String {
    let mut text = String::from("| format | in | codec | access copy |\n|---|---|---|---|\n");
    for format in FORMATS {
        let outcome = match format.outcome {
            _ if format.codec == "he_aac" => {
                "with `--features he-aac`; else none: `he_aac_unsupported`".to_owned()
            }
            Outcome::Decoded => "yes".to_owned(),
            Outcome::Declared(raw) => format!("with `raw_audio = \"{raw}\"` in the source"),
            Outcome::Refused(why) => format!("none: `{why}`"),
        };
        let codec = match format.codec {
            "" => String::new(),
            codec => format!("`{codec}`"),
        };
        let (name, containers) = (format.name, format.containers);
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {name} | {containers} | {codec} | {outcome} |");
    }
    text
}
