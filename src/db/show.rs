//! Rows as people and scripts see them.

use std::collections::HashMap;

use sea_orm::Value;
use uuid::Uuid;

use crate::domain::call::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::slack_s;
use crate::domain::keys::ObjectKey;
use crate::domain::recording::{Part, Role};
use crate::domain::view::{
    AccessView, CallView, HistoryView, NoticeView, ObjectView, OriginalView, RecordingDetail,
    RecordingView, ShowView,
};

use super::Database;
use super::error::DbError;
use super::objects::legs_of;
use super::originals::main_original;
use super::recordings::ObjectRow;
use super::rows;
use super::search::cursor;
use super::sql::{all, list, models, vals};

/// The state of a line that stands for a call without any recording.
pub const STATE_NONE: &str = "none";

type Calls = HashMap<Uuid, (entity::call::Model, CallFacts)>;

fn ids(ids: &[Uuid]) -> Vec<Value> {
    ids.iter().map(|id| Value::from(*id)).collect()
}

impl Database {
    /// A call with all its recordings.
    pub async fn show_call(&self, call_id: Uuid) -> Result<Option<ShowView>, DbError> {
        let rows = all(
            self.reader(),
            "select recording_id from recording where call_id = $1 order by recording_id",
            vals![call_id],
        )
        .await?;
        let recordings = rows
            .iter()
            .map(|row| row.try_get_by_index(0))
            .collect::<Result<Vec<Uuid>, _>>()?;
        self.show(call_id, &recordings).await
    }

    /// A recording with its call, without the call's other recordings.
    pub async fn show_recording(&self, recording_id: Uuid) -> Result<Option<ShowView>, DbError> {
        let row = super::sql::one(
            self.reader(),
            "select call_id from recording where recording_id = $1",
            vals![recording_id],
        )
        .await?;
        match row {
            Some(row) => self.show(row.try_get_by_index(0)?, &[recording_id]).await,
            None => Ok(None),
        }
    }

    /// The recordings of a call by any of its names; one line of state `none` when it has none, no
    /// line when the call is unknown.
    pub async fn recordings_of_call(
        &self,
        source: &str,
        provider_call_id: &str,
    ) -> Result<Vec<RecordingView>, DbError> {
        let Some(call_id) = self.find_call(source, provider_call_id).await? else {
            return Ok(Vec::new());
        };
        let recordings: Vec<RecordingView> = self
            .show_call(call_id)
            .await?
            .map(|view| view.recordings.into_iter().map(|r| r.recording).collect())
            .unwrap_or_default();
        if recordings.is_empty() {
            return Ok(self
                .bare_call_views(&[call_id])
                .await?
                .into_values()
                .collect());
        }
        Ok(recordings)
    }

    /// The call that the source announces under this name, byte for byte.
    pub async fn find_call(&self, source: &str, name: &str) -> Result<Option<Uuid>, DbError> {
        let row = super::sql::one(
            self.reader(),
            "select call_id from call_alias where source = $1 and alias = $2",
            vals![source, name],
        )
        .await?;
        Ok(row.map(|row| row.try_get_by_index(0)).transpose()?)
    }

    /// The newest object of this role that was read back.
    /// Keys of all objects that have a row, verified or not.
    pub async fn all_object_keys(&self) -> Result<Vec<ObjectKey>, DbError> {
        all(
            self.reader(),
            "select object_key from archive_object",
            vec![],
        )
        .await?
        .iter()
        .map(|row| Ok(ObjectKey::stored(row.try_get_by_index::<String>(0)?)))
        .collect()
    }

    pub async fn current_object(
        &self,
        recording_id: Uuid,
        role: Role,
    ) -> Result<Option<ObjectRow>, DbError> {
        let rows: Vec<entity::archive_object::Model> = models(
            self.reader(),
            "select * from archive_object where recording_id = $1 and role = $2 \
             and verified_at_ms is not null order by n",
            vals![recording_id, role.as_str()],
        )
        .await?;
        let mut objects = Vec::with_capacity(rows.len());
        for row in rows {
            objects.push(rows::object(row)?.1);
        }
        let current = match role {
            Role::Original => main_original(objects.iter()).cloned(),
            _ => objects.pop(),
        };
        Ok(current)
    }

