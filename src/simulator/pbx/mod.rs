//! Telephone systems that post their call records: FreeSWITCH, Asterisk, and whoever speaks `cdr/1`. The sound lies in a
//! folder that both sides see, or on the system's own web server.
//!
//! They cannot be asked for anything: what they told, and when, is all there is.

mod asterisk;
mod cdr;
mod freeswitch;
mod post;
mod shelf;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use tokio::task::JoinSet;

use super::dice::Dice;
use super::house::{self, Call, House, locked};
use super::ledger::LedgerLine;
use super::plan::{Ending, Mishap, Plan};
use super::vendor::{Manners, Simulated};
use super::voices::{self, Audio};
use super::wire::{Reply, Request};
use super::{Error, Profile, Way, all_done, files, text};
use post::Post;

/// The systems; each speaks in its own file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Freeswitch,
    Asterisk,
    Cdr,
}

/// Files stay so long.
const KEEPS_S: u64 = 30 * 24 * 3600;
/// Where a test demands files that never come: it waits for the end of their time, and all others must be fetched within it.
const KEEPS_IN_TESTS: Duration = Duration::from_secs(60);
/// A file that changed within this time is still being written; our writers pause for less.
const SETTLES: Duration = Duration::from_secs(1);
const SOUNDS: &str = "/sounds/";
const STORE: &str = "/store/";

/// Where a recording is said to lie.
#[derive(Clone, Debug)]
enum Place {
    /// Said, and where it is in truth: a converter may have changed the ending.
    File {
        said: String,
        path: PathBuf,
    },
    Url(String),
    Object {
        bucket: String,
        key: String,
    },
}

#[derive(Clone, Debug)]
struct Sound {
    id: String,
    audio: Audio,
    place: Place,
}

/// A call and its recordings, in order.
#[derive(Clone, Debug)]
struct Made {
    call: Arc<Call>,
    sounds: Vec<Sound>,
}

/// One message.
#[derive(Clone, Debug)]
struct Letter {
    after_s: u64,
    mime: &'static str,
    body: Bytes,
    /// Of an HTTP address.
    query: Option<String>,
    /// Routing key or subject, and the beginning of a file's name.
    key: String,
    id: Option<String>,
    packed: bool,
    /// It names the recording; without it nobody would know.
    carries: bool,
    /// A file beside which it lies (folders).
    beside: Option<PathBuf>,
}

#[derive(Debug)]
struct Inner {
    house: Arc<House>,
    system: System,
    post: Post,
    root: PathBuf,
    /// What the web server has, by the last part of its address.
    served: Mutex<HashMap<String, (Arc<Call>, Audio)>>,
}

#[derive(Clone, Debug)]
pub(super) struct Pbx(Arc<Inner>);

/// What each way and interface can go wrong in.
pub(super) fn manners(system: System, profile: Profile, way: Way) -> Manners {
    let queue: &[Mishap] = match way {
        Way::Http => &[],
        Way::Amqp | Way::Nats | Way::Folder => &[Mishap::Poison],
    };
    let (failures, never): (&[Mishap], &[Mishap]) = match (system, way, profile) {
        // Files without a word about them: what is not there is not known.
        (System::Cdr, Way::Folder, Profile::V3) => (
            &[Mishap::Unannounced],
            &[
                Mishap::LinkExpired,
                Mishap::Never,
                Mishap::OutOfOrder,
                Mishap::Gone,
                Mishap::NeverRecorded,
                Mishap::TooMany,
                Mishap::Failing,
                Mishap::Reset,
                Mishap::Html,
                Mishap::WrongLength,
            ],
        ),
        (System::Cdr, ..) => (
            &[Mishap::Gone, Mishap::NeverRecorded, Mishap::Unannounced],
            &[Mishap::LinkExpired],
        ),
        // Nobody says that a file is gone: that takes the whole time for which files stay, so it is not planned.
        (System::Freeswitch, Way::Http, _) => (
            &[Mishap::NeverRecorded, Mishap::Unannounced],
            &[Mishap::LinkExpired],
        ),
        // An event and a CDR of Asterisk's say nothing of a recording that was thrown away.
        _ => (
            &[Mishap::Unannounced],
            &[Mishap::LinkExpired, Mishap::NeverRecorded],
        ),
    };
    Manners {
        failures,
        never,
        queue,
        expired_is_lost: false,
    }
}

