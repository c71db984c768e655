//! The folder of recordings that both sides see, and how its files come to be there: at once, renamed when they are
//! whole, a piece at a time, later, or never.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::DateTime;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

use super::*;

/// Between two pieces of a file that is being written; far below [`SETTLES`].
const PIECE: Duration = Duration::from_millis(60);
const PIECES: usize = 6;

/// Beside the ledger, else below the system's temporary folder.
pub fn root(house: &House) -> PathBuf {
    let options = &house.options;
    let name = format!("recordings-{}", options.source);
    let root = match (&options.files, &options.ledger) {
        (Some(folder), _) => folder.clone(),
        (None, Some(ledger)) => ledger.parent().unwrap_or(Path::new("")).join(name),
        (None, None) => {
            std::env::temp_dir().join(format!("callvault-{name}-{}", house.addr.port()))
        }
    };
    // What cannot be made is told when the first file is written.
    let _ = std::fs::create_dir_all(&root);
    std::fs::canonicalize(&root).unwrap_or(root)
}

/// Where each system files.
pub fn below(system: System, call: &Call, stem: &str) -> PathBuf {
    let at = DateTime::from_timestamp_millis(call.ended_ms).unwrap_or_default();
    let folder = match system {
        System::Freeswitch => at.format("acme/archive/%Y/%b/%d").to_string(),
        System::Asterisk => at.format("%Y/%m/%d").to_string(),
        System::Cdr => format!("desk {}", call.dice("desk").below(5)),
    };
    PathBuf::from(folder).join(format!("{stem}.wav"))
}

/// Puts what lies in files where it belongs; what takes its time goes on in the task that is given.
pub async fn put(inner: &Arc<Inner>, made: &Made) -> Result<JoinHandle<Result<(), Error>>, Error> {
    let mut later = Vec::new();
    if made.call.plan.ending == Ending::Archived {
        for sound in &made.sounds {
            let Place::File { path, .. } = &sound.place else {
                continue;
            };
            let path = path.clone();
            let bytes = sound.audio.bytes.clone();
            let house = &inner.house;
            let plan = &made.call.plan;
            let mut dice = made.call.dice("shelf");
            if let Some(folder) = path.parent() {
                tokio::fs::create_dir_all(folder)
                    .await
                    .map_err(Error::Ledger)?;
            }
            if plan.has(Mishap::NotReady) || inner.is_late(plan) {
                let wait = house.paced(600).max(Duration::from_millis(1500));
                later.push((path, bytes, wait, dice.happens(1, 2)));
            } else if plan.has(Mishap::Truncated) {
                later.push((path, bytes, Duration::ZERO, true));
            } else {
                whole(&path, &bytes, dice.happens(1, 2))
                    .await
                    .map_err(Error::Ledger)?;
            }
        }
    }
    Ok(tokio::spawn(async move {
        for (path, bytes, wait, in_pieces) in later {
            tokio::time::sleep(wait).await;
            let written = if in_pieces {
                pieces(&path, &bytes).await
            } else {
                whole(&path, &bytes, true).await
            };
            written.map_err(Error::Ledger)?;
        }
        Ok(())
    }))
}

impl Inner {
    fn is_late(&self, plan: &Plan) -> bool {
        let options = &self.house.options;
        options.profile == Profile::V3 && options.way == Way::Folder && plan.has(Mishap::Late)
    }
}

/// At once, under its own name or renamed to it.
pub async fn whole(path: &Path, bytes: &[u8], renamed: bool) -> io::Result<()> {
    if !renamed {
        return tokio::fs::write(path, bytes).await;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    tokio::fs::write(&part, bytes).await?;
    tokio::fs::rename(&part, path).await
}

/// Under its own name while it grows.
pub async fn pieces(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tokio::fs::File::create(path).await?;
    for piece in bytes.chunks(bytes.len() / PIECES + 1) {
        file.write_all(piece).await?;
        file.flush().await?;
        tokio::time::sleep(PIECE).await;
    }
    file.sync_all().await
}
