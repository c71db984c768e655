//! Twilio's REST interface and the media behind it: metadata first, sound a little later, and nothing without
//! credentials.

mod calls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::dice::Dice;
use super::house::{self, Call, House, locked};
use super::ledger::LedgerLine;
use super::plan::{Ending, Mishap, Plan};
use super::vendor::Simulated;
use super::voices::{self, Audio};
use super::wire::{Reply, Request};
use super::{Error, Profile, files, text};

/// Metadata says "completed" after this time, and the media is there after that one.
const COMPLETED_AFTER_S: u64 = 20;
const MEDIA_AFTER_S: u64 = 25;
/// However many are asked for: so that a list has pages.
const PAGE: usize = 5;
const SHARED_KEY: &str = "webhooks_sharedkey_01";

/// One recording.
#[derive(Clone, Debug)]
struct Recording {
    index: u64,
    call: Arc<Call>,
    account: usize,
    call_sid: Option<String>,
    conference_sid: Option<String>,
    channels: u64,
    deleted: bool,
}

#[derive(Debug)]
struct Account {
    sid: String,
    token: String,
}

#[derive(Debug)]
struct Inner {
    house: Arc<House>,
    /// The main account and a sub-account, which signs with its own token.
    accounts: [Account; 2],
    shared_key: String,
    recordings: Mutex<HashMap<String, Recording>>,
}

#[derive(Clone, Debug)]
pub(super) struct Twilio(Arc<Inner>);

impl Twilio {
    pub fn new(house: Arc<House>) -> Self {
        let mut dice = Dice::named(house.seed, "twilio account");
        let mut account = || Account {
            sid: format!("AC{}", dice.hex(32).to_lowercase()),
            token: dice.hex(32).to_lowercase(),
        };
        let accounts = [account(), account()];
        Self(Arc::new(Inner {
            accounts,
            shared_key: dice.token(32),
            recordings: Mutex::default(),
            house,
        }))
    }

    fn house(&self) -> &House {
        &self.0.house
    }

    fn block(&self) -> String {
        let house = self.house();
        let span = |seconds| text::span(house.paced(seconds));
        let plan: Vec<_> = [5, 15, 30, 60, 180, 600, 900]
            .iter()
            .map(|seconds| format!("\"{}\"", span(*seconds)))
            .collect();
        let [main, sub] = &self.0.accounts;
        format!(
            "[sources.{source}]\n\
             kind = \"twilio\"\n\
             display_name = \"Twilio, simulated\"\n\
             base_url = \"http://{at}\"\n\
             account_sid = \"{main_sid}\"\n\
             webhook_secrets = [\"{main_token}\"]\n\
             shared_keys = {{ {SHARED_KEY} = \"{shared}\" }}\n\
             subaccounts = {{ {sub_sid} = {{ webhook_secrets = [\"{sub_token}\"] }} }}\n\
             hook_token = \"{hook_token}\"\n\
             retry_plan = [{plan}]\n\
             not_ready_deadline = \"{deadline}\"\n\
             replication_delay = \"{replication}\"\n\
             requests_per_second = 100\n\
             allow_hosts = [\"{at}\"]\n\
             allow_private_addresses = true\n\
             http_links = \"allow\"\n",
            source = house.options.source,
            at = house.authority(),
            main_sid = main.sid,
            main_token = main.token,
            shared = self.0.shared_key,
            sub_sid = sub.sid,
            sub_token = sub.token,
            hook_token = house.hook_token,
            plan = plan.join(", "),
            deadline = text::span(
                house
                    .paced(24 * 3600)
                    .max(std::time::Duration::from_secs(60))
            ),
            replication = span(900),
        )
    }

