//! `/healthz`, `/readyz` and `/metrics`: alive, able to work, and in numbers.
//!
//! What a newcomer gets wrong: the first two are open to everyone who reaches the port. They say which
//! part is away and nothing else, and asking often costs the parts nothing.

use std::future::Future;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use rustix::fs::Access;
use serde::Serialize;
use tokio::time::Instant;

use super::metrics::Page;
use super::reads;
use super::state::WebState;
use crate::domain::keys::ObjectKey;

/// A part that answers later is as good as away.
const PART_WITHIN: Duration = Duration::from_secs(2);
/// An answer serves all who ask within this time.
const FRESH_FOR: Duration = Duration::from_secs(2);

/// The process runs and its loop turns.
pub async fn alive() -> Response {
    ([(CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

/// Which parts this process can work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parts {
    pub ready: bool,
    pub database: Part,
    pub storage: Part,
    pub spool: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Ok,
    Away,
}

impl Part {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Away => "away",
        }
    }
}

/// What was found last, and when.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Option<(Instant, Parts)>>);

impl Readiness {
    fn fresh(&self) -> Option<Parts> {
        let last = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        last.filter(|(at, _)| at.elapsed() < FRESH_FOR)
            .map(|(_, parts)| parts)
    }

    fn keep(&self, parts: Parts) {
        let mut last = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = Some((Instant::now(), parts));
    }
}

pub async fn ready(State(state): State<WebState>) -> Response {
    let parts = parts(&state).await;
    let mut response = Json(parts).into_response();
    if !parts.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
            .headers_mut()
            .insert(RETRY_AFTER, http::HeaderValue::from_static("5"));
    }
    response
}

/// What was found within the last two seconds.
pub async fn parts(state: &WebState) -> Parts {
    if let Some(parts) = state.readiness.fresh() {
        return parts;
    }
    let (database, storage, spool) = tokio::join!(
        part("database", async {
            let asked = async {
                state.db.ping().await?;
                state.db.takes_writes().await
            };
            asked.await.map_err(|error| error.to_string())?;
            // Only what is written next would show that nothing fits any more.
            match state.db.file().and_then(Path::parent) {
                Some(folder) => takes_files(folder).await,
                None => Ok(()),
            }
        }),
        part("storage", async {
            let asked = state.archive.head(&ObjectKey::marker()).await;
            asked.map_err(|error| error.to_string())?;
            match state.archive.folder() {
                Some(folder) => takes_files(folder).await,
                None => Ok(()),
            }
        }),
        part("spool", takes_files(state.spool.dir())),
    );
    let ready = [database, storage, spool] == [Part::Ok; 3];
    let parts = Parts {
        ready,
        database,
        storage,
        spool,
    };
    state.readiness.keep(parts);
    parts
}

async fn part(name: &str, asked: impl Future<Output = Result<(), String>>) -> Part {
    let error = match tokio::time::timeout(PART_WITHIN, asked).await {
        Ok(Ok(())) => return Part::Ok,
        Ok(Err(error)) => error,
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(part = name, error, "not ready");
    Part::Away
}

/// Less than this is full: what is written next does not fit any more.
const LEAST_FREE_BYTES: u64 = 64 << 10;

/// The folder is there, may be written to, and its disk has room.
async fn takes_files(dir: &Path) -> Result<(), String> {
    let dir = dir.to_owned();
    let looked = tokio::task::spawn_blocking(move || {
        rustix::fs::access(&dir, Access::WRITE_OK | Access::EXEC_OK)?;
        let disk = rustix::fs::statvfs(&dir)?;
        Ok::<_, rustix::io::Errno>(disk.f_bavail.saturating_mul(disk.f_frsize))
    });
    match looked.await {
        Ok(Ok(free)) if free < LEAST_FREE_BYTES => Err("the disk is full".to_owned()),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// For Prometheus. A database that is away costs its own numbers only, and shows as a part that is down.
pub async fn metrics(State(state): State<WebState>) -> Response {
    let mut page = Page::default();
    let parts = parts(&state).await;
    page.family(
        "callvault_part_up",
        "gauge",
        "1 while the part can be worked with.",
    );
    for (name, part) in [
        ("database", parts.database),
        ("storage", parts.storage),
        ("spool", parts.spool),
    ] {
        page.sample(&[("part", name)], f64::from(u8::from(part == Part::Ok)));
    }
    page.family("callvault_info", "gauge", "The version that runs.");
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    if let Ok(usage) = state.spool.usage().await {
        page.family("callvault_spool_used_bytes", "gauge", "Bytes in the spool.");
        page.sample(&[], usage.used_bytes as f64);
        page.family(
            "callvault_spool_limit_bytes",
            "gauge",
            "Bytes the spool may hold.",
        );
        page.sample(&[], usage.limit_bytes as f64);
    }
    if let Ok(numbers) = reads::numbers(&state).await {
        numbers.write(&mut page);
    }
    state.metrics.write(&mut page);
    ([(CONTENT_TYPE, Page::CONTENT_TYPE)], page.finish()).into_response()
}
