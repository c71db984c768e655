//! `simulate`: one vendor that verifies what the real one verifies and misbehaves on demand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::domain::clock::SystemClock;
use crate::simulator::{Options, Profile, Vendor, VendorKind};

use super::{Failure, Global, Out, exit};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  callvault simulate feiyu --push-to http://127.0.0.1:8080 --calls 20 --speed 900 --ledger served.ndjson\n  callvault simulate cdr --way nats --broker nats://127.0.0.1:4222 --push-to http://127.0.0.1:8080"
)]
pub struct Simulate {
    /// feiyu, aliyun, yunxin, trtc, vcrtc, twilio, freeswitch, asterisk or cdr
    vendor: String,
    /// Where the vendor's own server listens
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// callvault's address; without it the vendor prints its block and only serves
    #[arg(long, value_name = "URL")]
    push_to: Option<String>,
    /// Calls that can be archived; planned failures come on top
    #[arg(long, default_value_t = 10)]
    calls: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Shortens the vendor's durations: at 900 a 30-minute link dies after 2 s
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// none, fair or storm
    #[arg(long, default_value = "fair")]
    mishaps: String,
    /// Appends what was made and how it must end
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// The source's name in callvault's configuration [default: VENDOR-sim]
    #[arg(long)]
    source: Option<String>,
    /// The other interface of a vendor that has two (feiyu: a CDR per leg; vcrtc: the dedicated cloud with sessions; twilio: shared keys; freeswitch: xml_cdr;
    /// cdr in a folder: recordings without a word about them)
    #[arg(long)]
    v3: bool,
    /// aliyun only: recordings come by message queue
    #[arg(long, conflicts_with = "v3")]
    queue: bool,
    /// aliyun only: number protection, by push and queue
    #[arg(long, conflicts_with_all = ["v3", "queue"])]
    protection: bool,
    /// Telephone systems: how their messages leave: http, amqp, nats or folder (the last two: cdr)
    #[arg(long, default_value = "http")]
    way: String,
    /// Where RabbitMQ or NATS answers, with user and password
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Telephone systems: where recordings are put [default: beside the ledger]
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Milliseconds between two calls
    #[arg(long, default_value_t = 100)]
    every_ms: u64,
}

impl Simulate {
    pub async fn run(self, _global: &Global, out: &Out) -> Result<u8, Failure> {
        let kind: VendorKind = self.vendor.parse().map_err(wrong)?;
        if let Some(target) = &self.push_to
            && !url::Url::parse(target).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        {
            return Err(Failure::usage(
                "usage",
                format!("{target:?} is not an address"),
                "--push-to",
                "write callvault's address, such as http://127.0.0.1:8080",
            ));
        }
        let source = self
            .source
            .clone()
            .unwrap_or_else(|| format!("{}-sim", kind.name()));
        let options = Options {
            listen: self.listen,
            push_to: self.push_to.clone(),
            profile: match (self.v3, self.queue, self.protection) {
                (true, _, _) => Profile::V3,
                (_, true, _) => Profile::Queue,
                (_, _, true) => Profile::Protection,
                _ => Profile::V2,
            },
            way: self.way.parse().map_err(wrong)?,
            broker: self.broker.clone(),
            files: self.files.clone(),
            calls: self.calls,
            seed: self.seed,
            speed: self.speed,
            mishaps: self.mishaps.parse().map_err(wrong)?,
            ledger: self.ledger.clone(),
            call_interval: std::time::Duration::from_millis(self.every_ms),
            ..Options::new(&source)
        };
        let vendor = Vendor::start(kind, options, Arc::new(SystemClock))
            .await
            .map_err(wrong)?;
        let block = vendor.config_block();
        out.item(
            &serde_json::json!({ "source": source, "address": vendor.addr(), "config": block }),
            || format!("# the vendor answers at http://{}\n{block}", vendor.addr()),
        );
        if self.push_to.is_some() {
            tokio::select! {
                made = vendor.make_calls() => made.map_err(wrong)?,
                _ = tokio::signal::ctrl_c() => return Ok(exit::DONE),
            }
            out.item(&summary(&vendor), || {
                let p = vendor.progress();
                format!(
                    "# {} calls made, {} notices taken, {} repeated, {} given up; still serving, Ctrl-C ends",
                    p.calls_made, p.pushes_accepted, p.pushes_repeated, p.pushes_given_up
                )
            });
        }
        wait_for_end().await;
        vendor.stop().await;
        Ok(exit::DONE)
    }
}

fn summary(vendor: &Vendor) -> serde_json::Value {
    let p = vendor.progress();
    serde_json::json!({
        "source": vendor.source(),
        "calls_made": p.calls_made,
        "notices": { "accepted": p.pushes_accepted, "repeated": p.pushes_repeated, "given_up": p.pushes_given_up },
    })
}

async fn wait_for_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn wrong(error: crate::simulator::Error) -> Failure {
    let cause =
        std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
    Failure::usage(
        "simulate",
        format!("{error}{cause}"),
        "callvault simulate",
        "see callvault simulate --help",
    )
}
