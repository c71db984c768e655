//! Alibaba Cloud voice with HTTP batch push and message queues, number protection, and the bucket behind their
//! addresses.
//!
//! Of VMS calls there is nothing to ask: what is not announced stays unknown, and a dead address cannot be renewed.
//! Addresses of protected calls are there for the asking, some twenty minutes after the call.

mod calls;
mod gate;
mod protection;
mod queue;
mod shelf;
mod wording;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};

use super::dice::Dice;
use super::house::{self, Call, House};
use super::ledger::LedgerLine;
use super::plan::{Ending, Mishap, Plan};
use super::vendor::{Manners, Simulated};
use super::wire::{Reply, Request};
use super::{Error, Profile, files, sign, text, voices};
use shelf::Shelf;

const BUCKET: &str = "callcenter-rec";
const OBJECTS: &str = "/Freeswitch_RU_";

/// Recordings of protected calls lie elsewhere.
const PROTECTED: &str = "/axb-record/";
const QUEUES: &str = "/queues/";

const RECORDING: &str = "VoiceRecordReport";
const CDR: &str = "VoiceReport";
const RTC_CDR: &str = "ArtcCdrReport";
const PROTECTED_CDR: &str = "SecretReport";
const PROTECTED_RECORDING: &str = "SecretRecording";
/// Types that have a queue of the vendor's.
const QUEUED: [&str; 5] = [RECORDING, CDR, RTC_CDR, PROTECTED_CDR, PROTECTED_RECORDING];

/// An address from `QueryRecordFileDownloadUrl` lives two hours, the vendor keeps the sound for 30 days.
const ASKED_LINK_LIVES_S: u64 = 2 * 3600;
const KEEPS_S: u64 = 30 * 24 * 3600;

/// `record_file` is "valid 7 days" (help/zh/vms/voicerecordreport-5).
const LINK_LIVES_S: u64 = 7 * 24 * 3600;
/// The address of a file that was lost at the vendor: short, so that nobody waits long for what never comes.
const LOST_LINK_LIVES_MS: i64 = 3000;

#[derive(Clone, Debug)]
pub(super) struct Aliyun {
    house: Arc<House>,
    access_key_id: String,
    access_key_secret: String,
    account_id: String,
    pool_key: String,
    shared: Arc<Shared>,
}

/// A temporary key for one queue; an empty name opens none.
#[derive(Clone, Debug)]
struct Token {
    key_id: String,
    secret: String,
    security: String,
    queue: String,
    until_ms: i64,
    withdrawn: bool,
}

/// What the vendor remembers between requests.
#[derive(Debug)]
struct Shared {
    seed: u64,
    counter: AtomicU64,
    tokens: Mutex<Vec<Token>>,
    nonces: Mutex<HashSet<String>>,
    shelves: Mutex<BTreeMap<String, Shelf>>,
    /// A message came into some queue.
    arrived: tokio::sync::Notify,
    /// How often who gives tokens is still too busy.
    busy: AtomicU64,
}

impl Shared {
    /// Chance of its own for everything that is made.
    fn next(&self, about: &str) -> Dice {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        Dice::named(self.seed.wrapping_add(n), about)
    }

    fn token_busy(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        let before = self
            .busy
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        before.is_ok()
    }
}

/// How this vendor fails, which differs with its products.
pub(super) fn manners(profile: Profile) -> Manners {
    let by_queue: &[Mishap] = match profile {
        Profile::Queue | Profile::Protection => Mishap::OF_QUEUES,
        _ => &[],
    };
    match profile {
        Profile::Protection => Manners {
            failures: &[Mishap::Unannounced],
            never: &[Mishap::NeverRecorded, Mishap::Gone],
            queue: by_queue,
            expired_is_lost: false,
        },
        _ => Manners {
            failures: &[Mishap::Unannounced, Mishap::Gone, Mishap::LinkExpired],
            never: &[Mishap::NeverRecorded],
            queue: by_queue,
            expired_is_lost: true,
        },
    }
}

impl Aliyun {
    pub fn new(house: Arc<House>) -> Self {
        let mut dice = Dice::named(house.seed, "aliyun account");
        Self {
            access_key_id: format!("LTAI{}", dice.token(16)),
            access_key_secret: dice.token(30),
            account_id: format!("1{}", dice.digits(15)),
            pool_key: format!("FC1000{}", dice.digits(10)),
            shared: Arc::new(Shared {
                seed: dice.roll(),
                counter: AtomicU64::new(0),
                tokens: Mutex::default(),
                nonces: Mutex::default(),
                shelves: Mutex::default(),
                arrived: tokio::sync::Notify::new(),
                busy: AtomicU64::new(0),
            }),
            house,
        }
    }

    fn is_protection(&self) -> bool {
        self.house.options.profile == Profile::Protection
    }

