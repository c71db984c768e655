//! The way from a handler to a change: each writes its audit row first, and asks in one place whether the reader may.

use serde_json::json;
use uuid::Uuid;

use super::access::Reader;
use super::problem::ApiError;
use super::reads::Reads;
use super::reasons;
use super::state::WebState;
use crate::db::desk::{MOST_CHARACTERS, MOST_TAG};
use crate::domain::rights::Right;
use crate::domain::view::{DeskNote, Marker, SavedSearch};

/// What somebody may want to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Markers, notes and tags.
    Annotate,
    /// One's own saved searches.
    KeepSearch,
    /// To tell what was heard.
    TellHeard,
    /// Another go for a recording.
    Retry,
}

/// Whether this reader may do that to anything at all. What is out of reach looks missing (`Reads`).
pub fn may(reader: &Reader, change: Change) -> Result<(), ApiError> {
    reader.needs(match change {
        Change::Annotate => Right::Annotate,
        Change::KeepSearch => Right::Search,
        Change::TellHeard => Right::Play,
        Change::Retry => Right::Operate,
    })
}

/// Longest sound of which parts can be told, in milliseconds: a week.
const LONGEST_MS: i64 = 7 * 24 * 3_600_000;
/// Parts of one telling.
const MOST_PARTS: usize = 200;

/// The changes of one reader.
#[derive(Debug)]
pub struct Writes<'a> {
    state: &'a WebState,
    reader: &'a Reader,
}

impl<'a> Writes<'a> {
    pub fn of(state: &'a WebState, reader: &'a Reader) -> Self {
        Self { state, reader }
    }