impl Pbx {
    pub fn new(house: Arc<House>, system: System) -> Self {
        let root = shelf::root(&house);
        Self(Arc::new(Inner {
            post: Post::new(&house, system, &root),
            system,
            root,
            served: Mutex::default(),
            house,
        }))
    }

    fn house(&self) -> &House {
        &self.0.house
    }

    /// Only files, and nobody who tells of them.
    fn is_silent_folder(&self) -> bool {
        let options = &self.house().options;
        options.way == Way::Folder && options.profile == Profile::V3
    }

    /// Files that never come are lost when their time is over, and somebody wants to see that.
    fn waits_for_the_end(&self) -> bool {
        let gone = |text: &String| text.split('+').any(|name| name == Mishap::Gone.name());
        self.house().options.only.iter().any(gone)
    }

    fn block(&self) -> String {
        let house = self.house();
        let short = |seconds| text::span(house.paced(seconds).max(Duration::from_millis(200)));
        let waits: Vec<_> = [5, 15, 60, 300, 600]
            .iter()
            .map(|seconds| format!("\"{}\"", short(*seconds)))
            .collect();
        let keeps = text::span(match self.waits_for_the_end() {
            true => KEEPS_IN_TESTS,
            false => house.paced(KEEPS_S).max(KEEPS_IN_TESTS),
        });
        let own = match self.0.system {
            System::Freeswitch => "recording_variables = [\"recording_url\"]\n",
            System::Asterisk => "time_zone = \"Asia/Shanghai\"\n",
            System::Cdr => "account = \"acme\"\n",
        };
        format!(
            "[sources.{source}]\n\
             kind = \"{kind}\"\n\
             display_name = \"{name}, simulated\"\n\
             {way}{own}\
             file_roots = [\"{root}\"]\n\
             settle_time = \"{settles}\"\n\
             retry_plan = [{waits}]\n\
             ready_deadline = \"{keeps}\"\n\
             provider_keeps = \"{keeps}\"\n\
             requests_per_second = 100\n\
             object_url = \"http://{at}{STORE}{{bucket}}/{{key}}\"\n\
             allow_hosts = [\"{at}\"]\n\
             allow_private_addresses = true\n\
             http_links = \"allow\"\n",
            source = house.options.source,
            kind = match self.0.system {
                System::Freeswitch => "freeswitch",
                System::Asterisk => "asterisk",
                System::Cdr => "cdr",
            },
            name = match (self.0.system, house.options.profile) {
                (System::Freeswitch, Profile::V3) => "FreeSWITCH (xml_cdr)",
                (System::Freeswitch, _) => "FreeSWITCH",
                (System::Asterisk, _) => "Asterisk",
                (System::Cdr, _) => "Call records (cdr/1)",
            },
            way = self.0.post.settings(house),
            root = self.0.root.display(),
            settles = text::span(SETTLES),
            waits = waits.join(", "),
            at = house.authority(),
        )
    }

    fn respond(&self, request: &Request) -> Reply {
        let name = [SOUNDS, STORE]
            .iter()
            .find_map(|folder| request.path.strip_prefix(folder));
        self.house().count_request(match name {
            Some(_) => SOUNDS,
            None => "other",
        });
        if self.house().is_out() {
            return house::outage();
        }
        let name = name.and_then(|name| name.rsplit('/').next());
        let found = name.and_then(|name| locked(&self.0.served).get(name).cloned());
        let Some((call, audio)) = found else {
            return Reply::text(StatusCode::NOT_FOUND, "no such file");
        };
        if call.plan.ending == Ending::Lost {
            let status = call
                .dice("gone")
                .pick(&[StatusCode::NOT_FOUND, StatusCode::GONE]);
            return Reply::text(status, "no such file").with(header::CACHE_CONTROL, "no-store");
        }
        if call.strikes(Mishap::NotReady) {
            return Reply::text(StatusCode::NOT_FOUND, "no such file");
        }
        let ranges = call.dice("ranges").happens(1, 2);
        files::serve_file(self.house(), &call, &audio, request, ranges)
    }

