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

/// The store in the environment, under a prefix of this run's own: archives do not delete. A bucket with object lock
/// may be Ceph's (`scripts/ceph_rgw.sh`).
pub fn configured(bucket: &str) -> Option<serde_json::Value> {
    let other = || (bucket == "LOCK_BUCKET").then(|| ceph(bucket)).flatten();
    in_environment("S3", bucket).or_else(other)
}

/// The Ceph store that `scripts/ceph_rgw.sh` started; with `CALLVAULT_REQUIRE_SERVERS=1` its absence is a failure.
pub fn ceph(bucket: &str) -> Option<serde_json::Value> {
    let found = in_environment("CEPH", bucket);
    if found.is_none() {
        let required = std::env::var("CALLVAULT_REQUIRE_SERVERS").is_ok_and(|v| v == "1");
        assert!(!required, "CALLVAULT_TEST_CEPH_ENDPOINT is not set");
        eprintln!("skipped: the Ceph store in CALLVAULT_TEST_CEPH_ENDPOINT (not set)");
    }
    found
}

fn in_environment(store: &str, bucket: &str) -> Option<serde_json::Value> {
    let setting = |name: &str| std::env::var(format!("CALLVAULT_TEST_{store}_{name}")).ok();
    Some(serde_json::json!({
        "kind": "s3",
        "endpoint": setting("ENDPOINT")?,
        "bucket": setting(bucket)?,
        "prefix": format!("it-{}/", new_id(SystemClock.now())),
        "access_key_id": setting("ACCESS_KEY")?,
        "secret_access_key": setting("SECRET_KEY")?,
    }))
}

/// A client that may do to the bucket what the archive never does.
pub fn raw_client(settings: &serde_json::Value) -> aws_sdk_s3::Client {
    use aws_sdk_s3::config::{Credentials, Region};
    let text = |name: &str| settings[name].as_str().unwrap().to_owned();
    let (id, secret) = (text("access_key_id"), text("secret_access_key"));
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version_latest()
        .region(Region::new("us-east-1"))
        .endpoint_url(text("endpoint"))
        .force_path_style(true)
        .http_client(http)
        .request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenRequired)
        .credentials_provider(Credentials::new(id, secret, None, None, "tests"))
        .build();
    aws_sdk_s3::Client::from_conf(config)
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
