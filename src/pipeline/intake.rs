//! The first door: an incoming message becomes a durable notice before anyone gets an answer.
//!
//! What a newcomer gets wrong: nothing is read here. `admit` looks at signature and freshness only;
//! everything else is later work on the stored bytes, which can be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::db::Database;
use crate::db::notices::Added;
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::digest::Sha256;
use crate::domain::ids::new_id;
use crate::domain::notice::{Door, Notice};
use crate::providers::contract::{Admission, Incoming, Outcome, Part, Provider, Told};
use crate::spool::journal::Journal;

/// One vendor hangs up after 700 ms; the database gets the larger part of that, the journal the rest.
const DATABASE_WITHIN: Duration = Duration::from_millis(350);
const JOURNAL_WITHIN: Duration = Duration::from_millis(250);
/// How often what the database refused is tried once more, beside each start.
const PARKED_EVERY: Duration = Duration::from_secs(3600);

/// Headers worth keeping: what a later reader may need, never what authenticates.
const KEPT_HEADERS: [&str; 7] = [
    "content-type",
    "content-encoding",
    "date",
    // Whose application a TRTC callback is about; its body does not say.
    "sdkappid",
    "user-agent",
    "x-forwarded-for",
    "x-request-id",
];

#[derive(Clone, Debug)]
pub struct Intake {
    db: Database,
    journal: Arc<Journal<Notice>>,
    clock: SharedClock,
    /// When what is parked is tried once more; opening the journal does so too.
    parked_at: Arc<AtomicI64>,
    /// Wakes the inbox; only a hint, the inbox also looks by itself.
    arrived: Arc<tokio::sync::Notify>,
}

impl Intake {
    pub fn new(db: Database, journal: Arc<Journal<Notice>>, clock: SharedClock) -> Self {
        let parked_at = clock.now().plus(PARKED_EVERY).ms();
        Self {
            db,
            journal,
            clock,
            parked_at: Arc::new(AtomicI64::new(parked_at)),
            arrived: Arc::new(tokio::sync::Notify::new()),
        }
    }

    /// Resolves when a notice may have come.
    pub fn arrivals(&self) -> Arc<tokio::sync::Notify> {
        self.arrived.clone()
    }

    /// Judges and stores one message. When this says `Stored`, the notice survives a power cut.
    pub async fn accept(
        &self,
        provider: &Arc<dyn Provider>,
        door: Door,
        incoming: Incoming,
    ) -> Outcome {
        let now = self.clock.now();
        fail::fail_point!("intake.received");
        let (dedup_key, unreadable) = match provider.admit(&incoming, now) {
            Admission::Accept {
                dedup_key,
                unreadable,
            } => (dedup_key, unreadable),
            Admission::AcceptEach(parts) => {
                return self.accept_each(provider, door, incoming, parts).await;
            }
            Admission::Dismiss => {
                return Outcome::Stored {
                    stored: 0,
                    repeated: 0,
                };
            }
            Admission::Refuse(refusal) => {
                self.count_refused(provider.name(), door);
                return Outcome::Refused(refusal);
            }
        };
        let broken = unreadable.is_some();
        let notice = notice_of(
            provider.as_ref(),
            door,
            incoming,
            dedup_key,
            unreadable,
            now,
        );
        match self.keep(notice).await {
            Some(added) => {
                self.arrived.notify_one();
                fail::fail_point!("intake.before_answer");
                match (broken, added) {
                    (true, _) => Outcome::Unreadable,
                    (false, Added::Stored) => Outcome::Stored {
                        stored: 1,
                        repeated: 0,
                    },
                    (false, Added::Repeated) => Outcome::Stored {
                        stored: 0,
                        repeated: 1,
                    },
                }
            }
            None => Outcome::Unavailable,
        }
    }

    /// Stores every message of a batch. Where one is not kept, the sender is asked to send all of them again: what was
    /// kept is then a repeat.
    async fn accept_each(
        &self,
        provider: &Arc<dyn Provider>,
        door: Door,
        incoming: Incoming,
        parts: Vec<Part>,
    ) -> Outcome {
        let now = self.clock.now();
        let keeping = parts.into_iter().map(|part| {
            let incoming = Incoming {
                body: part.body,
                ..incoming.clone()
            };
            let broken = part.unreadable.is_some();
            let (key, why) = (part.dedup_key, part.unreadable);
            let notice = notice_of(provider.as_ref(), door, incoming, key, why, now);
            async move { (broken, self.keep(notice).await) }
        });
        let kept = futures::future::join_all(keeping).await;
        self.arrived.notify_one();
        fail::fail_point!("intake.before_answer");
        let (mut stored, mut repeated) = (0, 0);
        for one in kept {
            match one {
                (_, None) => return Outcome::Unavailable,
                (true, Some(_)) => {}
                (false, Some(Added::Stored)) => stored += 1,
                (false, Some(Added::Repeated)) => repeated += 1,
            }
        }
        Outcome::Stored { stored, repeated }
    }

