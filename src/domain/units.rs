//! Sizes and durations as people write them in the configuration: `"20GiB"`, `"15m"`, `"7y"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. Text: a whole number with `B KB MB GB TB` (powers of 1000) or `KiB MiB GiB TiB`
/// (powers of 1024); without a unit it counts bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// A length of time. Text: whole numbers with `ms s m h d w y`, also several in a row (`1h30m`).
///
/// A day has 24 hours and a year 366 days, so that what is kept for `7y` never ends before the calendar does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    #[error("{0:?} is not a size; write it as \"512MiB\" or \"20GiB\"")]
    Size(String),
    #[error("{0:?} is not a duration; write it as \"90s\", \"15m\", \"48h\", \"30d\" or \"7y\"")]
    Span(String),
}

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

const SPANS_MS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 7 * 86_400_000),
    ("y", 366 * 86_400_000),
];

impl ByteSize {
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Size(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        let unit = unit.trim_start();
        let factor = if unit.is_empty() {
            1
        } else {
            SIZES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .ok_or_else(wrong)?
                .1
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

/// The largest binary unit that needs no fraction.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = SIZES[..4]
            .iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        let (unit, factor) = whole.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl Span {
    pub const fn from_duration(duration: Duration) -> Self {
        Self(duration)
    }

    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let wrong = || UnitError::Span(text.to_owned());
        let mut rest = text.trim();
        let mut total_ms: u64 = 0;
        loop {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(letters);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let factor = SPANS_MS.iter().find(|(name, _)| *name == unit);
            total_ms = factor
                .and_then(|(_, factor)| number.checked_mul(*factor))
                .and_then(|ms| total_ms.checked_add(ms))
                .ok_or_else(wrong)?;
            rest = after;
            if rest.is_empty() {
                return Ok(Self(Duration::from_millis(total_ms)));
            }
        }
    }
}

/// The largest unit up to days that needs no fraction.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let whole = SPANS_MS[..5]
            .iter()
            .rev()
            .find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor));
        let (unit, factor) = whole.unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", ms / factor)
    }
}

/// Text, or a plain number as the environment and TOML may carry it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Number(u64),
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        match Written::deserialize(d)
            .map_err(|_| D::Error::custom("a size is text such as \"512MiB\""))?
        {
            Written::Text(text) => text.parse().map_err(D::Error::custom),
            Written::Number(bytes) => Ok(Self(bytes)),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(d)
            .map_err(|_| D::Error::custom("a duration is text such as \"15m\""))?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_as_text() {
        let bytes = |text: &str| text.parse::<ByteSize>().map(ByteSize::bytes);
        assert_eq!(bytes("20GiB"), Ok(20 << 30));
        assert_eq!(bytes("1 MiB"), Ok(1 << 20));
        assert_eq!(bytes("1mib"), Ok(1 << 20));
        assert_eq!(bytes("3MB"), Ok(3_000_000));
        assert_eq!(bytes("77"), Ok(77));
        for bad in ["", "GiB", "-1MiB", "1.5GiB", "1XB", "99999999TiB"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ByteSize::from_bytes(20 << 30).to_string(), "20GiB");
        assert_eq!(ByteSize::from_bytes(1025).to_string(), "1025B");
        assert_eq!(ByteSize::from_bytes(0).to_string(), "0B");
    }

    #[test]
    fn durations_are_read_and_written_as_text() {
        let seconds = |text: &str| text.parse::<Span>().map(|span| span.duration().as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("1h30m"), Ok(5400));
        assert_eq!(seconds("30d"), Ok(30 * 86_400));
        assert_eq!(seconds("7y"), Ok(7 * 366 * 86_400));
        assert_eq!("250ms".parse::<Span>().unwrap().duration().as_millis(), 250);
        for bad in ["", "s", "15", "1.5h", "-3s", "1h ", "5x", "99999999999999y"] {
            let trimmed_is_fine = bad == "1h ";
            assert_eq!(seconds(bad).is_ok(), trimmed_is_fine, "{bad:?}");
        }
        assert_eq!("90m".parse::<Span>().unwrap().to_string(), "90m");
        assert_eq!("48h".parse::<Span>().unwrap().to_string(), "2d");
    }
}
