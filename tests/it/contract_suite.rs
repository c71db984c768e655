//! Every vendor that can be simulated, by every way that its messages can leave, held to the same promises as far as its
//! capabilities go: they are asked first. A vendor that joins `VendorKind::ALL` is played here without being named.
//! Queues and streams are those of the real servers (`ways.rs` says where they are looked for).
//!
//! Failure: a recording that could be had is archived twice, not at all or with other bytes, or one that no way
//! leads to is made up. Not a failure: by which way it was heard of first, unless only one is open.

use std::collections::BTreeSet;
use std::time::Duration;

use callvault::providers::contract::Capabilities;
use callvault::simulator::{Error, Mishaps, Options, Vendor, VendorKind, Way};

use crate::journeys::{all_as_planned, options};
use crate::support::house::{TestHouse, program};

const SOURCE: &str = "suite";
/// Every second, and never during a test.
const OFTEN: &str = "* * * * * *";
const NEVER: &str = "0 0 0 29 2 *";

fn archive(poll: &str) -> String {
    format!("[archive]\nkind = \"directory\"\npath = \"archive\"\n[schedule]\npoll = \"{poll}\"\n")
}

/// A kind of vendor and a way, with the broker's address where the way has one.
#[derive(Clone, Debug)]
struct Part {
    kind: VendorKind,
    way: Way,
    broker: Option<String>,
}

/// Each kind with each of its ways; without a broker its ways are left out, and that is said.
async fn parts() -> Vec<Part> {
    #[cfg(feature = "amqp")]
    let amqp = crate::ways::amqp::server().await.map(|(url, _)| url);
    #[cfg(not(feature = "amqp"))]
    let amqp = None;
    #[cfg(feature = "nats")]
    let nats = crate::ways::nats_server().await.map(|(url, _)| url);
    #[cfg(not(feature = "nats"))]
    let nats = None;
    let mut parts = Vec::new();
    for &kind in VendorKind::ALL {
        for &way in kind.ways() {
            let broker = match way {
                Way::Http | Way::Folder => None,
                Way::Amqp | Way::Nats => {
                    let found = if way == Way::Amqp { &amqp } else { &nats };
                    match found {
                        Some(url) => Some(url.clone()),
                        None => continue,
                    }
                }
            };
            parts.push(Part { kind, way, broker });
        }
    }
    parts
}

/// Each kind by its first way.
fn kinds() -> impl Iterator<Item = Part> {
    VendorKind::ALL.iter().map(|&kind| Part {
        kind,
        way: Way::Http,
        broker: None,
    })
}

impl Part {
    fn options(&self, only: &[&str]) -> Options {
        Options {
            way: self.way,
            broker: self.broker.clone(),
            ..options(SOURCE, only)
        }
    }
}

struct Played {
    house: TestHouse,
    part: Part,
    can: Capabilities,
    queues: usize,
}

/// A house with one vendor of this kind that plays one call for each of `only`.
async fn house(part: &Part, only: &[&str], announce: bool, poll: &str) -> Played {
    let options = Options {
        announce,
        ..part.options(only)
    };
    let house = TestHouse::open_on(
        vec![(part.kind, options)],
        "sqlite://callvault.db",
        &archive(poll),
    )
    .await;
    let provider = house.house().sources.get(SOURCE).unwrap();
    Played {
        can: provider.capabilities(),
        queues: provider.queues().len(),
        house,
        part: part.clone(),
    }
}

impl Played {
    /// Recordings of the source that are archived.
    async fn archived(&self) -> u64 {
        let counted = self.house.house().db.count_by_source().await.unwrap();
        let archived = counted.iter().find(|(_, state, _)| state == "archived");
        archived.map_or(0, |(.., n)| *n)
    }

    /// Ends it, and takes what it had at a broker along.
    async fn finish(self) {
        let text = std::fs::read_to_string(self.house.config_file()).unwrap();
        self.house.finish().await;
        let name = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            line.unwrap().split('"').nth(1).unwrap().to_owned()
        };
        match self.part.way {
            #[cfg(feature = "amqp")]
            Way::Amqp => crate::ways::amqp::forget(&name("queue = ")).await,
            #[cfg(feature = "nats")]
            Way::Nats => {
                let (_, client) = crate::ways::nats_server().await.unwrap();
                let jetstream = async_nats::jetstream::new(client);
                jetstream.delete_stream(name("stream = ")).await.unwrap();
            }
            _ => {}
        }
    }

    async fn unannounced(&self) -> u64 {
        self.house.house().db.found_by_sweep(SOURCE).await.unwrap()
    }

    /// Plays the calls and waits until each recording is archived exactly once.
    async fn all_archived_once(&self) {
        self.house.make_calls().await;
        all_as_planned(&self.house).await;
        let ledger = self.house.ledger();
        let expected = ledger
            .iter()
            .filter(|line| line.expect == "archived")
            .count();
        assert!(expected > 0, "{:?} made nothing", self.part);
        assert_eq!(
            self.archived().await,
            expected as u64,
            "{:?}: {ledger:#?}",
            self.part
        );
    }
}

