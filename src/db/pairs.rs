//! The recordings of one call together, and who of them has to look at the call's joint access copy.

use sea_orm::{DatabaseTransaction, Value};
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::recording::Role;
use crate::domain::view::AccessView;

use super::Database;
use super::error::DbError;
use super::recordings::{Lease, Loaded, ObjectRow};
use super::rows;
use super::sql::{all, exec, models, vals};

/// Archived recordings of the call look again: a lease that runs is left alone, and so is a wait between two tries.
const WAKE: &str = "update recording set pair_wanted = pair_wanted + 1, \
    available_at_ms = case when work_class = 4 or (lease_owner is not null and available_at_ms > $1) \
    then available_at_ms else $1 end, work_class = 4 where state = 'archived'";

impl Database {
    /// All recordings of the call, by id.
    pub async fn load_call(&self, call_id: Uuid) -> Result<Vec<Loaded>, DbError> {
        let sql = "select recording_id from recording where call_id = $1";
        let ids: Vec<Uuid> = all(self.reader(), sql, vals![call_id])
            .await?
            .iter()
            .map(|row| row.try_get_by_index(0))
            .collect::<Result<_, _>>()?;
        let loaded = self.load_many(&ids, self.inner.clock.now()).await?;
        let mut loaded: Vec<Loaded> = loaded.into_values().collect();
        loaded.sort_by_key(|whole| whole.row.recording_id);
        Ok(loaded)
    }

    /// These recordings look at their call's joint copy next, as far as they are archived.
    pub async fn wake_pair(&self, recordings: &[Uuid], now: Timestamp) -> Result<(), DbError> {
        for id in recordings {
            let sql = format!("{WAKE} and recording_id = $2");
            exec(self.writer(), sql, vals![now.ms(), *id]).await?;
        }
        Ok(())
    }

    /// The holder of the lease has looked, up to what was wanted when it was loaded.
    pub async fn pair_looked(&self, lease: &Lease, wanted: i64) -> Result<(), DbError> {
        let touched = exec(
            self.writer(),
            "update recording set pair_done = $3 \
             where recording_id = $1 and lease_token = $2 and lease_owner is not null",
            vals![lease.recording_id, lease.token, wanted],
        )
        .await?;
        super::lease::held(touched)
    }

    /// The call's joint access copy that counts: the highest that was read back.
    pub async fn call_access(&self, call_id: Uuid) -> Result<Option<ObjectRow>, DbError> {
        let found: Vec<entity::archive_object::Model> = models(
            self.reader(),
            "select o.* from archive_object o join recording r on r.recording_id = o.recording_id \
             where r.call_id = $1 and o.role = $2 and o.verified_at_ms is not null \
             order by o.n desc, o.created_at_ms desc limit 1",
            vals![call_id, Role::CallAccess.as_str()],
        )
        .await?;
        let object = found.into_iter().next().map(rows::object).transpose()?;
        Ok(object.map(|(_, object)| object))
    }

    pub(super) async fn call_access_view(
        &self,
        call_id: Uuid,
    ) -> Result<Option<AccessView>, DbError> {
        let object = self.call_access(call_id).await?;
        Ok(object.map(|object| AccessView {
            key: object.key.to_string(),
            bytes: object.bytes,
            sha256: object.sha256,
            sample_rate_hz: object.sample_rate_hz,
            channels: object.channels,
            duration_ms: object.duration_ms,
        }))
    }
}

/// The same for all single-party recordings of the call, where something happened to one of them.
pub(super) async fn wake_call(
    txn: &DatabaseTransaction,
    call_id: Uuid,
    but: Option<Uuid>,
    now: Timestamp,
) -> Result<(), DbError> {
    let sql = format!(
        "{WAKE} and call_id = $2 and recording_id <> $3 and part in ('caller', 'callee', 'party')"
    );
    let but = Value::from(but.unwrap_or(Uuid::nil()));
    exec(txn, sql, vec![now.ms().into(), call_id.into(), but]).await?;
    Ok(())
}

/// Whether the recording waits for a look.
pub(super) const fn is_wanted(row: &entity::recording::Model) -> bool {
    row.pair_wanted > row.pair_done
}
