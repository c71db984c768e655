//! Who may import whom, and what never happens: the rules of the house, read off the source text.
//!
//! A newcomer's mistake is to mend a red line here by widening a table. Each table is the architecture; the import
//! is what moves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room and the floor it stands on. A room imports from lower floors only, never from its own.
const FLOORS: &[(&str, u8)] = &[
    ("main", 6),
    ("cli", 6),
    ("app", 6),
    ("config", 6),
    ("worker", 5),
    ("web", 5),
    ("jobs", 4),
    ("ingress", 4),
    ("pipeline", 3),
    ("db", 2),
    ("archive", 2),
    ("media", 2),
    ("providers", 2),
    ("spool", 2),
    ("domain", 1),
];

/// The roof knows every concrete type, so its files may name each other.
const ROOF: u8 = 6;

/// What the simulator may see: the clock that is handed in, and nothing that is under test.
const SIMULATOR_SEES: &[&str] = &["domain::clock"];

/// The stages of `pipeline`; only `ingest` walks them.
const STAGES: &[&str] = &["resolve", "fetch", "inspect", "store", "index", "transcode"];

/// A file that nobody can hold in the head is longer than this.
const LONGEST_FILE_LINES: usize = 600;

struct SourceFile {
    /// Below `src`, with slashes: `db/lease.rs`.
    path: String,
    /// Module path: `["db", "lease"]`; empty for `lib.rs`.
    module: Vec<String>,
    text: String,
}

impl SourceFile {
    fn room(&self) -> &str {
        self.module.first().map_or("main", String::as_str)
    }

    /// The lines that are code: number, text without a comment behind it, depth of inline modules around it.
    fn code(&self) -> impl Iterator<Item = (usize, &str, usize)> {
        let mut inline: Vec<usize> = Vec::new();
        self.text.lines().enumerate().filter_map(move |(i, line)| {
            let indent = line.len() - line.trim_start().len();
            let trimmed = line.trim();
            if trimmed == "}" && inline.last() == Some(&indent) {
                inline.pop();
            }
            let depth = inline.len();
            if (trimmed.starts_with("mod ") || trimmed.starts_with("pub mod "))
                && trimmed.ends_with('{')
            {
                inline.push(indent);
            }
            let code = line.split(" // ").next().unwrap_or(line);
            let is_comment = trimmed.starts_with("//");
            (!trimmed.is_empty() && !is_comment).then_some((i + 1, code, depth))
        })
    }

    /// All paths that start at the crate root, from `crate::` as from enough `super::`: line, path such as
    /// `db::lease`. Groups such as `crate::{db, spool}` come apart, also over several lines.
    fn imports(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, line, depth) in self.code() {
            for at in starts_of(line, "crate::") {
                found.extend(self.paths_from(number, at, &line[at + 7..]));
            }
            // `super` climbs; what climbs to the root names a room.
            let mut from = 0;
            while let Some(at) = line[from..].find("super::").map(|at| at + from) {
                let mut rest = &line[at..];
                let mut climbs = 0;
                while let Some(next) = rest.strip_prefix("super::") {
                    climbs += 1;
                    rest = next;
                }
                if climbs >= self.module.len() + depth {
                    found.extend(self.paths_from(number, line.len() - rest.len(), rest));
                }
                from = line.len() - rest.len();
            }
        }
        found
    }

    fn paths_from(&self, number: usize, at: usize, rest: &str) -> Vec<(usize, String)> {
        if !rest.starts_with('{') {
            return vec![(number, path_at(rest))];
        }
        // A group: read on over line ends until its bracket closes.
        let line_start: usize = self
            .text
            .split_inclusive('\n')
            .take(number - 1)
            .map(str::len)
            .sum();
        let group_start = line_start + self.text[line_start..].find("crate::{").unwrap_or(at);
        let open = group_start + self.text[group_start..].find('{').unwrap_or(0);
        let mut depth = 0;
        let mut paths = Vec::new();
        let mut item = String::new();
        for c in self.text[open..].chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || (depth == 1 && c == ',') {
                let path = path_at(item.trim_start_matches(['{', ' ', '\n']));
                if !path.is_empty() {
                    paths.push((number, path));
                }
                item.clear();
                if depth == 0 {
                    break;
                }
            } else {
                item.push(c);
            }
        }
        paths
    }
}

/// Where `needle` begins a path of its own in `line`.
fn starts_of(line: &str, needle: &str) -> Vec<usize> {
    line.match_indices(needle)
        .map(|(at, _)| at)
        .filter(|at| {
            !line[..*at]
                .chars()
                .next_back()
                .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
        })
        .collect()
}

