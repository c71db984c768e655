//! A telephone system of the tests' own: it pushes `cdr/1` messages and serves the recordings that they name.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use futures::StreamExt as _;
use serde_json::json;

use super::house::program;
use super::http::{Answer, post};

pub const TOKEN: &str = "hook-token-of-the-pbx";
pub const WAV: &[u8] = include_bytes!("../../fixtures/audio/pcm-s16-8k-mono.wav");
/// For what comes by itself, on a machine that does other things besides.
pub const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Clone)]
pub struct Pbx {
    pub at: SocketAddr,
    /// Paths in the order in which they were asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
    released: Arc<tokio::sync::Notify>,
}

#[derive(Clone, Default)]
struct Shelf {
    asked: Arc<Mutex<Vec<String>>>,
    released: Arc<tokio::sync::Notify>,
}

/// Every path is a recording. Below `/held/` the first who asks gets one half, and the other after `release`.
async fn served(State(shelf): State<Shelf>, uri: axum::http::Uri) -> Body {
    let is_first = {
        let mut asked = shelf.asked.lock().unwrap();
        asked.push(uri.path().to_owned());
        asked.iter().filter(|one| *one == uri.path()).count() == 1
    };
    if !is_first || !uri.path().starts_with("/held/") {
        return Body::from(WAV);
    }
    let half = |bytes: &'static [u8]| Ok::<_, std::io::Error>(bytes);
    let (first, second) = WAV.split_at(WAV.len() / 2);
    let rest = futures::stream::once(async move {
        shelf.released.notified().await;
        half(second)
    });
    Body::from_stream(futures::stream::iter([half(first)]).chain(rest))
}

impl Pbx {
    pub async fn open() -> Self {
        let shelf = Shelf::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let app = Router::new().fallback(served).with_state(shelf.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let Shelf { asked, released } = shelf;
        Self {
            at,
            asked,
            released,
        }
    }

    /// What is held comes now.
    pub fn release(&self) {
        self.released.notify_waiters();
    }

    /// The source `pbx` of a configuration.
    pub fn block(&self) -> String {
        format!(
            "[sources.pbx]\nkind = \"cdr\"\nhook_token = \"{TOKEN}\"\nallow_hosts = [\"{}\"]\n\
             http_links = \"allow\"\nallow_private_addresses = true\n",
            self.at
        )
    }

    /// A call that has ended, with a recording at `path` (`None`: without).
    pub fn message(&self, call: &str, path: Option<&str>) -> String {
        let recordings: Vec<_> = path
            .map(|path| {
                json!({ "id": format!("{call}-1"), "state": "ready",
                        "locator": { "type": "url", "url": format!("http://{}{path}", self.at) } })
            })
            .into_iter()
            .collect();
        json!({
            "spec": "cdr/1", "event_id": format!("e-{call}"), "event_type": "call.ended",
            "occurred_at": "2026-04-05T20:31:50+08:00",
            "source": { "provider": "freeswitch", "account": "pbx" },
            "call": { "id": call, "caller": { "number": "+8613900000001" } },
            "recordings": recordings,
        })
        .to_string()
    }

    pub async fn push(&self, to: SocketAddr, call: &str, path: Option<&str>) -> Answer {
        let target = format!("/hooks/pbx/{TOKEN}");
        post(to, &target, self.message(call, path)).await
    }

    pub fn was_asked(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|one| *one == path).count()
    }
}

/// The program as a process of its own; killed with the test, however that ends.
pub struct Process {
    pub child: Child,
    pub log: std::path::PathBuf,
}

impl Process {
    /// `parts` is `serve`, `web` or `worker`; `config` is written beside the log.
    pub fn start(dir: &Path, name: &str, parts: &str, config: &str) -> Self {
        Self::start_with(dir, name, &[parts], config, &[])
    }

    pub fn start_with(
        dir: &Path,
        name: &str,
        parts: &[&str],
        config: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let file = dir.join(format!("{name}.toml"));
        std::fs::write(&file, config).unwrap();
        let log = dir.join(format!("{name}.log"));
        let to = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = Command::new(program())
            .arg("--config")
            .arg(file)
            .args(parts)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(to)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Where its pages are, once it says so.
    pub async fn address(&mut self) -> SocketAddr {
        let began = Instant::now();
        loop {
            if let Some((_, rest)) = self.said().rsplit_once("pages and API at http://") {
                return rest.split('/').next().unwrap().parse().unwrap();
            }
            assert!(self.child.try_wait().unwrap().is_none(), "{}", self.said());
            assert!(began.elapsed() < PATIENCE, "no address: {}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end by itself; `None` when it does not end.
    pub async fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until it is so.
pub async fn until<T>(what: &str, mut so: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = so().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "did not come to this: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
