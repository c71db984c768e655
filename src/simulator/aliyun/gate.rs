//! The RPC gateway ("POP") of the token and number protection APIs: verifies either signature, then answers.

use chrono::{DateTime, NaiveDateTime};
use http::StatusCode;
use serde_json::{Value, json};

use super::super::house;
use super::super::plan::{Ending, Mishap};
use super::super::sign;
use super::super::text::shanghai;
use super::super::wire::{Reply, Request};
use super::{Aliyun, Token};

const VERSION: &str = "2017-05-25";
/// More than 15 minutes off: about us, so the speed does not change it.
const CLOCK_MS: i64 = 15 * 60 * 1000;
/// The life of a token is not published; half an hour is what its sample shows.
const TOKEN_LIVES_S: u64 = 1800;
/// However fast the vendor runs: a customer needs a token for longer than one question takes.
const LEAST_TOKEN_MS: i64 = 3_000;
/// What a signed header set must hold.
const MUST_SIGN: [&str; 6] = [
    "host",
    "x-acs-action",
    "x-acs-content-sha256",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-version",
];

/// A question whose signature was right.
struct Asked {
    action: String,
    fields: Vec<(String, String)>,
}

impl Asked {
    fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value)
    }
}

impl Aliyun {
    pub fn gateway(&self, request: &Request) -> Reply {
        let asked = match self.verified(request) {
            Ok(asked) => asked,
            Err(refusal) => return *refusal,
        };
        match asked.action.as_str() {
            "QueryTokenForMnsQueue" => self.queue_token(&asked),
            "QueryRecordFileDownloadUrl" => self.download_url(&asked),
            action => refused(
                StatusCode::NOT_FOUND,
                "InvalidAction.NotFound",
                &format!("Specified api is not found, please check your url and method: {action}."),
            ),
        }
    }

    fn verified(&self, request: &Request) -> Result<Asked, Box<Reply>> {
        let no = |status, code: &str, why: &str| Err(Box::new(refused(status, code, why)));
        let bad = StatusCode::BAD_REQUEST;
        let (asked, key_id, nonce, time, version, text, expected, signature);
        if let Some(rest) = request
            .header("authorization")
            .strip_prefix("ACS3-HMAC-SHA256 ")
        {
            let part = |name: &str| {
                let found = rest.split(',').find_map(|part| {
                    let (key, value) = part.trim().split_once('=')?;
                    (key == name).then(|| value.to_owned())
                });
                found.unwrap_or_default()
            };
            let names = part("SignedHeaders");
            let lines: Vec<(String, String)> = names
                .split(';')
                .map(|name| (name.to_owned(), request.header(name).to_owned()))
                .collect();
            let is_signed = |name: &str| lines.iter().any(|(line, _)| line == name);
            if let Some(missing) = MUST_SIGN.iter().find(|name| !is_signed(name)) {
                let why = format!("{missing} is not signed");
                return no(bad, "IncompleteSignature", &why);
            }
            let query = sign::pop_query(&request.fields);
            key_id = part("Credential");
            nonce = request.header("x-acs-signature-nonce").to_owned();
            time = request.header("x-acs-date").to_owned();
            version = request.header("x-acs-version").to_owned();
            signature = part("Signature");
            (text, expected) = sign::pop_acs3(
                &self.access_key_secret,
                request.method.as_str(),
                &query,
                &lines,
                &request.body,
            );
            asked = Asked {
                action: request.header("x-acs-action").to_owned(),
                fields: request.fields.clone(),
            };
        } else if request.field("SignatureMethod") == "HMAC-SHA1"
            && request.field("SignatureVersion") == "1.0"
        {
            if request.field("Format") != "JSON" {
                let body = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>UnsupportedFormat</Code></Error>";
                return Err(Box::new(Reply::new(bad, "text/xml", body)));
            }
            let query = sign::pop_query(&request.fields);
            key_id = request.field("AccessKeyId").to_owned();
            nonce = request.field("SignatureNonce").to_owned();
            time = request.field("Timestamp").to_owned();
            version = request.field("Version").to_owned();
            signature = request.field("Signature").to_owned();
            (text, expected) =
                sign::pop_v1(&self.access_key_secret, request.method.as_str(), &query);
            asked = Asked {
                action: request.field("Action").to_owned(),
                fields: request.fields.clone(),
            };
        } else {
            return no(
                bad,
                "IncompleteSignature",
                "The request signature does not conform to Aliyun standards.",
            );
        }
        if key_id != self.access_key_id {
            let why = "Specified access key is not found.";
            return no(StatusCode::NOT_FOUND, "InvalidAccessKeyId.NotFound", why);
        }
        let Ok(sent) = DateTime::parse_from_rfc3339(&time) else {
            return no(
                bad,
                "InvalidTimeStamp.Format",
                "Specified time stamp or date value is not well formatted.",
            );
        };
        if (sent.timestamp_millis() - self.house.now_ms()).abs() > CLOCK_MS {
            return no(
                bad,
                "InvalidTimeStamp.Expired",
                "Specified time stamp or date value is expired.",
            );
        }
        if signature != expected {
            let why = format!(
                "Specified signature is not matched with our calculation. server string to sign is:{text}"
            );
            return no(bad, "SignatureDoesNotMatch", &why);
        }
        if nonce.is_empty() || !house::locked(&self.shared.nonces).insert(nonce) {
            return no(
                bad,
                "SignatureNonceUsed",
                "Specified signature nonce was used already.",
            );
        }
        if version != VERSION {
            let why = "Specified parameter Version is not valid.";
            return no(StatusCode::NOT_FOUND, "InvalidVersion", why);
        }
        Ok(asked)
    }

