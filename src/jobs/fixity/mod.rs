//! `fixity`: stored objects are looked for and read again, on and on, and what is wrong with one is named.
//!
//! What a newcomer gets wrong: a check mends nothing. It reads, moves `verified_at` of what is whole, and
//! leaves a finding on what is not, which stands until a later look finds the object whole.

mod examine;
mod structure;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use tokio_util::sync::CancellationToken;

use crate::archive::contract::{Archive, ArchiveError, ArchiveErrorKind};
use crate::db::fixity::{Check, Kept};
use crate::db::{Database, DbError};
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::units::Span;

use examine::{Examiner, Verdict};

const DAY_MS: i64 = 24 * 3600 * 1000;
/// What was read so short a time before a slice is not read again in it, however small the archive is.
const FRESH_MS: i64 = DAY_MS / 2;
/// No object takes longer; a process that died is followed by another one after this.
const LEASE: Duration = Duration::from_secs(1800);
/// So often it is written down how far a check is.
const KEEP_MS: i64 = 30_000;
const PAGE: usize = 200;
/// Damaged objects that a slice looks at again at least, whatever its own size.
const DAMAGED_AGAIN: u64 = 100;

/// Objects in a row that the store does not give now: then it is the store, and the run ends.
const NOT_NOW_IN_A_ROW: u32 = 3;

/// The names of the checks in their table.
const STRUCTURE: &str = "structure";
const SLICE: &str = "slice";
const ALL: &str = "all";

/// `[fixity]` of the configuration.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Every object is read at least once in this time; `None`: nothing is read by schedule.
    #[serde(deserialize_with = "period")]
    pub every: Option<Span>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            every: Some(Span::from_duration(Duration::from_secs(90 * 24 * 3600))),
        }
    }
}

impl Settings {
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let days = self.days()?;
        (days < 1).then(|| ("every", "is shorter than a day".to_owned()))
    }

    /// Whole days of the period.
    fn days(&self) -> Option<u64> {
        let every = self.every?.duration();
        Some(every.as_secs() / (24 * 3600))
    }

    /// The beginning of the period that ends now.
    pub fn since(&self, now: Timestamp) -> Timestamp {
        let every = self.every.or(Self::default().every);
        let ms = every.map_or(0, |span| span.duration().as_millis());
        now.plus_ms(-i64::try_from(ms).unwrap_or(i64::MAX))
    }
}

fn period<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Span>, D::Error> {
    use serde::de::Error;
    let text = String::deserialize(d)
        .map_err(|_| D::Error::custom("a period is text such as \"90d\", or \"off\""))?;
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(D::Error::custom)
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Objects whose existence and size were looked at; null when that was not due.
    pub structure: Option<u64>,
    /// Objects that were read and hashed.
    pub checked: u64,
    pub bytes: u64,
    /// Of these, not what they should be.
    pub damaged: u64,
    /// Were damaged before, and are whole.
    pub healed: u64,
    /// Another process is at it.
    pub busy: bool,
    /// Stopped before its end; the next run goes on there.
    pub stopped: bool,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(looked) = self.structure {
            write!(f, "{looked} objects looked for, ")?;
        }
        write!(
            f,
            "{} read ({} bytes), {} damaged, {} whole again",
            self.checked, self.bytes, self.damaged, self.healed
        )
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FixityError {
    /// The store did not answer: nothing is said about any object.
    #[error("the archive does not answer: {}", .0.whole())]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    On,
    Stop,
}

#[derive(Clone, Debug)]
pub struct Fixity {
    pub db: Database,
    pub archive: Arc<dyn Archive>,
    pub clock: SharedClock,
    pub settings: Settings,
    pub stop: CancellationToken,
}

/// One run: what it did, and who wants to hear of it.
struct Run<'a> {
    fixity: &'a Fixity,
    examiner: Examiner<'a>,
    report: Report,
    kept_at: Timestamp,
    /// Why an object was put off.
    not_now: Option<String>,
    not_now_in_a_row: u32,
    progress: &'a (dyn Fn(&Report) + Sync),
}

impl Fixity {
    /// What is due: once a day every object is looked for, and the day's slice is read, the oldest first.
    pub async fn due(&self, progress: &(dyn Fn(&Report) + Sync)) -> Result<Report, FixityError> {
        let mut run = self.run(progress);
        if self.settings.every.is_some() {
            // What ends the one early must not keep the other from its turn.
            let looked = run.structure_when_due().await;
            run.slice_when_due().await.and(looked)?;
        }
        Ok(run.report)
    }

    /// `n` objects by chance.
    pub async fn sample(
        &self,
        n: u64,
        progress: &(dyn Fn(&Report) + Sync),
    ) -> Result<Report, FixityError> {
        let mut run = self.run(progress);
        let ids = self.db.kept_by_chance(n).await?;
        for ids in ids.chunks(PAGE) {
            let page = self.db.kept_by_id(ids).await?;
            if run.read_all(&page, None).await? == Next::Stop {
                break;
            }
        }
        run.put_off()?;
        Ok(run.report)
    }

