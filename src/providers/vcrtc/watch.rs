//! The rooms that are watched, and the news that waits to be stored.
//!
//! What a newcomer gets wrong: news leaves this memory only when `confirm` says that it is durable. A
//! process that dies before finds the same recordings again by looking.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::clock::Timestamp;
use crate::providers::contract::{Drawn, ProviderError, Told};

use super::answer::Status;
use super::ask::{Asker, Opened};
use super::news::{self, InRoom};
use super::settings::{Mode, Settings};

/// The queue of what `locate` heard beside an address.
pub const ENTRIES: &str = "entries";
const ROOM: &str = "room:";
/// `draw` may wait for a minute; shorter, so that a stop is quick and a reload soon seen.
const LONGEST_DRAW: Duration = Duration::from_secs(30);
/// More news than this waits for a database that is away: the oldest is found again by the next question.
const MOST_WAITING: usize = 10_000;

#[derive(Debug, Default)]
struct Room {
    next_look: Option<Instant>,
    /// The recording that is on, as far as was seen.
    running: Option<String>,
    failed: Option<String>,
    /// First recording of the meeting, and when something was last recorded.
    meeting: Option<(String, Timestamp)>,
    waiting: Vec<Told>,
}

#[derive(Debug, Default)]
pub struct Watch {
    rooms: Mutex<HashMap<String, Room>>,
    entries: Mutex<Vec<Told>>,
    arrived: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of all loops of a source.
pub fn queues(settings: &Settings) -> Vec<String> {
    let mut queues = vec![ENTRIES.to_owned()];
    if settings.has(Mode::Watch) || settings.has(Mode::Start) {
        let rooms = settings.rooms.iter();
        queues.extend(rooms.map(|room| format!("{ROOM}{room}")));
    }
    queues
}

impl Watch {
    /// Keeps news until it is stored; the same news waits once.
    pub fn tell(&self, told: Told) {
        let mut entries = locked(&self.entries);
        if entries
            .iter()
            .any(|known| known.dedup_key == told.dedup_key)
        {
            return;
        }
        if entries.len() >= MOST_WAITING {
            entries.remove(0);
        }
        entries.push(told);
        self.arrived.notify_one();
    }

    #[cfg(test)]
    pub fn waiting_entries(&self) -> Vec<Told> {
        locked(&self.entries).clone()
    }

    pub async fn draw(
        &self,
        queue: &str,
        settings: &Settings,
        asker: &Asker,
        now: impl Fn() -> Timestamp,
    ) -> Result<Vec<Drawn>, ProviderError> {
        match queue.strip_prefix(ROOM) {
            Some(room) => self.draw_room(room, settings, asker, now).await,
            None => {
                if locked(&self.entries).is_empty() {
                    let _ = tokio::time::timeout(LONGEST_DRAW, self.arrived.notified()).await;
                }
                Ok(drawn(&locked(&self.entries)))
            }
        }
    }

    pub fn confirm(&self, queue: &str, receipts: &[String]) {
        let is_stored = |told: &Told| receipts.contains(&told.dedup_key);
        match queue.strip_prefix(ROOM) {
            Some(room) => {
                if let Some(room) = locked(&self.rooms).get_mut(room) {
                    room.waiting.retain(|told| !is_stored(told));
                }
            }
            None => locked(&self.entries).retain(|told| !is_stored(told)),
        }
    }

    /// Looks again and again until there is news, for at most half a minute; news that was handed out and
    /// not stored comes again at once.
    async fn draw_room(
        &self,
        name: &str,
        settings: &Settings,
        asker: &Asker,
        now: impl Fn() -> Timestamp,
    ) -> Result<Vec<Drawn>, ProviderError> {
        let give_up = Instant::now() + LONGEST_DRAW;
        loop {
            let next_look = {
                let mut rooms = locked(&self.rooms);
                let room = rooms.entry(name.to_owned()).or_default();
                if !room.waiting.is_empty() {
                    return Ok(drawn(&room.waiting));
                }
                room.next_look.unwrap_or_else(Instant::now)
            };
            tokio::time::sleep_until(next_look.min(give_up)).await;
            if next_look > give_up {
                return Ok(Vec::new());
            }
            let looked = self.look(name, settings, asker, &now).await;
            let mut rooms = locked(&self.rooms);
            let room = rooms.entry(name.to_owned()).or_default();
            room.next_look = Some(Instant::now() + settings.watch_interval);
            let (status, opened) = looked?;
            see(room, name, settings, &status, opened, now());
        }
    }

    /// The room's state, after starting a recording where that is our task and none is on.
    async fn look(
        &self,
        name: &str,
        settings: &Settings,
        asker: &Asker,
        now: impl Fn() -> Timestamp,
    ) -> Result<(Status, bool), ProviderError> {
        let status = asker.status(settings, name).await?;
        if status.recording || !settings.has(Mode::Start) {
            return Ok((status, false));
        }
        // What was on until now is over before anything new begins.
        if let Some(room) = locked(&self.rooms).get_mut(name) {
            see(room, name, settings, &status, false, now());
        }
        match asker.open(settings, name).await? {
            Opened::Ours(id) => Ok((
                Status {
                    recording: true,
                    record_id: Some(id),
                    failed: None,
                },
                true,
            )),
            Opened::AlreadyOn => Ok((asker.status(settings, name).await?, false)),
            Opened::NotOpen => Ok((status, false)),
        }
    }
}

/// Compares what a room does with what was seen before, and queues the difference.
fn see(
    room: &mut Room,
    name: &str,
    settings: &Settings,
    status: &Status,
    opened: bool,
    now: Timestamp,
) {
    let id = status.record_id.as_deref();
    let running = id.filter(|_| status.recording && status.failed.is_none());
    if let Some(before) = room.running.clone()
        && running != Some(before.as_str())
    {
        let meeting = room.meeting.as_ref().map(|(first, _)| first.clone());
        let what = InRoom {
            room: name,
            record_id: &before,
            meeting: meeting.as_deref().unwrap_or(&before),
        };
        let told = news::in_room(news::STOPPED, what, Value::Null);
        room.waiting.push(told);
        room.running = None;
    }
    if let Some(id) = running {
        let first = match &room.meeting {
            Some((first, last)) if now <= last.plus(settings.meeting_gap) => first.clone(),
            _ => id.to_owned(),
        };
        if room.running.is_none() {
            let topic = if opened { news::OPENED } else { news::WATCHED };
            let what = InRoom {
                room: name,
                record_id: id,
                meeting: &first,
            };
            // Where we start recordings, one that is on already may be somebody else's.
            let already_on = !opened && settings.has(Mode::Start);
            let told = news::in_room(topic, what, json!({ "alreadyOn": already_on }));
            room.waiting.push(told);
            room.running = Some(id.to_owned());
        }
        room.meeting = Some((first, now));
    }
    if let (Some(id), Some(why)) = (id, &status.failed)
        && room.failed.as_deref() != Some(id)
    {
        let what = InRoom {
            room: name,
            record_id: id,
            meeting: id,
        };
        let told = news::in_room(news::FAILED, what, json!({ "failedReason": why }));
        room.waiting.push(told);
        room.failed = Some(id.to_owned());
    }
}

fn drawn(told: &[Told]) -> Vec<Drawn> {
    told.iter()
        .map(|told| Drawn {
            receipt: told.dedup_key.clone(),
            hidden_for: None,
            told: told.clone(),
        })
        .collect()
}
