//! `check`: a doctor that talks to everything and says what, where and what to do.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::app::{self, House, OpenError};
use crate::archive::contract::Severity as StoreSeverity;
use crate::config::Config;
use crate::domain::clock::{SharedClock, SystemClock};
use crate::providers::contract::{Finding, Severity};
use crate::providers::http::GuardedClient;
use crate::providers::pace::LocalPace;

use super::{Failure, Global, Out, exit};

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checked: Vec<Checked>,
    findings: Vec<Finding>,
    /// What the archive's store can do, and what follows from that.
    store: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Checked {
    what: String,
    ok: bool,
    took_ms: u64,
}

struct Doctor {
    checked: Vec<Checked>,
    findings: Vec<Finding>,
    abilities: Vec<String>,
}

pub async fn run(global: &Global, out: &Out) -> Result<u8, Failure> {
    let config = super::run::load(global)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let mut doctor = Doctor {
        checked: Vec::new(),
        findings: Vec::new(),
        abilities: Vec::new(),
    };
    doctor.configuration(&config);
    doctor.database(&config, &clock).await;
    doctor.archive(&config, &clock).await;
    doctor.marker(&config, &clock).await;
    doctor.spool(&config);
    doctor.backups(&config);
    doctor.sources(&config, &clock).await?;
    doctor.provider(&config, &clock).await;
    let report = Report {
        ok: doctor.findings.iter().all(|f| f.severity == Severity::Info),
        checked: doctor.checked,
        findings: doctor.findings,
        store: doctor.abilities,
    };
    out.item(&report, || text(&report));
    Ok(if report.ok { exit::DONE } else { exit::LOOK })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for checked in &report.checked {
        text += &format!(
            "{}  {} ({} ms)\n",
            if checked.ok { "ok  " } else { "LOOK" },
            checked.what,
            checked.took_ms
        );
    }
    if !report.store.is_empty() {
        text += "\nThe store:\n";
    }
    for line in &report.store {
        text += &format!("  {line}\n");
    }
    for finding in &report.findings {
        text += &format!(
            "\n{}: {}\n  where: {}\n  do:    {}\n",
            finding.code, finding.what, finding.place, finding.remedy
        );
    }
    text.push_str(if report.ok {
        "\nAll is well."
    } else {
        "\nSee the findings above."
    });
    text
}

impl Doctor {
    /// Notes what was looked at; it is fine when it added no finding worse than an information.
    fn done(&mut self, what: impl Into<String>, begun: Instant, findings: Vec<Finding>) {
        self.checked.push(Checked {
            what: what.into(),
            ok: findings.iter().all(|f| f.severity == Severity::Info),
            took_ms: begun.elapsed().as_millis() as u64,
        });
        self.findings.extend(findings);
    }

    fn configuration(&mut self, config: &Config) {
        let begun = Instant::now();
        let place = config
            .file
            .as_ref()
            .map_or("built-in defaults".to_owned(), |file| {
                file.display().to_string()
            });
        let mut findings: Vec<Finding> = config
            .warnings
            .iter()
            .map(|warning| Finding {
                code: "configuration_warning",
                severity: Severity::Warning,
                what: warning.to_string(),
                place: place.clone(),
                remedy: "mend it as said".to_owned(),
            })
            .collect();
        if config.sources.is_empty() {
            findings.push(Finding {
                code: "no_sources",
                severity: Severity::Warning,
                what: "no source is configured: nothing will be archived".to_owned(),
                place: place.clone(),
                remedy:
                    "add a [sources.NAME] block; deploy/callvault.example.toml explains every key"
                        .to_owned(),
            });
        }
        self.done(format!("configuration ({place})"), begun, findings);
    }

    async fn database(&mut self, config: &Config, clock: &SharedClock) {
        let begun = Instant::now();
        let mut findings = Vec::new();
        match app::open_database(config, clock).await {
            Err(error) => findings.push(refused(error)),
            Ok(db) => {
                if let Err(error) = db.ping().await {
                    findings.push(finding(
                        "database",
                        error.to_string(),
                        "[database]",
                        "is the database up?",
                    ));
                }
                match db.clock_offset_ms().await {
                    Ok(offset) if offset.abs() > 5_000 => findings.push(finding(
                        "clock",
                        format!("this machine's clock is {offset} ms off the database's"),
                        "this machine",
                        "synchronise both clocks (NTP); until then this process claims no work",
                    )),
                    _ => {}
                }
            }
        }
        self.done("database", begun, findings);
    }

    /// Whether database and archive belong together, where both can be had.
    async fn marker(&mut self, config: &Config, clock: &SharedClock) {
        let begun = Instant::now();
        let Ok(house) = House::open_apart(config.clone(), clock.clone()).await else {
            return;
        };
        let checked = match house.db.installation("archive_id").await {
            Ok(Some(_)) => house.check_marker().await,
            // A fresh database remembers nothing yet: the first start makes them one, not a look at them.
            Ok(None) => house.check_indexed().await,
            Err(_) => return,
        };
        if let Err(error) = checked {
            self.done("archive and database", begun, vec![refused(error)]);
        }
    }

