//! The decoder child: the hidden subcommand `decoder-child`, one JSON request a line on stdin, one JSON answer on stdout.
//!
//! It ends when its stdin closes, and within half a second when its parent has died: the kernel's parent-death signal
//! follows the thread that spawned the child, not the process, so a thread of the child's own watches instead.

use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MediaError, pair, sandbox, transcode};
use crate::domain::media::{PairJob, RawAudio, TranscodeJob, TranscodeReport};

/// The subcommand's name.
pub const SUBCOMMAND: &str = "decoder-child";

/// A request longer than this is not from our parent.
pub const MAX_LINE_BYTES: u64 = 256 * 1024;

const PARENT_CHECK: Duration = Duration::from_millis(250);

/// One line to the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// CPU time for this file; the kernel kills the child beyond it.
    pub cpu_seconds: u64,
    pub work: Work,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Access copy, waveform, findings.
    Transcode(TranscodeJob),
    /// Two parties' files in one stereo copy.
    Pair(PairJob),
    /// Findings only.
    Probe {
        input: PathBuf,
        raw: Option<RawAudio>,
    },
}

/// One line from the child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The first line of every child: it has shut itself in and waits for work.
    Ready,
    Report(Box<TranscodeReport>),
    /// No finding about the file, but trouble around it: a code of [`MediaError`] and the text.
    Trouble {
        code: String,
        text: String,
    },
}

/// Runs the child to its end. Call it before any other thread exists, with nothing read from stdin yet.
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("decoder child: {text}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), String> {
    watch_parent()?;
    sandbox::shut_in().map_err(|e| e.to_string())?;
    tell(&Answer::Ready)?;
    let mut stdin = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let n = io::Read::take(&mut stdin, MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(|e| format!("reading a request: {e}"))?;
        if n == 0 {
            return Ok(());
        }
        let request: Request =
            serde_json::from_slice(&line).map_err(|e| format!("reading a request: {e}"))?;
        let answer = match work(&request) {
            Ok(report) => Answer::Report(Box::new(report)),
            Err(e) => Answer::Trouble {
                code: e.code().into(),
                text: e.to_string(),
            },
        };
        tell(&answer)?;
    }
}

fn tell(answer: &Answer) -> Result<(), String> {
    let mut line = serde_json::to_vec(answer).map_err(|e| format!("writing an answer: {e}"))?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&line)
        .and_then(|()| stdout.flush())
        .map_err(|e| format!("writing an answer: {e}"))
}

fn work(request: &Request) -> Result<TranscodeReport, MediaError> {
    sandbox::grant_cpu(request.cpu_seconds)?;
    match &request.work {
        Work::Transcode(job) => transcode::transcode(job),
        Work::Pair(job) => pair::pair(job),
        Work::Probe { input, raw } => transcode::probe(input, raw.as_ref()),
    }
}

/// Ends this process soon after its parent: a busy child does not look at its stdin.
///
/// A parent that died before this line is seen by the end of stdin, which nobody else holds open.
fn watch_parent() -> Result<(), String> {
    let parent = rustix::process::getppid();
    std::thread::Builder::new()
        .name("parent-watch".into())
        .stack_size(64 * 1024)
        .spawn(move || {
            while rustix::process::getppid() == parent {
                std::thread::sleep(PARENT_CHECK);
            }
            // Not `exit`: another thread may be anywhere, and there is nothing to tidy up.
            std::process::abort();
        })
        .map(drop)
        .map_err(|e| format!("starting the parent watch: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::media::{AccessSettings, AccessTags};

    #[test]
    fn requests_and_answers_are_one_line_each() {
        let request = Request {
            cpu_seconds: 60,
            work: Work::Transcode(TranscodeJob {
                input: "/spool/a\nb".into(),
                raw: "alaw/8000/2".parse().ok(),
                mp3: "/spool/a.mp3".into(),
                waveform: "/spool/a.json".into(),
                settings: AccessSettings::default(),
                tags: AccessTags::default(),
            }),
        };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
    }
}