    fn respond(&self, request: &Request) -> Reply {
        let path = request.path.clone();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (account, page, sid) = match parts.as_slice() {
            ["2010-04-01", "Accounts", account, page] => (*account, *page, ""),
            ["2010-04-01", "Accounts", account, page, sid] => (*account, *page, *sid),
            _ => ("", "other", ""),
        };
        let is_media = page == "Recordings" && !sid.ends_with(".json");
        self.house().count_request(match (page, is_media) {
            ("Recordings", true) => "media",
            ("Recordings" | "Recordings.json" | "Calls", _) => page,
            _ => "other",
        });
        if self.house().is_out() {
            return house::outage();
        }
        let Some(number) = self.0.accounts.iter().position(|own| own.sid == account) else {
            return fault(StatusCode::NOT_FOUND, 20404, is_media);
        };
        let own = &self.0.accounts[number];
        let basic = format!(
            "Basic {}",
            STANDARD.encode(format!("{}:{}", own.sid, own.token))
        );
        if request.header("authorization") != basic {
            return fault(StatusCode::UNAUTHORIZED, 20003, is_media);
        }
        match page {
            "Recordings.json" => self.list(number, request),
            "Recordings" if is_media => self.media(number, sid, request),
            "Recordings" => self.metadata(number, sid.trim_end_matches(".json"), request),
            "Calls" => self.call(number, sid.trim_end_matches(".json")),
            _ => fault(StatusCode::NOT_FOUND, 20404, false),
        }
    }

    fn find(&self, account: usize, sid: &str) -> Option<Recording> {
        let found = locked(&self.0.recordings).get(sid).cloned();
        found.filter(|recording| recording.account == account && !recording.deleted)
    }

