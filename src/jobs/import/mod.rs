//! `import`: call facts from elsewhere. Each row becomes a notice, so it is durable, told apart from its
//! repeats, and read like any other; a row that is wrong is told with its line, and the others are kept.

mod columns;

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono_tz::Tz;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::db::notices::Added;
use crate::db::{Database, DbError};
use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::digest::Sha256;
use crate::domain::ids::new_id;
use crate::domain::notice::Door;
use crate::domain::reading::DirectoryEntry;
use crate::pipeline::foreign::topic;
use crate::pipeline::{inbox, intake};
use crate::providers::cdr::message;
use crate::providers::contract::{Provider, Told};
use crate::providers::sources::Sources;

use super::table::{Content, Table, TableError};
pub use columns::Columns;

/// Rows on their way into the database at once: they share its commits.
const IN_FLIGHT: usize = 512;
/// Refusals that are told one by one; all are counted.
const MOST_TOLD: usize = 1000;
/// Directory entries compared with what is known in one question.
const COMPARED: usize = 100;
/// Without any notice being read for so long, whoever holds them goes on alone.
const PATIENCE: u32 = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("{0}")]
    Header(String),
    #[error("{0}")]
    Source(String),
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("reading the file ended before its time")]
    Broken,
}

/// A row that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub line: u64,
    /// Stable: `missing:...`, `bad_value:...`, `unknown_source`, `unclosed_quote` ...
    pub code: String,
    pub what: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `calls`, `cdr/1` or `directory`.
    pub content: &'static str,
    pub rows: u64,
    pub stored: u64,
    /// Told before, word for word.
    pub repeated: u64,
    pub refused: u64,
    /// The first of them.
    pub refusals: Vec<Refused>,
    /// Stored, and still to be read by a running service.
    pub unread: bool,
}

/// Where rows belong that do not say so.
#[derive(Clone, Debug)]
pub struct Target {
    pub sources: Sources,
    /// `--source`.
    pub source: Option<String>,
    /// Of times without one.
    pub zone: Tz,
}

/// How far an import is, for who watches it.
#[derive(Debug, Default)]
pub struct Progress {
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
}

type Prepared = (u64, Result<(Arc<dyn Provider>, Told), (String, String)>);

/// Takes every row of the file into the database.
pub async fn store<R: Read + Send + 'static>(
    db: &Database,
    clock: &SharedClock,
    target: Target,
    file: R,
    progress: Arc<Progress>,
) -> Result<Report, ImportError> {
    if let Some(source) = &target.source
        && target.sources.get(source).is_none()
    {
        let known = target.sources.names().join(", ");
        return Err(ImportError::Source(format!(
            "there is no source {source:?}; configured are: {known}"
        )));
    }
    let mut table = Table::open(file)?;
    let columns = match table.header() {
        Some(header) => Some(Columns::of(header).map_err(ImportError::Header)?),
        None => None,
    };
    let content = match &columns {
        Some(Columns::Calls(_)) => "calls",
        Some(Columns::Directory(_)) => "directory",
        None => "cdr/1",
    };
    let (hand_on, mut rows) = mpsc::channel::<Prepared>(IN_FLIGHT);
    let now = clock.now();
    let counted = progress.clone();
    let reading = tokio::task::spawn_blocking(move || -> Result<(), TableError> {
        while let Some(entry) = table.next_entry()? {
            let line = entry.line;
            let read = entry
                .content
                .map_err(str::to_owned)
                .and_then(|content| prepare(&target, columns.as_ref(), content, now));
            let read = read.map_err(|code| {
                let what = explained(&code);
                (code, what)
            });
            counted.rows.fetch_add(1, Ordering::Relaxed);
            counted.bytes.store(table.bytes_read(), Ordering::Relaxed);
            if hand_on.blocking_send((line, read)).is_err() {
                break;
            }
        }
        Ok(())
    });
    let mut report = Report {
        content,
        ..Report::default()
    };
    let mut writing = FuturesUnordered::new();
    let mut entries: Vec<(Arc<dyn Provider>, Told)> = Vec::new();
    let add = |provider: Arc<dyn Provider>, told: Told| {
        let notice = intake::told_notice(provider.as_ref(), Door::Import, told, clock.now());
        db.add_notice(notice)
    };
    while let Some((line, read)) = rows.recv().await {
        report.rows += 1;
        match read {
            Ok((provider, told)) if told.topic == topic::PARTY => {
                entries.push((provider, told));
                if entries.len() == COMPARED {
                    for (provider, told) in news(db, &mut entries, &mut report, now).await? {
                        writing.push(add(provider, told));
                    }
                }
            }
            Ok((provider, told)) => writing.push(add(provider, told)),
            Err((code, what)) => {
                report.refused += 1;
                if report.refusals.len() < MOST_TOLD {
                    report.refusals.push(Refused { line, code, what });
                }
            }
        }
        while writing.len() >= IN_FLIGHT {
            count(&mut report, writing.next().await)?;
        }
    }
    for (provider, told) in news(db, &mut entries, &mut report, now).await? {
        writing.push(add(provider, told));
    }
    while let Some(added) = writing.next().await {
        count(&mut report, Some(added))?;
    }
    reading.await.map_err(|_| ImportError::Broken)??;
    Ok(report)
}

fn count(report: &mut Report, added: Option<Result<Added, DbError>>) -> Result<(), DbError> {
    match added.transpose()? {
        Some(Added::Stored) => report.stored += 1,
        Some(Added::Repeated) => report.repeated += 1,
        None => {}
    }
    Ok(())
}

