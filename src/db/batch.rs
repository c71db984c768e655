//! The notice writer: many callers, one transaction, so that a durable notice costs a share of a commit.
//!
//! Callers push into a bounded channel; one task takes all that wait, writes them together and then
//! answers each. An answer is given only after the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, Value};
use tokio::sync::{mpsc, oneshot};

use crate::domain::notice::{Door, Notice, NoticeResult};

use super::connect::begin;
use super::error::{DbError, DbErrorKind};
use super::notices::Added;
use super::sql::{all, exec, groups, vals};

/// For one transaction, of many notices or of one.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Notices in one transaction; also what may wait in the channel.
const MOST: usize = 512;
/// Rows of one statement: few distinct texts, so that each is prepared once.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];
const COLUMNS: usize = 15;

#[derive(Debug)]
enum Entry {
    Notice(Box<Notice>, oneshot::Sender<Result<Added, DbError>>),
    Refused { source: String, door: Door },
}

#[derive(Debug)]
pub(super) struct Batcher {
    entries: mpsc::Sender<Entry>,
    /// What was written last was not taken: the disk is full, the database read-only or away.
    fails: Arc<AtomicBool>,
}

impl Batcher {
    pub fn start(writer: DatabaseConnection) -> Self {
        let (entries, mut waiting) = mpsc::channel(MOST);
        let fails = Arc::new(AtomicBool::new(false));
        let seen = fails.clone();
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(MOST);
            while waiting.recv_many(&mut batch, MOST).await > 0 {
                let was_taken = write_all(&writer, std::mem::take(&mut batch)).await;
                seen.store(!was_taken, Ordering::Relaxed);
            }
        });
        Self { entries, fails }
    }

    pub fn fails(&self) -> bool {
        self.fails.load(Ordering::Relaxed)
    }

    pub fn works_again(&self) {
        self.fails.store(false, Ordering::Relaxed);
    }

    pub async fn add(&self, notice: Notice) -> Result<Added, DbError> {
        let gone = || DbError::new(DbErrorKind::Unavailable, "the notice writer has ended");
        let (answer, answered) = oneshot::channel();
        self.entries
            .send(Entry::Notice(Box::new(notice), answer))
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// A statistic: dropped when the writer is that busy.
    pub fn refused(&self, source: &str, door: Door) {
        let _ = self.entries.try_send(Entry::Refused {
            source: source.to_owned(),
            door,
        });
    }
}

/// `false`: the database took nothing, whatever is written.
async fn write_all(writer: &DatabaseConnection, batch: Vec<Entry>) -> bool {
    let mut notices = Vec::with_capacity(batch.len());
    let mut answers = Vec::with_capacity(batch.len());
    let mut refused: BTreeMap<(String, Door), i64> = BTreeMap::new();
    for entry in batch {
        match entry {
            Entry::Notice(notice, answer) => {
                notices.push(*notice);
                answers.push(answer);
            }
            Entry::Refused { source, door } => *refused.entry((source, door)).or_default() += 1,
        }
    }
    match in_time(write(writer, &notices, &refused)).await {
        Ok(added) => {
            for (answer, added) in answers.into_iter().zip(added) {
                let _ = answer.send(Ok(added));
            }
            true
        }
        // One that cannot be written must not take the others with it.
        Err(error) if !error.is_unavailable() && notices.len() > 1 => {
            let (none, waiting) = (&BTreeMap::new(), answers.into_iter().zip(notices));
            one_by_one(waiting, |notice| async move {
                let mut added = write(writer, &[notice], none).await?;
                Ok(added.remove(0))
            })
            .await
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
            !error.is_unavailable()
        }
    }
}

/// Once the database is away, those that are left need not find that out one after another.
async fn one_by_one<F: Future<Output = Result<Added, DbError>>>(
    waiting: impl Iterator<Item = (oneshot::Sender<Result<Added, DbError>>, Notice)>,
    write: impl Fn(Notice) -> F,
) -> bool {
    let mut away: Option<DbError> = None;
    for (answer, notice) in waiting {
        let one = match &away {
            Some(error) => Err(error.clone()),
            None => in_time(write(notice)).await,
        };
        if let Err(error) = &one
            && error.kind() == DbErrorKind::Unavailable
        {
            away = Some(error.clone());
        }
        let _ = answer.send(one);
    }
    away.is_none()
}

/// A database behind a silent network must not hold the writer for ever.
async fn in_time<T>(work: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
    let done = tokio::time::timeout(WRITE_WITHIN, work).await;
    done.unwrap_or_else(|_| Err(too_slow()))
}

fn too_slow() -> DbError {
    DbError::new(
        DbErrorKind::Unavailable,
        "database: no answer in time while writing notices",
    )
}

#[derive(Default)]
struct Counts {
    notices: i64,
    repeated: i64,
    refused: i64,
    /// The newest arrival of a notice that was taken.
    last_at: Option<i64>,
}