    fn reads(&self) -> Reads<'a> {
        Reads::of(self.state, self.reader)
    }

    pub async fn add_marker(
        &self,
        recording_id: Uuid,
        offset_ms: i64,
        text: &str,
    ) -> Result<Marker, ApiError> {
        may(self.reader, Change::Annotate)?;
        let text = sound_text("text", text, MOST_CHARACTERS)?;
        if !(0..=LONGEST_MS).contains(&offset_ms) {
            return Err(ApiError::bad_request(
                "offset_ms lies outside of any recording",
            ));
        }
        let (db, reads) = (&self.state.db, self.reads());
        let detail = json!({ "offset_ms": offset_ms, "text": text });
        reads
            .audit("mark", &recording_id.to_string(), detail)
            .await?;
        reads.must_see_recording(recording_id).await?;
        let now = self.state.clock.now();
        reads
            .ask(db.add_marker(recording_id, offset_ms, text, &self.reader.actor, now))
            .await
    }

    /// Gives the recording it stood on.
    pub async fn remove_marker(&self, marker_id: Uuid) -> Result<Uuid, ApiError> {
        may(self.reader, Change::Annotate)?;
        let (db, reads) = (&self.state.db, self.reads());
        let place = reads.ask(db.marker_place(marker_id)).await?;
        let place = place.ok_or_else(|| ApiError::not_found("marker"))?;
        reads.must_see_recording(place).await?;
        reads
            .audit(
                "unmark",
                &place.to_string(),
                json!({ "marker_id": marker_id }),
            )
            .await?;
        let removed = reads
            .ask(db.remove_marker(marker_id, self.state.clock.now()))
            .await?;
        removed.ok_or_else(|| ApiError::not_found("marker"))
    }

    pub async fn add_note(&self, call_id: Uuid, text: &str) -> Result<DeskNote, ApiError> {
        may(self.reader, Change::Annotate)?;
        let text = sound_text("text", text, MOST_CHARACTERS)?;
        let (db, reads) = (&self.state.db, self.reads());
        reads
            .audit("note", &call_id.to_string(), json!({ "text": text }))
            .await?;
        reads.must_see_call(call_id).await?;
        reads
            .ask(db.add_call_note(call_id, text, &self.reader.actor, self.state.clock.now()))
            .await
    }

    pub async fn add_tag(&self, call_id: Uuid, tag: &str) -> Result<(), ApiError> {
        may(self.reader, Change::Annotate)?;
        let tag = sound_text("tag", tag, MOST_TAG)?;
        let (db, reads) = (&self.state.db, self.reads());
        reads
            .audit("tag", &call_id.to_string(), json!({ "tag": tag }))
            .await?;
        reads.must_see_call(call_id).await?;
        reads
            .ask(db.add_tag(call_id, tag, &self.reader.actor, self.state.clock.now()))
            .await?;
        Ok(())
    }

    pub async fn remove_tag(&self, call_id: Uuid, tag: &str) -> Result<(), ApiError> {
        may(self.reader, Change::Annotate)?;
        let (db, reads) = (&self.state.db, self.reads());
        reads
            .audit("untag", &call_id.to_string(), json!({ "tag": tag }))
            .await?;
        reads.must_see_call(call_id).await?;
        reads.must_exist(db.remove_tag(call_id, tag), "tag").await
    }

    /// `query` is what stands behind `?` in the search page's address.
    pub async fn save_search(&self, name: &str, query: &str) -> Result<SavedSearch, ApiError> {
        may(self.reader, Change::KeepSearch)?;
        let name = sound_text("name", name, MOST_TAG)?;
        let query = sound_text("query", query.trim_start_matches('?'), MOST_CHARACTERS)?;
        let reads = self.reads();
        reads
            .audit("save_search", name, json!({ "query": query }))
            .await?;
        let now = self.state.clock.now();
        reads
            .ask(
                self.state
                    .db
                    .save_search(&self.reader.actor, name, query, now),
            )
            .await
    }

    pub async fn forget_search(&self, search_id: Uuid) -> Result<(), ApiError> {
        may(self.reader, Change::KeepSearch)?;
        let reads = self.reads();
        reads
            .audit("forget_search", &search_id.to_string(), json!({}))
            .await?;
        let forgotten = self.state.db.forget_search(&self.reader.actor, search_id);
        reads.must_exist(forgotten, "saved search").await
    }

    /// Another go: for what waits or was put aside, or for the access copy of what is archived.
    pub async fn retry(&self, recording_id: Uuid, access: bool) -> Result<(), ApiError> {
        may(self.reader, Change::Retry)?;
        let (db, reads) = (&self.state.db, self.reads());
        let now = self.state.clock.now();
        reads
            .audit(
                "retry",
                &recording_id.to_string(),
                json!({ "access": access }),
            )
            .await?;
        reads.must_see_recording(recording_id).await?;
        let queued = if access {
            reads
                .ask(db.request_access_again(recording_id, now))
                .await?
        } else {
            reads.ask(db.retry(recording_id, now)).await?
        };
        if queued {
            Ok(())
        } else {
            Err(ApiError::not_retryable())
        }
    }

    /// Why this reader wants to hear a call, for as long as that holds.
    pub async fn give_reason(&self, call_id: Uuid, text: &str) -> Result<(), ApiError> {
        reasons::give(&self.reads(), call_id, text).await
    }

    /// What was really heard, as a player tells it: parts of the sound in milliseconds.
    pub async fn heard(&self, recording_id: Uuid, parts: &[(i64, i64)]) -> Result<(), ApiError> {
        may(self.reader, Change::TellHeard)?;
        if parts.is_empty() || parts.len() > MOST_PARTS {
            return Err(ApiError::bad_request(format!(
                "tell of 1 to {MOST_PARTS} parts"
            )));
        }
        let sound = parts
            .iter()
            .all(|(from, to)| 0 <= *from && from <= to && *to <= LONGEST_MS);
        if !sound {
            return Err(ApiError::bad_request(
                "a part ends before it begins, or lies outside of any recording",
            ));
        }
        let reads = self.reads();
        let parts: Vec<_> = parts.iter().map(|(from, to)| json!([from, to])).collect();
        reads.must_see_recording(recording_id).await?;
        reads
            .audit(
                "heard",
                &recording_id.to_string(),
                json!({ "parts_ms": parts }),
            )
            .await
    }
}

fn sound_text<'t>(name: &str, text: &'t str, most: usize) -> Result<&'t str, ApiError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ApiError::bad_request(format!("{name} is empty")));
    }
    if text.chars().count() > most {
        return Err(ApiError::bad_request(format!(
            "{name} has more than {most} characters"
        )));
    }
    Ok(text)
}
