//! The file of ids that `backfill` reads: its rows, and a hash by which the same file is known again.

use std::io::Read;

use serde_json::Value;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Hasher;
use crate::pipeline::foreign::Row;

use super::backfill::BackfillError;
use super::import::Columns;
use super::table::{Content, Table};

/// A file of ids: a table with `provider_call_id`, or a JSON object with it on each line.
pub struct Ids<R> {
    pub table: Table<R>,
    columns: Option<Columns>,
    source: String,
}

pub type IdRow = Result<Option<Row>, String>;

impl<R: Read> Ids<R> {
    pub fn open(file: R, source: &str) -> Result<Self, BackfillError> {
        let table = Table::open(file)?;
        let columns = match table.header() {
            Some(header) => {
                let columns = Columns::of(header).map_err(BackfillError::Header)?;
                if matches!(columns, Columns::Directory(_)) {
                    let why = "the header has no provider_call_id";
                    return Err(BackfillError::Header(why.to_owned()));
                }
                Some(columns)
            }
            None => None,
        };
        Ok(Self {
            table,
            columns,
            source: source.to_owned(),
        })
    }

    /// The next row: `None` within it belongs to another source.
    pub fn next_row(&mut self) -> Result<Option<(u64, IdRow)>, BackfillError> {
        let Some(entry) = self.table.next_entry()? else {
            return Ok(None);
        };
        let row = match (entry.content, &self.columns) {
            (Err(why), _) => Err(why.to_owned()),
            (Ok(Content::Cells(cells)), Some(Columns::Calls(columns))) => {
                columns.row(cells, chrono_tz::Tz::UTC)
            }
            (Ok(Content::Json(line)), _) => json_row(&line),
            (Ok(Content::Cells(_)), _) => Err("not_json".to_owned()),
        };
        let row = row.map(|(source, row)| {
            let is_ours = source.is_none_or(|source| source == self.source);
            is_ours.then_some(row)
        });
        Ok(Some((entry.line, row)))
    }
}

fn json_row(line: &[u8]) -> Result<(Option<String>, Row), String> {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(line) else {
        return Err("not_json".to_owned());
    };
    let mut text = |name: &str| match members.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let provider_call_id = text("provider_call_id").ok_or("missing:provider_call_id")?;
    let source = text("source");
    let time = |text: Option<String>, name: &str| match text {
        None => Ok(None),
        Some(text) => Timestamp::parse(&text)
            .map(Some)
            .ok_or_else(|| format!("bad_value:{name}")),
    };
    let started_at = time(text("started_at"), "started_at")?;
    let ended_at = time(text("ended_at"), "ended_at")?;
    members.sort_keys();
    Ok((
        source,
        Row {
            provider_call_id,
            started_at,
            ended_at,
            custom: members,
            ..Row::default()
        },
    ))
}

/// Hashes what is read: a plan goes on only with the same file.
pub struct Hashed<R> {
    reader: R,
    hasher: Hasher,
}

impl<R> Hashed<R> {
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            hasher: Hasher::new(),
        }
    }

    /// Of all that was read, in hexadecimal.
    pub fn digest(self) -> String {
        self.hasher.finish().sha256.hex()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
