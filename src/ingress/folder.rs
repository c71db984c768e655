//! A watched folder: audio files with a `cdr/1` message beside them (`a.wav` and `a.wav.json` or `a.json`), or
//! alone. Only what is complete is told of; the original is fetched from there like from anywhere else.
//!
//! What a newcomer gets wrong: nothing is moved or deleted here before it is durable, and nothing is followed:
//! links are reported and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::domain::digest::Sha256;
use crate::providers::cdr::settings::{FOLDER, Settings};

use super::ways::{Inlet, Taken};

const AUDIO: [&str; 12] = [
    "wav", "mp3", "ogg", "opus", "webm", "m4a", "mp4", "aac", "amr", "flac", "gsm", "awb",
];
const DEEPEST: usize = 16;
const LARGEST_SIDECAR: u64 = 256 * 1024;
/// Of a message of `cdr/1`.
const LONGEST_EVENT_ID: usize = 128;
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// What a file looked like; told of once it looked so twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    bytes: u64,
    modified: Option<std::time::SystemTime>,
}

/// What was told of: a file, or a message and whether its file was there.
type Told = BTreeMap<PathBuf, (Look, bool)>;

#[derive(Debug, Default)]
struct Sight {
    audio: BTreeMap<PathBuf, Look>,
    sidecars: BTreeMap<PathBuf, Look>,
    /// Left alone, with the reason.
    foreign: BTreeMap<PathBuf, &'static str>,
}