    fn call_seed(&self, index: u64) -> u64 {
        Dice::named(self.house().seed.wrapping_add(index), "call").roll()
    }

    fn id_of(&self, index: u64) -> String {
        let mut dice = Dice::named(self.call_seed(index), "ids");
        match self.0.system {
            System::Asterisk => asterisk::unique_id(self.house().seed, index),
            System::Cdr if self.is_silent_folder() => {
                format!("desk-{}/{}.wav", dice.below(5), uuid(&mut dice))
            }
            System::Cdr | System::Freeswitch => uuid(&mut dice),
        }
    }

    /// A call that ends now, with its recordings; nothing of it is told or put anywhere yet.
    fn make(&self, plan: Plan, ended_ms: i64) -> Made {
        let (id, seed) = (self.id_of(plan.index), self.call_seed(plan.index));
        let mut dice = Dice::named(seed, "sound");
        let stereo = dice.happens(1, 2);
        let converted = self.0.system == System::Asterisk && dice.happens(1, 4);
        let sound = |label: &str, dice: &mut Dice| match converted {
            true => voices::mp3(0, 70 + dice.below(31), label),
            false => voices::wav(2 + u64::from(stereo), 700 + dice.below(301), label),
        };
        let first = sound(&id, &mut dice);
        let several = self.0.system != System::Asterisk
            && !self.is_silent_folder()
            && self.house().options.way != Way::Amqp
            && plan.mishaps.is_empty()
            && dice.happens(1, 4);
        let call = Arc::new(Call::new(id.clone(), plan, first.clone(), ended_ms, seed));
        let mut audios = vec![(id.clone(), first)];
        if several {
            let second = format!("{id}#2");
            audios.push((second.clone(), sound(&second, &mut dice)));
        }
        let sounds = audios.into_iter().enumerate().map(|(n, (id, audio))| {
            let place = self.place(&call, n, converted);
            let address = match &place {
                Place::Url(url) => Some(url.clone()),
                Place::Object { key, .. } => Some(key.clone()),
                Place::File { .. } => None,
            };
            if let Some(name) = address.as_deref().and_then(|a| a.rsplit('/').next()) {
                locked(&self.0.served).insert(name.to_owned(), (call.clone(), audio.clone()));
            }
            Sound { id, audio, place }
        });
        Made {
            sounds: sounds.collect(),
            call,
        }
    }

    /// What can only go wrong on the wire makes it an address, the others draw.
    fn place(&self, call: &Call, n: usize, converted: bool) -> Place {
        const OF_WIRES: [Mishap; 5] = [
            Mishap::TooMany,
            Mishap::Failing,
            Mishap::Reset,
            Mishap::Html,
            Mishap::WrongLength,
        ];
        let mut dice = call.dice("place");
        let on_the_wire = OF_WIRES.iter().any(|mishap| call.plan.has(*mishap));
        let stem = match n {
            0 => call.id.clone(),
            n => format!("{}-{}", call.id, n + 1),
        };
        let ext = if converted { "mp3" } else { "wav" };
        if self.is_silent_folder() {
            let path = self.0.root.join(&call.id);
            return Place::File {
                said: path.display().to_string(),
                path,
            };
        }
        if on_the_wire || dice.happens(1, 3) {
            if self.0.system == System::Cdr && dice.happens(1, 3) {
                return Place::Object {
                    bucket: "calls".to_owned(),
                    key: format!("2024/{stem}.{ext}"),
                };
            }
            let at = self.house().authority();
            return Place::Url(format!("http://{at}{SOUNDS}{stem}.{ext}"));
        }
        let below = shelf::below(self.0.system, call, &stem);
        let path = self.0.root.join(&below);
        // FreePBX and its like write a name, and file by date.
        let said = match self.0.system {
            System::Asterisk if dice.happens(1, 2) => format!("{stem}.wav"),
            _ => path.with_extension("wav").display().to_string(),
        };
        Place::File {
            said,
            path: path.with_extension(ext),
        }
    }

