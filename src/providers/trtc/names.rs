//! Names of recording files (document 647/111748): hints on room, user and slice, never more than that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a file's name says; all of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileName {
    pub user_define_record_id: Option<String>,
    pub sdk_app_id: Option<String>,
    pub room_raw: Option<String>,
    pub user_raw: Option<String>,
    pub media_id: Option<String>,
    /// Begins at 1, only when the recording was cut.
    pub index: Option<u32>,
    /// Of a playlist.
    pub track_type: Option<String>,
    pub mixed: Option<bool>,
    pub ext: String,
}

const PREFIX_END: &str = "__UserDefine_u_";
const USER_BEGINS: &str = "_UserId_s_";
const USER_ENDS: &str = "_UserId_e_";

impl FileName {
    pub fn of(name: &str) -> Self {
        let (stem, ext) = name.rsplit_once('.').unwrap_or((name, ""));
        let opaque = Self {
            ext: ext.to_ascii_lowercase(),
            ..Self::default()
        };
        let (own, rest) = match stem.split_once(PREFIX_END) {
            Some((own, rest)) => (Some(own.to_owned()), rest),
            None => (None, stem),
        };
        let Some((app, rest)) = rest.split_once('_') else {
            return opaque;
        };
        if app.is_empty() || !app.bytes().all(|b| b.is_ascii_digit()) {
            return opaque;
        }
        let mut known = Self {
            user_define_record_id: own,
            sdk_app_id: Some(app.to_owned()),
            mixed: Some(true),
            ..opaque.clone()
        };
        let Some((room, tail)) = rest.split_once(USER_BEGINS) else {
            let (room, index) = cut_index(rest);
            known.room_raw = Some(room.to_owned());
            known.index = index;
            return if room.is_empty() { opaque } else { known };
        };
        let Some((user, tail)) = tail.split_once(USER_ENDS) else {
            return opaque;
        };
        known.mixed = Some(false);
        known.room_raw = Some(room.to_owned());
        known.user_raw = Some(user.to_owned());
        let (tail, index) = cut_index(tail);
        known.index = index;
        let (media, track) = match tail.split_once('_') {
            Some((media, track)) => (media, Some(track.to_owned())),
            None => (tail, None),
        };
        known.media_id = Some(media.to_owned());
        known.track_type = track;
        known
    }

    /// Only where the room is known to be text: a number stands there plainly.
    pub fn text_room(&self) -> Option<String> {
        decode(self.room_raw.as_deref()?)
    }

    pub fn user(&self) -> Option<String> {
        decode(self.user_raw.as_deref()?)
    }

    /// The room is text, because it is written in Base64; `None` when that cannot be seen.
    pub fn has_text_room(&self) -> Option<bool> {
        let raw = self.room_raw.as_deref()?;
        if raw.bytes().all(|b| b.is_ascii_digit()) {
            // "1234" is Base64 as well; a number is far more likely.
            return Some(false);
        }
        self.text_room().map(|_| true)
    }
}

fn cut_index(text: &str) -> (&str, Option<u32>) {
    match text.rsplit_once('_') {
        Some((before, digits))
            if !digits.is_empty()
                && digits.len() <= 6
                && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            (before, digits.parse().ok())
        }
        _ => (text, None),
    }
}

/// Base64 with `/` written as `-` and `=` as `.`; what does not decode is nothing, never an error.
fn decode(raw: &str) -> Option<String> {
    let text = raw.replace('-', "/").replace('.', "=");
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}
