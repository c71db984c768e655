//! The archive in a directory: for one machine, for trying things out, and for backups of a bucket.
//!
//! Objects are files under their keys, mode 0600. What a newcomer gets wrong: a file counts only once its
//! bytes *and* the folder entries that lead to it are flushed; `put` answers no earlier.

mod place;
mod walk;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use rustix::fs::Access;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use self::place::{CHUNK_BYTES, Folders, Named, Unnamed, fingerprint_from_disk, sync_folder};
use super::contract::{
    Archive, ArchiveError, ArchiveErrorKind, ByteRange, ObjectInfo, ObjectReader, ProbeFinding,
    Source, Stored, check_key,
};
use super::probe;
use crate::domain::digest::Fingerprint;
use crate::domain::keys::ObjectKey;
use crate::domain::proof::ArchiveProof;

/// Where unfinished files lie: in the same file system, so that naming them moves no bytes.
const TMP: &str = "_callvault/tmp/";
/// What a new file is filled with to see whether one can be made.
const PROBE: &[u8] = b"callvault probe\n";

#[derive(Debug, Clone)]
pub struct DiskArchive {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    folders: Folders,
}

impl DiskArchive {
    /// Makes the directory when it is missing (its parent's parents too) and removes the unfinished
    /// files of writers that are gone.
    pub async fn open(root: &Path) -> Result<Self, ArchiveError> {
        let root = root.to_path_buf();
        blocking(move || {
            let opened = || {
                make_root(&root)?;
                // Nothing is made here: whoever opens may find that this is not its archive.
                if root.join(TMP).is_dir() {
                    place::sweep_unnamed(&root.join(TMP))?;
                }
                Ok(Folders::default())
            };
            match opened() {
                Ok(folders) => Ok(Self {
                    inner: Arc::new(Inner { root, folders }),
                }),
                // Reading, listing and verifying work on a read-only copy; `put` will say it.
                Err(e) if !is_writable_error(&e) && root.is_dir() => Ok(Self {
                    inner: Arc::new(Inner {
                        root,
                        folders: Folders::default(),
                    }),
                }),
                Err(e) => Err(write_error(&root, "opening the archive directory", e)),
            }
        })
        .await
    }

    /// Makes a new file under a temporary name and removes it: an object that is there already proves no right to
    /// make another.
    pub(super) async fn makes_files(&self) -> Result<(), ArchiveError> {
        let inner = self.inner.clone();
        blocking(move || {
            let tmp = inner.root.join(TMP);
            let made = || {
                // Folders of sources are made beside this one.
                rustix::fs::access(&inner.root, Access::WRITE_OK | Access::EXEC_OK)?;
                inner.folders.make(&inner.root, &tmp)?;
                Unnamed::create(&tmp)?.fill(&mut { PROBE }).map(|_| ())
            };
            made().map_err(|e| write_error(&inner.root, "making a new file", e))
        })
        .await
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }
}

