//! The way from a handler to what the database knows of calls: each question writes its audit row first.
//!
//! What a newcomer gets wrong: no row, no answer. When the row cannot be written the reader gets 503,
//! however healthy the rest is.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use futures::Stream;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::access::Reader;
use super::access::settings::Asked;
use super::api::query::{ListQuery, USUAL, Wanted};
use super::metrics::Numbers;
use super::problem::ApiError;
use super::reasons;
use super::state::WebState;
use crate::db::audit::AuditEvent;
use crate::db::recordings::ObjectRow;
use crate::db::search::{Page, Query, Target};
use crate::db::{DbError, DbErrorKind};
use crate::domain::digest::Sha256;
use crate::domain::ids::new_id;
use crate::domain::keys::ObjectKey;
use crate::domain::masking;
use crate::domain::reading::mask_addresses;
use crate::domain::recording::{Role, State};
use crate::domain::rights::Right;
use crate::domain::view::{
    DeskNote, Marker, OperationsView, RecordingView, SavedSearch, ShowView, StatusView, TagView,
};
use crate::spool::Usage;

/// A reader who waits longer has left; the question is given up with its connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Counting all rows costs: one count serves every scrape within this time.
const COUNTED_FOR: Duration = Duration::from_secs(10);

/// Lines that an export takes from the database at once.
const EXPORT_LINES: usize = 1000;
/// Hours that the page of operations looks back, and lines of its lists.
const HOURS: i64 = 48;
const LISTED: i64 = 25;

/// What people left beside a recording and its call.
#[derive(Debug, Default)]
pub struct Beside {
    pub markers: Vec<Marker>,
    pub notes: Vec<DeskNote>,
    pub tags: Vec<String>,
}

/// Where the bytes of an object lie, and what they must be.
#[derive(Clone, Debug)]
pub struct Found {
    pub key: ObjectKey,
    pub version_id: Option<String>,
    pub bytes: u64,
    pub sha256: Sha256,
    pub mime: String,
}

impl Found {
    fn of(object: ObjectRow) -> Self {
        Self {
            key: object.key,
            version_id: object.version_id,
            bytes: object.bytes,
            sha256: object.sha256,
            mime: object.mime,
        }
    }
}

/// The questions of one reader.
#[derive(Debug)]
pub struct Reads<'a> {
    pub(super) state: &'a WebState,
    pub(super) reader: &'a Reader,
}

impl<'a> Reads<'a> {
    pub fn of(state: &'a WebState, reader: &'a Reader) -> Self {
        Self { state, reader }
    }

    pub async fn search(&self, asked: ListQuery) -> Result<Page, ApiError> {
        self.reader.needs(Right::Search)?;
        let limit = asked.limit.unwrap_or(USUAL);
        let after = asked.after.clone();
        let query = self.query(asked);
        let detail = told(
            &query,
            serde_json::json!({ "limit": limit, "after": after }),
        );
        self.audit("search", &query.text, detail).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = self.state.db.search(&query, after.as_deref(), limit);
        let mut page = self.ask(found).await?;
        if self.reader.masks_numbers {
            page.items.iter_mut().for_each(masking::recording);
        }
        Ok(page)
    }

    /// The question as the database takes it.
    fn query(&self, asked: ListQuery) -> Query {
        Query {
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
            note: asked.note,
            tag: asked.tag,
            scope: self.reader.scope.clone(),
            masked: self.reader.masks_numbers,
        }
    }

    /// All lines of a search, page by page as they are taken: one audit row stands for the whole.
    ///
    /// The order is fixed by the cursor, so what arrives meanwhile is not among them.
    pub async fn export(
        &self,
        asked: ListQuery,
        format: &str,
    ) -> Result<impl Stream<Item = Result<Vec<RecordingView>, ApiError>> + Send + use<>, ApiError>
    {
        self.reader.needs(Right::Download)?;
        let after = asked.after.clone();
        let masks = self.reader.masks_numbers;
        let query = self.query(asked);
        let detail = told(&query, serde_json::json!({ "format": format }));
        self.audit("export", &query.text, detail).await?;
        let state = self.state.clone();
        let begin = Some((state, query, after));
        Ok(futures::stream::try_unfold(begin, move |at| async move {
            let Some((state, query, after)): Option<(WebState, Query, Option<String>)> = at else {
                return Ok(None);
            };
            let asked = state.db.search(&query, after.as_deref(), EXPORT_LINES);
            let mut page = ask(&state, asked).await?;
            if masks {
                page.items.iter_mut().for_each(masking::recording);
            }
            let next = page.next.map(|next| (state, query, Some(next)));
            Ok(Some((page.items, next)))
        }))
    }

