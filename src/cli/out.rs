//! What a command prints: lines for people or NDJSON for machines, and failures that say what, where
//! and what to do.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::exit;

/// A failed command.
#[derive(Clone, Debug)]
pub struct Failure {
    pub exit: u8,
    pub code: String,
    pub what: String,
    pub place: String,
    pub remedy: String,
}

impl Failure {
    pub fn failed(
        code: impl Into<String>,
        what: impl Into<String>,
        place: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            exit: exit::FAILED,
            code: code.into(),
            what: what.into(),
            place: place.into(),
            remedy: remedy.into(),
        }
    }

    pub fn usage(
        code: impl Into<String>,
        what: impl Into<String>,
        place: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            exit: exit::USAGE,
            ..Self::failed(code, what, place, remedy)
        }
    }

    /// What was asked for could not be written out.
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self {
                exit: exit::READER_GONE,
                ..Self::failed("reader_gone", "nobody reads the output", "the output", "")
            };
        }
        Self::failed(
            "write",
            error.to_string(),
            "the output",
            "is there room on the disk?",
        )
    }
}

impl From<crate::db::DbError> for Failure {
    fn from(error: crate::db::DbError) -> Self {
        if error.is_bad_cursor() {
            return Failure::usage(
                "bad_cursor",
                error.to_string(),
                "--after",
                "take the `cursor` of a line, or start again without it",
            );
        }
        Failure::failed(
            "database",
            error.to_string(),
            "the database",
            "see `callvault check`; is the database up, is the schema current (`callvault migrate status`)?",
        )
    }
}

impl From<crate::archive::contract::ArchiveError> for Failure {
    fn from(error: crate::archive::contract::ArchiveError) -> Self {
        Failure::failed(
            error.kind().code(),
            error.whole(),
            "the archive",
            "see `callvault check`, which tells what the store can do",
        )
    }
}

impl From<crate::app::OpenError> for Failure {
    fn from(error: crate::app::OpenError) -> Self {
        Self {
            exit: if error.is_configuration {
                exit::USAGE
            } else {
                exit::FAILED
            },
            code: error.code.to_owned(),
            what: error.what,
            place: error.place,
            remedy: error.remedy,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Out {
    pub json: bool,
}

impl Out {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// One item: a JSON line, or `text` for people.
    pub fn item(&self, item: &impl Serialize, text: impl FnOnce() -> String) {
        if self.json {
            // Unwrap safety: our own views hold no maps with other keys than text.
            self.line(&serde_json::to_string(item).unwrap_or_default());
        } else {
            self.line(&text());
        }
    }

    /// Words for people; nothing in JSON mode.
    pub fn say(&self, text: &str) {
        if !self.json {
            self.line(text);
        }
    }

    /// What belongs to the answer and is no item of it: a line for people, or an object on stderr.
    pub fn aside(&self, item: &impl Serialize, text: &str) {
        if self.json {
            let line = serde_json::to_string(item).unwrap_or_default();
            let _ = writeln!(io::stderr().lock(), "{line}");
        } else {
            self.line(text);
        }
    }

    /// A reader that has gone away (`| head`) ends the program as it ends other Unix tools: every step
    /// is safe to be cut short. Words that get lost otherwise are a failure that the exit code tells.
    fn line(&self, text: &str) {
        if let Err(error) = writeln!(io::stdout().lock(), "{text}") {
            let failure = Failure::output(&error);
            let _ = self.fail(&failure);
            std::process::exit(failure.exit.into());
        }
    }

    pub fn fail(&self, failure: &Failure) -> ExitCode {
        if failure.exit == exit::READER_GONE {
            return ExitCode::from(failure.exit);
        }
        let mut stderr = std::io::stderr().lock();
        let _ = if self.json {
            let error = json!({ "error": {
                "code": failure.code, "what": failure.what, "where": failure.place, "do": failure.remedy,
            }});
            writeln!(stderr, "{error}")
        } else {
            writeln!(
                stderr,
                "error: {}\n  where: {}\n  do:    {}",
                failure.what, failure.place, failure.remedy
            )
        };
        ExitCode::from(failure.exit)
    }
}

/// The sentence of clap's message, with the names that follow it in lines of their own; the usage and hints that come
/// after an empty line are help. Where help itself is the answer, a command is missing.
fn what_is_wrong(text: &str) -> String {
    let Some(text) = text.strip_prefix("error: ") else {
        return "a subcommand is missing".to_owned();
    };
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    lines.join(" ")
}

/// Clap's own words; help and version are no errors.
pub fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::from(exit::DONE);
    }
    if std::env::args().any(|arg| arg == "--json") {
        let text = error.to_string();
        let what = what_is_wrong(&text);
        return Out::new(true).fail(&Failure::usage(
            "usage",
            what,
            "the command line",
            "see callvault --help, or callvault COMMAND --help",
        ));
    }
    let _ = error.print();
    ExitCode::from(exit::USAGE)
}
