//! The service as it runs for months: reloaded, with parts that panic, with notices that nobody takes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callvault::domain::clock::{Clock, SystemClock};
use callvault::domain::digest::Sha256;
use callvault::domain::ids::new_id;
use callvault::domain::notice::{Door, Notice};
use callvault::pipeline::intake::Intake;
use callvault::spool::Spool;
use callvault::spool::journal::Journal;
use callvault::worker::{crew, schedule};
use sea_orm::ConnectionTrait as _;
use tokio_util::sync::CancellationToken;

use crate::support::house::program;
use crate::support::http::get_with;
use crate::support::web::WebHouse;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the test, however that ends.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until<T>(mut what: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = what().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "did not happen in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn write_config(dir: &Path, token: &str) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\napi_token = \"{token}\"\n[database]\nurl = \"sqlite://callvault.db\"\n\
         [archive]\nkind = \"directory\"\npath = \"archive\"\n[spool]\npath = \"spool\"\n"
    );
    std::fs::write(dir.join("callvault.toml"), text).unwrap();
}

#[tokio::test]
async fn sighup_takes_a_new_api_token_and_refuses_a_bad_file() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = ("first-token-of-tests", "second-token-of-tests");
    write_config(dir.path(), first);
    let log = dir.path().join("serve.log");
    let child = Command::new(program())
        .arg("--config")
        .arg(dir.path().join("callvault.toml"))
        .arg("serve")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let served = Served(child);
    let hang_up = || {
        let pid = rustix::process::Pid::from_child(&served.0);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    };
    let said = || std::fs::read_to_string(&log).unwrap();
    let at = until(async || {
        let text = said();
        let (_, rest) = text.split_once("pages and API at http://")?;
        rest.split_once('/')?.0.parse().ok()
    })
    .await;
    let status = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        get_with(at, "/api/v1/status", &headers)
            .await
            .status
            .as_u16()
    };
    assert_eq!((status(first).await, status(second).await), (200, 403));

    write_config(dir.path(), second);
    hang_up();
    until(async || said().contains("configuration read again").then_some(())).await;
    assert_eq!((status(first).await, status(second).await), (403, 200));

    // Too short a token: the whole file is refused, and that is said.
    write_config(dir.path(), "short");
    hang_up();
    until(async || said().contains("configuration not taken").then_some(())).await;
    assert_eq!((status("short").await, status(second).await), (403, 200));
    assert!(!said().contains("token-of-tests"), "{}", said());
}
