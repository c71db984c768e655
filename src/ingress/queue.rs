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
/// Between two tries at a queue that cannot be read. One that can be read is asked as often, by long polls; and
/// what waits there may hold addresses that die.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

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
                        (backoff(failures, rand::random()) / 5).min(LONGEST_PAUSE)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::notice::Notice;
    use crate::domain::reading::Reading;
    use crate::providers::contract::{
        Admission, Capabilities, Incoming, Located, Outcome, Prolonged, ProviderError, Refusal,
        Reply, Topic, WaitingPlan, Wanted,
    };
    use crate::providers::settings::CommonSettings;

    /// A vendor that hides messages for `HIDDEN`, and gives up on one that is called `gone`.
    #[derive(Debug)]
    struct Vendor(AtomicU32, CommonSettings);

    const HIDDEN: Duration = Duration::from_millis(40);

    #[async_trait]
    impl Provider for Vendor {
        fn kind(&self) -> &'static str {
            "test"
        }

        fn common(&self) -> &CommonSettings {
            &self.1
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities::default()
        }

        fn topics(&self) -> &'static [Topic] {
            &[]
        }

        fn admit(&self, _: &Incoming, _: Timestamp) -> Admission {
            Admission::Refuse(Refusal::Unusable)
        }

        fn reply(&self, _: Outcome) -> Reply {
            Reply::json(404, &serde_json::Value::Null)
        }

        fn read(&self, _: &Notice) -> Result<Reading, String> {
            Err("never read".to_owned())
        }

        async fn locate(&self, _: &Wanted, _: Timestamp) -> Result<Located, ProviderError> {
            Ok(Located::Unannounced)
        }

        fn waiting_plan(&self) -> WaitingPlan {
            WaitingPlan {
                waits: vec![HIDDEN],
                ready_deadline: HIDDEN,
            }
        }

        async fn prolong(
            &self,
            _: &str,
            receipt: &str,
        ) -> Result<Option<Prolonged>, ProviderError> {
            let n = self.0.fetch_add(1, Ordering::SeqCst);
            Ok((receipt != "gone").then(|| Prolonged {
                receipt: format!("{receipt}{n}"),
                hidden_for: Some(HIDDEN),
            }))
        }
    }

    fn vendor() -> Vendor {
        let table = toml::Table::new();
        let defaults = crate::providers::contract::Defaults::default();
        let (common, _) = CommonSettings::split("test", &defaults, table).unwrap();
        Vendor(AtomicU32::new(0), common)
    }

    #[tokio::test]
    async fn what_is_stored_slowly_stays_hidden_and_is_confirmed_by_its_newest_receipt() {
        let vendor = vendor();
        let since = Instant::now();
        let held = vec![
            Held::new("a".to_owned(), Some(HIDDEN), since),
            Held::new("gone".to_owned(), Some(HIDDEN), since),
            Held::new("b".to_owned(), None, since),
            Held::new(String::new(), Some(HIDDEN), since),
        ];
        let done = CancellationToken::new();
        let stop = async {
            tokio::time::sleep(HIDDEN * 4).await;
            done.cancel();
        };
        let (held, ()) = tokio::join!(hold(&vendor, "q", held, &done), stop);
        let receipts: Vec<&str> = held.iter().map(|held| held.receipt.as_str()).collect();
        assert!(
            receipts[0].len() >= 3 && receipts[0].starts_with('a'),
            "{receipts:?}"
        );
        // Asked for once and no more: what was shown to somebody else, what is hidden for ever, what has no receipt.
        assert_eq!(receipts[1..], ["gone", "b", ""]);
        assert!(held[1..].iter().all(|held| held.prolong_at.is_none()));
    }

    #[tokio::test]
    async fn what_is_stored_at_once_is_not_prolonged() {
        let vendor = vendor();
        let held = vec![Held::new("a".to_owned(), Some(HIDDEN), Instant::now())];
        let done = CancellationToken::new();
        done.cancel();
        let held = hold(&vendor, "q", held, &done).await;
        assert_eq!(held[0].receipt, "a");
        assert_eq!(vendor.0.load(Ordering::SeqCst), 0);
    }
}
