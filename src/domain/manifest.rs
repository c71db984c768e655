//! The manifest: one JSON object beside each recording from which its rows can be made again.
//!
//! It is a pure function of the rows, so writing the same manifest twice gives the same bytes.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::call::{CallFacts, LegFacts};
use super::clock::Timestamp;
use super::deadlines::Clocks;
use super::digest::Sha256;
use super::keys::ObjectKey;
use super::recording::{Part, Role};

pub const SCHEMA: &str = "callvault.manifest/1";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: String,
    pub n: u32,
    /// The manifest's own row, which it cannot find among `objects`.
    pub object_id: Uuid,
    pub written_at: Timestamp,
    pub source: String,
    pub kind: String,
    pub folder: String,
    pub call: ManifestCall,
    pub legs: Vec<LegFacts>,
    pub recording: ManifestRecording,
    /// The recording that this one turned out to be, after both were archived. What lies in this folder
    /// belongs to that recording now, as duplicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub united_into: Option<Uuid>,
    /// Every object of the recording but the manifests, and but what lies in another recording's folder.
    pub objects: Vec<ManifestObject>,
    /// SHA-256 of the notices that announced it, in order of arrival.
    pub notices: Vec<Sha256>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestCall {
    pub call_id: Uuid,
    /// All facts but the legs, which stand beside.
    #[serde(flatten)]
    pub facts: CallFacts,
    pub arrived_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestRecording {
    pub recording_id: Uuid,
    pub provider_recording_id: Option<String>,
    /// All names under which the vendor announces it.
    pub aliases: Vec<String>,
    pub part: Part,
    /// When its sound began, by the vendor's stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Timestamp>,
    /// The vendor's id of the one person whose voice it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party: Option<String>,
    pub arrived_at: Timestamp,
    #[serde(flatten)]
    pub clocks: Clocks,
    /// When the vendor confirmed that the file exists.
    pub confirmed_at: Option<Timestamp>,
    /// Absent in manifest 1, which is written just before.
    pub archived_at: Option<Timestamp>,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestObject {
    pub object_id: Uuid,
    pub role: Role,
    pub n: u32,
    pub key: ObjectKey,
    pub bytes: u64,
    pub sha256: Sha256,
    pub mime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate_hz: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    pub created_at: Timestamp,
    pub verified_at: Option<Timestamp>,
    /// For derived objects: what they were made from, by which tool, with which settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_from: Option<Sha256>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Value>,
}

impl Manifest {
    /// The bytes as they are stored: pretty, because people read them too.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.schema == SCHEMA {
            Ok(manifest)
        } else {
            Err(ManifestError::Schema(manifest.schema))
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("manifest is not valid JSON of schema {SCHEMA}: {0}")]
    Json(#[from] serde_json::Error),
    #[error("manifest has schema {0:?}, this version reads {SCHEMA}")]
    Schema(String),
}
