//! Stable codes in words that a person at the page understands, and times and lengths as people read them.

use chrono_tz::Tz;

use crate::domain::clock::Timestamp;
use crate::domain::media::note;
use crate::domain::recording::reason;

/// A code and what it means.
#[derive(Debug, PartialEq, Eq)]
pub struct Coded {
    pub code: String,
    pub words: String,
}

impl Coded {
    pub fn new(code: &str) -> Self {
        Self {
            code: code.to_owned(),
            words: words(code).map_or_else(|| code.replace('_', " "), str::to_owned),
        }
    }
}

/// `None` for a code that this version does not know, such as a vendor's own.
fn words(code: &str) -> Option<&'static str> {
    Some(match code {
        reason::NOT_READY | reason::LINK_NOT_READY => "the provider is still making the file",
        reason::PROVIDER_STUCK => "the provider should have made the file long ago, and has not",
        reason::RECORDING_NOT_ANNOUNCED => "the provider never told where the recording is",
        reason::HOST_NOT_ALLOWED => "its address is on a host that is not allowed yet",
        reason::ADDRESS_FORBIDDEN => "its address points into a private network",
        reason::LINK_EXPIRED => "the link died, a new one is asked for",
        reason::THROTTLED => "the provider asked to slow down",
        reason::CREDENTIALS_REFUSED => "the provider refused our credentials",
        reason::PROVIDER_UNREACHABLE => "the provider does not answer",
        reason::TRUNCATED => "fewer bytes came than were announced",
        reason::NOT_A_RECORDING => "a page came instead of a recording",
        reason::EMPTY_BODY => "an empty file came",
        reason::TOO_LARGE => "larger than max_recording allows",
        reason::ARCHIVE_UNAVAILABLE => "the archive does not answer",
        reason::ARCHIVE_CONFLICT => "the archive holds something else in its place",
        reason::SPOOL_FULL => "no room in the spool",
        reason::GONE => "the provider says that it is gone",
        reason::EXPIRED_AT_PROVIDER => "the provider keeps it no longer",
        reason::NEVER_MADE => "the provider never made it",
        reason::SOURCE_UNCONFIGURED => "its source is not configured any more",
        note::SHORT => "shorter than announced",
        note::TRUNCATED_AUDIO => "the sound breaks off",
        note::DECODE_ERRORS => "parts could not be decoded",
        note::DIGITAL_SILENCE => "silent throughout",
        note::ONE_WAY_AUDIO => "only one side was recorded",
        note::CLIPPED => "overdriven",
        note::NO_AUDIO => "there is no sound in it",
        note::HE_AAC_UNSUPPORTED => "HE-AAC, which this build cannot play",
        note::UNSUPPORTED_CODEC => "a codec that cannot be played yet",
        note::UNDECODABLE => "cannot be decoded",
        note::TRANSCODE_GAVE_UP => "the decoder gave up on it",
        note::FORMAT_CHANGED => "the format changes on the way",
        note::MIXED_DOWN => "several channels mixed into one",
        note::TOO_LONG => "longer than an access copy may be",
        note::FETCHED_PLAIN_HTTP => "fetched without encryption",
        note::DURATION_DIFFERS => "its length differs from the call's",
        note::DTMF => "keys were pressed",
        note::MOSTLY_SILENT => "mostly silent",
        note::HEADER_DIFFERS => "its header says otherwise than its sound",
        note::CHANGED_AT_VENDOR => "the provider changed the file later; both are kept",
        note::OTHER_BYTES => "another recording goes by its name, with other bytes",
        note::ENCRYPTED => "encrypted, and the key is not known",
        "html_instead_of_audio" | "xml_instead_of_audio" | "json_instead_of_audio" => {
            "a page came instead of a recording"
        }
        _ => return None,
    })
}

/// A state as the page says it.
pub fn state(state: &str) -> &str {
    match state {
        "none" => "no recording",
        "staged" => "being stored",
        "quarantined" => "needs a look",
        other => other,
    }
}

/// A moment in the page's zone.
#[derive(Debug)]
pub struct When {
    pub machine: String,
    pub date: String,
    pub time: String,
    /// The zone's offset at that moment.
    pub offset: String,
    pub full: String,
    /// The call's start; else only the arrival of the first notice is known.
    pub is_start: bool,
}

impl When {
    pub fn new(at: Timestamp, zone: Tz, is_start: bool) -> Self {
        let local = at.utc().with_timezone(&zone);
        Self {
            machine: at.to_string(),
            date: local.format("%Y-%m-%d").to_string(),
            time: local.format("%H:%M:%S").to_string(),
            offset: local.format("%:z").to_string(),
            full: full(at, zone),
            is_start,
        }
    }
}

/// With the zone's offset, so that nobody has to guess.
pub fn full(at: Timestamp, zone: Tz) -> String {
    let local = at.utc().with_timezone(&zone);
    local.format("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// `3:07`, `1:02:03`.
pub fn length(duration_ms: i64) -> String {
    let seconds = (duration_ms.max(0) + 500) / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_has_words() {
        for code in note::ALL {
            assert!(words(code).is_some(), "{code}");
        }
        assert_eq!(Coded::new("vendor_said_no").words, "vendor said no");
    }

    #[test]
    fn times_and_lengths_read_well() {
        let at = Timestamp::parse("2024-03-05T20:04:06Z").unwrap();
        assert_eq!(full(at, Tz::Asia__Shanghai), "2024-03-06 04:04:06 +08:00");
        assert_eq!(length(187_400), "3:07");
        assert_eq!(length(3_723_000), "1:02:03");
        assert_eq!(length(0), "0:00");
    }
}
