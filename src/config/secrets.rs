//! Secrets that the file only points to: `{ file = "..." }` and `{ env = "..." }`, and who else may read them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml::{Table, Value};

use super::places::Places;
use super::{ConfigError, Warning};

/// Permission bits of everybody beyond owner and group.
const READ_BY_OTHERS: u32 = 0o004;
/// How keys end whose text is a secret.
const SECRET_ENDINGS: [&str; 10] = [
    "token",
    "secret",
    "password",
    "secret_access_key",
    "secret_key",
    "callback_key",
    "legacy_key",
    "auth_value",
    "webhook_secrets",
    "shared_keys",
];

/// Puts the text of every secret in the place of the table that points to it; relative files count
/// from `base_dir`. Warns of files that everybody may read.
pub fn resolve(
    root: &mut Table,
    variables: &[(String, String)],
    base_dir: &Path,
    places: &Places,
) -> Result<Vec<Warning>, ConfigError> {
    let mut walk = Walk {
        variables,
        base_dir,
        places,
        warnings: Vec::new(),
    };
    let mut path = Vec::new();
    for (key, value) in root.iter_mut() {
        path.push(key.clone());
        walk.value(value, &mut path)?;
        path.pop();
    }
    Ok(walk.warnings)
}

struct Walk<'a> {
    variables: &'a [(String, String)],
    base_dir: &'a Path,
    places: &'a Places,
    warnings: Vec<Warning>,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value, path: &mut Vec<String>) -> Result<(), ConfigError> {
        if let Some(text) = self.pointed_to(value, path)? {
            *value = Value::String(text);
            return Ok(());
        }
        match value {
            Value::Table(table) => {
                for (key, value) in table.iter_mut() {
                    path.push(key.clone());
                    self.value(value, path)?;
                    path.pop();
                }
            }
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    path.push(at.to_string());
                    self.value(item, path)?;
                    path.pop();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn pointed_to(
        &mut self,
        value: &Value,
        path: &[String],
    ) -> Result<Option<String>, ConfigError> {
        let Some((pointer, Value::String(target))) = value
            .as_table()
            .filter(|t| t.len() == 1)
            .and_then(|t| t.iter().next())
        else {
            return Ok(None);
        };
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        let place = self.places.of(&keys);
        let text = match pointer.as_str() {
            "file" => {
                let file = self.base_dir.join(target);
                let text = std::fs::read_to_string(&file).map_err(|e| {
                    ConfigError::new(
                        format!("cannot read the secret file {}: {e}", file.display()),
                        place.clone(),
                        "name a text file that this user may read",
                    )
                })?;
                self.warnings.extend(readable_by_others(&file, &place));
                text
            }
            "env" => {
                let found = self.variables.iter().find(|(name, _)| name == target);
                let (_, text) = found.ok_or_else(|| {
                    ConfigError::new(
                        format!("the environment variable {target} is not set"),
                        place.clone(),
                        "set it for this process, or write { file = \"...\" }",
                    )
                })?;
                text.clone()
            }
            _ => return Ok(None),
        };
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

fn readable_by_others(file: &Path, place: &str) -> Option<Warning> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    (mode & READ_BY_OTHERS != 0).then(|| Warning {
        code: "secret_readable_by_others",
        what: format!(
            "everybody on this machine may read the secret in {}",
            file.display()
        ),
        place: place.to_owned(),
        remedy: format!("chmod o-r {}", file.display()),
    })
}

/// A warning when secrets stand in the configuration file itself and everybody may read it.
pub fn inline_warnings(root: &Table, file: Option<&Path>, places: &Places) -> Option<Warning> {
    let mut path = Vec::new();
    let path = find_inline(root, &mut path)?;
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    readable_by_others(file?, &places.of(&keys))
}

/// The configuration as text for administrators: of secrets it says that they are there. To be called before secrets
/// are resolved, so that what comes from a file or variable shows as that.
pub fn without_secrets(root: &Table) -> String {
    let mut shown = root.clone();
    hide(&mut shown, false);
    toml::to_string_pretty(&shown).unwrap_or_default()
}

/// Wider than what must be a secret: here it is better to hide too much.
const HIDDEN: [&str; 6] = [
    "token",
    "secret",
    "password",
    "key",
    "credential",
    "auth_value",
];

fn hide(table: &mut Table, all: bool) {
    for (key, value) in table.iter_mut() {
        let is_secret = all || HIDDEN.iter().any(|word| key.contains(word));
        hide_value(key, value, is_secret);
    }
}

fn hide_value(key: &str, value: &mut Value, is_secret: bool) {
    match value {
        // `{ file = ... }` and `{ env = ... }` say where a secret is, and that is no secret.
        Value::Table(below) => {
            let points =
                below.len() == 1 && (below.contains_key("file") || below.contains_key("env"));
            hide(below, is_secret && !points);
        }
        Value::Array(items) => {
            for item in items {
                hide_value(key, item, is_secret);
            }
        }
        Value::String(text) if is_secret => *text = "(secret)".to_owned(),
        // User and password, a query with a signature, and of an address that is called as it stands the path: all
        // may be what lets one in.
        Value::String(text) if text.contains("://") && !text.starts_with("sqlite:") => {
            *text = crate::domain::reading::masked_url(text);
            let host_ends = text
                .split_once("://")
                .and_then(|(scheme, rest)| Some(scheme.len() + 3 + rest.find('/')?));
            if let (true, Some(end)) = (key == "url", host_ends) {
                text.truncate(end);
                text.push_str("/…");
            }
        }
        _ => {}
    }
}

fn find_inline(table: &Table, path: &mut Vec<String>) -> Option<Vec<String>> {
    for (key, value) in table {
        path.push(key.clone());
        let is_secret = SECRET_ENDINGS.iter().any(|end| key.ends_with(end));
        let found = match value {
            Value::String(_) if is_secret => Some(path.clone()),
            Value::Array(items) if is_secret && items.iter().any(Value::is_str) => {
                Some(path.clone())
            }
            Value::Table(below) => find_inline(below, path),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
        path.pop();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrators_see_that_secrets_are_there_and_not_which() {
        let root: Table = r#"
            [server]
            api_token = "hidden-1"
            listen = "127.0.0.1:8080"
            [database]
            url = "postgres://callvault:hidden-2@db/callvault"
            [sources.desk]
            app_token = "hidden-3"
            hook_token = ["hidden-4", { env = "HOOK" }]
            auth_value = "hidden-8"
            sub_tokens = { a = "hidden-5" }
            access_key_secret = { file = "/run/secrets/key" }
            [alarms]
            url = "https://hooks.example/services/hidden-6?x=hidden-7"
        "#
        .parse()
        .unwrap();
        let shown = without_secrets(&root);
        assert!(!shown.contains("hidden"), "{shown}");
        for kept in [
            "(secret)",
            "127.0.0.1:8080",
            "/run/secrets/key",
            "HOOK",
            "https://hooks.example/…",
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
    }
}
