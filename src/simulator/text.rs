//! Small texts that several vendors write: durations for a configuration, times as Alibaba prints them.

use std::time::Duration;

use chrono::{DateTime, FixedOffset};

/// A duration as callvault's configuration writes it.
pub fn span(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// `yyyy-MM-dd HH:mm:ss` in UTC+8, without a zone. Empty for a time that no calendar has.
pub fn shanghai(ms: i64) -> String {
    let zone = FixedOffset::east_opt(8 * 3600);
    let at = DateTime::from_timestamp_millis(ms)
        .zip(zone)
        .map(|(at, zone)| at.with_timezone(&zone));
    at.map_or_else(String::new, |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_shanghai() {
        // The pair of the vendor's own samples (aliyun help, documents 305596 and 305597).
        assert_eq!(shanghai(1_629_893_489_000), "2021-08-25 20:11:29");
        assert_eq!(span(Duration::from_millis(1500)), "1500ms");
        assert_eq!(span(Duration::from_secs(60)), "60s");
    }
}