    /// What people left beside a recording and its call. The audit row is that of showing them.
    pub async fn beside(
        &self,
        shown: &ShowView,
        recording: Option<Uuid>,
    ) -> Result<Beside, ApiError> {
        let db = &self.state.db;
        let call_id = shown.call.call_id;
        let mut beside = Beside {
            markers: match recording {
                Some(id) => self.ask(db.markers(id)).await?,
                None => Vec::new(),
            },
            notes: self.ask(db.call_notes(call_id)).await?,
            tags: self.ask(db.call_tags(call_id)).await?,
        };
        self.mask(beside.markers.iter_mut().map(|marker| &mut marker.text));
        self.mask(beside.notes.iter_mut().map(|note| &mut note.text));
        self.mask(&mut beside.tags);
        Ok(beside)
    }

    /// What people wrote may hold numbers, too.
    fn mask<'t>(&self, texts: impl IntoIterator<Item = &'t mut String>) {
        if self.reader.masks_numbers {
            texts
                .into_iter()
                .for_each(|text| *text = masking::free_text(text));
        }
    }

    pub async fn markers(&self, recording_id: Uuid) -> Result<Vec<Marker>, ApiError> {
        self.reader.needs(Right::Search)?;
        self.audit(
            "show",
            &recording_id.to_string(),
            serde_json::json!({ "part": "markers" }),
        )
        .await?;
        self.must_see_recording(recording_id).await?;
        let mut markers = self.ask(self.state.db.markers(recording_id)).await?;
        self.mask(markers.iter_mut().map(|marker| &mut marker.text));
        Ok(markers)
    }

    pub async fn notes(&self, call_id: Uuid) -> Result<Vec<DeskNote>, ApiError> {
        self.reader.needs(Right::Search)?;
        self.audit(
            "show",
            &call_id.to_string(),
            serde_json::json!({ "part": "notes" }),
        )
        .await?;
        self.must_see_call(call_id).await?;
        let mut notes = self.ask(self.state.db.call_notes(call_id)).await?;
        self.mask(notes.iter_mut().map(|note| &mut note.text));
        Ok(notes)
    }

    pub async fn call_tags(&self, call_id: Uuid) -> Result<Vec<String>, ApiError> {
        self.reader.needs(Right::Search)?;
        self.audit(
            "show",
            &call_id.to_string(),
            serde_json::json!({ "part": "tags" }),
        )
        .await?;
        self.must_see_call(call_id).await?;
        let mut tags = self.ask(self.state.db.call_tags(call_id)).await?;
        self.mask(&mut tags);
        Ok(tags)
    }

    /// All tags. They are of the whole house, so a reader with a narrower scope gets none.
    pub async fn tags(&self) -> Result<Vec<TagView>, ApiError> {
        self.reader.needs(Right::Search)?;
        if !self.reader.scope.is_all() {
            return Ok(Vec::new());
        }
        let mut tags = self.ask(self.state.db.tags()).await?;
        self.mask(tags.iter_mut().map(|tag| &mut tag.tag));
        Ok(tags)
    }

    /// Tags of the lines of a list that was shown.
    pub async fn tags_of(&self, items: &[RecordingView]) -> Result<Vec<(Uuid, String)>, ApiError> {
        let mut calls: Vec<Uuid> = items.iter().map(|item| item.call_id).collect();
        calls.dedup();
        let mut tags = self.ask(self.state.db.tags_of(&calls)).await?;
        self.mask(tags.iter_mut().map(|(_, tag)| tag));
        Ok(tags)
    }

    /// The reader's own.
    pub async fn saved_searches(&self) -> Result<Vec<SavedSearch>, ApiError> {
        self.reader.needs(Right::Search)?;
        self.ask(self.state.db.saved_searches(&self.reader.actor))
            .await
    }

    /// Numbers of the house, and the recordings that need a person: those are shown, so they are in the trail.
    pub async fn operations(&self) -> Result<OperationsView, ApiError> {
        self.reader.needs(Right::Watch)?;
        self.audit("show", "operations", Value::Null).await?;
        let db = &self.state.db;
        let now = self.state.clock.now();
        let parts = super::health::parts(self.state).await;
        let parts = [
            ("database", parts.database),
            ("storage", parts.storage),
            ("spool", parts.spool),
        ];
        let mut view = OperationsView {
            status: status(self.state).await?,
            parts: parts
                .into_iter()
                .map(|(name, part)| (name.to_owned(), part.as_str().to_owned()))
                .collect(),
            notices_by_hour: self.ask(db.notices_by_hour(HOURS, now)).await?,
            time_to_expiry: self.ask(db.time_to_expiry(now)).await?,
            wait_reasons: self.ask(db.wait_reasons()).await?,
            quarantined: self.ask(db.put_aside(LISTED)).await?,
            nearest_loss: self.ask(db.nearest_loss(LISTED)).await?,
        };
        if self.reader.masks_numbers {
            view.quarantined.iter_mut().for_each(masking::recording);
            view.nearest_loss.iter_mut().for_each(masking::recording);
        }
        Ok(view)
    }

    /// What lies outside the reader's scope looks missing.
    pub(super) async fn must_see_call(&self, call_id: Uuid) -> Result<(), ApiError> {
        let db = &self.state.db;
        self.must_exist(db.has_call(call_id), "call").await?;
        self.must_exist(db.in_scope(call_id, &self.reader.scope), "call")
            .await
    }

    pub(super) async fn must_see_recording(&self, recording_id: Uuid) -> Result<(), ApiError> {
        let db = &self.state.db;
        let call = self.ask(db.call_of_recording(recording_id)).await?;
        let call = call.ok_or_else(|| ApiError::not_found("recording"))?;
        self.must_exist(db.in_scope(call, &self.reader.scope), "recording")
            .await
    }

    pub(super) async fn must_exist(
        &self,
        asked: impl Future<Output = Result<bool, DbError>>,
        what: &str,
    ) -> Result<(), ApiError> {
        if self.ask(asked).await? {
            Ok(())
        } else {
            Err(ApiError::not_found(what))
        }
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
            return self.shown(call_id).await;
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

    /// Whether the reader has still to say why before this of the call is given out.
    pub async fn must_ask(&self, call_id: Uuid, what: Asked) -> Result<bool, ApiError> {
        reasons::must_ask(self, call_id, what).await
    }

    /// The object that counts for a role. `reason` is what the request itself says why.
    pub async fn object(
        &self,
        recording_id: Uuid,
        role: Role,
        reason: Option<&str>,
    ) -> Result<Found, ApiError> {
        let (right, what) = match role {
            Role::Access | Role::Waveform | Role::CallAccess => (Right::Play, Asked::Play),
            Role::Original | Role::Manifest | Role::Duplicate => (Right::Download, Asked::Download),
        };
        self.reader.needs(right)?;
        let reason = reasons::needed(self, recording_id, what, reason).await?;
        let action = match role {
            Role::Access | Role::Original | Role::CallAccess => "play",
            Role::Waveform | Role::Manifest | Role::Duplicate => "get",
        };
        let detail = serde_json::json!({ "role": role.as_str(), "reason": reason });
        self.audit(action, &recording_id.to_string(), without_nulls(detail))
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
        Ok(Found::of(object))
    }

    /// The joint access copy of a call. `reason` is what the request itself says why.
    pub async fn call_access(
        &self,
        call_id: Uuid,
        reason: Option<&str>,
    ) -> Result<Found, ApiError> {
        self.reader.needs(Right::Play)?;
        let reason = reasons::needed_of_call(self, Some(call_id), Asked::Play, reason).await?;
        let detail = serde_json::json!({ "role": Role::CallAccess.as_str(), "reason": reason });
        self.audit("play", &call_id.to_string(), without_nulls(detail))
            .await?;
        let db = &self.state.db;
        let shown = self.ask(db.show_call(call_id)).await?;
        let shown = self.seen(shown).await?;
        let shown = shown.ok_or_else(|| ApiError::not_found("call"))?;
        let object = self.ask(db.call_access(call_id)).await?;
        let mut recordings = shown.recordings.into_iter();
        object.map(Found::of).ok_or_else(|| {
            let notes = recordings.next().map(|detail| detail.recording.notes);
            ApiError::no_access_copy(&notes.unwrap_or_default())
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
        let mut shown = shown.ok_or_else(|| ApiError::not_found("call"))?;
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

    pub(super) async fn audit(
        &self,
        action: &str,
        subject: &str,
        detail: Value,
    ) -> Result<(), ApiError> {
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

    pub(super) async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, DbError>>,
    ) -> Result<T, ApiError> {
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
        | DbErrorKind::LeaseLost
        | DbErrorKind::Refused
        | DbErrorKind::Other => {
            let id = new_id(state.clock.now()).to_string();
            tracing::error!(id, %error, "an unexpected failure of the database");
            Err(ApiError::internal(&id))
        }
    }
}

/// A question as the audit trail keeps it, with what else was asked; what was not asked for is not there.
fn told(query: &Query, more: Value) -> Value {
    let mut detail = serde_json::json!({
        "source": query.source, "from": query.from, "to": query.to, "number": query.number,
        "party": query.party, "direction": query.direction, "state": query.state,
        "min_duration_ms": query.min_duration_ms, "max_duration_ms": query.max_duration_ms,
        "note": query.note, "tag": query.tag,
    });
    if let (Value::Object(detail), Value::Object(more)) = (&mut detail, more) {
        detail.extend(more);
    }
    without_nulls(detail)
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