    /// Whether the console delivers a type by queue.
    fn is_queued(&self, message_type: &str) -> bool {
        match self.house.options.profile {
            Profile::Queue => message_type != CDR,
            Profile::Protection => message_type == PROTECTED_RECORDING,
            _ => false,
        }
    }

    fn queue_name(&self, message_type: &str) -> String {
        format!("Alicom-Queue-{}-{message_type}", self.account_id)
    }

    fn has_queue(&self, name: &str) -> bool {
        QUEUED
            .iter()
            .any(|message_type| self.queue_name(message_type) == name)
    }

    fn withdraw_tokens(&self, queue: &str) {
        for token in house::locked(&self.shared.tokens).iter_mut() {
            token.withdrawn |= token.queue == queue;
        }
    }

    pub fn config_block(&self) -> String {
        let house = &self.house;
        let types: &[&str] = if self.is_protection() {
            &[PROTECTED_CDR, PROTECTED_RECORDING]
        } else {
            &[RECORDING, CDR, RTC_CDR]
        };
        // Repeats come by the other door, so what is queued is taken by push too.
        let pushed: Vec<String> = types.iter().map(|name| format!("\"{name}\"")).collect();
        let queued: Vec<String> = types
            .iter()
            .filter(|name| self.is_queued(name))
            .map(|name| format!("{name} = \"{}\"", self.queue_name(name)))
            .collect();
        let waits = [60, 120, 300, 600].map(|s| format!("\"{}\"", text::span(house.paced(s))));
        let mut block = format!(
            "[sources.{source}]\n\
             kind = \"aliyun\"\n\
             display_name = \"Alibaba Cloud, simulated\"\n\
             hook_token = \"{hook_token}\"\n\
             push = [{pushed}]\n\
             time_zone = \"Asia/Shanghai\"\n\
             expect_within = \"{expect}\"\n\
             allow_hosts = [\"{at}\"]\n\
             allow_private_addresses = true\n\
             http_links = \"allow\"\n",
            source = house.options.source,
            hook_token = house.hook_token,
            pushed = pushed.join(", "),
            expect = text::span(house.paced(1800)),
            at = house.authority(),
        );
        if !queued.is_empty() {
            let scheme = if self.is_protection() {
                "hmac_sha1"
            } else {
                "acs3"
            };
            block += &format!(
                "access_key_id = \"{key}\"\n\
                 access_key_secret = \"{secret}\"\n\
                 signature = \"{scheme}\"\n\
                 requests_per_second = 200\n\
                 retry_plan = [{waits}]\n\
                 base_url.dybase = \"http://{at}\"\n\
                 base_url.dypls = \"http://{at}\"\n\
                 base_url.mns = \"http://{at}\"\n\
                 queues = {{ {queued} }}\n",
                key = self.access_key_id,
                secret = self.access_key_secret,
                waits = waits.join(", "),
                at = house.authority(),
                queued = queued.join(", "),
            );
        }
        block
    }

    pub async fn answer(&self, request: &Request) -> Reply {
        let object = request
            .path
            .strip_prefix(OBJECTS)
            .and_then(|rest| rest.strip_suffix("_record.wav"))
            .map(|name| name.replace('_', "^"));
        let protected = request
            .path
            .strip_prefix(PROTECTED)
            .and_then(|rest| rest.strip_suffix(".mp3"))
            .map(str::to_owned);
        let page = match request.path.as_str() {
            _ if object.is_some() => OBJECTS,
            _ if protected.is_some() => PROTECTED,
            "/" => "/",
            path if path.starts_with(QUEUES) => QUEUES,
            _ => "other",
        };
        self.house.count_request(page);
        if self.house.is_out() {
            return house::outage();
        }
        match (page, object.or(protected)) {
            ("/", _) => self.gateway(request),
            (QUEUES, _) => self.queue_request(request).await,
            (_, Some(id)) => self.object(&id, request),
            _ => fault(
                StatusCode::NOT_FOUND,
                "NoSuchKey",
                "The specified key does not exist.",
                "",
            ),
        }
    }