    async fn play(&self, plan: Plan) -> Result<(), Error> {
        let house = self.house();
        let made = self.make(plan, house.now_ms());
        let entries: Vec<_> = made
            .sounds
            .iter()
            .map(|sound| (Some(sound.id.as_str()), &sound.audio))
            .collect();
        house.enter_files(&made.call, &entries)?;
        if !house.options.announce {
            return Ok(());
        }
        // Before anything is told, but for what is late or never comes.
        let putting = shelf::put(&self.0, &made).await?;
        let letters = self.letters(&made);
        let sent = letters.iter().map(|letter| async {
            tokio::time::sleep(house.paced(letter.after_s)).await;
            self.0.post.send(house, letter).await
        });
        futures::future::try_join_all(sent).await?;
        // A panic there is one here; what it could not write was told.
        putting.await.map_err(|error| Error::Ledger(error.into()))?
    }

    /// What is told of a call, and when.
    fn letters(&self, made: &Made) -> Vec<Letter> {
        let plan = &made.call.plan;
        if plan.ending == Ending::None || self.is_silent_folder() {
            return Vec::new();
        }
        let mut letters = match self.0.system {
            System::Freeswitch => freeswitch::letters(self, made),
            System::Asterisk => asterisk::letters(made),
            System::Cdr => cdr::letters(self, made),
        };
        let mut dice = made.call.dice("letters");
        if plan.has(Mishap::Late) {
            // From the folder of what could not be delivered, replayed by somebody later.
            let n = dice.below(letters.len() as u64) as usize;
            letters[n].after_s += 3600;
        }
        if plan.has(Mishap::OutOfOrder) {
            let last = letters.iter().map(|letter| letter.after_s).max();
            let others = letters.iter_mut().filter(|letter| !letter.carries);
            others.for_each(|letter| letter.after_s += last.unwrap_or(0) + 180);
        }
        if plan.has(Mishap::Never) {
            letters.retain(|letter| letter.carries);
        }
        if plan.has(Mishap::Twice) {
            let again: Vec<Letter> = letters
                .iter()
                .map(|letter| Letter {
                    after_s: letter.after_s + 60,
                    // After the time in which a server would know it again.
                    id: None,
                    key: format!("{}.copy", letter.key),
                    ..letter.clone()
                })
                .collect();
            letters.extend(again);
        }
        if plan.has(Mishap::Poison) {
            letters.insert(0, poison(&made.call));
        }
        letters
    }
}

fn poison(call: &Call) -> Letter {
    let bodies: [&[u8]; 4] = [
        b"event=1",
        b"{\"spec\":",
        b"\xff\xfe{}",
        b"{\"spec\":\"cdr/9\",\"event_id\":\"x\"}",
    ];
    Letter {
        after_s: 0,
        mime: "application/json",
        body: Bytes::from_static(call.dice("poison").pick(&bodies)),
        query: None,
        key: format!("{}.broken", call.id),
        id: None,
        packed: false,
        carries: true,
        beside: None,
    }
}

fn uuid(dice: &mut Dice) -> String {
    let hex = dice.hex(32).to_lowercase();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

#[async_trait::async_trait]
impl Simulated for Pbx {
    fn config_block(&self) -> String {
        self.block()
    }

    async fn answer(&self, request: &Request) -> Reply {
        self.respond(request)
    }

    async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        let mut playing = JoinSet::new();
        for plan in plans {
            if !playing.is_empty() {
                tokio::time::sleep(self.house().options.call_interval).await;
            }
            let system = self.clone();
            playing.spawn(async move { system.play(plan).await });
        }
        all_done(playing).await
    }

    fn call_id_of(&self, index: u64) -> String {
        self.id_of(index)
    }

    fn recall(&self, index: u64, line: &LedgerLine) {
        let ending = Ending::named(&line.expect).unwrap_or(Ending::Archived);
        let plan = Plan {
            index,
            mishaps: Vec::new(),
            ending,
        };
        // Files still lie where they lay; what the web server had is made again.
        let _ = self.make(plan, self.house().now_ms());
    }
}
