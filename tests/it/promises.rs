//! `docs/reliability.md` and the sources hold each other: what the page names exists, and what exists is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const OPEN: [&str; 2] = ["no test yet", "not built yet"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands between backticks.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The lines of the page's tables, without heads and rules, with the name of the last column.
fn rows(page: &str) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    let mut column: Option<String> = None;
    for line in page.lines() {
        if !line.starts_with('|') {
            column = None;
        } else if let Some(column) = &column {
            if !line.starts_with("|---") {
                found.push((column.clone(), line));
            }
        } else {
            column = Some(last_cell(line).to_owned());
        }
    }
    found
}

fn last_cell(row: &str) -> &str {
    let inside = row.trim().trim_end_matches('|');
    inside.rsplit('|').next().unwrap_or_default().trim()
}

/// `module::function` or `src/path.rs::function`: the file it must be in, and the function.
fn test_of(name: &str) -> Option<(String, &str)> {
    let (place, function) = name.rsplit_once("::")?;
    let file = if place.starts_with("src/") {
        place.to_owned()
    } else {
        format!("tests/it/{place}.rs")
    };
    Some((file, function))
}

/// Whether `text` has a function of this name that the test runner runs.
fn has_test(text: &str, function: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let begins = format!("fn {function}(");
    lines.iter().enumerate().any(|(at, line)| {
        let is_it = line.starts_with(&begins) || line.starts_with(&format!("async {begins}"));
        let mut above = lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with('#') || line.starts_with("//"));
        is_it && above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

fn none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_test_that_the_page_names_is_run() {
    let page = read("docs/reliability.md");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (_, row) in rows(&page) {
        for (file, function) in named(row).filter_map(test_of) {
            seen += 1;
            let text = fs::read_to_string(root().join(&file)).unwrap_or_default();
            if !has_test(&text, function) {
                wrong.push(format!("{file} has no test {function}"));
            }
        }
    }
    assert!(seen > 100, "found only {seen} names");
    none(&wrong, "docs/reliability.md names tests that exist");
}

#[test]
fn every_file_that_the_page_names_exists() {
    let page = read("docs/reliability.md");
    let is_path = |name: &&str| {
        let folders = ["src/", "deploy/", "docs/", "tests/", "scripts/"];
        folders.iter().any(|folder| name.starts_with(folder)) && !name.contains("::")
    };
    let missing: Vec<String> = named(&page)
        .filter_map(|name| name.split_whitespace().next())
        .filter(is_path)
        .filter(|path| !root().join(path).exists())
        .map(str::to_owned)
        .collect();
    none(&missing, "docs/reliability.md names files that exist");
}

#[test]
fn every_script_is_on_the_page() {
    let page = read("docs/reliability.md");
    let commands: BTreeSet<&str> = named(&page)
        .filter_map(|name| name.split_whitespace().next())
        .collect();
    let scripts = fs::read_dir(root().join("scripts")).unwrap();
    let names = scripts.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let missing: Vec<String> = names
        .filter(|name| name.ends_with(".py") || name.ends_with(".sh"))
        .map(|name| format!("scripts/{name}"))
        .filter(|path| !commands.contains(path.as_str()))
        .collect();
    none(&missing, "docs/reliability.md says what each script shows");
}

#[test]
fn every_promise_is_shown_or_said_to_be_open() {
    let page = read("docs/reliability.md");
    let promises: Vec<&str> = rows(&page)
        .into_iter()
        .filter(|(column, _)| column == "shown by" || column == "killed by")
        .map(|(_, row)| row)
        .collect();
    assert!(promises.len() > 100, "found only {}", promises.len());
    let unsaid: Vec<String> = promises
        .into_iter()
        .filter(|row| {
            let end = last_cell(row);
            let is_shown =
                named(end).any(|name| test_of(name).is_some() || name.starts_with("scripts/"));
            !is_shown && !OPEN.iter().any(|word| end.starts_with(word))
        })
        .map(str::to_owned)
        .collect();
    none(
        &unsaid,
        "a promise ends in what shows it, or says that nothing does",
    );
}

#[test]
fn every_crash_point_has_its_killer_or_none_yet() {
    let page = read("docs/reliability.md");
    let killed: BTreeSet<String> = rows(&page)
        .into_iter()
        .filter(|(column, _)| column == "killed by")
        .flat_map(|(_, row)| named(row).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let points = read("docs/crash-points.md");
    let missing: Vec<String> = points
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|point| !killed.contains(*point))
        .map(str::to_owned)
        .collect();
    none(&missing, "docs/reliability.md says who kills at each point");
}

mod reading_the_page {
    use super::*;

    #[test]
    fn a_name_is_only_a_test_where_the_runner_runs_it() {
        let text = "#[tokio::test(flavor = \"multi_thread\")]\n#[cfg(x)]\nasync fn a() {}\n\
                    fn b() {}\n    #[test]\n    fn c(x in y) {}\n#[test]\nfn d_and_more() {}\n";
        let seen = ["a", "b", "c", "d", "d_and_more"].map(|name| has_test(text, name));
        assert_eq!(seen, [true, false, true, false, true]);
        let places = ["m::f", "src/a/b.rs::f"].map(|name| test_of(name).unwrap().0);
        assert_eq!(places, ["tests/it/m.rs", "src/a/b.rs"]);
    }

    #[test]
    fn rows_know_their_last_column() {
        let page = "| a | b |\n|---|---|\n| `x` | y |\ntext\n| c |\n|---|\n| z |\n";
        let found: Vec<_> = rows(page);
        assert_eq!(
            found,
            [("b".to_owned(), "| `x` | y |"), ("c".to_owned(), "| z |")]
        );
        assert_eq!(last_cell(found[0].1), "y");
    }
}