    /// The bucket: key, time and signature first, as OSS does, then whether the object is there.
    fn object(&self, id: &str, request: &Request) -> Reply {
        if request.field("OSSAccessKeyId").is_empty() || request.field("Signature").is_empty() {
            let why = "You have no right to access this object because of bucket acl.";
            return fault(StatusCode::FORBIDDEN, "AccessDenied", why, "");
        }
        if request.field("OSSAccessKeyId") != self.access_key_id {
            let why = "The OSS Access Key Id you provided does not exist in our records.";
            return fault(StatusCode::FORBIDDEN, "InvalidAccessKeyId", why, "");
        }
        let Ok(expires) = request.field("Expires").parse::<i64>() else {
            return fault(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "Invalid date (should be seconds since epoch)",
                "",
            );
        };
        let now = self.house.now_ms();
        if now >= expires.saturating_mul(1000) {
            let more = format!(
                "<Expires>{expires}</Expires><ServerTime>{}</ServerTime>",
                now / 1000
            );
            return fault(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "Request has expired.",
                &more,
            );
        }
        let path = request.path.trim_start_matches('/');
        let expected = sign::oss_v1(
            &self.access_key_secret,
            request.method.as_str(),
            expires,
            BUCKET,
            path,
        );
        if request.field("Signature") != expected {
            let why =
                "The request signature we calculated does not match the signature you provided.";
            return fault(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", why, "");
        }
        match self.house.call(id) {
            Some(call)
                if call.plan.ending == Ending::Archived
                    && self.house.now_ms() >= self.file_at_ms(&call)
                    && !call.strikes(Mishap::NotReady) =>
            {
                files::serve(&self.house, &call, request, true)
            }
            _ => fault(
                StatusCode::NOT_FOUND,
                "NoSuchKey",
                "The specified key does not exist.",
                "",
            ),
        }
    }

    /// A freshly signed address of a call's file; its whole seconds are rounded in the customer's favour.
    fn record_file(&self, call: &Call) -> String {
        let now = self.house.now_ms();
        let until_ms = match call.plan.ending {
            Ending::Lost if call.plan.has(Mishap::LinkExpired) => now - 1000,
            Ending::Lost => now + LOST_LINK_LIVES_MS,
            _ => now + self.house.paced_ms(LINK_LIVES_S),
        };
        let object = format!("{}{}_record.wav", &OBJECTS[1..], call.id.replace('^', "_"));
        self.signed(&object, until_ms)
    }

    fn signed(&self, object: &str, until_ms: i64) -> String {
        let expires = (until_ms + 999).div_euclid(1000);
        let get = Method::GET;
        let signature = sign::oss_v1(
            &self.access_key_secret,
            get.as_str(),
            expires,
            BUCKET,
            object,
        );
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("Expires", &expires.to_string())
            .append_pair("OSSAccessKeyId", &self.access_key_id)
            .append_pair("Signature", &signature)
            .finish();
        format!("http://{}/{object}?{query}", self.house.authority())
    }

    fn call_seed(&self, index: u64) -> u64 {
        Dice::named(self.house.seed.wrapping_add(index), "call").roll()
    }

    /// `digits^digits`, as the vendor writes it; hexadecimal for number protection.
    fn call_id(&self, seed: u64) -> String {
        let mut dice = Dice::named(seed, "ids");
        if self.is_protection() {
            return dice.hex(16).to_ascii_lowercase();
        }
        format!("1{}^1{}", dice.digits(11), dice.digits(11))
    }

    /// A call that ends now.
    fn make(&self, plan: Plan, ended_ms: i64) -> Arc<Call> {
        let seed = self.call_seed(plan.index);
        let id = self.call_id(seed);
        let mut dice = Dice::named(seed, "sound");
        let audio = if self.is_protection() {
            voices::mp3(dice.roll(), 70 + dice.below(31), &id)
        } else {
            voices::wav(dice.roll(), 700 + dice.below(301), &id)
        };
        let call = Arc::new(Call::new(id, plan, audio, ended_ms, seed));
        self.house.remember(&[&call.id], &call);
        if let Some(ring) = self.ring(&call) {
            self.house.remember(&[&ring.id], &ring);
        }
        call
    }

    pub fn call_id_of(&self, index: u64) -> String {
        self.call_id(self.call_seed(index))
    }

    /// Takes back a call of an earlier run; its addresses stay valid as long as they say.
    pub fn recall(&self, index: u64, line: &LedgerLine) {
        let ending = Ending::named(&line.expect).unwrap_or(Ending::Archived);
        let plan = Plan {
            index,
            mishaps: Vec::new(),
            ending,
        };
        self.make(plan, self.house.now_ms());
    }
}

/// An error of OSS, in its XML.
fn fault(status: StatusCode, code: &str, message: &str, more: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <RequestId>5FD8A1B2C3D4E5F601234567</RequestId><HostId>{BUCKET}.oss-cn-hangzhou.aliyuncs.com</HostId>{more}\
         </Error>\n"
    );
    Reply::new(status, "application/xml", body)
}

#[async_trait::async_trait]
impl Simulated for Aliyun {
    fn config_block(&self) -> String {
        Aliyun::config_block(self)
    }

    async fn answer(&self, request: &Request) -> Reply {
        Aliyun::answer(self, request).await
    }

    async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        Aliyun::make_calls(self, plans).await
    }

    fn call_id_of(&self, index: u64) -> String {
        Aliyun::call_id_of(self, index)
    }

    fn recall(&self, index: u64, line: &LedgerLine) {
        Aliyun::recall(self, index, line);
    }
}
