//! The way from a handler to what the database knows of calls: each question writes its audit row first.
//!
//! What a newcomer gets wrong: no row, no answer. When the row cannot be written the reader gets 503,
//! however healthy the rest is.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::access::Reader;
use super::api::query::{ListQuery, USUAL, Wanted};
use super::metrics::Numbers;
use super::problem::ApiError;
use super::state::WebState;
use crate::db::audit::AuditEvent;
use crate::db::search::{Page, Query, Target};
use crate::db::{DbError, DbErrorKind};
use crate::domain::digest::Sha256;
use crate::domain::ids::new_id;
use crate::domain::keys::ObjectKey;
use crate::domain::masking;
use crate::domain::reading::mask_addresses;
use crate::domain::recording::{Role, State};
use crate::domain::rights::Right;
use crate::domain::view::{ShowView, StatusView};
use crate::spool::Usage;

/// A reader who waits longer has left; the question is given up with its connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Counting all rows costs: one count serves every scrape within this time.
const COUNTED_FOR: Duration = Duration::from_secs(10);

/// Where the bytes of an object lie, and what they must be.
#[derive(Clone, Debug)]
pub struct Found {
    pub key: ObjectKey,
    pub version_id: Option<String>,
    pub bytes: u64,
    pub sha256: Sha256,
    pub mime: String,
}

/// The questions of one reader.
#[derive(Debug)]
pub struct Reads<'a> {
    state: &'a WebState,
    reader: &'a Reader,
}

impl<'a> Reads<'a> {
    pub fn of(state: &'a WebState, reader: &'a Reader) -> Self {
        Self { state, reader }
    }

    pub async fn search(&self, asked: ListQuery) -> Result<Page, ApiError> {
        self.reader.needs(Right::Search)?;
        let limit = asked.limit.unwrap_or(USUAL);
        let after = asked.after.clone();
        let query = Query {
            text: asked.q.unwrap_or_default(),
            source: asked.source,
            from: asked.from,
            to: asked.to,
            number: asked.number,
            party: asked.party,
            direction: asked.direction,
            state: asked.state.map(|wanted| match wanted {
                Wanted::State(state) => state.as_str().to_owned(),
                Wanted::NoRecording => "none".to_owned(),
            }),
            min_duration_ms: asked.min_duration_ms,
            max_duration_ms: asked.max_duration_ms,
            scope: self.reader.scope.clone(),
            masked: self.reader.masks_numbers,
        };
        let detail = serde_json::json!({
            "source": query.source, "from": query.from, "to": query.to, "number": query.number,
            "party": query.party, "direction": query.direction, "state": query.state,
            "min_duration_ms": query.min_duration_ms, "max_duration_ms": query.max_duration_ms,
            "limit": limit, "after": after,
        });
        self.audit("search", &query.text, without_nulls(detail))
            .await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = self.state.db.search(&query, after.as_deref(), limit);
        let mut page = self.ask(found).await?;
        if self.reader.masks_numbers {
            page.items.iter_mut().for_each(masking::recording);
        }
        Ok(page)
    }

    /// A call with all its recordings, by the id of the call or of one of them.
    pub async fn show(&self, id: Uuid) -> Result<ShowView, ApiError> {
        self.reader.needs(Right::Search)?;
        self.audit("show", &id.to_string(), Value::Null).await?;
        self.shown(id).await
    }

    /// The call that a source announces under this id, else its newest one that carries it.
    pub async fn call_by(&self, source: &str, id: &str) -> Result<ShowView, ApiError> {
        self.reader.needs(Right::Search)?;
        let detail = serde_json::json!({ "source": source });
        self.audit("show", id, detail).await?;
        if let Some(call_id) = self.ask(self.state.db.find_call(source, id)).await? {
            // Out of scope is told in the very words of missing.
            return match self.shown(call_id).await {
                Err(error) if error.status() == http::StatusCode::NOT_FOUND => {
                    Err(ApiError::not_found("call"))
                }
                shown => shown,
            };
        }
        let mut targets = self.ask(self.state.db.resolve_id(id)).await?;
        // Our ids rise with time.
        targets.sort_by_key(|target| std::cmp::Reverse(id_of(target)));
        for target in &targets {
            // What may not be seen is passed over like what is not there.
            let shown = match self.shown(id_of(target)).await {
                Err(error) if error.status() == http::StatusCode::NOT_FOUND => continue,
                shown => shown?,
            };
            // Our own ids have addresses of their own.
            let is_foreign = id != id_of(target).to_string();
            if shown.call.source == source && is_foreign {
                return Ok(shown);
            }
        }
        Err(ApiError::not_found("call"))
    }