    fn metadata(&self, account: usize, sid: &str, request: &Request) -> Reply {
        let Some(recording) = self.find(account, sid) else {
            return fault(StatusCode::NOT_FOUND, 20404, false);
        };
        if request.method == Method::DELETE {
            if let Some(recording) = locked(&self.0.recordings).get_mut(sid) {
                recording.deleted = true;
            }
            return Reply::new(StatusCode::NO_CONTENT, "application/json", "");
        }
        let call = &recording.call;
        if call.dice("where it fails").happens(1, 2) {
            if call.strikes(Mishap::TooMany) {
                return fault(StatusCode::TOO_MANY_REQUESTS, 20429, false)
                    .with(header::RETRY_AFTER, 1);
            }
            if call.strikes(Mishap::Failing) {
                return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "");
            }
        }
        if call.plan.has(Mishap::Gone) && !call.strikes(Mishap::Gone) {
            // A clean-up job of the customer's own.
            return fault(StatusCode::NOT_FOUND, 20404, false);
        }
        Reply::json(&self.entry(&recording))
    }

    fn media(&self, account: usize, name: &str, request: &Request) -> Reply {
        let (sid, ext) = name.split_once('.').unwrap_or((name, "wav"));
        let recording = self.find(account, sid);
        let Some(recording) = recording.filter(|recording| {
            let call = &recording.call;
            let there = call.ended_ms + self.house().paced_ms(MEDIA_AFTER_S);
            let exists = call.plan.ending == Ending::Archived && !call.plan.has(Mishap::Gone);
            exists && self.house().now_ms() >= there && !call.strikes(Mishap::NotReady)
        }) else {
            return fault(StatusCode::NOT_FOUND, 20404, true);
        };
        let two = request.field("RequestedChannels") == "2";
        if two && recording.channels != 2 {
            return fault(StatusCode::BAD_REQUEST, 20001, true);
        }
        let call = &recording.call;
        match (ext, recording.channels, two) {
            ("mp3", ..) => {
                let audio = voices::mp3(0, 100, &call.id);
                files::serve_file(self.house(), call, &audio, request, true)
            }
            ("wav", 2, false) => {
                // Without the wish for two channels the download is a mix.
                let audio = sound(1, call);
                files::serve_file(self.house(), call, &audio, request, true)
            }
            ("wav", ..) => files::serve(self.house(), call, request, true),
            _ => fault(StatusCode::NOT_FOUND, 20404, true),
        }
    }

    fn status(&self, recording: &Recording) -> &'static str {
        let call = &recording.call;
        match call.plan.ending {
            _ if recording.deleted => "deleted",
            Ending::Absent => "absent",
            _ if self.house().now_ms()
                < call.ended_ms + self.house().paced_ms(COMPLETED_AFTER_S) =>
            {
                "processing"
            }
            _ => "completed",
        }
    }

    fn entry(&self, recording: &Recording) -> Value {
        let call = &recording.call;
        let account = &self.0.accounts[recording.account].sid;
        let status = self.status(recording);
        let is_absent = status == "absent";
        json!({
            "sid": call.id,
            "account_sid": account,
            "call_sid": recording.call_sid,
            "conference_sid": recording.conference_sid,
            "status": status,
            "duration": if is_absent { "-1".to_owned() } else { call.talk_s().to_string() },
            "channels": recording.channels,
            "source": "DialVerb",
            "error_code": if is_absent { Value::from(16101) } else { Value::Null },
            "start_time": rfc2822(call.started_ms),
            "date_created": rfc2822(call.started_ms),
            "date_updated": rfc2822(call.ended_ms),
            "price": "-0.0025",
            "price_unit": "USD",
            "encryption_details": null,
            "api_version": "2010-04-01",
            "media_url": format!("http://api.twilio.com/2010-04-01/Accounts/{account}/Recordings/{}", call.id),
            "uri": format!("/2010-04-01/Accounts/{account}/Recordings/{}.json", call.id),
        })
    }

    /// Newest first, by days and by call, in pages that name the next one.
    fn list(&self, account: usize, request: &Request) -> Reply {
        let (from, to) = (request.field("DateCreated>"), request.field("DateCreated<"));
        let (call, conference) = (request.field("CallSid"), request.field("ConferenceSid"));
        let mut found: Vec<Recording> = locked(&self.0.recordings)
            .values()
            .filter(|recording| {
                let created = date(recording.call.started_ms);
                let is_of = |asked: &str, sid: &Option<String>| {
                    asked.is_empty() || sid.as_deref() == Some(asked)
                };
                recording.account == account
                    && !recording.deleted
                    && (from.is_empty() || created.as_str() >= from)
                    && (to.is_empty() || created.as_str() <= to)
                    && is_of(call, &recording.call_sid)
                    && is_of(conference, &recording.conference_sid)
            })
            .cloned()
            .collect();
        found.sort_by_key(|recording| {
            std::cmp::Reverse((recording.call.started_ms, recording.index))
        });
        let page: usize = request.field("Page").parse().unwrap_or(0);
        let asked: usize = request.field("PageSize").parse().unwrap_or(50);
        let size = asked.clamp(1, PAGE);
        let entries: Vec<Value> = found
            .iter()
            .skip(page * size)
            .take(size)
            .map(|recording| self.entry(recording))
            .collect();
        let more = found.len() > (page + 1) * size;
        let base = request.target.split("&Page=").next().unwrap_or_default();
        let next = more.then(|| format!("{base}&Page={}&PageToken=PA{page}", page + 1));
        Reply::json(&json!({
            "page": page,
            "page_size": size,
            "start": page * size,
            "end": page * size + entries.len().max(1) - 1,
            "uri": request.target,
            "next_page_uri": next,
            "previous_page_uri": null,
            "recordings": entries,
        }))
    }

    fn call(&self, account: usize, sid: &str) -> Reply {
        let recordings = locked(&self.0.recordings);
        let found = recordings
            .values()
            .find(|r| r.account == account && r.call_sid.as_deref() == Some(sid));
        let Some(recording) = found else {
            return fault(StatusCode::NOT_FOUND, 20404, false);
        };
        let call = &recording.call;
        let mut dice = call.dice("numbers");
        Reply::json(&json!({
            "sid": sid,
            "account_sid": self.0.accounts[account].sid,
            "from": format!("+1415555{}", dice.digits(4)),
            "to": format!("+1800555{}", dice.digits(4)),
            "direction": dice.pick(&["inbound", "outbound-api", "outbound-dial"]),
            "status": "completed",
            "start_time": rfc2822(call.started_ms - 2000),
            "end_time": rfc2822(call.ended_ms),
            "duration": (call.talk_s() + 2).to_string(),
            "parent_call_sid": null,
            "uri": format!("/2010-04-01/Accounts/{}/Calls/{sid}.json", self.0.accounts[account].sid),
        }))
    }

    fn call_seed(&self, index: u64) -> u64 {
        Dice::named(self.house().seed.wrapping_add(index), "call").roll()
    }

    /// The recording's sid, and the call's or the conference's.
    fn sids(&self, index: u64) -> (String, String, bool) {
        let mut dice = Dice::named(self.call_seed(index), "sids");
        let recording = format!("RE{}", dice.hex(32).to_lowercase());
        let is_conference = dice.happens(1, 6);
        let prefix = if is_conference { "CF" } else { "CA" };
        let call = format!("{prefix}{}", dice.hex(32).to_lowercase());
        (recording, call, is_conference)
    }

    fn make(&self, plan: Plan, ended_ms: i64) -> Recording {
        let index = plan.index;
        let seed = self.call_seed(index);
        let (sid, call_sid, is_conference) = self.sids(index);
        let mut dice = Dice::named(seed, "facts");
        let channels = 1 + dice.below(2);
        let account = usize::from(dice.happens(1, 4));
        let mut call = Call::new(
            sid.clone(),
            plan,
            Audio {
                bytes: Default::default(),
                mime: "audio/x-wav",
                duration_ms: 0,
            },
            ended_ms,
            seed,
        );
        call.audio = sound(channels, &call);
        call.started_ms = ended_ms - call.audio.duration_ms as i64;
        let recording = Recording {
            index,
            call: Arc::new(call),
            account,
            call_sid: (!is_conference).then(|| call_sid.clone()),
            conference_sid: is_conference.then_some(call_sid),
            channels,
            deleted: false,
        };
        locked(&self.0.recordings).insert(sid, recording.clone());
        recording
    }
}

