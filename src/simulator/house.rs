//! What every simulated vendor has: its calls, its ledger, its clock and pace, its counters and its outbox.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use sha2::{Digest, Sha256};

use super::dice::Dice;
use super::ledger::{Ledger, LedgerLine};
use super::plan::{Ending, Mishap, Plan};
use super::push::{Answered, Push, Pusher};
use super::voices::Audio;
use super::{Error, Options, Progress};
use crate::domain::clock::SharedClock;

/// A call that took place at the vendor.
#[derive(Debug)]
pub struct Call {
    pub id: String,
    pub plan: Plan,
    pub audio: Audio,
    pub started_ms: i64,
    pub ended_ms: i64,
    /// The seed of everything else about this call.
    pub seed: u64,
    /// How often each mishap still strikes.
    left: Mutex<HashMap<Mishap, u64>>,
}

impl Call {
    /// A call that ends at `ended_ms` and lasted as long as its sound.
    pub fn new(id: String, plan: Plan, audio: Audio, ended_ms: i64, seed: u64) -> Self {
        let mut dice = Dice::named(seed, "patience");
        let left = plan
            .mishaps
            .iter()
            .map(|mishap| (*mishap, 1 + dice.below(2)))
            .collect();
        let started_ms = ended_ms - audio.duration_ms as i64;
        Self {
            id,
            plan,
            audio,
            started_ms,
            ended_ms,
            seed,
            left: Mutex::new(left),
        }
    }

    /// Whether `mishap` strikes now; each strike uses one up.
    pub fn strikes(&self, mishap: Mishap) -> bool {
        let mut left = locked(&self.left);
        match left.get_mut(&mishap) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }

    /// Chance for one aspect of this call, always the same.
    pub fn dice(&self, about: &str) -> Dice {
        Dice::named(self.seed, about)
    }

    /// Seconds of talk as a CDR tells them.
    pub fn talk_s(&self) -> i64 {
        (self.ended_ms - self.started_ms) / 1000
    }
}

#[derive(Debug, Default)]
struct Counters {
    planned: AtomicU64,
    made: AtomicU64,
    sent: AtomicU64,
    repeated: AtomicU64,
    given_up: AtomicU64,
    downloads: AtomicU64,
    bytes: AtomicU64,
}

/// A vendor's belongings, shared by its web server and its calls.
#[derive(Debug)]
pub struct House {
    pub options: Options,
    pub clock: SharedClock,
    pub addr: SocketAddr,
    /// The seed of this source.
    pub seed: u64,
    pub hook_token: String,
    ledger: Ledger,
    pusher: Pusher,
    push_to: Mutex<Option<String>>,
    outage: AtomicBool,
    calls: Mutex<HashMap<String, Arc<Call>>>,
    requests: Mutex<BTreeMap<String, u64>>,
    counters: Counters,
}

impl House {
    pub fn new(
        options: Options,
        clock: SharedClock,
        addr: SocketAddr,
        seed: u64,
        ledger: Ledger,
    ) -> Self {
        Self {
            push_to: Mutex::new(options.push_to.clone()),
            hook_token: Dice::named(seed, "hook token").token(32),
            options,
            clock,
            addr,
            seed,
            ledger,
            pusher: Pusher::new(),
            outage: AtomicBool::new(false),
            calls: Mutex::default(),
            requests: Mutex::default(),
            counters: Counters::default(),
        }
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now().ms()
    }

    /// A duration of the vendor at this simulator's speed, at least one millisecond.
    pub fn paced(&self, seconds: u64) -> Duration {
        Duration::from_millis(
            ((seconds as f64 * 1000.0 / self.options.speed).round() as u64).max(1),
        )
    }

    pub fn paced_ms(&self, seconds: u64) -> i64 {
        self.paced(seconds).as_millis() as i64
    }

    /// Our own address as others reach it.
    pub fn authority(&self) -> String {
        if self.addr.ip().is_unspecified() {
            format!("127.0.0.1:{}", self.addr.port())
        } else {
            self.addr.to_string()
        }
    }

    pub fn set_push_to(&self, url: String) {
        *locked(&self.push_to) = Some(url);
    }

    /// The customer's address for one topic; none when nobody said where to push to.
    pub fn hook(&self, topic: Option<&str>) -> Result<String, Error> {
        let base = locked(&self.push_to).clone().ok_or(Error::NowhereToPush)?;
        let base = base.trim_end_matches('/');
        let mut url = format!("{base}/hooks/{}/{}", self.options.source, self.hook_token);
        if let Some(topic) = topic {
            url.push('/');
            url.push_str(topic);
        }
        Ok(url)
    }

