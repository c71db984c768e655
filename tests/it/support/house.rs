//! `TestHouse`: a whole installation on embedded defaults with a simulated vendor, for journeys.
//!
//! It ends honestly: `finish` fails when an object is staged, the spool holds a file, or an object in
//! the archive has no row (or a row no object).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callvault::app::{self, House, Parts, Running, StartOptions};
use callvault::config::Config;
use callvault::domain::clock::{SharedClock, SystemClock};
use callvault::simulator::{LedgerLine, Options, Vendor, VendorKind};
use futures::StreamExt as _;

pub struct TestHouse {
    pub dir: tempfile::TempDir,
    pub vendors: Vec<Vendor>,
    pub running: Option<Running>,
    pub database_url: String,
    /// The `[archive]` section.
    pub archive: String,
    clock: SharedClock,
}

/// For what comes by itself, on a machine that does other things besides.
const PATIENCE: Duration = Duration::from_secs(240);

/// The program itself, which holds the decoder child.
pub fn program() -> std::path::PathBuf {
    env!("CARGO_BIN_EXE_callvault").into()
}

impl TestHouse {
    /// Starts vendors and house; `options` says for each vendor what it does.
    pub async fn open(vendors: Vec<(VendorKind, Options)>) -> Self {
        let directory = "[archive]\nkind = \"directory\"\npath = \"archive\"\n";
        Self::open_on(vendors, "sqlite://callvault.db", directory).await
    }

    pub async fn open_on(
        vendors: Vec<(VendorKind, Options)>,
        database_url: &str,
        archive: &str,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: SharedClock = Arc::new(SystemClock);
        let mut started = Vec::new();
        for (kind, options) in vendors {
            let options = Options {
                ledger: Some(dir.path().join("served.ndjson")),
                ..options
            };
            started.push(Vendor::start(kind, options, clock.clone()).await.unwrap());
        }
        let mut house = Self {
            dir,
            vendors: started,
            running: None,
            database_url: database_url.to_owned(),
            archive: archive.to_owned(),
            clock,
        };
        house.start().await;
        house
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn config_file(&self) -> std::path::PathBuf {
        self.path().join("callvault.toml")
    }

    pub async fn start(&mut self) {
        let mut text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\nauto_migrate = true\n{}[spool]\npath = \"spool\"\n",
            self.database_url, self.archive
        );
        for vendor in &self.vendors {
            text.push_str(&vendor.config_block());
        }
        self.start_with(&text).await;
    }

    /// Starts with this configuration.
    pub async fn start_with(&mut self, text: &str) {
        std::fs::write(self.config_file(), text).unwrap();
        let config = Config::load(Some(&self.config_file())).unwrap();
        let house = House::open(config, self.clock.clone()).await.unwrap();
        let options = StartOptions {
            decoder_program: Some(program()),
            ..StartOptions::default()
        };
        let running = app::start(house, Parts::ALL, options).await.unwrap();
        let address = running.addresses.page().unwrap();
        for vendor in &self.vendors {
            vendor.set_push_to(address.clone());
        }
        self.running = Some(running);
    }

    /// Starts again with the configuration that lies there.
    pub async fn start_again(&mut self) {
        let text = std::fs::read_to_string(self.config_file()).unwrap();
        self.start_with(&text).await;
    }

    pub fn house(&self) -> &House {
        &self.running.as_ref().unwrap().house
    }

    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    /// All vendors make their calls and settle their notices.
    pub async fn make_calls(&self) {
        for vendor in &self.vendors {
            vendor.make_calls().await.unwrap();
        }
    }

    pub fn ledger(&self) -> Vec<LedgerLine> {
        self.vendors.iter().flat_map(Vendor::ledger).collect()
    }

    /// Waits until `done` says so; panics with its last word when it does not come to that.
    pub async fn until<F, T>(&self, done: F) -> T
    where
        F: AsyncFn(&Self) -> Result<T, String>,
    {
        let begun = Instant::now();
        loop {
            match done(self).await {
                Ok(value) => return value,
                Err(why) if begun.elapsed() > PATIENCE => panic!("not done: {why}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Stops everything and checks that nothing is left lying about.
    pub async fn finish(mut self) {
        let archive = self.house().archive.clone();
        let db = self.house().db.clone();
        self.until(async |house| {
            let open = house.house().db.open_work().await.unwrap();
            if open.is_empty() {
                Ok(())
            } else {
                Err(format!("work is left: {open:?}"))
            }
        })
        .await;
        self.stop().await;
        let known: std::collections::BTreeSet<String> = db
            .all_object_keys()
            .await
            .unwrap()
            .into_iter()
            .map(|key| key.to_string())
            .collect();
        let stored = stored_keys(archive.as_ref()).await;
        assert_eq!(
            known, stored,
            "objects with rows, and objects in the archive"
        );
        let left: Vec<_> = spool_files(&self.path().join("spool"));
        assert!(left.is_empty(), "left in the spool: {left:?}");
        for vendor in &self.vendors {
            vendor.stop().await;
        }
    }
}

/// Keys of recordings' objects in the archive.
pub async fn stored_keys(
    archive: &dyn callvault::archive::contract::Archive,
) -> std::collections::BTreeSet<String> {
    let mut stored = std::collections::BTreeSet::new();
    let mut list = archive.list("");
    while let Some(object) = list.next().await {
        let key = object.unwrap().key.to_string();
        if !key.starts_with("_callvault/") {
            stored.insert(key);
        }
    }
    stored
}

/// Files of recordings in the spool: not the journal, not the locks of instances.
pub fn spool_files(spool: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![spool.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "journal" {
                    dirs.push(path);
                }
            } else if !name.starts_with("instance-") && !name.ends_with(".lock") {
                files.push(path);
            }
        }
    }
    files
}
