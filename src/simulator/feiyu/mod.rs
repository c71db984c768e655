//! Feiyu as its manual describes it: the two questions a customer may ask, and the file server behind the addresses.
//!
//! The manual's table of result codes is not public; the codes here are ours, and the configuration block that
//! the simulator prints names them.

mod calls;

use std::sync::Arc;

use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::dice::Dice;
use super::files;
use super::house::{self, Call, House};
use super::ledger::LedgerLine;
use super::plan::{Ending, Mishap, Plan};
use super::vendor::Simulated;
use super::wire::{Reply, Request};
use super::{Error, Profile, sign, text, voices};

const RECORD_URL: &str = "/api/getRecordDownUrl";
const CALL_HISTORY: &str = "/api/fetchCallHistory";
const FILES: &str = "/rec/";

const UNKNOWN_CALL: &str = "100022";
const NOT_READY: &str = "100023";
const GONE: &str = "100024";
const REFUSED: &str = "100001";

/// "15 minutes after the call ended", "30 minutes" for `ti` and for an address, "about one month".
const READY_AFTER_S: u64 = 15 * 60;
const LINK_LIVES_S: u64 = 30 * 60;
const TI_LIVES_MS: i64 = 30 * 60 * 1000;
const KEEPS_S: u64 = 30 * 24 * 3600;

#[derive(Clone, Debug)]
pub(super) struct Feiyu {
    house: Arc<House>,
    app_id: String,
    app_token: String,
    link_secret: String,
}

/// The ids of one call.
#[derive(Debug)]
struct Ids {
    /// The id under which the recording is asked for: of the call, or (v3) of the recorded leg.
    call: String,
    /// v3: the other leg, and what joins both.
    other_leg: String,
    dial_back: String,
    /// v3: whether the recorded leg is the first that was rung.
    first_leg: bool,
}

impl Feiyu {
    pub fn new(house: Arc<House>) -> Self {
        let mut dice = Dice::named(house.seed, "feiyu account");
        Self {
            app_id: dice.hex(32),
            app_token: dice.hex(32),
            link_secret: dice.token(24),
            house,
        }
    }

    pub fn config_block(&self) -> String {
        let house = &self.house;
        let span = |seconds| text::span(house.paced(seconds));
        let plan: Vec<_> = [5, 10, 20, 30, 60]
            .iter()
            .map(|minutes| format!("\"{}\"", span(minutes * 60)))
            .collect();
        let (profile, version) = match house.options.profile {
            Profile::V2 | Profile::Queue | Profile::Protection => ("v2_au", "2"),
            Profile::V3 => ("v3_signature", "3"),
        };
        format!(
            "[sources.{source}]\n\
             kind = \"feiyu\"\n\
             display_name = \"Feiyu, simulated, version {version}\"\n\
             base_url = \"http://{at}\"\n\
             app_id = \"{app_id}\"\n\
             app_token = \"{app_token}\"\n\
             auth_profile = \"{profile}\"\n\
             hook_token = \"{hook_token}\"\n\
             first_try_after = \"{first}\"\n\
             retry_plan = [{plan}]\n\
             url_ttl = \"{url_ttl}\"\n\
             ready_deadline = \"{deadline}\"\n\
             provider_keeps = \"{keeps}\"\n\
             requests_per_second = 50\n\
             codes.not_ready = [\"{NOT_READY}\"]\n\
             codes.gone = [\"{GONE}\"]\n\
             codes.auth = [\"{REFUSED}\"]\n\
             allow_hosts = [\"{at}\"]\n\
             allow_private_addresses = true\n\
             http_links = \"allow\"\n",
            source = house.options.source,
            at = house.authority(),
            app_id = self.app_id,
            app_token = self.app_token,
            hook_token = house.hook_token,
            first = span(READY_AFTER_S),
            plan = plan.join(", "),
            url_ttl = span(25 * 60),
            deadline = span(8 * 3600),
            keeps = span(KEEPS_S),
        )
    }

    pub fn answer(&self, request: &Request) -> Reply {
        let page = match request.path.as_str() {
            path @ (RECORD_URL | CALL_HISTORY) => path,
            path if path.starts_with(FILES) => FILES,
            _ => "other",
        };
        self.house.count_request(page);
        if self.house.is_out() {
            return house::outage();
        }
        match page {
            RECORD_URL => self.record_url(request),
            CALL_HISTORY => self.call_history(request),
            FILES => self.file(request),
            _ => Reply::text(StatusCode::NOT_FOUND, "no such page"),
        }
    }

