//! A vendor that is away for 29 days, day by day on a clock that is moved by hand.
//!
//! Failure: a recording of the source that keeps 30 days is lost, or a later deadline is served before an
//! earlier one. Not a failure: how often the vendor was asked meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
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
use callvault::providers::contract::{Capabilities, Provider, ProviderErrorKind, Told};
use callvault::providers::http::GuardedClient;
use callvault::providers::sources::Sources;
use callvault::spool::journal::Journal;
use callvault::spool::{self, Spool};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::db::{DAY, MINUTE, START};
use crate::support::house::program;
use crate::support::shelf::{Mood, Shelf};

struct Site {
    _dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    tools: Tools,
    intake: Intake,
    /// Calls whose recording was fetched, in order.
    fetched: Arc<Mutex<Vec<String>>>,
}

async fn served(State(fetched): State<Arc<Mutex<Vec<String>>>>, uri: http::Uri) -> Vec<u8> {
    let call = uri.path().trim_start_matches('/').to_owned();
    fetched.lock().unwrap().push(call);
    include_bytes!("../fixtures/audio/pcm-s16-8k-mono.wav").to_vec()
}

impl Site {
    async fn open(names: [(&str, &str); 2]) -> (Self, Vec<Arc<Shelf>>) {
        let dir = tempfile::tempdir().unwrap();
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
                    link_renewable: true,
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
            archive: Arc::new(
                DiskArchive::open(&dir.path().join("archive"))
                    .await
                    .unwrap(),
            ),
            spool,
            client: Arc::new(GuardedClient::new(clock.clone())),
            decoder: Arc::new(DecoderCrew::new(program(), 1, limits)),
            sources: Sources::new(providers),
            clock: clock.clone(),
            access: AccessSettings::default(),
        };
        let site = Self {
            _dir: dir,
            clock,
            tools,
            intake,
            fetched,
        };
        (site, shelves)
    }

    /// A call that ended at `ended`, and its recording; heard at once.
    async fn tell(&self, shelf: &Shelf, call: &str, ended: Timestamp) {
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

    async fn states(&self, source: &str) -> Vec<(String, u64)> {
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
