//! Notices that came while the database was away: on disk before anyone gets an answer, and handed to the
//! database later.
//!
//! What a newcomer gets wrong: an entry may be handed over twice (killed between the database's commit
//! and the removal of the file), never not at all. The database knows repeats by their dedup key.

mod format;
mod writer;

use std::fmt;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use self::format::{Entries, MOST_ENTRY_BYTES};
use self::writer::Command;
use super::{SpoolError, blocking, make_private_dir};

/// Handed over at once: bounded, because a journal may hold a day of notices.
const BATCH_ENTRIES: usize = 256;
const BATCH_BYTES: usize = 4 << 20;

/// Appends from many tasks share their flushes. Several processes may use one folder: each writes files
/// of its own, held by a lock, and drains those that nobody holds.
pub struct Journal<T> {
    dir: PathBuf,
    writer: mpsc::UnboundedSender<Command>,
    entry: PhantomData<fn(T) -> T>,
}

impl<T> fmt::Debug for Journal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("dir", &self.dir).finish()
    }
}

/// Why a drain stopped. What was not handed over stays.
#[derive(Debug, thiserror::Error)]
pub enum DrainError<E: fmt::Display> {
    #[error("handing the journal's entries over: {0}")]
    NotTaken(E),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Journal<T> {
    /// Makes the folder when it is missing. Entries that are there already wait for [`Self::drain`], and
    /// so do those that were parked: what refused them may have been mended since.
    pub async fn open(dir: &Path) -> Result<Self, SpoolError> {
        let dir = dir.to_path_buf();
        blocking(move || {
            make_private_dir(&dir)?;
            unpark(&dir)?;
            let writer = writer::start(&dir)?;
            Ok(Self {
                dir,
                writer,
                entry: PhantomData,
            })
        })
        .await
    }

    /// What was parked waits for [`Self::drain`] again: what refused it may have been mended.
    pub async fn take_up_parked(&self) -> Result<(), SpoolError> {
        let dir = self.dir.clone();
        blocking(move || unpark(&dir)).await
    }

    /// When this says `Ok`, the entry survives a power cut. When it is dropped while waiting, the entry
    /// may or may not be there.
    pub async fn append(&self, entry: T) -> Result<(), SpoolError> {
        let json = serde_json::to_vec(&entry).map_err(SpoolError::Entry)?;
        if json.len() > MOST_ENTRY_BYTES {
            return Err(SpoolError::EntryTooLong {
                bytes: json.len() as u64,
                limit_bytes: MOST_ENTRY_BYTES as u64,
            });
        }
        let (reply, answer) = oneshot::channel();
        let line = format::line(&json);
        self.writer
            .send(Command::Append { line, reply })
            .map_err(|_| SpoolError::Stopped)?;
        answer.await.map_err(|_| SpoolError::Stopped)?
    }

    /// Hands all entries over in order, in batches, and removes each file once everything in it was
    /// taken. Gives how many entries were handed over.
    ///
    /// `deliver` gives back what it can never hand on: that is parked in a file beside the rest
    /// (`*.parked`), so that it blocks nothing.
    ///
    /// Entries appended meanwhile go to a new file. The end of a file that broke off in the middle of an
    /// entry was never acknowledged and is dropped. A file with any other damage is kept beside the rest
    /// as `*.damaged` after its good entries were taken.
    pub async fn drain<E, F>(
        &self,
        mut deliver: impl FnMut(Vec<T>) -> F,
    ) -> Result<usize, DrainError<E>>
    where
        E: fmt::Display,
        F: Future<Output = Result<Vec<T>, E>>,
    {
        let (reply, rotated) = oneshot::channel();
        self.writer
            .send(Command::Rotate { reply })
            .map_err(|_| SpoolError::Stopped)?;
        rotated.await.map_err(|_| SpoolError::Stopped)?;
        let dir = self.dir.clone();
        let files = blocking(move || files(&dir)).await?;
        let mut taken = 0;
        for path in files {
            let Some(mut entries) = blocking(move || Entries::<T>::open_unless_held(&path)).await?
            else {
                continue;
            };
            let mut refused = Vec::new();
            loop {
                let (back, batch) = blocking(move || {
                    let batch = entries.next_batch(BATCH_ENTRIES, BATCH_BYTES)?;
                    Ok((entries, batch))
                })
                .await?;
                entries = back;
                if batch.is_empty() {
                    break;
                }
                let count = batch.len();
                let mut left = deliver(batch).await.map_err(DrainError::NotTaken)?;
                taken += count.saturating_sub(left.len());
                refused.append(&mut left);
            }
            let entries = blocking(move || {
                entries.park(&refused)?;
                Ok(entries)
            })
            .await?;
            fail::fail_point!("journal.before_remove");
            blocking(move || entries.put_away()).await?;
        }
        Ok(taken)
    }
}

/// Journal files in the order in which they were begun.
fn files(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let mut numbered = Vec::new();
    let failed = |e: io::Error| SpoolError::io("listing", dir, e);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(number) = number_of(&path) {
            numbered.push((number, path));
        }
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

/// Entries that were refused for good and wait for a person.
pub(super) fn count_parked(dir: &Path) -> Result<u64, SpoolError> {
    let mut count = 0;
    for path in parked(dir)? {
        match format::count_lines(&path) {
            Ok(lines) => count += lines,
            // Taken up by a start in this moment.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(SpoolError::io("counting", &path, e)),
        }
    }
    Ok(count)
}

/// Gives parked files their names back. A name that exists belongs to a file that is being drained: the
/// next start takes that one up.
fn unpark(dir: &Path) -> Result<(), SpoolError> {
    for path in parked(dir)? {
        let again = path.with_extension("");
        match fs::hard_link(&path, &again) {
            Ok(()) => {}
            // Another process is at it.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) =>
            {
                continue;
            }
            Err(e) => return Err(SpoolError::io("taking up", &path, e)),
        }
        // The new name is on the disk before the old one goes.
        let failed = |e| SpoolError::io("taking up", &path, e);
        let synced = || fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced().map_err(failed)?;
        fs::remove_file(&path).map_err(failed)?;
        synced().map_err(failed)?;
    }
    Ok(())
}

fn parked(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let mut found = Vec::new();
    let failed = |e: io::Error| SpoolError::io("listing", dir, e);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(failed(e)),
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == "parked") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The highest number in use, also by files that were set aside: theirs are not used again.
fn last_number(dir: &Path) -> io::Result<u64> {
    let mut last = 0;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            name.strip_prefix("journal-")?
                .split('.')
                .next()?
                .parse()
                .ok()
        });
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

fn name_of(number: u64) -> String {
    format!("journal-{number:010}.ndjson")
}

fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_prefix("journal-")?.strip_suffix(".ndjson")?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests;
