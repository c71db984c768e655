//! Reads a playlist (RFC 8216): what a recording's segments are called, and in which order they play.
//!
//! Pure and bounded. Addresses are left as they are written; whoever fetches them joins and checks them.

/// Most segments of one recording: 24 hours in pieces of about five seconds, and then some.
pub const MOST_SEGMENTS: usize = 20_000;
/// Longest playlist that is read, in bytes.
pub const MOST_BYTES: u64 = 8 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Playlist {
    /// Names other playlists: the address of the one that holds the sound.
    Master {
        sound: String,
    },
    Media(Media),
}

/// A playlist of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// In playing order; initialisation sections stand before the first segment that needs them.
    pub segments: Vec<Segment>,
    /// Nothing will be added any more.
    pub ended: bool,
    /// Some segment is encrypted.
    pub encrypted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub uri: String,
    /// First byte and number of bytes of the file behind `uri`; without it the whole file.
    pub stretch: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unplayable {
    #[error("not a playlist")]
    NotAPlaylist,
    #[error("a playlist without any segment")]
    Empty,
    #[error("a playlist of more than {MOST_SEGMENTS} segments")]
    TooLong,
    #[error("a byte range in the playlist that makes no sense")]
    BadRange,
}

/// Whether these first bytes are a playlist's.
pub fn is_playlist(prefix: &[u8]) -> bool {
    let text = prefix.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(prefix);
    text.strip_prefix(b"#EXTM3U")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'\r' | b'\n' | b' ' | b'\t')))
}

pub fn read(bytes: &[u8]) -> Result<Playlist, Unplayable> {
    if !is_playlist(bytes) {
        return Err(Unplayable::NotAPlaylist);
    }
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let is_master = lines
        .iter()
        .any(|line| line.starts_with("#EXT-X-STREAM-INF:") || line.starts_with("#EXT-X-MEDIA:"));
    if is_master {
        master(&lines)
    } else {
        media(&lines).map(Playlist::Media)
    }
}

/// A rendition of sound alone where there is one, else the variant with the highest bandwidth.
fn master(lines: &[&str]) -> Result<Playlist, Unplayable> {
    let mut sound: Option<(bool, String)> = None;
    let mut best: Option<((bool, u64), String)> = None;
    let mut pending: Option<(bool, u64)> = None;
    for line in lines {
        if let Some(list) = line.strip_prefix("#EXT-X-MEDIA:") {
            let is_sound = attribute(list, "TYPE").as_deref() == Some("AUDIO");
            let is_default = attribute(list, "DEFAULT").as_deref() == Some("YES");
            if let Some(uri) = attribute(list, "URI").filter(|uri| is_sound && !uri.is_empty())
                && sound.as_ref().is_none_or(|(known, _)| is_default && !known)
            {
                sound = Some((is_default, uri));
            }
        } else if let Some(list) = line.strip_prefix("#EXT-X-STREAM-INF:") {
            let bandwidth = attribute(list, "BANDWIDTH").and_then(|text| text.parse().ok());
            let codecs = attribute(list, "CODECS").unwrap_or_default();
            let only_sound = !codecs.is_empty()
                && codecs
                    .split(',')
                    .all(|codec| codec.trim().starts_with("mp4a"));
            pending = Some((only_sound, bandwidth.unwrap_or(0)));
        } else if !line.starts_with('#')
            && let Some(rank) = pending.take()
            && best.as_ref().is_none_or(|(known, _)| rank > *known)
        {
            best = Some((rank, (*line).to_owned()));
        }
    }
    let sound = sound
        .map(|(_, uri)| uri)
        .or(best.map(|(_, uri)| uri))
        .ok_or(Unplayable::Empty)?;
    Ok(Playlist::Master { sound })
}

fn media(lines: &[&str]) -> Result<Media, Unplayable> {
    let mut media = Media::default();
    let mut map: Option<Segment> = None;
    let mut range: Option<(u64, Option<u64>)> = None;
    // Where a range without a start goes on.
    let mut behind: Option<(String, u64)> = None;
    for line in lines {
        if let Some(list) = line.strip_prefix("#EXT-X-KEY:") {
            let method = attribute(list, "METHOD").unwrap_or_default();
            media.encrypted |= method != "NONE";
        } else if let Some(list) = line.strip_prefix("#EXT-X-MAP:") {
            let uri = attribute(list, "URI").unwrap_or_default();
            let stretch = match attribute(list, "BYTERANGE") {
                Some(text) => {
                    let (bytes, from) = byte_range(&text)?;
                    Some((from.unwrap_or(0), bytes))
                }
                None => None,
            };
            let section = Segment { uri, stretch };
            if !section.uri.is_empty() && map.as_ref() != Some(&section) {
                add(&mut media, section.clone())?;
                map = Some(section);
            }
        } else if let Some(text) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            range = Some(byte_range(text)?);
        } else if *line == "#EXT-X-ENDLIST" || *line == "#EXT-X-PLAYLIST-TYPE:VOD" {
            media.ended = true;
        } else if !line.starts_with('#') {
            let uri = (*line).to_owned();
            let stretch = match range.take() {
                None => None,
                Some((bytes, from)) => {
                    let from = match (from, &behind) {
                        (Some(from), _) => from,
                        (None, Some((before, end))) if *before == uri => *end,
                        (None, _) => 0,
                    };
                    let end = from.checked_add(bytes).ok_or(Unplayable::BadRange)?;
                    behind = Some((uri.clone(), end));
                    Some((from, bytes))
                }
            };
            add(&mut media, Segment { uri, stretch })?;
        }
    }
    let only_maps = media.segments.len() <= usize::from(map.is_some());
    if only_maps && media.ended {
        return Err(Unplayable::Empty);
    }
    Ok(media)
}

