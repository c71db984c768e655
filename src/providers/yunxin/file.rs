//! One recording file as any of the four generations, the query by channel or the video store tells of it.

use serde_json::{Map, Value, json};

use crate::domain::clock::Timestamp;
use crate::domain::reading::{Announced, Link};
use crate::domain::recording::Part;

use super::{loose, names};

/// Longest id that is taken.
const LONGEST_ID: usize = 512;
/// Longest address that is kept.
const LONGEST_ADDRESS: usize = 8 * 1024;

/// Ours: the last part of an address that was not worth keeping.
pub const URL_NAME: &str = "lastPartOfUrl";

/// What a file holds (netease.md, section 7, rule 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    Mixed,
    /// One user's.
    Single,
    /// Of a push-stream task.
    Live,
    Screen,
    Whiteboard,
    Subtitle,
}

impl Track {
    pub const fn as_str(self) -> &'static str {
        match self {
            Track::Mixed => "mixed",
            Track::Single => "single",
            Track::Live => "live",
            Track::Screen => "screen",
            Track::Whiteboard => "whiteboard",
            Track::Subtitle => "subtitle",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub channel: String,
    /// As the vendor names it; a hint, never a path.
    pub name: String,
    pub link: Option<Link>,
    /// The last part of the address.
    pub url_name: Option<String>,
    pub track: Track,
    /// Account id or user number; none for a mix.
    pub user: Option<String>,
    pub is_caller: bool,
    pub piece: Option<u64>,
    pub ext: Option<String>,
    pub bytes: Option<u64>,
    /// 32 lower-case hexadecimal digits.
    pub md5: Option<String>,
    pub vid: Option<String>,
    pub created_at: Option<Timestamp>,
    /// When its sound began: the milliseconds in a second generation's name, else the event's `timestamp` (netease.md, section 7:
    /// the creation of the file).
    pub began_at: Option<Timestamp>,
    /// Whose voice it is, by the one name that every event of the file agrees on.
    pub speaker: Option<String>,
}

/// What differs between the generations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ways {
    /// The old meeting product counts: 1 mixed, 2 single.
    pub mix_is_counted: bool,
    /// `caller` tells who began the call (elsewhere it is to be ignored).
    pub tells_caller: bool,
}

impl File {
    pub fn read(of: &Map<String, Value>, ways: Ways) -> Result<Self, String> {
        let name = loose::text(of, &["filename", "fileName", "videoName", "objectName"])
            .unwrap_or_default();
        let said = names::parse(&name);
        let vid = loose::text(of, &["vid"]).filter(|vid| vid != "0");
        let link = loose::text(of, &["url"])
            .map(|url| link(&url))
            .transpose()?;
        let url_name = link
            .as_ref()
            .and_then(|link| names::last_part(&link.url))
            .map(str::to_owned)
            .or_else(|| loose::text(of, &[URL_NAME]));
        let in_address = names::parse(url_name.as_deref().unwrap_or_default());
        let named = said.channel.or(in_address.channel).map(str::to_owned);
        let ext = loose::text(of, &["type"])
            .map(|ext| ext.to_ascii_lowercase())
            .or_else(|| said.ext.clone())
            .or(in_address.ext);
        let mixed = if ways.mix_is_counted {
            loose::count(of, &["mix"]).map(|mix| mix == 1)
        } else {
            loose::truth(of, &["mix"])
        };
        let mixed = mixed.unwrap_or(said.mixed);
        let track = if mixed {
            Track::Mixed
        } else if loose::text(of, &["taskId"]).is_some() {
            Track::Live
        } else if loose::truth(of, &["substream", "subStream"]) == Some(true) {
            Track::Screen
        } else {
            match ext.as_deref() {
                Some("gz") => Track::Whiteboard,
                Some("txt") => Track::Subtitle,
                _ => Track::Single,
            }
        };
        let user = loose::text(of, &["user", "userUuid", "accountId", "uid"])
            .filter(|user| user != "0" && track != Track::Mixed)
            .or_else(|| said.uid.map(str::to_owned));
        let channel = loose::text(of, &["channelId", "channelid"])
            .or(named)
            .or_else(|| loose::text(of, &["roomArchiveId"]).map(|id| format!("room:{id}")))
            // Nothing says which call it is of: then it is one of its own.
            .or_else(|| Some(format!("unknown:{}", vid.as_ref()?)))
            .or_else(|| Some(format!("unknown:{name}")).filter(|_| !name.is_empty()))
            .ok_or("a file without channel, id and name")?;
        if [&channel, &name].iter().any(|id| id.len() > LONGEST_ID) {
            return Err(format!("an id of more than {LONGEST_ID} bytes"));
        }
        let piece = loose::count(of, &["pieceindex", "pieceIndex"]);
        let created_at = loose::time(of, &["timestamp", "createTime", "createtime"]);
        let is_single = track == Track::Single;
        let named_at = said.created_ms.map(Timestamp::from_ms);
        Ok(Self {
            piece: names::piece_of(piece, &name, url_name.as_deref()),
            bytes: loose::count(of, &["size", "initialSize"]).filter(|&bytes| bytes > 0),
            md5: loose::text(of, &["md5"])
                .filter(|md5| md5.len() == 32 && md5.bytes().all(|b| b.is_ascii_hexdigit()))
                .map(|md5| md5.to_ascii_lowercase()),
            is_caller: ways.tells_caller && loose::truth(of, &["caller"]) == Some(true),
            began_at: named_at.or(created_at).filter(|_| is_single),
            speaker: said
                .uid
                .map(str::to_owned)
                .or_else(|| user.clone())
                .filter(|_| is_single),
            created_at,
            channel,
            link,
            url_name,
            track,
            user,
            ext,
            vid,
            name,
        })
    }