/// Whether this vendor can have this mishap at all.
async fn knows(part: &Part, mishap: &str) -> bool {
    let clock = std::sync::Arc::new(callvault::domain::clock::SystemClock);
    match Vendor::start(part.kind, part.options(&[mishap]), clock).await {
        Ok(vendor) => {
            vendor.stop().await;
            true
        }
        Err(Error::UnknownMishap(_)) => false,
        Err(error) => panic!("{part:?}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_archived_without_any_sweep() {
    for part in parts().await {
        let played = house(&part, &["none", "none", "none"], true, NEVER).await;
        played.all_archived_once().await;
        assert_eq!(played.unannounced().await, 0, "{part:?}");
        played.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_announces_is_found_by_the_sweep_alone_and_the_meter_says_so() {
    let mut listed = 0;
    for part in kinds() {
        let played = house(&part, &["none", "none", "none", "none"], false, OFTEN).await;
        if played.can.lists() || played.queues > 0 {
            played.all_archived_once().await;
            let found = played.unannounced().await;
            if played.queues == 0 {
                assert_eq!(found, played.archived().await, "{part:?}");
                listed += 1;
            }
            played.finish().await;
        } else {
            // No way leads to these recordings: nothing is made up, and nothing goes wrong.
            played.house.make_calls().await;
            assert!(!played.house.ledger().is_empty());
            tokio::time::sleep(Duration::from_millis(2500)).await;
            assert_eq!(played.archived().await, 0, "{part:?}");
            assert_eq!(played.unannounced().await, 0, "{part:?}");
            played.finish().await;
        }
    }
    assert!(listed > 0, "no vendor was listed: the suite proves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_and_swept_at_once_is_archived_once() {
    for part in kinds() {
        let played = house(&part, &["none", "none", "none"], true, OFTEN).await;
        played.all_archived_once().await;
        played.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_twice_late_or_out_of_order_ends_alike() {
    let mut played_any = 0;
    for part in parts().await {
        let mut only = Vec::new();
        for mishap in ["twice", "late", "out_of_order", "poison"] {
            if knows(&part, mishap).await {
                only.push(mishap);
            }
        }
        if only.is_empty() {
            continue;
        }
        // Once by notices alone, and once with the sweep in between, where there is one.
        for poll in [NEVER, OFTEN] {
            if poll == OFTEN && part.way != Way::Http {
                continue;
            }
            let played = house(&part, &only, true, poll).await;
            played.all_archived_once().await;
            played.finish().await;
        }
        played_any += 1;
    }
    assert!(played_any > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_that_nobody_announces_are_archived_and_the_meter_says_so() {
    let silent = |kind, source: &str, calls| {
        let options = Options {
            announce: false,
            calls,
            mishaps: Mishaps::None,
            call_interval: Duration::from_millis(1),
            ..options(source, &[])
        };
        (kind, options)
    };
    let house = TestHouse::open_on(
        vec![
            silent(VendorKind::Feiyu, "feiyu-s", 140),
            silent(VendorKind::Yunxin, "yunxin-s", 30),
            silent(VendorKind::Trtc, "trtc-s", 30),
        ],
        "sqlite://callvault.db",
        &archive(OFTEN),
    )
    .await;
    house.make_calls().await;
    // Feiyu cannot be listed; the ids come from the customer's own system.
    let ledger = house.ledger();
    let ids = ledger.iter().filter(|line| line.source == "feiyu-s");
    let rows: Vec<&str> = ids.map(|line| line.provider_call_id.as_str()).collect();
    let file = house.path().join("ids.csv");
    std::fs::write(&file, format!("provider_call_id\n{}\n", rows.join("\n"))).unwrap();
    let imported = tokio::process::Command::new(program())
        .arg("--config")
        .arg(house.config_file())
        .args(["import", "--source", "feiyu-s"])
        .arg(&file)
        .output()
        .await
        .unwrap();
    assert!(imported.status.success(), "{imported:?}");
    all_as_planned(&house).await;
    let calls: BTreeSet<_> = ledger
        .iter()
        .map(|line| (&line.source, &line.provider_call_id))
        .collect();
    assert_eq!(calls.len(), 200);
    let db = &house.house().db;
    for source in ["yunxin-s", "trtc-s"] {
        let made = ledger.iter().filter(|line| line.source == source).count();
        let found = db.found_by_sweep(source).await.unwrap();
        assert_eq!(found, made as u64, "{source}");
    }
    house.finish().await;
}