    async fn archive(&mut self, config: &Config, clock: &SharedClock) {
        let begun = Instant::now();
        let opened =
            crate::archive::open_archive(&config.archive, &config.base_dir, clock.clone()).await;
        let mut findings = Vec::new();
        let mut what = "archive".to_owned();
        match opened {
            Err(error) => findings.push(finding(
                error.kind().code(),
                error.to_string(),
                "[archive]",
                "check path or endpoint, credentials and rights",
            )),
            Ok(archive) => {
                what = format!("archive ({})", archive.describe());
                let probed = archive.probe().await;
                for ability in archive.abilities() {
                    let says = if ability.has { "yes" } else { "no" };
                    self.abilities
                        .push(format!("{}: {says}. {}", ability.name, ability.follows));
                }
                findings.extend(probed.into_iter().map(|found| Finding {
                    code: found.code,
                    severity: match found.severity {
                        StoreSeverity::Warn => Severity::Warning,
                        StoreSeverity::Refuse => Severity::Error,
                    },
                    what: found.what,
                    place: "[archive]".to_owned(),
                    remedy: found.what_to_do,
                }));
            }
        }
        self.done(what, begun, findings);
    }

    fn spool(&mut self, config: &Config) {
        let begun = Instant::now();
        let path = config.base_dir.join(&config.spool.path);
        let place = path.display().to_string();
        let mut findings = Vec::new();
        if let Err(error) = takes_files(&path) {
            findings.push(finding(
                "spool_not_writable",
                format!("cannot write there: {error}"),
                &place,
                "give the service's user this folder, or set [spool] path",
            ));
        } else if let Ok(stat) = rustix::fs::statvfs(&path) {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let limit = config.spool.limit_bytes();
            if free < limit {
                findings.push(finding(
                    "spool_space",
                    format!(
                        "{} MiB are free, [spool] limit allows {} MiB",
                        free >> 20,
                        limit >> 20
                    ),
                    &place,
                    "free some space or lower [spool] limit",
                ));
            }
        }
        self.done(format!("spool ({place})"), begun, findings);
    }

    /// The folder of the scheduled backups, which are made without anybody looking.
    fn backups(&mut self, config: &Config) {
        let file = config.database.file(&config.base_dir);
        let Some(file) = file.filter(|_| config.backup.is_scheduled()) else {
            return;
        };
        let begun = Instant::now();
        let folder = config.backup.folder(&config.base_dir, &file);
        let place = folder.display().to_string();
        let mut findings = Vec::new();
        if let Err(error) = takes_files(&folder) {
            findings.push(finding(
                "backup_not_writable",
                format!("cannot write there: {error}"),
                &place,
                "give the service's user this folder, or set [backup] path",
            ));
        }
        self.done(format!("backups ({place})"), begun, findings);
    }

    /// Through which people sign in, where there is one.
    async fn provider(&mut self, config: &Config, clock: &SharedClock) {
        if let Some(oidc) = &config.server.access.oidc {
            let begun = Instant::now();
            let base = config.server.public_base();
            let findings = crate::web::access::oidc::check::check(oidc, &base, clock).await;
            self.done(format!("sign-in ({})", oidc.issuer), begun, findings);
        }
    }

    async fn sources(&mut self, config: &Config, clock: &SharedClock) -> Result<(), Failure> {
        let client = Arc::new(GuardedClient::new(clock.clone()));
        // A database that is away is told of elsewhere; the sources are looked at all the same.
        let pace = match app::open_database_for_migration(config, clock).await {
            Ok(db) => app::shared_pace(&db, clock),
            Err(_) => LocalPace::shared(),
        };
        let sources = app::open_sources(config, &client, clock, &pace)?;
        for (name, provider) in sources.snapshot().iter() {
            let begun = Instant::now();
            let findings = provider.check().await;
            self.done(
                format!("source {name} ({})", provider.kind()),
                begun,
                findings,
            );
        }
        Ok(())
    }
}

/// Makes the folder where it is missing, and a file in it, which goes at once.
fn takes_files(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let made = tempfile::Builder::new()
        .prefix("check-")
        .tempfile_in(folder)?;
    made.close()
}

fn refused(error: OpenError) -> Finding {
    Finding {
        code: error.code,
        severity: Severity::Error,
        what: error.what,
        place: error.place,
        remedy: error.remedy,
    }
}

fn finding(code: &'static str, what: String, place: &str, remedy: &str) -> Finding {
    Finding {
        code,
        severity: Severity::Error,
        what,
        place: place.to_owned(),
        remedy: remedy.to_owned(),
    }
}