/// A row as a notice of its source; the error is its code.
fn prepare(
    target: &Target,
    columns: Option<&Columns>,
    content: Content,
    now: Timestamp,
) -> Result<(Arc<dyn Provider>, Told), String> {
    match (columns, content) {
        (Some(Columns::Calls(columns)), Content::Cells(cells)) => {
            let (source, row) = columns.row(cells, target.zone)?;
            let provider = named(target, source.as_deref())?;
            let body = serde_json::to_vec(&row).map_err(|error| error.to_string())?;
            Ok((provider, told(topic::CALL, body)))
        }
        (Some(Columns::Directory(columns)), Content::Cells(cells)) => {
            let (source, entry) = columns.row(&cells)?;
            let provider = named(target, source.as_deref())?;
            let body = serde_json::to_vec(&entry).map_err(|error| error.to_string())?;
            Ok((provider, told(topic::PARTY, body)))
        }
        (_, Content::Json(line)) => {
            let message = message::parse(&line, now)?;
            let provider = match target.sources.get(&message.account) {
                Some(provider) => provider,
                // What the producer calls its account is not the name of a source of ours.
                None => match &target.source {
                    Some(source) => named(target, Some(source))?,
                    None => return Err("unknown_account".to_owned()),
                },
            };
            let dedup_key = message.dedup_key();
            let told = Told {
                dedup_key,
                ..told(topic::CDR, line)
            };
            Ok((provider, told))
        }
        (None, Content::Cells(_)) => Err("not_json".to_owned()),
    }
}

fn named(target: &Target, source: Option<&str>) -> Result<Arc<dyn Provider>, String> {
    let only = || {
        let names = target.sources.names();
        (names.len() == 1).then(|| names[0].clone())
    };
    let name = source
        .map(str::to_owned)
        .or_else(|| target.source.clone())
        .or_else(only)
        .ok_or("missing:source")?;
    target
        .sources
        .get(&name)
        .ok_or_else(|| "unknown_source".to_owned())
}

fn told(topic: &str, body: Vec<u8>) -> Told {
    Told {
        dedup_key: format!("{topic}:{}", Sha256::of(&body)),
        topic: topic.to_owned(),
        body: body.into(),
        unreadable: None,
    }
}

fn explained(code: &str) -> String {
    match code {
        "missing:source" => "the row names no source; add a column source, or --source".to_owned(),
        "unknown_source" => "the row names a source that is not configured".to_owned(),
        "unknown_account" => {
            "source.account is no configured source; --source says whose calls these are".to_owned()
        }
        "unclosed_quote" => "a quotation mark is opened and never closed".to_owned(),
        "not_utf8" => "the row is not UTF-8".to_owned(),
        "too_long" | "too_large" => "the row is longer than any that is taken".to_owned(),
        "more_cells_than_columns" => "the row has more cells than the header has names".to_owned(),
        "not_json" => "the line is no JSON object".to_owned(),
        code => match code.split_once(':') {
            Some(("missing", name)) => format!("{name} is missing"),
            Some(("bad_value", name)) => format!("{name} cannot be read"),
            _ => code.replace('_', " "),
        },
    }
}

/// The entries that say something new. What an entry said before may come again later and is new then, so
/// these notices are never repeats of each other.
async fn news(
    db: &Database,
    entries: &mut Vec<(Arc<dyn Provider>, Told)>,
    report: &mut Report,
    now: Timestamp,
) -> Result<Vec<(Arc<dyn Provider>, Told)>, DbError> {
    let mut asked: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut parsed: Vec<Option<DirectoryEntry>> = Vec::with_capacity(entries.len());
    for (provider, told) in entries.iter() {
        let entry: Option<DirectoryEntry> = serde_json::from_slice(&told.body).ok();
        if let Some(entry) = &entry {
            let ids = asked.entry(provider.name().to_owned()).or_default();
            ids.push(entry.id.clone());
        }
        parsed.push(entry);
    }
    let mut known: HashMap<(String, String), DirectoryEntry> = HashMap::new();
    for (source, ids) in &asked {
        for entry in db.directory_entries(source, ids).await? {
            known.insert((source.clone(), entry.id.clone()), entry);
        }
    }
    let mut new = Vec::new();
    for ((provider, mut told), entry) in entries.drain(..).zip(parsed) {
        let is_known = entry.is_some_and(|entry| {
            let key = (provider.name().to_owned(), entry.id.clone());
            known.get(&key) == Some(&entry)
        });
        if is_known {
            report.repeated += 1;
        } else {
            told.dedup_key = format!("{}:{}", told.dedup_key, new_id(now));
            new.push((provider, told));
        }
    }
    Ok(new)
}

/// Reads what was stored, beside a running service or without one. True: some of it still waits.
pub async fn read(
    db: &Database,
    clock: &SharedClock,
    sources: &Sources,
    instance: &str,
    mut tell: impl FnMut(u64),
) -> Result<bool, DbError> {
    let mut idle = 0;
    let mut settled = 0;
    while db.any_import_waiting().await? {
        let read = inbox::read_waiting(db, sources, instance, clock.now()).await?;
        if read > 0 {
            idle = 0;
            settled += read as u64;
            tell(settled);
            continue;
        }
        idle += 1;
        if idle > PATIENCE {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    while db.fill_known_calls(&sources.names(), clock.now()).await? {}
    Ok(false)
}
