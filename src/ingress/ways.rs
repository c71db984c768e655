//! Brokers and folders: one loop for each source that says `from = "amqp" | "nats" | "folder"`.
//!
//! To add a way in: (1) a value of `From` and its keys in `providers/cdr/settings.rs`; (2) a file here with
//! `run(provider, settings, intake, stop)` that hands each message to [`Inlet::take`] and lets go of it only
//! after `Taken::Kept`; (3) a line in `start` below; (4) its journey in `tests/it/ways.rs`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::notice::Door;
use crate::domain::retry::backoff;
use crate::pipeline::faults::Faults;
use crate::pipeline::intake::Intake;
use crate::providers::contract::{Incoming, Outcome, Provider, Way};
use crate::providers::sources::Sources;

/// How soon a reload of the configuration is seen.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// While neither database nor journal takes anything. Far below every broker's patience with a message.
const STORE_AWAY: Duration = Duration::from_secs(5);
/// Between two tries at a broker: to knock costs little, and what waits there may hold addresses that die.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// What [`Faults`] calls the reception of messages.
const RECEIVE: &str = "receive";
/// Unpacked; a message is a few kilobytes, a call record with all its variables some hundred.
const LARGEST: usize = 2 << 20;

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Durable here: whoever held it may forget it.
    Kept,
    /// Will never be understood: to be put aside with this reason.
    Poison(String),
    /// Neither database nor journal took it: it must come again.
    Later,
}

/// Where messages of one source go.
#[derive(Clone, Debug)]
pub struct Inlet {
    pub provider: Arc<dyn Provider>,
    pub intake: Intake,
    pub faults: Faults,
    pub door: Door,
}

impl Inlet {
    /// Messages can come: what kept them away is over.
    pub async fn is_open(&self) {
        let source = self.provider.name();
        self.faults.saw_code(source, RECEIVE, None).await;
    }

    /// No message can come, for the alarms: `code` is one of `domain::recording::reason` or `pipeline::faults`.
    pub async fn is_shut(&self, code: &'static str) {
        let source = self.provider.name();
        self.faults.saw_code(source, RECEIVE, Some(code)).await;
    }

    /// Unpacks, judges and stores one message.
    pub async fn take(&self, body: Bytes, packed: bool) -> Taken {
        let body = match unpacked(body, packed) {
            Ok(body) => body,
            Err(why) => {
                self.intake.count_refused(self.provider.name(), self.door);
                return Taken::Poison(why.to_owned());
            }
        };
        let incoming = Incoming {
            body,
            ..Incoming::default()
        };
        let told = incoming.clone();
        let outcome = self
            .intake
            .accept(&self.provider, self.door, incoming)
            .await;
        match outcome {
            Outcome::Stored { .. } => Taken::Kept,
            Outcome::Unavailable => Taken::Later,
            Outcome::Unreadable | Outcome::Refused(_) | Outcome::TooLarge => {
                let answer = self.provider.answer(outcome, &told);
                let answer: serde_json::Value =
                    serde_json::from_str(&answer.body).unwrap_or_default();
                let why = answer["reason"].as_str().unwrap_or("not_usable");
                Taken::Poison(why.to_owned())
            }
        }
    }
}

fn unpacked(body: Bytes, packed: bool) -> Result<Bytes, &'static str> {
    if body.len() > LARGEST {
        return Err("too_large");
    }
    if !packed {
        return Ok(body);
    }
    let mut plain = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(&body[..]).take(LARGEST as u64 + 1);
    reader.read_to_end(&mut plain).map_err(|_| "not_gzip")?;
    if plain.len() > LARGEST {
        return Err("too_large");
    }
    Ok(plain.into())
}

struct Loop {
    provider: Arc<dyn Provider>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Runs a loop for each such source until `stop`; a reload of the sources starts and ends loops.
pub async fn run(sources: Sources, intake: Intake, faults: Faults, stop: CancellationToken) {
    let mut loops: BTreeMap<String, Loop> = BTreeMap::new();
    while !stop.is_cancelled() {
        let snapshot = sources.snapshot();
        loops.retain(|source, running| {
            let same = |now: &Arc<dyn Provider>| Arc::ptr_eq(now, &running.provider);
            let stays = !running.task.is_finished() && snapshot.get(source).is_some_and(same);
            if !stays {
                running.stop.cancel();
            }
            stays
        });
        for (source, provider) in snapshot.iter() {
            if loops.contains_key(source) {
                continue;
            }
            let inlet = Inlet {
                provider: provider.clone(),
                intake: intake.clone(),
                faults: faults.clone(),
                door: Door::Queue,
            };
            let stop = stop.child_token();
            if let Some(task) = start(inlet, stop.clone()) {
                let provider = provider.clone();
                let running = Loop {
                    provider,
                    stop,
                    task,
                };
                loops.insert(source.clone(), running);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stop.cancelled() => {}
        }
    }
    for (_, running) in loops {
        // A panic was printed where it happened; the messages come again.
        let _ = running.task.await;
    }
}

fn start(inlet: Inlet, stop: CancellationToken) -> Option<JoinHandle<()>> {
    match inlet.provider.way() {
        Way::Push => None,
        #[cfg(feature = "amqp")]
        Way::Amqp(settings) => Some(tokio::spawn(super::amqp::run(inlet, settings, stop))),
        #[cfg(feature = "nats")]
        Way::Nats(settings) => Some(tokio::spawn(super::nats::run(inlet, settings, stop))),
        #[allow(unreachable_patterns)]
        Way::Amqp(_) | Way::Nats(_) => Some(tokio::spawn(not_built(inlet, stop))),
        Way::Folder(settings) => Some(tokio::spawn(super::folder::run(
            Inlet {
                door: Door::Folder,
                ..inlet
            },
            settings,
            stop,
        ))),
    }
}

/// A build without this broker's feature.
async fn not_built(inlet: Inlet, stop: CancellationToken) {
    tracing::error!(
        source = inlet.provider.name(),
        "this program was built without this broker's feature: nothing is received"
    );
    stop.cancelled().await;
}

/// Before a message that neither database nor journal took is tried again. A broker's message is held meanwhile: handed
/// back, it would use up the deliveries that the broker allows it, and be put aside though nothing is wrong with it.
pub async fn store_is_away() {
    tokio::time::sleep(STORE_AWAY).await;
}

/// The pause before the next try, cut short by `stop`.
pub async fn pause(failures: u32, stop: &CancellationToken) {
    let wait = (backoff(failures, rand::random()) / 5).min(LONGEST_PAUSE);
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stop.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn packed_bodies_are_unpacked_within_bounds() {
        let pack = |plain: &[u8]| {
            let mut packer =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            packer.write_all(plain).unwrap();
            Bytes::from(packer.finish().unwrap())
        };
        assert_eq!(unpacked(pack(b"{}"), true).unwrap(), &b"{}"[..]);
        assert_eq!(unpacked(Bytes::from_static(b"{}"), true), Err("not_gzip"));
        let bomb = pack(&vec![0; 60 << 20]);
        assert!(bomb.len() < LARGEST);
        assert_eq!(unpacked(bomb, true), Err("too_large"));
        assert_eq!(unpacked(vec![0; 60 << 20].into(), false), Err("too_large"));
    }
}
