//! Vendors that verify what the real ones verify and misbehave on demand, for `callvault simulate`,
//! `callvault demo` and the tests.
//!
//! This is a second, independent reading of the vendors' manuals: nothing that is under test is imported, so a
//! misreading on one side shows as a disagreement. Only the clock is handed in.
//!
//! A vendor makes calls whose course the seed decides (`plan`), pushes its notices to callvault, answers
//! questions and serves sound (`voices`), and writes for every recording what it was and how it must end
//! (`ledger`). The vendors' durations shrink by [`Options::speed`]; the clock runs as always.

mod aliyun;
mod dice;
mod feiyu;
mod files;
mod house;
mod ledger;
mod pbx;
mod plan;
mod push;
mod registry;
mod sign;
mod talks;
mod text;
mod trtc;
mod twilio;
mod vcrtc;
mod vendor;
mod voices;
mod wire;
mod yunxin;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::domain::clock::SharedClock;
use dice::Dice;
use house::House;
use ledger::Ledger;
pub use ledger::LedgerLine;
use plan::Planner;
pub use registry::VendorKind;
use vendor::Simulated;

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mishaps {
    None,
    /// About a third of the calls meet one mishap.
    #[default]
    Fair,
    /// Nearly every call meets one, many meet two.
    Storm,
}

impl FromStr for Mishaps {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "fair" => Ok(Self::Fair),
            "storm" => Ok(Self::Storm),
            _ => Err(Error::UnknownMood(name.to_owned())),
        }
    }
}

/// Which of a vendor's interfaces an account has; a vendor that has not the one asked for plays its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Profile {
    /// Feiyu: `callhangup` and `recordEnd`, the time signed. VCRTC: the public cloud. FreeSWITCH: json_cdr.
    #[default]
    V2,
    /// Feiyu: a CDR for each leg, joined by `dialBackId`, with the constant signature. VCRTC: the dedicated cloud,
    /// with sessions. FreeSWITCH: xml_cdr. `cdr/1` in a folder: recordings without a word about them.
    V3,
    /// Alibaba: recordings and RTC call records come by message queue, other call records by push.
    Queue,
    /// Alibaba's number protection: call records by push, recordings by queue, addresses by question.
    Protection,
}

/// By which way a telephone system's messages leave; every other vendor pushes, or has a queue of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Way {
    #[default]
    Http,
    /// A RabbitMQ queue.
    Amqp,
    /// A JetStream stream.
    Nats,
    /// Files beside the recordings.
    Folder,
}

impl FromStr for Way {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "http" => Ok(Self::Http),
            "amqp" => Ok(Self::Amqp),
            "nats" => Ok(Self::Nats),
            "folder" => Ok(Self::Folder),
            _ => Err(Error::UnknownWay(name.to_owned())),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    /// The name of the source in callvault's configuration.
    pub source: String,
    /// Where the vendor listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// callvault's base address, such as `http://127.0.0.1:8080`; may follow by [`Vendor::set_push_to`].
    pub push_to: Option<String>,
    pub profile: Profile,
    pub way: Way,
    /// Address of the broker, for ways that have one. It is shown in the configuration block.
    pub broker: Option<String>,
    /// Where a telephone system puts its recordings; otherwise a folder beside the ledger, or a temporary one.
    pub files: Option<PathBuf>,
    /// Calls that can be archived; planned failures come on top.
    pub calls: u32,
    pub seed: u64,
    /// The vendor's durations are divided by this.
    pub speed: f64,
    pub mishaps: Mishaps,
    pub ledger: Option<PathBuf>,
    /// Forces these mishaps in rotation, one text for each call: names of the ledger, several joined by `+`, or
    /// `none`. Then exactly `calls` calls are made.
    pub only: Vec<String>,
    /// How long the vendor thinks before each answer; never scaled.
    pub answers_after: Duration,
    /// Time between two calls; never scaled.
    pub call_interval: Duration,
    /// Without, no notice leaves the vendor: what it has must be found by asking.
    pub announce: bool,
}

impl Options {
    /// Ten calls with a fair share of mishaps at the vendor's own pace, on a free loopback port.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            push_to: None,
            profile: Profile::V2,
            way: Way::Http,
            broker: None,
            files: None,
            calls: 10,
            seed: 1,
            speed: 1.0,
            mishaps: Mishaps::Fair,
            ledger: None,
            only: Vec::new(),
            answers_after: Duration::ZERO,
            call_interval: Duration::from_millis(100),
            announce: true,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no simulator for vendor {0:?}, there are: {known}", known = registry::names())]
    UnknownVendor(String),
    #[error("mishaps are none, fair or storm, not {0:?}")]
    UnknownMood(String),
    #[error("the ways are http, amqp, nats and folder, not {0:?}")]
    UnknownWay(String),
    #[error("{kind} has no way {way:?}")]
    NoSuchWay { kind: &'static str, way: Way },
    #[error("the broker's address is missing")]
    NoBroker,
    #[error("the broker did not take a message: {0}")]
    Broker(String),
    #[error("this vendor has no mishap {0:?}")]
    UnknownMishap(String),
    #[error("the speed must be a number above 0, not {0}")]
    Speed(f64),
    #[error("could not listen on {addr}")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error("could not write the ledger")]
    Ledger(#[source] io::Error),
    #[error("the simulated vendor does not know where to push its notices to")]
    NowhereToPush,
}

pub type Result<T> = std::result::Result<T, Error>;

/// How far a vendor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Calls that this run is going to make, planned failures included.
    pub calls_planned: u64,
    pub calls_made: u64,
    /// Notices that callvault took.
    pub pushes_accepted: u64,
    /// Tries beyond the first.
    pub pushes_repeated: u64,
    /// Notices that were never taken.
    pub pushes_given_up: u64,
    /// Downloads that were sent whole, parts of a resumed one included.
    pub downloads_served: u64,
    pub bytes_served: u64,
}

/// A simulated vendor: a web server, and the calls it makes. Clones are the same vendor.
#[derive(Clone)]
pub struct Vendor(Arc<Inner>);

struct Inner {
    house: Arc<House>,
    kind: Arc<dyn Simulated>,
    planner: Planner,
    next_call: Mutex<u64>,
    stop: watch::Sender<bool>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Vendor({} at {})",
            self.0.house.options.source,
            self.addr()
        )
    }
}

