//! Local scratch: files in flight, their limit, and the journal of notices for when the database is away.
//!
//! What a newcomer gets wrong: a scratch file belongs to one lease and goes with it, until its recording's row
//! names its hash; from then on it stays, over a stop or a crash, until the archive has it. The journal outlives
//! a process as well, until its entries are in the database.

mod error;
pub mod journal;
mod kept;
mod scratch;
mod settings;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::domain::digest::Fingerprint;

pub use self::error::SpoolError;
pub use self::scratch::{Derived, Kept, Scratch};
pub use self::settings::Settings;

/// The folder for files in flight. Cheap to clone; all clones share one limit.
#[derive(Debug, Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    limit_bytes: u64,
    /// Promised to the scratch files of this process, written or not yet.
    reserved_bytes: AtomicU64,
    /// On the disk in kept files, as last counted; held while such a file comes or goes.
    kept_bytes: Mutex<u64>,
}

impl Inner {
    fn kept(&self) -> MutexGuard<'_, u64> {
        self.kept_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// How full the spool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// On the disk, by all processes, the journal included.
    pub used_bytes: u64,
    /// Of this process; what it has promised to files in flight counts against this.
    pub limit_bytes: u64,
    /// Of the disk that the spool lies on; `None` when the machine does not tell.
    pub disk_used_percent: Option<u8>,
    /// Notices in the journal that the database refuses for good.
    pub parked_notices: u64,
}

/// How full the disk of this folder is, as `df` counts it.
pub fn disk_used_percent(folder: &Path) -> Option<u8> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let whole = used.saturating_add(stat.f_bavail);
    u8::try_from(used.saturating_mul(100).checked_div(whole)?).ok()
}

/// What a sweep took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub files: u64,
    pub bytes: u64,
}

impl Spool {
    /// Makes the folder with mode 0700 when it is missing. Relative paths count from `base_dir`.
    pub async fn open(settings: &Settings, base_dir: &Path) -> Result<Self, SpoolError> {
        let dir = settings.dir(base_dir);
        let limit_bytes = settings.limit_bytes();
        blocking(move || {
            make_private_dir(&dir)?;
            Ok(Self {
                inner: Arc::new(Inner {
                    dir,
                    limit_bytes,
                    reserved_bytes: AtomicU64::new(0),
                    kept_bytes: Mutex::new(0),
                }),
            })
        })
        .await
    }

    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// A file for the bytes of one recording under one lease, with room for `expected_bytes` set aside
    /// (0 = unknown). It grows beyond that while there is room. Dropping it removes the file, unless
    /// [`Scratch::secure`] gave it a lasting name.
    pub async fn scratch(
        &self,
        recording_id: Uuid,
        token: i64,
        expected_bytes: u64,
    ) -> Result<Scratch, SpoolError> {
        Scratch::create(self, recording_id, token, expected_bytes).await
    }

    /// The file with these bytes that an earlier lease left for the archive. Every byte is read.
    pub async fn take_kept(
        &self,
        recording_id: Uuid,
        told: &Fingerprint,
    ) -> Result<Kept, SpoolError> {
        Scratch::take(self, recording_id, told).await
    }

    /// An empty file for what is made from the recording by another process, which writes to its path.
    ///
    /// It does not count against the limit: access copies and waveforms are small beside originals.
    pub fn derived(
        &self,
        recording_id: Uuid,
        token: i64,
        extension: &str,
    ) -> Result<Derived, SpoolError> {
        Derived::create(self, recording_id, token, extension)
    }

    /// Removes the files of leases that `is_live` does not know, unless a living process holds them.
    pub async fn sweep(&self, is_live: impl Fn(Uuid, i64) -> bool) -> Result<Swept, SpoolError> {
        let dir = self.inner.dir.clone();
        let listed = blocking(move || scratch_files(&dir)).await?;
        let dead: Vec<PathBuf> = listed
            .into_iter()
            .filter(|(recording_id, token, _)| !is_live(*recording_id, *token))
            .map(|(_, _, path)| path)
            .collect();
        blocking(move || {
            let mut swept = Swept::default();
            for path in dead {
                if let Some(bytes) = remove_unless_held(&path)? {
                    swept.files += 1;
                    swept.bytes += bytes;
                }
            }
            Ok(swept)
        })
        .await
    }

    /// Counts what lies on the disk.
    pub async fn usage(&self) -> Result<Usage, SpoolError> {
        let (dir, limit_bytes) = (self.inner.dir.clone(), self.inner.limit_bytes);
        blocking(move || {
            Ok(Usage {
                used_bytes: bytes_below(&dir).map_err(|e| SpoolError::io("counting", &dir, e))?,
                limit_bytes,
                disk_used_percent: disk_used_percent(&dir),
                parked_notices: journal::count_parked(&dir.join("journal"))?,
            })
        })
        .await
    }

    /// What this process has promised to its files in flight.
    pub fn reserved_bytes(&self) -> u64 {
        self.inner.reserved_bytes.load(Ordering::Relaxed)
    }
}

/// Room set aside for one file; given back on drop.
#[derive(Debug)]
struct Reservation {
    inner: Arc<Inner>,
    bytes: u64,
}

impl Reservation {
    fn take(inner: &Arc<Inner>, bytes: u64) -> Result<Self, SpoolError> {
        let mut reservation = Self {
            inner: inner.clone(),
            bytes: 0,
        };
        reservation.grow_to(bytes)?;
        Ok(reservation)
    }

    /// Afterwards at least `bytes` are set aside, or nothing has changed.
    fn grow_to(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let limit = self.inner.limit_bytes;
        let kept = *self.inner.kept();
        let grown = self.inner.reserved_bytes.fetch_update(
            Ordering::Relaxed,
            Ordering::Relaxed,
            |reserved| {
                reserved
                    .checked_add(more)
                    .filter(|sum| sum.saturating_add(kept) <= limit)
            },
        );
        match grown {
            Ok(_) => {
                self.bytes += more;
                Ok(())
            }
            Err(reserved) => Err(SpoolError::Full {
                reserved_bytes: reserved.saturating_add(kept),
                asked_bytes: more,
                limit_bytes: limit,
            }),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.inner
            .reserved_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn make_private_dir(dir: &Path) -> Result<(), SpoolError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| SpoolError::io("making", dir, e))
}

/// Files named `{recording_id}.{token}.*`; everything else in the folder is not ours to judge.
fn scratch_files(dir: &Path) -> Result<Vec<(Uuid, i64, PathBuf)>, SpoolError> {
    let failed = |e| SpoolError::io("listing", dir, e);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some((recording_id, token)) = entry.file_name().to_str().and_then(lease_of) {
            files.push((recording_id, token, entry.path()));
        }
    }
    Ok(files)
}

fn lease_of(name: &str) -> Option<(Uuid, i64)> {
    let mut parts = name.split('.');
    let recording_id = parts.next()?.parse().ok()?;
    let token = parts.next()?.parse().ok()?;
    parts.next()?;
    Some((recording_id, token))
}

/// Its length when it was removed; `None` when a process holds it or it has gone by itself.
fn remove_unless_held(path: &Path) -> Result<Option<u64>, SpoolError> {
    let failed = |e| SpoolError::io("sweeping", path, e);
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let bytes = file.metadata().map_err(failed)?.len();
    match fs::remove_file(path) {
        Ok(()) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

fn bytes_below(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                // Files in flight come and go.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(bytes)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, SpoolError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(SpoolError::Stopped))
}

#[cfg(test)]
mod tests;
