//! The section `[database]` of the configuration.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::domain::secret::Secret;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `sqlite://path` or `postgres://user:password@host/database`; a secret because of the password.
    pub url: Secret,
    /// Unset: true on SQLite, false on PostgreSQL.
    pub auto_migrate: Option<bool>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: Secret::new("sqlite://callvault-data/callvault.db"),
            auto_migrate: None,
        }
    }
}

impl Settings {
    pub fn is_sqlite(&self) -> bool {
        self.url.expose().starts_with("sqlite:")
    }

    /// The file of an SQLite database: `sqlite://a/b` and `sqlite:a/b` are relative, `sqlite:///a/b` is absolute.
    pub fn file(&self, base_dir: &Path) -> Option<PathBuf> {
        let path = self.url.expose().strip_prefix("sqlite:")?;
        Some(base_dir.join(path.strip_prefix("//").unwrap_or(path)))
    }

    /// Whether the process that starts brings the schema up to date by itself.
    pub fn auto_migrate(&self) -> bool {
        self.auto_migrate.unwrap_or(self.is_sqlite())
    }

    /// What is wrong with these settings, in words for a person.
    pub fn problem(&self) -> Option<String> {
        let known = ["sqlite:", "postgres://", "postgresql://"];
        if known
            .iter()
            .any(|scheme| self.url.expose().starts_with(scheme))
        {
            return None;
        }
        Some("url begins with none of sqlite:, postgres:// and postgresql://".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_migrates_itself_and_postgresql_waits_to_be_told() {
        let of = |url: &str| Settings {
            url: Secret::new(url),
            auto_migrate: None,
        };
        assert!(Settings::default().auto_migrate());
        assert!(!of("postgres://a:b@c/d").auto_migrate());
        assert!(of("postgresql://a:b@c/d").problem().is_none());
        assert!(of("mysql://a:b@c/d").problem().is_some());
        assert!(!format!("{:?}", of("postgres://a:b@c/d")).contains("a:b"));
    }
}
