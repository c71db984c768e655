//! Number protection (PNP): call records, "recording ready" without an address, and the question for one
//! (`QueryRecordFileDownloadUrl`; aliyun.md, sections 2.5, 2.6 and 7).

use std::time::Duration;

use bytes::Bytes;
use chrono::FixedOffset;
use serde_json::{Map, Value, json};

use crate::domain::call::{CallFacts, Party};
use crate::domain::clock::Timestamp;
use crate::domain::deadlines::Clocks;
use crate::domain::notice::Notice;
use crate::domain::reading::{Announced, Link, Reading};
use crate::domain::recording::Part;
use crate::providers::contract::{Address, AskedCall, Located, ProviderError, Told};
use crate::providers::settings::BaseUrl;

use super::link;
use super::loose::Element;
use super::message;
use super::pop::{Answer, Pop};
use super::reading::{Reader, call_id, take_customer_id};

/// "Recordings are kept for 30 days" (help, document 110264), counted from the call's end.
const KEEPS: Duration = Duration::from_secs(30 * 24 * 3600);
/// An address lives two hours (same page); one that does not say so itself is taken for a little younger.
const LINK_LIVES: Duration = Duration::from_secs(110 * 60);
const DOING: &str = "asking for a protected call's recording";
/// Members of a call's custom facts that make the question possible.
const POOL_KEY: &str = "pool_key";
const CALL_TIME: &str = "call_time_ms";

impl Reader {
    /// Short messages (`call_type` 2, 3 and 5) are no calls.
    pub fn protected_cdr(
        &self,
        mut element: Element,
        notice: &Notice,
        reading: &mut Reading,
    ) -> Result<(), String> {
        let call_type = element.text("call_type");
        if matches!(call_type.as_deref(), Some("2" | "3" | "5")) {
            return Ok(());
        }
        let mut call = CallFacts::new(call_id(&mut element, &["call_id"])?);
        call.is_cdr = true;
        let mut time = |name: &str| {
            let at = element.time(&[name], self.zone);
            at.filter(|at| at.ms() > 0)
        };
        let called_at = time("call_time");
        let sent = time("call_out_time");
        let rang = time("ring_time");
        let answered = time("start_time");
        call.ended_at = time("release_time");
        call.started_at = called_at.or(sent).or(rang).or(answered);
        let talk_ms = match (answered, call.ended_at) {
            (Some(start), Some(end)) => end.since_ms(start).max(0),
            _ => 0,
        };
        call.answered_at = answered.filter(|_| talk_ms > 0);
        call.duration_ms = call.ended_at.map(|_| talk_ms);
        call.talked = call.duration_ms.map(|ms| ms > 0);
        call.hangup_cause = element.text("release_cause");
        let (a, x, b) = (
            element.text("phone_no"),
            element.text("secret_no"),
            element.text("peer_no"),
        );
        (call.caller, call.callee) = match call_type.as_deref() {
            Some("1") => (b.clone(), a.clone()),
            _ => (a.clone(), b.clone()),
        };
        let roles = [
            ("caller", &call.caller),
            ("callee", &call.callee),
            ("protected", &x),
        ];
        call.parties = roles
            .into_iter()
            .filter_map(|(role, number)| {
                Some(Party {
                    role: Some(role.to_owned()),
                    number: Some(number.clone()?),
                    ..Party::default()
                })
            })
            .collect();
        let pool_key = element.text("pool_key");
        self.common(&mut element, &mut call, pool_key.as_deref(), called_at);
        let gone_at = Some(self.kept_until(call.ended_at.or(called_at), notice.arrived_at));
        let mut failed = None;
        for (name, which) in [("record_url", RECORD), ("ring_record_url", RING)] {
            let Some(text) = element.text(name) else {
                continue;
            };
            match link::read(&text) {
                Ok(found) => {
                    let mut announced =
                        self.announced(&call, which, pool_key.as_deref(), called_at);
                    announced.clocks.gone_at = gone_at;
                    announced.clocks.link_until = found.until;
                    announced.link = Some(found);
                    reading.recordings.push(announced);
                }
                Err(why) => failed = Some(format!("{name}: {why}")),
            }
        }
        if let Some(call_type) = call_type {
            call.custom.insert("call_type".to_owned(), call_type.into());
        }
        call.custom.extend(element.rest());
        reading.calls.push(call);
        failed.map_or(Ok(()), Err)
    }

