//! The scheduled pass: looks for gaps that no notice will close by itself.

use std::fmt;

use crate::db::{Database, DbError};
use crate::domain::clock::Timestamp;
use crate::providers::sources::Sources;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Calls with talk time whose recording was not announced within the source's `expect_within`.
    pub not_announced: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls without an announced recording",
            self.not_announced
        )
    }
}

/// One pass; the findings are alarms in `status` and `/metrics`.
pub async fn pass(db: &Database, _sources: &Sources, now: Timestamp) -> Result<Report, DbError> {
    let not_announced = db.count_not_announced(now).await?;
    if not_announced > 0 {
        tracing::warn!(
            not_announced,
            "calls with talk time have no announced recording"
        );
    }
    Ok(Report { not_announced })
}
