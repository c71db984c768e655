//! NetEase Yunxin: signed message copies of two generations and of the room product, the video store behind
//! them, and the questions that the vendor answers.
//!
//! A copy that was not taken is never sent again; a file whose address died has another one to be asked for.

mod api;
mod calls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http::StatusCode;
use md5::{Digest, Md5};

use super::dice::Dice;
use super::house::{self, Call, House, locked};
use super::ledger::LedgerLine;
use super::plan::{Ending, Mishap, Plan};
use super::vendor::Simulated;
use super::voices::{self, Audio};
use super::wire::{Reply, Request};
use super::{Error, files, sign, text};

const BUCKET: &str = "/jdvsim/";
/// Of a signed address; unsigned ones live on.
const LINK_LIVES_S: u64 = 2 * 3600;

/// Which product a call was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    /// "Audio and video 1.0": flat bodies, text everywhere.
    One,
    /// RTC 2.0: `{"eventType":3,"data":{…}}`.
    Two,
}

/// One stored file.
#[derive(Debug)]
struct Stored {
    call: Arc<Call>,
    /// As the events name it.
    name: String,
    /// As the store names it: the last part of its address.
    object: String,
    vid: u64,
    /// Account id; none for a mix.
    user: Option<String>,
    uid: u64,
    is_caller: bool,
    piece: u64,
    /// When its sound began; a day of its own in the past, the same whenever the call is made again.
    began_ms: i64,
    ext: &'static str,
    audio: Audio,
    md5: String,
    /// Its address needs no signature.
    is_open: bool,
}

#[derive(Debug, Default)]
struct Store {
    by_object: HashMap<String, Arc<Stored>>,
    by_vid: HashMap<u64, Arc<Stored>>,
    /// In the order of making.
    vids: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct Yunxin {
    house: Arc<House>,
    app_key: String,
    app_secret: String,
    store: Arc<Mutex<Store>>,
}

impl Yunxin {
    pub fn new(house: Arc<House>) -> Self {
        let mut dice = Dice::named(house.seed, "yunxin application");
        Self {
            app_key: dice.hex(32).to_ascii_lowercase(),
            app_secret: dice.hex(12).to_ascii_lowercase(),
            store: Arc::default(),
            house,
        }
    }

    fn call_seed(&self, index: u64) -> u64 {
        Dice::named(self.house.seed.wrapping_add(index), "call").roll()
    }

    fn generation(seed: u64) -> Generation {
        if Dice::named(seed, "generation").happens(1, 2) {
            Generation::One
        } else {
            Generation::Two
        }
    }

    /// Nineteen digits or fifteen, never beginning with 0.
    fn channel(seed: u64) -> String {
        let mut dice = Dice::named(seed, "ids");
        match Self::generation(seed) {
            Generation::One => format!("62{}", dice.digits(17)),
            Generation::Two => format!("600{}", dice.digits(12)),
        }
    }

    /// A call that ends now, and its files.
    fn make(&self, plan: Plan, ended_ms: i64) -> (Arc<Call>, Vec<Arc<Stored>>) {
        let seed = self.call_seed(plan.index);
        let id = Self::channel(seed);
        let mix = voices::mp4(true, &format!("{id} mix"));
        let call = Arc::new(Call::new(id, plan, mix, ended_ms, seed));
        let files = self.files_of(&call);
        self.house.remember(&[&call.id], &call);
        let mut store = locked(&self.store);
        for file in &files {
            store
                .by_object
                .insert(file.object.clone(), Arc::clone(file));
            if store.by_vid.insert(file.vid, Arc::clone(file)).is_none() {
                store.vids.push(file.vid);
            }
        }
        drop(store);
        (call, files)
    }

    /// Each party's `.aac`, sometimes in two pieces or with an `.mp4` beside it, and the mix.
    fn files_of(&self, call: &Arc<Call>) -> Vec<Arc<Stored>> {
        let generation = Self::generation(call.seed);
        let mut dice = call.dice("files");
        // The same whenever the call is made again: it stands in the names.
        let made_ms = 1_700_000_000_000 + (call.seed % 1_000_000_000) as i64;
        let mut files = Vec::new();
        let mut add = |user: Option<&str>,
                       uid: u64,
                       piece: u64,
                       after_ms: u64,
                       ext: &'static str,
                       audio: Audio| {
            let began_ms = made_ms + after_ms as i64;
            let id = &call.id;
            let mix = if user.is_none() { "-mix" } else { "" };
            let (name, object) = match generation {
                // The first generation leaves the piece out of a mix's name, and only there.
                Generation::One if user.is_none() => (
                    format!("0-{id}-mix.{ext}"),
                    format!("0-{id}-{piece}-mix.{ext}"),
                ),
                Generation::One => {
                    let name = format!("{}-{id}-{piece}.{ext}", user.unwrap_or("0"));
                    (name.clone(), name)
                }
                Generation::Two => {
                    let name = format!("{uid}-{id}-{began_ms}-{piece}{mix}.{ext}");
                    (name.clone(), name)
                }
            };
            files.push(Arc::new(Stored {
                call: Arc::clone(call),
                name,
                object,
                vid: 3_000_000_000_000 + dice.below(900_000_000_000),
                user: user.map(str::to_owned),
                uid,
                is_caller: uid == 70_001,
                piece,
                began_ms,
                ext,
                md5: hex::encode(Md5::digest(&audio.bytes)),
                audio,
                is_open: dice.happens(1, 2),
            }));
        };
        if call.plan.ending != Ending::Archived {
            add(None, 0, 0, 0, "mp4", call.audio.clone());
            return files;
        }
        let mut chance = call.dice("parties");
        let (agent, customer) = Self::accounts(call);
        for (party, (account, uid)) in [(&agent, 70_001), (&customer, 70_002)]
            .into_iter()
            .enumerate()
        {
            let pieces = if party == 0 && chance.happens(1, 4) {
                2
            } else {
                1
            };
            // Whoever is called comes in later; a new slice begins where the one before was cut.
            let mut after_ms = party as u64 * (700 + call.seed % 1800);
            let joined_ms = after_ms;
            for piece in 0..pieces {
                let audio = voices::aac(party, 60 + chance.below(41), chance.roll());
                let length_ms = audio.duration_ms;
                add(Some(account), uid, piece, after_ms, "aac", audio);
                after_ms += length_ms;
            }
            if party == 0 && chance.happens(1, 4) {
                let audio = voices::mp4(false, &format!("{} {account}", call.id));
                add(Some(account), uid, 0, joined_ms, "mp4", audio);
            }
        }
        add(None, 0, 0, 0, "mp4", call.audio.clone());
        files
    }

