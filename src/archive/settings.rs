//! The section `[archive]` of the configuration, and the one place that turns it into a store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::contract::{Archive, ArchiveError, ArchiveErrorKind};
use super::disk::DiskArchive;
use super::s3::S3Archive;
use crate::domain::clock::SharedClock;
use crate::domain::secret::Secret;
use crate::domain::units::Span;

/// `[archive]`. With `kind = "directory"` a key of `s3` is an error: somebody meant a bucket. With
/// `kind = "s3"` a `path` is ignored, so that the environment can turn a directory into a bucket.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub kind: Kind,
    /// `directory`: where the objects lie. Default `callvault-data/archive`.
    pub path: Option<PathBuf>,
    /// The keys of `s3`.
    pub bucket: Option<String>,
    /// Put in front of every key, as it is.
    pub prefix: Option<String>,
    pub region: Option<String>,
    /// Base address of a store that is not AWS.
    pub endpoint: Option<String>,
    /// Default: true when `endpoint` is set.
    pub force_path_style: Option<bool>,
    pub object_lock: ObjectLock,
    pub lock_for: Option<Span>,
    /// Both or neither; without them the AWS credential chain is asked.
    pub access_key_id: Option<Secret>,
    pub secret_access_key: Option<Secret>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    #[default]
    Directory,
    S3,
}

/// Whether the store itself is asked to keep objects from being changed or deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectLock {
    #[default]
    Off,
    Governance,
    Compliance,
}

impl fmt::Display for ObjectLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        })
    }
}

impl Settings {
    pub const DEFAULT_PATH: &'static str = "callvault-data/archive";

    /// What is wrong with the combination of keys, as a sentence; the types alone cannot say it.
    pub fn validate(&self) -> Result<(), String> {
        match self.kind {
            Kind::Directory => self.validate_directory(),
            Kind::S3 => self.validate_s3(),
        }
    }

    fn validate_directory(&self) -> Result<(), String> {
        let foreign = [
            ("bucket", self.bucket.is_some()),
            ("prefix", self.prefix.is_some()),
            ("region", self.region.is_some()),
            ("endpoint", self.endpoint.is_some()),
            ("force_path_style", self.force_path_style.is_some()),
            ("lock_for", self.lock_for.is_some()),
            ("access_key_id", self.access_key_id.is_some()),
            ("secret_access_key", self.secret_access_key.is_some()),
            ("object_lock", self.object_lock != ObjectLock::Off),
        ];
        match foreign.iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(format!(
                "[archive] {key} belongs to kind = \"s3\"; add that line or remove {key}"
            )),
            None => Ok(()),
        }
    }

    /// Where the objects lie, of kind `directory`.
    pub fn folder(&self, base_dir: &std::path::Path) -> Option<PathBuf> {
        let path = self.path.clone();
        (self.kind == Kind::Directory)
            .then(|| base_dir.join(path.unwrap_or_else(|| Self::DEFAULT_PATH.into())))
    }

    fn validate_s3(&self) -> Result<(), String> {
        if self.bucket.as_deref().unwrap_or_default().is_empty() {
            return Err("[archive] kind = \"s3\" needs a bucket".into());
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return Err(
                "[archive] access_key_id and secret_access_key go together; set both or neither"
                    .into(),
            );
        }
        let prefix = self.prefix.as_deref().unwrap_or_default();
        if prefix.starts_with('/')
            || prefix.contains("//")
            || prefix.contains('\\')
            || prefix.chars().any(char::is_control)
            || prefix.split('/').any(|part| part == "." || part == "..")
        {
            return Err(format!(
                "[archive] prefix {prefix:?} cannot start a key; write it like \"calls/\""
            ));
        }
        if let Some(endpoint) = &self.endpoint
            && !endpoint.starts_with("https://")
            && !endpoint.starts_with("http://")
        {
            return Err(format!(
                "[archive] endpoint {endpoint:?} must start with https:// or http://"
            ));
        }
        match (self.object_lock, self.lock_for) {
            (ObjectLock::Off, Some(_)) => Err(
                "[archive] lock_for needs object_lock = \"governance\" or \"compliance\"".into(),
            ),
            (ObjectLock::Off, None) => Ok(()),
            (lock, None) => Err(format!(
                "[archive] object_lock = \"{lock}\" needs lock_for, for example \"7y\""
            )),
            (_, Some(span)) if span.duration() < Duration::from_secs(86_400) => {
                Err("[archive] lock_for must be at least one day".into())
            }
            (_, Some(_)) => Ok(()),
        }
    }

    /// The folder of the kind `directory`; relative paths count from `base_dir`.
    pub fn directory(&self, base_dir: &Path) -> PathBuf {
        base_dir.join(
            self.path
                .as_deref()
                .unwrap_or(Path::new(Self::DEFAULT_PATH)),
        )
    }
}

/// Opens the store that `[archive]` names. Relative paths count from `base_dir`.
///
/// A directory is made when it is missing; a bucket is not asked for anything here, so that a store
/// which is away does not keep the process from starting.
pub async fn open_archive(
    settings: &Settings,
    base_dir: &Path,
    clock: SharedClock,
) -> Result<Arc<dyn Archive>, ArchiveError> {
    settings
        .validate()
        .map_err(|what| ArchiveError::new(ArchiveErrorKind::Other, what))?;
    Ok(match settings.kind {
        Kind::Directory => Arc::new(DiskArchive::open(&settings.directory(base_dir)).await?),
        Kind::S3 => Arc::new(S3Archive::open(settings, clock).await?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> Settings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn keys_that_do_not_go_together_are_refused_with_the_way_out() {
        let s3 = |extra: serde_json::Value| {
            let mut all = serde_json::json!({ "kind": "s3", "bucket": "b" });
            all.as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            read(all)
        };
        let wrong = [
            (read(serde_json::json!({ "bucket": "b" })), "kind = \"s3\""),
            (read(serde_json::json!({ "kind": "s3" })), "needs a bucket"),
            (
                s3(serde_json::json!({ "access_key_id": "a" })),
                "both or neither",
            ),
            (s3(serde_json::json!({ "prefix": "/a" })), "calls/"),
            (s3(serde_json::json!({ "prefix": "a/../b/" })), "calls/"),
            (
                s3(serde_json::json!({ "endpoint": "host:9000" })),
                "https://",
            ),
            (
                s3(serde_json::json!({ "object_lock": "compliance" })),
                "lock_for",
            ),
            (s3(serde_json::json!({ "lock_for": "7y" })), "object_lock"),
        ];
        for (settings, way_out) in wrong {
            let error = settings.validate().unwrap_err();
            assert!(error.contains(way_out), "{error}");
        }
        for right in [
            Settings::default(),
            s3(serde_json::json!({ "prefix": "calls/", "region": "eu-central-1" })),
            s3(serde_json::json!({ "object_lock": "governance", "lock_for": "7y" })),
            s3(serde_json::json!({ "object_lock": "off" })),
        ] {
            assert_eq!(right.validate(), Ok(()));
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let unknown = serde_json::json!({ "bukket": "b" });
        assert!(serde_json::from_value::<Settings>(unknown).is_err());
    }
}
