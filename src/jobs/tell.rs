//! Tells of alarms by a command or to an address, each reason at most once an hour, whoever runs.
//!
//! What is told is one JSON object: no secret, no address, no phone number.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use crate::db::{Database, DbError};
use crate::domain::clock::Timestamp;
use crate::domain::secret::Secret;
use crate::domain::view::Alarm;
use crate::providers::http::{ApiRequest, GuardedClient};
use crate::providers::settings::BaseUrl;

/// Of one reason, whatever the source.
const EVERY_MS: i64 = 3600 * 1000;
/// After a message that could not be given.
const AGAIN_MS: i64 = 5 * 60 * 1000;
const WITHIN: Duration = Duration::from_secs(30);

/// `[alarms]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Program and arguments; the message comes on its standard input.
    pub command: Vec<String>,
    /// Gets the message by POST. A secret, because such addresses often hold a token.
    pub url: Option<Secret>,
}

impl Settings {
    pub fn is_used(&self) -> bool {
        !self.command.is_empty() || self.url.is_some()
    }

    /// What is wrong, if anything: the key and why.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if self.command.first().is_some_and(String::is_empty) {
            return Some(("command", "names no program".to_owned()));
        }
        let url = self.url.as_ref()?;
        address(url.expose()).err().map(|why| ("url", why))
    }
}

/// The address without its query, and the query.
fn address(url: &str) -> Result<(BaseUrl, String), String> {
    let at = url.find('?').unwrap_or(url.len());
    let (base, query) = url.split_at(at);
    Ok((BaseUrl::parse(base)?, query.to_owned()))
}

/// One message: a reason, with every source that it concerns.
#[derive(Clone, Debug, Serialize)]
pub struct Message<'a> {
    pub schema: &'static str,
    pub at: Timestamp,
    pub code: &'a str,
    pub count: u64,
    pub alarms: Vec<&'a Alarm>,
}

/// How the messages went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub told: u32,
    pub failed: u32,
}

/// Tells of each reason that nobody told of for an hour.
pub async fn tell(
    settings: &Settings,
    db: &Database,
    client: &GuardedClient,
    alarms: &[Alarm],
    now: Timestamp,
) -> Result<Told, DbError> {
    let mut told = Told::default();
    let mut reasons: BTreeMap<&str, Vec<&Alarm>> = BTreeMap::new();
    for alarm in alarms {
        reasons.entry(&alarm.code).or_default().push(alarm);
    }
    for (code, alarms) in reasons {
        // Taken before it is told: two processes never tell the same. When this one dies between, the
        // reason is told an hour later, if it still holds.
        if !db.claim_telling(code, now.plus_ms(-EVERY_MS), now).await? {
            continue;
        }
        let message = Message {
            schema: "callvault.alarm/1",
            at: now,
            code,
            count: alarms.iter().map(|alarm| alarm.count).sum(),
            alarms,
        };
        match give(settings, client, &message).await {
            Ok(()) => told.told += 1,
            Err(why) => {
                tracing::warn!(code, why, "alarm not told, again in five minutes");
                told.failed += 1;
                db.telling_failed(code, now.plus_ms(AGAIN_MS - EVERY_MS))
                    .await?;
            }
        }
    }
    Ok(told)
}

async fn give(
    settings: &Settings,
    client: &GuardedClient,
    message: &Message<'_>,
) -> Result<(), String> {
    let body = serde_json::to_string(message).map_err(|error| error.to_string())?;
    // Both are tried, and the reason comes again when one of them failed.
    let mut outcome = Ok(());
    if !settings.command.is_empty() {
        outcome = run(&settings.command, &body).await;
    }
    if let Some(url) = &settings.url {
        outcome = post(client, url.expose(), body).await.and(outcome);
    }
    outcome
}

async fn run(command: &[String], body: &str) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(());
    };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {program:?}: {error}"))?;
    let input = child.stdin.take();
    let ended = tokio::time::timeout(WITHIN, async {
        if let Some(mut input) = input {
            // A program that does not read its input may have all it needs.
            let _ = input.write_all(body.as_bytes()).await;
            let _ = input.write_all(b"\n").await;
        }
        child.wait().await
    })
    .await
    .map_err(|_| format!("{program:?} did not end within {} s", WITHIN.as_secs()))?
    .map_err(|error| format!("{program:?}: {error}"))?;
    if ended.success() {
        Ok(())
    } else {
        Err(format!("{program:?} ended with {ended}"))
    }
}

async fn post(client: &GuardedClient, url: &str, body: String) -> Result<(), String> {
    let (base, query) = address(url)?;
    let request = ApiRequest {
        timeout: WITHIN,
        ..ApiRequest::new(http::Method::POST, query)
            .header("content-type", "application/json")
            .body(body)
    };
    let answer = client
        .call(&base, request)
        .await
        .map_err(|error| error.to_string())?;
    match answer.status {
        200..300 => Ok(()),
        status => Err(format!("the address answered {status}")),
    }
}
