//! Judges the fetched bytes without decoding them: recording or error page, complete or short.
//!
//! Names, labels and content types are hints at most; the bytes decide.

use std::io::Seek as _;

use crate::domain::media::{NotARecording, SniffClass, Sniffed, note};
use crate::domain::recording::reason;
use crate::media::{header, sniff};

use super::handoff::{Fetched, Inspected, Verdict};

pub async fn inspect(fetched: Fetched) -> Result<Inspected, Verdict> {
    if let Some(coding) = &fetched.packed {
        // Asked for as it is and sent packed: these are not the bytes of the recording.
        return Err(Verdict::BadBytes {
            reason: reason::NOT_A_RECORDING,
            detail: format!("packed on the way with Content-Encoding {coding}"),
        });
    }
    let (path, bytes) = (fetched.scratch.path().to_owned(), fetched.fingerprint.bytes);
    let looked = tokio::task::spawn_blocking(move || look(&path, bytes)).await;
    let (sniffed, is_short) = match looked {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot read back what was fetched");
            return Err(Verdict::later(reason::SPOOL_FULL));
        }
        Err(_) => return Err(Verdict::later(reason::SPOOL_FULL)),
    };
    match sniffed.class {
        SniffClass::NotARecording(NotARecording::Empty) => {
            return Err(Verdict::BadBytes {
                reason: reason::EMPTY_BODY,
                detail: "the body has no bytes".to_owned(),
            });
        }
        SniffClass::NotARecording(what) => {
            return Err(Verdict::BadBytes {
                reason: reason::NOT_A_RECORDING,
                detail: format!("{} ({bytes} bytes)", what.code()),
            });
        }
        SniffClass::Audio | SniffClass::Unknown => {}
    }
    let mut notes = Vec::new();
    if is_short {
        notes.push(note::SHORT.to_owned());
    }
    if fetched.plain_http {
        notes.push(note::FETCHED_PLAIN_HTTP.to_owned());
    }
    Ok(Inspected {
        scratch: fetched.scratch,
        fingerprint: fetched.fingerprint,
        ext: sniffed.ext,
        mime: sniffed.mime,
        notes,
    })
}

/// What the first bytes are, and whether the header announces more than there is.
pub fn look(path: &std::path::Path, bytes: u64) -> std::io::Result<(Sniffed, bool)> {
    let mut file = std::fs::File::open(path)?;
    let mut prefix = vec![0; sniff::PREFIX_BYTES];
    let read = header::read_full(&mut file, &mut prefix)?;
    file.rewind()?;
    let wav = header::wav(&mut file, bytes)?;
    Ok((
        sniff::sniff(&prefix[..read]),
        wav.is_some_and(|wav| wav.is_short()),
    ))
}