/// Looks again and again until `stop`.
pub async fn run(inlet: Inlet, settings: Settings, stop: CancellationToken) {
    let Some(root) = settings.path.clone() else {
        return;
    };
    let source = inlet.provider.name().to_owned();
    let mut before = Sight::default();
    let mut told = Told::new();
    let mut reported: BTreeSet<PathBuf> = BTreeSet::new();
    let pause = settings.settle_time.max(LEAST_PAUSE);
    while !stop.is_cancelled() {
        let at = root.clone();
        let seen = tokio::task::spawn_blocking(move || look(&at)).await;
        match seen {
            Ok(Ok(now)) => {
                for (path, why) in &now.foreign {
                    if reported.insert(path.clone()) {
                        tracing::warn!(source, file = %path.display(), why, "left alone in the folder");
                        inlet.intake.count_refused(&source, inlet.door);
                    }
                }
                tell(&inlet, &root, &before, &now, &mut told, &mut reported).await;
                before = now;
            }
            Ok(Err(error)) => {
                tracing::warn!(source, folder = %root.display(), %error, "folder not read");
            }
            Err(error) => tracing::error!(source, %error, "looking at the folder ended early"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Everything below the folder, links not followed.
fn look(root: &Path) -> std::io::Result<Sight> {
    let mut sight = Sight::default();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(_) => {
                sight.foreign.insert(folder, "unreadable");
                continue;
            }
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().to_lowercase();
            let Ok(metadata) = std::fs::symlink_metadata(&path) else {
                // Gone since: renamed, most likely.
                continue;
            };
            let kind = metadata.file_type();
            if kind.is_symlink() {
                sight.foreign.insert(path, "a link");
            } else if kind.is_dir() {
                if depth + 1 < DEEPEST {
                    folders.push((path, depth + 1));
                } else {
                    sight.foreign.insert(path, "too deep");
                }
            } else if !kind.is_file() {
                sight.foreign.insert(path, "no regular file");
            } else {
                let seen = Look {
                    bytes: metadata.len(),
                    modified: metadata.modified().ok(),
                };
                sort(&mut sight, path, &name, seen);
            }
        }
    }
    Ok(sight)
}

fn sort(sight: &mut Sight, path: PathBuf, name: &str, seen: Look) {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    if name.starts_with('.') || matches!(ending, "tmp" | "part" | "partial" | "crdownload") {
        // Somebody is still writing it.
    } else if path.to_str().is_none() {
        sight.foreign.insert(path, "a name that is not UTF-8");
    } else if ending == "json" {
        sight.sidecars.insert(path, seen);
    } else if AUDIO.contains(&ending) {
        if seen.bytes > 0 {
            sight.audio.insert(path, seen);
        }
    } else {
        sight.foreign.insert(path, "neither audio nor a sidecar");
    }
}

/// Tells of what did not change since the last look, once.
async fn tell(
    inlet: &Inlet,
    root: &Path,
    before: &Sight,
    now: &Sight,
    told: &mut Told,
    reported: &mut BTreeSet<PathBuf>,
) {
    told.retain(|path, _| now.audio.contains_key(path) || now.sidecars.contains_key(path));
    let is_new = |path: &PathBuf, seen: (Look, bool), told: &Told| told.get(path) != Some(&seen);
    let mut with_sidecar = BTreeSet::new();
    for (path, seen) in &now.sidecars {
        let audio = audio_of(path, &now.audio);
        with_sidecar.extend(audio.clone());
        let is_settled = before.sidecars.get(path) == Some(seen);
        let audio_settled = audio
            .as_ref()
            .is_none_or(|audio| before.audio.get(audio) == now.audio.get(audio));
        let seen = (*seen, audio.is_some());
        if is_settled && audio_settled && is_new(path, seen, told) {
            let body = sidecar(path, audio.as_deref()).await;
            let taken = match body {
                Ok(body) => inlet.take(body.into(), false).await,
                Err(Unread::Useless(why)) => Taken::Poison(why.to_owned()),
                Err(Unread::Closed(error)) => {
                    // Rights change without a trace in what a look sees, so it is tried at each.
                    if reported.insert(path.clone()) {
                        let source = inlet.provider.name();
                        tracing::warn!(source, file = %path.display(), %error, "message beside a file not read");
                        inlet.intake.count_refused(source, inlet.door);
                    }
                    continue;
                }
            };
            if settle(inlet, path, taken) {
                told.insert(path.clone(), seen);
            }
        }
    }
    for (path, seen) in &now.audio {
        let is_settled = before.audio.get(path) == Some(seen);
        if is_settled && !with_sidecar.contains(path) && is_new(path, (*seen, true), told) {
            let body = alone(inlet, root, path, seen);
            let taken = inlet.take(body.to_string().into(), false).await;
            if settle(inlet, path, taken) {
                told.insert(path.clone(), (*seen, true));
            }
        }
    }
}

/// Whether the file needs no second telling.
fn settle(inlet: &Inlet, path: &Path, taken: Taken) -> bool {
    match taken {
        Taken::Kept => true,
        Taken::Poison(why) => {
            let source = inlet.provider.name();
            tracing::warn!(source, file = %path.display(), why, "not understood, left where it is");
            true
        }
        Taken::Later => false,
    }
}

/// `a.wav.json` belongs to `a.wav`, `a.json` to the one audio file of that stem.
fn audio_of(sidecar: &Path, audio: &BTreeMap<PathBuf, Look>) -> Option<PathBuf> {
    let whole = sidecar.with_extension("");
    if audio.contains_key(&whole) {
        return Some(whole);
    }
    AUDIO
        .iter()
        .map(|ending| sidecar.with_extension(ending))
        .find(|path| audio.contains_key(path))
}

/// Why the message beside a file was not read.
enum Unread {
    Useless(&'static str),
    Closed(std::io::Error),
}

/// The message beside a file; one without a recording gets the file.
async fn sidecar(path: &Path, audio: Option<&Path>) -> Result<Vec<u8>, Unread> {
    let metadata = tokio::fs::metadata(path).await.map_err(Unread::Closed)?;
    if metadata.len() > LARGEST_SIDECAR {
        return Err(Unread::Useless("too_large"));
    }
    let body = tokio::fs::read(path).await.map_err(Unread::Closed)?;
    let Some(audio) = audio else {
        return Ok(body);
    };
    let Ok(mut message) = serde_json::from_slice::<Value>(&body) else {
        return Ok(body);
    };
    let has_recordings = message["recordings"]
        .as_array()
        .is_some_and(|recordings| !recordings.is_empty());
    if message.is_object() && !has_recordings {
        message["recordings"] = json!([{
            "id": message["call"]["id"],
            "state": "ready",
            "locator": { "type": "file", "path": audio },
        }]);
        // Another event than the message alone, which may have been told before its file was there.
        if let Some(event) = message["event_id"].as_str() {
            let with_file = format!("{event}:file");
            message["event_id"] = match with_file.len() {
                0..=LONGEST_EVENT_ID => with_file.into(),
                _ => Sha256::of(with_file.as_bytes()).hex().into(),
            };
        }
        return Ok(message.to_string().into_bytes());
    }
    Ok(body)
}

/// A file without a word about it is a call of its own, named by its place and its making.
fn alone(inlet: &Inlet, root: &Path, path: &Path, seen: &Look) -> Value {
    let below = path
        .strip_prefix(root)
        .unwrap_or(path)
        .display()
        .to_string();
    let made = seen
        .modified
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0));
    let made_at = crate::domain::clock::Timestamp::from_ms(made);
    let event = format!("{below}|{}|{made}", seen.bytes);
    let id = match below.chars().count() {
        0..=256 => below,
        _ => Sha256::of(below.as_bytes()).hex(),
    };
    json!({
        "spec": "cdr/1",
        "event_id": Sha256::of(event.as_bytes()).hex(),
        "event_type": "recording.ready",
        "occurred_at": made_at,
        "source": { "provider": FOLDER, "account": inlet.provider.name() },
        "call": { "id": id, "ended_at": made_at },
        "recordings": [{
            "id": id,
            "state": "ready",
            "size_bytes": seen.bytes,
            "locator": { "type": "file", "path": path },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_sees_complete_files_and_leaves_links_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("day")).unwrap();
        for (name, bytes) in [
            ("day/a.wav", &b"x"[..]),
            ("day/a.wav.json", b"{}"),
            ("b.mp3.part", b"x"),
            (".c.wav", b"x"),
            ("empty.wav", b""),
            ("notes.docx", b"x"),
        ] {
            std::fs::write(root.join(name), bytes).unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("day/loop")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("d.wav")).unwrap();
        let sight = look(root).unwrap();
        let names = |paths: Vec<&PathBuf>| {
            let below = paths.iter().map(|path| path.strip_prefix(root).unwrap());
            below
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(sight.audio.keys().collect()), ["day/a.wav"]);
        assert_eq!(names(sight.sidecars.keys().collect()), ["day/a.wav.json"]);
        assert_eq!(
            names(sight.foreign.keys().collect()),
            ["d.wav", "day/loop", "notes.docx"]
        );
        let audio = audio_of(&root.join("day/a.wav.json"), &sight.audio);
        assert_eq!(audio, Some(root.join("day/a.wav")));
        assert_eq!(audio_of(&root.join("day/a.json"), &sight.audio), audio);
        assert!(look(&root.join("nowhere")).is_err());
    }
}
