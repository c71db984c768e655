//! The queue service (MNS): REST over XML, every request held against its own bytes as they came.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use http::{HeaderName, Method, StatusCode};

use super::super::house::{self, Call};
use super::super::plan::Mishap;
use super::super::sign;
use super::super::wire::{Delivery, Reply, Request};
use super::shelf::{Handle, Message, Shelf};
use super::wording::{
    NAMESPACE, REQUEST_ID, Refusal, Target, body_md5, busy, fault, is_handle, is_md5_of, leaves,
    shown, xml,
};
use super::{Aliyun, QUEUES};

const MOST: usize = 16;
const LONGEST_POLL_S: u64 = 30;
const LONGEST_HIDE_S: i64 = 43_200;
const LARGEST_BODY: usize = 64 << 10;
/// "More than 15 minutes off": about us, so the speed does not change it.
const CLOCK_MS: i64 = 15 * 60 * 1000;
/// Default visibility, and the least that a client gets however fast the vendor runs.
const HIDDEN_S: u64 = 30;
const LEAST_HIDDEN_MS: i64 = 1_500;
/// How soon a waiting receive looks for messages whose time has run out.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Aliyun {
    /// A message for the customer, in base64 or plain.
    pub fn enqueue(
        &self,
        queue: &str,
        text: &str,
        plain: bool,
        call: Option<&std::sync::Arc<Call>>,
    ) {
        let body = if plain {
            text.to_owned()
        } else {
            STANDARD.encode(text)
        };
        let now = self.house.now_ms();
        let message = self.new_message(body, now, now, 8, call.cloned());
        house::locked(&self.shared.shelves)
            .entry(queue.to_owned())
            .or_default()
            .put(message);
        self.shared.arrived.notify_waiters();
    }

    pub async fn queue_request(&self, request: &Request) -> Reply {
        let reply = match self.admitted(request) {
            Ok((queue, target)) => self.served(request, &queue, &target).await,
            Err(refusal) => *refusal,
        };
        reply
            .with(HeaderName::from_static("x-mns-request-id"), REQUEST_ID)
            .with(HeaderName::from_static("x-mns-version"), "2015-06-06")
            .with(http::header::SERVER, "AliyunMNS")
    }

    /// Headers, key, time, signature, token; gives the queue's name and what was asked of it.
    fn admitted(&self, request: &Request) -> Result<(String, Target), Refusal> {
        let bad = |code, why| Err(fault(StatusCode::BAD_REQUEST, code, why));
        let no = |code, why| Err(fault(StatusCode::FORBIDDEN, code, why));
        let authorization = request.header("authorization");
        if authorization.is_empty() {
            return bad(
                "MissingAuthorizationHeader",
                "Authorization header is required.",
            );
        }
        let Some((key_id, signature)) = authorization
            .strip_prefix("MNS ")
            .and_then(|rest| rest.split_once(':'))
        else {
            return bad(
                "InvalidAuthorizationHeader",
                "The Authorization header format is invalid.",
            );
        };
        // Where both are sent, the vendor's own header counts, and stands in the place of the usual one.
        let date = match request.header("x-mns-date") {
            "" => request.header("date"),
            own => own,
        };
        if date.is_empty() {
            return bad("MissingDateHeader", "Date header is required.");
        }
        let Ok(sent) = DateTime::parse_from_rfc2822(date) else {
            return bad("InvalidDateHeader", "The Date header format is invalid.");
        };
        if (sent.timestamp_millis() - self.house.now_ms()).abs() > CLOCK_MS {
            let status = StatusCode::REQUEST_TIMEOUT;
            return Err(fault(
                status,
                "TimeExpired",
                "The http request you sent is expired.",
            ));
        }
        let issued = house::locked(&self.shared.tokens)
            .iter()
            .find(|token| token.key_id == key_id)
            .cloned();
        let Some(token) = issued else {
            let why = "The AccessKey Id you provided is not exist.";
            return no("InvalidAccessKeyId", why);
        };
        let target = Target::read(&request.target);
        let own: Vec<(String, String)> = request
            .headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-mns-"))
            .map(|(name, _)| (name.to_string(), request.header(name.as_str()).to_owned()))
            .collect();
        let head = [
            request.method.as_str(),
            request.header("content-md5"),
            request.header("content-type"),
            date,
        ];
        if sign::mns(&token.secret, head, &own, &target.raw) != signature {
            let why = "The request signature we calculated does not match the signature you provided. Check your key and signing method.";
            return no("SignatureDoesNotMatch", why);
        }
        if request.header("security-token") != token.security {
            return no(
                "AccessDenied",
                "The security token you provided is invalid.",
            );
        }
        if token.withdrawn || self.house.now_ms() >= token.until_ms {
            return no(
                "AccessDenied",
                "The security token you provided has expired.",
            );
        }
        if !is_md5_of(request.header("content-md5"), &request.body) {
            return bad("InvalidDegist", "The Content-MD5 you specified is invalid.");
        }
        let Some(queue) = target.path.strip_prefix(QUEUES).map(|rest| {
            let end = rest.find('/').unwrap_or(rest.len());
            rest[..end].to_owned()
        }) else {
            return bad("InvalidRequestURL", "Http request URL format invalid.");
        };
        if !self.has_queue(&queue) {
            let why = "The queue name you provided is not exist.";
            return Err(fault(StatusCode::NOT_FOUND, "QueueNotExist", why));
        }
        if token.queue != queue {
            let why = "The OwnerId that your Access Key Id associated to is forbidden for this operation.";
            return no("AccessDenied", why);
        }
        Ok((queue, target))
    }

    async fn served(&self, request: &Request, queue: &str, target: &Target) -> Reply {
        let is_messages = target.path.ends_with("/messages");
        let outcome = match request.method {
            Method::GET if !is_messages => Ok(self.attributes(queue)),
            Method::GET => self.receive(queue, target).await,
            Method::DELETE if is_messages => self.delete(queue, target, request),
            Method::PUT if is_messages => self.hide(queue, target),
            Method::POST if is_messages => self.post(queue, request),
            _ => Err(fault(
                StatusCode::BAD_REQUEST,
                "InvalidRequestURL",
                "Http request URL format invalid.",
            )),
        };
        outcome.unwrap_or_else(|refusal| *refusal)
    }

    fn attributes(&self, queue: &str) -> Reply {
        let (active, hidden) = self.on_shelf(queue, |shelf, now| shelf.counts(now));
        xml(
            StatusCode::OK,
            &format!(
                "<Queue xmlns=\"{NAMESPACE}\"><QueueName>{queue}</QueueName><CreateTime>1709611506</CreateTime>\
                 <LastModifyTime>1709611506</LastModifyTime><VisibilityTimeout>{HIDDEN_S}</VisibilityTimeout>\
                 <MaximumMessageSize>{LARGEST_BODY}</MaximumMessageSize><MessageRetentionPeriod>345600</MessageRetentionPeriod>\
                 <DelaySeconds>0</DelaySeconds><PollingWaitSeconds>0</PollingWaitSeconds>\
                 <InactiveMessages>{hidden}</InactiveMessages><ActiveMessages>{active}</ActiveMessages>\
                 <DelayMessages>0</DelayMessages><LoggingEnabled>False</LoggingEnabled></Queue>"
            ),
        )
    }

    async fn receive(&self, queue: &str, target: &Target) -> Result<Reply, Refusal> {
        let most = target.number("numofmessages", 1, MOST as i64)?;
        let wait = target
            .number("waitseconds", 0, LONGEST_POLL_S as i64)?
            .unwrap_or(0);
        let peeks = target.field("peekonly").is_some_and(|text| text == "true");
        let until = tokio::time::Instant::now() + Duration::from_secs(wait as u64);
        loop {
            let arrived = self.shared.arrived.notified();
            let count = most.unwrap_or(1) as usize;
            if let Some(reply) = self.take(queue, count, most.is_some(), peeks)? {
                return Ok(reply);
            }
            let now = tokio::time::Instant::now();
            if now >= until {
                return Err(fault(
                    StatusCode::NOT_FOUND,
                    "MessageNotExist",
                    "Message not exist.",
                ));
            }
            // Early when one arrives; now and then for those that are visible again.
            let _ = tokio::time::timeout(LOOK_AGAIN.min(until - now), arrived).await;
        }
    }

    fn take(
        &self,
        queue: &str,
        most: usize,
        several: bool,
        peeks: bool,
    ) -> Result<Option<Reply>, Refusal> {
        let house = &self.house;
        let hidden_ms = house.paced_ms(HIDDEN_S).max(LEAST_HIDDEN_MS);
        let mut breaks_off = false;
        let listed = self.on_shelf(queue, |shelf, now| {
            let mut messages = shelf.visible(most, now);
            // Of several that are struck, each uses one strike up.
            let meets = |mishap: Mishap, messages: &[&mut Message]| {
                let calls = messages
                    .iter()
                    .filter(|_| !peeks)
                    .filter_map(|message| message.call.as_ref());
                calls.filter(|call| call.strikes(mishap)).count() > 0
            };
            if meets(Mishap::TokenDied, &messages) {
                self.withdraw_tokens(queue);
                let why = "The security token you provided has expired.";
                return Err(fault(StatusCode::FORBIDDEN, "AccessDenied", why));
            }
            if meets(Mishap::QueueBusy, &messages) {
                return Err(busy());
            }
            breaks_off = meets(Mishap::Redelivered, &messages);
            let mut listed = Vec::new();
            for message in &mut messages {
                if !peeks {
                    message.dequeue_count += 1;
                    message.first_dequeued_ms.get_or_insert(now);
                    message.visible_ms = now + hidden_ms;
                    message.handle = Some(self.new_handle());
                    if message.dequeue_count > 1 {
                        house.count_shown_again();
                    }
                }
                listed.push(shown(message, peeks));
            }
            Ok(listed)
        })?;
        if listed.is_empty() {
            return Ok(None);
        }
        let body = if several {
            format!(
                "<Messages xmlns=\"{NAMESPACE}\">{}</Messages>",
                listed.concat()
            )
        } else {
            listed[0].replacen("<Message>", &format!("<Message xmlns=\"{NAMESPACE}\">"), 1)
        };
        let mut reply = xml(StatusCode::OK, &body);
        if breaks_off {
            reply.delivery = Delivery::Reset;
        }
        Ok(Some(reply))
    }

    fn delete(&self, queue: &str, target: &Target, request: &Request) -> Result<Reply, Refusal> {
        let one = target.field("receipthandle");
        let handles = match one {
            Some(handle) => vec![handle.to_owned()],
            None => leaves(&request.body, "ReceiptHandle")?,
        };
        if handles.is_empty() {
            let why = "ReceiptHandle is required.";
            return Err(fault(StatusCode::BAD_REQUEST, "MissingReceiptHandle", why));
        }
        if handles.len() > MOST {
            let why = "The number of handles is not between 1 and 16.";
            return Err(fault(StatusCode::BAD_REQUEST, "InvalidArgument", why));
        }
        let mut faults = Vec::new();
        for handle in &handles {
            if !is_handle(handle) {
                faults.push((
                    "ReceiptHandleError",
                    "The receipt handle you provide is not valid.",
                    handle,
                ));
                continue;
            }
            let outcome = self.on_shelf(queue, |shelf, now| {
                shelf.delete(handle, now, |message| {
                    let call = message.call.as_ref();
                    call.is_some_and(|call| call.strikes(Mishap::DeadHandle))
                })
            });
            match outcome {
                Handle::Good => self.house.count_taken(),
                Handle::Dead => faults.push(("MessageNotExist", "Message not exist.", handle)),
            }
        }
        match (faults.first(), one) {
            (None, _) => Ok(Reply::new(StatusCode::NO_CONTENT, "text/xml", "")),
            (Some((code, why, _)), Some(_)) => {
                let status = if *code == "ReceiptHandleError" {
                    StatusCode::BAD_REQUEST
                } else {
                    StatusCode::NOT_FOUND
                };
                Err(fault(status, code, why))
            }
            (Some(_), None) => {
                let errors: String = faults
                    .iter()
                    .map(|(code, why, handle)| {
                        format!(
                            "<Error><ErrorCode>{code}</ErrorCode><ErrorMessage>{why}</ErrorMessage>\
                             <ReceiptHandle>{handle}</ReceiptHandle></Error>"
                        )
                    })
                    .collect();
                let body = format!("<Errors xmlns=\"{NAMESPACE}\">{errors}</Errors>");
                Err(Box::new(xml(StatusCode::NOT_FOUND, &body)))
            }
        }
    }

    fn hide(&self, queue: &str, target: &Target) -> Result<Reply, Refusal> {
        let bad = |code, why| fault(StatusCode::BAD_REQUEST, code, why);
        let handle = target
            .field("receipthandle")
            .ok_or_else(|| bad("MissingReceiptHandle", "ReceiptHandle is required."))?;
        let seconds = target
            .number("visibilitytimeout", 1, LONGEST_HIDE_S)?
            .ok_or_else(|| bad("MissingVisibilityTimeout", "VisibilityTimeout is required."))?;
        if !is_handle(handle) {
            let why = "The receipt handle you provide is not valid.";
            return Err(bad("ReceiptHandleError", why));
        }
        // What the customer asked for in seconds is not the vendor's pace.
        let until = self.house.now_ms() + seconds * 1000;
        let new = self.new_handle();
        let hidden = self.on_shelf(queue, |shelf, now| {
            shelf.hide(handle, until, new.clone(), now)
        });
        match hidden {
            Handle::Good => Ok(xml(
                StatusCode::OK,
                &format!(
                    "<ChangeVisibility xmlns=\"{NAMESPACE}\"><ReceiptHandle>{new}</ReceiptHandle>\
                     <NextVisibleTime>{until}</NextVisibleTime></ChangeVisibility>"
                ),
            )),
            Handle::Dead => Err(fault(
                StatusCode::NOT_FOUND,
                "MessageNotExist",
                "Message not exist.",
            )),
        }
    }

    fn post(&self, queue: &str, request: &Request) -> Result<Reply, Refusal> {
        let bodies = leaves(&request.body, "MessageBody")?;
        let several = request
            .body
            .windows(10)
            .any(|window| window == b"<Messages ".as_slice() || window == b"<Messages>".as_slice());
        if bodies.is_empty() || bodies.len() > MOST {
            let why = "The number of messages is not between 1 and 16.";
            return Err(fault(StatusCode::BAD_REQUEST, "InvalidArgument", why));
        }
        if bodies.iter().any(|body| body.len() > LARGEST_BODY) {
            let why = "The length of message should not be larger than MaximumMessageSize.";
            return Err(fault(StatusCode::BAD_REQUEST, "InvalidArgument", why));
        }
        let delays = leaves(&request.body, "DelaySeconds")?;
        let delay: i64 = delays.first().and_then(|s| s.parse().ok()).unwrap_or(0);
        let priorities = leaves(&request.body, "Priority")?;
        let priority = priorities.first().and_then(|s| s.parse().ok()).unwrap_or(8);
        let mut told = String::new();
        for body in bodies {
            let now = self.house.now_ms();
            let message = self.new_message(body, now, now + delay * 1000, priority, None);
            let space = if several {
                String::new()
            } else {
                format!(" xmlns=\"{NAMESPACE}\"")
            };
            told += &format!(
                "<Message{space}><MessageId>{}</MessageId><MessageBodyMD5>{}</MessageBodyMD5></Message>",
                message.id,
                body_md5(&message.body)
            );
            self.on_shelf(queue, |shelf, _| shelf.put(message));
        }
        self.shared.arrived.notify_waiters();
        if several {
            told = format!("<Messages xmlns=\"{NAMESPACE}\">{told}</Messages>");
        }
        Ok(xml(StatusCode::CREATED, &told))
    }

    fn on_shelf<T>(&self, queue: &str, act: impl FnOnce(&mut Shelf, i64) -> T) -> T {
        let now = self.house.now_ms();
        let mut shelves = house::locked(&self.shared.shelves);
        act(shelves.entry(queue.to_owned()).or_default(), now)
    }

    fn new_message(
        &self,
        body: String,
        enqueued_ms: i64,
        visible_ms: i64,
        priority: u8,
        call: Option<std::sync::Arc<Call>>,
    ) -> Message {
        Message {
            id: self.shared.next("message").hex(32),
            body,
            enqueued_ms,
            visible_ms,
            first_dequeued_ms: None,
            dequeue_count: 0,
            priority,
            handle: None,
            call,
        }
    }

    /// As the vendor's look: a digit, a dash, and base64 with all its signs.
    fn new_handle(&self) -> String {
        let mut dice = self.shared.next("handle");
        let bytes: Vec<u8> = (0..25).map(|_| dice.below(256) as u8).collect();
        format!("{}-{}", 1 + dice.below(8), STANDARD.encode(bytes))
    }
}