    fn record_url(&self, request: &Request) -> Reply {
        let call = match self.asked(request) {
            Ok(call) => call,
            Err(refusal) => return refusal,
        };
        if self.fails_at_the_question(&call) {
            if call.strikes(Mishap::TooMany) {
                return Reply::text(StatusCode::TOO_MANY_REQUESTS, "slow down")
                    .with(header::RETRY_AFTER, 1);
            }
            if call.strikes(Mishap::Failing) {
                return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "");
            }
            if call.strikes(Mishap::Html) {
                return Reply::new(
                    StatusCode::OK,
                    "text/html",
                    "<html><body>busy</body></html>",
                );
            }
        }
        let (house, now) = (&self.house, self.house.now_ms());
        let early = now < call.ended_ms + house.paced_ms(READY_AFTER_S);
        if early || call.plan.ending == Ending::Absent || call.strikes(Mishap::NotReady) {
            return self.result(Some(&call), NOT_READY, "record not ready", None);
        }
        let too_late = now > call.ended_ms + house.paced_ms(KEEPS_S);
        if too_late || call.plan.has(Mishap::Gone) && !call.strikes(Mishap::Gone) {
            return self.result(Some(&call), GONE, "record expired", None);
        }
        let until = if call.strikes(Mishap::LinkExpired) {
            now - 1
        } else {
            now + house.paced_ms(LINK_LIVES_S)
        };
        let name = call.id.trim_end_matches("@fy");
        let key = self.link_key(name, until);
        let address = format!(
            "http://{}{FILES}{name}.mp3?e={until}&k={key}",
            house.authority()
        );
        self.result(Some(&call), "0", "ok", Some(address.into()))
    }

    fn call_history(&self, request: &Request) -> Reply {
        match self.asked(request) {
            Ok(call) => {
                let facts = self.facts(&call).into_iter().map(|(name, value)| {
                    // Numbers stand as numbers here, as text in a push.
                    let value = value
                        .parse::<i64>()
                        .map_or_else(|_| Value::from(value), Value::from);
                    (name.to_owned(), value)
                });
                self.result(Some(&call), "0", "ok", Some(Value::Object(facts.collect())))
            }
            Err(refusal) => refusal,
        }
    }

    fn file(&self, request: &Request) -> Reply {
        let name = request
            .path
            .trim_start_matches(FILES)
            .trim_end_matches(".mp3");
        let Some(call) = self.house.call(&format!("{name}@fy")) else {
            return Reply::text(StatusCode::NOT_FOUND, "no such file");
        };
        let until: i64 = request.field("e").parse().unwrap_or(0);
        if request.field("k") != self.link_key(name, until) {
            return Reply::text(StatusCode::FORBIDDEN, "no such address");
        }
        if self.house.now_ms() > until {
            self.house.count_request("expired");
            return Reply::text(StatusCode::FORBIDDEN, "address expired");
        }
        if call.plan.ending != Ending::Archived && call.plan.ending != Ending::None {
            let status = call
                .dice("gone")
                .pick(&[StatusCode::NOT_FOUND, StatusCode::GONE]);
            return Reply::text(status, "no such file");
        }
        // The manual is silent on Range: one half of the files can be resumed, the other cannot.
        files::serve(
            &self.house,
            &call,
            request,
            call.dice("ranges").happens(1, 2),
        )
    }

    /// Checks a question as the vendor does and finds the call it is about.
    fn asked(&self, request: &Request) -> Result<Arc<Call>, Reply> {
        if request.method != Method::POST {
            return Err(Reply::text(StatusCode::METHOD_NOT_ALLOWED, "POST a form")
                .with(header::ALLOW, "POST"));
        }
        let refuse = |why| Err(self.result(None, REFUSED, why, None));
        if request.field("appId") != self.app_id {
            return refuse("unknown appId");
        }
        let v2 = self.house.options.profile != Profile::V3;
        let (time, given) = if v2 {
            ("ti", "au")
        } else {
            ("curTime", "signature")
        };
        let ti = request.field(time);
        let Ok(at) = ti.parse::<i64>() else {
            return refuse("time missing");
        };
        let expected = if v2 {
            sign::feiyu_v2(&self.app_id, &self.app_token, ti)
        } else {
            sign::feiyu_v3(&self.app_id, &self.app_token)
        };
        if request.field(given) != expected {
            return refuse("signature wrong");
        }
        if v2 && (self.house.now_ms() - at).abs() > TI_LIVES_MS {
            return refuse("ti is more than 30 minutes off");
        }
        // Published clients send the version with this question, but not with fetchCallHistory.
        if v2 && request.path == RECORD_URL && request.field("ver") != "2.1.0" {
            return refuse("ver missing or unknown");
        }
        let id = match request.field("fyCallId") {
            "" => request.field("callId"),
            id => id,
        };
        let found = self.house.call(id);
        found.ok_or_else(|| self.result(None, UNKNOWN_CALL, "call not found", None))
    }

    /// v2 writes its result code as text, mostly; v3 as a number.
    fn result(
        &self,
        call: Option<&Call>,
        code: &str,
        message: &str,
        result: Option<Value>,
    ) -> Reply {
        let as_number = self.house.options.profile == Profile::V3
            || call.is_some_and(|call| call.dice("code").happens(1, 4));
        let code = match code.parse::<i64>() {
            Ok(number) if as_number => Value::from(number),
            _ => Value::from(code),
        };
        let mut answer = json!({"resultCode": code, "resultMsg": message});
        if let Some(result) = result {
            answer["result"] = result;
        }
        Reply::json(&answer)
    }

    fn fails_at_the_question(&self, call: &Call) -> bool {
        call.dice("where it fails").happens(1, 2)
    }

    fn link_key(&self, name: &str, until: i64) -> String {
        sign::link_key(&self.link_secret, &format!("{name}|{until}"))
    }

    fn call_seed(&self, index: u64) -> u64 {
        Dice::named(self.house.seed.wrapping_add(index), "call").roll()
    }

    fn ids(&self, seed: u64) -> Ids {
        let mut dice = Dice::named(seed, "ids");
        match self.house.options.profile {
            Profile::V2 | Profile::Queue | Profile::Protection => Ids {
                call: format!("{}@fy", dice.hex(32)),
                other_leg: String::new(),
                dial_back: String::new(),
                first_leg: true,
            },
            Profile::V3 => {
                let mut leg = || {
                    format!(
                        "{}@fy",
                        dice.text(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", 34)
                    )
                };
                let (call, other_leg) = (leg(), leg());
                Ids {
                    call,
                    other_leg,
                    dial_back: dice.hex(32),
                    first_leg: dice.happens(1, 2),
                }
            }
        }
    }

    /// A call that ends now.
    fn make(&self, plan: Plan, ended_ms: i64) -> (Arc<Call>, Ids) {
        let seed = self.call_seed(plan.index);
        let ids = self.ids(seed);
        let mut dice = Dice::named(seed, "sound");
        let audio = voices::mp3(dice.roll(), 70 + dice.below(31), &ids.call);
        let mut call = Call::new(ids.call.clone(), plan, audio, ended_ms, seed);
        if call.plan.ending == Ending::Absent {
            // Nobody spoke: the flag says "recorded", but there was nothing to record.
            call.started_ms = call.ended_ms;
        }
        let call = Arc::new(call);
        let mut names = vec![ids.call.as_str()];
        if !ids.other_leg.is_empty() && call.plan.ending != Ending::Absent {
            names.push(&ids.dial_back);
        }
        self.house.remember(&names, &call);
        (call, ids)
    }

    pub fn call_id_of(&self, index: u64) -> String {
        self.ids(self.call_seed(index)).call
    }

    /// Takes back a call of an earlier run: its file is ready, its mishaps are over.
    pub fn recall(&self, index: u64, line: &LedgerLine) {
        let mishaps = if line.expect == Ending::Lost.name() {
            vec![Mishap::Gone]
        } else {
            Vec::new()
        };
        let ending = Ending::named(&line.expect).unwrap_or(Ending::Archived);
        let ended_ms = self.house.now_ms() - self.house.paced_ms(READY_AFTER_S);
        self.make(
            Plan {
                index,
                mishaps,
                ending,
            },
            ended_ms,
        );
    }
}

#[async_trait::async_trait]
impl Simulated for Feiyu {
    fn config_block(&self) -> String {
        Feiyu::config_block(self)
    }

    async fn answer(&self, request: &Request) -> Reply {
        Feiyu::answer(self, request)
    }

    async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        Feiyu::make_calls(self, plans).await
    }

    fn call_id_of(&self, index: u64) -> String {
        Feiyu::call_id_of(self, index)
    }

    fn recall(&self, index: u64, line: &LedgerLine) {
        Feiyu::recall(self, index, line);
    }
}
