//! `WebHouse`: the real server on a free port over a real database, archive, spool and intake, without workers.

use std::net::SocketAddr;
use std::sync::Arc;

use callvault::archive::disk::DiskArchive;
use callvault::db::Database;
use callvault::domain::clock::{ManualClock, Timestamp};
use callvault::domain::notice::Notice;
use callvault::domain::secret::Secret;
use callvault::pipeline::intake::Intake;
use callvault::providers::contract::{BuildContext, Provider};
use callvault::providers::http::GuardedClient;
use callvault::providers::registry;
use callvault::providers::settings::CommonSettings;
use callvault::providers::sources::Sources;
use callvault::spool::Spool;
use callvault::spool::journal::Journal;
use callvault::web::settings::Settings;
use callvault::web::{Listeners, WebState, serve};
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "hook-token-of-tests-1";
pub const NEXT_TOKEN: &str = "hook-token-of-tests-2";
/// 2024-04-05T19:50:00.500Z, when the pushes of the vendor's vectors arrive.
pub const NOW_MS: i64 = 1_712_346_600_500;

pub struct WebHouse {
    pub at: SocketAddr,
    pub hooks_at: Option<SocketAddr>,
    pub db: Database,
    pub archive: Arc<DiskArchive>,
    pub clock: Arc<ManualClock>,
    pub dir: tempfile::TempDir,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

/// `desk`: Feiyu without a token. `guarded`: Feiyu with one. `alipush`: Alibaba while its token rotates.
pub fn sources(clock: &Arc<ManualClock>) -> Sources {
    let account = "app_id = \"A1B2C3D4E5F60718293A4B5C6D7E8F90\"\napp_token = \"0F1E2D3C4B5A69788796A5B4C3D2E1F0\"\n";
    let guarded = format!("{account}hook_token = \"{TOKEN}\"\n");
    let alipush = format!(
        "hook_token = [\"{TOKEN}\", \"{NEXT_TOKEN}\"]\naccess_key_id = \"a\"\naccess_key_secret = \"b\"\n\
         push = [\"VoiceReport\", \"VoiceRecordReport\"]\n"
    );
    let build = |name: &str, kind: &str, keys: &str| -> Arc<dyn Provider> {
        let defaults = registry::find(name, kind).unwrap().defaults();
        let (common, own) = CommonSettings::split(name, &defaults, keys.parse().unwrap()).unwrap();
        let context =
            BuildContext::local(Arc::new(GuardedClient::new(clock.clone())), clock.clone());
        registry::build(kind, common, own, &context).unwrap()
    };
    Sources::new([
        build("desk", "feiyu", account),
        build("guarded", "feiyu", &guarded),
        build("alipush", "aliyun", &alipush),
    ])
}

impl WebHouse {
    pub async fn open() -> Self {
        Self::open_with(Settings::default()).await
    }

    pub async fn open_with_token(token: &str) -> Self {
        Self::open_with(Settings {
            api_token: Some(Secret::new(token)),
            ..Settings::default()
        })
        .await
    }

    pub async fn open_with(settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_ms(NOW_MS));
        let database = callvault::db::settings::Settings {
            url: Secret::new("sqlite://callvault.db"),
            ..callvault::db::settings::Settings::default()
        };
        let db = Database::connect(&database, dir.path(), clock.clone())
            .await
            .unwrap();
        let archive = Arc::new(
            DiskArchive::open(&dir.path().join("archive"))
                .await
                .unwrap(),
        );
        let spool_settings = callvault::spool::Settings {
            path: "spool".into(),
            ..callvault::spool::Settings::default()
        };
        let spool = Spool::open(&spool_settings, dir.path()).await.unwrap();
        let journal = Journal::<Notice>::open(&spool.dir().join("journal"))
            .await
            .unwrap();
        let intake = Intake::new(db.clone(), Arc::new(journal), clock.clone());
        let settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..settings
        };
        let listeners = Listeners::bind(&settings, false).await.unwrap();
        let addresses = listeners.addresses();
        let state = WebState::new(
            db.clone(),
            archive.clone(),
            intake,
            sources(&clock),
            clock.clone(),
            spool,
            settings,
        );
        let stop = CancellationToken::new();
        Self {
            at: addresses.main.unwrap(),
            hooks_at: addresses.hooks,
            server: tokio::spawn(serve(listeners, state, stop.clone())),
            db,
            archive,
            clock,
            dir,
            stop,
        }
    }

    /// The actions of the audit trail, the newest first.
    pub async fn audited(&self) -> Vec<String> {
        let trail = self.db.audit_trail(1000).await.unwrap();
        trail
            .into_iter()
            .map(|event| format!("{} {} {}", event.actor, event.action, event.subject))
            .collect()
    }

    /// Stops the server and waits for its end.
    pub async fn stop(self) {
        self.stop.cancel();
        self.server.await.unwrap();
    }
}