    /// Why it is not for the archive, if it is not.
    pub fn left_aside(&self) -> Option<String> {
        let why = match (self.track, self.ext.as_deref()) {
            (Track::Whiteboard, _) | (_, Some("gz" | "zip")) => "a whiteboard, no sound",
            (Track::Subtitle, _) | (_, Some("txt" | "vtt" | "srt")) => "subtitles, no sound",
            (_, Some("json" | "png" | "jpg" | "jpeg")) => "no sound",
            _ if self.link.is_none() && self.vid.is_none() => {
                return Some(format!("{}: neither address nor vid", self.label()));
            }
            _ => return None,
        };
        Some(format!("{}: {why}", self.label()))
    }

    /// Pieces of it share this name, and nothing says which one it is.
    pub fn is_any_piece(&self) -> bool {
        self.piece.is_none()
            && self.url_name.is_none()
            && names::parse(&self.name).form == names::Form::Av1Mixed
    }

    pub fn label(&self) -> String {
        match self.url_name.as_ref().filter(|_| self.name.is_empty()) {
            Some(name) => name.clone(),
            None => self.name.clone(),
        }
    }

    pub fn aliases(&self) -> Vec<String> {
        let mut aliases = names::aliases(
            &self.channel,
            &self.name,
            self.url_name.as_deref(),
            self.piece,
        );
        aliases.extend(self.vid.iter().map(|vid| format!("vid:{vid}")));
        aliases
    }

    pub fn announced(self, part: Part, ready_now: bool) -> Announced {
        let one = |value: Option<Value>| Value::Array(value.into_iter().collect());
        let mut known: Vec<&str> = vec![&self.name];
        known.extend(self.url_name.as_deref());
        known.retain(|name| !name.is_empty());
        known.dedup();
        let handle = json!({
            "channel": self.channel,
            "vid": self.vid,
            "names": known,
            "md5": one(self.md5.clone().map(Value::from)),
            "bytes": one(self.bytes.map(Value::from)),
            "track": self.track.as_str(),
            "user": self.user,
            "piece": self.piece,
        });
        Announced {
            aliases: self.aliases(),
            clocks: crate::domain::deadlines::Clocks {
                link_until: self.link.as_ref().and_then(|link| link.until),
                ..Default::default()
            },
            provider_call_id: self.channel,
            provider_recording_id: self.vid,
            part,
            began_at: self.began_at,
            party: self.speaker,
            handle,
            version: self.md5,
            link: self.link,
            ready_now,
            confirmed: true,
            ..Announced::default()
        }
    }

    /// What the call's page shows of it.
    pub fn facts(&self) -> Value {
        json!({
            "track": self.track.as_str(),
            "user": self.user,
            "piece": self.piece,
            "created_at": self.created_at.map(|at| at.to_string()),
        })
    }
}

/// An address, and when it dies where it is signed (netease.md, section 5: `Expires` in unix seconds).
pub fn link(url: &str) -> Result<Link, String> {
    let url = url.trim();
    if url.len() > LONGEST_ADDRESS {
        return Err(format!("an address of {} bytes", url.len()));
    }
    let has_scheme = ["http://", "https://"].iter().any(|scheme| {
        url.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    if !has_scheme {
        return Err("no http or https address".to_owned());
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let expires = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "Expires")
        .and_then(|(_, value)| value.parse::<i64>().ok())
        .filter(|seconds| (1..=253_402_300_799).contains(seconds));
    Ok(Link {
        url: url.to_owned(),
        until: expires.map(|seconds| Timestamp::from_ms(seconds * 1000)),
    })
}
