//! A file in flight: written once from the front, hashed on the way, flushed, removed on drop.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufWriter};
use uuid::Uuid;

use super::{Inner, Reservation, Spool, SpoolError, blocking, kept};
use crate::domain::digest::{Fingerprint, Hasher};

/// Collected before the disk is asked, so that small network reads do not each cost a thread switch.
const BUFFER_BYTES: usize = 256 * 1024;
/// Room is asked for in steps of this size when a file outgrows what was set aside.
const GROWTH_BYTES: u64 = 1 << 20;

/// The bytes of one recording on their way to the archive.
#[derive(Debug)]
pub struct Scratch {
    recording_id: Uuid,
    named: Named,
    writer: BufWriter<tokio::fs::File>,
    hasher: HashState,
    reservation: Reservation,
}

/// What an earlier lease left in the spool.
#[derive(Debug)]
pub enum Kept {
    Nothing,
    /// It is there, and somebody on this machine still has it in hand.
    Held,
    Taken(Box<Scratch>),
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
        let inner = spool.inner.clone();
        let (reservation, named, file) = blocking(move || {
            kept::recount(&inner)?;
            let reservation = Reservation::take(&inner, expected_bytes)?;
            let (named, file) = Named::create(&inner.dir, recording_id, token, "part")?;
            Ok((reservation, named, file))
        })
        .await?;
        Ok(Self {
            recording_id,
            named,
            writer: BufWriter::with_capacity(BUFFER_BYTES, tokio::fs::File::from_std(file)),
            hasher: HashState(Hasher::new()),
            reservation,
        })
    }

    /// The file that an earlier lease left under this recording and hash, when it is what its name says.
    pub(super) async fn take(
        spool: &Spool,
        recording_id: Uuid,
        told: &Fingerprint,
    ) -> Result<Kept, SpoolError> {
        let (inner, told) = (spool.inner.clone(), *told);
        let path = kept::path_of(&inner.dir, recording_id, &told.sha256);
        let found = {
            let (inner, path) = (inner.clone(), path.clone());
            blocking(move || kept::take(&inner, &path, &told)).await?
        };
        let (file, hasher) = match found {
            kept::Found::Nothing => return Ok(Kept::Nothing),
            kept::Found::Held => return Ok(Kept::Held),
            kept::Found::Whole(file, hasher) => (file, hasher),
        };
        Ok(Kept::Taken(Box::new(Self {
            recording_id,
            named: Named {
                path,
                kept: Some(inner.clone()),
                stays: true,
                bytes: told.bytes,
            },
            writer: BufWriter::with_capacity(0, tokio::fs::File::from_std(file)),
            hasher: HashState(hasher),
            reservation: Reservation::take(&inner, 0)?,
        })))
    }

    /// Gives the finished file a name that tells recording and hash, and lets it stay when it is dropped,
    /// by a stop or a crash as well. Only for bytes whose hash the recording's row names: the next lease
    /// on this machine takes them up from there.
    pub async fn secure(&mut self, fingerprint: &Fingerprint) -> Result<(), SpoolError> {
        if self.named.stays {
            return Ok(());
        }
        let inner = self.reservation.inner.clone();
        let to = kept::path_of(&inner.dir, self.recording_id, &fingerprint.sha256);
        let (from, bytes) = (self.named.path.clone(), fingerprint.bytes);
        {
            let (inner, to) = (inner.clone(), to.clone());
            blocking(move || kept::rename(&inner, &from, &to, bytes)).await?;
        }
        self.named = Named {
            path: to,
            kept: Some(inner.clone()),
            stays: true,
            bytes,
        };
        // From now on it counts as kept.
        self.reservation = Reservation::take(&inner, 0)?;
        Ok(())
    }

    /// The archive has it, or it can be had again: it goes with its owner.
    pub fn release(&mut self) {
        self.named.stays = false;
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

/// A name in the spool, `{recording_id}.{token}.{extension}` or that of a kept file; removed on drop
/// unless it stays.
#[derive(Debug)]
struct Named {
    path: PathBuf,
    /// Where its bytes are counted, for a kept file.
    kept: Option<Arc<Inner>>,
    stays: bool,
    bytes: u64,
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
                Ok(Some(file)) => {
                    let named = Self {
                        path,
                        kept: None,
                        stays: false,
                        bytes: 0,
                    };
                    return Ok((named, file));
                }
                Ok(None) => {}
                Err(e) => return Err(SpoolError::io("making", &path, e)),
            }
        }
        Err(SpoolError::Stopped)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        // What cannot be removed now is swept at the next start.
        match &self.kept {
            Some(inner) => kept::forget(inner, &self.path, self.bytes),
            None => {
                let _ = fs::remove_file(&self.path);
            }
        }
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