    /// Every object is looked for and read. Stopped, the next one goes on with what was not read since this
    /// one began.
    pub async fn all(&self, progress: &(dyn Fn(&Report) + Sync)) -> Result<Report, FixityError> {
        let mut run = self.run(progress);
        let now = self.clock.now();
        let claimed = self.db.claim_check(ALL, 0, now.plus(LEASE), now).await?;
        let Some(mut check) = claimed else {
            run.report.busy = true;
            return Ok(run.report);
        };
        let walked = run.everything(&mut check).await;
        run.end(&check, walked, Timestamp::from_ms(0)).await?;
        Ok(run.report)
    }

    fn run<'a>(&'a self, progress: &'a (dyn Fn(&Report) + Sync)) -> Run<'a> {
        Run {
            fixity: self,
            examiner: Examiner::new(&self.db, self.archive.as_ref()),
            report: Report::default(),
            kept_at: self.clock.now(),
            not_now: None,
            not_now_in_a_row: 0,
            progress,
        }
    }
}

impl Run<'_> {
    async fn structure_when_due(&mut self) -> Result<(), FixityError> {
        let (db, now) = (&self.fixity.db, self.fixity.clock.now());
        let claimed = db.claim_check(STRUCTURE, 0, now.plus(LEASE), now).await?;
        let Some(mut check) = claimed else {
            self.report.busy |= db.check_is_held(STRUCTURE, now).await?;
            return Ok(());
        };
        let walked = self.structure(&mut check).await;
        self.end(&check, walked, tomorrow(now)).await
    }

    async fn slice_when_due(&mut self) -> Result<(), FixityError> {
        if self.report.stopped {
            return Ok(());
        }
        let (db, now) = (&self.fixity.db, self.fixity.clock.now());
        let days = self.fixity.settings.days().unwrap_or(1).max(1);
        let quota = db.count_kept().await?.div_ceil(days);
        let claimed = db.claim_check(SLICE, quota, now.plus(LEASE), now).await?;
        let Some(mut check) = claimed else {
            self.report.busy |= db.check_is_held(SLICE, now).await?;
            return Ok(());
        };
        let walked = self.slice(&mut check).await;
        self.end(&check, walked, tomorrow(now)).await
    }

    /// A check that is through is closed; any other is given back, so that whoever comes next goes on.
    async fn end(
        &mut self,
        check: &Check,
        walked: Result<Next, FixityError>,
        next: Timestamp,
    ) -> Result<(), FixityError> {
        let db = &self.fixity.db;
        // With something put off the check stays open: the next run comes back to it.
        let walked = walked.and_then(|next| self.put_off().map(|()| next));
        match walked {
            Ok(Next::On) => Ok(db.finish_check(check, next).await?),
            other => {
                db.keep_check(check, self.fixity.clock.now()).await?;
                other.map(|_| ())
            }
        }
    }

    /// The oldest objects, as many as a day's share, and all that would be older than the period.
    async fn slice(&mut self, check: &mut Check) -> Result<Next, FixityError> {
        let fixity = self.fixity;
        let again = check.quota.max(DAMAGED_AGAIN);
        if self.damaged_again(check, again).await? == Next::Stop {
            return Ok(Next::Stop);
        }
        let overdue = fixity.settings.since(check.begun_at).plus_ms(DAY_MS);
        let before = check.begun_at.plus_ms(-FRESH_MS);
        let mut last: Option<Kept> = None;
        loop {
            let page = fixity.db.kept_by_age(before, last.as_ref(), PAGE).await?;
            for kept in &page {
                let is_overdue = kept.object.verified_at.is_some_and(|at| at < overdue);
                if check.quota == 0 && !is_overdue {
                    return Ok(Next::On);
                }
                if self.read(kept, Some(check)).await? == Next::Stop {
                    return Ok(Next::Stop);
                }
                check.quota = check.quota.saturating_sub(1);
            }
            match page.into_iter().next_back() {
                Some(kept) => last = Some(kept),
                None => return Ok(Next::On),
            }
        }
    }

    async fn everything(&mut self, check: &mut Check) -> Result<Next, FixityError> {
        if self.structure(check).await? == Next::Stop
            || self.damaged_again(check, u64::MAX).await? == Next::Stop
        {
            return Ok(Next::Stop);
        }
        let mut last: Option<Kept> = None;
        loop {
            let begun = check.begun_at;
            let page = self
                .fixity
                .db
                .kept_by_age(begun, last.as_ref(), PAGE)
                .await?;
            if self.read_all(&page, Some(check)).await? == Next::Stop {
                return Ok(Next::Stop);
            }
            match page.into_iter().next_back() {
                Some(kept) => last = Some(kept),
                None => return Ok(Next::On),
            }
        }
    }

    /// What was damaged before this check began is looked at again: it may be whole by now.
    async fn damaged_again(&mut self, check: &mut Check, most: u64) -> Result<Next, FixityError> {
        let mut left = most;
        while left > 0 {
            let limit = PAGE.min(usize::try_from(left).unwrap_or(PAGE));
            let begun = check.begun_at;
            let page = self.fixity.db.kept_damaged(begun, limit).await?;
            if page.is_empty() {
                break;
            }
            left = left.saturating_sub(page.len() as u64);
            if self.read_all(&page, Some(check)).await? == Next::Stop {
                return Ok(Next::Stop);
            }
        }
        Ok(Next::On)
    }

    async fn read_all(
        &mut self,
        page: &[Kept],
        mut check: Option<&mut Check>,
    ) -> Result<Next, FixityError> {
        for kept in page {
            if self.read(kept, check.as_deref_mut()).await? == Next::Stop {
                return Ok(Next::Stop);
            }
        }
        Ok(Next::On)
    }

    /// Reads one object whole and writes down what it came to. One at a time: the pipeline goes first.
    async fn read(&mut self, kept: &Kept, check: Option<&mut Check>) -> Result<Next, FixityError> {
        if self.may_go_on(check).await? == Next::Stop {
            return Ok(Next::Stop);
        }
        let (fixity, object) = (self.fixity, &kept.object);
        let verdict = tokio::select! {
            verdict = self.examiner.examine(kept) => verdict?,
            // A long object is not waited for; it is read from its beginning next time.
            () = fixity.stop.cancelled() => {
                self.report.stopped = true;
                return Ok(Next::Stop);
            }
        };
        let now = fixity.clock.now();
        if let Verdict::NotNow(what) = verdict {
            tracing::warn!(key = %object.key, what, "object not read, it is tried again");
            self.not_now = Some(format!("{}: {what}", object.key));
            self.not_now_in_a_row += 1;
            if self.not_now_in_a_row >= NOT_NOW_IN_A_ROW {
                self.put_off()?;
            }
            return Ok(Next::On);
        }
        self.not_now_in_a_row = 0;
        match verdict {
            Verdict::NotNow(_) => {}
            Verdict::Whole => {
                if fixity.db.object_is_whole(kept, now).await? {
                    tracing::info!(key = %object.key, "object is whole again");
                    self.report.healed += 1;
                }
            }
            Verdict::Damaged(damage, what) => {
                let id = object.object_id;
                let is_news = fixity.db.object_is_damaged(id, damage, &what, now).await?;
                if is_news {
                    tracing::error!(key = %object.key, recording = %kept.recording_id, code = damage.code(), what, "stored object is damaged");
                }
                self.report.damaged += 1;
            }
        }
        self.report.checked += 1;
        self.report.bytes += object.bytes;
        (self.progress)(&self.report);
        Ok(Next::On)
    }

    /// An error when an object was put off.
    fn put_off(&mut self) -> Result<(), FixityError> {
        self.not_now_in_a_row = 0;
        match self.not_now.take() {
            None => Ok(()),
            Some(what) => Err(ArchiveError::new(ArchiveErrorKind::Unavailable, what).into()),
        }
    }

    /// No, when the process is to stop or another one has the check.
    async fn may_go_on(&mut self, check: Option<&mut Check>) -> Result<Next, FixityError> {
        if self.fixity.stop.is_cancelled() {
            self.report.stopped = true;
            return Ok(Next::Stop);
        }
        let now = self.fixity.clock.now();
        if let Some(check) = check
            && now.since_ms(self.kept_at) >= KEEP_MS
        {
            self.kept_at = now;
            if !self.fixity.db.keep_check(check, now.plus(LEASE)).await? {
                self.report.busy = true;
                return Ok(Next::Stop);
            }
        }
        Ok(Next::On)
    }
}

/// The next day's beginning in UTC: slices are calendar days.
fn tomorrow(now: Timestamp) -> Timestamp {
    let day = now.ms().div_euclid(DAY_MS) + 1;
    Timestamp::from_ms(day * DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_days_or_off() {
        let read = |text: &str| toml::from_str::<Settings>(text);
        assert_eq!(Settings::default().days(), Some(90));
        assert_eq!(read("every = \"30d\"").unwrap().days(), Some(30));
        assert_eq!(read("every = \"off\"").unwrap().days(), None);
        assert!(read("every = \"6h\"").unwrap().problem().is_some());
        assert!(read("every = \"1d\"").unwrap().problem().is_none());
        assert!(read("every = \"off\"").unwrap().problem().is_none());
        assert!(read("every = \"now and then\"").is_err());
        assert!(read("every = 90").is_err());
    }

    #[test]
    fn a_slice_ends_with_its_day() {
        let at = |text| Timestamp::parse(text).unwrap();
        let midnight = at("2024-03-06T00:00:00.000Z");
        assert_eq!(tomorrow(at("2024-03-05T00:00:00.000Z")), midnight);
        assert_eq!(tomorrow(at("2024-03-05T23:59:59.999Z")), midnight);
    }
}
