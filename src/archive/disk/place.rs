//! How a file comes to its final name on disk: written aside, flushed, then given its name only if that
//! name is free, with every new folder entry flushed too.
//!
//! Everything here blocks; `disk.rs` calls it from threads that may.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, AtFlags, CWD, FlockOperation, RenameFlags, flock};
use rustix::io::Errno;

use crate::domain::digest::{Fingerprint, Hasher};

/// Read and written in pieces of this size, whatever the length of the object.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// How an attempt to give a file its final name ended.
pub(super) enum Named {
    Yes,
    /// Something has this name already; nothing was changed.
    Taken,
}

/// A file under a temporary name, locked for as long as it is being written.
///
/// The lock tells a sweep in any process on this machine that the writer lives. A sweep may win the lock
/// between creation and locking; it then unlinks the file while holding the lock, which the writer sees
/// by the missing link and starts over. Dropping removes the file unless it got its final name.
pub(super) struct Unnamed {
    path: PathBuf,
    file: File,
    named: bool,
}

impl Unnamed {
    pub(super) fn create(tmp: &Path) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = tmp.join(format!("{}-{n}.part", std::process::id()));
            let file = match OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
            {
                Ok(file) => file,
                // A leftover of an earlier process with our number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e),
            };
            flock(&file, FlockOperation::LockExclusive)?;
            if file.metadata()?.nlink() > 0 {
                return Ok(Self {
                    path,
                    file,
                    named: false,
                });
            }
        }
    }

    /// Copies `source` to the end, counting and hashing what is written.
    pub(super) fn fill(&mut self, source: &mut dyn Read) -> io::Result<Fingerprint> {
        let mut hasher = Hasher::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let n = match source.read(&mut chunk) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            hasher.update(&chunk[..n]);
            self.file.write_all(&chunk[..n])?;
        }
    }

    /// Flushes the bytes, then gives the file its name if the name is free.
    ///
    /// A failed flush is never repeated on the same file: the kernel may have dropped the pages and
    /// would report success. The caller drops this value and starts with a new file.
    pub(super) fn name(mut self, target: &Path) -> io::Result<Named> {
        self.file.sync_all()?;
        match rename_unless_taken(&self.path, target) {
            Ok(()) => {
                self.named = true;
                Ok(Named::Yes)
            }
            Err(Errno::EXIST) => Ok(Named::Taken),
            Err(e) => Err(e.into()),
        }
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if !self.named {
            // What cannot be removed now is swept at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn rename_unless_taken(from: &Path, to: &Path) -> Result<(), Errno> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS and some FUSE file systems do not know the flag; a hard link is create-only as well.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())?;
            rustix::fs::unlinkat(CWD, from, AtFlags::empty())
        }
        other => other,
    }
}

/// Removes temporary files whose writer is gone; returns how many.
pub(super) fn sweep_unnamed(tmp: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(tmp)? {
        let path = entry?.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_file(&path).or_else(ignore_missing)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn ignore_missing(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(e)
    }
}

/// Makes folders whose entries survive a power cut.
#[derive(Debug, Default)]
pub(super) struct Folders {
    /// Folders whose entry in their parent this process has flushed or seen flushed.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Folders {
    /// Enough for the months and days in use; more than that is cheaper to flush again than to keep.
    const REMEMBERED: usize = 4096;

    /// Makes `folder` below `root` with mode 0700, and flushes the parent of every level.
    ///
    /// A level that another process made is flushed as well: that process may not have come to it.
    pub(super) fn make(&self, root: &Path, folder: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        {
            let durable = self.durable.lock().unwrap_or_else(|e| e.into_inner());
            for level in folder.ancestors().take_while(|level| *level != root) {
                if durable.contains(level) {
                    break;
                }
                missing.push(level.to_path_buf());
            }
        }
        for level in missing.into_iter().rev() {
            match DirBuilder::new().mode(0o700).create(&level) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            sync_folder(level.parent().unwrap_or(root))?;
            let mut durable = self.durable.lock().unwrap_or_else(|e| e.into_inner());
            if durable.len() >= Self::REMEMBERED {
                durable.clear();
            }
            durable.insert(level);
        }
        Ok(())
    }
}

/// Flushes the names in a folder.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Hashes what is on the disk: cached pages are let go first, as far as the kernel agrees.
pub(super) fn fingerprint_from_disk(file: &mut File) -> io::Result<Fingerprint> {
    forget_cached(&*file);
    let mut hasher = Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => hasher.update(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(hasher.finish())
}

fn forget_cached(file: &File) {
    // Best effort: a file system without a page cache of its own may refuse.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
}
