//! A file in flight: written once from the front, hashed on the way, flushed, removed on drop.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufWriter};
use uuid::Uuid;

use super::{Reservation, Spool, SpoolError, blocking};
use crate::domain::digest::{Fingerprint, Hasher};

/// Collected before the disk is asked, so that small network reads do not each cost a thread switch.
const BUFFER_BYTES: usize = 256 * 1024;
/// Room is asked for in steps of this size when a file outgrows what was set aside.
const GROWTH_BYTES: u64 = 1 << 20;

/// The bytes of one recording on their way to the archive.
#[derive(Debug)]
pub struct Scratch {
    named: Named,
    writer: BufWriter<tokio::fs::File>,
    hasher: HashState,
    reservation: Reservation,
}

/// Only so that `Debug` shows the count and no internals.
struct HashState(Hasher);

impl std::fmt::Debug for HashState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.bytes())
    }
}

impl Scratch {
    pub(super) async fn create(
        spool: &Spool,
        recording_id: Uuid,
        token: i64,
        expected_bytes: u64,
    ) -> Result<Self, SpoolError> {
        let reservation = Reservation::take(&spool.inner, expected_bytes)?;
        let dir = spool.inner.dir.clone();
        let (named, file) =
            blocking(move || Named::create(&dir, recording_id, token, "part")).await?;
        Ok(Self {
            named,
            writer: BufWriter::with_capacity(BUFFER_BYTES, tokio::fs::File::from_std(file)),
            hasher: HashState(Hasher::new()),
            reservation,
        })
    }

    /// Complete only after [`Self::finish`].
    pub fn path(&self) -> &Path {
        &self.named.path
    }

    /// Bytes taken since the start or the last restart.
    pub fn written(&self) -> u64 {
        self.hasher.0.bytes()
    }

    /// Appends. After an error the file is of no use: restart it or drop it.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let needed = self.written() + bytes.len() as u64;
        if needed > self.reservation.bytes {
            // A whole step, or what is needed to the byte when a step is not to be had.
            self.reservation
                .grow_to(needed.next_multiple_of(GROWTH_BYTES))
                .or_else(|_| self.reservation.grow_to(needed))?;
        }
        self.hasher.0.update(bytes);
        let written = self.writer.write_all(bytes).await;
        written.map_err(|e| self.failed("writing", e))
    }

    /// Forgets everything written so far.
    pub async fn restart(&mut self) -> Result<(), SpoolError> {
        self.hasher = HashState(Hasher::new());
        let emptied = async {
            self.writer.flush().await?;
            self.writer.get_mut().set_len(0).await?;
            self.writer.seek(io::SeekFrom::Start(0)).await
        }
        .await;
        emptied.map(|_| ()).map_err(|e| self.failed("emptying", e))
    }

    /// Flushes to the disk and gives the fingerprint of what was written.
    ///
    /// A failed flush is never repeated: the kernel may have dropped the pages and would then say yes.
    pub async fn finish(&mut self) -> Result<Fingerprint, SpoolError> {
        let flushed = async {
            self.writer.flush().await?;
            self.writer.get_mut().sync_all().await
        }
        .await;
        flushed.map_err(|e| self.failed("flushing", e))?;
        Ok(self.hasher.0.clone().finish())
    }

    /// The first bytes of a finished file, fewer when it is shorter.
    pub async fn head(&self, bytes: usize) -> Result<Vec<u8>, SpoolError> {
        let read = async {
            let file = tokio::fs::File::open(self.path()).await?;
            let mut head = Vec::with_capacity(bytes);
            file.take(bytes as u64).read_to_end(&mut head).await?;
            Ok(head)
        }
        .await;
        read.map_err(|e| self.failed("reading", e))
    }

    fn failed(&self, what: &'static str, e: io::Error) -> SpoolError {
        SpoolError::io(what, self.path(), e)
    }
}

/// A file that another process fills. Removed on drop.
#[derive(Debug)]
pub struct Derived {
    named: Named,
    /// Holds the lock that keeps a sweep away.
    _file: File,
}

impl Derived {
    pub(super) fn create(
        spool: &Spool,
        recording_id: Uuid,
        token: i64,
        extension: &str,
    ) -> Result<Self, SpoolError> {
        let (named, file) = Named::create(&spool.inner.dir, recording_id, token, extension)?;
        Ok(Self { named, _file: file })
    }

    pub fn path(&self) -> &Path {
        &self.named.path
    }
}

/// A name in the spool, `{recording_id}.{token}.{extension}`, removed on drop.
#[derive(Debug)]
struct Named {
    path: PathBuf,
}

impl Named {
    /// Creates the file and locks it, so that a sweep sees that its process lives.
    fn create(
        dir: &Path,
        recording_id: Uuid,
        token: i64,
        extension: &str,
    ) -> Result<(Self, File), SpoolError> {
        for n in 0_u32.. {
            // A second file under the same lease (a playlist's next segment) gets a number.
            let path = match n {
                0 => dir.join(format!("{recording_id}.{token}.{extension}")),
                n => dir.join(format!("{recording_id}.{token}.{n}.{extension}")),
            };
            match create_locked(&path) {
                Ok(Some(file)) => return Ok((Self { path }, file)),
                Ok(None) => {}
                Err(e) => return Err(SpoolError::io("making", &path, e)),
            }
        }
        Err(SpoolError::Stopped)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// `None` when the name is taken, or was swept before it could be locked.
fn create_locked(path: &Path) -> io::Result<Option<File>> {
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(e) => return Err(e),
    };
    flock(&file, FlockOperation::LockExclusive)?;
    Ok((file.metadata()?.nlink() > 0).then_some(file))
}
