//! A process says that it runs, so that no archive is switched under it; and notices when that happened all the same.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::moving::PLACE;
use crate::domain::ids::new_id;

use super::{House, OpenError, Parts, database};

/// A sixth of the time after which a silent process counts as gone.
const BEAT: Duration = Duration::from_secs(10);

/// The row of this process.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    id: Uuid,
    machine: String,
    parts: &'static str,
    /// Where the archive lay when this process began.
    place: Option<String>,
}

impl Presence {
    /// Registers, then looks again whether archive and database belong together: a move that was switched a moment
    /// ago is seen here, and one that comes later sees the row.
    pub(super) async fn take(house: &House, parts: Parts) -> Result<Self, OpenError> {
        let now = house.clock.now();
        let parts = match (parts.web, parts.worker) {
            (true, true) => "serve",
            (true, false) => "web",
            _ => "worker",
        };
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_string_lossy().into_owned();
        let id = new_id(now);
        house
            .db
            .register_process(id, &machine, parts, now)
            .await
            .map_err(database)?;
        if let Err(error) = house.check_marker().await {
            let _ = house.db.forget_process(id).await;
            return Err(error);
        }
        let place = house.db.installation(PLACE).await.map_err(database)?;
        Ok(Self {
            id,
            machine,
            parts,
            place,
        })
    }

    /// Says so every ten seconds; ends the process when the archive lies elsewhere now.
    pub(super) fn keep(&self, house: &House, stop: &CancellationToken) -> JoinHandle<()> {
        let (me, house, stop) = (self.clone(), house.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(BEAT) => {}
                    () = stop.cancelled() => return,
                }
                match me.beat(&house).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::error!(
                            "the archive was moved while this process was silent: stopping; point [archive] to its new place"
                        );
                        stop.cancel();
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "not said that this process runs"),
                }
            }
        })
    }

    async fn beat(&self, house: &House) -> Result<bool, crate::db::DbError> {
        let (db, now) = (&house.db, house.clock.now());
        if !db.process_is_seen(self.id, now).await? {
            db.register_process(self.id, &self.machine, self.parts, now)
                .await?;
        }
        Ok(db.installation(PLACE).await? == self.place)
    }

    pub(super) async fn leave(&self, house: &House) {
        if let Err(error) = house.db.forget_process(self.id).await {
            tracing::debug!(%error, "not said that this process ends; it counts as running for a minute");
        }
    }
}