/// True for errors that are not about being forbidden to write.
fn is_writable_error(e: &io::Error) -> bool {
    !matches!(
        e.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

fn make_root(root: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if root.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)?;
    root.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map_or(Ok(()), sync_folder)
}

impl Inner {
    fn path_of(&self, key: &ObjectKey) -> Result<PathBuf, ArchiveError> {
        check_key(key)?;
        if key.as_str().starts_with(TMP) {
            return Err(ArchiveError::new(
                ArchiveErrorKind::Other,
                format!("the key {key} lies where unfinished files are kept"),
            ));
        }
        Ok(self.root.join(key.as_str()))
    }

    fn put(
        &self,
        key: &ObjectKey,
        source: &mut dyn Read,
        source_name: &str,
        expected: &Fingerprint,
    ) -> Result<(), ArchiveError> {
        let target = self.path_of(key)?;
        if self.is_there_already(key, &target, expected)? {
            return Ok(());
        }
        let failed = |what: &str, e| write_error(&self.root, &format!("{what} {key}"), e);
        let folder = target.parent().unwrap_or(&self.root);
        self.folders
            .make(&self.root, folder)
            .map_err(|e| failed("making the folder of", e))?;
        self.folders
            .make(&self.root, &self.root.join(TMP))
            .map_err(|e| failed("making the folder of", e))?;
        let mut unnamed =
            Unnamed::create(&self.root.join(TMP)).map_err(|e| failed("writing", e))?;
        let written = unnamed.fill(source).map_err(|e| failed("writing", e))?;
        if written != *expected {
            return Err(ArchiveError::new(
                ArchiveErrorKind::Mismatch,
                format!(
                    "{source_name} for {key} holds {} bytes with sha256 {}, expected {} bytes with {}",
                    written.bytes, written.sha256, expected.bytes, expected.sha256
                ),
            ));
        }
        match unnamed.name(&target).map_err(|e| failed("naming", e))? {
            Named::Yes => sync_folder(folder).map_err(|e| failed("flushing the folder of", e)),
            Named::Taken if self.is_there_already(key, &target, expected)? => Ok(()),
            Named::Taken => Err(ArchiveError::new(
                ArchiveErrorKind::Other,
                format!("{key} appeared and went away while it was written"),
            )),
        }
    }

    /// Whether the object lies there with these bytes; other bytes are a conflict.
    ///
    /// Flushes it again: whoever wrote it may have been killed between naming and flushing the folder.
    fn is_there_already(
        &self,
        key: &ObjectKey,
        target: &Path,
        expected: &Fingerprint,
    ) -> Result<bool, ArchiveError> {
        let mut file = match File::open(target) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(read_error(key, e)),
        };
        let found = fingerprint_from_disk(&mut file).map_err(|e| read_error(key, e))?;
        if found != *expected {
            return Err(ArchiveError::new(
                ArchiveErrorKind::Conflict,
                format!(
                    "{key} is taken by {} bytes with sha256 {}; nothing is overwritten",
                    found.bytes, found.sha256
                ),
            ));
        }
        let folder = target.parent().unwrap_or(&self.root);
        file.sync_all()
            .and_then(|()| sync_folder(folder))
            .map_err(|e| write_error(&self.root, &format!("flushing {key}"), e))?;
        Ok(true)
    }
}

#[async_trait]
impl Archive for DiskArchive {
    fn describe(&self) -> String {
        format!("directory {}", self.inner.root.display())
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.inner.root)
    }

    async fn put(
        &self,
        key: &ObjectKey,
        source: Source<'_>,
        expected: &Fingerprint,
        _mime: &str,
    ) -> Result<Stored, ArchiveError> {
        let (inner, key, expected) = (self.inner.clone(), key.clone(), *expected);
        match source {
            Source::File(path) => {
                let path = path.to_path_buf();
                blocking(move || {
                    let mut file = File::open(&path).map_err(|e| local_error(&path, e))?;
                    inner.put(&key, &mut file, "the local file", &expected)
                })
                .await?;
            }
            Source::Bytes(bytes) => {
                blocking(move || inner.put(&key, &mut &bytes[..], "the content", &expected))
                    .await?;
            }
        }
        Ok(Stored { version_id: None })
    }

    async fn read_back(
        &self,
        key: &ObjectKey,
        _version: Option<&str>,
        expected: &Fingerprint,
    ) -> Result<ArchiveProof, ArchiveError> {
        let (inner, key, expected) = (self.inner.clone(), key.clone(), *expected);
        blocking(move || {
            let path = inner.path_of(&key)?;
            let mut file = File::open(path).map_err(|e| read_error(&key, e))?;
            let found = fingerprint_from_disk(&mut file).map_err(|e| read_error(&key, e))?;
            Ok(ArchiveProof::compare(key, None, &expected, found)?)
        })
        .await
    }

    async fn open(
        &self,
        key: &ObjectKey,
        _version: Option<&str>,
        range: Option<ByteRange>,
    ) -> Result<ObjectReader, ArchiveError> {
        let path = self.inner.path_of(key)?;
        let failed = |e| read_error(key, e);
        let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
        let metadata = file.metadata().await.map_err(failed)?;
        if !metadata.is_file() {
            return Err(read_error(key, io::ErrorKind::NotFound.into()));
        }
        let total_bytes = metadata.len();
        let (start, wanted) = match range {
            None => (0, total_bytes),
            Some(range) => {
                let range = range
                    .within(total_bytes)
                    .ok_or_else(|| range_error(key, range, total_bytes))?;
                (range.start, range.bytes())
            }
        };
        file.seek(io::SeekFrom::Start(start))
            .await
            .map_err(failed)?;
        let pieces = ReaderStream::with_capacity(file.take(wanted), CHUNK_BYTES);
        let key = key.clone();
        let body = pieces.map(move |piece| piece.map_err(|e| read_error(&key, e)));
        Ok(ObjectReader {
            total_bytes,
            body: exactly(wanted, body.boxed()),
        })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, ArchiveError> {
        match tokio::fs::metadata(self.inner.path_of(key)?).await {
            Ok(metadata) if metadata.is_file() => Ok(Some(ObjectInfo {
                key: key.clone(),
                bytes: metadata.len(),
            })),
            Ok(_) => Ok(None),
            Err(e) if is_missing(&e) => Ok(None),
            Err(e) => Err(read_error(key, e)),
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, ArchiveError>> {
        let (tx, rx) = tokio::sync::mpsc::channel(256);
        let (inner, prefix) = (self.inner.clone(), prefix.to_owned());
        // Started with the first poll, ends when the listener goes away.
        let start = async move {
            tokio::task::spawn_blocking(move || {
                let mut send = |info| tx.blocking_send(Ok(info)).is_ok();
                if let Err(e) = walk::walk(&inner.root, &prefix, TMP, &mut send) {
                    let what = format!("listing {}{prefix}", inner.root.display());
                    let error = ArchiveError::new(kind_of_reading(&e), what).with_source(e);
                    let _ = tx.blocking_send(Err(error));
                }
            });
            stream::unfold(rx, async |mut rx| rx.recv().await.map(|item| (item, rx)))
        };
        stream::once(start).flatten().boxed()
    }

    async fn probe(&self) -> Vec<ProbeFinding> {
        probe::of_directory(self).await
    }
}

/// Ends in an error when fewer than `wanted` bytes come.
pub(super) fn exactly(
    wanted: u64,
    body: BoxStream<'static, Result<Bytes, ArchiveError>>,
) -> BoxStream<'static, Result<Bytes, ArchiveError>> {
    stream::unfold(Some((body, 0_u64)), move |state| async move {
        let (mut body, seen) = state?;
        match body.next().await {
            Some(Ok(piece)) => {
                let seen = seen + piece.len() as u64;
                Some((Ok(piece), Some((body, seen))))
            }
            Some(Err(e)) => Some((Err(e), None)),
            None if seen == wanted => None,
            None => Some((
                Err(ArchiveError::new(
                    ArchiveErrorKind::Unavailable,
                    format!("the object broke off after {seen} of {wanted} bytes"),
                )),
                None,
            )),
        }
    })
    .boxed()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(ArchiveError::new(
            ArchiveErrorKind::Other,
            "work on the archive directory broke off",
        )
        .with_source(e))
    })
}

