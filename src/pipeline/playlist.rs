//! Fetches what a playlist names: its segments become files of the same recording.
//!
//! Not a stage: it fetches and inspects once more for every file, under the same policy and the same limit.
//! What a newcomer gets wrong: a playlist is foreign text. Each address in it is checked like any other, and
//! nothing is archived before the last segment is here.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use crate::db::recordings::{Lease, RecordingRow};
use crate::domain::clock::Timestamp;
use crate::domain::digest::Fingerprint;
use crate::domain::media::note;
use crate::domain::pieces::{Piece, Pieces};
use crate::domain::recording::reason;
use crate::domain::retry::not_ready;
use crate::media::hls::{self, Media, Playlist, Segment, Unplayable};
use crate::providers::contract::{Address, Provider};
use crate::providers::http::WebAddress;
use crate::spool::Scratch;

use super::handoff::{Beside, BesideFile, Held, Inspected, Place, Tools, Verdict};
use super::{fetch, inspect};

const COPY_BYTES: usize = 256 * 1024;

/// Where a playlist came from: the address that was asked for, and where redirects led.
#[derive(Clone, Copy)]
pub struct Came<'a> {
    pub address: &'a Address,
    pub from: &'a WebAddress,
}

/// Brings in everything that the playlist in `found` names, and adds it to `found`.
pub async fn gather(
    tools: &Tools,
    provider: &dyn Provider,
    lease: &Lease,
    row: &RecordingRow,
    came: Came<'_>,
    found: &mut Inspected,
) -> Result<(), Verdict> {
    let mut gathering = Gathering {
        tools,
        provider,
        lease,
        row,
        playlist: came.address.clone(),
        base: came.from.clone(),
        left: provider
            .common()
            .max_recording_bytes
            .saturating_sub(found.fingerprint.bytes),
        plain_http: false,
        files: Vec::new(),
    };
    let media = match read(&found.scratch, found.fingerprint.bytes).await?.1 {
        Playlist::Media(media) => media,
        Playlist::Master { sound } => gathering.inner(&sound).await?,
    };
    let is_cut = !media.ended && gathering.waits_no_longer()?;
    let beside = gathering.segments(media).await?;
    let mut note = |code: &str, is_so: bool| {
        if is_so && !found.notes.iter().any(|known| known == code) {
            found.notes.push(code.to_owned());
        }
    };
    note(note::SHORT, is_cut);
    note(note::ENCRYPTED, beside.0.pieces.encrypted);
    note(note::FETCHED_PLAIN_HTTP, beside.1);
    found.beside = Some(beside.0);
    Ok(())
}

async fn read(scratch: &Scratch, bytes: u64) -> Result<(Bytes, Playlist), Verdict> {
    if bytes > hls::MOST_BYTES {
        return Err(Verdict::BadBytes {
            reason: reason::TOO_LARGE,
            detail: format!("a playlist of {bytes} bytes"),
        });
    }
    let text = scratch.head(bytes as usize).await?;
    let playlist = hls::read(&text).map_err(unplayable)?;
    Ok((text.into(), playlist))
}

fn unplayable(why: Unplayable) -> Verdict {
    let reason = match why {
        Unplayable::TooLong => reason::TOO_LARGE,
        Unplayable::NotAPlaylist | Unplayable::Empty | Unplayable::BadRange => {
            reason::NOT_A_RECORDING
        }
    };
    Verdict::BadBytes {
        reason,
        detail: why.to_string(),
    }
}

struct Gathering<'a> {
    tools: &'a Tools,
    provider: &'a dyn Provider,
    lease: &'a Lease,
    row: &'a RecordingRow,
    playlist: Address,
    /// What the addresses in the playlist are relative to.
    base: WebAddress,
    /// Bytes that the recording may still have.
    left: u64,
    plain_http: bool,
    files: Vec<BesideFile>,
}