    pub fn set_outage(&self, outage: bool) {
        self.outage.store(outage, Ordering::SeqCst);
    }

    pub fn is_out(&self) -> bool {
        self.outage.load(Ordering::SeqCst)
    }

    pub fn count_request(&self, path: &str) {
        *locked(&self.requests).entry(path.to_owned()).or_default() += 1;
    }

    pub fn requests(&self) -> BTreeMap<String, u64> {
        locked(&self.requests).clone()
    }

    pub fn count_download(&self, bytes: usize) {
        self.counters.downloads.fetch_add(1, Ordering::Relaxed);
        self.counters
            .bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A message of the vendor's own queue was deleted by the customer.
    pub fn count_taken(&self) {
        self.counters.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was shown again.
    pub fn count_shown_again(&self) {
        self.counters.repeated.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_planned(&self, calls: usize) {
        self.counters
            .planned
            .fetch_add(calls as u64, Ordering::Relaxed);
    }

    pub fn progress(&self) -> Progress {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Progress {
            calls_planned: read(&self.counters.planned),
            calls_made: read(&self.counters.made),
            pushes_accepted: read(&self.counters.sent),
            pushes_repeated: read(&self.counters.repeated),
            pushes_given_up: read(&self.counters.given_up),
            downloads_served: read(&self.counters.downloads),
            bytes_served: read(&self.counters.bytes),
        }
    }

    /// Makes a call known to the vendor's own pages; `names` are all ids that it goes by.
    pub fn remember(&self, names: &[&str], call: &Arc<Call>) {
        let mut calls = locked(&self.calls);
        for name in names {
            calls.insert((*name).to_owned(), Arc::clone(call));
        }
    }

    pub fn call(&self, name: &str) -> Option<Arc<Call>> {
        locked(&self.calls).get(name).cloned()
    }

    /// Writes the call's line. `recording_id` is the vendor's own id of the recording, where it has one.
    pub fn enter(&self, call: &Call, recording_id: Option<&str>) -> Result<(), Error> {
        self.enter_files(call, &[(recording_id, &call.audio)])
    }

    /// Writes a line for each recording of the call: the vendor's id of it, and its sound.
    pub fn enter_files(&self, call: &Call, files: &[(Option<&str>, &Audio)]) -> Result<(), Error> {
        self.counters.made.fetch_add(1, Ordering::Relaxed);
        let served = call.plan.ending == Ending::Archived;
        for (recording_id, audio) in files {
            let line = LedgerLine {
                source: self.options.source.clone(),
                provider_call_id: call.id.clone(),
                provider_recording_id: recording_id.filter(|_| served).map(str::to_owned),
                sha256: served.then(|| hex::encode(Sha256::digest(&audio.bytes))),
                bytes: served.then_some(audio.bytes.len() as u64),
                duration_ms: served.then_some(audio.duration_ms),
                mishaps: call
                    .plan
                    .mishaps
                    .iter()
                    .map(|m| m.name().to_owned())
                    .collect(),
                expect: call.plan.ending.name().to_owned(),
            };
            self.ledger.write(line).map_err(Error::Ledger)?;
        }
        Ok(())
    }

    pub fn lines(&self) -> Vec<LedgerLine> {
        self.ledger.lines()
    }

    /// Sends one notice, again after each of `waits` while it is not taken. True when it was, and for a vendor
    /// that announces nothing.
    ///
    /// `make` builds the request anew for every try, as a vendor that signs the time does.
    pub async fn deliver(
        &self,
        make: impl Fn() -> Push,
        patience: Duration,
        waits: &[Duration],
        taken: impl Fn(&Answered) -> bool,
    ) -> bool {
        if !self.options.announce {
            return true;
        }
        let mut waits = waits.iter();
        loop {
            let answer = self.pusher.send(&make(), patience).await;
            if answer.is_some_and(|answer| taken(&answer)) {
                self.counters.sent.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            let Some(wait) = waits.next() else {
                self.counters.given_up.fetch_add(1, Ordering::Relaxed);
                return false;
            };
            self.counters.repeated.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(*wait).await;
        }
    }
}

/// The answer of every page while the vendor is out.
pub fn outage() -> super::wire::Reply {
    super::wire::Reply::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable")
        .with(http::header::RETRY_AFTER, 1)
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
