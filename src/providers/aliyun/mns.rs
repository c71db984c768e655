//! The queue service (MNS) by HTTP and XML: take, keep hidden, delete. A target is built once, signed and sent as
//! it is, because the service checks the bytes on the wire (aliyun.md, section 8).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;

use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::retry::RetryAdvice;
use crate::providers::api::Api;
use crate::providers::contract::{ProviderError, ProviderErrorKind};
use crate::providers::http::{ApiAnswer, ApiRequest};
use crate::providers::settings::BaseUrl;

use super::fault::{self, shown};
use super::sign;
use super::token::Token;
use super::xml::{self, Node};

/// Most messages and handles of one request.
pub const BATCH: usize = 16;
const API_VERSION: &str = "2015-06-06";
const NAMESPACE: &str = "http://mns.aliyuncs.com/doc/v1/";
/// The client must be more patient than the long poll that it asked for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sixteen bodies of 64 KiB, each escaped at its longest.
const MOST_BYTES: u64 = 8 << 20;
/// For how long a message is hidden anew when storing it takes its time.
const HIDE_FOR_S: u32 = 60;

/// A message as the queue shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub receipt: String,
    /// XML escapes resolved; base64 or plain.
    pub body: String,
    pub dequeue_count: u32,
    pub hidden_for: Option<Duration>,
}

/// Why a request came to nothing.
#[derive(Debug)]
pub enum Fault {
    /// 401 or 403: a new token may help.
    Token(ProviderError),
    Other(ProviderError),
}

impl From<ProviderError> for Fault {
    fn from(error: ProviderError) -> Self {
        Self::Other(error)
    }
}

/// The service that holds the queues.
#[derive(Clone, Debug)]
pub struct Mns {
    pub api: Api,
    pub clock: SharedClock,
    pub base: BaseUrl,
    /// Asked of the service on each receive.
    pub wait: Duration,
}

impl Mns {
    /// Up to sixteen messages; none after `wait` without any.
    pub async fn receive(&self, queue: &str, token: &Token) -> Result<Vec<Message>, Fault> {
        const DOING: &str = "receiving from a message queue";
        let wait = self.wait.as_secs();
        let waiting = if wait > 0 {
            format!("&waitseconds={wait}")
        } else {
            String::new()
        };
        let target = format!("/queues/{queue}/messages?numOfMessages={BATCH}{waiting}");
        let mut request = self.request(Method::GET, target, "", token);
        request.timeout = self.wait + PATIENCE;
        let answer = self.api.call(&self.base, request, DOING).await?;
        let root = match answer.status {
            200 => self.xml(&answer, DOING)?,
            404 if error_code(&answer) == "MessageNotExist" => return Ok(Vec::new()),
            _ => return Err(self.fault(&answer, DOING).await),
        };
        let shown_at = fault::answered_at(&answer).unwrap_or_else(|| self.clock.now());
        // A single receive has the message as its root.
        let messages = match root.name.as_str() {
            "Messages" => root.children,
            _ => vec![root],
        };
        let messages = messages
            .iter()
            .filter(|node| node.name == "Message")
            .map(|node| message(node, shown_at));
        Ok(messages.collect())
    }

    /// Hides a message for longer: its new handle, and for how long. `None`: the handle is dead.
    pub async fn hide(
        &self,
        queue: &str,
        receipt: &str,
        token: &Token,
    ) -> Result<Option<(String, Option<Duration>)>, Fault> {
        const DOING: &str = "hiding a queued message for longer";
        let target = format!(
            "/queues/{queue}/messages?receiptHandle={}&visibilityTimeout={HIDE_FOR_S}",
            in_target(receipt)
        );
        let request = self.request(Method::PUT, target, "", token);
        let answer = self.api.call(&self.base, request, DOING).await?;
        match (answer.status, error_code(&answer).as_str()) {
            (200, _) => {
                // The root has two names in the vendor's own documents; the leaves have one.
                let root = self.xml(&answer, DOING)?;
                let shown_at = fault::answered_at(&answer).unwrap_or_else(|| self.clock.now());
                let handle = root.text_of("ReceiptHandle");
                if handle.is_empty() {
                    return Err(self.bad(DOING, "no ReceiptHandle").into());
                }
                Ok(Some((handle.to_owned(), hidden_for(&root, shown_at))))
            }
            (404, "MessageNotExist") | (400, "ReceiptHandleError") => Ok(None),
            _ => Err(self.fault(&answer, DOING).await),
        }
    }

