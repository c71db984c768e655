//! The meetings: when something is recorded in which room, and what the customer's application posts of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::super::push::{Answered, Push};
use super::super::{Error, all_done};
use super::film::film;
use super::*;

/// How long the customer's application waits for an answer, and when it tries again.
const PATIENCE: Duration = Duration::from_secs(5);
const WAITS_MS: [u64; 6] = [500, 1000, 2000, 4000, 8000, 12_000];

impl Vcrtc {
    /// Plays the meetings, each a little after the one before; a room that is in use is waited for.
    pub(super) async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        let mut playing = JoinSet::new();
        for plan in plans {
            if !playing.is_empty() {
                tokio::time::sleep(self.house().options.call_interval).await;
            }
            let vendor = self.clone();
            playing.spawn(async move { vendor.play(plan).await });
        }
        all_done(playing).await
    }

    async fn play(&self, plan: Plan) -> Result<(), Error> {
        let house = self.house();
        let room = match plan.ending {
            Ending::None => HIDDEN_ROOM,
            _ => ROOMS[(plan.index % ROOMS.len() as u64) as usize],
        };
        let Some(door) = self.0.doors.get(room) else {
            return Ok(());
        };
        let meeting = door.lock().await;
        let pieces = self.pieces(&plan);
        house.count_planned(pieces as usize - 1);
        let mut telling = JoinSet::new();
        for number in 0..pieces {
            if number > 0 {
                tokio::time::sleep(house.paced(BETWEEN_PIECES_S)).await;
            }
            let id = self.start(&plan, number, room)?;
            let vendor = self.clone();
            let plan = plan.clone();
            let told = id.clone();
            telling.spawn(async move { vendor.tell(&plan, room, &told).await });
            tokio::time::sleep(house.paced(ON_S)).await;
            self.stop(&id, room);
        }
        // The customer's application may speak much later; the room is free before.
        tokio::time::sleep(house.paced(BETWEEN_MEETINGS_S)).await;
        drop(meeting);
        all_done(telling).await
    }

    /// How often recording is started. What fails as planned is one recording, so that the ledger can judge it.
    fn pieces(&self, plan: &Plan) -> u64 {
        let mut dice = Dice::named(self.call_seed(plan.index), "pieces");
        1 + u64::from(plan.ending == Ending::Archived && dice.happens(1, 3))
    }

    /// A recording begins, or fails to.
    fn start(&self, plan: &Plan, number: u64, room: &str) -> Result<String, Error> {
        let house = self.house();
        let id = self.record_id(plan.index, number);
        let now = house.now_ms();
        let call = self.piece(plan, number, &id, now);
        house.enter(&call, Some(&id))?;
        let fails = plan.ending == Ending::Absent;
        let mut state = locked(&self.0.state);
        let status = state.rooms.entry(room.to_owned()).or_default();
        if fails {
            status.failed = Some(id.clone());
            return Ok(id);
        }
        status.on = Some(id.clone());
        state.pieces.insert(
            id.clone(),
            Piece {
                call,
                room: room.to_owned(),
                on_ms: now,
                off_ms: None,
                deleted: false,
            },
        );
        Ok(id)
    }

    fn piece(&self, plan: &Plan, number: u64, id: &str, now: i64) -> Arc<Call> {
        let seed = self.call_seed(plan.index).wrapping_add(number);
        let mut plan = plan.clone();
        if number > 0 {
            // Mishaps belong to the first recording.
            plan.mishaps.clear();
        }
        let audio = film(Dice::named(seed, "film").roll(), id);
        Arc::new(Call::new(id.to_owned(), plan, audio, now, seed))
    }

    pub(super) fn stop(&self, id: &str, room: &str) {
        let now = self.house().now_ms();
        let mut state = locked(&self.0.state);
        state.rooms.insert(room.to_owned(), Room::default());
        if let Some(piece) = state.pieces.get_mut(id) {
            piece.off_ms = Some(now);
        }
    }

    /// The customer's application posts what it started.
    async fn tell(&self, plan: &Plan, room: &str, id: &str) -> Result<(), Error> {
        let house = self.house();
        if plan.ending == Ending::None || plan.has(Mishap::Never) {
            return Ok(());
        }
        let mut after = vec![if plan.has(Mishap::Late) { 3600 } else { 5 }];
        if plan.has(Mishap::Twice) {
            after.push(60);
        }
        let mut dice = Dice::named(self.call_seed(plan.index), "told");
        // A room's number may be written as a number.
        let key = match room.parse::<u64>() {
            Ok(number) if dice.happens(1, 3) => number.into(),
            _ => serde_json::Value::from(room),
        };
        let body = json!({ "conferenceKey": key, "recordId": id }).to_string();
        let url = house.hook(None)?;
        for seconds in after {
            tokio::time::sleep(house.paced(seconds)).await;
            let make = || Push {
                method: Method::POST,
                url: url.clone(),
                mime: "application/json",
                headers: Vec::new(),
                body: body.clone().into(),
            };
            let taken = |answer: &Answered| answer.code("stored").is_some_and(|n| n.is_number());
            house
                .deliver(make, PATIENCE, &WAITS_MS.map(Duration::from_millis), taken)
                .await;
        }
        Ok(())
    }

    /// Takes back the recordings of a meeting of an earlier run: they are over and their files are there.
    pub(super) fn recall(&self, index: u64, line: &LedgerLine) {
        let ending = Ending::named(&line.expect).unwrap_or(Ending::Archived);
        if ending != Ending::Archived {
            return;
        }
        let house = self.house();
        let over = ON_S + COMPLETE_AFTER_S + GROWS_S;
        let off = house.now_ms() - house.paced_ms(over);
        let plan = Plan {
            index,
            mishaps: Vec::new(),
            ending,
        };
        let room = ROOMS[(index % ROOMS.len() as u64) as usize].to_owned();
        for number in 0..self.pieces(&plan) {
            let id = self.record_id(index, number);
            let piece = Piece {
                call: self.piece(&plan, number, &id, off),
                room: room.clone(),
                on_ms: off - house.paced_ms(ON_S),
                off_ms: Some(off),
                deleted: false,
            };
            locked(&self.0.state).pieces.insert(id, piece);
        }
    }
}