    pub fn protected_recording(
        &self,
        mut element: Element,
        reading: &mut Reading,
    ) -> Result<(), String> {
        let mut call = CallFacts::new(call_id(&mut element, &["call_id"])?);
        let called_at = element.time(&["call_time"], self.zone);
        let pool_key = element.text("pool_key");
        call.started_at = called_at;
        self.common(&mut element, &mut call, pool_key.as_deref(), called_at);
        let mut announced = self.announced(&call, RECORD, pool_key.as_deref(), called_at);
        // The call's end is not told; its start is on the safe side.
        announced.clocks.gone_at = called_at.map(|at| self.kept_until(Some(at), at));
        reading.recordings.push(announced);
        call.custom.extend(element.rest());
        reading.calls.push(call);
        let missing = [
            ("pool_key", pool_key.is_none()),
            ("call_time", called_at.is_none()),
        ];
        match missing.iter().find(|(_, is_missing)| *is_missing) {
            Some((name, _)) => Err(format!("no {name}, so its address cannot be asked for")),
            None => Ok(()),
        }
    }

    /// Both spellings of the binding's id, the customer's value, and what a later question needs.
    fn common(
        &self,
        element: &mut Element,
        call: &mut CallFacts,
        pool_key: Option<&str>,
        called_at: Option<Timestamp>,
    ) {
        if let Some(binding) = element.text_of(&["sub_id", "subs_id"]) {
            call.custom.insert("sub_id".to_owned(), binding.into());
        }
        if let Some(pool_key) = pool_key {
            call.custom.insert(POOL_KEY.to_owned(), pool_key.into());
        }
        if let Some(at) = called_at {
            call.custom.insert(CALL_TIME.to_owned(), at.ms().into());
        }
        take_customer_id(element, &["out_id"], call);
    }

    fn kept_until(&self, from: Option<Timestamp>, arrived_at: Timestamp) -> Timestamp {
        from.unwrap_or(arrived_at)
            .plus(self.provider_keeps.unwrap_or(KEEPS))
    }

    fn announced(
        &self,
        call: &CallFacts,
        which: &str,
        pool_key: Option<&str>,
        called_at: Option<Timestamp>,
    ) -> Announced {
        let handle = match (pool_key, called_at) {
            (Some(pool_key), Some(at)) if which == RECORD => {
                json!({ POOL_KEY: pool_key, CALL_TIME: at.ms() })
            }
            _ => Value::Null,
        };
        Announced {
            provider_call_id: call.provider_call_id.clone(),
            // The vendor gives it no id; a call has one recording, and one of its ringing.
            aliases: vec![format!("{}|{which}", call.provider_call_id)],
            // What one side heard while it rang is not held against the length of the talk.
            part: if which == RING {
                Part::Party
            } else {
                Part::Unknown
            },
            link_renewable: (self.can_ask && !handle.is_null()).then_some(true),
            handle,
            clocks: Clocks::default(),
            ready_now: true,
            confirmed: true,
            ..Announced::default()
        }
    }
}

const RECORD: &str = "record";
const RING: &str = "ring";

/// What the question for an address needs.
struct Question<'a> {
    pool_key: &'a str,
    call_id: &'a str,
    called_at: Timestamp,
}

impl<'a> Question<'a> {
    fn of(facts: &'a Map<String, Value>, call_id: &'a str) -> Option<Self> {
        Some(Self {
            pool_key: facts.get(POOL_KEY)?.as_str()?,
            call_id,
            called_at: Timestamp::from_ms(facts.get(CALL_TIME)?.as_i64()?),
        })
    }

