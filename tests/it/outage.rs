//! A vendor that is away for 29 days, day by day on a clock that is moved by hand.
//!
//! Failure: a recording of the source that keeps 30 days is lost, or a later deadline is served before an
//! earlier one. Not a failure: how often the vendor was asked meanwhile.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use callvault::archive::disk::DiskArchive;
use callvault::db::Database;
use callvault::db::recordings::Classes;
use callvault::db::settings::Settings;
use callvault::domain::clock::{Clock as _, ManualClock, Timestamp};
use callvault::domain::media::AccessSettings;
use callvault::domain::notice::Door;
use callvault::domain::secret::Secret;
use callvault::jobs::status;
use callvault::pipeline::decoder::{DecoderCrew, DecoderLimits};
use callvault::pipeline::handoff::Tools;
use callvault::pipeline::inbox;
use callvault::pipeline::ingest::{LEASE, ingest};
use callvault::pipeline::intake::Intake;
use callvault::pipeline::kept;
use callvault::providers::contract::{Capabilities, Provider, ProviderErrorKind, Told};
use callvault::providers::http::GuardedClient;
use callvault::providers::sources::Sources;
use callvault::spool::journal::Journal;
use callvault::spool::{self, Spool};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::db::{DAY, MINUTE, START};
use crate::support::disk::SmallDisk;
use crate::support::house::{TestHouse, program};
use crate::support::http;
use crate::support::shelf::{Mood, Shelf};

const HOUR_MS: i64 = 60 * MINUTE;

pub struct Site {
    dir: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
    pub tools: Tools,
    intake: Intake,
    /// Calls whose recording was fetched, in order.
    fetched: Arc<Mutex<Vec<String>>>,
}

/// Every call has the same recording, but those below `/none/` have none.
async fn served(
    State(fetched): State<Arc<Mutex<Vec<String>>>>,
    uri: axum::http::Uri,
) -> Result<Vec<u8>, StatusCode> {
    let call = uri.path().trim_start_matches('/').to_owned();
    if call.starts_with("none/") {
        return Err(StatusCode::NOT_FOUND);
    }
    fetched.lock().unwrap().push(call);
    Ok(include_bytes!("../fixtures/audio/pcm-s16-8k-mono.wav").to_vec())
}

impl Site {
    pub async fn open(names: [(&str, &str); 2]) -> (Self, Vec<Arc<Shelf>>) {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("archive");
        Self::open_on(dir, &archive, names, true).await
    }

