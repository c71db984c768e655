//! `backfill`: history into intake, by the vendor's list or by a file of ids. It only feeds: recordings are
//! fetched by the workers, after what is live, within the source's own rate.
//!
//! What a newcomer gets wrong: the cursor is written after the notices of its page. A kill in between costs
//! one page that is told again and is a repeat.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::db::notices::Added;
use crate::db::{Database, DbError};
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::notice::{Door, Notice};
use crate::domain::reading::Reading;
use crate::domain::retry::{RetryAdvice, backoff};
use crate::pipeline::foreign::{Row, topic};
use crate::pipeline::{foreign, intake};
use crate::providers::contract::{AskedCall, Provider, ProviderError, Told, Window};

use super::forecast::{Forecast, Pace, forecast};
use super::ids::{Hashed, Ids};
use super::table::TableError;

/// Rows of a file between two cursors.
const ROWS: usize = 256;
/// Pages of one window: a list that never ends is no list.
const MOST_PAGES: u32 = 100_000;
/// Tries of one question.
const TRIES: u32 = 8;
/// What this machine does is measured over so long, and says nothing below that.
const SEEN_WITHIN: Duration = Duration::from_secs(600);
const SEEN_AT_LEAST: Duration = Duration::from_secs(30);
const LEAST_SEEN: u64 = 30;

