//! The proof that an object lies in the archive as it should.
//!
//! "Archived" is a theorem, not a flag: the database publishes a recording only against proofs, and a
//! proof comes only from comparing what was read back with what was meant. `tests/it/arrows.rs` holds
//! the call of [`ArchiveProof::compare`] to the `archive` room.

use super::digest::Fingerprint;
use super::keys::ObjectKey;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveProof {
    key: ObjectKey,
    fingerprint: Fingerprint,
    version_id: Option<String>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "read back {got_bytes} bytes with hash {got_sha256} from {key}, expected {want_bytes} bytes with hash {want_sha256}"
)]
pub struct Mismatch {
    pub key: ObjectKey,
    pub want_bytes: u64,
    pub want_sha256: super::digest::Sha256,
    pub got_bytes: u64,
    pub got_sha256: super::digest::Sha256,
}

impl ArchiveProof {
    /// Called by the archive alone, with the fingerprint of bytes it has just read from the store.
    pub fn compare(
        key: ObjectKey,
        version_id: Option<String>,
        expected: &Fingerprint,
        read_back: Fingerprint,
    ) -> Result<Self, Mismatch> {
        if *expected == read_back {
            Ok(Self {
                key,
                fingerprint: read_back,
                version_id,
            })
        } else {
            Err(Mismatch {
                key,
                want_bytes: expected.bytes,
                want_sha256: expected.sha256,
                got_bytes: read_back.bytes,
                got_sha256: read_back.sha256,
            })
        }
    }

    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub fn version_id(&self) -> Option<&str> {
        self.version_id.as_deref()
    }
}
