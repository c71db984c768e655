//! What people leave beside a call: markers, notes, tags, and searches they keep.
//!
//! What a newcomer gets wrong: nothing is wiped. A marker or note that is taken away keeps its row with the moment,
//! because somebody may have acted on it.

use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::ids::new_id;
use crate::domain::view::{DeskNote, Marker, SavedSearch, TagView};

use super::Database;
use super::error::DbError;
use super::sql::{all, count, exec, models, vals};
use super::words;

/// Characters of a marker's, note's or search's text; what is longer is refused before it comes here.
pub const MOST_CHARACTERS: usize = 4000;
/// Characters of a tag.
pub const MOST_TAG: usize = 64;
/// Of one call, recording or person; nobody reads more.
const MOST_ROWS: i64 = 1000;

/// A tag as it is stored and looked for: case folded, spaces as one.
pub fn tag(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words::folded(&words.join(" "))
}

impl Database {
    /// In the order of their place in the sound.
    pub async fn markers(&self, recording_id: Uuid) -> Result<Vec<Marker>, DbError> {
        let rows: Vec<entity::marker::Model> = models(
            self.reader(),
            "select * from marker where recording_id = $1 and removed_at_ms is null \
             order by offset_ms, marker_id limit $2",
            vals![recording_id, MOST_ROWS],
        )
        .await?;
        Ok(rows.into_iter().map(marker).collect())
    }

    pub async fn add_marker(
        &self,
        recording_id: Uuid,
        offset_ms: i64,
        text: &str,
        author: &str,
        now: Timestamp,
    ) -> Result<Marker, DbError> {
        let row = entity::marker::Model {
            marker_id: new_id(now),
            recording_id,
            offset_ms: offset_ms.max(0),
            body: text.to_owned(),
            author: author.to_owned(),
            made_at_ms: now.ms(),
            removed_at_ms: None,
        };
        exec(
            self.writer(),
            "insert into marker (marker_id, recording_id, offset_ms, body, author, made_at_ms) \
             values ($1, $2, $3, $4, $5, $6)",
            vals![
                row.marker_id,
                row.recording_id,
                row.offset_ms,
                row.body.as_str(),
                row.author.as_str(),
                row.made_at_ms
            ],
        )
        .await?;
        Ok(marker(row))
    }

    /// Gives the recording it stood on; `None` when there is no such marker any more.
    pub async fn remove_marker(&self, id: Uuid, now: Timestamp) -> Result<Option<Uuid>, DbError> {
        let rows = all(
            self.writer(),
            "update marker set removed_at_ms = $2 where marker_id = $1 and removed_at_ms is null \
             returning recording_id",
            vals![id, now.ms()],
        )
        .await?;
        Ok(rows
            .first()
            .map(|row| row.try_get_by_index(0))
            .transpose()?)
    }

    /// Whose recording a marker stands on, removed or not.
    pub async fn marker_place(&self, id: Uuid) -> Result<Option<Uuid>, DbError> {
        let rows = all(
            self.reader(),
            "select recording_id from marker where marker_id = $1",
            vals![id],
        )
        .await?;
        Ok(rows
            .first()
            .map(|row| row.try_get_by_index(0))
            .transpose()?)
    }

    /// The oldest first.
    pub async fn call_notes(&self, call_id: Uuid) -> Result<Vec<DeskNote>, DbError> {
        let rows: Vec<entity::call_note::Model> = models(
            self.reader(),
            "select * from call_note where call_id = $1 and removed_at_ms is null \
             order by note_id limit $2",
            vals![call_id, MOST_ROWS],
        )
        .await?;
        Ok(rows.into_iter().map(note).collect())
    }

    pub async fn add_call_note(
        &self,
        call_id: Uuid,
        text: &str,
        author: &str,
        now: Timestamp,
    ) -> Result<DeskNote, DbError> {
        let row = entity::call_note::Model {
            note_id: new_id(now),
            call_id,
            body: text.to_owned(),
            author: author.to_owned(),
            made_at_ms: now.ms(),
            removed_at_ms: None,
        };
        exec(
            self.writer(),
            "insert into call_note (note_id, call_id, body, author, made_at_ms) values ($1, $2, $3, $4, $5)",
            vals![
                row.note_id,
                row.call_id,
                row.body.as_str(),
                row.author.as_str(),
                row.made_at_ms
            ],
        )
        .await?;
        Ok(note(row))
    }

    /// Tags of one call in their order.
    pub async fn call_tags(&self, call_id: Uuid) -> Result<Vec<String>, DbError> {
        all(
            self.reader(),
            "select tag from call_tag where call_id = $1 order by tag limit $2",
            vals![call_id, MOST_ROWS],
        )
        .await?
        .iter()
        .map(|row| Ok(row.try_get_by_index(0)?))
        .collect()
    }

