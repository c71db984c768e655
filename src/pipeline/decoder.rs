//! The parent's side of the decoder children: keeps a few warm, hands each one file at a time, replaces any that fails.
//!
//! Decoders read hostile bytes, so none runs in this process (`media::sandbox` says what a child may do). A child that
//! crashes, spins or answers nonsense costs the file at hand a try, never the worker.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::domain::media::{PairJob, RawAudio, TranscodeJob, TranscodeReport};
use crate::media::child::{Answer, MAX_LINE_BYTES, Request, SUBCOMMAND, Work};

/// How long a child may take to say that it is ready; generous for a machine that swaps.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What one file may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderLimits {
    pub wall_clock: Duration,
    pub cpu: Duration,
}

impl Default for DecoderLimits {
    fn default() -> Self {
        Self {
            wall_clock: Duration::from_secs(30 * 60),
            cpu: Duration::from_secs(20 * 60),
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum DecoderFault {
    /// No child could be started; says nothing about the file.
    #[error("starting a decoder child: {0}")]
    Unavailable(String),
    /// The child says that the disk or the settings are the trouble, not the file.
    #[error("decoder child: {text}")]
    Trouble { code: String, text: String },
    /// The child ended in the middle of the file.
    #[error("the decoder child died over the file ({status})")]
    Crashed { status: String },
    /// The child did not answer within the limit and was killed.
    #[error("the decoder child gave no answer within {} s", limit.as_secs())]
    TimedOut { limit: Duration },
    /// The child answered something else than a report.
    #[error("the decoder child gave an unreadable answer")]
    BadAnswer,
}

impl DecoderFault {
    /// The stable code for rows, pages and metrics.
    pub fn code(&self) -> &str {
        match self {
            Self::Unavailable(_) => "decoder_unavailable",
            Self::Trouble { code, .. } => code,
            Self::Crashed { .. } => "decoder_crashed",
            Self::TimedOut { .. } => "decoder_timeout",
            Self::BadAnswer => "decoder_bad_answer",
        }
    }

    /// Whether this try counts against the file (three such give up its access copy).
    pub const fn blames_the_file(&self) -> bool {
        matches!(
            self,
            Self::Crashed { .. } | Self::TimedOut { .. } | Self::BadAnswer
        )
    }
}

/// A fixed number of decoder children, started when first needed and kept warm.
#[derive(Debug)]
pub struct DecoderCrew {
    exe: PathBuf,
    limits: DecoderLimits,
    places: Semaphore,
    idle: Mutex<Vec<Warm>>,
}

#[derive(Debug)]
struct Warm {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl DecoderCrew {
    /// `exe` is this program; `children` (at least one) work at the same time.
    pub fn new(exe: PathBuf, children: usize, limits: DecoderLimits) -> Self {
        Self {
            exe,
            limits,
            places: Semaphore::new(children.max(1)),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Makes access copy and waveform of one file; waits for a free child.
    ///
    /// After a fault neither output exists. Dropping the future kills the child at work.
    pub async fn transcode(&self, job: &TranscodeJob) -> Result<TranscodeReport, DecoderFault> {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let job = TranscodeJob {
            input: absolute(&job.input),
            mp3: absolute(&job.mp3),
            waveform: absolute(&job.waveform),
            ..job.clone()
        };
        let outputs = [job.mp3.clone(), job.waveform.clone()];
        let result = self.ask(Work::Transcode(job)).await;
        if result.is_err() {
            for path in outputs {
                // Usually there is none; what cannot be removed the spool's sweep removes.
                let _ = tokio::fs::remove_file(path).await;
            }
        }
        result
    }

    /// Makes the joint access copy of two parties' files; waits for a free child. After a fault it does not exist.
    pub async fn pair(&self, job: &PairJob) -> Result<TranscodeReport, DecoderFault> {
        let result = self.ask(Work::Pair(job.clone())).await;
        if result.is_err() {
            let _ = tokio::fs::remove_file(&job.mp3).await;
        }
        result
    }

    /// The same findings without any output.
    pub async fn probe(
        &self,
        input: &Path,
        raw: Option<RawAudio>,
    ) -> Result<TranscodeReport, DecoderFault> {
        let input = std::path::absolute(input).unwrap_or_else(|_| input.to_owned());
        self.ask(Work::Probe { input, raw }).await
    }

    /// Process ids of the children that wait for work.
    pub fn idle_pids(&self) -> Vec<u32> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.iter().filter_map(|warm| warm.child.id()).collect()
    }

    async fn ask(&self, work: Work) -> Result<TranscodeReport, DecoderFault> {
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|e| DecoderFault::Unavailable(e.to_string()))?;
        let request = Request {
            cpu_seconds: self.limits.cpu.as_secs().max(1),
            work,
        };
        let mut line =
            serde_json::to_vec(&request).map_err(|e| DecoderFault::Unavailable(e.to_string()))?;
        line.push(b'\n');
        let (mut warm, was_idle) = self.give(&line).await?;
        // From here to the put back a fault or a cancelled caller drops the child, and dropping kills it.
        let limit = self.limits.wall_clock;
        match timeout(limit, warm.hear()).await {
            // It may have been dying already when the line was written: only a child that was started for
            // this file can say that the file killed it.
            Ok(Err(_)) if was_idle => {
                warm.end().await;
                let mut fresh = self.start().await?;
                fresh
                    .tell(&line)
                    .await
                    .map_err(|e| DecoderFault::Unavailable(e.to_string()))?;
                self.answer_of(fresh, limit).await
            }
            heard => self.judge(warm, heard, limit).await,
        }
    }

    async fn answer_of(
        &self,
        mut warm: Warm,
        limit: Duration,
    ) -> Result<TranscodeReport, DecoderFault> {
        let heard = timeout(limit, warm.hear()).await;
        self.judge(warm, heard, limit).await
    }

    async fn judge(
        &self,
        warm: Warm,
        heard: Result<io::Result<Option<Answer>>, Elapsed>,
        limit: Duration,
    ) -> Result<TranscodeReport, DecoderFault> {
        match heard {
            Err(_) => {
                warm.end().await;
                Err(DecoderFault::TimedOut { limit })
            }
            Ok(Err(_)) => Err(DecoderFault::Crashed {
                status: warm.end().await,
            }),
            Ok(Ok(None)) => {
                warm.end().await;
                Err(DecoderFault::BadAnswer)
            }
            Ok(Ok(Some(Answer::Ready))) => {
                warm.end().await;
                Err(DecoderFault::BadAnswer)
            }
            Ok(Ok(Some(Answer::Report(report)))) => {
                self.put_back(warm);
                Ok(*report)
            }
            Ok(Ok(Some(Answer::Trouble { code, text }))) => {
                self.put_back(warm);
                Err(DecoderFault::Trouble { code, text })
            }
        }
    }

    /// Hands `line` to an idle child that is still alive, else to a new one.
    /// Says too whether it was an idle one.
    async fn give(&self, line: &[u8]) -> Result<(Warm, bool), DecoderFault> {
        while let Some(mut warm) = self.take_idle() {
            // One that died while it had nothing to do says nothing about this file.
            if matches!(warm.child.try_wait(), Ok(None)) && warm.tell(line).await.is_ok() {
                return Ok((warm, true));
            }
            warm.end().await;
        }
        let mut warm = self.start().await?;
        match warm.tell(line).await {
            Ok(()) => Ok((warm, false)),
            Err(e) => {
                let status = warm.end().await;
                Err(DecoderFault::Unavailable(format!("{e} ({status})")))
            }
        }
    }

    async fn start(&self) -> Result<Warm, DecoderFault> {
        let unavailable = |e: &dyn std::fmt::Display| DecoderFault::Unavailable(e.to_string());
        let mut child = Command::new(&self.exe)
            .arg(SUBCOMMAND)
            // A child that is taken over finds no secrets in its environment.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // Control-C at a terminal goes to the parent alone, which ends its work in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| unavailable(&e))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(unavailable(&"no pipes"));
        };
        let mut warm = Warm {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        match timeout(START_LIMIT, warm.hear()).await {
            Ok(Ok(Some(Answer::Ready))) => Ok(warm),
            _ => {
                let status = warm.end().await;
                Err(unavailable(&format!("it was never ready ({status})")))
            }
        }
    }

    fn take_idle(&self) -> Option<Warm> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn put_back(&self, warm: Warm) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(warm);
    }
}

impl Warm {
    async fn tell(&mut self, line: &[u8]) -> io::Result<()> {
        self.stdin.write_all(line).await?;
        self.stdin.flush().await
    }

    /// The next line: an error when the child has closed its end, `None` when it is no answer.
    async fn hear(&mut self) -> io::Result<Option<Answer>> {
        let mut line = Vec::new();
        let n = (&mut self.stdout)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line).ok())
    }

    /// Kills the child if it still lives, and waits, so that nothing of it is left; says how it ended.
    async fn end(mut self) -> String {
        // Dead already is as good.
        let _ = self.child.start_kill();
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        }
    }
}
