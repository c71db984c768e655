//! Where everything stands: queues, counters, and what a person should see.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::notice::Door;
use crate::domain::recording::{State, reason};
use crate::domain::view::{
    Alarm, DoorCounts, LeastSlack, NoticeQueue, Queues, SourceStatus, SpoolView, StatusView,
};

use super::Database;
use super::error::DbError;
use super::leads::leaps;
use super::rows;
use super::sql::{all, count, one, vals};

/// A code, what it means, and what to do about it.
struct Text {
    code: &'static str,
    what: &'static str,
    remedy: &'static str,
}

/// Alarms that are a reason on recordings that wait.
const REASONS: &[Text] = &[
    Text {
        code: reason::HOST_NOT_ALLOWED,
        what: "recordings wait because their address points to a host that is not allowed",
        remedy: "see `callvault show ID` for the host; when it is the vendor's, add it to allow_hosts of the source",
    },
    Text {
        code: reason::ADDRESS_FORBIDDEN,
        what: "recordings wait because their address points into a private network, or their file lies outside of the allowed folders",
        remedy: "if the vendor really is there, name the host in allow_hosts and set allow_private_addresses; a file must lie in a folder of file_roots, and this user must be able to read it",
    },
    Text {
        code: reason::CREDENTIALS_REFUSED,
        what: "the vendor refuses our credentials",
        remedy: "check the source's secrets with `callvault check`",
    },
    Text {
        code: reason::ARCHIVE_UNAVAILABLE,
        what: "recordings wait because the archive does not take or give objects",
        remedy: "see `callvault check`: is the store up, may this user write there, is there room",
    },
    Text {
        code: reason::ARCHIVE_CONFLICT,
        what: "another object lies at a recording's key, or what was read back differs",
        remedy: "look at the store and its versions; nothing was overwritten",
    },
    Text {
        code: reason::SPOOL_FULL,
        what: "recordings wait because the spool has no room",
        remedy: "raise [spool] limit, or make room on its disk",
    },
];

const NOT_ANNOUNCED: Text = Text {
    code: reason::RECORDING_NOT_ANNOUNCED,
    what: "calls with talk time whose recording was never announced",
    remedy: "check at the vendor that recording is on and that its recording notices come to this source",
};
const QUARANTINED: Text = Text {
    code: "quarantined",
    what: "what came for these recordings is no recording",
    remedy: "see `callvault search --state quarantined`; after mending the cause, `callvault retry ID`",
};
const LOST: Text = Text {
    code: "lost",
    what: "recordings that existed and are gone at the vendor",
    remedy: "see `callvault search --state lost`; ask the vendor whether a copy exists",
};
const UNREADABLE: Text = Text {
    code: "notices_unreadable",
    what: "authentic notices that this version cannot read; they are kept",
    remedy: "report them; a later version can read them again",
};

const IN_PART: Text = Text {
    code: "notices_unreadable_in_part",
    what: "notices of which this version cannot read a part; the rest counts, and all of it is kept",
    remedy: "`callvault show` of a call or recording says under notices what was left out; report it: a later version can read them again",
};

impl Text {
    fn alarm(&self, source: String, count: i64, since: Option<i64>) -> Alarm {
        Alarm {
            code: self.code.to_owned(),
            source: Some(source),
            count: u64::try_from(count).unwrap_or(0),
            since: rows::at(since),
            what: self.what.to_owned(),
            remedy: self.remedy.to_owned(),
        }
    }
}

/// Unfinished work of one source, whether it is configured or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenWork {
    pub source: String,
    pub recordings: u64,
    pub since: Option<Timestamp>,
}

/// A recording in one of these has its moment of archiving; nothing leads back from them.
const ONCE_ARCHIVED: [&str; 3] = [
    State::Archived.as_str(),
    State::Expired.as_str(),
    State::Purged.as_str(),
];

struct Counted {
    source: String,
    state: String,
    found_by: String,
    recordings: u64,
}

