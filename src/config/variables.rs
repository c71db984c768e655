//! Environment variables over the file: `CALLVAULT__SECTION__KEY`, deeper keys with more `__`.

use toml::{Table, Value};

use crate::domain::values::nearest;

use super::places::Places;
use super::{ConfigError, SECTIONS};

const PREFIX: &str = "CALLVAULT__";

/// Puts the value of every variable of ours in its place. It stays text; reading turns it into what
/// the key wants, and digits alone are still text where text is wanted.
pub fn apply(
    root: &mut Table,
    variables: &[(String, String)],
    places: &mut Places,
) -> Result<(), ConfigError> {
    for (variable, value) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let wrong = |what: &str, remedy: String| ConfigError::new(what, variable.clone(), remedy);
        let (section, keys) = rest.split_once("__").unwrap_or((rest, ""));
        let section = section.to_lowercase();
        if !SECTIONS.contains(&section.as_str()) {
            let remedy = match nearest(&section, SECTIONS) {
                Some(near) => format!("did you mean {PREFIX}{}__...?", near.to_uppercase()),
                None => format!("known sections are {}", SECTIONS.join(", ")),
            };
            return Err(wrong("a variable for an unknown section", remedy));
        }
        let keys: Vec<&str> = keys.split("__").collect();
        let (needed, shape) = if section == "sources" {
            (2, "SOURCES__NAME__KEY".to_owned())
        } else {
            (1, format!("{}__KEY", section.to_uppercase()))
        };
        if keys.len() < needed || keys.contains(&"") {
            return Err(wrong(
                "a variable without its key",
                format!("write {PREFIX}{shape}"),
            ));
        }
        let path = put(root, &section, &keys, value).ok_or_else(|| {
            wrong(
                "the file has a value where this variable needs a section",
                format!("write [{section}] as a section in the file"),
            )
        })?;
        places.note_variable(path, variable);
    }
    Ok(())
}

/// Sets a value and says its path; `None` when a section of the file is none.
fn put(root: &mut Table, section: &str, keys: &[&str], value: &str) -> Option<Vec<String>> {
    let (last, between) = keys.split_last()?;
    let is_sources = section == "sources";
    let mut path = vec![section.to_owned()];
    let mut table = enter(root, section, false)?;
    for (depth, key) in between.iter().enumerate() {
        let names_source = is_sources && depth == 0;
        let name = name_in(table, key, names_source);
        path.push(name.clone());
        // Below a section, a variable for one key takes the place of what the file wrote as a whole.
        table = enter(table, &name, !names_source)?;
    }
    let name = name_in(table, last, false);
    path.push(name.clone());
    table.insert(name, Value::String(value.to_owned()));
    Some(path)
}

fn enter<'t>(table: &'t mut Table, key: &str, replace: bool) -> Option<&'t mut Table> {
    let below = table
        .entry(key.to_owned())
        .or_insert_with(|| Value::Table(Table::new()));
    if replace && !below.is_table() {
        *below = Value::Table(Table::new());
    }
    below.as_table_mut()
}

/// The key that an upper-case word stands for: one that is there already in whatever case, else the
/// word in lower case. In names of sources `_` stands for `-`.
fn name_in(table: &Table, word: &str, names_source: bool) -> String {
    let as_variable = |key: &str| {
        let upper = key.to_uppercase();
        if names_source {
            upper.replace('-', "_")
        } else {
            upper
        }
    };
    if let Some(known) = table
        .keys()
        .find(|key| as_variable(key) == word.to_uppercase())
    {
        return known.clone();
    }
    let lower = word.to_lowercase();
    if names_source {
        lower.replace('_', "-")
    } else {
        lower
    }
}
