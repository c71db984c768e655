//! Queues of the vendors' own, and rooms to watch: what is drawn becomes a notice, and only then is it
//! confirmed.
//!
//! One loop for each queue of each configured source. A message that was stored and not confirmed comes
//! again and is a repeat: harmless. One that could not be stored is not confirmed, and comes again too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::notice::Door;
use crate::domain::retry::{RetryAdvice, backoff};
use crate::pipeline::faults::Faults;
use crate::pipeline::intake::Intake;
use crate::providers::contract::{Drawn, Provider};
use crate::providers::sources::Sources;

/// How soon a reload of the configuration is seen.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// After an empty draw that did not wait by itself; without it a queue without long polling would spin.
const EMPTY: Duration = Duration::from_millis(500);
const DATABASE_AWAY: Duration = Duration::from_secs(2);
/// Between two tries at a queue that cannot be read: what waits there may hold addresses that die.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

struct Loop {
    provider: Arc<dyn Provider>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Runs a loop for each queue until `stop`; a reload of the sources starts and ends loops.
pub async fn run(sources: Sources, intake: Intake, faults: Faults, stop: CancellationToken) {
    let mut loops: BTreeMap<(String, String), Loop> = BTreeMap::new();
    while !stop.is_cancelled() {
        let snapshot = sources.snapshot();
        // A provider that was built anew draws with its new keys; a loop that died is started again.
        loops.retain(|(source, queue), running| {
            let stays = !running.task.is_finished()
                && snapshot.get(source).is_some_and(|now| {
                    Arc::ptr_eq(now, &running.provider) && now.queues().contains(queue)
                });
            if !stays {
                running.stop.cancel();
            }
            stays
        });
        for (source, provider) in snapshot.iter() {
            for queue in provider.queues() {
                let key = (source.clone(), queue.clone());
                loops.entry(key).or_insert_with(|| {
                    let stop = stop.child_token();
                    let task = draw(
                        provider.clone(),
                        queue,
                        intake.clone(),
                        faults.clone(),
                        stop.clone(),
                    );
                    Loop {
                        provider: provider.clone(),
                        task: tokio::spawn(task),
                        stop,
                    }
                });
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

async fn draw(
    provider: Arc<dyn Provider>,
    queue: String,
    intake: Intake,
    faults: Faults,
    stop: CancellationToken,
) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let drawn = tokio::select! {
            drawn = provider.draw(&queue) => drawn,
            () = stop.cancelled() => return,
        };
        let failed = drawn.as_ref().err();
        faults.saw(provider.name(), "draw", failed).await;
        let since = Instant::now();
        let pause = match drawn {
            Ok(messages) if messages.is_empty() => {
                failures = 0;
                EMPTY
            }
            Ok(messages) => {
                failures = 0;
                // To the end, also while stopping: what is stored had better be confirmed.
                store(provider.as_ref(), &queue, &intake, messages, since).await
            }
            Err(error) => {
                tracing::warn!(source = provider.name(), queue, %error, "queue not read");
                failures += 1;
                match error.advice {
                    RetryAdvice::After(wait) => wait,
                    RetryAdvice::Backoff | RetryAdvice::Never => {
                        backoff(failures, rand::random()).min(LONGEST_PAUSE)
                    }
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// A drawn message until it is confirmed.
struct Held {
    receipt: String,
    /// When half of the time until the vendor shows it again is over: early enough for another try.
    prolong_at: Option<Instant>,
}

impl Held {
    fn new(receipt: String, hidden_for: Option<Duration>, since: Instant) -> Self {
        let hidden_for = hidden_for.filter(|_| !receipt.is_empty());
        Self {
            receipt,
            prolong_at: hidden_for.map(|hidden| since + hidden / 2),
        }
    }
}

/// Stores what was drawn, hides for longer what takes long, confirms what is stored; gives the pause
/// before the next draw.
async fn store(
    provider: &dyn Provider,
    queue: &str,
    intake: &Intake,
    messages: Vec<Drawn>,
    since: Instant,
) -> Duration {
    let (told, held): (Vec<_>, Vec<_>) = messages
        .into_iter()
        .map(|drawn| {
            let held = Held::new(drawn.receipt, drawn.hidden_for, since);
            (drawn.told, held)
        })
        .unzip();
    let done = CancellationToken::new();
    let storing = async {
        // Together: the database commits them in groups.
        let taking = told.into_iter().map(|told| {
            fail::fail_point!("queue.received");
            intake.take(provider, Door::Queue, told)
        });
        let stored = futures::future::join_all(taking).await;
        done.cancel();
        stored
    };
    let (stored, held) = tokio::join!(storing, hold(provider, queue, held, &done));
    fail::fail_point!("queue.after_commit");
    let mut receipts = Vec::with_capacity(held.len());
    let mut pause = Duration::ZERO;
    for (result, held) in stored.into_iter().zip(held) {
        match result {
            Ok(_) if held.receipt.is_empty() => {}
            Ok(_) => receipts.push(held.receipt),
            Err(error) => {
                tracing::warn!(source = provider.name(), queue, %error, "message not stored, it comes again");
                pause = DATABASE_AWAY;
            }
        }
    }
    if !receipts.is_empty()
        && let Err(error) = provider.confirm(queue, &receipts).await
    {
        tracing::warn!(source = provider.name(), queue, %error, "messages not confirmed, they come again");
    }
    pause
}

/// Keeps the messages hidden until they are stored, and gives their newest receipts.
async fn hold(
    provider: &dyn Provider,
    queue: &str,
    mut held: Vec<Held>,
    done: &CancellationToken,
) -> Vec<Held> {
    while let Some(next) = held.iter().filter_map(|held| held.prolong_at).min() {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = done.cancelled() => break,
        }
        for held in &mut held {
            if held.prolong_at.is_none_or(|at| at > Instant::now()) {
                continue;
            }
            let asked = Instant::now();
            *held = match provider.prolong(queue, &held.receipt).await {
                Ok(Some(longer)) => Held::new(longer.receipt, longer.hidden_for, asked),
                // Whoever has it now has the same message; ours is stored and confirmed in vain.
                Ok(None) => Held::new(std::mem::take(&mut held.receipt), None, asked),
                Err(error) => {
                    tracing::warn!(source = provider.name(), queue, %error, "message not hidden for longer");
                    Held::new(std::mem::take(&mut held.receipt), None, asked)
                }
            };
        }
    }
    held
}
