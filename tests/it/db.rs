//! The database room: one suite, run on SQLite and on PostgreSQL.
//!
//! PostgreSQL is looked for at `CALLVAULT_TEST_POSTGRES` (default `postgres://postgres@127.0.0.1:5432/postgres`);
//! each test has a schema of its own. Away, its half is skipped with a line that says so, and fails
//! when `CALLVAULT_REQUIRE_SERVERS=1`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use callvault::db::Database;
use callvault::db::notices::ClaimedNotice;
use callvault::db::readings::{Applied, SourceFacts};
use callvault::db::recordings::{Classes, Leased, NewObject};
use callvault::db::settings::Settings;
use callvault::domain::call::CallFacts;
use callvault::domain::clock::{ManualClock, Timestamp};
use callvault::domain::deadlines::Clocks;
use callvault::domain::digest::{Fingerprint, Sha256};
use callvault::domain::ids::new_id;
use callvault::domain::keys::Folder;
use callvault::domain::notice::{Door, Notice};
use callvault::domain::proof::ArchiveProof;
use callvault::domain::reading::{Announced, Reading};
use callvault::domain::recording::Role;
use callvault::domain::secret::Secret;
use sea_orm::{ConnectionTrait, DatabaseConnection};

pub const START: &str = "2024-03-05T04:00:00.000Z";
pub const LEASE: Duration = Duration::from_secs(60);
pub const MINUTE: i64 = 60_000;
pub const DAY: i64 = 24 * 60 * MINUTE;

/// A database of one test.
pub struct House {
    pub db: Database,
    pub clock: Arc<ManualClock>,
    pub settings: Settings,
    /// A connection beside the room, to look at tables.
    pub raw: DatabaseConnection,
    _folder: tempfile::TempDir,
}

/// Runs the test on every database that is there.
pub fn on_both<F, Fut>(test: F)
where
    F: Fn(House) -> Fut,
    Fut: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        test(sqlite(Some(true)).await).await;
        if let Some(schema) = postgres_schema().await {
            let folder = tempfile::tempdir().unwrap();
            test(house(schema.url.clone(), Some(true), folder).await).await;
            schema.drop().await;
        }
    });
}

/// The same with an empty schema.
pub fn on_both_unmigrated<F, Fut>(test: F)
where
    F: Fn(House) -> Fut,
    Fut: Future<Output = ()>,
{
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        test(sqlite(None).await).await;
        if let Some(schema) = postgres_schema().await {
            let folder = tempfile::tempdir().unwrap();
            test(house(schema.url.clone(), None, folder).await).await;
            schema.drop().await;
        }
    });
}

pub async fn sqlite(migrate: Option<bool>) -> House {
    let folder = tempfile::tempdir().unwrap();
    house("sqlite://data/callvault.db".to_owned(), migrate, folder).await
}

async fn house(url: String, migrate: Option<bool>, folder: tempfile::TempDir) -> House {
    let clock = ManualClock::at(at(0));
    let settings = Settings {
        url: Secret::new(url.clone()),
        auto_migrate: migrate,
    };
    let db = match migrate {
        Some(_) => Database::connect(&settings, folder.path(), clock.clone()).await,
        None => Database::connect_for_migration(&settings, folder.path(), clock.clone()).await,
    }
    .unwrap();
    let raw = if url.starts_with("sqlite") {
        format!(
            "sqlite://{}",
            folder.path().join("data/callvault.db").display()
        )
    } else {
        url
    };
    House {
        db,
        clock,
        settings,
        raw: sea_orm::Database::connect(raw).await.unwrap(),
        _folder: folder,
    }
}

impl House {
    pub fn folder(&self) -> &std::path::Path {
        self._folder.path()
    }

    /// A second process on the same database.
    pub async fn neighbour(&self) -> Database {
        Database::connect(&self.settings, self._folder.path(), self.clock.clone())
            .await
            .unwrap()
    }

    pub async fn sql(&self, sql: &str) {
        self.raw.execute_unprepared(sql).await.unwrap();
    }

    pub async fn number(&self, sql: &str) -> i64 {
        let statement = sea_orm::Statement::from_string(self.raw.get_database_backend(), sql);
        let row = self.raw.query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index(0).unwrap()
    }

    /// Stores a notice, claims it and applies the reading.
    pub async fn tell(&self, reading: &Reading, facts: &SourceFacts, now: Timestamp) -> Applied {
        self.db.add_notice(notice("feiyu-main", now)).await.unwrap();
        let claimed = self.claim_notice(now).await;
        self.db
            .apply_reading(&claimed, facts, reading, now)
            .await
            .unwrap()
    }

    pub async fn claim_notice(&self, now: Timestamp) -> ClaimedNotice {
        let sources = sources();
        let mut claimed = self
            .db
            .claim_notices(1, "i1", &sources, now, LEASE)
            .await
            .unwrap();
        claimed.remove(0)
    }

    pub async fn claim(&self, now: Timestamp, limit: usize) -> Vec<Leased> {
        self.db
            .claim(now, "i1", LEASE, limit, &sources(), Classes::All)
            .await
            .unwrap()
    }