fn by_state(counts: &[Counted]) -> BTreeMap<String, u64> {
    let every = State::ALL
        .iter()
        .map(|state| (state.as_str().to_owned(), 0));
    let mut states: BTreeMap<String, u64> = every.collect();
    for counted in counts {
        *states.entry(counted.state.clone()).or_default() += counted.recordings;
    }
    states
}

impl Database {
    /// How many recordings are in each state; every state is named.
    pub async fn count_by_state(&self) -> Result<BTreeMap<String, u64>, DbError> {
        Ok(by_state(&self.counts().await?))
    }

    /// All recordings, counted: one walk over an index, which takes a second for ten millions.
    async fn counts(&self) -> Result<Vec<Counted>, DbError> {
        all(
            self.reader(),
            "select source, state, found_by, count(*) from recording \
             group by source, state, found_by order by source, state, found_by",
            vec![],
        )
        .await?
        .iter()
        .map(|row| {
            let n: i64 = row.try_get_by_index(3)?;
            Ok(Counted {
                source: row.try_get_by_index(0)?,
                state: row.try_get_by_index(1)?,
                found_by: row.try_get_by_index(2)?,
                recordings: u64::try_from(n).unwrap_or(0),
            })
        })
        .collect()
    }

    /// The same by source, for the metrics: (source, state, n).
    pub async fn count_by_source(&self) -> Result<Vec<(String, String, u64)>, DbError> {
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        for counted in self.counts().await? {
            *counts.entry((counted.source, counted.state)).or_default() += counted.recordings;
        }
        Ok(counts
            .into_iter()
            .map(|((source, state), n)| (source, state, n))
            .collect())
    }

    /// Source, and its least slack in seconds: from archiving (or, for what is not archived, from now) to
    /// the provider's deletion; negative when that moment has passed. Sources of which no such moment is
    /// known are not there.
    pub async fn least_slack_by_source(
        &self,
        now: Timestamp,
    ) -> Result<Vec<(String, i64)>, DbError> {
        let mut least: BTreeMap<String, i64> = self
            .archived_slack()
            .await?
            .into_iter()
            .map(|(source, ms, _)| (source, ms))
            .collect();
        // What is not archived and not given up has work. By a source as it is, here and below, SQLite would group over an
        // index of all recordings.
        for row in all(
            self.reader(),
            "select source || '', min(gone_at_ms - $1) from recording \
             where work_class is not null and archived_at_ms is null and gone_at_ms is not null \
             group by 1",
            vals![now.ms()],
        )
        .await?
        {
            let ms: i64 = row.try_get_by_index(1)?;
            let known = least.entry(row.try_get_by_index(0)?).or_insert(ms);
            *known = ms.min(*known);
        }
        Ok(least
            .into_iter()
            .map(|(source, ms)| (source, ms / 1000))
            .collect())
    }

    /// Of each source the archived recording that was closest to its deletion: source, milliseconds, id.
    async fn archived_slack(&self) -> Result<Vec<(String, i64, Uuid)>, DbError> {
        let mut closest = Vec::new();
        let sources = leaps("recording", "source", "1 = 1", "", None);
        for row in all(self.reader(), sources.text, sources.values).await? {
            let source: String = row.try_get_by_index(0)?;
            let row = one(
                self.reader(),
                "select gone_at_ms - archived_at_ms, recording_id from recording where source = $1 \
                 and gone_at_ms is not null and archived_at_ms is not null \
                 order by gone_at_ms - archived_at_ms limit 1",
                vals![source.as_str()],
            )
            .await?;
            if let Some(row) = row {
                closest.push((source, row.try_get_by_index(0)?, row.try_get_by_index(1)?));
            }
        }
        Ok(closest)
    }