    fn queue_token(&self, asked: &Asked) -> Reply {
        let message_type = asked.field("MessageType");
        if message_type.is_empty() {
            // With status 200, as many of this product's own faults.
            return business("isv.INVALID_PARAMETERS", "MessageType");
        }
        if self.shared.token_busy() {
            return refused(
                StatusCode::BAD_REQUEST,
                "Throttling.User",
                "Request was denied due to user flow control.",
            )
            .with(http::HeaderName::from_static("x-acs-retry-after"), 1);
        }
        // A wrong pair of type and queue is found out at the queue.
        let queue = match asked.field("QueueName") {
            "" => self.queue_name(message_type),
            named if self.queue_name(message_type) == named => named.to_owned(),
            _ => String::new(),
        };
        let now = self.house.now_ms();
        let lives = self.house.paced_ms(TOKEN_LIVES_S).max(LEAST_TOKEN_MS);
        // Told in whole seconds, so it lives to the end of one.
        let until_ms = (now + lives + 999).div_euclid(1000) * 1000;
        let mut dice = self.shared.next("token");
        let token = Token {
            key_id: format!("STS.{}", dice.token(24)),
            secret: dice.token(44),
            security: format!(
                "CAIS{}+{}/{}==",
                dice.token(60),
                dice.token(40),
                dice.token(20)
            ),
            queue,
            until_ms,
            withdrawn: false,
        };
        let reply = json!({
            "Code": "OK",
            "Message": "OK",
            "RequestId": REQUEST_ID,
            "MessageTokenDTO": {
                "AccessKeyId": token.key_id,
                "AccessKeySecret": token.secret,
                "SecurityToken": token.security,
                "CreateTime": shanghai(now),
                "ExpireTime": shanghai(until_ms),
            },
        });
        house::locked(&self.shared.tokens).push(token);
        Reply::json(&reply)
    }

    fn download_url(&self, asked: &Asked) -> Reply {
        let called = asked.field("CallTime");
        if NaiveDateTime::parse_from_str(called, "%Y-%m-%d %H:%M:%S").is_err() {
            let why = "The specified parameter CallTime is not valid.";
            return refused(StatusCode::BAD_REQUEST, "InvalidParameter.date", why);
        }
        if asked.field("PoolKey") != self.pool_key && !asked.field("ProductType").starts_with("AX")
        {
            return business("isv.INVALID_PARAMETERS", "PoolKey");
        }
        let missing = || refused(StatusCode::BAD_REQUEST, "100008", "Data not available.");
        let Some(call) = self.house.call(asked.field("CallId")) else {
            return missing();
        };
        let is_there = call.plan.ending == Ending::Archived
            && shanghai(call.started_ms) == called
            && self.house.now_ms() >= self.file_at_ms(&call);
        // Half of those that are late say so here, the others at the bucket.
        let says_so = call.dice("late file").happens(1, 2);
        if !is_there || says_so && call.strikes(Mishap::NotReady) {
            return missing();
        }
        if call.strikes(Mishap::QueueBusy) {
            return business("isv.BUSINESS_LIMIT_CONTROL", "flow control")
                .with(http::header::RETRY_AFTER, 1);
        }
        Reply::json(&json!({
            "Code": "OK",
            "Message": "OK",
            "RequestId": REQUEST_ID,
            "DownloadUrl": self.protected_url(&call, super::ASKED_LINK_LIVES_S),
        }))
    }
}

const REQUEST_ID: &str = "8906582E-6722-409A-A6C4-0E7863B733A5";

fn refused(status: StatusCode, code: &str, message: &str) -> Reply {
    let body = json!({
        "RequestId": REQUEST_ID,
        "HostId": "dybaseapi.aliyuncs.com",
        "Code": code,
        "Message": message,
    });
    Reply {
        status,
        ..Reply::json(&body)
    }
}

/// A fault of the product itself: status 200 and a code that is not OK.
fn business(code: &str, message: &str) -> Reply {
    let body: Value = json!({ "RequestId": REQUEST_ID, "Code": code, "Message": message });
    Reply::json(&body)
}
