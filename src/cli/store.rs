//! `archive`: what the store can do, its move to another place, legal holds, objects without a row.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use uuid::Uuid;

use crate::app::House;
use crate::archive::open_archive;
use crate::config::Config;
use crate::db::search::Target;
use crate::domain::clock::{Clock as _, SharedClock, SystemClock};
use crate::jobs::holds::{self, HoldError};
use crate::jobs::leftovers::{self, LookError};
use crate::jobs::moving::{MoveError, Mover, Report};

use super::{Failure, Global, Out, exit, find};

/// A line so often where there is no terminal.
const LINE_EVERY: u64 = 1000;
const MOST_ORPHANS: u64 = 10_000;

#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Asks the store what it can do, and says what follows
    Probe,
    /// Copies everything into another archive, verifies it there, and switches to it
    Move(Move),
    /// Keeps a recording's objects from being deleted, in the store itself, until it is lifted
    #[command(subcommand)]
    Hold(Hold),
    /// Looks for objects that no row speaks of, and lists them; nothing is deleted
    Orphans,
}

#[derive(Debug, Args)]
#[command(
    after_help = "FILE is a configuration file whose [archive] names the new place: an empty directory, or an empty bucket or prefix.\nEnvironment variables do not change it. Every object is held against its row or manifest on the way out and read\nback from the new place. While the service runs it only copies; stop every `serve`, `web` and `worker` and run it\nagain to copy what came since and to switch. (One that was killed counts as running for a minute.) A move that was\ncut short goes on where it was. The old archive is only read. Afterwards put the new [archive] into the\nconfiguration: a process with the old one refuses to start.\nEnds with 3 when it did not switch, and names what is damaged or missing.\n\nExamples:\n  callvault archive move --to new.toml\n  callvault archive move --to new.toml --despite-damage"
)]
pub struct Move {
    /// A configuration file; its [archive] is the new place
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Copy damaged objects as they are, and switch although some are damaged or missing
    #[arg(long)]
    despite_damage: bool,
}

#[derive(Debug, Subcommand)]
pub enum Hold {
    /// Holds what is there, and what comes later
    Add {
        /// Why; shown by `list`
        #[arg(long)]
        reason: String,
        /// Recordings, or calls for all their recordings
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Lifts it
    Remove {
        /// Recordings, or calls for all their recordings
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Who holds what, since when and why; ends with 3 when the store does not hold all of it yet
    List,
}

impl ArchiveCommand {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        match self {
            Self::Probe => probe(global, out).await,
            Self::Move(options) => options.run(global, out).await,
            Self::Hold(hold) => hold.run(global, out).await,
            Self::Orphans => orphans(global, out).await,
        }
    }
}

async fn probe(global: &Global, out: &Out) -> Result<u8, Failure> {
    let config = super::run::load(global)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let archive = open_archive(&config.archive, &config.base_dir, clock).await?;
    let findings = archive.probe().await;
    let abilities = archive.abilities();
    let answer = serde_json::json!({
        "archive": archive.describe(),
        "abilities": abilities,
        "findings": findings.iter().map(|found| serde_json::json!({
            "code": found.code,
            "severity": found.severity,
            "what": found.what,
            "do": found.what_to_do,
        })).collect::<Vec<_>>(),
    });
    out.item(&answer, || {
        let mut text = archive.describe();
        for ability in &abilities {
            let says = if ability.has { "yes" } else { "no " };
            text += &format!("\n  {says}  {}: {}", ability.name, ability.follows);
        }
        for found in &findings {
            text += &format!(
                "\n{}: {}\n  do: {}",
                found.code, found.what, found.what_to_do
            );
        }
        text
    });
    Ok(if findings.is_empty() {
        exit::DONE
    } else {
        exit::LOOK
    })
}

impl Move {
    async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        if global.verbose > 0 {
            super::run::start_log(&config, global.verbose);
        }
        let clock: SharedClock = Arc::new(SystemClock);
        let new = Config::load_apart(&self.to)
            .map_err(|e| Failure::usage("configuration", e.what, e.place, e.remedy))?;
        let house = House::open(config, clock.clone()).await.map_err(|error| {
            let mut failure = Failure::from(error);
            if failure.code == "archive_moved" {
                failure.remedy = "this database knows that the archive was moved already; put the new [archive] into the configuration".to_owned();
            }
            failure
        })?;
        let to = open_archive(&new.archive, &new.base_dir, clock.clone()).await?;
        let subject = format!("{} to {}", house.archive.describe(), to.describe());
        find::audit(&house.db, "archive_move", &subject).await?;
        let mover = Mover {
            db: house.db.clone(),
            from: house.archive.clone(),
            to,
            scratch: house.config.spool.dir(&house.config.base_dir),
            clock,
            despite_damage: self.despite_damage,
        };
        let bar = std::io::stderr()
            .is_terminal()
            .then(|| ProgressBar::new_spinner().with_message("copying"));
        let told = std::sync::atomic::AtomicU64::new(0);
        let progress = |report: &Report| {
            let line = format!(
                "{} objects copied, {} MiB",
                report.copied,
                report.copied_bytes >> 20
            );
            let step = report.copied / LINE_EVERY;
            match &bar {
                Some(bar) => {
                    bar.set_message(line);
                    bar.tick();
                }
                None if told.swap(step, std::sync::atomic::Ordering::Relaxed) != step => {
                    out.say(&line)
                }
                None => {}
            }
        };
        let moved = mover.run(&progress).await;
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        let report = moved.map_err(|error| failed(error, &self.to))?;
        out.item(&report, || text(&report, &self.to));
        Ok(if report.switched && report.findings.is_empty() {
            exit::DONE
        } else {
            exit::LOOK
        })
    }
}

