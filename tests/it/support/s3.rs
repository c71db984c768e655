//! An S3 server in this process (s3s-fs: strict about signatures and checksums, no versions, no lock).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use callvault::archive::s3::{Patience, S3Archive};
use callvault::archive::settings::Settings;
use callvault::domain::clock::{Clock as _, SharedClock, SystemClock};
use callvault::domain::digest::Fingerprint;
use callvault::domain::ids::new_id;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

pub struct S3TestServer {
    pub endpoint: String,
    pub access_key: String,
    pub secret: String,
    pub bucket: String,
    /// The server's folder: an object of the bucket is the file `{bucket}/{key}` in it.
    pub dir: Arc<tempfile::TempDir>,
}

/// Starts a server with one empty bucket; it ends with the test's runtime.
pub async fn s3_server() -> S3TestServer {
    let dir = tempfile::tempdir().unwrap();
    let (access_key, secret, bucket) = ("test-key", "test-secret-0123456789", "recordings");
    std::fs::create_dir(dir.path().join(bucket)).unwrap();
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
    service.set_auth(SimpleAuth::from_single(access_key, secret));
    let service = service.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let socket = TokioIo::new(socket);
                // A client that goes away in the middle is no failure of the server.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(socket, service)
                    .await;
            });
        }
    });
    S3TestServer {
        endpoint,
        access_key: access_key.into(),
        secret: secret.into(),
        bucket: bucket.into(),
        dir: Arc::new(dir),
    }
}

impl S3TestServer {
    /// `[archive]` for this server.
    pub fn settings(&self, prefix: &str) -> Settings {
        serde_json::from_value(serde_json::json!({
            "kind": "s3",
            "endpoint": self.endpoint,
            "bucket": self.bucket,
            "prefix": prefix,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret,
        }))
        .unwrap()
    }

    pub async fn archive(&self, prefix: &str) -> S3Archive {
        let clock: SharedClock = Arc::new(SystemClock);
        S3Archive::open_with(&self.settings(prefix), clock, short_patience())
            .await
            .unwrap()
    }

    /// The file behind an object.
    pub fn file_of(&self, prefix: &str, key: &str) -> PathBuf {
        self.dir
            .path()
            .join(&self.bucket)
            .join(format!("{prefix}{key}"))
    }
}

/// Long enough for a busy machine, short enough to wait for in a test.
pub fn short_patience() -> Patience {
    Patience {
        answer: std::time::Duration::from_secs(20),
        first_wait: std::time::Duration::from_millis(10),
        ..Patience::default()
    }
}

/// The store in the environment, under a prefix of this run's own: archives do not delete.
pub fn configured(bucket: &str) -> Option<serde_json::Value> {
    let setting = |name: &str| std::env::var(format!("CALLVAULT_TEST_S3_{name}")).ok();
    Some(serde_json::json!({
        "kind": "s3",
        "endpoint": setting("ENDPOINT")?,
        "bucket": setting(bucket)?,
        "prefix": format!("it-{}/", new_id(SystemClock.now())),
        "access_key_id": setting("ACCESS_KEY").expect("CALLVAULT_TEST_S3_ACCESS_KEY"),
        "secret_access_key": setting("SECRET_KEY").expect("CALLVAULT_TEST_S3_SECRET_KEY"),
    }))
}

pub async fn open_configured(settings: serde_json::Value) -> S3Archive {
    let settings: Settings = serde_json::from_value(settings).unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    S3Archive::open_with(&settings, clock, short_patience())
        .await
        .unwrap()
}

/// 70 MiB that no store can compress away or take for a run of zeros.
pub fn big_file(folder: &Path) -> (PathBuf, Fingerprint) {
    let path = folder.join("big");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let mut hasher = callvault::domain::digest::Hasher::new();
    let mut state = 1_u64;
    for _ in 0..70 {
        let mut piece = Vec::with_capacity(1 << 20);
        while piece.len() < 1 << 20 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            piece.extend_from_slice(&state.to_be_bytes());
        }
        hasher.update(&piece);
        file.write_all(&piece).unwrap();
    }
    file.flush().unwrap();
    (path, hasher.finish())
}
