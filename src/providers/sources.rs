//! The configured sources by name, as every room below the roof sees them.
//!
//! SIGHUP replaces the whole set at once; work in flight keeps the provider it started with.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use super::contract::Provider;

type ByName = BTreeMap<String, Arc<dyn Provider>>;

#[derive(Clone, Debug, Default)]
pub struct Sources(Arc<RwLock<Arc<ByName>>>);

impl Sources {
    pub fn new(providers: impl IntoIterator<Item = Arc<dyn Provider>>) -> Self {
        let sources = Self::default();
        sources.replace(providers);
        sources
    }

    pub fn get(&self, name: &str) -> Option<Arc<dyn Provider>> {
        self.snapshot().get(name).cloned()
    }

    /// The set as it is now, in the order of names.
    pub fn snapshot(&self) -> Arc<ByName> {
        match self.0.read() {
            Ok(guard) => guard.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.snapshot().keys().cloned().collect()
    }

    pub fn replace(&self, providers: impl IntoIterator<Item = Arc<dyn Provider>>) {
        let set: ByName = providers
            .into_iter()
            .map(|provider| (provider.name().to_owned(), provider))
            .collect();
        match self.0.write() {
            Ok(mut guard) => *guard = Arc::new(set),
            Err(poisoned) => *poisoned.into_inner() = Arc::new(set),
        }
    }
}