    /// Caller and called one.
    fn accounts(call: &Call) -> (String, String) {
        let mut dice = call.dice("accounts");
        (
            format!("agent_{}", dice.digits(2)),
            format!("cust_{}", dice.digits(4)),
        )
    }

    /// An address that works now.
    fn fresh_url(&self, file: &Stored) -> String {
        let lives = self.house.paced_ms(LINK_LIVES_S);
        self.signed_url(&file.object, self.house.now_ms() + lives)
    }

    /// The address that an event carries.
    fn told_url(&self, file: &Stored) -> String {
        if file.call.plan.has(Mishap::LinkExpired) {
            return self.signed_url(&file.object, self.house.now_ms() - 2000);
        }
        if file.is_open {
            return format!("http://{}{BUCKET}{}", self.house.authority(), file.object);
        }
        self.fresh_url(file)
    }

    fn signed_url(&self, object: &str, until_ms: i64) -> String {
        let expires = (until_ms + 999).div_euclid(1000);
        let signature = sign::link_key(&self.app_secret, &format!("{object} {expires}"));
        format!(
            "http://{}{BUCKET}{object}?download=1&NOSAccessKeyId={}&Expires={expires}&Signature={signature}",
            self.house.authority(),
            self.app_key
        )
    }

    /// The object store behind the addresses.
    fn object(&self, object: &str, request: &Request) -> Reply {
        let refused = |code: &str| {
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code></Error>\n"
            );
            Reply::new(StatusCode::FORBIDDEN, "application/xml", body)
        };
        let stored = locked(&self.store).by_object.get(object).cloned();
        let Some(file) = stored.filter(|file| file.call.plan.ending == Ending::Archived) else {
            return Reply::text(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        let is_signed = !request.field("Signature").is_empty();
        if !is_signed && (!file.is_open || file.call.plan.has(Mishap::LinkExpired)) {
            return refused("AccessDenied");
        }
        if is_signed {
            let expires = request.field("Expires");
            let expected = sign::link_key(&self.app_secret, &format!("{object} {expires}"));
            if request.field("Signature") != expected {
                return refused("SignatureDoesNotMatch");
            }
            let until_ms = expires.parse::<i64>().unwrap_or(0).saturating_mul(1000);
            if self.house.now_ms() >= until_ms {
                return refused("ExpiredToken");
            }
        }
        files::serve_file(&self.house, &file.call, &file.audio, request, true)
    }
}

#[async_trait::async_trait]
impl Simulated for Yunxin {
    fn config_block(&self) -> String {
        let house = &self.house;
        let at = house.authority();
        format!(
            "[sources.{source}]\n\
             kind = \"yunxin\"\n\
             display_name = \"NetEase Yunxin, simulated\"\n\
             app_key = \"{app_key}\"\n\
             app_secret = \"{app_secret}\"\n\
             hook_token = \"{hook_token}\"\n\
             base_url.im = \"http://{at}\"\n\
             base_url.vod = \"http://{at}\"\n\
             expect_within = \"{expect}\"\n\
             retry_plan = [\"{wait}\"]\n\
             list_vod = true\n\
             requests_per_second = 1000\n\
             allow_hosts = [\"{at}\"]\n\
             allow_private_addresses = true\n\
             http_links = \"allow\"\n",
            source = house.options.source,
            app_key = self.app_key,
            app_secret = self.app_secret,
            hook_token = house.hook_token,
            expect = text::span(house.paced(1800)),
            wait = text::span(house.paced(300)),
        )
    }

    async fn answer(&self, request: &Request) -> Reply {
        let object = request.path.strip_prefix(BUCKET);
        let page = match object {
            Some(_) => BUCKET,
            None => api::page(&request.path),
        };
        self.house.count_request(page);
        if self.house.is_out() {
            return house::outage();
        }
        match object {
            Some(object) => self.object(object, request),
            None => self.api(request),
        }
    }

    async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        self.play_all(plans).await
    }

    fn call_id_of(&self, index: u64) -> String {
        Self::channel(self.call_seed(index))
    }

    fn recall(&self, index: u64, line: &LedgerLine) {
        let ending = Ending::named(&line.expect).unwrap_or(Ending::Archived);
        let plan = Plan {
            index,
            mishaps: Vec::new(),
            ending,
        };
        self.make(plan, self.house.now_ms());
    }
}
