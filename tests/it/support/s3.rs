//! An S3 server in this process (s3s-fs: strict about signatures and checksums, no versions, no lock).

use std::path::PathBuf;
use std::sync::Arc;

use callvault::archive::s3::{Patience, S3Archive};
use callvault::archive::settings::Settings;
use callvault::domain::clock::{SharedClock, SystemClock};
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
