//! Whole files that outlive their lease: `{recording_id}.{sha256}.kept`, until the archive has them.
//!
//! What a newcomer gets wrong: the name says which bytes lie here, not who fetched them. Whoever holds the
//! recording's lease on this machine may take the file; that its bytes are the ones named is read, not believed.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use super::{Inner, Spool, SpoolError, blocking, remove_unless_held};
use crate::domain::digest::{Fingerprint, Hasher, Sha256};

const EXTENSION: &str = "kept";

pub(super) fn path_of(dir: &Path, recording_id: Uuid, sha256: &Sha256) -> PathBuf {
    dir.join(format!("{recording_id}.{}.{EXTENSION}", sha256.hex()))
}

/// Gives a finished file its lasting name. It is on the disk under that name afterwards.
pub(super) fn rename(inner: &Inner, from: &Path, to: &Path, bytes: u64) -> Result<(), SpoolError> {
    let mut kept = inner.kept();
    let replaced = fs::metadata(to).is_ok();
    let renamed = fs::rename(from, to).and_then(|()| File::open(&inner.dir)?.sync_all());
    renamed.map_err(|e| SpoolError::io("keeping", to, e))?;
    if !replaced {
        *kept += bytes;
    }
    Ok(())
}

/// Takes a kept file away, the room it took with it.
pub(super) fn forget(inner: &Inner, path: &Path, bytes: u64) {
    let mut kept = inner.kept();
    if fs::remove_file(path).is_ok() {
        *kept = kept.saturating_sub(bytes);
    }
}

/// Counts anew: other processes on this folder keep and take files too.
pub(super) fn recount(inner: &Inner) -> Result<(), SpoolError> {
    let mut kept = inner.kept();
    let files = list(&inner.dir)?;
    *kept = files
        .iter()
        .filter_map(|(_, _, path)| fs::metadata(path).ok())
        .map(|metadata| metadata.len())
        .sum();
    Ok(())
}

/// What lies under a kept file's name.
pub(super) enum Found {
    Nothing,
    /// Somebody on this machine works with it.
    Held,
    Whole(File, Hasher),
}

/// The file, locked, when it lies here whole and nobody holds it. One that is not what its name says is
/// of no use to anybody and is removed.
pub(super) fn take(inner: &Inner, path: &Path, told: &Fingerprint) -> Result<Found, SpoolError> {
    let failed = |e| SpoolError::io("taking up", path, e);
    let mut file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(failed(e)),
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(Found::Held);
    }
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    if hasher.clone().finish() != *told {
        tracing::warn!(path = %path.display(), "kept file is not what its name says, removing it");
        forget(inner, path, hasher.bytes());
        return Ok(Found::Nothing);
    }
    // Swept between opening and locking: it lives as long as we hold it, but no path leads there.
    Ok(match path.exists() {
        true => Found::Whole(file, hasher),
        false => Found::Nothing,
    })
}

fn list(dir: &Path) -> Result<Vec<(Uuid, Sha256, PathBuf)>, SpoolError> {
    let failed = |e| SpoolError::io("listing", dir, e);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some((recording_id, sha256)) = entry.file_name().to_str().and_then(named) {
            files.push((recording_id, sha256, entry.path()));
        }
    }
    Ok(files)
}

fn named(name: &str) -> Option<(Uuid, Sha256)> {
    let mut parts = name.split('.');
    let recording_id = parts.next()?.parse().ok()?;
    let sha256 = parts.next()?.parse().ok()?;
    (parts.next()? == EXTENSION && parts.next().is_none()).then_some((recording_id, sha256))
}

impl Spool {
    /// The files that wait for the archive, of all processes on this folder.
    pub async fn kept(&self) -> Result<Vec<(Uuid, Sha256)>, SpoolError> {
        let dir = self.inner.dir.clone();
        let files = blocking(move || list(&dir)).await?;
        Ok(files
            .into_iter()
            .map(|(id, sha256, _)| (id, sha256))
            .collect())
    }

    /// Removes a kept file that nobody waits for, unless somebody holds it; gives its length.
    pub async fn drop_kept(
        &self,
        recording_id: Uuid,
        sha256: &Sha256,
    ) -> Result<Option<u64>, SpoolError> {
        let path = path_of(&self.inner.dir, recording_id, sha256);
        let inner = self.inner.clone();
        blocking(move || {
            let mut kept = inner.kept();
            let removed = remove_unless_held(&path)?;
            *kept = kept.saturating_sub(removed.unwrap_or(0));
            Ok(removed)
        })
        .await
    }

    /// Less than half of the spool is taken: there is room for what could be fetched again, too.
    pub fn has_plenty(&self) -> bool {
        let taken = *self.inner.kept() + self.reserved_bytes();
        taken < self.inner.limit_bytes / 2
    }
}
