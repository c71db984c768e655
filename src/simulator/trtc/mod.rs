//! Tencent TRTC as its manual describes it: callbacks, the two APIs with their signatures, the media store and
//! the customer's bucket.
//!
//! Everything lives behind one address: `POST /` is the API (the action tells which), `/media/` the media
//! store's files, `/recordings/` the bucket's objects, `GET /` its list.

mod api;
mod bucket;
mod callbacks;
mod calls;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};

use super::dice::Dice;
use super::house::{self, House};
use super::ledger::LedgerLine;
use super::plan::{Ending, Mishap, Plan};
use super::vendor::Simulated;
use super::wire::{Reply, Request};
use super::{Error, text};
use store::Store;

const MEDIA: &str = "/media/";
/// The bucket's objects lie below this prefix, which the customer chose.
const BUCKET_PREFIX: &str = "recordings";

#[derive(Clone, Debug)]
pub(super) struct Trtc {
    house: Arc<House>,
    app: u64,
    sub_app: u64,
    callback_key: String,
    legacy_key: String,
    secret_id: String,
    secret_key: String,
    reader_id: String,
    reader_key: String,
    store: Arc<Mutex<Store>>,
    /// When each room was last in use: a room is used again, but never twice at once.
    rooms: Arc<Mutex<HashMap<String, i64>>>,
}

impl Trtc {
    pub fn new(house: Arc<House>) -> Self {
        let mut dice = Dice::named(house.seed, "trtc account");
        Self {
            app: 1_400_000_000 + dice.below(99_999_999),
            sub_app: 1_500_000_000 + dice.below(9_999_999),
            callback_key: dice.token(32),
            legacy_key: dice.token(16),
            secret_id: format!("AKID{}", dice.token(32)),
            secret_key: dice.token(32),
            reader_id: format!("AKID{}", dice.token(32)),
            reader_key: dice.token(32),
            store: Arc::default(),
            rooms: Arc::default(),
            house,
        }
    }

    fn block(&self) -> String {
        let house = &self.house;
        let span = |seconds| text::span(house.paced(seconds));
        let plan: Vec<_> = [30, 60, 60, 120, 300, 600]
            .iter()
            .map(|seconds| format!("\"{}\"", span(*seconds)))
            .collect();
        format!(
            "[sources.{source}]\n\
             kind = \"trtc\"\n\
             display_name = \"Tencent TRTC, simulated\"\n\
             hook_token = \"{hook_token}\"\n\
             sdk_app_id = {app}\n\
             callback_key = \"{key}\"\n\
             legacy_key = \"{legacy}\"\n\
             unsigned_wrapper = true\n\
             secret_id = \"{id}\"\n\
             secret_key = \"{secret}\"\n\
             sub_app_id = {sub_app}\n\
             base_url = {{ trtc = \"http://{at}\", vod = \"http://{at}\", cos = \"http://{at}\" }}\n\
             cos = {{ bucket = \"recordings-1250000000\", region = \"ap-guangzhou\", prefix = \"{BUCKET_PREFIX}\", secret_id = \"{reader_id}\", secret_key = \"{reader}\" }}\n\
             ready_after = \"{ready}\"\n\
             ask_after = \"{ask}\"\n\
             retry_plan = [{plan}]\n\
             requests_per_second = 200\n\
             allow_hosts = [\"{at}\"]\n\
             allow_private_addresses = true\n\
             http_links = \"allow\"\n",
            source = house.options.source,
            hook_token = house.hook_token,
            app = self.app,
            key = self.callback_key,
            legacy = self.legacy_key,
            id = self.secret_id,
            secret = self.secret_key,
            sub_app = self.sub_app,
            at = house.authority(),
            reader_id = self.reader_id,
            reader = self.reader_key,
            ready = span(30),
            ask = span(300),
            plan = plan.join(", "),
        )
    }

    fn call_seed(&self, index: u64) -> u64 {
        Dice::named(self.house.seed.wrapping_add(index), "call").roll()
    }

    /// The id of a call's recording task; the call kit's id of the same call, where it is used, is this too.
    fn task_id(seed: u64) -> String {
        format!("-{}", Dice::named(seed, "ids").token(31))
    }
}

#[async_trait::async_trait]
impl Simulated for Trtc {
    fn config_block(&self) -> String {
        self.block()
    }

    async fn answer(&self, request: &Request) -> Reply {
        let bucket = format!("/{BUCKET_PREFIX}/");
        let page = match request.path.as_str() {
            "/" if request.method == Method::GET => "GetBucket".to_owned(),
            "/" => request.header("x-tc-action").to_owned(),
            path if path.starts_with(MEDIA) => MEDIA.to_owned(),
            path if path.starts_with(&bucket) => bucket.clone(),
            _ => "other".to_owned(),
        };
        self.house.count_request(&page);
        if self.house.is_out() {
            return house::outage();
        }
        // The signature covers an empty query: with any other it is none.
        let is_api = request.path == "/" && !request.target.contains('?');
        if is_api && request.method == Method::POST {
            return self.api(request);
        }
        if request.path == "/" && request.method == Method::GET {
            return self.list_objects(request);
        }
        if request.path.starts_with(MEDIA) {
            return self.media_file(request);
        }
        if request.path.starts_with(&bucket) {
            return self.object(request);
        }
        Reply::text(StatusCode::NOT_FOUND, "no such page")
    }

    async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        self.play_all(plans).await
    }

    fn call_id_of(&self, index: u64) -> String {
        Self::task_id(self.call_seed(index))
    }

    /// Takes back a call of an earlier run: its files are there, its mishaps are over.
    fn recall(&self, index: u64, line: &LedgerLine) {
        let ending = Ending::named(&line.expect).unwrap_or(Ending::Archived);
        let mishaps = if ending == Ending::Lost {
            vec![Mishap::Gone]
        } else {
            Vec::new()
        };
        let plan = Plan {
            index,
            mishaps,
            ending,
        };
        self.make(plan, self.house.now_ms() - self.house.paced_ms(600));
    }
}
