//! `audio probe` and `audio transcode`: what the pipeline would see in a file and make of it.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use crate::domain::media::{
    AccessSettings, AccessTags, RawAudio, SniffClass, Sniffed, TranscodeJob, TranscodeReport,
};
use crate::pipeline::decoder::{DecoderCrew, DecoderLimits};
use crate::pipeline::inspect::look;

use super::{Failure, Global, Out, exit};

#[derive(Debug, Subcommand)]
pub enum Audio {
    /// Container, codec, true length and findings
    Probe {
        file: PathBuf,
        /// What a file without a header is, as a source's raw_audio: mulaw/8000/1
        #[arg(long)]
        raw: Option<RawAudio>,
    },
    /// Writes the access copy that the pipeline would make
    Transcode {
        input: PathBuf,
        output: PathBuf,
        /// What a file without a header is, as a source's raw_audio: mulaw/8000/1
        #[arg(long)]
        raw: Option<RawAudio>,
    },
}

impl Audio {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        // The file's own settings count; without a configuration the defaults do.
        let settings = super::run::load(global)?.access_copy;
        match self {
            Audio::Probe { file, raw } => probe(&file, raw, out).await,
            Audio::Transcode { input, output, raw } => {
                transcode(&input, &output, raw, settings, out).await
            }
        }
    }
}

async fn probe(file: &Path, raw: Option<RawAudio>, out: &Out) -> Result<u8, Failure> {
    let bytes = std::fs::metadata(file).map_or(0, |meta| meta.len());
    let (sniffed, is_short) = look_at(file, bytes)?;
    let report = match sniffed.class {
        SniffClass::NotARecording(_) => None,
        SniffClass::Audio | SniffClass::Unknown => {
            Some(crew()?.probe(file, raw).await.map_err(fault)?)
        }
    };
    let refused = match sniffed.class {
        SniffClass::NotARecording(what) => Some(what.code()),
        SniffClass::Audio | SniffClass::Unknown => None,
    };
    let view = json!({
        "file": file, "bytes": bytes, "ext": sniffed.ext, "mime": sniffed.mime,
        "not_a_recording": refused,
        "short": is_short,
        "original": report.as_ref().and_then(|r| r.original.as_ref()),
        "declared": report.as_ref().and_then(|r| r.declared.as_ref()),
        "analysis": report.as_ref().and_then(|r| r.analysis.as_ref()),
        "no_access_reason": report.as_ref().and_then(|r| r.no_access_reason.as_ref()),
        "notes": report.as_ref().map(|r| &r.notes),
    });
    out.item(&view, || {
        let mut text = format!("{}: {} bytes, {}", file.display(), bytes, sniffed.mime);
        if let Some(code) = refused {
            text += &format!("\n  not a recording: {code}; it would not be archived");
        }
        if let Some(report) = &report {
            text += &describe(report);
        }
        text
    });
    Ok(exit::DONE)
}

async fn transcode(
    input: &Path,
    output: &Path,
    raw: Option<RawAudio>,
    settings: AccessSettings,
    out: &Out,
) -> Result<u8, Failure> {
    let bytes = std::fs::metadata(input).map_or(0, |meta| meta.len());
    if let SniffClass::NotARecording(what) = look_at(input, bytes)?.0.class {
        return Err(Failure::failed(
            what.code(),
            "the file is not a recording",
            input.display().to_string(),
            "look at it with a text viewer: it is probably a vendor's error page",
        ));
    }
    let dir = scratch()?;
    let job = job(input, dir.path(), raw, settings)?;
    let report = crew()?.transcode(&job).await.map_err(fault)?;
    if report.access.is_none() {
        return Err(Failure::failed(
            report.no_access_reason.clone().unwrap_or_default(),
            "no access copy can be made of it",
            input.display().to_string(),
            "the pipeline would archive the original all the same; see callvault audio probe",
        ));
    }
    let made = match report.access_is_original {
        true => &job.input,
        false => &job.mp3,
    };
    std::fs::copy(made, output).map_err(|error| {
        Failure::failed(
            "write",
            error.to_string(),
            output.display().to_string(),
            "choose a place that can be written to",
        )
    })?;
    out.item(&report, || {
        format!(
            "{} -> {}{}",
            input.display(),
            output.display(),
            describe(&report)
        )
    });
    Ok(exit::DONE)
}

