//! A secret value: prints nothing, and may come from a file or the environment.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// Text that never shows in `Debug`, logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value itself; callers hand it to a signer or a connection and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in constant time for equal lengths.
    pub fn matches(&self, offered: &str) -> bool {
        use subtle::ConstantTimeEq;
        self.0.as_bytes().ct_eq(offered.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Whole numbers are taken as text too: an environment variable of digits is still a token.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Number(i64),
    File { file: PathBuf },
    Env { env: String },
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let written = Written::deserialize(d).map_err(|_| {
            D::Error::custom("a secret is a string, { file = \"/path\" } or { env = \"NAME\" }")
        })?;
        let text = match written {
            Written::Text(text) => text,
            Written::Number(number) => number.to_string(),
            Written::File { file } => std::fs::read_to_string(&file).map_err(|e| {
                D::Error::custom(format!(
                    "cannot read the secret file {}: {e}",
                    file.display()
                ))
            })?,
            Written::Env { env } => std::env::var(&env).map_err(|_| {
                D::Error::custom(format!("the environment variable {env} is not set"))
            })?,
        };
        Ok(Self(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_nothing_and_comes_from_a_file() {
        assert_eq!(format!("{:?}", Secret::new("abc")), "(secret)");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let json = serde_json::json!({ "file": file.path() });
        let secret: Secret = serde_json::from_value(json).unwrap();
        assert_eq!(secret.expose(), "s3cret");
        assert!(secret.matches("s3cret") && !secret.matches("s3cre7"));
        let digits: Secret = serde_json::from_str("12345").unwrap();
        assert_eq!(digits.expose(), "12345");
    }
}
