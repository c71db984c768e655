//! An S3 server for tests and for trying things out, as a process of its own (s3s-fs; never for real data).
//!
//! ```text
//! cargo run --example s3_server -- --listen 127.0.0.1:9000 --data /tmp/store --bucket recordings
//! ```
//!
//! Serves the folders of a directory as buckets and prints its address once it listens. Strict about
//! signatures; checks checksums, but only after the object is in place; knows no versions and no lock.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

#[derive(Debug, Parser)]
struct Options {
    /// Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Made when it is missing; each folder in it is a bucket.
    #[arg(long)]
    data: PathBuf,
    /// Buckets to make when they are missing.
    #[arg(long)]
    bucket: Vec<String>,
    #[arg(long, default_value = "test-key")]
    access_key: String,
    #[arg(long, default_value = "test-secret-0123456789")]
    secret_key: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let data = &options.data;
    std::fs::create_dir_all(data)?;
    for bucket in &options.bucket {
        std::fs::create_dir_all(data.join(bucket))?;
    }
    let files = s3s_fs::FileSystem::new(data)
        .map_err(|e| anyhow::anyhow!("cannot serve {}: {e:?}", data.display()))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(
        options.access_key,
        options.secret_key,
    ));
    let service = service.build();
    let listener = tokio::net::TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    println!("http://{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
            if let Err(error) = served {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}
