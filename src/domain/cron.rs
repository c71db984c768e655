//! When a cron line next falls due. Seconds first, in UTC, as the worker's scheduler reads them.

use croner::parser::{CronParser, Seconds};

use super::clock::Timestamp;

/// The first moment after `now` that fits the line; `None` where the line cannot be read or never fits.
pub fn next_after(line: &str, now: Timestamp) -> Option<Timestamp> {
    let cron = CronParser::builder()
        .seconds(Seconds::Required)
        .dom_and_dow(true)
        .build()
        .parse(line)
        .ok()?;
    // The parser carries parts of a second along.
    let whole = Timestamp::from_ms(now.ms() - now.ms().rem_euclid(1000));
    let next = cron.find_next_occurrence(&whole.utc(), false).ok()?;
    Some(Timestamp::from_ms(next.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_it_is_due_next() {
        let now = Timestamp::parse("2024-03-05T20:04:06.500Z").unwrap();
        for (line, expected) in [
            ("0 */5 * * * *", Some("2024-03-05T20:05:00.000Z")),
            ("30 */10 * * * *", Some("2024-03-05T20:10:30.000Z")),
            ("7 4 20 * * *", Some("2024-03-05T20:04:07.000Z")),
            ("6 4 20 * * *", Some("2024-03-06T20:04:06.000Z")),
            ("*/5 * * * *", None),
            ("soon", None),
        ] {
            let next = next_after(line, now).map(|at| at.to_string());
            assert_eq!(next.as_deref(), expected, "{line}");
        }
    }
}
