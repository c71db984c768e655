//! What nobody needs any more, or nobody knows of: open uploads are given up, objects without a row are reported.
//!
//! What a newcomer gets wrong: an object without a row is never deleted. It may be the only copy of a recording whose
//! row was lost, and a bucket under a lock would not give it up anyway.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;

use crate::archive::contract::{Archive, ArchiveError, ArchiveErrorKind, OpenUploads};
use crate::db::{Database, DbError};
use crate::domain::clock::Timestamp;

/// No upload takes longer; a younger one may still be under way.
pub const UPLOADS_AFTER: Duration = Duration::from_secs(24 * 3600);
const PAGE: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("{}", .0.whole())]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Gives up what was begun more than a day ago; `None` where the store does not tell of open uploads.
pub async fn give_up_uploads(
    archive: &dyn Archive,
    now: Timestamp,
) -> Result<Option<OpenUploads>, ArchiveError> {
    let before = now.plus_ms(-i64::try_from(UPLOADS_AFTER.as_millis()).unwrap_or(i64::MAX));
    match archive.give_up_uploads(before).await {
        Ok(report) => Ok(Some(report)),
        Err(e) if e.kind() == ArchiveErrorKind::NotOffered => Ok(None),
        Err(e) => Err(e),
    }
}

/// Looks through the whole list for objects that no row speaks of; gives how many were looked at and how many
/// have none. Those of an earlier look that have a row by now are forgotten.
pub async fn find_orphans(
    db: &Database,
    archive: &dyn Archive,
    now: Timestamp,
) -> Result<(u64, u64), LookError> {
    let (mut looked, mut found) = (0, 0);
    let mut pages = archive.list("").chunks(PAGE);
    while let Some(page) = pages.next().await {
        let infos: Vec<_> = page.into_iter().collect::<Result<_, _>>()?;
        let keys: Vec<_> = infos
            .iter()
            .map(|info| info.key.clone())
            .filter(|key| !key.is_of_the_house())
            .collect();
        let known: BTreeSet<String> = db.known_keys(&keys).await?.into_iter().collect();
        let orphans: Vec<_> = infos
            .into_iter()
            .filter(|info| !info.key.is_of_the_house() && !known.contains(info.key.as_str()))
            .map(|info| (info.key, info.bytes))
            .collect();
        looked += keys.len() as u64;
        found += orphans.len() as u64;
        db.note_orphans(&orphans, now).await?;
    }
    db.forget_orphans(now).await?;
    Ok((looked, found))
}
