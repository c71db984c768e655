//! The command line: one file a command, all output through `Out`, all failures through `Failure`.

mod access;
mod account;
mod archive;
mod audio;
mod audit;
mod backfill;
mod backup;
mod check;
mod demo;
mod find;
mod fixity;
mod import;
mod out;
mod password;
mod run;
mod simulate;
mod sources;
mod status;
mod store;
mod sync;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use out::{Failure, Out};

/// Exit codes of CONTRACTS, section 1.
pub mod exit {
    pub const DONE: u8 = 0;
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    /// Done, and it found something a person should see.
    pub const LOOK: u8 = 3;
    /// Whoever read our output went away: what a shell shows of a program that SIGPIPE ended.
    pub const READER_GONE: u8 = 141;
}

#[derive(Debug, Parser)]
#[command(
    name = "callvault",
    version,
    about = "The archive of record for call recordings",
    after_help = "Examples:\n  callvault demo\n  callvault serve\n  callvault search 0001 --from 2024-03-01\n  callvault show RECORDING_ID\n  callvault get RECORDING_ID --role access -o call.mp3"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The configuration file (else $CALLVAULT_CONFIG, ./callvault.toml, /etc/callvault/callvault.toml)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// JSON on stdout: an object, or a line per item of a list
    #[arg(long, global = true)]
    pub json: bool,
    /// More words in the log; twice for every stage of every recording
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Simulated vendors and the whole service, on embedded defaults
    Demo(demo::Demo),
    /// Everything in one process: web, workers, schedule
    Serve,
    /// Only HTTP
    Web,
    /// Only workers and the schedule
    Worker,
    /// Brings the database's schema up, or shows where it stands
    #[command(subcommand)]
    Migrate(archive::Migrate),
    /// A doctor: configuration, database, storage, sources, spool
    Check,
    /// The configured sources and the exact addresses to give to their vendors
    Sources,
    /// Finds calls, newest first
    Search(find::Search),
    /// All that is known of a call or a recording
    Show(find::Show),
    /// Fetches an object and verifies its hash
    Get(find::Get),
    /// One polling pass now: lists what the vendors have, asks for what is missing
    Sync(sync::Sync),
    /// Call facts from elsewhere: numbers, names, agents, ids; and party directories
    Import(import::Import),
    /// A forecast, then a vendor's history into intake: by its list, or by a file of ids
    Backfill(backfill::BackfillArgs),
    /// Queues, oldest work, least slack, counters, alarms
    Status,
    /// Another go for quarantined or waiting recordings
    Retry(access::Retry),
    /// A verified copy of the SQLite database, while the service runs
    Backup(backup::BackupArgs),
    /// The index from the archive's manifests, into an empty database or a restored one
    Rebuild(archive::Rebuild),
    /// The store itself: what it can do, its move elsewhere, legal holds, objects without a row
    #[command(subcommand)]
    Archive(store::ArchiveCommand),
    /// Stored objects are looked for and read again: coverage, the oldest unchecked, what is damaged
    Fixity(fixity::FixityArgs),
    /// Who may sign in, and tokens for scripts
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// The audit trail: its chain computed again, its rows for other programs
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// One simulated vendor
    Simulate(simulate::Simulate),
    /// What the pipeline would see in a file and make of it
    #[command(subcommand)]
    Audio(audio::Audio),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return out::usage(&error),
    };
    #[cfg(feature = "failpoints")]
    die_where_asked();
    let out = Out::new(cli.global.json);
    // Installed once, before any TLS: the tree holds one provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return out.fail(&Failure::failed(
                "runtime",
                "cannot start the async runtime",
                "this machine",
                error.to_string(),
            ));
        }
    };
    let code = match runtime.block_on(dispatch(cli, &out)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => out.fail(&failure),
    };
    // What still runs on blocking threads (a DNS question, say) must not hold the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}

async fn dispatch(cli: Cli, out: &Out) -> Result<u8, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Demo(demo) => demo.run(global, out).await,
        Command::Serve => run::run(global, crate::app::Parts::ALL).await,
        Command::Web => run::run(global, crate::app::Parts::WEB).await,
        Command::Worker => run::run(global, crate::app::Parts::WORKER).await,
        Command::Migrate(migrate) => migrate.run(global, out).await,
        Command::Check => check::run(global, out).await,
        Command::Sources => sources::run(global, out).await,
        Command::Search(search) => search.run(global, out).await,
        Command::Show(show) => show.run(global, out).await,
        Command::Get(get) => get.run(global, out).await,
        Command::Sync(sync) => sync.run(global, out).await,
        Command::Import(import) => import.run(global, out).await,
        Command::Backfill(backfill) => backfill.run(global, out).await,
        Command::Status => status::run(global, out).await,
        Command::Retry(retry) => retry.run(global, out).await,
        Command::Backup(backup) => backup.run(global, out).await,
        Command::Rebuild(rebuild) => rebuild.run(global, out).await,
        Command::Archive(archive) => archive.run(global, out).await,
        Command::Fixity(fixity) => fixity.run(global, out).await,
        Command::Account(account) => account.run(global, out).await,
        Command::Audit(audit) => audit.run(global, out).await,
        Command::Simulate(simulate) => simulate.run(global, out).await,
        Command::Audio(audio) => audio.run(global, out).await,
    }
}

/// For the crash tests: the process ends, as by `kill -9`, when it comes to the point named in
/// `CALLVAULT_DIE_AT`. Not part of release builds.
#[cfg(feature = "failpoints")]
fn die_where_asked() {
    if let Ok(point) = std::env::var("CALLVAULT_DIE_AT") {
        // An unknown name is a point that is never reached; the test says so.
        let _ = fail::cfg_callback(point, || {
            let me = rustix::process::getpid();
            let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        });
    }
}
