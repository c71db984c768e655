//! How an entry lies in a journal file, and how a file is read that may have broken off anywhere.
//!
//! One line an entry: the length of its JSON in hex, the first 16 hex digits of the JSON's SHA-256, the
//! JSON. JSON as serde writes it holds no line feed, so a damaged line does not hide the next.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::marker::PhantomData;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::digest::Sha256;
use crate::spool::SpoolError;

/// Far above any notice (`[server] max_body` is 1 MiB, base64 adds a third).
pub(super) const MOST_ENTRY_BYTES: usize = 64 << 20;

pub(super) fn line(json: &[u8]) -> Vec<u8> {
    let mut line = format!("{:08x} {} ", json.len(), Sha256::of(json).short()).into_bytes();
    line.extend_from_slice(json);
    line.push(b'\n');
    line
}

/// The JSON of a line without its line feed; `None` when it is not as it was written.
fn json_of(line: &[u8]) -> Option<&[u8]> {
    let (head, json) = line.split_at_checked(26)?;
    let head = std::str::from_utf8(head).ok()?;
    let length = usize::from_str_radix(head.get(..8)?, 16).ok()?;
    let sound = json.len() == length
        && head.get(8..9) == Some(" ")
        && head.get(25..26) == Some(" ")
        && head.get(9..25) == Some(Sha256::of(json).short().as_str());
    sound.then_some(json)
}

/// A journal file that nobody writes any more, held by a lock while it is read.
pub(super) struct Entries<T> {
    path: PathBuf,
    lines: BufReader<File>,
    /// Lines that are whole and yet wrong, or that are not entries of this type.
    damaged: usize,
    entry: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Entries<T> {
    /// `None` when somebody writes or drains it, or it has gone.
    pub(super) fn open_unless_held(path: &Path) -> Result<Option<Self>, SpoolError> {
        let failed = |e| SpoolError::io("opening", path, e);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
            || file.metadata().map_err(failed)?.nlink() == 0
        {
            return Ok(None);
        }
        Ok(Some(Self {
            path: path.to_path_buf(),
            lines: BufReader::with_capacity(64 * 1024, file),
            damaged: 0,
            entry: PhantomData,
        }))
    }

    /// The next entries, none at the end of the file.
    pub(super) fn next_batch(
        &mut self,
        most_entries: usize,
        most_bytes: usize,
    ) -> Result<Vec<T>, SpoolError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut line = Vec::new();
        while batch.len() < most_entries && bytes < most_bytes {
            line.clear();
            let read = self.lines.read_until(b'\n', &mut line);
            let read = read.map_err(|e| SpoolError::io("reading", &self.path, e))?;
            bytes += read;
            if line.pop_if(|last| *last == b'\n').is_none() {
                // The end, or an entry that broke off and so was never acknowledged.
                break;
            }
            match json_of(&line).and_then(|json| serde_json::from_slice(json).ok()) {
                Some(entry) => batch.push(entry),
                None => self.damaged += 1,
            }
        }
        Ok(batch)
    }

    /// Writes entries that were refused into a file beside this one, whole before it has its name.
    pub(super) fn park(&self, refused: &[T]) -> Result<(), SpoolError>
    where
        T: Serialize,
    {
        if refused.is_empty() {
            return Ok(());
        }
        let parked = self.path.with_extension("ndjson.parked");
        let failed = |e| SpoolError::io("parking", &parked, e);
        let mut lines = Vec::new();
        for entry in refused {
            lines.extend(line(&serde_json::to_vec(entry).map_err(SpoolError::Entry)?));
        }
        let unfinished = self.path.with_extension("ndjson.parking");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(failed)?;
        file.write_all(&lines).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&unfinished, &parked).map_err(failed)?;
        if let Some(dir) = parked.parent() {
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(failed)?;
        }
        tracing::error!(
            file = %parked.display(),
            entries = refused.len(),
            "journal entries that nobody takes are parked"
        );
        Ok(())
    }

    /// Removes the file, or sets it aside when something in it could not be read.
    pub(super) fn put_away(self) -> Result<(), SpoolError> {
        if self.damaged == 0 {
            return fs::remove_file(&self.path)
                .map_err(|e| SpoolError::io("removing", &self.path, e));
        }
        let aside = self.path.with_extension("ndjson.damaged");
        tracing::error!(
            file = %aside.display(),
            entries = self.damaged,
            "journal entries could not be read; the file is kept"
        );
        fs::rename(&self.path, &aside).map_err(|e| SpoolError::io("setting aside", &self.path, e))
    }
}

pub(super) fn count_lines(path: &Path) -> io::Result<u64> {
    let mut lines = 0;
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        line?;
        lines += 1;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_not_otherwise() {
        let written = line(b"{\"a\":1}");
        let sound = written.strip_suffix(b"\n").unwrap();
        assert_eq!(json_of(sound), Some(&b"{\"a\":1}"[..]));
        for i in 0..sound.len() {
            assert_eq!(json_of(&sound[..i]), None, "cut at {i}");
            let mut flipped = sound.to_vec();
            flipped[i] ^= 1;
            assert_eq!(json_of(&flipped), None, "flipped at {i}");
        }
        assert_eq!(json_of(b"00000000 e3b0c44298fc1c14 "), Some(&b""[..]));
    }
}