fn is_missing(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn write_error(root: &Path, what: &str, e: io::Error) -> ArchiveError {
    let root = root.display();
    let (kind, advice) = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
            ArchiveErrorKind::Full,
            format!("no space left under {root}; free some or move the archive to a larger disk"),
        ),
        io::ErrorKind::ReadOnlyFilesystem => (
            ArchiveErrorKind::ReadOnly,
            format!("{root} is on a read-only file system; mount it writable"),
        ),
        io::ErrorKind::PermissionDenied => (
            ArchiveErrorKind::ReadOnly,
            format!("this user may not write under {root}; give it the folder with chown"),
        ),
        _ => (
            ArchiveErrorKind::Other,
            format!("look at the disk of {root}"),
        ),
    };
    let error = ArchiveError::new(kind, format!("{what}: {advice}"));
    let error = if kind == ArchiveErrorKind::Other {
        // A disk that errs once may be mended; the recording waits for that.
        error.with_advice(crate::domain::retry::RetryAdvice::Backoff)
    } else {
        error
    };
    error.with_source(e)
}

fn kind_of_reading(e: &io::Error) -> ArchiveErrorKind {
    match e.kind() {
        io::ErrorKind::PermissionDenied => ArchiveErrorKind::Refused,
        _ if is_missing(e) => ArchiveErrorKind::NotFound,
        _ => ArchiveErrorKind::Unavailable,
    }
}

fn read_error(key: &ObjectKey, e: io::Error) -> ArchiveError {
    ArchiveError::new(kind_of_reading(&e), format!("reading {key}")).with_source(e)
}

fn local_error(path: &Path, e: io::Error) -> ArchiveError {
    let what = format!("reading the local file {}", path.display());
    ArchiveError::new(ArchiveErrorKind::Other, what).with_source(e)
}

pub(super) fn range_error(key: &ObjectKey, range: ByteRange, total_bytes: u64) -> ArchiveError {
    ArchiveError::new(
        ArchiveErrorKind::Other,
        format!(
            "bytes {} to {} of {key} were asked for, it has {total_bytes}",
            range.start, range.end_inclusive
        ),
    )
}
