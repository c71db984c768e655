//! Judges the fetched bytes without decoding them: recording or error page, complete or short.
//!
//! Names, labels and content types are hints at most; the bytes decide.

use std::io::{Read as _, Seek as _};

use md5::{Digest as _, Md5};

use crate::domain::digest::Fingerprint;
use crate::domain::media::{NotARecording, SniffClass, Sniffed, note};
use crate::domain::recording::reason;
use crate::media::{header, sniff};

use super::handoff::{Announced, Fetched, Inspected, Verdict};

pub async fn inspect(fetched: Fetched) -> Result<Inspected, Verdict> {
    if let Some(coding) = &fetched.packed {
        // Asked for as it is and sent packed: these are not the bytes of the recording.
        return Err(Verdict::BadBytes {
            reason: reason::NOT_A_RECORDING,
            detail: format!("packed on the way with Content-Encoding {coding}"),
        });
    }
    let (path, fingerprint) = (fetched.scratch.path().to_owned(), fetched.fingerprint);
    let bytes = fingerprint.bytes;
    let announced = fetched.announced.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let (sniffed, is_short) = look(&path, bytes)?;
        Ok::<_, std::io::Error>((sniffed, is_short, differs(&announced, &path, &fingerprint)?))
    });
    let (sniffed, is_short, differs) = match looked.await {
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
    if let Some(detail) = differs {
        return Err(Verdict::BadBytes {
            reason: reason::TRUNCATED,
            detail,
        });
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
        beside: None,
    })
}

/// How the bytes differ from what the vendor announced: fewer, or of another hash.
fn differs(
    announced: &Announced,
    path: &std::path::Path,
    found: &Fingerprint,
) -> std::io::Result<Option<String>> {
    let bytes = found.bytes;
    if let Some(more) = announced.bytes.filter(|&announced| bytes < announced) {
        return Ok(Some(format!("{bytes} bytes came, {more} were announced")));
    }
    let is_another = |told: &String| !told.eq_ignore_ascii_case(&found.sha256.hex());
    if announced.sha256.as_ref().is_some_and(is_another) {
        return Ok(Some(format!(
            "the announced SHA-256 is not that of the {bytes} bytes that came"
        )));
    }
    if announced.md5.is_empty() {
        return Ok(None);
    }
    let mut md5 = Md5::new();
    let mut file = std::fs::File::open(path)?;
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => md5.update(&piece[..read]),
        }
    }
    let found: [u8; 16] = md5.finalize().into();
    let fits = announced.md5.contains(&found);
    Ok((!fits).then(|| format!("the announced MD5 is not that of the {bytes} bytes that came")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::digest::Sha256;
    use crate::domain::units::ByteSize;
    use crate::spool::{Settings, Spool};

    async fn judged(bytes: &[u8], announced: Announced) -> Result<(), Verdict> {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: dir.path().join("spool"),
            limit: ByteSize::from_bytes(1 << 20),
        };
        let spool = Spool::open(&settings, dir.path()).await.unwrap();
        let mut scratch = spool.scratch(uuid::Uuid::nil(), 1, 0).await.unwrap();
        scratch.write(bytes).await.unwrap();
        let fingerprint = scratch.finish().await.unwrap();
        let fetched = Fetched {
            scratch,
            fingerprint,
            plain_http: false,
            packed: None,
            announced,
            at: None,
        };
        inspect(fetched).await.map(|_| ())
    }

    #[tokio::test]
    async fn bytes_that_are_not_what_was_announced_count_as_truncated() {
        let bytes = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\0\0\0";
        let right: [u8; 16] = Md5::digest(bytes).into();
        let announced = |bytes: Option<u64>, md5: &[[u8; 16]]| Announced {
            bytes,
            md5: md5.to_vec(),
            sha256: None,
        };
        let hash = |of: &[u8]| Announced {
            sha256: Some(Sha256::of(of).hex()),
            ..Announced::default()
        };
        let length = bytes.len() as u64;
        for (told, fits) in [
            (announced(None, &[]), true),
            (announced(Some(length), &[right]), true),
            // Announced anew, with another hash: either will do.
            (announced(Some(length), &[[7; 16], right]), true),
            (announced(Some(length - 1), &[]), true),
            (announced(Some(length + 1), &[]), false),
            (announced(None, &[[7; 16]]), false),
            (hash(bytes), true),
            (hash(b"another file"), false),
        ] {
            let found = judged(bytes, told.clone()).await;
            let is_truncated = matches!(&found, Err(Verdict::BadBytes { reason, .. }) if *reason == reason::TRUNCATED);
            assert_eq!((found.is_ok(), is_truncated), (fits, !fits), "{told:?}");
        }
        // What is no recording at all is called so, whatever was announced of it.
        let page = judged(b"<!DOCTYPE html><html></html>", announced(None, &[[7; 16]])).await;
        assert!(
            matches!(page, Err(Verdict::BadBytes { reason, .. }) if reason == reason::NOT_A_RECORDING)
        );
    }
}