    /// The object that counts for a role.
    pub async fn object(&self, recording_id: Uuid, role: Role) -> Result<Found, ApiError> {
        self.reader.needs(match role {
            Role::Access | Role::Waveform => Right::Play,
            Role::Original | Role::Manifest | Role::Duplicate => Right::Download,
        })?;
        let action = match role {
            Role::Access | Role::Original => "play",
            Role::Waveform | Role::Manifest | Role::Duplicate => "get",
        };
        let detail = serde_json::json!({ "role": role.as_str() });
        self.audit(action, &recording_id.to_string(), detail)
            .await?;
        let db = &self.state.db;
        let shown = self.ask(db.show_recording(recording_id)).await?;
        let shown = self.seen(shown).await?;
        let recording = shown
            .and_then(|shown| shown.recordings.into_iter().next())
            .ok_or_else(|| ApiError::not_found("recording"))?
            .recording;
        if recording.state != State::Archived.as_str() {
            return Err(ApiError::not_archived(
                &recording.state,
                recording.reason.as_deref(),
            ));
        }
        let object = self.ask(db.current_object(recording_id, role)).await?;
        let object = object.ok_or_else(|| ApiError::no_access_copy(&recording.notes))?;
        Ok(Found {
            key: object.key,
            version_id: object.version_id,
            bytes: object.bytes,
            sha256: object.sha256,
            mime: object.mime,
        })
    }

    async fn shown(&self, id: Uuid) -> Result<ShowView, ApiError> {
        let db = &self.state.db;
        let mut shown = self.ask(db.show_call(id)).await?;
        if shown.is_none()
            && let Some(of_recording) = self.ask(db.show_recording(id)).await?
        {
            shown = self.ask(db.show_call(of_recording.call.call_id)).await?;
        }
        let shown = self.seen(shown).await?;
        let mut shown = shown.ok_or_else(|| ApiError::not_found("call or recording"))?;
        mask_addresses(&mut shown.call.custom);
        if self.reader.masks_numbers {
            masking::show(&mut shown);
        }
        Ok(shown)
    }

    /// What lies outside the reader's scope is not there.
    async fn seen(&self, shown: Option<ShowView>) -> Result<Option<ShowView>, ApiError> {
        let Some(shown) = shown else {
            return Ok(None);
        };
        let (call, scope) = (shown.call.call_id, &self.reader.scope);
        let is_in = self.ask(self.state.db.in_scope(call, scope)).await?;
        Ok(is_in.then_some(shown))
    }

    /// A row for what changes or shows something else than calls; written before it is done.
    pub async fn note(&self, action: &str, subject: &str) -> Result<(), ApiError> {
        self.audit(action, subject, Value::Null).await
    }

    async fn audit(&self, action: &str, subject: &str, detail: Value) -> Result<(), ApiError> {
        let event = AuditEvent {
            actor: self.reader.actor.clone(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail,
            from: self.reader.from.clone(),
            at: self.state.clock.now(),
        };
        self.ask(self.state.db.audit(event)).await
    }

    async fn ask<T>(&self, asked: impl Future<Output = Result<T, DbError>>) -> Result<T, ApiError> {
        ask(self.state, asked).await
    }
}

/// The state of the house; holds no call, so nobody's name goes into the trail.
pub async fn status(state: &WebState) -> Result<StatusView, ApiError> {
    let now = state.clock.now();
    // A spool that cannot be counted is told by /readyz; the rest is worth having all the same.
    let usage = state.spool.usage().await.unwrap_or(Usage {
        used_bytes: 0,
        limit_bytes: 0,
        disk_used_percent: None,
        parked_notices: 0,
    });
    ask(
        state,
        crate::jobs::status::status(
            &state.db,
            &state.providers,
            usage,
            state.archive.folder(),
            now,
        ),
    )
    .await
}

/// The last count, and when it was made.
#[derive(Debug, Default)]
pub struct Scrape(Mutex<Option<(Instant, Numbers)>>);

/// The database's part of `/metrics`.
pub async fn numbers(state: &WebState) -> Result<Numbers, ApiError> {
    let lock = || {
        state
            .scrape
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    if let Some((at, numbers)) = &*lock()
        && at.elapsed() < COUNTED_FOR
    {
        return Ok(numbers.clone());
    }
    let numbers = Numbers {
        status: status(state).await?,
        recordings: ask(state, state.db.count_by_source()).await?,
        slack_s: ask(state, state.db.least_slack_by_source(state.clock.now())).await?,
    };
    *lock() = Some((Instant::now(), numbers.clone()));
    Ok(numbers)
}

/// A question to the database, in time; its failures as answers.
pub async fn ask<T>(
    state: &WebState,
    asked: impl Future<Output = Result<T, DbError>>,
) -> Result<T, ApiError> {
    let error = match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error,
        Err(_) => {
            tracing::error!("the database did not answer a reader in time");
            return Err(ApiError::unavailable("database"));
        }
    };
    match error.kind() {
        DbErrorKind::BadCursor => Err(ApiError::bad_cursor()),
        DbErrorKind::Unavailable | DbErrorKind::Busy | DbErrorKind::Schema => {
            tracing::error!(%error, "the database cannot answer a reader");
            Err(ApiError::unavailable("database"))
        }
        DbErrorKind::Conflict
        | DbErrorKind::Refused
        | DbErrorKind::LeaseLost
        | DbErrorKind::Other => {
            let id = new_id(state.clock.now()).to_string();
            tracing::error!(id, %error, "an unexpected failure of the database");
            Err(ApiError::internal(&id))
        }
    }
}

fn id_of(target: &Target) -> Uuid {
    let (Target::Recording(id) | Target::Call(id)) = target;
    *id
}

/// What was not asked for is not in the row.
fn without_nulls(mut detail: Value) -> Value {
    if let Value::Object(fields) = &mut detail {
        fields.retain(|_, value| !value.is_null());
    }
    detail
}
