//! The section `[spool]` of the configuration.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::domain::units::ByteSize;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub path: PathBuf,
    /// For files in flight of one process; the journal comes on top.
    pub limit: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: "callvault-data/spool".into(),
            limit: ByteSize::from_bytes(20 << 30),
        }
    }
}

impl Settings {
    pub fn limit_bytes(&self) -> u64 {
        self.limit.bytes()
    }

    /// Relative paths count from `base_dir`.
    pub fn dir(&self, base_dir: &Path) -> PathBuf {
        base_dir.join(&self.path)
    }
}