    async fn show(&self, call_id: Uuid, recordings: &[Uuid]) -> Result<Option<ShowView>, DbError> {
        let Some((row, facts)) = self.calls(&[call_id]).await?.remove(&call_id) else {
            return Ok(None);
        };
        let mut views = self.recording_views(recordings).await?;
        let mut objects = self.objects(recordings).await?;
        let mut details = Vec::with_capacity(recordings.len());
        for id in recordings {
            let Some(recording) = views.remove(id) else {
                continue;
            };
            let objects = objects.remove(id).unwrap_or_default();
            details.push(RecordingDetail {
                recording,
                objects: objects.into_iter().map(object_view).collect(),
                history: self.history(*id).await?,
                notices: self.notices(*id).await?,
            });
        }
        let call_access = self.call_access_view(call_id).await?;
        Ok(Some(ShowView {
            call_access,
            call: CallView {
                call_id,
                source: row.source,
                aliases: facts.aliases,
                provider_call_id: facts.provider_call_id,
                correlation_ids: facts.correlation_ids,
                started_at: facts.started_at,
                answered_at: facts.answered_at,
                ended_at: facts.ended_at,
                duration_ms: facts.duration_ms,
                direction: facts.direction,
                caller: facts.caller,
                callee: facts.callee,
                parties: facts.parties,
                custom: facts.custom.into(),
                legs: facts.legs,
                hangup_cause: facts.hangup_cause,
                arrived_at: Timestamp::from_ms(row.arrived_at_ms),
                notices: self.notices(call_id).await?,
            },
            recordings: details,
        }))
    }

    pub(super) async fn recording_views(
        &self,
        recordings: &[Uuid],
    ) -> Result<HashMap<Uuid, RecordingView>, DbError> {
        let mut views = HashMap::new();
        // A page may be long; a statement takes some ten thousand values at most.
        for chunk in recordings.chunks(1000) {
            let found: Vec<entity::recording::Model> = models(
                self.reader(),
                format!(
                    "select * from recording where recording_id in {}",
                    list(1, chunk.len())
                ),
                ids(chunk),
            )
            .await?;
            let mut call_ids: Vec<Uuid> = found.iter().map(|row| row.call_id).collect();
            call_ids.sort_unstable();
            call_ids.dedup();
            let calls = self.calls(&call_ids).await?;
            let mut objects = self.objects(chunk).await?;
            for row in found {
                let Some((_, facts)) = calls.get(&row.call_id) else {
                    continue;
                };
                let objects = objects.remove(&row.recording_id).unwrap_or_default();
                views.insert(row.recording_id, recording_view(row, facts, &objects)?);
            }
        }
        Ok(views)
    }

    pub(super) async fn bare_call_views(
        &self,
        call_ids: &[Uuid],
    ) -> Result<HashMap<Uuid, RecordingView>, DbError> {
        let mut views = HashMap::new();
        for chunk in call_ids.chunks(1000) {
            for (id, (row, facts)) in self.calls(chunk).await? {
                views.insert(id, bare_call_view(row, facts));
            }
        }
        Ok(views)
    }

    async fn calls(&self, call_ids: &[Uuid]) -> Result<Calls, DbError> {
        let mut legs = legs_of(self.reader(), call_ids).await?;
        let found: Vec<entity::call::Model> = models(
            self.reader(),
            format!(
                "select * from call where call_id in {}",
                list(1, call_ids.len())
            ),
            ids(call_ids),
        )
        .await?;
        found
            .into_iter()
            .map(|row| {
                let legs = legs.remove(&row.call_id).unwrap_or_default();
                let facts = rows::call_facts(&row.facts, legs)?;
                Ok((row.call_id, (row, facts)))
            })
            .collect()
    }

    async fn objects(&self, recordings: &[Uuid]) -> Result<HashMap<Uuid, Vec<ObjectRow>>, DbError> {
        let found: Vec<entity::archive_object::Model> = models(
            self.reader(),
            format!(
                "select * from archive_object where recording_id in {} order by recording_id, role, n",
                list(1, recordings.len())
            ),
            ids(recordings),
        )
        .await?;
        let mut objects: HashMap<Uuid, Vec<ObjectRow>> = HashMap::new();
        for row in found {
            let (id, object) = rows::object(row)?;
            objects.entry(id).or_default().push(object);
        }
        Ok(objects)
    }

    async fn history(&self, recording_id: Uuid) -> Result<Vec<HistoryView>, DbError> {
        let events: Vec<entity::recording_event::Model> = models(
            self.reader(),
            "select * from recording_event where recording_id = $1 order by at_ms, event_id",
            vals![recording_id],
        )
        .await?;
        Ok(events
            .into_iter()
            .map(|event| HistoryView {
                at: Timestamp::from_ms(event.at_ms),
                from: event.from_state,
                to: event.to_state,
                reason: event.reason,
            })
            .collect())
    }

