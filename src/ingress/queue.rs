//! Queues of the vendors' own, and rooms to watch: what is drawn becomes a notice, and only then is it
//! confirmed.
//!
//! One loop for each queue of each configured source. A message that was stored and not confirmed comes
//! again and is a repeat: harmless. One that could not be stored is not confirmed, and comes again too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
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
        let pause = match drawn {
            Ok(messages) if messages.is_empty() => {
                failures = 0;
                EMPTY
            }
            Ok(messages) => {
                failures = 0;
                // To the end, also while stopping: what is stored had better be confirmed.
                store(provider.as_ref(), &queue, &intake, messages).await
            }
            Err(error) => {
                tracing::warn!(source = provider.name(), queue, %error, "queue not read");
                failures += 1;
                match error.advice {
                    RetryAdvice::After(wait) => wait,
                    RetryAdvice::Backoff | RetryAdvice::Never => backoff(failures, rand::random()),
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Stores what was drawn and confirms what is stored; gives the pause before the next draw.
async fn store(
    provider: &dyn Provider,
    queue: &str,
    intake: &Intake,
    messages: Vec<Drawn>,
) -> Duration {
    let mut receipts = Vec::with_capacity(messages.len());
    let mut pause = Duration::ZERO;
    for Drawn { told, receipt } in messages {
        fail::fail_point!("queue.received");
        match intake.take(provider, Door::Queue, told).await {
            Ok(_) if receipt.is_empty() => {}
            Ok(_) => receipts.push(receipt),
            Err(error) => {
                tracing::warn!(source = provider.name(), queue, %error, "message not stored, it comes again");
                pause = DATABASE_AWAY;
            }
        }
    }
    fail::fail_point!("queue.after_commit");
    if !receipts.is_empty()
        && let Err(error) = provider.confirm(queue, &receipts).await
    {
        tracing::warn!(source = provider.name(), queue, %error, "messages not confirmed, they come again");
    }
    pause
}
