//! The one thread that writes: it takes what has piled up, writes it, flushes once and answers all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, oneshot};

use super::{last_number, name_of};
use crate::spool::SpoolError;

/// A file is closed for writing above this, so that draining removes what it has handed over in pieces.
const FILE_BYTES: u64 = 8 << 20;
/// Written and flushed together at most.
const GROUP_BYTES: usize = 4 << 20;

pub(super) enum Command {
    Append {
        line: Vec<u8>,
        reply: oneshot::Sender<Result<(), SpoolError>>,
    },
    /// Ends the current file, so that a drain can take it.
    Rotate { reply: oneshot::Sender<()> },
}

/// The thread ends with the last sender.
pub(super) fn start(dir: &Path) -> Result<mpsc::UnboundedSender<Command>, SpoolError> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let writer = Writer {
        dir: dir.to_path_buf(),
        current: None,
    };
    std::thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || writer.run(receiver))
        .map_err(|e| SpoolError::io("starting the writer of", dir, e))?;
    Ok(sender)
}

struct Writer {
    dir: PathBuf,
    current: Option<Current>,
}

/// The file being written, held by a lock so that no drain takes it.
struct Current {
    file: File,
    path: PathBuf,
    /// Up to here everything was flushed and acknowledged.
    bytes: u64,
}

impl Writer {
    fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let mut lines = Vec::new();
            let mut appended = Vec::new();
            let mut rotated = Vec::new();
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Append { line, reply } => {
                        lines.extend_from_slice(&line);
                        appended.push(reply);
                    }
                    Command::Rotate { reply } => rotated.push(reply),
                }
                next = if lines.len() < GROUP_BYTES {
                    commands.try_recv().ok()
                } else {
                    None
                };
            }
            let written = if appended.is_empty() {
                Ok(())
            } else {
                // A panic costs these entries their answer, never the thread: without it nothing is kept any more.
                let writing = AssertUnwindSafe(|| self.write(&lines));
                catch_unwind(writing).unwrap_or_else(|_| Err(io::Error::other("it panicked")))
            };
            // Who no longer waits for an answer gets none.
            for reply in appended {
                let _ = reply.send(written.as_ref().copied().map_err(|e| self.error(e)));
            }
            if !rotated.is_empty() {
                self.current = None;
            }
            for reply in rotated {
                let _ = reply.send(());
            }
        }
    }

    /// Each waiter gets the error; `io::Error` cannot be cloned.
    fn error(&self, e: &io::Error) -> SpoolError {
        let copy = match e.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(e.kind(), e.to_string()),
        };
        SpoolError::io("writing the journal in", &self.dir, copy)
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => Current::begin(&self.dir)?,
        };
        if let Err(e) = current.append(lines) {
            // What may lie half-way in the file was not acknowledged: cut it off if the disk lets us,
            // and go on in a new file. A failed flush is never repeated on the same one.
            let _ = current.file.set_len(current.bytes);
            return Err(e);
        }
        if current.bytes < FILE_BYTES {
            self.current = Some(current);
        }
        Ok(())
    }
}

impl Current {
    fn begin(dir: &Path) -> io::Result<Self> {
        let last = last_number(dir)?;
        // Numbers beyond the last: another process may begin one at the same time.
        for number in last.saturating_add(1)..=u64::MAX {
            let path = dir.join(name_of(number));
            let file = match OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e),
            };
            flock(&file, FlockOperation::LockExclusive)?;
            // A drain may have found it empty and removed it before it was locked.
            if file.metadata()?.nlink() == 0 {
                continue;
            }
            File::open(dir)?.sync_all()?;
            return Ok(Self {
                file,
                path,
                bytes: 0,
            });
        }
        Err(io::Error::other("the journal has no numbers left"))
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        fail::fail_point!("journal.before_fsync", |_| Err(io::Error::other(
            "fail point"
        )));
        self.file.sync_data()?;
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if self.bytes == 0 {
            // Nothing in it was acknowledged; an empty file would only be in the way.
            let _ = fs::remove_file(&self.path);
        }
    }
}
