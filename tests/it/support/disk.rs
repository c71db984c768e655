//! A small file system of its own, to be filled.

use std::path::Path;
use std::process::{Command, Stdio};

/// A tmpfs; unmounted on drop.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, said clearly, when this user may not mount one. `size` as mount takes it: `1m`.
    pub fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: this user may not mount a small file system");
            return None;
        }
        Some(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
