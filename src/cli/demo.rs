//! `demo`: simulated vendors and the whole service on embedded defaults; with `--once`, a test that
//! says at the end what happened and whether it was what had to happen.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::app::{self, House, Parts, Running, StartOptions};
use crate::config::Config;
use crate::db::Database;
use crate::db::accounts::NewAccount;
use crate::domain::clock::{SharedClock, SystemClock};
use crate::domain::rights::{Role, Scope};
use crate::simulator::{LedgerLine, Mishaps, Options, Profile, Vendor, VendorKind, Way};

use super::account::one_time_link;
use super::{Failure, Global, Out, exit, find};

/// The first line of a demo's configuration: how a folder is known to be a demo's.
const MARK: &str =
    "# A callvault demo lives in this folder; its configuration is written anew at each run.";
const BANNER: (&str, &str) = (
    "This is a demo: the vendors are simulated, the voices are synthesised.",
    "这是演示：厂商为模拟，语音为合成。",
);
/// A 30-minute link dies after 4 s, a file is ready 2 s after its call.
const SPEED: f64 = 450.0;
/// Without any progress for this long, what is missing is reported as missing.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  callvault demo\n  callvault demo --once --calls 40\n  callvault --config callvault-demo/callvault.toml search"
)]
pub struct Demo {
    /// Where the pages are served; a free port is taken when this one is not free
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Holds everything that the demo makes; a second run goes on there
    #[arg(long, value_name = "DIR", default_value = "callvault-demo")]
    data: PathBuf,
    /// Calls that can be archived; planned failures come on top
    #[arg(long, default_value_t = 20)]
    calls: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ends by itself and reports; exit 0 only when every expectation held
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        if let Some(config) = &global.config {
            return Err(Failure::usage(
                "usage",
                "the demo writes its own configuration",
                config.display().to_string(),
                "leave --config out; choose the demo's folder with --data",
            ));
        }
        prepare(&self.data)?;
        let clock: SharedClock = Arc::new(SystemClock);
        let vendors = self.vendors(&clock).await?;
        let running = self.start(&vendors, clock, global).await?;
        let address = running.addresses.page().unwrap_or_default();
        out.say(&format!(
            "callvault demo: {address}  (data in {})",
            self.data.display()
        ));
        if !self.once {
            let link = sign_in_link(&running.house, &address).await?;
            out.say(&format!(
                "Sign in (once, within a quarter of an hour): {link}"
            ));
        }
        for vendor in &vendors {
            vendor.set_push_to(address.clone());
        }
        let judged = tokio::select! {
            code = self.play(&vendors, &running, out, &address) => Some(code?),
            _ = tokio::signal::ctrl_c() => None,
        };
        let stopped = judged.is_none();
        if stopped {
            out.say("Stopped before the calls were judged; the next run in this folder goes on.");
        }
        // What was not judged did not hold.
        let code = judged.unwrap_or(if self.once { exit::FAILED } else { exit::DONE });
        if !self.once && !stopped {
            out.say("Serving until Ctrl-C.");
            // An error here means no signals on this machine: then end at once.
            let _ = tokio::signal::ctrl_c().await;
        }
        running.stop().await;
        for vendor in &vendors {
            vendor.stop().await;
        }
        Ok(code)
    }

    /// One vendor of every kind and interface that needs no server; the calls are shared out among them.
    async fn vendors(&self, clock: &SharedClock) -> Result<Vec<Vendor>, Failure> {
        let by_http = |(source, kind, profile)| (source, kind, profile, Way::Http);
        let plan = [
            ("feiyu-demo", VendorKind::Feiyu, Profile::V2),
            ("feiyu-v3-demo", VendorKind::Feiyu, Profile::V3),
            ("aliyun-demo", VendorKind::Aliyun, Profile::V2),
            ("vcrtc-demo", VendorKind::Vcrtc, Profile::V2),
            ("yunxin-demo", VendorKind::Yunxin, Profile::V2),
            ("twilio-demo", VendorKind::Twilio, Profile::V2),
            ("aliyun-queue-demo", VendorKind::Aliyun, Profile::Queue),
            ("aliyun-pnp-demo", VendorKind::Aliyun, Profile::Protection),
            ("trtc-demo", VendorKind::Trtc, Profile::V2),
            ("freeswitch-demo", VendorKind::Freeswitch, Profile::V2),
            ("freeswitch-xml-demo", VendorKind::Freeswitch, Profile::V3),
            ("asterisk-demo", VendorKind::Asterisk, Profile::V2),
            ("cdr-demo", VendorKind::Cdr, Profile::V2),
        ]
        .map(by_http);
        // Brokers need a server, and folders none.
        let plan: Vec<_> = plan
            .into_iter()
            .chain([("folder-demo", VendorKind::Cdr, Profile::V2, Way::Folder)])
            .collect();
        let sources = plan.len();
        let mut vendors = Vec::new();
        let mut left = self.calls;
        for (i, (source, kind, profile, way)) in plan.into_iter().enumerate() {
            let share = left / (sources - i) as u32;
            left -= share;
            let options = Options {
                profile,
                way,
                calls: share,
                seed: self.seed,
                speed: SPEED,
                mishaps: Mishaps::Fair,
                ledger: Some(self.data.join("served.ndjson")),
                call_interval: Duration::from_millis(150),
                ..Options::new(source)
            };
            let vendor = Vendor::start(kind, options, clock.clone())
                .await
                .map_err(|error| simulator(&error))?;
            vendors.push(vendor);
        }
        Ok(vendors)
    }

    async fn start(
        &self,
        vendors: &[Vendor],
        clock: SharedClock,
        global: &Global,
    ) -> Result<Running, Failure> {
        let mut listen = self.listen;
        if std::net::TcpListener::bind(listen).is_err() {
            listen.set_port(0);
        }
        if listen.port() == 0 {
            // A free one, known before the file is written: other commands print addresses from it.
            listen = std::net::TcpListener::bind(listen)
                .and_then(|free| free.local_addr())
                .map_err(|error| cannot_write(&self.data, &error))?;
        }
        let mut text = format!(
            "{MARK}\n\n[server]\nlisten = \"{}\"\n\n[database]\nurl = \"sqlite://callvault.db\"\n\n[archive]\nkind = \"directory\"\npath = \"archive\"\n\n[spool]\npath = \"spool\"\n",
            listen
        );
        for vendor in vendors {
            text.push('\n');
            text.push_str(&vendor.config_block());
        }
        let file = self.data.join("callvault.toml");
        std::fs::write(&file, text)
            // It holds tokens, if only of simulated vendors: `check` would rightly complain.
            .and_then(|()| std::fs::set_permissions(&file, Permissions::from_mode(0o600)))
            .map_err(|error| cannot_write(&file, &error))?;
        let mut config = Config::load(Some(&file)).map_err(|error| {
            Failure::failed("configuration", error.what, error.place, error.remedy)
        })?;
        if global.verbose == 0 {
            // The mishaps are the demo's own: its log would hide its report.
            config.log.level = "off".to_owned();
        }
        super::run::start_log(&config, global.verbose);
        let house = House::open(config, clock).await?;
        let options = StartOptions {
            banner: Some(BANNER),
            any_port: true,
            ..StartOptions::default()
        };
        Ok(app::start(house, Parts::ALL, options).await?)
    }

    async fn play(
        &self,
        vendors: &[Vendor],
        running: &Running,
        out: &Out,
        address: &str,
    ) -> Result<u8, Failure> {
        let begun = Instant::now();
        let progress = Progress::new(out);
        let making = futures::future::try_join_all(vendors.iter().map(Vendor::make_calls));
        let db = &running.house.db;
        let watching = async {
            loop {
                progress.show(vendors, db).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            made = making => { made.map_err(|error| simulator(&error))?; }
            never = watching => never,
        }
        let lines: Vec<LedgerLine> = vendors.iter().flat_map(Vendor::ledger).collect();
        let report = settle(db, &lines, vendors, &progress, address, begun).await?;
        progress.finish();
        out.item(&report, || report.text());
        Ok(if report.ok { exit::DONE } else { exit::FAILED })
    }
}

