//! Whether this database and this archive belong together, told before anything is written.

use futures::StreamExt as _;

use crate::archive::marker::{self, Mark};
use crate::db::Database;
use crate::db::moving::PLACE;
use crate::domain::ids::new_id;
use crate::domain::keys::manifest_number;

use super::{House, OpenError, archive, database};

impl House {
    /// The database remembers the id that the archive's marker carries. Fresh ones meet here.
    pub async fn check_marker(&self) -> Result<(), OpenError> {
        self.belongs(&self.db, true).await
    }

    /// The same for `rebuild`, which fills an empty database from the archive that is there.
    pub async fn check_marker_for_rebuild(&self) -> Result<(), OpenError> {
        self.belongs(&self.db, false).await
    }

    /// For a look that changes nothing: an empty database beside an archive that holds recordings is told.
    pub async fn check_indexed(&self) -> Result<(), OpenError> {
        match marker::read_mark(self.archive.as_ref()).await {
            Ok(Some(_)) => self.holds_nothing().await,
            Ok(None) => Ok(()),
            Err(error) => Err(archive(error)),
        }
    }

    /// The same on a connection of its own, before anybody else is let through.
    pub(super) async fn check_marker_in(&self, db: &Database) -> Result<(), OpenError> {
        self.belongs(db, true).await
    }

    async fn belongs(&self, db: &Database, to_be_indexed: bool) -> Result<(), OpenError> {
        let remembered = db.installation("archive_id").await.map_err(database)?;
        let found = marker::read_mark(self.archive.as_ref())
            .await
            .map_err(archive)?;
        let place = self.archive.describe();
        match (remembered, found) {
            (Some(remembered), Some(found)) if remembered == found.archive_id.to_string() => {
                self.lies_here(db, found).await
            }
            (Some(remembered), Some(found)) => Err(OpenError::new(
                "other_archive",
                format!(
                    "the database belongs to archive {remembered}, this one is {}",
                    found.archive_id
                ),
                place,
                "point [archive] to the archive of this database, or [database] to the database of this archive; an empty database can be filled by `callvault rebuild --from-archive`",
            )),
            (Some(remembered), None) => Err(OpenError::new(
                "archive_marker_missing",
                format!(
                    "the database belongs to archive {remembered}, but there is no marker _callvault/archive.json"
                ),
                place,
                "is the disk mounted, is this the right path or bucket? If the archive was really emptied, start with a new database",
            )),
            (None, found) => {
                if to_be_indexed && found.is_some() {
                    self.holds_nothing().await?;
                }
                let now = self.clock.now();
                let id = marker::read_or_create_marker(self.archive.as_ref(), new_id(now), now)
                    .await
                    .map_err(archive)?;
                if let Some(place) = found.and_then(|mark| mark.place) {
                    db.set_installation(PLACE, &place.to_string())
                        .await
                        .map_err(database)?;
                }
                db.set_installation("archive_id", &id.to_string())
                    .await
                    .map_err(database)
            }
        }
    }

    /// One archive may have lain in several places; the database knows which one counts.
    async fn lies_here(&self, db: &Database, found: Mark) -> Result<(), OpenError> {
        let remembered = db.installation(PLACE).await.map_err(database)?;
        if remembered == found.place.map(|place| place.to_string()) {
            return Ok(());
        }
        let here = self.archive.describe();
        let moved = db.last_move().await.map_err(database)?;
        let what = match (moved, found.place) {
            (Some(moved), _) if found.place != Some(moved.place) => format!(
                "the archive was moved from here to {} at {}; what lies here is a copy from before",
                moved.to, moved.at
            ),
            (_, Some(_)) => "the archive was being moved to here, and this database does not know of an end of it: \
                             the move was not finished, or the database is a backup from before it"
                .to_owned(),
            (_, None) => "the database knows this archive in another place".to_owned(),
        };
        Err(OpenError::new(
            "archive_moved",
            what,
            here,
            "point [archive] to where the archive lies now; a move that was not finished, or that the database forgot, is gone on with by `callvault archive move --to FILE` with the old [archive] in force",
        ))
    }

    /// A database that knows of no recording must not begin beside an archive that is full: what comes in
    /// would stand in the way of `rebuild`, and vendors would bring again what is there.
    async fn holds_nothing(&self) -> Result<(), OpenError> {
        let mut objects = self.archive.list("");
        while let Some(object) = objects.next().await {
            let object = object.map_err(archive)?;
            if manifest_number(object.key.as_str()).is_some() {
                return Err(OpenError::new(
                    "archive_not_indexed",
                    format!(
                        "the archive holds recordings ({} is one's manifest) and the database is empty",
                        object.key
                    ),
                    self.archive.describe(),
                    "fill the database by `callvault rebuild --from-archive` or restore its backup; for a new beginning give [archive] an empty place",
                ));
            }
        }
        Ok(())
    }
}