impl Gathering<'_> {
    fn now(&self) -> Timestamp {
        self.tools.clock.now()
    }

    /// The playlist that a master playlist chose; one level, no more.
    async fn inner(&mut self, uri: &str) -> Result<Media, Verdict> {
        let address = self.address(uri)?;
        let (inspected, from) = self.fetch(&address).await?;
        let (text, playlist) = read(&inspected.scratch, inspected.fingerprint.bytes).await?;
        let Playlist::Media(media) = playlist else {
            return Err(Verdict::BadBytes {
                reason: reason::NOT_A_RECORDING,
                detail: "a master playlist that leads to a master playlist".to_owned(),
            });
        };
        self.files.push(BesideFile {
            held: Held::Bytes(text),
            fingerprint: inspected.fingerprint,
            ext: inspected.ext,
            mime: inspected.mime,
        });
        (self.playlist, self.base) = (address, from);
        Ok(media)
    }

    /// A playlist without its end is still being written, until the vendor's time to finish is over: then what
    /// there is gets archived, and a note says that it is short.
    fn waits_no_longer(&self) -> Result<bool, Verdict> {
        let plan = self.provider.waiting_plan();
        let since = self.row.call.ended_at.unwrap_or(self.row.arrived_at);
        let (now, deadline) = (self.now(), since.plus(plan.ready_deadline));
        if now >= deadline {
            return Ok(true);
        }
        Err(Verdict::NotReady {
            wait: not_ready(&plan.waits, self.row.not_ready_tries, now, Some(deadline)),
        })
    }

    async fn segments(mut self, media: Media) -> Result<(Beside, bool), Verdict> {
        if media.segments.is_empty() {
            return Err(unplayable(Unplayable::Empty));
        }
        let mut joined = self.scratch().await?;
        let mut known: HashMap<String, Fingerprint> = HashMap::new();
        let mut pieces = Vec::with_capacity(media.segments.len());
        let mut plays = true;
        for Segment { uri, stretch } in media.segments {
            let address = self.address(&uri)?;
            let fingerprint = match known.get(&address.url) {
                Some(known) => {
                    plays = false;
                    *known
                }
                None => {
                    let url = address.url.clone();
                    let fingerprint = self.segment(&address, &mut joined).await?;
                    known.insert(url, fingerprint);
                    fingerprint
                }
            };
            if let Some((from, bytes)) = stretch {
                plays = false;
                if from
                    .checked_add(bytes)
                    .is_none_or(|end| end > fingerprint.bytes)
                {
                    return Err(Verdict::BadBytes {
                        reason: reason::TRUNCATED,
                        detail: "a byte range of the playlist ends behind its file".to_owned(),
                    });
                }
            }
            pieces.push(Piece {
                sha256: fingerprint.sha256,
                stretch,
            });
        }
        joined.finish().await?;
        let others = self
            .files
            .iter()
            .filter(|file| Pieces::is_playlist(&file.ext));
        let others = others.map(|file| file.fingerprint.sha256).collect();
        let beside = Beside {
            files: self.files,
            pieces: Pieces {
                pieces,
                others,
                encrypted: media.encrypted,
            },
            joined,
            plays,
        };
        Ok((beside, self.plain_http))
    }

    /// Fetches one segment and adds it to the joined file; equal bytes are one file, played as often as it is named.
    async fn segment(
        &mut self,
        address: &Address,
        joined: &mut Scratch,
    ) -> Result<Fingerprint, Verdict> {
        let (inspected, _) = self.fetch(address).await?;
        let fingerprint = inspected.fingerprint;
        let at = joined.written();
        append(joined, &inspected.scratch).await?;
        if !self
            .files
            .iter()
            .any(|file| file.fingerprint == fingerprint)
        {
            self.files.push(BesideFile {
                held: Held::Joined(at),
                fingerprint,
                ext: inspected.ext,
                mime: inspected.mime,
            });
        }
        Ok(fingerprint)
    }

    async fn fetch(&mut self, address: &Address) -> Result<(Inspected, WebAddress), Verdict> {
        let scratch = self.scratch().await?;
        let (now, left) = (self.now(), self.left);
        let fetched = fetch::fetch_at_most(
            self.tools,
            self.provider,
            self.row,
            &Place::Web(address.clone()),
            scratch,
            left,
            now,
        )
        .await?;
        self.left = left.saturating_sub(fetched.fingerprint.bytes);
        self.plain_http |= fetched.plain_http;
        // Segments come from the web: a playlist on a disk is kept as it is.
        let Some(from) = fetched.at.clone() else {
            return Err(Verdict::later(reason::PROVIDER_UNREACHABLE));
        };
        Ok((inspect::inspect(fetched).await?, from))
    }

    async fn scratch(&self) -> Result<Scratch, Verdict> {
        let lease = self.lease;
        let spool = &self.tools.spool;
        Ok(spool.scratch(lease.recording_id, lease.token, 0).await?)
    }

    fn address(&self, uri: &str) -> Result<Address, Verdict> {
        let whole = self.base.join(uri).map_err(|_| Verdict::BadBytes {
            reason: reason::NOT_A_RECORDING,
            detail: "an address in the playlist that cannot be read".to_owned(),
        })?;
        let now = self.now();
        Ok(self.provider.beside(&self.playlist, whole.to_url(), now))
    }
}

async fn append(joined: &mut Scratch, segment: &Scratch) -> Result<(), Verdict> {
    let cannot_read = |error: std::io::Error| {
        tracing::warn!(%error, "cannot read back a segment");
        Verdict::later(reason::SPOOL_FULL)
    };
    let mut file = tokio::fs::File::open(segment.path())
        .await
        .map_err(cannot_read)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let n = file.read(&mut buffer).await.map_err(cannot_read)?;
        if n == 0 {
            return Ok(());
        }
        joined.write(&buffer[..n]).await?;
    }
}
