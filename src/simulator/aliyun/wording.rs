//! How the queue service reads a request's target and body, and words its answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use md5::{Digest, Md5};
use quick_xml::events::Event;

use super::super::wire::Reply;
use super::shelf::Message;

/// A refusal in the vendor's words.
pub type Refusal = Box<Reply>;

pub const NAMESPACE: &str = "http://mns.aliyuncs.com/doc/v1/";
pub const REQUEST_ID: &str = "5E0B0B0E3132333435363738";

/// A request target apart: the signed text, and what is asked.
#[derive(Debug)]
pub struct Target {
    /// Path and query as they came, without scheme and host where the client sent them too.
    pub raw: String,
    pub path: String,
    /// Lower-case names; a plus is a plus.
    fields: Vec<(String, String)>,
}

impl Target {
    pub fn read(target: &str) -> Self {
        let raw = match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => {
                rest.find('/').map_or("/", |slash| &rest[slash..])
            }
            _ => target,
        };
        let (path, query) = raw.split_once('?').unwrap_or((raw, ""));
        let plain = |text: &str| {
            let decoded = percent_encoding::percent_decode_str(text);
            decoded.decode_utf8_lossy().into_owned()
        };
        let fields = query.split('&').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((plain(name).to_ascii_lowercase(), plain(value)))
        });
        Self {
            path: plain(path),
            fields: fields.collect(),
            raw: raw.to_owned(),
        }
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn number(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.field(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(fault(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                &format!("The value of {name} should be between {least} and {most}."),
            )),
        }
    }
}

pub fn shown(message: &Message, peeks: bool) -> String {
    let mut text = format!(
        "<Message><MessageId>{}</MessageId><MessageBodyMD5>{}</MessageBodyMD5><MessageBody>{}</MessageBody>\
         <EnqueueTime>{}</EnqueueTime><DequeueCount>{}</DequeueCount><Priority>{}</Priority>\
         <FirstDequeueTime>{}</FirstDequeueTime>",
        message.id,
        body_md5(&message.body),
        escaped(&message.body),
        message.enqueued_ms,
        message.dequeue_count,
        message.priority,
        message.first_dequeued_ms.unwrap_or(message.enqueued_ms),
    );
    if let Some(handle) = message.handle.as_ref().filter(|_| !peeks) {
        text += &format!(
            "<ReceiptHandle>{handle}</ReceiptHandle><NextVisibleTime>{}</NextVisibleTime>",
            message.visible_ms
        );
    }
    text + "</Message>"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Upper-case hexadecimal, of the text as it is transmitted.
pub fn body_md5(body: &str) -> String {
    hex::encode_upper(Md5::digest(body))
}

/// The vendor's clients send base64 of the hexadecimal text, its documents say of the sixteen bytes.
pub fn is_md5_of(header: &str, body: &[u8]) -> bool {
    let digest = Md5::digest(body);
    header.is_empty()
        || header == STANDARD.encode(hex::encode(digest))
        || header == STANDARD.encode(digest)
}

pub fn is_handle(handle: &str) -> bool {
    handle.split_once('-').is_some_and(|(number, rest)| {
        number.len() == 1
            && number.bytes().all(|b| b.is_ascii_digit())
            && STANDARD.decode(rest).is_ok()
    })
}

/// The texts of all elements of a name, in order.
pub fn leaves(body: &[u8], name: &str) -> Result<Vec<String>, Refusal> {
    let malformed = || {
        let why = "The XML you provided was not well-formed.";
        fault(StatusCode::BAD_REQUEST, "MalformedXML", why)
    };
    let text = std::str::from_utf8(body).map_err(|_| malformed())?;
    let mut reader = quick_xml::Reader::from_str(text);
    let mut found: Vec<String> = Vec::new();
    let mut within = false;
    loop {
        match reader.read_event().map_err(|_| malformed())? {
            Event::Start(start) if start.local_name().as_ref() == name.as_bytes() => {
                within = true;
                found.push(String::new());
            }
            Event::End(_) => within = false,
            Event::Text(text) if within => {
                let text = text.decode().map_err(|_| malformed())?;
                if let Some(last) = found.last_mut() {
                    last.push_str(&text);
                }
            }
            Event::GeneralRef(reference) if within => {
                let entity = reference.decode().map_err(|_| malformed())?;
                let c = match (reference.resolve_char_ref(), entity.as_ref()) {
                    (Ok(Some(c)), _) => c,
                    (_, "lt") => '<',
                    (_, "gt") => '>',
                    (_, "amp") => '&',
                    (_, "quot") => '"',
                    (_, "apos") => '\'',
                    _ => return Err(malformed()),
                };
                if let Some(last) = found.last_mut() {
                    last.push(c);
                }
            }
            Event::DocType(_) => return Err(malformed()),
            Event::Eof => return Ok(found),
            _ => {}
        }
    }
}

pub fn xml(status: StatusCode, body: &str) -> Reply {
    let text = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n{body}");
    Reply::new(status, "text/xml;charset=utf-8", text)
}

pub fn busy() -> Refusal {
    let why = "The QPS for the queue you accessed has exceeded the limit.";
    let refusal = fault(StatusCode::BAD_REQUEST, "QpsLimitExceeded", why);
    Box::new(refusal.with(http::header::RETRY_AFTER, 1))
}

pub fn fault(status: StatusCode, code: &str, message: &str) -> Refusal {
    Box::new(xml(
        status,
        &format!(
            "<Error xmlns=\"{NAMESPACE}\"><Code>{code}</Code><Message>{message}</Message>\
             <RequestId>{REQUEST_ID}</RequestId><HostId>http://mns.cn-hangzhou.aliyuncs.com</HostId></Error>"
        ),
    ))
}
