//! Who this process is: an id that it holds by a locked file, so that others can see that it is dead.
//!
//! The id names the machine too: only leases of dead processes of this very machine are freed at start,
//! those of other machines wait for their end.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

/// Lives as long as the process; the lock on its file ends with it, whatever kills it.
#[derive(Debug)]
pub struct Instance {
    pub id: String,
    path: PathBuf,
    _lock: File,
}

impl Instance {
    /// Takes a new id in `dir` (the spool's folder of this machine).
    pub fn take(dir: &Path, id: Uuid) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let id = format!("{}/{}", machine(), id.simple());
        let path = dir.join(file_name(&id));
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self {
            id,
            path,
            _lock: file,
        })
    }

    /// Ids of this machine whose process is gone; their files are removed.
    pub fn bury_dead(dir: &Path) -> io::Result<Vec<String>> {
        let mut dead = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(id_of) else {
                continue;
            };
            let Ok(file) = File::open(entry.path()) else {
                continue;
            };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                std::fs::remove_file(entry.path())?;
                dead.push(id);
            }
        }
        Ok(dead)
    }

    /// Ids of this machine whose process lives, this one included.
    pub fn living(dir: &Path) -> io::Result<Vec<String>> {
        let mut living = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if let (Some(id), Ok(file)) = (name.to_str().and_then(id_of), File::open(entry.path()))
                && flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
            {
                living.push(id);
            }
        }
        Ok(living)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Best effort: a file that stays is found dead by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn machine() -> String {
    let name = rustix::system::uname();
    name.nodename()
        .to_string_lossy()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

fn file_name(id: &str) -> String {
    format!("instance-{}.lock", id.replace('/', "@"))
}

fn id_of(name: &str) -> Option<String> {
    let id = name.strip_prefix("instance-")?.strip_suffix(".lock")?;
    Some(id.replace('@', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_instance_is_found_and_a_living_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let living = Instance::take(dir.path(), Uuid::from_u128(1)).unwrap();
        let dead = Instance::take(dir.path(), Uuid::from_u128(2)).unwrap();
        let dead_id = dead.id.clone();
        let path = dir.path().join(file_name(&dead_id));
        drop(dead);
        File::create(path).unwrap(); // as after a kill: the file stays, nobody holds it
        assert_eq!(Instance::bury_dead(dir.path()).unwrap(), [dead_id]);
        assert_eq!(Instance::bury_dead(dir.path()).unwrap(), [] as [String; 0]);
        let found = Instance::living(dir.path()).unwrap();
        assert_eq!(found, std::slice::from_ref(&living.id));
    }
}