    /// Stages and publishes the claimed recording with these bytes.
    pub async fn archive(&self, leased: &Leased, bytes: &[u8], now: Timestamp) {
        let row = &leased.loaded.row;
        let folder = Folder::of_recording(&row.source, row.arrived_at, row.recording_id);
        let (original, proof) = object(&folder, Role::Original, 1, bytes, now);
        self.db
            .stage(&leased.lease, &folder, original, now)
            .await
            .unwrap();
        let (manifest, manifest_proof) = object(&folder, Role::Manifest, 1, b"{}", now);
        self.db
            .add_object(&leased.lease, manifest, now)
            .await
            .unwrap();
        self.db
            .publish(&leased.lease, &proof, &manifest_proof, &[], now)
            .await
            .unwrap();
    }
}

/// A schema of one test.
struct Schema {
    url: String,
    name: String,
    admin: DatabaseConnection,
}

impl Schema {
    /// After a test that passed; a failed one leaves its tables to be looked at.
    async fn drop(self) {
        let sql = format!("drop schema {} cascade", self.name);
        self.admin.execute_unprepared(&sql).await.unwrap();
    }
}

/// A schema of its own, or `None` when there is no server.
async fn postgres_schema() -> Option<Schema> {
    let base = std::env::var("CALLVAULT_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    let mut options = sea_orm::ConnectOptions::new(base.clone());
    options
        .connect_timeout(Duration::from_secs(3))
        .acquire_timeout(Duration::from_secs(3));
    let admin = match sea_orm::Database::connect(options).await {
        Ok(admin) => admin,
        Err(error) => {
            let required = std::env::var("CALLVAULT_REQUIRE_SERVERS").is_ok_and(|v| v == "1");
            assert!(!required, "PostgreSQL is required and away: {error}");
            println!("SKIPPED on PostgreSQL: no server at CALLVAULT_TEST_POSTGRES");
            return None;
        }
    };
    let name = format!("t{}", new_id(at(0)).simple());
    let create = format!("create schema {name}");
    admin.execute_unprepared(&create).await.unwrap();
    Some(Schema {
        url: format!("{base}?options=-csearch_path%3D{name}"),
        name,
        admin,
    })
}

/// Minutes after the start of every test.
pub fn at(minutes: i64) -> Timestamp {
    Timestamp::parse(START).unwrap().plus_ms(minutes * MINUTE)
}

pub fn sources() -> Vec<String> {
    vec!["feiyu-main".to_owned(), "aliyun-main".to_owned()]
}

pub fn feiyu() -> SourceFacts {
    SourceFacts {
        kind: "feiyu".into(),
        link_renewable: true,
        provider_keeps_ms: Some(30 * DAY),
        expect_recordings: false,
        expect_within_ms: None,
    }
}

/// Unlike any other.
pub fn notice(source: &str, now: Timestamp) -> Notice {
    let notice_id = new_id(now);
    Notice {
        notice_id,
        source: source.into(),
        kind: "feiyu".into(),
        door: Door::Push,
        topic: "cdr".into(),
        method: "POST".into(),
        query: String::new(),
        headers: vec![("content-type".into(), "application/json".into())],
        body: notice_id.as_bytes().to_vec(),
        arrived_at: now,
        sha256: Sha256::of(notice_id.as_bytes()),
        dedup_key: notice_id.to_string(),
        unreadable: None,
    }
}

/// A CDR alone.
pub fn call(id: &str, started: Timestamp) -> CallFacts {
    CallFacts {
        is_cdr: true,
        started_at: Some(started),
        ended_at: Some(started.plus_ms(MINUTE)),
        duration_ms: Some(MINUTE),
        talked: Some(true),
        ..CallFacts::new(id)
    }
}

pub fn announced(call: &str, gone_at: Option<Timestamp>) -> Announced {
    Announced {
        provider_call_id: call.into(),
        provider_recording_id: Some(format!("rec-{call}")),
        aliases: vec![format!("r:{call}")],
        clocks: Clocks {
            gone_at,
            ..Clocks::default()
        },
        ..Announced::default()
    }
}

pub fn reading(calls: Vec<CallFacts>, recordings: Vec<Announced>) -> Reading {
    Reading {
        calls,
        recordings,
        ..Reading::default()
    }
}

/// A planned object and the proof that it was read back.
pub fn object(
    folder: &Folder,
    role: Role,
    n: u32,
    bytes: &[u8],
    now: Timestamp,
) -> (NewObject, ArchiveProof) {
    let fingerprint = Fingerprint::of(bytes);
    let key = match role {
        Role::CallAccess => folder.of_call(uuid::Uuid::nil()).access(n),
        Role::Duplicate => folder.access(99),
        Role::Original => folder.original(&fingerprint.sha256, "wav"),
        Role::Access => folder.access(n),
        Role::Waveform => folder.waveform(n),
        Role::Manifest => folder.manifest(n),
    };
    let proof = ArchiveProof::compare(key.clone(), None, &fingerprint, fingerprint).unwrap();
    let object = NewObject {
        role,
        n,
        key,
        bytes: fingerprint.bytes,
        sha256: fingerprint.sha256,
        mime: "audio/wav".into(),
        ..NewObject::default_at(now)
    };
    (object, proof)
}