fn text(report: &Report, file: &std::path::Path) -> String {
    let mut text = format!(
        "{} objects copied ({} bytes), {} lie verified in {}",
        report.copied, report.copied_bytes, report.verified, report.to
    );
    for finding in &report.findings {
        text += &format!("\n  {}: {}: {}", finding.code, finding.key, finding.what);
    }
    if report.switched {
        text += &format!(
            "\nSwitched. Put the [archive] of {} into the configuration, then start; the old archive is as it was.",
            file.display()
        );
    } else if !report.running.is_empty() {
        text += "\nNot switched, for these run (stop them, then run this again):";
        for process in &report.running {
            text += &format!(
                "\n  {} on {} since {}",
                process.parts, process.machine, process.started_at
            );
        }
    } else {
        text += "\nNot switched. Bring the objects back from a copy of the archive and run this again, or say --despite-damage.";
    }
    text
}

fn failed(error: MoveError, file: &std::path::Path) -> Failure {
    let what = error.to_string();
    let new = format!("[archive] of {}", file.display());
    let again = "nothing is lost, what was copied stays copied: run the same again afterwards";
    let (code, place, remedy) = match error {
        MoveError::Database(error) => return error.into(),
        MoveError::From(error) => (
            error.kind().code(),
            "[archive] of the configuration".to_owned(),
            format!("the old archive does not give its objects; see `callvault check`; {again}"),
        ),
        MoveError::To(error) => (
            error.kind().code(),
            new,
            format!("the new archive does not take objects; mend that; {again}"),
        ),
        MoveError::NoRoom { .. } => (
            "archive_full",
            new,
            format!("take a larger disk, or free some space; {again}"),
        ),
        MoveError::Scratch(_) => (
            "spool",
            "[spool] path of the configuration".to_owned(),
            format!("give this user the folder, or free some space there; {again}"),
        ),
        MoveError::NoArchive(_) => (
            "archive_marker_missing",
            "[archive] of the configuration".to_owned(),
            "start the service once on it, or mend [archive]".to_owned(),
        ),
        MoveError::SamePlace(_) | MoveError::IsAnArchive(_) | MoveError::NotEmpty(..) => (
            "archive_not_empty",
            new,
            "take an empty directory, or a bucket or prefix with nothing in it".to_owned(),
        ),
    };
    Failure::failed(code, what, place, remedy)
}

