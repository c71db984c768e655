//! TRTC's calls: rooms that are used again, and what the recording task in each of them makes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::task::JoinSet;

use super::super::house::{Call, locked};
use super::super::plan::{Ending, Plan};
use super::super::voices::Audio;
use super::super::{Error, all_done, talks};
use super::Trtc;
use super::store::{Room, Stored, Where};

/// What a call's recording task makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One file for each user, and one mixed: in the media store.
    SinglesAndMix,
    /// A playlist in the media store.
    PlaylistInMedia,
    /// One file for each user, in the bucket.
    SinglesInBucket,
    /// A playlist in the bucket, announced when it begins.
    PlaylistInBucket,
    /// One mixed file cut into two slices.
    Slices,
    /// An MP4, told by the call kit.
    CallKit,
    /// The recording of old applications.
    Legacy,
}

const SHAPES: [Shape; 7] = [
    Shape::SinglesAndMix,
    Shape::PlaylistInMedia,
    Shape::SinglesInBucket,
    Shape::PlaylistInBucket,
    Shape::Slices,
    Shape::CallKit,
    Shape::Legacy,
];

/// A call with what its task made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) call: Arc<Call>,
    pub(super) files: Vec<Arc<Stored>>,
    pub(super) shape: Shape,
    pub(super) room: Room,
    pub(super) began_ms: i64,
    pub(super) users: [String; 2],
}

impl Trtc {
    pub(super) async fn play_all(&self, plans: Vec<Plan>) -> Result<(), Error> {
        let mut playing = JoinSet::new();
        for plan in plans {
            if !playing.is_empty() {
                tokio::time::sleep(self.house.options.call_interval).await;
            }
            let vendor = self.clone();
            playing.spawn(async move { vendor.play(plan).await });
        }
        all_done(playing).await
    }

    async fn play(&self, plan: Plan) -> Result<(), Error> {
        let made = self.make(plan, self.house.now_ms());
        let lines: Vec<(Option<&str>, &Audio)> = made
            .files
            .iter()
            .map(|file| {
                let id = match file.place {
                    Where::Media => &file.file_id,
                    Where::Bucket => &file.name,
                };
                (Some(id.as_str()), &file.audio)
            })
            .collect();
        self.house.enter_files(&made.call, &lines)?;
        let callbacks = self.callbacks(&made);
        futures::future::try_join_all(callbacks.iter().map(|callback| self.send(callback))).await?;
        Ok(())
    }

    /// A room that nobody uses between these moments.
    fn room(&self, began_ms: i64, ended_ms: i64) -> Room {
        let mut rooms = locked(&self.rooms);
        for n in 0.. {
            // The number 2 and the text "2" are two rooms; so are these.
            let room = match n % 3 {
                0 => Room::Text(format!("desk-{}", n / 3)),
                1 => Room::Number(200 + n / 3),
                _ => Room::Text((200 + n / 3).to_string()),
            };
            // Never both at the same time: the vendor writes numbers as text now and then.
            let key = room.shown();
            let is_free = rooms.get(&key).is_none_or(|last| last + 10_000 < began_ms);
            if is_free {
                rooms.insert(key, ended_ms);
                return room;
            }
        }
        Room::Number(1)
    }

