//! Names of objects in the archive. Nobody formats an object key by hand.
//!
//! Keys are built from our own ids, dates and hashes and from the source's name (which configuration
//! holds to `[a-z0-9-]`); nothing a vendor sends ever becomes part of a key.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clock::Timestamp;
use super::digest::Sha256;

/// A full key in the archive, the configured prefix not included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// A key that was stored before (in a row, a manifest or a listing).
    pub fn stored(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the first dot of the name; empty when there is none.
    pub fn extension(&self) -> &str {
        let name = self
            .0
            .rsplit_once('/')
            .map_or(self.as_str(), |(_, name)| name);
        name.split_once('.').map_or("", |(_, extension)| extension)
    }

    /// `_callvault/archive.json`: the marker that carries the archive's id.
    pub fn marker() -> Self {
        Self("_callvault/archive.json".into())
    }

    /// `_callvault/move.json`: says whose move an archive that is not one yet is the end of.
    pub fn move_note() -> Self {
        Self("_callvault/move.json".into())
    }

    /// Belongs to the store itself and to no recording; an archive that moves gets its own.
    pub fn stays_behind(&self) -> bool {
        *self == Self::marker()
            || *self == Self::move_note()
            || self.0.starts_with("_callvault/probe-")
    }

    /// Below `_callvault/`: nothing of a recording's.
    pub fn is_of_the_house(&self) -> bool {
        self.0.starts_with("_callvault/")
    }

    /// `_callvault/backups/{name}`: a copy of the index; created once, never deleted.
    pub fn backup(name: &str) -> Self {
        Self(format!("_callvault/backups/{name}"))
    }

    /// `_callvault/probe-{name}`: constant content, created once, never deleted.
    pub fn probe(name: &str) -> Self {
        Self(format!("_callvault/probe-{name}"))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of one recording, `{source}/{yyyy}/{mm}/{dd}/{recording_id}/`, fixed when it is first staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(String);

impl Folder {
    /// `at` is the start of the call, else the arrival of its first notice; its date in UTC counts.
    pub fn of_recording(source: &str, at: Timestamp, recording_id: Uuid) -> Self {
        Self(format!(
            "{source}/{}/{recording_id}/",
            at.date().format("%Y/%m/%d")
        ))
    }

    pub fn stored(folder: impl Into<String>) -> Self {
        Self(folder.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder of the call that the recording in this one belongs to: beside it, under the same day.
    pub fn of_call(&self, call_id: Uuid) -> Self {
        let day = self.0.trim_end_matches('/').rsplit_once('/');
        Self(format!(
            "{}/call-{call_id}/",
            day.map_or("", |(day, _)| day)
        ))
    }

    /// The folder in which an object lies.
    pub fn holding(key: &ObjectKey) -> Self {
        let folder = key.0.rsplit_once('/');
        Self(folder.map_or(String::new(), |(folder, _)| format!("{folder}/")))
    }

    /// `ext` comes from the bytes, never from the vendor's name for the file.
    pub fn original(&self, sha256: &Sha256, ext: &str) -> ObjectKey {
        ObjectKey(format!("{}original-{}.{ext}", self.0, sha256.short()))
    }

    pub fn access(&self, n: u32) -> ObjectKey {
        ObjectKey(format!("{}access-{n:04}.mp3", self.0))
    }

    pub fn waveform(&self, n: u32) -> ObjectKey {
        ObjectKey(format!("{}waveform-{n:04}.json", self.0))
    }

    pub fn manifest(&self, n: u32) -> ObjectKey {
        ObjectKey(format!("{}manifest-{n:04}.json", self.0))
    }
}

/// The number of a manifest, when `key` names one.
pub fn manifest_number(key: &str) -> Option<u32> {
    let name = key.rsplit('/').next()?;
    let digits = name.strip_prefix("manifest-")?.strip_suffix(".json")?;
    (digits.len() >= 4 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_contract() {
        let at = Timestamp::parse("2024-03-05T23:59:59.999Z").unwrap();
        let folder = Folder::of_recording("feiyu-main", at, Uuid::nil());
        let base = "feiyu-main/2024/03/05/00000000-0000-0000-0000-000000000000/";
        assert_eq!(folder.as_str(), base);
        assert_eq!(
            folder.original(&Sha256::of(b"abc"), "mp3").as_str(),
            format!("{base}original-ba7816bf8f01cfea.mp3")
        );
        assert_eq!(folder.access(1).as_str(), format!("{base}access-0001.mp3"));
        let call = folder.of_call(Uuid::from_u128(7));
        assert_eq!(
            call.access(2).as_str(),
            "feiyu-main/2024/03/05/call-00000000-0000-0000-0000-000000000007/access-0002.mp3"
        );
        assert_eq!(Folder::holding(&call.access(2)), call);
        assert_eq!(
            folder.manifest(12).as_str(),
            format!("{base}manifest-0012.json")
        );
        assert_eq!(manifest_number(folder.manifest(12).as_str()), Some(12));
        assert_eq!(manifest_number("a/manifest-x.json"), None);
        assert_eq!(manifest_number("a/waveform-0001.json"), None);
    }
}
