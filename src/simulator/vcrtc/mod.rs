//! Zijing Cloud's meeting platform: rooms whose recordings are asked for by id, and the object store behind the
//! addresses.
//!
//! The vendor pushes nothing. The customer's own application, played here too, posts the id of what it started;
//! everything else is seen by asking. A recording's life: on, off, an entry that is not complete, a size that
//! grows, a file.

mod film;
mod meetings;
mod questions;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};

use super::dice::Dice;
use super::house::{self, Call, House, locked};
use super::ledger::LedgerLine;
use super::plan::{Ending, Mishap, Plan};
use super::vendor::Simulated;
use super::wire::{Reply, Request};
use super::{Error, Profile, files, sign, text};

const FILES: &str = "/rec/";
/// Watched rooms; meetings that nobody hears of take place in another one.
const ROOMS: [&str; 4] = ["1866", "1867", "8000000", "8000001"];
const HIDDEN_ROOM: &str = "9000";
const TENANT: u64 = 52;

/// How long a recording is on, until its entry appears, until it stops to be incomplete, and how long its size
/// grows then.
const ON_S: u64 = 600;
const ENTRY_AFTER_S: u64 = 20;
const COMPLETE_AFTER_S: u64 = 60;
const GROWS_S: u64 = 60;
/// Between two meetings in a room; the time between two recordings of one meeting is shorter.
const BETWEEN_MEETINGS_S: u64 = 900;
const BETWEEN_PIECES_S: u64 = 120;
/// "604 800 s": the life of an address (from the two times in the sample's signature).
const LINK_LIVES_S: u64 = 7 * 24 * 3600;
/// "valid for 3 minutes".
const SESSION_LIVES_S: u64 = 180;

/// One recording of a meeting.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    call: Arc<Call>,
    room: String,
    on_ms: i64,
    /// None while it is on.
    off_ms: Option<i64>,
    deleted: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    on: Option<String>,
    failed: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    pieces: HashMap<String, Piece>,
    rooms: HashMap<String, Room>,
    /// Session and its end.
    sessions: HashMap<String, i64>,
}

#[derive(Debug)]
struct Inner {
    house: Arc<House>,
    auth: String,
    password: String,
    link_secret: String,
    state: Mutex<State>,
    /// One meeting at a time in each room.
    doors: HashMap<&'static str, tokio::sync::Mutex<()>>,
}

#[derive(Clone, Debug)]
pub(super) struct Vcrtc(Arc<Inner>);

impl Vcrtc {
    pub fn new(house: Arc<House>) -> Self {
        let mut dice = Dice::named(house.seed, "vcrtc account");
        let doors = ROOMS.iter().chain([&HIDDEN_ROOM]);
        Self(Arc::new(Inner {
            auth: dice.token(24),
            password: dice.token(12),
            link_secret: dice.token(24),
            state: Mutex::default(),
            doors: doors.map(|room| (*room, Default::default())).collect(),
            house,
        }))
    }

    fn house(&self) -> &House {
        &self.0.house
    }

    /// The dedicated cloud wants a session with every question.
    fn is_dedicated(&self) -> bool {
        self.house().options.profile == Profile::V3
    }

    fn block(&self) -> String {
        let house = self.house();
        let span = |seconds| text::span(house.paced(seconds));
        let plan: Vec<_> = [10, 30, 60, 120, 300, 600, 1800, 3600]
            .iter()
            .map(|seconds| format!("\"{}\"", span(*seconds)))
            .collect();
        let rooms: Vec<_> = ROOMS.iter().map(|room| format!("\"{room}\"")).collect();
        let mode = if house.options.announce {
            "\"told\", \"watch\""
        } else {
            "\"watch\""
        };
        let login = if self.is_dedicated() {
            format!(
                "deployment = \"dedicated\"\n\
                 login.enabled = true\n\
                 login.account = \"{}\"\n\
                 login.password = \"{}\"\n\
                 login.session_ttl = \"{}\"\n",
                questions::ACCOUNT,
                self.0.password,
                span(SESSION_LIVES_S)
            )
        } else {
            String::new()
        };
        format!(
            "[sources.{source}]\n\
             kind = \"vcrtc\"\n\
             display_name = \"Zijing Cloud, simulated\"\n\
             api_server = \"http://{at}\"\n\
             auth_value = \"{auth}\"\n\
             hook_token = \"{hook_token}\"\n\
             ent_id = \"{TENANT}\"\n\
             rooms = [{rooms}]\n\
             mode = [{mode}]\n\
             watch_interval = \"{watch}\"\n\
             meeting_gap = \"{gap}\"\n\
             settle_time = \"{settle}\"\n\
             retry_plan = [{plan}]\n\
             ready_deadline = \"{deadline}\"\n\
             url_ttl = \"{url_ttl}\"\n\
             codes.no_such_record = [\"{no_such}\"]\n\
             requests_per_second = 200\n\
             allow_hosts = [\"{at}\"]\n\
             allow_private_addresses = true\n\
             http_links = \"allow\"\n\
             {login}",
            source = house.options.source,
            at = house.authority(),
            auth = self.0.auth,
            hook_token = house.hook_token,
            rooms = rooms.join(", "),
            watch = span(60),
            gap = span(300),
            settle = span(10),
            plan = plan.join(", "),
            // Long enough for a stop of minutes even when everything else is hurried.
            deadline = text::span(
                house
                    .paced(48 * 3600)
                    .max(std::time::Duration::from_secs(60))
            ),
            url_ttl = span(6 * 24 * 3600),
            no_such = questions::NO_SUCH_RECORD,
        )
    }

