//! Takes a recording from a disk of this machine into the spool; `fetch` calls it.
//!
//! What a newcomer gets wrong: the path came in a message. It is opened a folder at a time below a root that
//! the operator named, and no link is followed anywhere on the way.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use crate::db::recordings::RecordingRow;
use crate::domain::clock::Timestamp;
use crate::domain::recording::reason;
use crate::domain::retry::not_ready;
use crate::providers::contract::{LocalFile, Provider};
use crate::spool::Scratch;

use super::handoff::{Announced, Fetched, Verdict, Wait};

const CHUNK: usize = 256 * 1024;
const AGAIN: Duration = Duration::from_secs(600);
/// A converter may have changed the ending since the record was written.
const ENDINGS: [&str; 8] = ["wav", "mp3", "ogg", "webm", "m4a", "mp4", "flac", "gsm"];

pub async fn take(
    provider: &dyn Provider,
    row: &RecordingRow,
    wanted: &LocalFile,
    mut scratch: Scratch,
    now: Timestamp,
) -> Result<Fetched, Verdict> {
    let (file, before) = opened(provider, row, wanted, now).await?;
    let settle_ms = i64::try_from(wanted.settle_time.as_millis()).unwrap_or(i64::MAX);
    if now.ms().saturating_sub(before.changed_ms) < settle_ms {
        return Err(not_yet(wanted));
    }
    let mut file = file;
    loop {
        let (back, chunk) = blocking(move || {
            let mut chunk = vec![0; CHUNK];
            let read = file.read(&mut chunk)?;
            chunk.truncate(read);
            Ok((file, chunk))
        })
        .await
        .map_err(|error| unreadable(row, &error))?;
        file = back;
        if chunk.is_empty() {
            break;
        }
        scratch.write(&chunk).await?;
    }
    let after = blocking(move || Look::of(&file))
        .await
        .map_err(|error| unreadable(row, &error))?;
    // Size equal twice (pbx-cdr.md, section 4, rule 5): it was not written to while it was read.
    if after != before || scratch.written() != before.bytes {
        return Err(not_yet(wanted));
    }
    let fingerprint = scratch.finish().await?;
    let is_short = wanted
        .expected_bytes
        .is_some_and(|bytes| bytes != fingerprint.bytes);
    let is_other = wanted
        .expected_sha256
        .as_ref()
        .is_some_and(|told| *told != fingerprint.sha256.hex());
    if is_short || is_other {
        return Err(Verdict::BadBytes {
            reason: reason::TRUNCATED,
            detail: format!(
                "the file's {} bytes are not those that were announced",
                fingerprint.bytes
            ),
        });
    }
    Ok(Fetched {
        scratch,
        fingerprint,
        plain_http: false,
        packed: None,
        // Held against what was announced above.
        announced: Announced::default(),
        at: None,
    })
}

/// What must be the same before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    bytes: u64,
    changed_ms: i64,
    inode: u64,
}

impl Look {
    fn of(file: &File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
        }
        let ms = |seconds: i64, nanos: i64| seconds.saturating_mul(1000) + nanos / 1_000_000;
        Ok(Self {
            bytes: metadata.len(),
            changed_ms: ms(metadata.mtime(), metadata.mtime_nsec()),
            inode: metadata.ino(),
        })
    }
}

async fn opened(
    provider: &dyn Provider,
    row: &RecordingRow,
    wanted: &LocalFile,
    now: Timestamp,
) -> Result<(File, Look), Verdict> {
    let mut refused = None;
    for (root, below) in candidates(wanted, row.call.ended_at.unwrap_or(now)) {
        let found = blocking(move || {
            let file = open_below(&root, &below)?;
            let look = Look::of(&file)?;
            Ok((file, look))
        })
        .await;
        match found {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) => Err(unreadable(row, &error)),
        None if is_below_a_root(wanted) => Err(missing(provider, row, now)),
        None => {
            tracing::warn!(recording = %row.recording_id, "the file lies below none of file_roots");
            Err(forbidden())
        }
    }
}

fn is_below_a_root(wanted: &LocalFile) -> bool {
    let path = Path::new(&wanted.path);
    !wanted.roots.is_empty()
        && (!path.is_absolute() || wanted.roots.iter().any(|root| path.starts_with(root)))
}