    /// Stores news that we fetched ourselves. When this says `Ok`, it survives a power cut, and whoever
    /// holds the message for us may forget it. There is no journal here: what is not taken is fetched again.
    pub async fn take(
        &self,
        provider: &dyn Provider,
        door: Door,
        told: Told,
    ) -> Result<Added, crate::db::DbError> {
        let notice = told_notice(provider, door, told, self.clock.now());
        let added = self.db.add_notice(notice).await?;
        self.arrived.notify_one();
        Ok(added)
    }

    /// Database first; when it is away or slow, the journal. A database write that we stopped waiting
    /// for may still commit: the journal's copy is then a repeat, which changes nothing.
    async fn keep(&self, notice: Notice) -> Option<Added> {
        let why =
            match tokio::time::timeout(DATABASE_WITHIN, self.db.add_notice(notice.clone())).await {
                Ok(Ok(added)) => return Some(added),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
        let source = notice.source.clone();
        match tokio::time::timeout(JOURNAL_WITHIN, self.journal.append(notice)).await {
            Ok(Ok(())) => {
                tracing::warn!(source, why, "database away, notice kept in the journal");
                Some(Added::Stored)
            }
            Ok(Err(error)) => {
                tracing::error!(source, why, %error, "neither database nor journal took a notice");
                None
            }
            Err(_) => {
                tracing::error!(
                    source,
                    why,
                    "neither database nor journal took a notice in time"
                );
                None
            }
        }
    }

    /// Counts a refused message; the count is a statistic and may be lost with the process.
    pub fn count_refused(&self, source: &str, door: Door) {
        self.db.count_refused(source, door);
    }

    /// Moves what the journal holds into the database; gives how many notices went over.
    /// A failed drain leaves the journal as it was. What the database refuses for good is parked: it must
    /// not stand before everything that comes later. Once an hour that is tried again as well.
    pub async fn drain_journal(&self) -> Result<usize, String> {
        let db = &self.db;
        let now = self.clock.now();
        if now.ms() >= self.parked_at.load(Ordering::Relaxed) {
            let next = now.plus(PARKED_EVERY).ms();
            self.parked_at.store(next, Ordering::Relaxed);
            let again = self.journal.take_up_parked().await;
            again.map_err(|error| error.to_string())?;
        }
        let moved = self
            .journal
            .drain(async |batch: Vec<Notice>| {
                let mut refused = Vec::new();
                for notice in batch {
                    match db.add_notice(notice.clone()).await {
                        Ok(_) => {}
                        Err(error) if error.is_refusal() => {
                            let (source, id) = (&notice.source, notice.notice_id);
                            tracing::error!(source, notice = %id, %error, "the database refuses a notice of the journal");
                            refused.push(notice);
                        }
                        Err(error) => return Err(error.to_string()),
                    }
                }
                Ok(refused)
            })
            .await
            .map_err(|e| e.to_string())?;
        if moved > 0 {
            tracing::info!(moved, "notices went from the journal into the database");
            self.arrived.notify_one();
        }
        Ok(moved)
    }
}

/// News that we fetched ourselves, as a notice to store.
pub fn told_notice(provider: &dyn Provider, door: Door, told: Told, now: Timestamp) -> Notice {
    let incoming = Incoming {
        topic: told.topic,
        body: told.body,
        ..Incoming::default()
    };
    notice_of(
        provider,
        door,
        incoming,
        told.dedup_key,
        told.unreadable,
        now,
    )
}

fn notice_of(
    provider: &dyn Provider,
    door: Door,
    incoming: Incoming,
    dedup_key: String,
    unreadable: Option<String>,
    now: Timestamp,
) -> Notice {
    let hashed: &[u8] = if incoming.body.is_empty() {
        incoming.query.as_bytes()
    } else {
        &incoming.body
    };
    Notice {
        notice_id: new_id(now),
        source: provider.name().to_owned(),
        kind: provider.kind().to_owned(),
        door,
        sha256: Sha256::of(hashed),
        headers: kept(&incoming.headers),
        topic: incoming.topic,
        method: incoming.method,
        query: incoming.query,
        body: incoming.body.to_vec(),
        arrived_at: now,
        dedup_key,
        unreadable,
    }
}

fn kept(headers: &[(String, String)]) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(name, _)| KEPT_HEADERS.contains(&name.to_ascii_lowercase().as_str()))
        .cloned()
        .collect()
}
