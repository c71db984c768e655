//! Tidies the files that stay in the spool until the archive has them.
//!
//! Not a stage: a file is needed as long as its recording's row names its hash and the archive does not have
//! it. Another machine may have brought the same recording in meanwhile; then nobody comes for the file.

use crate::db::Database;
use crate::spool::{Spool, Swept};

/// Removes what no row waits for. On any doubt a file stays for the next time.
pub async fn sweep(db: &Database, spool: &Spool) {
    let files = match spool.kept().await {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(%error, "kept files not looked at");
            return;
        }
    };
    let mut swept = Swept::default();
    for (recording_id, sha256) in files {
        match db.awaits_original(recording_id, &sha256).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "kept files not looked at");
                return;
            }
        }
        match spool.drop_kept(recording_id, &sha256).await {
            Ok(Some(bytes)) => {
                swept.files += 1;
                swept.bytes += bytes;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "kept file not removed"),
        }
    }
    if swept.files > 0 {
        tracing::info!(
            files = swept.files,
            bytes = swept.bytes,
            "kept files that are archived by now removed"
        );
    }
}