/// Roots and paths below them where the file may lie, the most likely first.
fn candidates(wanted: &LocalFile, around: Timestamp) -> Vec<(PathBuf, PathBuf)> {
    let told = Path::new(&wanted.path);
    let mut places = Vec::new();
    for root in &wanted.roots {
        let below: Vec<PathBuf> = if told.is_absolute() {
            let inside = told.strip_prefix(root).ok();
            inside.map(Path::to_owned).into_iter().collect()
        } else {
            // FreePBX and its like file by date.
            let days = [0, -24, 24].map(|hours| around.plus_ms(hours * 3_600_000).date());
            let dated =
                days.map(|day| PathBuf::from(day.format("%Y/%m/%d").to_string()).join(told));
            std::iter::once(told.to_owned()).chain(dated).collect()
        };
        for path in below {
            places.push((root.clone(), path.clone()));
            let ending = path.extension().and_then(OsStr::to_str);
            if let Some(ending) = ending.filter(|ending| ENDINGS.contains(ending)) {
                let others = ENDINGS.iter().filter(|other| **other != ending);
                places.extend(others.map(|other| (root.clone(), path.with_extension(other))));
            }
        }
    }
    places
}

/// Opens a regular file below `root`, following no link.
pub fn open_below(root: &Path, below: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut parts = Vec::new();
    for part in below.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::CurDir => {}
            _ => return Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied)),
        }
    }
    let Some((name, folders)) = parts.split_last() else {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
    };
    // The root itself is the operator's word, a link in it is theirs too.
    let mut at: OwnedFd = open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    for folder in folders {
        at = step(&at, folder, flags | OFlags::DIRECTORY)?;
    }
    // A pipe must not make us wait.
    Ok(File::from(step(&at, name, flags | OFlags::NONBLOCK)?))
}

fn step(at: &OwnedFd, name: &OsStr, flags: OFlags) -> std::io::Result<OwnedFd> {
    openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(|error| match error {
        Errno::LOOP | Errno::MLINK => std::io::Error::from(std::io::ErrorKind::PermissionDenied),
        other => other.into(),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::other(
            "reading the file ended before its time",
        )),
    }
}

/// Not there: it may be moved there yet, until the time that files are kept is over.
fn missing(provider: &dyn Provider, row: &RecordingRow, now: Timestamp) -> Verdict {
    if row.clocks.is_over(row.link_renewable, now) {
        return Verdict::Gone {
            reason: reason::EXPIRED_AT_PROVIDER,
            evidence: format!("no such file, and the time that files are kept ended before {now}"),
        };
    }
    let plan = provider.waiting_plan();
    let since = row.call.ended_at.unwrap_or(row.arrived_at);
    let deadline = since.plus(plan.ready_deadline);
    Verdict::NotReady {
        wait: not_ready(&plan.waits, row.not_ready_tries, now, Some(deadline)),
    }
}

/// There, and still being written.
fn not_yet(wanted: &LocalFile) -> Verdict {
    Verdict::NotReady {
        wait: wanted.settle_time.max(Duration::from_secs(1)) * 2,
    }
}

fn forbidden() -> Verdict {
    Verdict::Later {
        reason: reason::ADDRESS_FORBIDDEN,
        wait: Wait::Exactly(AGAIN),
    }
}

fn unreadable(row: &RecordingRow, error: &std::io::Error) -> Verdict {
    tracing::warn!(recording = %row.recording_id, %error, "file not taken");
    match error.kind() {
        std::io::ErrorKind::PermissionDenied
        | std::io::ErrorKind::InvalidInput
        | std::io::ErrorKind::NotADirectory => forbidden(),
        _ => Verdict::later(reason::PROVIDER_UNREACHABLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_leads_out_and_no_dots_climb() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(root.join("a/b c.wav"), b"x").unwrap();
        std::fs::write(outside.join("secret"), b"s").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("out")).unwrap();
        std::os::unix::fs::symlink(outside.join("secret"), root.join("file")).unwrap();
        assert!(open_below(&root, Path::new("a/b c.wav")).is_ok());
        for path in [
            "out/secret",
            "file",
            "../outside/secret",
            "a/../a/b c.wav",
            "",
            "a",
        ] {
            let opened = open_below(&root, Path::new(path)).and_then(|file| Look::of(&file));
            assert!(opened.is_err(), "{path}");
        }
    }
}
