//! A moment as people write it in a search: RFC 3339, or a date that means its first instant in their zone.

use chrono::{NaiveDate, NaiveTime, TimeZone};
use chrono_tz::Tz;

use super::clock::Timestamp;

/// `None` when the text is neither.
pub fn parse(text: &str, zone: Tz) -> Option<Timestamp> {
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return first_instant(date, zone);
    }
    Timestamp::parse(text)
}

/// Where clocks jump over midnight, the day begins later; where midnight comes twice, at the first.
fn first_instant(date: NaiveDate, zone: Tz) -> Option<Timestamp> {
    let midnight = date.and_time(NaiveTime::MIN);
    (0..24 * 4)
        .map(|quarter| midnight + chrono::TimeDelta::minutes(15 * quarter))
        .find_map(|local| zone.from_local_datetime(&local).earliest())
        .map(|at| Timestamp::from_ms(at.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_begins_when_its_zone_says_so() {
        for (text, zone, expected) in [
            ("2024-03-05", Tz::UTC, Some("2024-03-05T00:00:00.000Z")),
            (
                "2024-03-05",
                Tz::Asia__Shanghai,
                Some("2024-03-04T16:00:00.000Z"),
            ),
            // Clocks there went from midnight to one o'clock.
            (
                "2018-11-04",
                Tz::America__Sao_Paulo,
                Some("2018-11-04T03:00:00.000Z"),
            ),
            (
                "2024-03-05T12:00:00+08:00",
                Tz::UTC,
                Some("2024-03-05T04:00:00.000Z"),
            ),
            ("2024-03-05T12:00:00", Tz::UTC, None),
            ("2024-02-30", Tz::UTC, None),
            ("yesterday", Tz::UTC, None),
            ("", Tz::UTC, None),
        ] {
            let parsed = parse(text, zone).map(|at| at.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text} {zone}");
        }
    }
}
