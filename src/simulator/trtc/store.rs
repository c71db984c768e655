//! The files that recording tasks made, and the two places where they lie.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use super::super::files;
use super::super::house::{Call, locked};
use super::super::plan::{Ending, Mishap};
use super::super::voices::Audio;
use super::super::wire::{Reply, Request};
use super::{BUCKET_PREFIX, MEDIA, Trtc};

/// A room of the application; numbers and texts are different rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    Number(u64),
    Text(String),
}

impl Room {
    pub fn shown(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Media,
    Bucket,
}

/// A file of a recording task.
#[derive(Debug)]
pub struct Stored {
    pub call: Arc<Call>,
    pub task: String,
    pub room: Room,
    pub room_began_ms: i64,
    pub file_id: String,
    pub name: String,
    /// `None`: all users mixed.
    pub user: Option<String>,
    pub audio: Audio,
    pub place: Where,
    pub legacy: bool,
    pub started_ms: i64,
    pub ended_ms: i64,
    pub created_ms: i64,
    /// The address works from here on.
    pub ready_ms: i64,
    pub expires_ms: Option<i64>,
    /// A playlist's segments: names beside it, and bytes.
    pub segments: Vec<(String, Bytes)>,
}

impl Stored {
    /// The media store has it at this moment.
    pub fn is_there(&self, now: i64) -> bool {
        self.call.plan.ending == Ending::Archived
            && self.created_ms <= now
            && self.expires_ms.is_none_or(|end| now < end)
    }

    pub fn path(&self) -> String {
        match self.place {
            Where::Media => {
                let ext = self.name.rsplit('.').next().unwrap_or("mp4");
                format!("{MEDIA}{}/f0.{ext}", self.file_id)
            }
            Where::Bucket => format!("/{BUCKET_PREFIX}/{}/{}", self.task, self.name),
        }
    }
}

#[derive(Debug, Default)]
pub struct Store {
    /// In order of making.
    pub files: Vec<Arc<Stored>>,
    /// Decoded paths; of a segment with its number.
    paths: HashMap<String, (Arc<Stored>, Option<usize>)>,
}

impl Store {
    pub fn add(&mut self, file: Stored) -> Arc<Stored> {
        let file = Arc::new(file);
        let path = file.path();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (n, (name, _)) in file.segments.iter().enumerate() {
            let at = format!("{folder}/{name}");
            self.paths.insert(at, (Arc::clone(&file), Some(n)));
        }
        self.paths.insert(path.clone(), (Arc::clone(&file), None));
        self.files.push(Arc::clone(&file));
        file
    }

    pub fn by_id(&self, file_id: &str) -> Option<Arc<Stored>> {
        self.files
            .iter()
            .find(|file| file.file_id == file_id)
            .cloned()
    }

    pub(super) fn at(&self, path: &str) -> Option<(Arc<Stored>, Option<usize>)> {
        self.paths.get(path).cloned()
    }
}

impl Trtc {
    /// The media store's file server: no signature, and 404 until the file is there.
    pub(super) fn media_file(&self, request: &Request) -> Reply {
        let Some((file, segment)) = locked(&self.store).at(&request.path) else {
            return Reply::text(StatusCode::NOT_FOUND, "not found");
        };
        let now = self.house.now_ms();
        let early = now < file.ready_ms || file.call.strikes(Mishap::NotReady);
        if !file.is_there(now) || early {
            return Reply::text(StatusCode::NOT_FOUND, "not found");
        }
        if file.call.strikes(Mishap::LinkExpired) {
            return Reply::text(StatusCode::FORBIDDEN, "forbidden");
        }
        self.deliver_file(&file, segment, request)
    }

    pub(super) fn deliver_file(
        &self,
        file: &Stored,
        segment: Option<usize>,
        request: &Request,
    ) -> Reply {
        let part;
        let audio = match segment.and_then(|n| file.segments.get(n)) {
            Some((_, bytes)) => {
                part = Audio {
                    bytes: bytes.clone(),
                    mime: "video/mp2t",
                    duration_ms: 0,
                };
                &part
            }
            None => &file.audio,
        };
        files::serve_file(&self.house, &file.call, audio, request, true)
    }
}