fn path_at(text: &str) -> String {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    text[..end].trim_end_matches(':').to_owned()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

fn house() -> Vec<SourceFile> {
    let src = root().join("src");
    let mut paths = Vec::new();
    files_below(&src, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let relative = path
            .strip_prefix(&src)
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let module = relative
            .trim_end_matches(".rs")
            .trim_end_matches("/mod")
            .split('/')
            .filter(|part| *part != "lib" && *part != "main")
            .map(str::to_owned)
            .collect();
        SourceFile {
            text: fs::read_to_string(&path).unwrap(),
            path: relative,
            module,
        }
    };
    paths.into_iter().map(read).collect()
}

fn floor(room: &str) -> u8 {
    let found = FLOORS.iter().find(|(name, _)| *name == room);
    found.map_or_else(
        || panic!("room {room:?} has no floor in the table"),
        |f| f.1,
    )
}

fn none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

/// Each line of code in `files` with one of `words`, unless `allowed` knows the file.
fn lines_with(words: &[&str], allowed: impl Fn(&SourceFile) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for file in house().iter().filter(|file| !allowed(file)) {
        for (number, line, _) in file.code() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("src/{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    found
}

#[test]
fn imports_point_downwards_only() {
    let mut wrong = Vec::new();
    for file in house() {
        let own = file.room();
        if own == "simulator" {
            continue;
        }
        for (number, path) in file.imports() {
            let to = path.split("::").next().unwrap_or_default();
            let is_allowed = match to {
                _ if to == own => true,
                "simulator" => floor(own) == ROOF,
                // A macro or constant of the crate root itself.
                _ if !FLOORS.iter().any(|(name, _)| *name == to) => file.module.is_empty(),
                _ => floor(to) < floor(own) || (floor(own) == ROOF && floor(to) == ROOF),
            };
            if !is_allowed {
                wrong.push(format!("src/{}:{number} imports {path}", file.path));
            }
        }
    }
    none(&wrong, "a room imports only from lower floors");
}

#[test]
fn the_simulator_sees_nothing_that_is_under_test() {
    let mut wrong = Vec::new();
    for file in house().iter().filter(|file| file.room() == "simulator") {
        for (number, path) in file.imports() {
            let is_own = path == "simulator" || path.starts_with("simulator::");
            let is_seen = SIMULATOR_SEES
                .iter()
                .any(|seen| path == *seen || path.starts_with(&format!("{seen}::")));
            if !is_own && !is_seen {
                wrong.push(format!("src/{}:{number} imports {path}", file.path));
            }
        }
    }
    none(&wrong, "the simulator reads the vendors' manuals by itself");
}

#[test]
fn a_stage_knows_no_other_stage() {
    let mut wrong = Vec::new();
    for file in house() {
        let [room, stage, ..] = file.module.as_slice() else {
            continue;
        };
        if room != "pipeline" || !STAGES.contains(&stage.as_str()) {
            continue;
        }
        for (number, line, depth) in file.code() {
            let up = "super::".repeat(file.module.len() - 1 + depth);
            for other in STAGES.iter().filter(|other| **other != stage.as_str()) {
                let by_crate = format!("crate::pipeline::{other}");
                let by_super = format!("{up}{other}");
                let named = |path: &str| {
                    starts_of(line, path)
                        .iter()
                        .any(|at| path_at(&line[*at..]).split("::").any(|part| part == *other))
                };
                if named(&by_crate) || named(&by_super) {
                    wrong.push(format!("src/{}:{number}: {}", file.path, line.trim()));
                }
            }
        }
    }
    none(&wrong, "a stage imports handoff, not another stage");
}

#[test]
fn a_proof_is_made_by_the_archive_alone() {
    let wrong = lines_with(&["ArchiveProof::compare"], |file| {
        file.room() == "archive" || file.path == "domain/proof.rs"
    });
    none(&wrong, "an ArchiveProof comes only from reading back");
}

#[test]
fn sql_lives_in_the_database_room() {
    let words = [
        "sea_orm::",
        "sea_query::",
        "sqlx::",
        "entity::",
        "migration::",
    ];
    let mut wrong = lines_with(&words, |file| file.room() == "db");
    for file in house().iter().filter(|file| file.room() != "db") {
        for (number, line, _) in file.code() {
            let line = line.to_lowercase();
            let has = |word: &str| line.contains(word);
            if has("insert into ")
                || has("delete from ")
                || (has("select ") && has(" from ") && has("\""))
                || (has("update ") && has(" set ") && has("\""))
            {
                wrong.push(format!("src/{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    none(&wrong, "only the db room speaks to the database");
}

#[test]
fn the_wall_clock_is_read_in_one_file() {
    let wrong = lines_with(&["Utc::now", "SystemTime::now", "Local::now"], |file| {
        file.path == "domain/clock.rs"
    });
    none(&wrong, "time is handed in: take a domain::clock::Clock");
}

#[test]
fn foreign_addresses_are_fetched_by_one_client() {
    let words = [
        "hyper::client",
        "hyper_util::client",
        "hyper_rustls",
        "TcpStream::connect",
        "tokio_rustls",
    ];
    let wrong = lines_with(&words, |file| {
        // The simulator plays the other side and pushes its notices by itself.
        file.room() == "simulator" || file.path.starts_with("providers/http")
    });
    none(
        &wrong,
        "only providers::http connects, and checks every hop",
    );
}

#[test]
fn nothing_is_deleted_from_the_archive() {
    let wrong = lines_with(&["delete_object", "DeleteObject"], |file| {
        file.path == "jobs/sweep.rs"
    });
    none(&wrong, "a delete outside jobs/sweep.rs");
}

#[test]
fn every_file_fits_in_a_head() {
    let mut long: Vec<String> = house()
        .iter()
        .map(|file| (file.text.lines().count(), &file.path))
        .filter(|(lines, _)| *lines > LONGEST_FILE_LINES)
        .map(|(lines, path)| format!("src/{path}: {lines} lines"))
        .collect();
    for folder in ["entity/src", "migration/src", "tests", "benches"] {
        let folder = root().join(folder);
        let mut paths = Vec::new();
        if folder.is_dir() {
            files_below(&folder, &mut paths);
        }
        for path in paths {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            if lines > LONGEST_FILE_LINES {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    none(
        &long,
        "no file longer than 600 lines: one thought is enough",
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    let wrong: Vec<String> = house()
        .iter()
        .filter(|file| file.path != "main.rs" && !file.text.starts_with("//!"))
        .map(|file| format!("src/{}", file.path))
        .collect();
    none(
        &wrong,
        "a file opens with //! and one sentence: what it does and for whom",
    );
}

#[test]
fn the_map_names_every_room() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut rooms = BTreeSet::new();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name != "lib.rs" {
            rooms.insert(name);
        }
    }
    // A room may be a file or a folder; what counts is that the map knows it.
    let missing: Vec<String> = rooms
        .into_iter()
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .filter(|name| {
            !map.contains(&format!("`{name}/`")) && !map.contains(&format!("`{name}.rs`"))
        })
        .collect();
    none(&missing, "ARCHITECTURE.md names every room of src/");
}

#[test]
fn every_reason_is_in_the_runbook() {
    let runbook = fs::read_to_string(root().join("README.md")).unwrap();
    let text = fs::read_to_string(root().join("src/domain/recording.rs")).unwrap();
    let (_, reasons) = text.split_once("pub mod reason {").unwrap();
    let codes: Vec<&str> = reasons
        .lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| line.split_once("&str = \"")?.1.strip_suffix("\";"))
        .collect();
    assert!(codes.len() > 15, "found only {codes:?}");
    let missing: Vec<String> = codes
        .into_iter()
        .filter(|code| !runbook.contains(&format!("`{code}`")))
        .map(str::to_owned)
        .collect();
    none(&missing, "README.md says of each reason what to do");
}

#[test]
fn every_crash_point_is_explained() {
    let page = fs::read_to_string(root().join("docs/crash-points.md")).unwrap();
    let explained: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    let mut there = BTreeSet::new();
    for file in house() {
        for (_, line, _) in file.code() {
            for (_, name) in line
                .match_indices("fail_point!(\"")
                .map(|(at, found)| (at, line[at + found.len()..].split('"').next().unwrap()))
            {
                there.insert(name.to_owned());
            }
        }
    }
    let differ: Vec<String> = explained.symmetric_difference(&there).cloned().collect();
    none(
        &differ,
        "docs/crash-points.md and the fail points of src/ agree",
    );
}

mod reading_the_source {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            module: path
                .trim_end_matches(".rs")
                .trim_end_matches("/mod")
                .split('/')
                .map(str::to_owned)
                .collect(),
            text: text.to_owned(),
        }
    }

    fn imports(path: &str, text: &str) -> Vec<String> {
        let found = file(path, text).imports();
        found.into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn paths_are_found_wherever_they_stand() {
        assert_eq!(
            imports("db/lease.rs", "use crate::domain::ids;\n"),
            ["domain::ids"]
        );
        assert_eq!(
            imports(
                "db/lease.rs",
                "fn f() -> crate::web::Page { crate::web::page() }\n"
            ),
            ["web::Page", "web::page"]
        );
        assert_eq!(
            imports(
                "db/lease.rs",
                "use crate::{\n    domain::{ids, clock},\n    spool,\n};\n"
            ),
            ["domain", "spool"]
        );
    }

    #[test]
    fn comments_and_other_crates_are_no_imports() {
        assert!(
            imports(
                "db/lease.rs",
                "// crate::web\n//! crate::web\nuse mycrate::web;\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn climbing_to_the_root_is_an_import_too() {
        assert_eq!(
            imports("db/lease.rs", "use super::super::web::Page;\n"),
            ["web::Page"]
        );
        assert!(imports("db/lease.rs", "use super::connect;\n").is_empty());
        assert_eq!(
            imports("db/mod.rs", "use super::web::Page;\n"),
            ["web::Page"]
        );
        let tests = "mod tests {\n    use super::*;\n    use super::super::web;\n}\n";
        assert_eq!(imports("db/mod.rs", tests), ["web"]);
    }
}
