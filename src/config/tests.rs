//! The example in `deploy/`: it is a configuration, its defaults are the defaults, and no key is left out.

use std::collections::BTreeSet;

use super::*;

const EXAMPLE: &str = include_str!("../../deploy/callvault.example.toml");

#[test]
fn the_example_is_a_configuration_and_holds_each_kinds_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("callvault.toml");
    std::fs::write(&file, EXAMPLE).unwrap();
    let config = Config::load_from(Some(&file), [], dir.path()).unwrap();
    let kinds: Vec<&str> = config.sources.iter().map(|s| s.kind.as_str()).collect();
    for kind in registry::kinds() {
        assert!(kinds.contains(&kind.kind()));
        assert!(
            EXAMPLE.contains(kind.example().trim()),
            "deploy/callvault.example.toml differs from the example of {}",
            kind.kind()
        );
    }
    assert!(
        config.warnings.iter().any(|w| w.code == "example_token"),
        "the example's tokens are known to everybody"
    );
}

#[test]
fn the_defaults_of_the_example_are_the_defaults() {
    let from = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("callvault.toml");
        std::fs::write(&file, text).unwrap();
        let mut config = Config::load_from(Some(&file), [], dir.path()).unwrap();
        // What the file itself says is not a value.
        config.server.in_force.clear();
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            config.server,
            config.database.url.expose(),
            config.archive.directory(Path::new("/b")),
            config.spool,
            config.worker,
            (config.access_copy, config.schedule),
            config.log
        )
    };
    assert_eq!(from(EXAMPLE), from(""));
}

/// The keys that a section knows, as its own error tells them.
fn keys_of<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut table = toml::Table::new();
    table.insert("?".to_owned(), toml::Value::Boolean(true));
    match values::read::<T>(table).err().map(|e| e.problem) {
        Some(Problem::UnknownKey { known, .. }) => known,
        other => panic!("no list of keys: {other:?}"),
    }
}

#[test]
fn the_example_explains_every_key() {
    let mentioned: BTreeSet<&str> = EXAMPLE
        .lines()
        .map(|line| line.trim_start_matches("# "))
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, _)| key)
        .collect();
    let sections = [
        keys_of::<web::settings::Settings>(),
        keys_of::<db::settings::Settings>(),
        keys_of::<archive::settings::Settings>(),
        keys_of::<jobs::backup::Settings>(),
        keys_of::<spool::Settings>(),
        keys_of::<worker::settings::Settings>(),
        keys_of::<worker::settings::ScheduleSettings>(),
        keys_of::<AccessSettings>(),
        keys_of::<LogSettings>(),
        crate::providers::settings::COMMON_KEYS.to_vec(),
    ];
    for key in sections.concat() {
        assert!(mentioned.contains(key), "{key} is not in the example");
    }
    // What is commented out is TOML too.
    for line in EXAMPLE.lines() {
        let bare = line.trim_start_matches("# ");
        let is_key = bare.split_once(" = ").is_some_and(|(key, _)| {
            key.bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.')
        });
        if is_key {
            assert!(bare.parse::<toml::Table>().is_ok(), "{line}");
        }
    }
}

#[test]
fn paths_of_a_source_count_from_the_configurations_folder() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("callvault.toml");
    let text = "[sources.pbx]\nkind = \"cdr\"\nhook_token = \"0123456789abcdef\"\nfrom = \"folder\"\n\
                path = \"in\"\nfile_roots = [\"out\", \"/srv/whole\"]\n";
    std::fs::write(&file, text).unwrap();
    let config = Config::load_from(Some(&file), [], Path::new("/elsewhere")).unwrap();
    let own = &config.sources[0].own;
    let inside = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(own["path"].as_str(), Some(inside("in").as_str()));
    let roots: Vec<_> = own["file_roots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|root| root.as_str().unwrap())
        .collect();
    assert_eq!(roots, [inside("out").as_str(), "/srv/whole"]);
}