/// 16-bit PCM at 8 kHz: both sides apart, or mixed.
fn sound(channels: u64, call: &Call) -> Audio {
    let choice = if channels == 2 { 3 } else { 2 };
    let keep = 700 + call.dice("length").below(301);
    voices::wav(choice, keep, &call.id)
}

/// The vendor's error: XML where no `.json` was asked for.
fn fault(status: StatusCode, code: u32, as_xml: bool) -> Reply {
    if as_xml {
        let body = format!(
            "<?xml version='1.0' encoding='UTF-8'?>\n<TwilioResponse><RestException><Code>{code}</Code><Status>{}\
             </Status></RestException></TwilioResponse>",
            status.as_u16()
        );
        return Reply::new(status, "application/xml", body);
    }
    let body = json!({ "code": code, "message": "no", "status": status.as_u16() });
    Reply::new(status, "application/json", body.to_string())
}

fn rfc2822(ms: i64) -> String {
    let at = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    at.format("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

fn date(ms: i64) -> String {
    let at = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    at.format("%Y-%m-%d").to_string()
}

/// The signature of address and fields: names sorted, each followed by its value, no separators.
fn signature(secret: &str, with_sha256: bool, url: &str, fields: &[(String, String)]) -> String {
    let mut sorted = fields.to_vec();
    sorted.sort();
    let mut signed = url.to_owned();
    for (name, value) in sorted {
        signed.push_str(&name);
        signed.push_str(&value);
    }
    if with_sha256 {
        mac::<Hmac<sha2::Sha256>>(secret, &signed)
    } else {
        mac::<Hmac<sha1::Sha1>>(secret, &signed)
    }
}

fn mac<M: Mac + KeyInit>(secret: &str, signed: &str) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(signed.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[async_trait::async_trait]
impl Simulated for Twilio {
    fn config_block(&self) -> String {
        self.block()
    }

    async fn answer(&self, request: &Request) -> Reply {
        self.respond(request)
    }

    async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        Twilio::make_calls(self, plans).await
    }

    fn call_id_of(&self, index: u64) -> String {
        self.sids(index).1
    }

    fn recall(&self, index: u64, line: &LedgerLine) {
        let ending = Ending::named(&line.expect).unwrap_or(Ending::Archived);
        let mishaps = if line.expect == Ending::Lost.name() {
            vec![Mishap::Gone]
        } else {
            Vec::new()
        };
        let ended_ms = self.house().now_ms() - self.house().paced_ms(MEDIA_AFTER_S);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_is_signed_alike() {
        let fields = [
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
        assert_eq!(
            signature("12345", false, url, &fields),
            "RSOYDt4T1cUTdK1PDd93/VVr8B8="
        );
    }
}