/// One transaction: the notices that are new, and the counters of their doors.
async fn write(
    writer: &DatabaseConnection,
    notices: &[Notice],
    refused: &BTreeMap<(String, Door), i64>,
) -> Result<Vec<Added>, DbError> {
    let txn = begin(writer).await?;
    // In one order for everybody: two writers on PostgreSQL never wait for each other in a circle.
    let mut order: Vec<usize> = (0..notices.len()).collect();
    order.sort_by(|a, b| {
        let key = |i: usize| (&notices[i].source, &notices[i].dedup_key);
        key(*a).cmp(&key(*b))
    });
    let mut added = vec![Added::Repeated; notices.len()];
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let size = CHUNKS.into_iter().find(|n| *n <= rest.len()).unwrap_or(1);
        let (chunk, after) = rest.split_at(size);
        rest = after;
        let stored = insert(&txn, notices, chunk).await?;
        for &i in chunk {
            if stored.contains(&notices[i].notice_id) {
                added[i] = Added::Stored;
            }
        }
    }
    let mut doors: BTreeMap<(&str, Door), Counts> = BTreeMap::new();
    let mut seen: BTreeMap<&str, (&str, i64)> = BTreeMap::new();
    for (notice, added) in notices.iter().zip(&added) {
        let counts = doors.entry((&notice.source, notice.door)).or_default();
        counts.last_at = counts.last_at.max(Some(notice.arrived_at.ms()));
        match added {
            Added::Stored => counts.notices += 1,
            Added::Repeated => counts.repeated += 1,
        }
        let last = seen
            .entry(&notice.source)
            .or_insert((&notice.kind, i64::MIN));
        last.1 = last.1.max(notice.arrived_at.ms());
    }
    for ((source, door), n) in refused {
        doors.entry((source, *door)).or_default().refused += n;
    }
    for ((source, door), counts) in doors {
        exec(
            &txn,
            "insert into door_counter (source, door, notices, repeated, refused, last_at_ms) \
             values ($1, $2, $3, $4, $5, $6) \
             on conflict (source, door) do update set notices = door_counter.notices + excluded.notices, \
             repeated = door_counter.repeated + excluded.repeated, refused = door_counter.refused + excluded.refused, \
             last_at_ms = case when door_counter.last_at_ms > excluded.last_at_ms or excluded.last_at_ms is null \
             then door_counter.last_at_ms else excluded.last_at_ms end",
            vals![
                source,
                door.as_str(),
                counts.notices,
                counts.repeated,
                counts.refused,
                counts.last_at
            ],
        )
        .await?;
    }
    for (source, (kind, at)) in seen {
        exec(
            &txn,
            "insert into source_seen (source, kind, first_seen_at_ms, last_notice_at_ms) values ($1, $2, $3, $3) \
             on conflict (source) do update set kind = excluded.kind, last_notice_at_ms = \
             case when source_seen.last_notice_at_ms > excluded.last_notice_at_ms \
             then source_seen.last_notice_at_ms else excluded.last_notice_at_ms end",
            vals![source, kind, at],
        )
        .await?;
    }
    txn.commit().await?;
    Ok(added)
}

/// The ids of those that were new.
async fn insert<C: ConnectionTrait>(
    c: &C,
    notices: &[Notice],
    chunk: &[usize],
) -> Result<Vec<uuid::Uuid>, DbError> {
    let mut values: Vec<Value> = Vec::with_capacity(chunk.len() * COLUMNS);
    for &i in chunk {
        let notice = &notices[i];
        let result = match notice.unreadable {
            Some(_) => NoticeResult::Unreadable,
            None => NoticeResult::Waiting,
        };
        let headers = serde_json::to_string(&notice.headers).unwrap_or_else(|_| "[]".to_owned());
        values.extend(vals![
            notice.notice_id,
            notice.source.as_str(),
            notice.kind.as_str(),
            notice.door.as_str(),
            notice.topic.as_str(),
            notice.method.as_str(),
            notice.query.as_str(),
            headers,
            notice.body.clone(),
            notice.sha256.as_bytes().to_vec(),
            notice.dedup_key.as_str(),
            notice.arrived_at.ms(),
            result.as_str(),
            notice.unreadable.clone(),
            notice.arrived_at.ms(),
        ]);
    }
    let sql = format!(
        "insert into notice (notice_id, source, kind, door, topic, method, query, headers, body, sha256, \
         dedup_key, arrived_at_ms, result, detail, available_at_ms) values {} \
         on conflict (source, dedup_key) do nothing returning notice_id",
        groups(1, chunk.len(), COLUMNS)
    );
    all(c, sql, values)
        .await?
        .iter()
        .map(|row| row.try_get_by_index(0).map_err(DbError::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::digest::Sha256;
    use crate::domain::ids::new_id;

    fn notice(key: &str) -> Notice {
        Notice {
            notice_id: new_id(Timestamp::from_ms(0)),
            source: "desk".to_owned(),
            kind: "feiyu".to_owned(),
            door: Door::Push,
            topic: String::new(),
            method: "POST".to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            sha256: Sha256::of(b""),
            dedup_key: key.to_owned(),
            arrived_at: Timestamp::from_ms(0),
            unreadable: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_database_holds_nobody_when_notices_are_written_one_by_one() {
        let (waiting, answers): (Vec<_>, Vec<_>) = ["fine", "refused", "silent", "after"]
            .into_iter()
            .map(|key| {
                let (answer, answered) = oneshot::channel();
                ((answer, notice(key)), answered)
            })
            .unzip();
        let began = tokio::time::Instant::now();
        one_by_one(waiting.into_iter(), |notice| async move {
            match notice.dedup_key.as_str() {
                "refused" => Err(DbError::new(DbErrorKind::Other, "no")),
                "silent" => std::future::pending().await,
                _ => Ok(Added::Stored),
            }
        })
        .await;
        assert_eq!(began.elapsed(), WRITE_WITHIN);
        let mut kinds = Vec::new();
        for answer in answers {
            kinds.push(answer.await.unwrap().map_err(|error| error.kind()));
        }
        assert_eq!(
            kinds,
            [
                Ok(Added::Stored),
                Err(DbErrorKind::Other),
                Err(DbErrorKind::Unavailable),
                Err(DbErrorKind::Unavailable),
            ]
        );
    }
}