async fn recordings(house: &House, ids: &[String]) -> Result<Vec<Uuid>, Failure> {
    let mut found = Vec::new();
    for id in ids {
        match find::resolve(&house.db, id).await? {
            Target::Recording(recording) => found.push(recording),
            Target::Call(call) => {
                let view = house.db.show_call(call).await?;
                let recordings = view.iter().flat_map(|view| &view.recordings);
                found.extend(recordings.filter_map(|detail| detail.recording.recording_id));
            }
        }
    }
    Ok(found)
}

impl Hold {
    async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        let house = House::open(config, Arc::new(SystemClock)).await?;
        let (db, archive) = (&house.db, house.archive.as_ref());
        match self {
            Self::Add { reason, ids } => {
                for id in recordings(&house, &ids).await? {
                    find::audit(db, "hold_add", &id.to_string()).await?;
                    // A store without holds must not leave a promise in the index.
                    let first = db.objects_of(id).await?.into_iter().next();
                    if let Some(object) = first {
                        archive
                            .set_hold(&object.key, object.version_id.as_deref(), true)
                            .await?;
                    }
                    let now = SystemClock.now();
                    db.place_hold(id, &reason, &find::actor(), now).await?;
                    let held = holds::apply(db, archive, Some(id), now).await?;
                    let done = serde_json::json!({ "recording_id": id, "objects_held": held });
                    out.item(&done, || format!("{id}: {held} objects held now"));
                }
                Ok(exit::DONE)
            }
            Self::Remove { ids } => {
                let mut code = exit::DONE;
                for id in recordings(&house, &ids).await? {
                    find::audit(db, "hold_remove", &id.to_string()).await?;
                    let lifted = holds::lift(db, archive, id, &find::actor()).await?;
                    if lifted.is_none() {
                        code = exit::FAILED;
                    }
                    let done = serde_json::json!({ "recording_id": id, "objects_let_go": lifted });
                    out.item(&done, || match lifted {
                        Some(n) => format!("{id}: the hold is lifted, {n} objects let go"),
                        None => format!("{id} is not held"),
                    });
                }
                Ok(code)
            }
            Self::List => {
                find::audit(db, "hold_list", "").await?;
                let holds = db.holds().await?;
                for hold in &holds {
                    out.item(hold, || {
                        let lifting = if hold.is_lifting {
                            ", being lifted"
                        } else {
                            ""
                        };
                        format!(
                            "{}  {} of {} objects held{lifting}  since {} by {}: {}",
                            hold.recording_id,
                            hold.held,
                            hold.objects,
                            hold.placed_at,
                            hold.placed_by,
                            hold.reason
                        )
                    });
                }
                let whole = holds.iter().all(|h| h.held == h.objects && !h.is_lifting);
                Ok(if whole { exit::DONE } else { exit::LOOK })
            }
        }
    }
}

async fn orphans(global: &Global, out: &Out) -> Result<u8, Failure> {
    let config = super::run::load(global)?;
    let house = House::open(config, Arc::new(SystemClock)).await?;
    find::audit(&house.db, "archive_orphans", "").await?;
    let now = SystemClock.now();
    leftovers::find_orphans(&house.db, house.archive.as_ref(), now).await?;
    let found = house.db.orphans(MOST_ORPHANS).await?;
    for orphan in &found {
        out.item(orphan, || format!("{}  {} bytes", orphan.key, orphan.bytes));
    }
    Ok(if found.is_empty() {
        exit::DONE
    } else {
        exit::LOOK
    })
}

impl From<HoldError> for Failure {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Archive(error) => error.into(),
            HoldError::Database(error) => error.into(),
        }
    }
}

impl From<LookError> for Failure {
    fn from(error: LookError) -> Self {
        match error {
            LookError::Archive(error) => error.into(),
            LookError::Database(error) => error.into(),
        }
    }
}