    /// A call that ends at `ended_ms`, and its files.
    pub(super) fn make(&self, plan: Plan, ended_ms: i64) -> Made {
        let seed = self.call_seed(plan.index);
        let id = Self::task_id(seed);
        let shape = if plan.ending == Ending::Archived {
            match SHAPES[(plan.index % SHAPES.len() as u64) as usize] {
                // Only callbacks tell of the call kit's ids and of old applications: neither the vendor's
                // search nor the bucket knows them.
                Shape::CallKit | Shape::Legacy if !self.house.options.announce => {
                    Shape::SinglesAndMix
                }
                shape => shape,
            }
        } else {
            // What is gone at the vendor is gone in its own store.
            Shape::Slices
        };
        let sounds = self.sounds(shape, seed, &id, plan.ending);
        let longest = sounds.iter().map(|sound| sound.audio.duration_ms).max();
        let audio = Audio {
            bytes: bytes::Bytes::new(),
            mime: "",
            duration_ms: longest.unwrap_or(0),
        };
        let call = Arc::new(Call::new(id.clone(), plan, audio, ended_ms, seed));
        self.house.remember(&[&id], &call);
        let began_ms = call.started_ms - 1500;
        let room = self.room(began_ms, ended_ms);
        let mut dice = call.dice("files");
        let users = [
            format!("agent_{}", 10 + dice.below(20)),
            format!("cust_{}", dice.digits(4)),
        ];
        let created_ms = ended_ms + self.house.paced_ms(60);
        let mut files = Vec::new();
        for sound in sounds {
            let user = sound.user.map(|n| users[n].clone());
            let name = self.name(&room, user.as_deref(), sound.index, sound.ext);
            let late_s = 30 + dice.below(150);
            let file = Stored {
                task: id.clone(),
                room: room.clone(),
                room_began_ms: began_ms,
                file_id: format!("5285890{}", dice.digits(12)),
                name,
                user,
                started_ms: ended_ms - sound.audio.duration_ms as i64,
                ended_ms,
                created_ms,
                ready_ms: created_ms + self.house.paced_ms(late_s),
                // One in four is deleted by the vendor after a month.
                expires_ms: dice
                    .happens(1, 4)
                    .then(|| created_ms + self.house.paced_ms(30 * 24 * 3600)),
                place: match shape {
                    Shape::SinglesInBucket | Shape::PlaylistInBucket => Where::Bucket,
                    _ => Where::Media,
                },
                legacy: shape == Shape::Legacy,
                audio: sound.audio,
                segments: sound.segments,
                call: Arc::clone(&call),
            };
            files.push(locked(&self.store).add(file));
        }
        Made {
            call,
            files,
            shape,
            room,
            began_ms,
            users,
        }
    }

    fn sounds(&self, shape: Shape, seed: u64, id: &str, ending: Ending) -> Vec<Sound> {
        let mut dice = super::Dice::named(seed, "sound");
        let mut aac = |user: Option<usize>, index: Option<u32>| {
            let label = format!("{id} {user:?} {index:?}");
            Sound {
                audio: talks::aac(dice.roll(), 60 + dice.below(41), &label),
                segments: Vec::new(),
                user,
                index,
                ext: "aac",
            }
        };
        match shape {
            Shape::SinglesAndMix => {
                vec![aac(Some(0), None), aac(Some(1), None), aac(None, None)]
            }
            Shape::SinglesInBucket => vec![aac(Some(0), None), aac(Some(1), None)],
            Shape::Slices if ending != Ending::Archived => vec![aac(None, None)],
            Shape::Slices => vec![aac(None, Some(1)), aac(None, Some(2))],
            Shape::CallKit => vec![Sound {
                audio: talks::mp4(id),
                segments: Vec::new(),
                user: None,
                index: None,
                ext: "mp4",
            }],
            Shape::Legacy => vec![aac(Some(0), None)],
            Shape::PlaylistInMedia | Shape::PlaylistInBucket => {
                let playlist = talks::hls(2 + dice.below(4) as usize, "f0", id);
                vec![Sound {
                    audio: playlist.audio,
                    segments: playlist.segments,
                    user: None,
                    index: None,
                    ext: "m3u8",
                }]
            }
        }
    }

    /// document 647/111748: Base64 with `/` as `-` and `=` as `.`; numbers plainly.
    fn name(&self, room: &Room, user: Option<&str>, index: Option<u32>, ext: &str) -> String {
        let coded = |text: &str| STANDARD.encode(text).replace('/', "-").replace('=', ".");
        let room = match room {
            Room::Number(number) => number.to_string(),
            Room::Text(text) => coded(text),
        };
        let user = user.map_or_else(String::new, |user| {
            format!("_UserId_s_{}_UserId_e_main", coded(user))
        });
        let index = index.map_or_else(String::new, |n| format!("_{n}"));
        format!("{}_{room}{user}{index}.{ext}", self.app)
    }
}

/// A sound before it is a file.
struct Sound {
    audio: Audio,
    segments: Vec<(String, bytes::Bytes)>,
    /// Which of the two users; `None`: both, mixed.
    user: Option<usize>,
    index: Option<u32>,
    ext: &'static str,
}