impl Vendor {
    /// Starts the vendor's web server. Calls of earlier runs that its ledger names, made with the same seed, are
    /// known again and can still be fetched.
    pub async fn start(kind: VendorKind, options: Options, clock: SharedClock) -> Result<Self> {
        if !(options.speed.is_finite() && options.speed > 0.0) {
            return Err(Error::Speed(options.speed));
        }
        if !kind.ways().contains(&options.way) {
            return Err(Error::NoSuchWay {
                kind: kind.name(),
                way: options.way,
            });
        }
        if matches!(options.way, Way::Amqp | Way::Nats) && options.broker.is_none() {
            return Err(Error::NoBroker);
        }
        let seed = Dice::named(options.seed, &options.source).roll();
        let planner = Planner::new(
            kind.manners(options.profile, options.way),
            seed,
            options.mishaps,
            &options.only,
        )?;
        let (ledger, earlier) =
            Ledger::open(options.ledger.as_deref(), &options.source).map_err(Error::Ledger)?;
        let cannot = |source| Error::Listen {
            addr: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(cannot)?;
        let addr = listener.local_addr().map_err(cannot)?;
        let answers_after = options.answers_after;
        let house = Arc::new(House::new(options, clock, addr, seed, ledger));
        let kind = kind.build(Arc::clone(&house));
        let next_call = recall(&*kind, &earlier);
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(wire::serve(
            listener,
            Arc::clone(&kind),
            answers_after,
            stopped,
        ));
        Ok(Self(Arc::new(Inner {
            house,
            kind,
            planner,
            next_call: Mutex::new(next_call),
            stop,
            server: Mutex::new(Some(server)),
        })))
    }

    pub fn addr(&self) -> SocketAddr {
        self.0.house.addr
    }

    pub fn source(&self) -> &str {
        &self.0.house.options.source
    }

    /// The token in the addresses that the vendor pushes to.
    pub fn hook_token(&self) -> &str {
        &self.0.house.hook_token
    }

    /// A ready `[sources.NAME]` block in TOML, with callvault's own waiting times at the vendor's speed.
    pub fn config_block(&self) -> String {
        self.0.kind.config_block()
    }

    /// callvault's base address, such as `http://127.0.0.1:8080`.
    pub fn set_push_to(&self, url: impl Into<String>) {
        self.0.house.set_push_to(url.into());
    }

    /// Every request is answered with 503 until the outage is over.
    pub fn set_outage(&self, outage: bool) {
        self.0.house.set_outage(outage);
    }

    /// Plays all calls and returns when every notice was taken or given up. Called again, it makes new calls.
    pub async fn make_calls(&self) -> Result<()> {
        let house = &self.0.house;
        // Before any call is made: without an address no call can be told of.
        house.hook(None)?;
        let plans = {
            let mut next = house::locked(&self.0.next_call);
            let plans = self.0.planner.calls(*next, house.options.calls);
            *next += plans.len() as u64;
            plans
        };
        house.count_planned(plans.len());
        self.0.kind.make_calls(plans).await
    }

    /// What this run wrote into the ledger so far.
    pub fn ledger(&self) -> Vec<LedgerLine> {
        self.0.house.lines()
    }

    pub fn progress(&self) -> Progress {
        self.0.house.progress()
    }

    /// Requests answered so far, by page (an audio file counts under the folder it lies in).
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.0.house.requests()
    }

    /// Stops listening and waits up to two seconds for answers on their way.
    pub async fn stop(&self) {
        self.0.stop.send_replace(true);
        let server = house::locked(&self.0.server).take();
        if let Some(server) = server {
            // A panic in the server was printed where it happened; there is nothing left to stop.
            let _ = server.await;
        }
    }
}

/// Takes back the calls of earlier runs that this seed made, and says which number comes next.
///
/// Lines lie in the order of writing, and a killed run may have left some out: a call's number is found
/// by its id.
fn recall(vendor: &dyn Simulated, earlier: &[LedgerLine]) -> u64 {
    const LEFT_OUT: u64 = 64;
    let count = earlier.len() as u64;
    let most = if count == 0 { 0 } else { count + LEFT_OUT };
    let numbers: HashMap<String, u64> = (0..most)
        .map(|index| (vendor.call_id_of(index), index))
        .collect();
    let mut next = count;
    for line in earlier {
        let Some(&index) = numbers.get(&line.provider_call_id) else {
            continue;
        };
        next = next.max(index + 1);
        vendor.recall(index, line);
    }
    next
}

/// Waits for every call; the first error counts, and a call that panicked panics here too.
async fn all_done(mut playing: tokio::task::JoinSet<Result<()>>) -> Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = playing.join_next().await {
        match ended {
            Ok(ended) => outcome = outcome.and(ended),
            Err(panicked) if panicked.is_panic() => {
                std::panic::resume_unwind(panicked.into_panic())
            }
            Err(_) => {}
        }
    }
    outcome
}
