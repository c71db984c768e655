//! Where a key was written: the line of the file, or the variable of the environment.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Knows for each key who wrote it.
#[derive(Debug)]
pub struct Places {
    file: Option<String>,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    /// Offset of each key and list item, by its path.
    keys: BTreeMap<Vec<String>, usize>,
    variables: BTreeMap<Vec<String>, String>,
}

impl Places {
    pub fn new(file: Option<&Path>, text: &str) -> Self {
        let mut keys = BTreeMap::new();
        if let Ok(table) = DeTable::parse(text) {
            collect(table.get_ref(), &mut Vec::new(), &mut keys);
        }
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            file: file.map(|file| file.display().to_string()),
            lines: std::iter::once(0).chain(ends).collect(),
            keys,
            variables: BTreeMap::new(),
        }
    }

    /// The key at `path` comes from this variable, whatever the file says.
    pub fn note_variable(&mut self, path: Vec<String>, variable: &str) {
        self.variables.insert(path, variable.to_owned());
    }

    /// The place of the key at `path`, or of the nearest one around it.
    pub fn of(&self, path: &[&str]) -> String {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        for length in (1..=path.len()).rev() {
            let path = &path[..length];
            if let Some(variable) = self.variables.get(path) {
                return variable.clone();
            }
            if let Some(offset) = self.keys.get(path) {
                return self.at_offset(*offset);
            }
            // The section may exist only because variables made it.
            let below = self.variables.range(path.to_vec()..).next();
            if let Some((_, variable)) = below.filter(|(key, _)| key.starts_with(path)) {
                return variable.clone();
            }
        }
        self.file
            .clone()
            .unwrap_or_else(|| "the defaults".to_owned())
    }

    /// `FILE:LINE` of a byte of the file.
    pub fn at_offset(&self, offset: usize) -> String {
        let line = self.lines.partition_point(|start| *start <= offset);
        match &self.file {
            Some(file) => format!("{file}:{line}"),
            None => "the defaults".to_owned(),
        }
    }
}

fn collect(table: &DeTable<'_>, path: &mut Vec<String>, keys: &mut BTreeMap<Vec<String>, usize>) {
    for (key, value) in table.iter() {
        path.push(key.get_ref().to_string());
        keys.insert(path.clone(), key.span().start);
        collect_value(value, path, keys);
        path.pop();
    }
}

fn collect_value(
    value: &Spanned<DeValue<'_>>,
    path: &mut Vec<String>,
    keys: &mut BTreeMap<Vec<String>, usize>,
) {
    match value.get_ref() {
        DeValue::Table(table) => collect(table, path, keys),
        DeValue::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push(at.to_string());
                keys.insert(path.clone(), item.span().start);
                collect_value(item, path, keys);
                path.pop();
            }
        }
        _ => {}
    }
}