fn describe(report: &TranscodeReport) -> String {
    let mut text = String::new();
    if let Some(facts) = &report.original {
        text += &format!(
            "\n  {} {} Hz, {} channel(s), {:.3} s decoded",
            facts.codec,
            facts.sample_rate_hz,
            facts.channels,
            facts.duration_ms as f64 / 1000.0
        );
    }
    if let Some(declared) = &report.declared {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "?".into());
        text += &format!(
            "\n  by its header: {} Hz, {} channel(s), {} s",
            shown(declared.sample_rate_hz.map(|hz| hz.to_string())),
            shown(declared.channels.map(|n| n.to_string())),
            shown(
                declared
                    .duration_ms
                    .map(|ms| format!("{:.3}", ms as f64 / 1000.0))
            ),
        );
    }
    if let Some(analysis) = &report.analysis {
        let level = |value: Option<f64>| value.map_or("none".into(), |v| format!("{v:.1}"));
        text += &format!(
            "\n  peak {} dBFS, loudness {} LUFS, {:.0} % silence{}",
            level(analysis.peak_dbfs),
            level(analysis.loudness_lufs),
            analysis.silence_share * 100.0,
            if analysis.has_dtmf {
                ", keys pressed"
            } else {
                ""
            },
        );
        if analysis.channels.len() > 1 {
            for (name, channel) in ["left", "right"].iter().zip(&analysis.channels) {
                text += &format!(
                    "\n    {name}: peak {} dBFS, {:.0} % silence",
                    level(channel.peak_dbfs),
                    channel.silence_share * 100.0
                );
            }
        }
    }
    if let Some(access) = &report.access {
        text += &format!(
            "\n  access copy: {} Hz, {} channel(s), {:.3} s, {} bytes",
            access.sample_rate_hz,
            access.channels,
            access.duration_ms as f64 / 1000.0,
            access.bytes
        );
    }
    if !report.notes.is_empty() {
        text += &format!("\n  notes: {}", report.notes.join(", "));
    }
    text
}

fn look_at(file: &Path, bytes: u64) -> Result<(Sniffed, bool), Failure> {
    look(file, bytes).map_err(|error| {
        Failure::failed(
            "read",
            error.to_string(),
            file.display().to_string(),
            "name a file that can be read",
        )
    })
}

fn scratch() -> Result<tempfile::TempDir, Failure> {
    tempfile::tempdir().map_err(|error| {
        Failure::failed(
            "write",
            error.to_string(),
            "the temporary folder",
            "set TMPDIR to a folder that can be written to",
        )
    })
}

fn job(
    input: &Path,
    dir: &Path,
    raw: Option<RawAudio>,
    settings: AccessSettings,
) -> Result<TranscodeJob, Failure> {
    let input = std::path::absolute(input).map_err(|error| {
        Failure::failed(
            "read",
            error.to_string(),
            input.display().to_string(),
            "name the file by its full path",
        )
    })?;
    Ok(TranscodeJob {
        input,
        raw,
        mp3: dir.join("access.mp3"),
        waveform: dir.join("waveform.json"),
        settings,
        tags: AccessTags::default(),
    })
}

fn crew() -> Result<DecoderCrew, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::failed(
            "decoder",
            error.to_string(),
            "this program",
            "start callvault by its full path",
        )
    })?;
    Ok(DecoderCrew::new(program, 1, DecoderLimits::default()))
}

fn fault(fault: crate::pipeline::decoder::DecoderFault) -> Failure {
    Failure::failed(
        "decoder",
        fault.to_string(),
        "the decoder child",
        "the file harms the decoder; the pipeline would archive it without an access copy",
    )
}
