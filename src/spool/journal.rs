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
    /// Makes the folder when it is missing. Entries that are there already wait for [`Self::drain`].
    pub async fn open(dir: &Path) -> Result<Self, SpoolError> {
        let dir = dir.to_path_buf();
        blocking(move || {
            make_private_dir(&dir)?;
            let writer = writer::start(&dir)?;
            Ok(Self {
                dir,
                writer,
                entry: PhantomData,
            })
        })
        .await
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
    /// Entries appended meanwhile go to a new file. The end of a file that broke off in the middle of an
    /// entry was never acknowledged and is dropped. A file with any other damage is kept beside the rest
    /// as `*.damaged` after its good entries were taken.
    pub async fn drain<E, F>(
        &self,
        mut deliver: impl FnMut(Vec<T>) -> F,
    ) -> Result<usize, DrainError<E>>
    where
        E: fmt::Display,
        F: Future<Output = Result<(), E>>,
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
                deliver(batch).await.map_err(DrainError::NotTaken)?;
                taken += count;
            }
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