/// Waits until every line of the ledger is as it must be, or nothing moves any more.
async fn settle(
    db: &Database,
    lines: &[LedgerLine],
    vendors: &[Vendor],
    progress: &Progress,
    address: &str,
    begun: Instant,
) -> Result<Report, Failure> {
    let mut last_change = Instant::now();
    let mut open_before = usize::MAX;
    loop {
        let mut open = Vec::new();
        for line in lines {
            if let Some(why) = still_open(db, line).await? {
                open.push(Disagreement {
                    source: line.source.clone(),
                    provider_call_id: line.provider_call_id.clone(),
                    expect: line.expect.clone(),
                    mishaps: line.mishaps.clone(),
                    found: why,
                });
            }
        }
        // "None" must stay none: it can only be judged when everything else has settled.
        let idle = db.all_notices_read().await? && db.open_work().await?.is_empty();
        if open.len() != open_before {
            open_before = open.len();
            last_change = Instant::now();
        }
        if (open.is_empty() && idle) || last_change.elapsed() > PATIENCE {
            return Ok(Report::new(lines, open, vendors, address, begun));
        }
        progress.show(vendors, db).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// What keeps a line from being as it must be; `None` when it is.
async fn still_open(db: &Database, line: &LedgerLine) -> Result<Option<String>, Failure> {
    let found = db
        .recordings_of_call(&line.source, &line.provider_call_id)
        .await?;
    // Two legs may share a call: the recording of this line is told by its hash, where it has one.
    let mine: Vec<_> = match &line.sha256 {
        Some(sha256) => found
            .iter()
            .filter(|r| {
                r.original
                    .as_ref()
                    .is_some_and(|o| o.sha256.to_string() == *sha256)
            })
            .collect(),
        None => found.iter().filter(|r| r.recording_id.is_some()).collect(),
    };
    Ok(match line.expect.as_str() {
        "archived" => match mine.as_slice() {
            [one] if one.state != "archived" => Some(one.state.clone()),
            [one] if one.access.is_none() && !one.access_is_explained() => {
                Some("archived, access copy not made yet".to_owned())
            }
            [_] => None,
            [] => Some(found.first().map_or("nothing".to_owned(), |r| {
                format!(
                    "{} ({})",
                    r.state,
                    r.reason.as_deref().unwrap_or("no reason")
                )
            })),
            more => Some(format!("{} recordings with these bytes", more.len())),
        },
        "none" => found
            .iter()
            .find(|r| r.recording_id.is_some())
            .map(|r| r.state.clone()),
        expected => match mine.as_slice() {
            [one] if one.state == expected => None,
            [one] => Some(format!(
                "{} ({})",
                one.state,
                one.reason.as_deref().unwrap_or("no reason")
            )),
            [] => Some("nothing".to_owned()),
            more => Some(format!("{} recordings", more.len())),
        },
    })
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    address: String,
    took_ms: u64,
    /// Lines of the ledger by what had to become of them.
    expected: BTreeMap<String, usize>,
    mishaps: BTreeMap<String, usize>,
    notices: Notices,
    disagreements: Vec<Disagreement>,
}

#[derive(Debug, Default, Serialize)]
struct Notices {
    taken: u64,
    sent_again: u64,
    never_taken: u64,
}

#[derive(Debug, Serialize)]
struct Disagreement {
    source: String,
    provider_call_id: String,
    expect: String,
    found: String,
    mishaps: Vec<String>,
}

impl Report {
    fn new(
        lines: &[LedgerLine],
        disagreements: Vec<Disagreement>,
        vendors: &[Vendor],
        address: &str,
        begun: Instant,
    ) -> Self {
        let mut expected = BTreeMap::new();
        let mut mishaps = BTreeMap::new();
        for line in lines {
            *expected.entry(line.expect.clone()).or_default() += 1;
            for mishap in &line.mishaps {
                *mishaps.entry(mishap.clone()).or_default() += 1;
            }
        }
        let mut notices = Notices::default();
        for progress in vendors.iter().map(Vendor::progress) {
            notices.taken += progress.pushes_accepted;
            notices.sent_again += progress.pushes_repeated;
            notices.never_taken += progress.pushes_given_up;
        }
        Self {
            ok: disagreements.is_empty(),
            address: address.to_owned(),
            took_ms: begun.elapsed().as_millis() as u64,
            expected,
            mishaps,
            notices,
            disagreements,
        }
    }

    fn text(&self) -> String {
        let list = |map: &BTreeMap<String, usize>| {
            let parts: Vec<String> = map.iter().map(|(k, n)| format!("{n} {k}")).collect();
            parts.join(", ")
        };
        let mut text = format!(
            "\nWhat the vendors made: {}\nWhat went wrong on the way, on purpose: {}\nNotices: {} taken, {} sent again\n",
            list(&self.expected),
            if self.mishaps.is_empty() {
                "nothing".to_owned()
            } else {
                list(&self.mishaps)
            },
            self.notices.taken,
            self.notices.sent_again,
        );
        for d in &self.disagreements {
            text += &format!(
                "DISAGREES: {} {} had to be {}, found {} (mishaps: {})\n",
                d.source,
                d.provider_call_id,
                d.expect,
                d.found,
                d.mishaps.join("+")
            );
        }
        text += &format!(
            "{} in {:.1} s. Hear them at {}",
            if self.ok {
                "Every expectation held"
            } else {
                "NOT every expectation held"
            },
            self.took_ms as f64 / 1000.0,
            self.address
        );
        text
    }
}

/// A bar on a terminal, a line every few seconds elsewhere, nothing in JSON mode.
struct Progress {
    bar: Option<ProgressBar>,
    plain: bool,
    last: std::sync::Mutex<(Instant, String)>,
}

impl Progress {
    fn new(out: &Out) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (!out.json && terminal).then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} archived  {msg}")
            {
                bar.set_style(style);
            }
            bar
        });
        Self {
            plain: !out.json && bar.is_none(),
            bar,
            last: std::sync::Mutex::new((Instant::now(), String::new())),
        }
    }

    async fn show(&self, vendors: &[Vendor], db: &Database) {
        let (planned, made, served) =
            vendors
                .iter()
                .map(Vendor::progress)
                .fold((0, 0, 0), |a, p| {
                    (
                        a.0 + p.calls_planned,
                        a.1 + p.calls_made,
                        a.2 + p.downloads_served,
                    )
                });
        let Ok(states) = db.count_by_state().await else {
            return;
        };
        let archived = states.get("archived").copied().unwrap_or(0);
        let waiting = states.get("pending").copied().unwrap_or(0)
            + states.get("staged").copied().unwrap_or(0);
        let message = format!("{made} calls made, {served} downloads, {waiting} waiting");
        if let Some(bar) = &self.bar {
            bar.set_length(planned.max(archived));
            bar.set_position(archived);
            bar.set_message(message);
        } else if self.plain {
            let line = format!("{archived} archived, {message}");
            if let Ok(mut last) = self.last.lock()
                && last.1 != line
                && (last.1.is_empty() || last.0.elapsed() > Duration::from_secs(3))
            {
                println!("{line}");
                *last = (Instant::now(), line);
            }
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// As whom the demo's visitor signs in.
const VISITOR: &str = "demo";

/// The demo has accounts like any other installation; its visitor comes in by a link.
async fn sign_in_link(house: &House, address: &str) -> Result<String, Failure> {
    let now = house.clock.now();
    let account = match house.db.find_account(VISITOR).await? {
        Some(account) => account,
        None => {
            find::audit(&house.db, "account_add", VISITOR).await?;
            let new = NewAccount {
                name: VISITOR.to_owned(),
                password_hash: None,
                role: Role::Administrator,
                scope: Scope::default(),
                language: None,
                must_change: false,
            };
            house.db.add_account(new, now).await?
        }
    };
    find::audit(&house.db, "account_link", VISITOR).await?;
    one_time_link(&house.db, &account, address, now).await
}

/// A new folder, an empty one, or an earlier demo's; never another installation's.
fn prepare(data: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(data).map_err(|error| cannot_write(data, &error))?;
    let config = data.join("callvault.toml");
    let ours = match std::fs::read_to_string(&config) {
        Ok(text) => text.starts_with(MARK),
        Err(_) => std::fs::read_dir(data)
            .map_err(|error| cannot_write(data, &error))?
            .next()
            .is_none(),
    };
    if ours {
        return Ok(());
    }
    Err(Failure::usage(
        "not_a_demo_folder",
        "the folder holds something other than a demo",
        data.display().to_string(),
        "choose a new folder with --data; a demo never mixes with another installation",
    ))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(
        "write",
        format!("cannot write: {error}"),
        path.display().to_string(),
        "choose a folder that can be written to with --data",
    )
}

fn simulator(error: &crate::simulator::Error) -> Failure {
    let cause =
        std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
    Failure::failed(
        "simulator",
        format!("{error}{cause}"),
        "the simulated vendors",
        "is there a free port on the loopback interface, and room on the disk?",
    )
}
