//! `serve`, `web` and `worker`: run until SIGTERM or Ctrl-C.

use std::io::IsTerminal as _;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::app::{self, House, Parts, Running, StartOptions};
use crate::config::Config;
use crate::domain::clock::SystemClock;

use super::{Failure, Global, exit};

pub async fn run(global: &Global, parts: Parts) -> Result<u8, Failure> {
    let config = load(global)?;
    start_log(&config, global.verbose);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if config.sources.is_empty() {
        tracing::warn!(
            "no source is configured: nothing will be archived. Add a [sources.NAME] block, see deploy/callvault.example.toml"
        );
    }
    let house = House::open_or_wait(config, Arc::new(SystemClock)).await?;
    let running = app::start(house, parts, StartOptions::default()).await?;
    for address in running.addresses.lines() {
        tracing::info!("{address}");
    }
    let mut hangup = stream(SignalKind::hangup())?;
    let mut terminate = stream(SignalKind::terminate())?;
    let mut code = exit::DONE;
    loop {
        tokio::select! {
            () = running.failed() => {
                code = exit::FAILED;
                break;
            }
            _ = hangup.recv() => reload(global, &running),
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    tracing::info!("stopping");
    // A second signal ends at once: every step is safe to be cut short.
    tokio::select! {
        () = running.stop() => {}
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(code)
}

fn stream(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| {
        Failure::failed(
            "signal",
            "cannot listen for signals",
            "this machine",
            error.to_string(),
        )
    })
}

/// Secrets, tokens, hosts and sources are read again; a bad file keeps what is in force.
fn reload(global: &Global, running: &Running) {
    let again = Config::load(global.config.as_deref())
        .map_err(|error| error.to_string())
        .and_then(|config| running.reload(&config).map_err(|error| error.to_string()));
    match again {
        Ok(()) => {
            tracing::info!(sources = ?running.house.sources.names(), "configuration read again");
        }
        Err(error) => tracing::error!(error, "configuration not taken, the old one stays in force"),
    }
}

pub fn load(global: &Global) -> Result<Config, Failure> {
    Config::load(global.config.as_deref())
        .map_err(|error| Failure::usage("configuration", error.what, error.place, error.remedy))
}

/// The log goes to stderr; stdout belongs to answers.
pub fn start_log(config: &Config, verbose: u8) {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let level = match verbose {
        0 => config.log.level.clone(),
        1 => "info,callvault=debug".to_owned(),
        _ => "debug,callvault=trace".to_owned(),
    };
    // The ticker tells of every step it takes.
    let level = format!("tokio_cron_scheduler=warn,{level}");
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(&level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first log.
    let _ = if config.log.is_json() {
        builder.json().flatten_event(true).finish().try_init()
    } else {
        builder.finish().try_init()
    };
}