    async fn notices(&self, subject: Uuid) -> Result<Vec<NoticeView>, DbError> {
        all(
            self.reader(),
            "select n.notice_id, n.arrived_at_ms, n.door, n.topic, n.sha256, n.result, n.detail \
             from notice_link l join notice n on n.notice_id = l.notice_id \
             where l.subject_id = $1 order by n.arrived_at_ms, n.notice_id",
            vals![subject],
        )
        .await?
        .iter()
        .map(|row| {
            Ok(NoticeView {
                notice_id: row.try_get_by_index(0)?,
                arrived_at: Timestamp::from_ms(row.try_get_by_index(1)?),
                door: row.try_get_by_index(2)?,
                topic: row.try_get_by_index(3)?,
                sha256: rows::sha256(&row.try_get_by_index::<Vec<u8>>(4)?)?,
                result: row.try_get_by_index(5)?,
                detail: row.try_get_by_index(6)?,
            })
        })
        .collect()
    }
}

fn recording_view(
    row: entity::recording::Model,
    call: &CallFacts,
    objects: &[ObjectRow],
) -> Result<RecordingView, DbError> {
    let verified = objects.iter().filter(|o| o.verified_at.is_some());
    let newest = |role: Role| verified.clone().rfind(|o| o.role == role);
    let is_open = row.work_class.is_some() && row.lease_owner.is_none();
    let clocks = rows::clocks(&row);
    let archived_at = rows::at(row.archived_at_ms);
    Ok(RecordingView {
        cursor: cursor(row.at_ms, row.recording_id),
        recording_id: Some(row.recording_id),
        call_id: row.call_id,
        source: row.source,
        kind: row.kind,
        provider_call_id: call.provider_call_id.clone(),
        provider_recording_id: row.provider_recording_id,
        correlation_ids: call.correlation_ids.clone(),
        part: Part::parse(&row.part),
        state: row.state,
        reason: row.reason,
        // Tries that got an answer, "not ready" being one.
        attempts: rows::small(row.attempts.saturating_add(row.not_ready_tries)),
        next_try_at: is_open.then(|| Timestamp::from_ms(row.available_at_ms)),
        started_at: call.started_at,
        ended_at: call.ended_at,
        duration_ms: call.duration_ms,
        direction: call.direction,
        caller: call.caller.clone(),
        callee: call.callee.clone(),
        parties: call.parties.clone(),
        arrived_at: Timestamp::from_ms(row.arrived_at_ms),
        ready_after: clocks.ready_after,
        link_until: clocks.link_until,
        gone_at: clocks.gone_at,
        archived_at,
        slack_s: slack_s(clocks.gone_at, archived_at),
        original: main_original(verified.clone()).map(|object| OriginalView {
            key: object.key.to_string(),
            bytes: object.bytes,
            sha256: object.sha256,
            mime: object.mime.clone(),
            codec: object.codec.clone(),
            sample_rate_hz: object.sample_rate_hz,
            channels: object.channels,
            duration_ms: object.duration_ms,
        }),
        access: newest(Role::Access).map(|object| AccessView {
            key: object.key.to_string(),
            bytes: object.bytes,
            sha256: object.sha256,
            sample_rate_hz: object.sample_rate_hz,
            channels: object.channels,
            duration_ms: object.duration_ms,
        }),
        notes: rows::json(&row.notes)?,
    })
}

fn bare_call_view(row: entity::call::Model, facts: CallFacts) -> RecordingView {
    RecordingView {
        cursor: cursor(row.at_ms, row.call_id),
        recording_id: None,
        call_id: row.call_id,
        source: row.source,
        kind: row.kind,
        provider_call_id: facts.provider_call_id,
        provider_recording_id: None,
        correlation_ids: facts.correlation_ids,
        part: Part::Unknown,
        state: STATE_NONE.to_owned(),
        reason: None,
        attempts: 0,
        next_try_at: None,
        started_at: facts.started_at,
        ended_at: facts.ended_at,
        duration_ms: facts.duration_ms,
        direction: facts.direction,
        caller: facts.caller,
        callee: facts.callee,
        parties: facts.parties,
        arrived_at: Timestamp::from_ms(row.arrived_at_ms),
        ready_after: None,
        link_until: None,
        gone_at: None,
        archived_at: None,
        slack_s: None,
        original: None,
        access: None,
        notes: Vec::new(),
    }
}

fn object_view(object: ObjectRow) -> ObjectView {
    ObjectView {
        role: object.role,
        n: object.n,
        key: object.key.to_string(),
        bytes: object.bytes,
        sha256: object.sha256,
        mime: object.mime,
        version_id: object.version_id,
        verified_at: object.verified_at,
        made_from: object.made_from,
        tool: object.tool,
        settings: object.settings,
    }
}