    async fn open_on<const N: usize>(
        dir: tempfile::TempDir,
        archive: &Path,
        names: [(&str, &str); N],
        link_renewable: bool,
    ) -> (Self, Vec<Arc<Shelf>>) {
        let clock = ManualClock::at(Timestamp::parse(START).unwrap());
        let fetched: Arc<Mutex<Vec<String>>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(served).with_state(fetched.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let shelves: Vec<Arc<Shelf>> = names
            .map(|(name, keeps)| {
                let keys = format!(
                    "provider_keeps = \"{keeps}\"\nallow_private_addresses = true\n\
                     allow_hosts = [\"{address}\"]\nhttp_links = \"allow\""
                );
                let can = Capabilities {
                    link_renewable,
                    ..Capabilities::default()
                };
                let shelf = Shelf::named(name, &keys, can);
                *shelf.address.lock().unwrap() = Some(format!("http://{address}"));
                shelf
            })
            .into();
        let settings = Settings {
            url: Secret::new("sqlite://callvault.db"),
            auto_migrate: Some(true),
        };
        let db = Database::connect(&settings, dir.path(), clock.clone())
            .await
            .unwrap();
        let spool = Spool::open(&spool::Settings::default(), dir.path())
            .await
            .unwrap();
        let journal = Journal::open(&dir.path().join("journal")).await.unwrap();
        let intake = Intake::new(db.clone(), Arc::new(journal), clock.clone());
        let limits = DecoderLimits::default();
        let providers = shelves
            .iter()
            .map(|shelf| shelf.clone() as Arc<dyn Provider>);
        let tools = Tools {
            db,
            archive: Arc::new(DiskArchive::open(archive).await.unwrap()),
            spool,
            client: Arc::new(GuardedClient::new(clock.clone())),
            decoder: Arc::new(DecoderCrew::new(program(), 1, limits)),
            sources: Sources::new(providers),
            clock: clock.clone(),
            access: AccessSettings::default(),
        };
        let site = Self {
            dir,
            clock,
            tools,
            intake,
            fetched,
        };
        (site, shelves)
    }

    /// A call that ended at `ended`, and its recording; heard at once.
    pub async fn tell(&self, shelf: &Shelf, call: &str, ended: Timestamp) {
        let body =
            json!({ "call": call, "ended_at": ended.ms(), "recording": format!("{call}-1") });
        let told = Told {
            topic: "item".to_owned(),
            body: body.to_string().into(),
            dedup_key: call.to_owned(),
            unreadable: None,
        };
        self.intake.take(shelf, Door::Push, told).await.unwrap();
    }

    /// Does all that is due at this moment, one recording after the other.
    async fn work(&self) {
        let (db, stop) = (&self.tools.db, CancellationToken::new());
        loop {
            let now = self.clock.now();
            let read = inbox::read_waiting(db, &self.tools.sources, "i1", now)
                .await
                .unwrap();
            let names = self.tools.sources.names();
            let claimed = db
                .claim(now, "i1", LEASE, 1, &names, Classes::All)
                .await
                .unwrap();
            if read == 0 && claimed.is_empty() {
                return;
            }
            for leased in claimed {
                ingest(&self.tools, leased, &stop).await;
            }
        }
    }

    pub async fn states(&self, source: &str) -> Vec<(String, u64)> {
        let counted = self.tools.db.count_by_source().await.unwrap();
        let mine = counted.into_iter().filter(|(name, ..)| name == source);
        mine.map(|(_, state, n)| (state, n)).collect()
    }

    async fn alarms(&self) -> Vec<(String, String)> {
        let usage = self.tools.spool.usage().await.unwrap();
        let view = status::status(
            &self.tools.db,
            &self.tools.sources,
            usage,
            None,
            self.clock.now(),
        )
        .await
        .unwrap();
        let named = view
            .alarms
            .into_iter()
            .filter_map(|alarm| Some((alarm.code, alarm.source?)));
        named.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_29_days_loses_nothing_that_is_kept_for_30_and_says_what_it_lost_of_the_rest()
{
    let (site, shelves) = Site::open([("long", "30d"), ("short", "7d")]).await;
    let start = site.clock.now();
    for shelf in &shelves {
        shelf.set(Mood::Fails(ProviderErrorKind::Unreachable));
    }
    // Told in another order than they ended.
    let ended = [50, 10, 40, 0, 30, 20];
    for minutes in ended {
        let at = start.plus_ms(minutes * MINUTE);
        site.tell(&shelves[0], &format!("long-{minutes:02}"), at)
            .await;
        site.tell(&shelves[1], &format!("short-{minutes:02}"), at)
            .await;
    }
    let has = |alarms: &[(String, String)], code: &str, source: &str| {
        alarms.iter().any(|(c, s)| c == code && s == source)
    };
    for quarter in 1..=29 * 4 {
        site.clock.set(start.plus_ms(quarter * DAY / 4));
        site.work().await;
        let alarms = site.alarms().await;
        let day = quarter as f64 / 4.0;
        assert_eq!(
            has(&alarms, "lost", "short"),
            day >= 7.0,
            "day {day}: {alarms:?}"
        );
        assert_eq!(
            has(&alarms, "slack_10d", "long"),
            day > 20.1 && day < 25.2,
            "day {day}: {alarms:?}"
        );
        assert_eq!(
            has(&alarms, "slack_2d", "long"),
            day > 28.0 && day < 29.0 + 0.1,
            "day {day}: {alarms:?}"
        );
    }
    assert_eq!(site.states("long").await, [("pending".to_owned(), 6)]);
    assert_eq!(site.states("short").await, [("lost".to_owned(), 6)]);
    assert!(site.fetched.lock().unwrap().is_empty());
    let evidence = site
        .tools
        .db
        .recordings_of_call("short", "short-00")
        .await
        .unwrap();
    assert_eq!(evidence[0].reason.as_deref(), Some("expired_at_provider"));

    shelves[0].set(Mood::Fine);
    site.clock
        .set(start.plus_ms(29 * DAY).plus(Duration::from_secs(3600)));
    site.work().await;
    assert_eq!(site.states("long").await, [("archived".to_owned(), 6)]);
    let expected = [
        "long-00", "long-10", "long-20", "long-30", "long-40", "long-50",
    ];
    assert_eq!(*site.fetched.lock().unwrap(), expected);
    let alarms = site.alarms().await;
    assert!(
        alarms
            .iter()
            .all(|(code, source)| source != "long" || code == "source_quiet"),
        "{alarms:?}"
    );
}

/// Takes all the room of a small disk until it is dropped.
struct Filler(std::path::PathBuf);

impl Filler {
    fn fill(disk: &SmallDisk) -> Self {
        let path = disk.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        assert!(std::io::Write::write_all(&mut file, &vec![7; 8 << 20]).is_err());
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

impl Site {
    /// Six recordings whose address dies, and an archive without room.
    async fn full() -> Option<(Self, Arc<Shelf>, SmallDisk, Filler)> {
        let disk = SmallDisk::mount("4m")?;
        let dir = tempfile::tempdir().unwrap();
        let (site, shelves) = Site::open_on(dir, disk.path(), [("dies", "30d")], false).await;
        let filler = Filler::fill(&disk);
        for n in 0..6 {
            site.tell(&shelves[0], &format!("dies-{n}"), site.clock.now())
                .await;
        }
        site.clock.set(site.clock.now().plus_ms(MINUTE));
        site.work().await;
        let shelf = shelves.into_iter().next()?;
        Some((site, shelf, disk, filler))
    }

    async fn kept(&self) -> usize {
        self.tools.spool.kept().await.unwrap().len()
    }

    /// What a stop and a start do to the spool.
    async fn start_again(&mut self) {
        self.tools.spool = Spool::open(&spool::Settings::default(), self.dir.path())
            .await
            .unwrap();
        self.tools.spool.sweep(|_, _| false).await.unwrap();
        kept::sweep(&self.tools.db, &self.tools.spool).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_archive_is_full_every_link_is_used_in_time_and_its_file_waits_for_room() {
    let Some((mut site, shelf, _disk, filler)) = Site::full().await else {
        return;
    };
    // One hand fetched them all; none of them holds it.
    assert_eq!(site.fetched.lock().unwrap().len(), 6);
    assert_eq!(site.states("dies").await, [("staged".to_owned(), 6)]);
    let alarms = site.alarms().await;
    assert!(
        alarms.contains(&("archive_unavailable".to_owned(), "dies".to_owned())),
        "{alarms:?}"
    );
    assert_eq!(site.kept().await, 6);
    site.start_again().await;
    assert_eq!(site.kept().await, 6);
    // The vendor has nothing any more, long before there is room.
    *shelf.address.lock().unwrap() = None;
    site.clock.set(site.clock.now().plus_ms(40 * DAY));
    site.work().await;
    assert_eq!(site.states("dies").await, [("staged".to_owned(), 6)]);
    drop(filler);
    site.clock.set(site.clock.now().plus_ms(61 * MINUTE));
    site.work().await;
    assert_eq!(site.states("dies").await, [("archived".to_owned(), 6)]);
    assert_eq!(site.fetched.lock().unwrap().len(), 6);
    assert_eq!(site.kept().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_waits_on_another_machine_is_not_lost_when_the_vendor_has_nothing_any_more() {
    let Some((site, shelf, _disk, filler)) = Site::full().await else {
        return;
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let here = site.tools.spool.dir().to_owned();
    let files = |from: &Path, to: &Path| {
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            if file.path().extension().is_some_and(|e| e == "kept") {
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
                std::fs::remove_file(file.path()).unwrap();
            }
        }
    };
    files(&here, elsewhere.path());
    *shelf.address.lock().unwrap() = None;
    shelf.set(Mood::Fails(ProviderErrorKind::Unreachable));
    drop(filler);
    site.clock.set(site.clock.now().plus_ms(31 * DAY));
    site.work().await;
    assert_eq!(site.states("dies").await, [("staged".to_owned(), 6)]);
    // The machine comes back, with one file less.
    let one = std::fs::read_dir(elsewhere.path()).unwrap().next();
    std::fs::write(one.unwrap().unwrap().path(), b"not what its name says").unwrap();
    files(elsewhere.path(), &here);
    site.clock.set(site.clock.now().plus_ms(61 * MINUTE));
    site.work().await;
    assert_eq!(
        site.states("dies").await,
        [("archived".to_owned(), 5), ("staged".to_owned(), 1)]
    );
    // Nobody has it, for more than a week: now it is lost, and said to be.
    site.clock.set(site.clock.now().plus_ms(9 * DAY));
    site.work().await;
    assert_eq!(
        site.states("dies").await,
        [("archived".to_owned(), 5), ("lost".to_owned(), 1)]
    );
    assert_eq!(site.kept().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_archive_is_no_ready_storage() {
    let Some(disk) = SmallDisk::mount("4m") else {
        return;
    };
    let archive = format!(
        "[archive]\nkind = \"directory\"\npath = \"{}\"\n",
        disk.path().display()
    );
    let house = TestHouse::open_on(Vec::new(), "sqlite://callvault.db", &archive).await;
    let address = house.running.as_ref().unwrap().addresses.page().unwrap();
    let to = address.trim_start_matches("http://").parse().unwrap();
    let _filler = Filler::fill(&disk);
    // An answer serves all who ask within two seconds.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let answer = http::get(to, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["storage"], "away");
    assert_eq!(answer.json()["spool"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_database_is_no_ready_database_and_an_alarm() {
    let Some(disk) = SmallDisk::mount("8m") else {
        return;
    };
    let url = format!("sqlite://{}/callvault.db", disk.path().display());
    let house = TestHouse::open_on(Vec::new(), &url, "").await;
    let address = house.running.as_ref().unwrap().addresses.page().unwrap();
    let to = address.trim_start_matches("http://").parse().unwrap();
    assert_eq!(http::get(to, "/readyz").await.json()["database"], "ok");
    let filler = Filler::fill(&disk);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let answer = http::get(to, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["database"], "away");
    let alarms = http::get(to, "/api/v1/status").await.json()["alarms"].clone();
    let told = alarms
        .as_array()
        .unwrap()
        .iter()
        .find(|alarm| alarm["code"] == "disk_full");
    assert!(
        told.unwrap()["what"]
            .as_str()
            .unwrap()
            .contains("the database"),
        "{alarms}"
    );
    drop(filler);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(http::get(to, "/readyz").await.json()["database"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notices_link_and_the_vendor_are_tried_in_turn_until_one_of_them_has_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    let (site, shelves) = Site::open_on(dir, &archive, [("shelf", "30d")], true).await;
    let shelf = &shelves[0];
    let base = shelf.address.lock().unwrap().take().unwrap();
    let now = site.clock.now();
    let body = json!({ "call": "c", "ended_at": now.ms(), "recording": "c-1", "link": format!("{base}/none/c") });
    let told = Told {
        topic: "item".to_owned(),
        body: body.to_string().into(),
        dedup_key: "c".to_owned(),
        unreadable: None,
    };
    site.intake
        .take(shelf.as_ref(), Door::Push, told)
        .await
        .unwrap();
    let tries = async |n: usize| {
        for _ in 0..n {
            site.work().await;
            site.clock.advance_ms(HOUR_MS);
        }
        shelf.questions()
    };
    assert_eq!(
        tries(6).await,
        ["link", "vendor", "link", "vendor", "link", "vendor"]
    );
    // The vendor gives an address at which there is nothing yet either: it is the held link's turn all the same.
    *shelf.address.lock().unwrap() = Some(format!("{base}/none/vendor"));
    assert_eq!(tries(4).await, ["link", "vendor", "link", "vendor"]);
    // It knows no address: the link that was told is tried on.
    shelf.set(Mood::KnowsNone);
    assert_eq!(tries(3).await, ["link", "vendor", "link", "vendor", "link"]);
    // It does not answer at all: its turn is over too.
    shelf.set(Mood::Fails(ProviderErrorKind::Unreachable));
    tries(2).await;
    shelf.set(Mood::Fine);
    *shelf.address.lock().unwrap() = Some(base);
    tries(2).await;
    assert_eq!(site.states("shelf").await, [("archived".to_owned(), 1)]);
    assert_eq!(*site.fetched.lock().unwrap(), ["c"]);
}
