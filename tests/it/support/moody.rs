//! An archive whose answers for some keys a test decides.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use callvault::archive::contract::{
    Archive, ArchiveError, ArchiveErrorKind, ByteRange, ObjectInfo, ObjectReader, ProbeFinding,
    Source, Stored,
};
use callvault::domain::digest::Fingerprint;
use callvault::domain::keys::ObjectKey;
use callvault::domain::proof::ArchiveProof;
use futures::stream::BoxStream;

/// Reads of keys that contain the text fail so.
type Rule = (String, ArchiveErrorKind);

#[derive(Debug)]
pub struct Moody {
    inner: Arc<dyn Archive>,
    rule: Mutex<Option<Rule>>,
    /// Keys that were opened or read back.
    pub read: Mutex<Vec<String>>,
}

impl Moody {
    pub fn over(inner: Arc<dyn Archive>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            rule: Mutex::default(),
            read: Mutex::default(),
        })
    }

    pub fn fails(&self, keys: &str, kind: ArchiveErrorKind) {
        *self.rule.lock().unwrap() = Some((keys.to_owned(), kind));
    }

    pub fn is_fine(&self) {
        *self.rule.lock().unwrap() = None;
    }

    fn look(&self, key: &ObjectKey) -> Result<(), ArchiveError> {
        self.read.lock().unwrap().push(key.to_string());
        match &*self.rule.lock().unwrap() {
            Some((keys, kind)) if key.as_str().contains(keys.as_str()) => {
                Err(ArchiveError::new(*kind, "as the test wants it"))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Archive for Moody {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put(
        &self,
        key: &ObjectKey,
        source: Source<'_>,
        expected: &Fingerprint,
        mime: &str,
    ) -> Result<Stored, ArchiveError> {
        self.inner.put(key, source, expected, mime).await
    }

    async fn read_back(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
        expected: &Fingerprint,
    ) -> Result<ArchiveProof, ArchiveError> {
        self.look(key)?;
        self.inner.read_back(key, version, expected).await
    }

    async fn open(
        &self,
        key: &ObjectKey,
        version: Option<&str>,
        range: Option<ByteRange>,
    ) -> Result<ObjectReader, ArchiveError> {
        self.look(key)?;
        self.inner.open(key, version, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectInfo>, ArchiveError> {
        self.inner.head(key).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, ArchiveError>> {
        self.inner.list(prefix)
    }

    async fn probe(&self) -> Vec<ProbeFinding> {
        self.inner.probe().await
    }
}