#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    #[error(
        "source {0} can neither be listed nor asked: its vendor has no way to tell of old calls"
    )]
    NoWay(String),
    #[error("source {0} cannot be listed; give --ids with the ids of its calls")]
    NotListed(String),
    #[error("{0}")]
    Header(String),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("the file changed or cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("the vendor does not answer: {0}")]
    Provider(#[from] ProviderError),
    #[error("the vendor's list repeats a page for ever")]
    Circle,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub source: String,
    pub dry_run: bool,
    /// Pages of a list, or rows of a file.
    pub walked: u64,
    /// Where an earlier run of the same plan had ended.
    pub went_on_from: Option<String>,
    /// Notices that are new.
    pub stored: u64,
    pub repeated: u64,
    /// Rows of other sources, rows that cannot be read.
    pub skipped: u64,
    pub refused: Vec<(u64, String)>,
    pub forecast: Forecast,
}

impl Report {
    /// Both lists of one window.
    fn and(self, other: Self) -> Self {
        Self {
            walked: self.walked + other.walked,
            went_on_from: self.went_on_from.or(other.went_on_from),
            stored: self.stored + other.stored,
            repeated: self.repeated + other.repeated,
            ..other
        }
    }
}

/// One backfill of one source.
pub struct Backfill<'a> {
    pub db: &'a Database,
    pub clock: SharedClock,
    pub provider: Arc<dyn Provider>,
    pub dry_run: bool,
    /// Told after each page: walked so far, stored so far.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl Backfill<'_> {
    /// How fast it can go: by the vendor's rate, and by what this machine did while work waited for it.
    async fn pace(&self, questions_each: u64) -> Result<Pace, DbError> {
        let common = self.provider.common();
        let now = self.clock.now();
        let seen = self
            .db
            .seen_while_waiting(&common.name, now, SEEN_WITHIN)
            .await?;
        let seen = seen.filter(|seen| {
            seen.recordings >= LEAST_SEEN && seen.elapsed_ms >= SEEN_AT_LEAST.as_millis() as i64
        });
        Ok(Pace {
            requests_per_second: common.requests_per_second,
            questions_each,
            machine_per_second: seen
                .map(|seen| seen.recordings as f64 * 1000.0 / seen.elapsed_ms as f64),
        })
    }

    /// Recordings of the source that wait to be fetched, and notices that nobody has read yet.
    async fn waiting(&self) -> Result<u64, DbError> {
        let name = self.provider.name();
        Ok(self.db.count_to_fetch(name).await? + self.db.count_unread(name).await?)
    }

    /// Walks the vendor's list of `window`.
    pub async fn list(&self, window: Window) -> Result<Report, BackfillError> {
        let (provider, can) = (&self.provider, self.provider.capabilities());
        if !can.lists() {
            let name = provider.name().to_owned();
            return Err(if self.can_take_ids() {
                BackfillError::NotListed(name)
            } else {
                BackfillError::NoWay(name)
            });
        }
        // The bucket goes last: what fails there costs nothing that the vendor lists.
        let lists = [(can.can_list, "list"), (can.can_list_bucket, "bucket")];
        let waiting = self.waiting().await?;
        let (mut ends, mut whole) = (Vec::new(), None::<Report>);
        for (_, list) in lists.into_iter().filter(|(is_there, _)| *is_there) {
            let plan = format!("{list} {} {}", window.from, window.to);
            let mut report = self.begin(&plan).await?;
            self.walk(list, window, &plan, &mut report, &mut ends)
                .await?;
            whole = Some(match whole {
                Some(before) => before.and(report),
                None => report,
            });
        }
        let mut report = whole.unwrap_or_default();
        let known = report.repeated;
        let (pace, now) = (self.pace(1).await?, self.clock.now());
        report.forecast = forecast(ends, known, waiting, pace, now);
        Ok(report)
    }

    /// One list of the window from its cursor to its end.
    async fn walk(
        &self,
        list: &str,
        window: Window,
        plan: &str,
        report: &mut Report,
        ends: &mut Vec<Option<Timestamp>>,
    ) -> Result<(), BackfillError> {
        let mut page = report.went_on_from.clone();
        let mut walked = 0;
        loop {
            let asked = page.as_deref();
            let listed = self
                .patiently(|now| match list {
                    "bucket" => self.provider.list_bucket(window, asked, now),
                    _ => self.provider.list(window, asked, now),
                })
                .await;
            let listed = match listed {
                // The page's token died while nobody worked: the window begins again, repeats do no harm.
                Err(_) if page.is_some() && walked == 0 => {
                    page = None;
                    continue;
                }
                listed => listed?,
            };
            walked += 1;
            report.walked += 1;
            let keys = listed.told.iter().map(|told| told.dedup_key.as_str());
            let known = self.known(keys).await?;
            for told in &listed.told {
                if !known.contains(&told.dedup_key) {
                    ends.extend(self.ends_of(told));
                }
            }
            if self.dry_run {
                report.stored += (listed.told.len() - known.len()) as u64;
                report.repeated += known.len() as u64;
            } else {
                self.store(listed.told, Door::Poll, report).await?;
            }
            (self.progress)(report.walked, report.stored);
            if listed.next.is_some() && listed.next == page || walked > MOST_PAGES {
                return Err(BackfillError::Circle);
            }
            page = listed.next;
            let Some(next) = &page else {
                break;
            };
            self.remember(plan, next).await?;
        }
        if !self.dry_run {
            let name = self.provider.name();
            self.db.end_backfill(name, plan).await?;
        }
        Ok(())
    }

    fn can_take_ids(&self) -> bool {
        let probe = crate::domain::call::CallFacts::new("callvault-probe");
        self.provider.capabilities().asks() || !self.provider.expected(&probe).is_empty()
    }

    /// What a file of ids will come to, without a question; and the plan's name, by its content. What was told
    /// before waits already, or is archived.
    pub async fn forecast_ids<R: Read>(
        &self,
        file: R,
    ) -> Result<(Forecast, String), BackfillError> {
        let mut ids = Ids::open(Hashed::new(file), self.provider.name())?;
        let (mut ends, mut batch) = (Vec::new(), Vec::new());
        let mut told_before = 0;
        let keeps = self.provider.common().provider_keeps;
        loop {
            let next = ids.next_row()?;
            let is_over = next.is_none();
            if let Some((_, Ok(Some(row)))) = next {
                let ended = row.ended_at.or(row.started_at);
                let end = ended.zip(keeps).map(|(at, keeps)| at.plus(keeps));
                batch.push((wanted(&row).dedup_key, end));
            }
            if is_over || batch.len() >= ROWS {
                let known = self
                    .known(batch.iter().map(|(key, _)| key.as_str()))
                    .await?;
                told_before += known.len() as u64;
                let new = batch.drain(..).filter(|(key, _)| !known.contains(key));
                ends.extend(new.map(|(_, end)| end));
            }
            if is_over {
                break;
            }
        }
        let plan = format!("ids {}", ids.table.into_reader().digest());
        let each = 1 + u64::from(self.provider.capabilities().asks());
        let (pace, waiting) = (self.pace(each).await?, self.waiting().await?);
        let now = self.clock.now();
        Ok((forecast(ends, told_before, waiting, pace, now), plan))
    }

    /// Which of these messages the source told before.
    async fn known<'k>(
        &self,
        keys: impl Iterator<Item = &'k str>,
    ) -> Result<BTreeSet<String>, DbError> {
        let keys: Vec<&str> = keys.collect();
        let mut known = BTreeSet::new();
        for part in keys.chunks(ROWS) {
            known.extend(self.db.known_notices(self.provider.name(), part).await?);
        }
        Ok(known)
    }

    /// Walks a file of ids.
    pub async fn ids<R: Read>(
        &self,
        file: R,
        forecast: Forecast,
        plan: &str,
    ) -> Result<Report, BackfillError> {
        if !self.can_take_ids() {
            return Err(BackfillError::NoWay(self.provider.name().to_owned()));
        }
        let mut report = self.begin(plan).await?;
        report.forecast = forecast;
        let from: u64 = match &report.went_on_from {
            Some(cursor) => cursor.parse().unwrap_or(0),
            None => 0,
        };
        let can = self.provider.capabilities();
        let mut ids = Ids::open(file, self.provider.name())?;
        let mut batch: Vec<Told> = Vec::new();
        let mut last = from;
        while let Some((line, row)) = ids.next_row()? {
            if line <= from {
                continue;
            }
            report.walked += 1;
            last = line;
            let row = match row {
                Ok(Some(row)) => row,
                Ok(None) => {
                    report.skipped += 1;
                    continue;
                }
                Err(why) => {
                    report.skipped += 1;
                    if report.refused.len() < 1000 {
                        report.refused.push((line, why));
                    }
                    continue;
                }
            };
            batch.push(wanted(&row));
            if can.asks() && !self.dry_run {
                let call = AskedCall {
                    provider_call_id: row.provider_call_id.clone(),
                    aliases: Vec::new(),
                    started_at: row.started_at,
                    ended_at: row.ended_at,
                    custom: row.custom.clone(),
                };
                if can.can_ask {
                    batch.extend(self.patiently(|now| self.provider.ask(&call, now)).await?);
                }
                if can.can_ask_bucket {
                    let asked = self.patiently(|now| self.provider.ask_bucket(&call, now));
                    batch.extend(asked.await?);
                }
            }
            // A question that was answered is not asked again: what it brought is durable before the next.
            if can.asks() || batch.len() >= ROWS {
                self.flush(plan, &mut batch, line, &mut report).await?;
            }
        }
        self.flush(plan, &mut batch, last, &mut report).await?;
        if !self.dry_run {
            self.db.end_backfill(self.provider.name(), plan).await?;
        }
        Ok(report)
    }

    async fn flush(
        &self,
        plan: &str,
        batch: &mut Vec<Told>,
        line: u64,
        report: &mut Report,
    ) -> Result<(), BackfillError> {
        let told = std::mem::take(batch);
        if self.dry_run {
            report.stored += told.len() as u64;
        } else if !told.is_empty() {
            self.store(told, Door::Import, report).await?;
            self.remember(plan, &line.to_string()).await?;
        }
        (self.progress)(report.walked, report.stored);
        Ok(())
    }

    async fn begin(&self, plan: &str) -> Result<Report, BackfillError> {
        let name = self.provider.name();
        let went_on_from = if self.dry_run {
            None
        } else {
            self.db.backfill_cursor(name, plan).await?
        };
        Ok(Report {
            source: name.to_owned(),
            dry_run: self.dry_run,
            went_on_from,
            ..Report::default()
        })
    }

    async fn remember(&self, plan: &str, cursor: &str) -> Result<(), BackfillError> {
        if !self.dry_run {
            let (name, now) = (self.provider.name(), self.clock.now());
            self.db.set_backfill_cursor(name, plan, cursor, now).await?;
        }
        Ok(())
    }

    async fn store(&self, told: Vec<Told>, door: Door, report: &mut Report) -> Result<(), DbError> {
        let added = told.into_iter().map(|told| {
            let provider = self.provider.as_ref();
            let notice = intake::told_notice(provider, door, told, self.clock.now());
            self.db.add_notice(foreign::marked_backfill(notice))
        });
        for added in futures::future::join_all(added).await {
            match added? {
                Added::Stored => report.stored += 1,
                Added::Repeated => report.repeated += 1,
            }
        }
        Ok(())
    }

    /// When the vendor deletes what an item tells of.
    fn ends_of(&self, told: &Told) -> Vec<Option<Timestamp>> {
        let now = self.clock.now();
        let provider = self.provider.as_ref();
        let notice: Notice = intake::told_notice(provider, Door::Poll, told.clone(), now);
        let reading: Reading = provider.read(&notice).unwrap_or_default();
        let keeps = provider.common().provider_keeps;
        let recordings = reading.recordings.iter();
        recordings
            .map(|one| {
                let call = reading
                    .calls
                    .iter()
                    .find(|call| call.provider_call_id == one.provider_call_id);
                let ended = call.and_then(|call| call.ended_at.or(call.started_at));
                let kept = ended.zip(keeps).map(|(at, keeps)| at.plus(keeps));
                one.clocks.gone_at.or(kept)
            })
            .collect()
    }

    /// Asks again where that may help; the budget of the source is the provider's own to keep.
    async fn patiently<T, F>(&self, ask: impl Fn(Timestamp) -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let mut failures = 0;
        loop {
            match ask(self.clock.now()).await {
                Err(error) if failures < TRIES && error.advice != RetryAdvice::Never => {
                    failures += 1;
                    tracing::warn!(source = self.provider.name(), %error, "asking again");
                    let wait = match error.advice {
                        RetryAdvice::After(wait) => wait,
                        RetryAdvice::Backoff | RetryAdvice::Never => {
                            backoff(failures, rand::random()).min(Duration::from_secs(60))
                        }
                    };
                    tokio::time::sleep(wait).await;
                }
                answered => return answered,
            }
        }
    }
}

fn wanted(row: &Row) -> Told {
    let body = serde_json::to_vec(row).unwrap_or_default();
    Told {
        topic: topic::WANTED.to_owned(),
        dedup_key: format!(
            "{}:{}",
            topic::WANTED,
            crate::domain::digest::Sha256::of(&body)
        ),
        body: body.into(),
        unreadable: None,
    }
}
