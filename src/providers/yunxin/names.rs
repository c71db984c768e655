//! Names of recording files (netease.md, section 5), and the names that identify a recording.
//!
//! A name is a hint and never a path. What a newcomer gets wrong: the first generation leaves the piece out
//! of some names (`0-<channel>-mix.mp4`) and writes it into the address (`0-<channel>-<piece>-mix.mp4`).

use crate::domain::digest::Sha256;

/// Longest file name that stands in an alias word for word.
const LONGEST_NAME: usize = 200;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `<uid>-<channel>-<ms>-<slice>.<ext>`
    G2Single,
    /// `0-<channel>-<ms>-<slice>-mix.<ext>`
    G2Mixed,
    /// `<taskId>-<channel>-<ms>-<slice>.<ext>`
    G2Live,
    /// `0-<channel>-mix.<ext>`, `0-<channel>-<piece>-mix.<ext>`
    Av1Mixed,
    #[default]
    Opaque,
}

/// What a file's name says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileName<'a> {
    pub form: Form,
    pub uid: Option<&'a str>,
    pub task_id: Option<&'a str>,
    pub channel: Option<&'a str>,
    pub created_ms: Option<i64>,
    pub piece: Option<u64>,
    pub mixed: bool,
    pub ext: Option<String>,
}

/// Reads a name; a form that nobody knows is opaque, never an error.
pub fn parse(name: &str) -> FileName<'_> {
    let (stem, ext) = match name.rsplit_once('.') {
        Some((stem, ext))
            if (1..=5).contains(&ext.len()) && ext.bytes().all(|b| b.is_ascii_alphanumeric()) =>
        {
            (stem, Some(ext.to_ascii_lowercase()))
        }
        _ => (name, None),
    };
    let (bare, mixed) = match stem.strip_suffix("-mix") {
        Some(bare) => (bare, true),
        None => (stem, false),
    };
    let opaque = FileName {
        mixed,
        ext: ext.clone(),
        ..FileName::default()
    };
    let parts: Vec<&str> = bare.split('-').collect();
    match parts.as_slice() {
        ["0", channel] if mixed && is_channel(channel) => FileName {
            form: Form::Av1Mixed,
            channel: Some(channel),
            ..opaque
        },
        ["0", channel, piece] if mixed && is_channel(channel) && is_piece(piece) => FileName {
            form: Form::Av1Mixed,
            channel: Some(channel),
            piece: piece.parse().ok(),
            ..opaque
        },
        [first @ .., channel, made, piece]
            if !first.is_empty()
                && is_channel(channel)
                && is_digits(made, 12..=14)
                && is_piece(piece) =>
        {
            // A task's id may hold hyphens itself.
            let end = bare.len() - channel.len() - made.len() - piece.len() - 3;
            let first = &bare[..end];
            let is_uid = is_digits(first, 1..=20);
            FileName {
                form: match (mixed, is_uid) {
                    (true, _) => Form::G2Mixed,
                    (false, true) => Form::G2Single,
                    (false, false) => Form::G2Live,
                },
                uid: (!mixed && is_uid).then_some(first),
                task_id: (!mixed && !is_uid && !first.is_empty()).then_some(first),
                channel: Some(channel),
                created_ms: made.parse().ok(),
                piece: piece.parse().ok(),
                ..opaque
            }
        }
        _ => opaque,
    }
}

fn is_digits(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Seen with 14 to 19 digits.
fn is_channel(text: &str) -> bool {
    is_digits(text, 10..=20)
}

fn is_piece(text: &str) -> bool {
    is_digits(text, 1..=5)
}

/// The last part of an address' path, without query.
pub fn last_part(url: &str) -> Option<&str> {
    let bare = &url[..url.find(['?', '#']).unwrap_or(url.len())];
    let path = bare.split_once("://").map_or(bare, |(_, rest)| rest);
    let (_, last) = path.rsplit_once('/')?;
    (!last.is_empty()).then_some(last)
}

/// The piece of a file: as told, else as its names say.
pub fn piece_of(told: Option<u64>, name: &str, url_name: Option<&str>) -> Option<u64> {
    told.or_else(|| parse(name).piece)
        .or_else(|| parse(url_name.unwrap_or_default()).piece)
}

/// The names under which one file of a channel is known, whoever tells of it (netease.md, section 7, rule 7):
/// the last part of its address; its file name together with its piece, never with a guessed one; and the
/// bare file name where no other piece can share it.
pub fn aliases(
    channel: &str,
    name: &str,
    url_name: Option<&str>,
    piece: Option<u64>,
) -> Vec<String> {
    let mut aliases = Vec::new();
    if let Some(url_name) = url_name {
        aliases.push(format!("{channel}/{}", short(url_name)));
    }
    if name.is_empty() {
        return aliases;
    }
    let says_piece = parse(name).piece.is_some();
    let is_alone = match url_name {
        Some(url_name) => url_name != name && says_piece,
        None => says_piece || piece.unwrap_or(0) == 0 && parse(name).form == Form::Opaque,
    };
    if is_alone {
        aliases.push(format!("{channel}/{}", short(name)));
    }
    if let Some(piece) = piece {
        aliases.push(format!("{channel}/{}#{piece}", short(name)));
    }
    aliases
}

fn short(name: &str) -> String {
    if name.len() <= LONGEST_NAME && !name.contains('?') {
        return name.to_owned();
    }
    format!("sha256:{}", Sha256::of(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_share_a_file_name_stay_apart() {
        let name = "0-51153883300000-mix.mp4";
        let of = |piece: u64| {
            let url = format!("0-51153883300000-{piece}-mix.mp4");
            aliases("51153883300000", name, Some(&url), Some(piece))
        };
        assert!(of(0).iter().all(|alias| !of(1).contains(alias)));
        // The query by channel names the object, and its address ends in the same name.
        let url = "0-51153883300000-1-mix.mp4";
        let asked = aliases("51153883300000", url, Some(url), Some(1));
        assert!(asked.iter().any(|alias| of(1).contains(alias)));
        assert!(asked.iter().all(|alias| !of(0).contains(alias)));
        // It may also name the object as the event named the file.
        let asked = aliases(
            "51153883300000",
            name,
            Some(url),
            piece_of(None, name, Some(url)),
        );
        assert!(asked.iter().any(|alias| of(1).contains(alias)));
        assert!(asked.iter().all(|alias| !of(0).contains(alias)));
    }

    #[test]
    fn names_of_an_unknown_form_still_find_their_recording() {
        let name = "agent_17-6290737000999801234-1.aac";
        let event = aliases("6290737000999801234", name, Some(name), Some(1));
        let asked = aliases("6290737000999801234", name, Some(name), None);
        assert!(asked.iter().any(|alias| event.contains(alias)));
        let with_hyphens = parse("task-a-b-600712345678901-1700000100456-2.flv");
        assert_eq!(with_hyphens.task_id, Some("task-a-b"));
        assert_eq!(with_hyphens.piece, Some(2));
        for odd in [
            "", ".", "-", "-mix", "-mix.mp4", "a--b", "----", "0--mix", "é.ö",
        ] {
            assert_eq!(parse(odd).form, Form::Opaque, "{odd}");
        }
    }

    #[test]
    fn the_last_part_of_an_address_is_without_its_signature() {
        for (url, expected) in [
            ("http://a.example/b/c.mp4?Expires=1&x=/y", Some("c.mp4")),
            ("http://a.example/c.mp4#f", Some("c.mp4")),
            ("http://a.example/", None),
            ("http://a.example", None),
            ("", None),
        ] {
            assert_eq!(last_part(url), expected, "{url}");
        }
    }
}