fn add(media: &mut Media, segment: Segment) -> Result<(), Unplayable> {
    if media.segments.len() >= MOST_SEGMENTS {
        return Err(Unplayable::TooLong);
    }
    media.segments.push(segment);
    Ok(())
}

/// `<bytes>[@<from>]`.
fn byte_range(text: &str) -> Result<(u64, Option<u64>), Unplayable> {
    let (bytes, from) = match text.trim().split_once('@') {
        Some((bytes, from)) => (bytes, Some(from)),
        None => (text.trim(), None),
    };
    let read = |text: &str| text.trim().parse::<u64>().map_err(|_| Unplayable::BadRange);
    let bytes = read(bytes)?;
    if bytes == 0 {
        return Err(Unplayable::BadRange);
    }
    Ok((bytes, from.map(read).transpose()?))
}

/// The value of one attribute, without its quotes (RFC 8216, section 4.2).
fn attribute(list: &str, name: &str) -> Option<String> {
    let mut rest = list;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"')?;
                (&quoted[..end], &quoted[end + 1..])
            }
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (&after[..end], &after[end..])
            }
        };
        if key.trim() == name {
            return Some(value.to_owned());
        }
        rest = next.trim_start_matches([',', ' ']);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_of(text: &str) -> Media {
        match read(text.as_bytes()) {
            Ok(Playlist::Media(media)) => media,
            other => panic!("{other:?}"),
        }
    }

    fn whole(uri: &str) -> Segment {
        Segment {
            uri: uri.into(),
            stretch: None,
        }
    }

    #[test]
    fn segments_come_in_playing_order_with_their_initialisation() {
        let media = media_of(
            "#EXTM3U\r\n#EXT-X-VERSION:7\r\n#EXT-X-MAP:URI=\"init.mp4\"\r\n#EXTINF:4.0,\r\na.m4s\r\n\
             #EXT-X-MAP:URI=\"init.mp4\"\r\n#EXTINF:4.0, a title, with a comma\r\nb.m4s?sign=x%2Cy\r\n#EXT-X-ENDLIST\r\n",
        );
        assert!(media.ended && !media.encrypted);
        assert_eq!(
            media.segments,
            [whole("init.mp4"), whole("a.m4s"), whole("b.m4s?sign=x%2Cy")]
        );
    }

    #[test]
    fn a_playlist_that_goes_on_is_not_ended_and_a_key_is_seen() {
        let media = media_of("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na.ts\n");
        assert!(!media.ended && media.encrypted);
        let media = media_of("#EXTM3U\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST");
        assert!(media.ended && !media.encrypted);
    }

    #[test]
    fn byte_ranges_go_on_where_the_one_before_ended() {
        let media = media_of(
            "#EXTM3U\n#EXTINF:1,\n#EXT-X-BYTERANGE:100@50\nall.ts\n#EXTINF:1,\n#EXT-X-BYTERANGE:30\nall.ts\n#EXT-X-ENDLIST",
        );
        let stretches: Vec<_> = media.segments.iter().map(|s| s.stretch).collect();
        assert_eq!(stretches, [Some((50, 100)), Some((150, 30))]);
        for bad in ["x", "0@1", "1@x", "18446744073709551615@9"] {
            let text = format!("#EXTM3U\n#EXT-X-BYTERANGE:{bad}\na.ts\n#EXT-X-ENDLIST");
            assert_eq!(read(text.as_bytes()), Err(Unplayable::BadRange), "{bad}");
        }
    }

    #[test]
    fn a_master_playlist_leads_to_the_sound() {
        let of = |text: &str| match read(text.as_bytes()) {
            Ok(Playlist::Master { sound }) => sound,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            of(
                "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=900,CODECS=\"avc1,mp4a.40.2\"\nhigh.m3u8\n"
            ),
            "high.m3u8"
        );
        assert_eq!(
            of(
                "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=900,CODECS=\"avc1,mp4a.40.2\"\nhigh.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=64,CODECS=\"mp4a.40.2\"\nsound.m3u8\n"
            ),
            "sound.m3u8"
        );
        assert_eq!(
            of(
                "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a, b\",URI=\"fr.m3u8\"\n#EXT-X-MEDIA:TYPE=AUDIO,DEFAULT=YES,URI=\"en.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n"
            ),
            "en.m3u8"
        );
    }

    #[test]
    fn what_is_no_playlist_or_has_no_end_in_sight_is_refused() {
        assert_eq!(read(b"#EXTM3UX"), Err(Unplayable::NotAPlaylist));
        assert_eq!(read(b"<html>"), Err(Unplayable::NotAPlaylist));
        assert_eq!(read(b"#EXTM3U\n#EXT-X-ENDLIST"), Err(Unplayable::Empty));
        assert!(is_playlist(b"\xEF\xBB\xBF#EXTM3U\n"));
        let long = format!("#EXTM3U\n{}", "a.ts\n".repeat(MOST_SEGMENTS + 1));
        assert_eq!(read(long.as_bytes()), Err(Unplayable::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn any_text_gets_an_answer(lines in proptest::collection::vec("(#EXT-X-MAP:|#EXT-X-KEY:|#EXT-X-BYTERANGE:|#EXT-X-MEDIA:|#EXT-X-STREAM-INF:)?[ -~]{0,30}", 0..20)) {
            let _ = read(format!("#EXTM3U\n{}", lines.join("\n")).as_bytes());
        }
    }
}
