//! Chores about the store: holds, open uploads, objects without a row.

use std::sync::Arc;

use crate::jobs::{holds, leftovers};
use crate::worker::schedule::{Chore, Scheduled};

use super::House;

/// What came to a held recording is held within minutes.
const HOLDS: &str = "15 */5 * * * *";
const UPLOADS: &str = "25 17 * * * *";
/// At a quiet hour for most: it reads the whole list.
const ORPHANS: &str = "35 41 3 * * *";

pub(super) fn chores(house: &House) -> Vec<Scheduled> {
    let held = house.clone();
    let hold: Chore = Arc::new(move || {
        let house = held.clone();
        Box::pin(async move {
            let (db, archive) = (&house.db, house.archive.as_ref());
            let held = holds::apply(db, archive, None, house.clock.now()).await;
            let held = held.map_err(|error| error.to_string())?;
            Ok(format!("{held} objects held"))
        })
    });
    let open = house.clone();
    let uploads: Chore = Arc::new(move || {
        let house = open.clone();
        Box::pin(async move {
            let now = house.clock.now();
            let report = leftovers::give_up_uploads(house.archive.as_ref(), now).await;
            Ok(match report.map_err(|error| error.whole())? {
                Some(report) => format!("{} given up, {} left", report.given_up, report.left),
                None => "the store does not tell of open uploads".to_owned(),
            })
        })
    });
    let listed = house.clone();
    let orphans: Chore = Arc::new(move || {
        let house = listed.clone();
        Box::pin(async move {
            let now = house.clock.now();
            let found = leftovers::find_orphans(&house.db, house.archive.as_ref(), now).await;
            let (looked, found) = found.map_err(|error| error.to_string())?;
            Ok(format!("{found} of {looked} objects have no row"))
        })
    });
    [
        ("legal_holds", HOLDS, hold),
        ("open_uploads", UPLOADS, uploads),
        ("archive_orphans", ORPHANS, orphans),
    ]
    .into_iter()
    .map(|(name, cron, chore)| Scheduled {
        name,
        cron: cron.to_owned(),
        chore,
    })
    .collect()
}
