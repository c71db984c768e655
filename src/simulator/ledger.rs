//! The ledger of the simulated vendors: what each of them made and how it must end, one JSON line per recording.
//!
//! Several vendors write the same file, and later runs go on in it: every line is one append.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// A line of `served.ndjson`. What does not exist is null: a recording that fails as planned has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    pub source: String,
    pub provider_call_id: String,
    pub provider_recording_id: Option<String>,
    /// Lower-case hexadecimal SHA-256 of the bytes that the vendor serves.
    pub sha256: Option<String>,
    pub bytes: Option<u64>,
    /// Length after decoding.
    pub duration_ms: Option<u64>,
    pub mishaps: Vec<String>,
    /// `archived`, `lost`, `absent` or `none`.
    pub expect: String,
}

/// The ledger of one vendor: its own lines of this run, and the shared file behind them.
#[derive(Debug)]
pub struct Ledger {
    file: Option<File>,
    lines: Mutex<Vec<LedgerLine>>,
}

impl Ledger {
    /// Opens (or makes) the file; gives also the lines that earlier runs of `source` wrote.
    pub fn open(path: Option<&Path>, source: &str) -> io::Result<(Self, Vec<LedgerLine>)> {
        let mut earlier = Vec::new();
        let mut file = None;
        if let Some(path) = path {
            if let Some(folder) = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
            {
                std::fs::create_dir_all(folder)?;
            }
            let mut opened = OpenOptions::new().create(true).append(true).open(path)?;
            let text = std::fs::read(path)?;
            earlier = String::from_utf8_lossy(&text)
                .lines()
                // A line that a killed run left half written is no call of ours.
                .filter_map(|line| serde_json::from_str::<LedgerLine>(line).ok())
                .filter(|line| line.source == source)
                .collect();
            if text.last().is_some_and(|byte| *byte != b'\n') {
                opened.write_all(b"\n")?;
            }
            file = Some(opened);
        }
        let lines = Mutex::new(Vec::new());
        Ok((Self { file, lines }, earlier))
    }

    /// Appends one line with one write.
    pub fn write(&self, line: LedgerLine) -> io::Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut file) = self.file.as_ref() {
            let mut text = serde_json::to_vec(&line)?;
            text.push(b'\n');
            file.write_all(&text)?;
        }
        lines.push(line);
        Ok(())
    }

    /// The lines of this run, in the order of writing.
    pub fn lines(&self) -> Vec<LedgerLine> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(source: &str, id: &str) -> LedgerLine {
        LedgerLine {
            source: source.to_owned(),
            provider_call_id: id.to_owned(),
            provider_recording_id: None,
            sha256: Some("ab".to_owned()),
            bytes: Some(2),
            duration_ms: Some(1),
            mishaps: vec!["late".to_owned()],
            expect: "archived".to_owned(),
        }
    }

    #[test]
    fn two_vendors_and_two_runs_share_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo/served.ndjson");
        let (one, earlier) = Ledger::open(Some(&path), "one").unwrap();
        let (two, _) = Ledger::open(Some(&path), "two").unwrap();
        assert!(earlier.is_empty());
        one.write(line("one", "a")).unwrap();
        two.write(line("two", "b")).unwrap();
        one.write(line("one", "c")).unwrap();
        drop((one, two));
        std::fs::write(
            &path,
            format!("{}{{\"sou", std::fs::read_to_string(&path).unwrap()),
        )
        .unwrap();
        let (again, earlier) = Ledger::open(Some(&path), "one").unwrap();
        assert_eq!(earlier, [line("one", "a"), line("one", "c")]);
        again.write(line("one", "d")).unwrap();
        assert_eq!(again.lines(), [line("one", "d")]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.lines().last().unwrap(),
            serde_json::to_string(&line("one", "d")).unwrap()
        );
        assert_eq!(
            text.lines().next().unwrap(),
            "{\"source\":\"one\",\"provider_call_id\":\"a\",\"provider_recording_id\":null,\"sha256\":\"ab\",\"bytes\":2,\
             \"duration_ms\":1,\"mishaps\":[\"late\"],\"expect\":\"archived\"}"
        );
    }
}