    fn respond(&self, request: &Request) -> Reply {
        let is_file = request.path.starts_with(FILES);
        let page = if is_file {
            FILES
        } else {
            request.path.as_str()
        };
        let known = is_file || questions::PAGES.contains(&page);
        self.house()
            .count_request(if known { page } else { "other" });
        if self.house().is_out() {
            return house::outage();
        }
        if is_file {
            return self.file(request);
        }
        self.question(request)
    }

    /// The object store: the signature covers the very bytes of the query.
    fn file(&self, request: &Request) -> Reply {
        let name = request.path.trim_start_matches(FILES);
        let name = name.trim_end_matches(".mp4");
        let until: i64 = request.field("t").parse().unwrap_or(0);
        let raw = request.target.split_once('?').map_or("", |(_, raw)| raw);
        if raw != self.signed(name, until) {
            let why = "The Signature you specified is invalid.";
            return fault(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", why);
        }
        let piece = locked(&self.0.state).pieces.get(name).cloned();
        let piece = piece.filter(|piece| !piece.deleted);
        let dies_early = piece
            .as_ref()
            .is_some_and(|piece| piece.call.strikes(Mishap::LinkExpired));
        if dies_early || self.house().now_ms() > until {
            return fault(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired");
        }
        match piece {
            Some(piece) => files::serve(self.house(), &piece.call, request, true),
            None => fault(
                StatusCode::NOT_FOUND,
                "NoSuchKey",
                "The specified key does not exist.",
            ),
        }
    }

    /// The query of an address: escaped and unescaped signs side by side, as in the manual's sample.
    fn signed(&self, name: &str, until: i64) -> String {
        let key = sign::link_key(&self.0.link_secret, &format!("{name}|{until}"));
        let (one, two) = key.split_at(20);
        format!("sign={one}%2B{two}/x=&t={until}")
    }

    fn address(&self, name: &str, until: i64) -> String {
        format!(
            "http://{}{FILES}{name}.mp4?{}",
            self.house().authority(),
            self.signed(name, until)
        )
    }

    fn call_seed(&self, index: u64) -> u64 {
        Dice::named(self.house().seed.wrapping_add(index), "call").roll()
    }

    /// The id of piece number `piece` of a meeting: a UUID or 32 digits, both are in the manual.
    fn record_id(&self, index: u64, piece: u64) -> String {
        let mut dice = Dice::named(self.call_seed(index).wrapping_add(piece), "record id");
        let digits = dice.hex(32).to_lowercase();
        if dice.happens(1, 3) {
            return digits;
        }
        let cuts = [0, 8, 12, 16, 20, 32];
        let parts: Vec<_> = cuts.windows(2).map(|cut| &digits[cut[0]..cut[1]]).collect();
        parts.join("-")
    }
}

/// An error of the object store: XML, whatever was asked for.
fn fault(status: StatusCode, code: &str, message: &str) -> Reply {
    Reply::new(
        status,
        "application/xml",
        format!(
            "<?xml version='1.0' encoding='utf-8' ?>\n<Error>\n\t<Code>{code}</Code>\n\t<Message>{message}</Message>\n\
             </Error>\n"
        ),
    )
}

#[async_trait::async_trait]
impl Simulated for Vcrtc {
    fn config_block(&self) -> String {
        self.block()
    }

    async fn answer(&self, request: &Request) -> Reply {
        self.respond(request)
    }

    async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        Vcrtc::make_calls(self, plans).await
    }

    fn call_id_of(&self, index: u64) -> String {
        self.record_id(index, 0)
    }

    fn recall(&self, index: u64, line: &LedgerLine) {
        Vcrtc::recall(self, index, line);
    }
}