    /// Deletes up to sixteen messages. What is gone already, or was shown to somebody else meanwhile, counts
    /// as done: it either never comes again or comes as a repeat.
    pub async fn delete(
        &self,
        queue: &str,
        receipts: &[String],
        token: &Token,
    ) -> Result<(), Fault> {
        const DOING: &str = "deleting from a message queue";
        let handles: String = receipts
            .iter()
            .map(|receipt| format!("<ReceiptHandle>{}</ReceiptHandle>", xml::escaped(receipt)))
            .collect();
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><ReceiptHandles xmlns=\"{NAMESPACE}\">{handles}</ReceiptHandles>"
        );
        let target = format!("/queues/{queue}/messages");
        let request = self.request(Method::DELETE, target, &body, token);
        let answer = self.api.call(&self.base, request, DOING).await?;
        if answer.status == 204 || answer.status == 200 {
            return Ok(());
        }
        let partly = xml::parse(&answer.body)
            .ok()
            .filter(|root| root.name == "Errors");
        let Some(errors) = partly else {
            return match error_code(&answer).as_str() {
                "MessageNotExist" | "ReceiptHandleError" => Ok(()),
                _ => Err(self.fault(&answer, DOING).await),
            };
        };
        // All others of the batch are deleted.
        let left: Vec<_> = errors
            .children
            .iter()
            .map(|error| error.text_of("ErrorCode"))
            .filter(|code| !matches!(*code, "MessageNotExist" | "ReceiptHandleError"))
            .collect();
        match left.first() {
            None => {
                tracing::debug!(
                    queue,
                    dead = errors.children.len(),
                    "handles were dead already"
                );
                Ok(())
            }
            Some(code) => {
                let what = format!("{} messages stay, {}", left.len(), shown(code));
                Err(self
                    .api
                    .error(
                        ProviderErrorKind::Unreachable,
                        RetryAdvice::Backoff,
                        DOING,
                        what,
                    )
                    .into())
            }
        }
    }

    /// Signed as a client that sends a Content-Type with a body only, and no Content-MD5: the vendor's own
    /// clients do not agree on what that is.
    pub(super) fn request(
        &self,
        method: Method,
        target: String,
        body: &str,
        token: &Token,
    ) -> ApiRequest {
        let date = self.clock.now().utc();
        let mut headers = vec![
            (
                "date".to_owned(),
                date.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            ),
            ("x-mns-version".to_owned(), API_VERSION.to_owned()),
        ];
        if !body.is_empty() {
            headers.push(("content-type".to_owned(), "text/xml".to_owned()));
        }
        let string = sign::mns_string(method.as_str(), &headers, &target);
        let authorization = sign::mns(&token.key.id, token.key.secret.expose(), &string);
        headers.push(("authorization".to_owned(), authorization));
        // Sent, not signed.
        headers.push((
            "security-token".to_owned(),
            token.security.expose().to_owned(),
        ));
        headers
            .iter()
            .fold(ApiRequest::new(method, target), |request, (name, value)| {
                request.header(name, value)
            })
            .body(body.to_owned())
            .at_most(MOST_BYTES)
    }

    fn xml(&self, answer: &ApiAnswer, doing: &'static str) -> Result<Node, ProviderError> {
        xml::parse(&answer.body).map_err(|why| self.bad(doing, &why))
    }

    fn bad(&self, doing: &'static str, why: &str) -> ProviderError {
        let kind = ProviderErrorKind::BadAnswer;
        self.api.error(kind, RetryAdvice::Backoff, doing, why)
    }

    async fn fault(&self, answer: &ApiAnswer, doing: &'static str) -> Fault {
        let code = error_code(answer);
        let now = self.clock.now();
        let error = |kind, remedy: &str| {
            let hint = fault::clock_hint(answer, now).unwrap_or_default();
            let detail = format!("status {}, {}{remedy}{hint}", answer.status, shown(&code));
            self.api.error(kind, RetryAdvice::Backoff, doing, detail)
        };
        match (answer.status, code.as_str()) {
            (_, "QpsLimitExceeded") => {
                let wait = answer.retry_after;
                Fault::Other(self.api.throttled(wait, doing, "QpsLimitExceeded").await)
            }
            (401 | 403, _) => {
                const REMEDY: &str =
                    ": does the queue belong to this message type? compare queues with the console";
                Fault::Token(error(ProviderErrorKind::CredentialsRefused, REMEDY))
            }
            (408, _) | (_, "TimeExpired") => Fault::Other(error(
                ProviderErrorKind::CredentialsRefused,
                ": the request counts as too old",
            )),
            (_, "QueueNotExist") => Fault::Other(error(
                ProviderErrorKind::BadAnswer,
                ": there is no such queue; compare queues with the console",
            )),
            (500.., _) => Fault::Other(error(ProviderErrorKind::Unreachable, "")),
            _ => Fault::Other(error(ProviderErrorKind::BadAnswer, "")),
        }
    }
}

pub fn message(node: &Node, shown_at: Timestamp) -> Message {
    Message {
        receipt: node.text_of("ReceiptHandle").to_owned(),
        body: node
            .child("MessageBody")
            .map_or_else(String::new, |body| body.text.clone()),
        dequeue_count: node.text_of("DequeueCount").parse().unwrap_or(0),
        hidden_for: hidden_for(node, shown_at),
    }
}

/// By the vendor's clock on both ends, so that ours does not matter.
fn hidden_for(node: &Node, shown_at: Timestamp) -> Option<Duration> {
    let until: i64 = node.text_of("NextVisibleTime").parse().ok()?;
    let left = Timestamp::from_ms(until).since_ms(shown_at);
    Some(Duration::from_millis(u64::try_from(left).ok()?)).filter(|left| !left.is_zero())
}

/// The code of a refusal; empty when there is none to be read.
pub fn error_code(answer: &ApiAnswer) -> String {
    let root = xml::parse(&answer.body).unwrap_or_default();
    root.text_of("Code").to_owned()
}

/// Handles are of base64's characters and go out raw, as the vendor's Python and Java clients send them;
/// anything that would break a target is escaped, and signed so.
fn in_target(receipt: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~+/=:".contains(c);
    if receipt.chars().all(is_plain) {
        receipt.to_owned()
    } else {
        sign::percent_encode(receipt)
    }
}

/// The JSON text of a message's body, which is it or base64 of it; else what is wrong with it
/// (aliyun.md, section 8).
pub fn decoded(body: &str) -> Result<String, String> {
    let body = body.trim();
    if body.starts_with(['{', '[']) {
        return Ok(body.to_owned());
    }
    let bytes = STANDARD
        .decode(body)
        .map_err(|_| "neither JSON nor base64".to_owned())?;
    String::from_utf8(bytes).map_err(|_| "base64 of something other than text".to_owned())
}
