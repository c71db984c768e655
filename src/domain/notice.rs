//! A notice: a message to us, kept word for word.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clock::Timestamp;
use super::digest::Sha256;

/// How a notice came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    Push,
    Queue,
    Poll,
    Import,
    Folder,
}

impl Door {
    pub const ALL: [Door; 5] = [
        Door::Push,
        Door::Queue,
        Door::Poll,
        Door::Import,
        Door::Folder,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Door::Push => "push",
            Door::Queue => "queue",
            Door::Poll => "poll",
            Door::Import => "import",
            Door::Folder => "folder",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|door| door.as_str() == text)
    }
}

/// What reading a notice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeResult {
    /// Stored, not read yet.
    Waiting,
    /// Its facts are in the index.
    Read,
    /// Understood, and says nothing that concerns a call (unknown actions, address checks).
    Ignored,
    /// Authentic, kept, and not understood; a better parser can read it later.
    Unreadable,
}

impl NoticeResult {
    pub const fn as_str(self) -> &'static str {
        match self {
            NoticeResult::Waiting => "waiting",
            NoticeResult::Read => "read",
            NoticeResult::Ignored => "ignored",
            NoticeResult::Unreadable => "unreadable",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Waiting, Self::Read, Self::Ignored, Self::Unreadable]
            .into_iter()
            .find(|result| result.as_str() == text)
    }
}

/// A notice as it is stored, and as it lies in the journal while the database is away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub notice_id: Uuid,
    pub source: String,
    pub kind: String,
    pub door: Door,
    /// What the called path stands for, in the vendor's words; empty when it says nothing.
    pub topic: String,
    pub method: String,
    /// The raw query string, when the vendor sends its fields there.
    pub query: String,
    /// Headers of interest only; never `Authorization` or cookies.
    pub headers: Vec<(String, String)>,
    #[serde(with = "base64_bytes")]
    pub body: Vec<u8>,
    pub arrived_at: Timestamp,
    /// SHA-256 of the body (of the query, for a notice without a body).
    pub sha256: Sha256,
    /// Equal for a repeat of the same message from the same source, and only then.
    pub dedup_key: String,
    /// Set when `admit` already knows that nobody can read it.
    pub unreadable: Option<String>,
}

mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}
