//! Lists a folder tree in the byte order of the keys, the order in which a bucket lists.

use std::fs;
use std::io;
use std::path::Path;

use super::super::contract::ObjectInfo;
use crate::domain::keys::ObjectKey;

/// Calls `visit` for each file below `root` whose key starts with `prefix`; stops when it answers false.
///
/// `skip` names folders (as keys) that hold no objects. Names that are not UTF-8 are no keys of ours.
pub(super) fn walk(
    root: &Path,
    prefix: &str,
    skip: &str,
    visit: &mut dyn FnMut(ObjectInfo) -> bool,
) -> io::Result<()> {
    walk_folder(root, String::new(), prefix, skip, visit).map(|_| ())
}

fn walk_folder(
    path: &Path,
    folder_key: String,
    prefix: &str,
    skip: &str,
    visit: &mut dyn FnMut(ObjectInfo) -> bool,
) -> io::Result<bool> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(e),
    };
    // A folder sorts by its name with the slash, as the keys below it do ("a-b" before "a/b").
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let kind = entry.file_type()?;
        let key = format!("{folder_key}{name}");
        if kind.is_dir() {
            let below = format!("{key}/");
            let may_match = below.starts_with(prefix) || prefix.starts_with(&below);
            if may_match && below != skip {
                names.push(below);
            }
        } else if kind.is_file() && key.starts_with(prefix) {
            names.push(key);
        }
    }
    names.sort_unstable();
    for key in names {
        let child = path.join(&key[folder_key.len()..]);
        if key.ends_with('/') {
            if !walk_folder(&child, key, prefix, skip, visit)? {
                return Ok(false);
            }
            continue;
        }
        let bytes = match fs::metadata(&child) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let key = ObjectKey::stored(key);
        if !visit(ObjectInfo { key, bytes }) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_listed_in_the_order_of_its_keys() {
        let root = tempfile::tempdir().unwrap();
        for key in ["a/b", "a-b", "a.b", "a/c/d", "b", "tmp/x", "ab/z"] {
            let path = root.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, key).unwrap();
        }
        let list = |prefix: &str| {
            let mut keys = Vec::new();
            walk(root.path(), prefix, "tmp/", &mut |info| {
                keys.push(info.key.as_str().to_owned());
                true
            })
            .unwrap();
            keys
        };
        let all = list("");
        let mut sorted = all.clone();
        sorted.sort();
        assert_eq!(all, sorted);
        assert_eq!(all, ["a-b", "a.b", "a/b", "a/c/d", "ab/z", "b"]);
        assert_eq!(list("a/"), ["a/b", "a/c/d"]);
        assert_eq!(list("a/c"), ["a/c/d"]);
        assert_eq!(list("ab"), ["ab/z"]);
        assert_eq!(list("../"), Vec::<String>::new());
    }
}
