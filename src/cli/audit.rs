//! `audit`: the trail's chain computed again, and the trail as lines for other programs.

use clap::{Args, Subcommand};

use crate::db::Database;
use crate::domain::audit::ChainReport;
use crate::domain::digest::Sha256;

use super::{Failure, Global, Out, exit, find};

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Computes the chain of the audit trail again; ends with 3 when it is broken
    Verify(Verify),
    /// Every row of the chain in its order, with its hash
    Export(Export),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Who can write the whole database can forge the whole chain. So keep the end that this prints somewhere else, and\nhand it in later.\n\nExamples:\n  callvault audit verify\n  callvault audit verify --expect 1204:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)]
pub struct Verify {
    /// A row and its hash that an earlier run printed: SEQ:HASH
    #[arg(long, value_name = "SEQ:HASH")]
    expect: Option<String>,
}

#[derive(Debug, Args)]
pub struct Export {
    /// Only rows behind this one
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: i64,
}

impl AuditCommand {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        let db = find::open(&config).await?;
        match self {
            Self::Verify(verify) => verify.run(&db, out).await,
            Self::Export(export) => export.run(&db, out).await,
        }
    }
}

impl Verify {
    async fn run(self, db: &Database, out: &Out) -> Result<u8, Failure> {
        let expected = self.expect.as_deref().map(noted).transpose()?;
        find::audit(db, "audit_verify", "").await?;
        let mut report = db.verify_audit().await?;
        if let (true, Some((seq, hash))) = (report.whole, expected)
            && db.audit_hash(seq).await? != Some(hash)
        {
            report.whole = false;
            report.broken_seq = Some(seq);
            report.what = Some(format!("row {seq} does not have the hash that was noted"));
        }
        out.item(&report, || text(&report));
        Ok(if report.whole { exit::DONE } else { exit::LOOK })
    }
}

fn noted(text: &str) -> Result<(i64, Sha256), Failure> {
    let parts = text.split_once(':');
    parts
        .and_then(|(seq, hash)| Some((seq.parse().ok()?, hash.parse().ok()?)))
        .ok_or_else(|| {
            Failure::usage(
                "usage",
                format!("{text:?} is no row and hash"),
                "--expect",
                "write SEQ:HASH, as `callvault audit verify` prints them",
            )
        })
}

fn text(report: &ChainReport) -> String {
    let earlier = match report.earlier {
        0 => String::new(),
        n => format!(", {n} rows from before the chain"),
    };
    match &report.what {
        None => format!(
            "the chain is whole: {} rows{earlier}\nits end: {}:{}",
            report.rows, report.last_seq, report.last_hash
        ),
        Some(what) => format!(
            "the chain is BROKEN: {what}\n{} rows before that are right{earlier}",
            report.rows
        ),
    }
}

impl Export {
    /// Lines in both modes: an export is for programs.
    async fn run(self, db: &Database, out: &Out) -> Result<u8, Failure> {
        find::audit(db, "audit_export", &format!("after {}", self.after)).await?;
        // Rows that come while this runs belong to the next export.
        let end = db.audit_end().await?;
        let mut after = self.after;
        while after < end {
            let page = db.audit_rows_after(after).await?;
            let Some(last) = page.last().and_then(|row| row.seq) else {
                break;
            };
            after = last;
            for row in page
                .iter()
                .filter(|row| row.seq.is_some_and(|seq| seq <= end))
            {
                out.item(row, || serde_json::to_string(row).unwrap_or_default());
            }
        }
        Ok(exit::DONE)
    }
}