    /// Addresses of recordings that wait for a reason, with their sources: for the hosts in them only.
    pub async fn waiting_addresses(&self, reason: &str) -> Result<Vec<(String, String)>, DbError> {
        all(
            self.reader(),
            "select distinct source, link_url from recording \
             where work_class is not null and reason = $1 and link_url is not null limit 1000",
            vals![reason],
        )
        .await?
        .iter()
        .map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)))
        .collect()
    }

    /// Calls with talk time whose recording was not announced in time.
    pub async fn count_not_announced(&self, now: Timestamp) -> Result<u64, DbError> {
        count(
            self.reader(),
            "select count(*) from call where expect_until_ms is not null and expect_until_ms <= $1",
            vals![now.ms()],
        )
        .await
    }

    /// Sources that have recordings which are not settled: the caller knows which are configured, and
    /// the others are the alarm `source_unconfigured`.
    pub async fn open_work(&self) -> Result<Vec<OpenWork>, DbError> {
        all(
            self.reader(),
            "select source || '', count(*), min(arrived_at_ms) from recording \
             where work_class is not null group by 1 order by 1",
            vec![],
        )
        .await?
        .iter()
        .map(|row| {
            let n: i64 = row.try_get_by_index(1)?;
            Ok(OpenWork {
                source: row.try_get_by_index(0)?,
                recordings: u64::try_from(n).unwrap_or(0),
                since: rows::at(row.try_get_by_index(2)?),
            })
        })
        .collect()
    }

    /// All that `status` tells, but for the spool, which the database does not know: the caller fills
    /// that in, and adds the alarm of sources that are not configured (see `open_work`).
    pub async fn status_view(&self, now: Timestamp) -> Result<StatusView, DbError> {
        let counts = self.counts().await?;
        Ok(StatusView {
            now,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            queues: Queues {
                notices: self.notice_queue().await?,
                recordings: by_state(&counts),
                transcode_waiting: count(
                    self.reader(),
                    "select count(*) from recording where work_class = 4 and access_due",
                    vec![],
                )
                .await?,
            },
            oldest_work_at: self.oldest_work().await?,
            least_slack: self.least_slack().await?,
            spool: SpoolView::default(),
            sources: self.sources(&counts).await?,
            alarms: self.alarms(now).await?,
        })
    }

    async fn notice_queue(&self) -> Result<NoticeQueue, DbError> {
        let of = async |sql: &str| count(self.reader(), sql, vec![]).await;
        Ok(NoticeQueue {
            waiting: of("select count(*) from notice where result = 'waiting'").await?,
            unreadable: of("select count(*) from notice where result = 'unreadable'").await?,
            unreadable_in_part: of(
                "select count(*) from notice where result = 'read' and detail is not null",
            )
            .await?,
        })
    }

    async fn oldest_work(&self) -> Result<Option<Timestamp>, DbError> {
        let mut oldest: Option<i64> = None;
        for sql in [
            "select min(arrived_at_ms) from notice where result = 'waiting'",
            "select min(arrived_at_ms) from recording where work_class <= 3 and archived_at_ms is null",
        ] {
            let row = one(self.reader(), sql, vec![]).await?;
            let at: Option<i64> = row.map_or(Ok(None), |row| row.try_get_by_index(0))?;
            oldest = [oldest, at].into_iter().flatten().min();
        }
        Ok(rows::at(oldest))
    }

    async fn least_slack(&self) -> Result<Option<LeastSlack>, DbError> {
        let closest = self.archived_slack().await?;
        let least = closest.into_iter().min_by_key(|(_, ms, _)| *ms);
        Ok(least.map(|(_, ms, recording_id)| LeastSlack {
            seconds: ms / 1000,
            recording_id,
        }))
    }

    async fn sources(&self, counts: &[Counted]) -> Result<Vec<SourceStatus>, DbError> {
        let mut sources: BTreeMap<String, SourceStatus> = BTreeMap::new();
        let empty = |source: &str, kind: &str| SourceStatus {
            source: source.to_owned(),
            kind: kind.to_owned(),
            doors: BTreeMap::new(),
            archived: 0,
            found_by_sweep: 0,
            last_notice_at: None,
        };
        for row in all(
            self.reader(),
            "select source, kind, last_notice_at_ms from source_seen",
            vec![],
        )
        .await?
        {
            let source: String = row.try_get_by_index(0)?;
            let kind: String = row.try_get_by_index(1)?;
            let mut status = empty(&source, &kind);
            status.last_notice_at = rows::at(row.try_get_by_index(2)?);
            sources.insert(source, status);
        }
        for row in all(
            self.reader(),
            "select source, door, notices, repeated, refused from door_counter",
            vec![],
        )
        .await?
        {
            let source: String = row.try_get_by_index(0)?;
            let counts: [i64; 3] = [
                row.try_get_by_index(2)?,
                row.try_get_by_index(3)?,
                row.try_get_by_index(4)?,
            ];
            let [notices, repeated, refused] = counts.map(|n| u64::try_from(n).unwrap_or(0));
            let counts = DoorCounts {
                notices,
                repeated,
                refused,
            };
            let status = sources
                .entry(source)
                .or_insert_with_key(|name| empty(name, ""));
            status.doors.insert(row.try_get_by_index(1)?, counts);
        }
        for counted in counts {
            let status = sources
                .entry(counted.source.clone())
                .or_insert_with_key(|name| empty(name, ""));
            if ONCE_ARCHIVED.contains(&counted.state.as_str()) {
                status.archived += counted.recordings;
            }
            if counted.found_by == Door::Poll.as_str() {
                status.found_by_sweep += counted.recordings;
            }
        }
        for (source, status) in &mut sources {
            let sql = "select kind from recording where source = $1 limit 1";
            if let Some(row) = one(self.reader(), sql, vals![source.as_str()]).await? {
                status.kind = row.try_get_by_index(0)?;
            }
        }
        Ok(sources.into_values().collect())
    }

    async fn alarms(&self, now: Timestamp) -> Result<Vec<Alarm>, DbError> {
        let mut alarms = Vec::new();
        let mut add = async |text: &Text, sql: &str, values| -> Result<(), DbError> {
            for row in all(self.reader(), sql, values).await? {
                let source: String = row.try_get_by_index(0)?;
                let n: i64 = row.try_get_by_index(1)?;
                alarms.push(text.alarm(source, n, row.try_get_by_index(2)?));
            }
            Ok(())
        };
        add(
            &LOST,
            "select source, count(*), min(state_since_ms) from recording where state = 'lost' group by source",
            vec![],
        )
        .await?;
        add(
            &QUARANTINED,
            "select source, count(*), min(state_since_ms) from recording where state = 'quarantined' group by source",
            vec![],
        )
        .await?;
        // A call without any recording, or with one that nobody announced and the vendor cannot be asked for.
        add(
            &NOT_ANNOUNCED,
            "select source, count(*), min(at) from (\
             select source, expect_until_ms as at from call \
             where expect_until_ms is not null and expect_until_ms <= $1 \
             union all select r.source, r.arrived_at_ms from recording r join call c on c.call_id = r.call_id \
             where r.work_class is not null and r.reason = $2 and c.expect_until_ms is null) missing \
             group by source",
            vals![now.ms(), reason::RECORDING_NOT_ANNOUNCED],
        )
        .await?;
        for text in REASONS {
            add(
                text,
                "select source || '', count(*), min(arrived_at_ms) from recording \
                 where work_class is not null and reason = $1 group by 1",
                vals![text.code],
            )
            .await?;
        }
        add(
            &UNREADABLE,
            "select source, count(*), min(arrived_at_ms) from notice where result = 'unreadable' group by source",
            vec![],
        )
        .await?;
        add(
            &IN_PART,
            "select source, count(*), min(arrived_at_ms) from notice \
             where result = 'read' and detail is not null group by source",
            vec![],
        )
        .await?;
        alarms.extend(self.fixity_alarms().await?);
        alarms.extend(self.orphan_alarm().await?);
        alarms.sort_by(|a, b| (&a.code, &a.source).cmp(&(&b.code, &b.source)));
        Ok(alarms)
    }
}