    async fn ask(
        &self,
        pop: &Pop,
        base: &BaseUrl,
    ) -> Result<Result<Link, Option<String>>, ProviderError> {
        // Of UTC+8 and without a zone; a number is not taken (the page of the sibling question says so).
        let called_at = in_shanghai(self.called_at);
        let params = [
            ("PoolKey", self.pool_key),
            ("CallId", self.call_id),
            ("CallTime", called_at.as_str()),
        ];
        let answer = pop
            .ask(base, "QueryRecordFileDownloadUrl", &params, DOING)
            .await?;
        Ok(match answer {
            Answer::Missing { code } => Err(Some(code)),
            Answer::Ok(body) => {
                let url = body["DownloadUrl"].as_str().unwrap_or_default();
                link::read(url).map_err(|_| None)
            }
        })
    }
}

fn in_shanghai(at: Timestamp) -> String {
    match FixedOffset::east_opt(8 * 3600) {
        Some(zone) => {
            let local = at.utc().with_timezone(&zone);
            local.format("%Y-%m-%d %H:%M:%S").to_string()
        }
        None => String::new(),
    }
}

/// Whether a recording belongs to number protection and can be asked for.
pub fn can_ask(handle: &Value) -> bool {
    handle
        .as_object()
        .is_some_and(|facts| Question::of(facts, "").is_some())
}

/// An address that is good now. One that came with the call record serves while the vendor cannot be asked.
pub async fn locate(
    pop: &Pop,
    base: &BaseUrl,
    handle: &Value,
    provider_call_id: &str,
    link: Option<&Link>,
    now: Timestamp,
) -> Result<Located, ProviderError> {
    let facts = handle.as_object();
    let Some(question) = facts.and_then(|facts| Question::of(facts, provider_call_id)) else {
        return Ok(Located::Unannounced);
    };
    match question.ask(pop, base).await {
        Ok(Ok(link)) => Ok(Located::Ready(Address {
            until: link.until.or(Some(now.plus(LINK_LIVES))),
            url: link.url,
            headers: Vec::new(),
            expected_bytes: None,
            expected_md5: Vec::new(),
            expected_sha256: None,
        })),
        Ok(Err(code)) => Ok(Located::NotReady { code }),
        Err(error) => match link.filter(|link| link.until.is_none_or(|until| now < until)) {
            Some(link) => {
                tracing::warn!(source = error.source_name, %error, "taking the address of the call record");
                Ok(Located::Ready(Address {
                    url: link.url.clone(),
                    until: link.until,
                    headers: Vec::new(),
                    expected_bytes: None,
                    expected_md5: Vec::new(),
                    expected_sha256: None,
                }))
            }
            None => Err(error),
        },
    }
}

/// The recording of a protected call whose announcement never came.
pub async fn ask(pop: &Pop, base: &BaseUrl, call: &AskedCall) -> Result<Vec<Told>, ProviderError> {
    let Some(question) = Question::of(&call.custom, &call.provider_call_id) else {
        return Ok(Vec::new());
    };
    if question.ask(pop, base).await?.is_err() {
        return Ok(Vec::new());
    }
    let body = json!({
        "pool_key": question.pool_key,
        "call_id": question.call_id,
        "call_time": question.called_at.ms(),
    });
    Ok(vec![Told {
        topic: message::ASKED.to_owned(),
        body: Bytes::from(body.to_string()),
        dedup_key: format!("asked:{}", question.call_id),
        unreadable: None,
    }])
}

/// The recording to expect of a call of which only its id, pool and start are known.
pub fn expected(call: &CallFacts) -> Option<Announced> {
    let pool_key = call.custom.get(POOL_KEY)?.as_str()?;
    let called_at = call.started_at?;
    Some(Announced {
        provider_call_id: call.provider_call_id.clone(),
        aliases: vec![format!("{}|{RECORD}", call.provider_call_id)],
        handle: json!({ POOL_KEY: pool_key, CALL_TIME: called_at.ms() }),
        link_renewable: Some(true),
        clocks: Clocks {
            gone_at: Some(call.ended_at.unwrap_or(called_at).plus(KEEPS)),
            ..Clocks::default()
        },
        ..Announced::default()
    })
}

/// A question about a call that nobody made: any answer but a refusal means that the key works.
pub async fn check(pop: &Pop, base: &BaseUrl) -> Result<(), ProviderError> {
    let question = Question {
        pool_key: "FC000000000000000",
        call_id: "callvault-check",
        called_at: pop.clock.now(),
    };
    question.ask(pop, base).await.map(|_| ())
}
