//! Alibaba Cloud voice with HTTP batch push, and the bucket behind its addresses.
//!
//! There is nothing to ask here: what is not pushed stays unknown, and a dead address cannot be renewed.

mod calls;

use std::sync::Arc;

use http::{Method, StatusCode};

use super::dice::Dice;
use super::house::{self, Call, House};
use super::ledger::LedgerLine;
use super::plan::{Ending, Mishap, Plan};
use super::vendor::Simulated;
use super::wire::{Reply, Request};
use super::{Error, files, sign, text, voices};

const BUCKET: &str = "callcenter-rec";
const OBJECTS: &str = "/Freeswitch_RU_";

/// `record_file` is "valid 7 days" (help/zh/vms/voicerecordreport-5).
const LINK_LIVES_S: u64 = 7 * 24 * 3600;
/// The address of a file that was lost at the vendor: short, so that nobody waits long for what never comes.
const LOST_LINK_LIVES_MS: i64 = 3000;

#[derive(Clone, Debug)]
pub(super) struct Aliyun {
    house: Arc<House>,
    access_key_id: String,
    access_key_secret: String,
}

impl Aliyun {
    pub fn new(house: Arc<House>) -> Self {
        let mut dice = Dice::named(house.seed, "aliyun account");
        Self {
            access_key_id: format!("LTAI{}", dice.token(16)),
            access_key_secret: dice.token(30),
            house,
        }
    }

    pub fn config_block(&self) -> String {
        let house = &self.house;
        format!(
            "[sources.{source}]\n\
             kind = \"aliyun\"\n\
             display_name = \"Alibaba Cloud, simulated\"\n\
             hook_token = \"{hook_token}\"\n\
             push = [\"VoiceRecordReport\", \"VoiceReport\", \"ArtcCdrReport\"]\n\
             time_zone = \"Asia/Shanghai\"\n\
             expect_within = \"{expect}\"\n\
             allow_hosts = [\"{at}\"]\n\
             allow_private_addresses = true\n\
             http_links = \"allow\"\n",
            source = house.options.source,
            hook_token = house.hook_token,
            expect = text::span(house.paced(1800)),
            at = house.authority(),
        )
    }

    pub fn answer(&self, request: &Request) -> Reply {
        let object = request
            .path
            .strip_prefix(OBJECTS)
            .and_then(|rest| rest.strip_suffix("_record.wav"));
        self.house
            .count_request(if object.is_some() { OBJECTS } else { "other" });
        if self.house.is_out() {
            return house::outage();
        }
        match object {
            Some(name) => self.object(name, request),
            None => fault(
                StatusCode::NOT_FOUND,
                "NoSuchKey",
                "The specified key does not exist.",
                "",
            ),
        }
    }

    /// The bucket: key, time and signature first, as OSS does, then whether the object is there.
    fn object(&self, name: &str, request: &Request) -> Reply {
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
        match self.house.call(&name.replace('_', "^")) {
            Some(call)
                if call.plan.ending == Ending::Archived && !call.strikes(Mishap::NotReady) =>
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
        let expires = (until_ms + 999).div_euclid(1000);
        let object = format!("{}{}_record.wav", &OBJECTS[1..], call.id.replace('^', "_"));
        let get = Method::GET;
        let signature = sign::oss_v1(
            &self.access_key_secret,
            get.as_str(),
            expires,
            BUCKET,
            &object,
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

    /// `digits^digits`, as the vendor writes it.
    fn call_id(seed: u64) -> String {
        let mut dice = Dice::named(seed, "ids");
        format!("1{}^1{}", dice.digits(11), dice.digits(11))
    }

    /// A call that ends now.
    fn make(&self, plan: Plan, ended_ms: i64) -> Arc<Call> {
        let seed = self.call_seed(plan.index);
        let id = Self::call_id(seed);
        let mut dice = Dice::named(seed, "sound");
        let audio = voices::wav(dice.roll(), 700 + dice.below(301), &id);
        let call = Arc::new(Call::new(id, plan, audio, ended_ms, seed));
        self.house.remember(&[&call.id], &call);
        call
    }

    pub fn call_id_of(&self, index: u64) -> String {
        Self::call_id(self.call_seed(index))
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
        Aliyun::answer(self, request)
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