    /// Tags of many calls, for a list: (call, tag).
    pub async fn tags_of(&self, calls: &[Uuid]) -> Result<Vec<(Uuid, String)>, DbError> {
        let mut found = Vec::new();
        for chunk in calls.chunks(1000) {
            let sql = format!(
                "select call_id, tag from call_tag where call_id in {} order by tag",
                super::sql::list(1, chunk.len())
            );
            let ids = chunk.iter().map(|id| sea_orm::Value::from(*id)).collect();
            for row in all(self.reader(), sql, ids).await? {
                found.push((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
            }
        }
        Ok(found)
    }

    /// All tags with the number of their calls, the most used first.
    pub async fn tags(&self) -> Result<Vec<TagView>, DbError> {
        all(
            self.reader(),
            "select tag, count(*) as n from call_tag group by tag order by n desc, tag limit $1",
            vals![MOST_ROWS],
        )
        .await?
        .iter()
        .map(|row| {
            let calls: i64 = row.try_get_by_index(1)?;
            Ok(TagView {
                tag: row.try_get_by_index(0)?,
                calls: u64::try_from(calls).unwrap_or(0),
            })
        })
        .collect()
    }

    /// Gives whether the call had it not yet.
    pub async fn add_tag(
        &self,
        call_id: Uuid,
        text: &str,
        author: &str,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let added = exec(
            self.writer(),
            "insert into call_tag (call_id, tag, author, made_at_ms, at_ms) values ($1, $2, $3, $4, \
             (select at_ms from call where call_id = $1)) on conflict (call_id, tag) do nothing",
            vals![call_id, tag(text), author, now.ms()],
        )
        .await?;
        Ok(added > 0)
    }

    /// Gives whether the call had it.
    pub async fn remove_tag(&self, call_id: Uuid, text: &str) -> Result<bool, DbError> {
        let removed = exec(
            self.writer(),
            "delete from call_tag where call_id = $1 and tag = $2",
            vals![call_id, tag(text)],
        )
        .await?;
        Ok(removed > 0)
    }

    /// The newest first.
    pub async fn saved_searches(&self, owner: &str) -> Result<Vec<SavedSearch>, DbError> {
        let rows: Vec<entity::saved_search::Model> = models(
            self.reader(),
            "select * from saved_search where owner = $1 order by search_id desc limit $2",
            vals![owner, MOST_ROWS],
        )
        .await?;
        Ok(rows.into_iter().map(saved).collect())
    }

    /// The same name again replaces the earlier search.
    pub async fn save_search(
        &self,
        owner: &str,
        name: &str,
        query: &str,
        now: Timestamp,
    ) -> Result<SavedSearch, DbError> {
        let row = entity::saved_search::Model {
            search_id: new_id(now),
            owner: owner.to_owned(),
            name: name.to_owned(),
            query: query.to_owned(),
            made_at_ms: now.ms(),
        };
        let txn = self.begin().await?;
        exec(
            &txn,
            "delete from saved_search where owner = $1 and name = $2",
            vals![owner, name],
        )
        .await?;
        exec(
            &txn,
            "insert into saved_search (search_id, owner, name, query, made_at_ms) values ($1, $2, $3, $4, $5)",
            vals![
                row.search_id,
                row.owner.as_str(),
                row.name.as_str(),
                row.query.as_str(),
                row.made_at_ms
            ],
        )
        .await?;
        txn.commit().await?;
        Ok(saved(row))
    }

    /// Gives whether the owner had it.
    pub async fn forget_search(&self, owner: &str, id: Uuid) -> Result<bool, DbError> {
        let removed = exec(
            self.writer(),
            "delete from saved_search where owner = $1 and search_id = $2",
            vals![owner, id],
        )
        .await?;
        Ok(removed > 0)
    }

    /// The call of a recording; `None` when there is no such recording.
    pub async fn call_of_recording(&self, id: Uuid) -> Result<Option<Uuid>, DbError> {
        let rows = all(
            self.reader(),
            "select call_id from recording where recording_id = $1",
            vals![id],
        )
        .await?;
        Ok(rows
            .first()
            .map(|row| row.try_get_by_index(0))
            .transpose()?)
    }

    /// There is such a call.
    pub async fn has_call(&self, id: Uuid) -> Result<bool, DbError> {
        let n = count(
            self.reader(),
            "select count(*) from call where call_id = $1",
            vals![id],
        )
        .await?;
        Ok(n > 0)
    }
}

fn marker(row: entity::marker::Model) -> Marker {
    Marker {
        marker_id: row.marker_id,
        recording_id: row.recording_id,
        offset_ms: row.offset_ms,
        text: row.body,
        author: row.author,
        made_at: Timestamp::from_ms(row.made_at_ms),
    }
}

fn note(row: entity::call_note::Model) -> DeskNote {
    DeskNote {
        note_id: row.note_id,
        call_id: row.call_id,
        text: row.body,
        author: row.author,
        made_at: Timestamp::from_ms(row.made_at_ms),
    }
}

fn saved(row: entity::saved_search::Model) -> SavedSearch {
    SavedSearch {
        search_id: row.search_id,
        name: row.name,
        query: row.query,
        made_at: Timestamp::from_ms(row.made_at_ms),
    }
}
