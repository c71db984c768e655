//! The customer's bucket at Tencent COS: signed addresses of its objects, and one page of its list (documents
//! 436/7778 and 436/7734).
//!
//! What a newcomer gets wrong: the signature covers each value of the query encoded, and the bucket has one list
//! only, in the order of the keys.

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

use crate::domain::clock::Timestamp;
use crate::domain::retry::RetryAdvice;
use crate::providers::api::Api;
use crate::providers::contract::{Address, ProviderError, ProviderErrorKind};
use crate::providers::http::{ApiAnswer, ApiRequest, WebAddress};

use super::settings::Cos;
use super::sign::{COS_ENCODED, CosGet};

/// How long a signed address of the bucket is good.
const SIGNED_S: i64 = 15 * 60;
/// Signed a little into the past, for a clock that is ahead of the vendor's.
const BEFORE_S: i64 = 60;
/// Most keys in one page: the vendor's own limit.
const PAGE: u32 = 1000;
/// A key has up to 850 bytes, threefold when it is encoded.
const MOST_BYTES: u64 = 8 * 1024 * 1024;
/// The list nests three elements; more is not its XML.
const DEEPEST: usize = 8;

/// What errors call this question.
const LIST: &str = "GetBucket";

/// Key = `FileNamePrefix` parts, task and file name (tencent.md, section 3.2).
pub fn address(cos: &Cos, task: Option<&str>, name: &str, now: Timestamp) -> Address {
    let parts = [Some(cos.prefix.as_str()), task, Some(name)];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    let segments: Vec<String> = parts
        .flat_map(|part| part.split('/'))
        .map(|segment| utf8_percent_encode(segment, COS_ENCODED).to_string())
        .collect();
    let path = format!("/{}", segments.join("/"));
    Address {
        url: format!("{}{path}", cos.base.as_str()),
        until: Some(now.plus_ms(SIGNED_S * 1000)),
        headers: headers(cos, &path, &[], now),
        ..Address::default()
    }
}

/// What a GET of this path needs to be let in. `query`: names in order.
pub fn headers(
    cos: &Cos,
    path: &str,
    query: &[(&str, &str)],
    now: Timestamp,
) -> Vec<(String, String)> {
    let host =
        WebAddress::parse(cos.base.as_str()).map_or_else(|_| String::new(), |at| at.authority());
    let second = now.ms().div_euclid(1000);
    let get = CosGet {
        path,
        query,
        headers: &[("host", &host)],
        from: second - BEFORE_S,
        until: second + SIGNED_S,
    };
    let signed = get.authorization(cos.keys.secret_id.expose(), cos.keys.secret_key.expose());
    let mut headers = vec![("authorization".to_owned(), signed)];
    if let Some(token) = &cos.keys.token {
        let token = token.expose().to_owned();
        headers.push(("x-cos-security-token".to_owned(), token));
    }
    headers
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    pub modified: Option<Timestamp>,
}

/// A page of the bucket's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub objects: Vec<Object>,
    /// The key behind which the next page begins; `None` after the last page.
    pub next: Option<String>,
}

/// Asks for the keys that begin with `prefix` and come after `marker`.
pub async fn page(
    api: &Api,
    cos: &Cos,
    prefix: &str,
    marker: &str,
    now: Timestamp,
) -> Result<Listing, ProviderError> {
    let most = PAGE.to_string();
    // In the order that the signature wants.
    let query = [
        ("encoding-type", "url"),
        ("marker", marker),
        ("max-keys", &most),
        ("prefix", prefix),
    ];
    let query: Vec<(&str, &str)> = query
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let fields: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, COS_ENCODED)))
        .collect();
    let mut request = ApiRequest::get(format!("/?{}", fields.join("&"))).at_most(MOST_BYTES);
    for (name, value) in headers(cos, "/", &query, now) {
        request = request.header(&name, &value);
    }
    let answer = api.call(&cos.base, request, LIST).await?;
    match read(&answer.body) {
        Ok(Document::List(listing)) if answer.status == 200 => Ok(listing),
        Ok(Document::Error(code)) => Err(refusal(api, &answer, &code).await),
        Ok(Document::List(_)) => Err(refusal(api, &answer, "").await),
        Err(what) => {
            let detail = format!("status {}, {what}", answer.status);
            let kind = ProviderErrorKind::Unreachable;
            Err(api.error(kind, advice(&answer), LIST, detail))
        }
    }
}

/// An answer about the list that makes no sense.
pub fn senseless(api: &Api, detail: String) -> ProviderError {
    let kind = ProviderErrorKind::BadAnswer;
    api.error(kind, RetryAdvice::Backoff, LIST, detail)
}

fn advice(answer: &ApiAnswer) -> RetryAdvice {
    answer
        .retry_after
        .map_or(RetryAdvice::Backoff, RetryAdvice::After)
}

/// The page of error codes (document 436/7730).
async fn refusal(api: &Api, answer: &ApiAnswer, code: &str) -> ProviderError {
    let shown: String = code.chars().take(100).collect();
    let detail = format!("status {}, code {shown:?}", answer.status);
    let refused = |hint: &str| {
        let kind = ProviderErrorKind::CredentialsRefused;
        let detail = format!("{detail}: {hint}");
        api.error(kind, RetryAdvice::Backoff, LIST, detail)
    };
    match (answer.status, code) {
        (_, "SlowDown" | "RequestLimitExceeded") => {
            api.throttled(answer.retry_after, LIST, detail).await
        }
        (403, "AccessDenied") => {
            let kind = ProviderErrorKind::CannotListBucket;
            let detail = format!("{detail}: allow the key cos:GetBucket");
            api.error(kind, RetryAdvice::Never, LIST, detail)
        }
        (_, "RequestTimeTooSkewed") => refused("look at this machine's clock"),
        (404, _) => refused("look at cos.bucket and cos.region"),
        (401 | 403, _) => refused("look at secret_id and secret_key of cos"),
        (400, _) => senseless(api, detail),
        _ => api.error(ProviderErrorKind::Unreachable, advice(answer), LIST, detail),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Document {
    List(Listing),
    /// Its code.
    Error(String),
}

/// The parts of a document that are used, as they are written.
#[derive(Debug, Default)]
struct Raw {
    /// Keys, and when each was last written.
    objects: Vec<(String, String)>,
    is_encoded: bool,
    is_cut: bool,
    next: Option<String>,
    code: Option<String>,
    is_list: bool,
}

impl Raw {
    /// Takes the element that ends below the elements `above`.
    fn take(&mut self, above: &[String], name: &str, text: &str) {
        let above: Vec<&str> = above.iter().map(String::as_str).collect();
        let last = self.objects.last_mut();
        match (above.as_slice(), name) {
            ([], "ListBucketResult") => self.is_list = true,
            (["ListBucketResult"], "EncodingType") => self.is_encoded = text == "url",
            (["ListBucketResult"], "IsTruncated") => self.is_cut = text == "true",
            (["ListBucketResult"], "NextMarker") => {
                self.next = Some(text.to_owned()).filter(|next| !next.is_empty());
            }
            (["ListBucketResult", "Contents"], "Key") => {
                if let Some((key, _)) = last {
                    text.clone_into(key);
                }
            }
            (["ListBucketResult", "Contents"], "LastModified") => {
                if let Some((_, modified)) = last {
                    text.clone_into(modified);
                }
            }
            (["Error"], "Code") => self.code = Some(text.to_owned()),
            _ => {}
        }
    }

    fn document(self) -> Result<Document, String> {
        if let Some(code) = self.code {
            return Ok(Document::Error(code));
        }
        if !self.is_list {
            return Err("XML of something else than a list".to_owned());
        }
        // A `+` is itself: Base64 in the vendor's names has it.
        let plain = |text: &str| match self.is_encoded {
            true => percent_decode_str(text).decode_utf8_lossy().into_owned(),
            false => text.to_owned(),
        };
        let last = self.objects.last().map(|(key, _)| key);
        let next = match (self.is_cut, self.next.as_ref().or(last)) {
            (false, _) => None,
            (true, Some(next)) => Some(plain(next)),
            (true, None) => return Err("a list that goes on and does not say where".to_owned()),
        };
        let objects = self.objects.iter().map(|(key, modified)| Object {
            key: plain(key),
            modified: Timestamp::parse(modified),
        });
        Ok(Document::List(Listing {
            objects: objects.collect(),
            next,
        }))
    }
}

/// Reads a list or an error. A document type is refused: the vendor sends none, and entities are traps.
fn read(bytes: &[u8]) -> Result<Document, String> {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = Reader::from_str(&text);
    let (mut raw, mut open, mut held) = (Raw::default(), Vec::<String>::new(), String::new());
    loop {
        let event = reader
            .read_event()
            .map_err(|error| format!("not XML: {error}"))?;
        match event {
            Event::Start(start) => {
                if open.len() >= DEEPEST {
                    return Err(format!("elements nested deeper than {DEEPEST}"));
                }
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                if name == "Contents" {
                    raw.objects.push(<(String, String)>::default());
                }
                open.push(name);
                held.clear();
            }
            Event::End(_) => {
                if let Some(name) = open.pop() {
                    raw.take(&open, &name, held.trim());
                }
                held.clear();
            }
            Event::Text(text) => held.push_str(&text.decode().map_err(|e| e.to_string())?),
            Event::CData(text) => held.push_str(&text.decode().map_err(|e| e.to_string())?),
            Event::GeneralRef(reference) => held.push(character(&reference)?),
            Event::DocType(_) => return Err("a document type, which is refused".to_owned()),
            Event::Empty(_) | Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => break,
        }
    }
    match open.last() {
        Some(name) => Err(format!("ends inside of {name:?}")),
        None => raw.document(),
    }
}

fn character(reference: &BytesRef<'_>) -> Result<char, String> {
    let resolved = reference.resolve_char_ref().map_err(|e| e.to_string())?;
    let name = reference.decode().map_err(|e| e.to_string())?;
    match (resolved, name.as_ref()) {
        (Some(c), _) => Ok(c),
        (None, "lt") => Ok('<'),
        (None, "gt") => Ok('>'),
        (None, "amp") => Ok('&'),
        (None, "quot") => Ok('"'),
        (None, "apos") => Ok('\''),
        (None, _) => Err("an entity that XML does not know".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(inner: &str) -> Result<Document, String> {
        read(format!("<?xml version='1.0' encoding='utf-8' ?>\n<ListBucketResult>\n{inner}\n</ListBucketResult>").as_bytes())
    }

    fn contents(key: &str) -> String {
        format!(
            "\t<Contents>\n\t\t<Key>{key}</Key>\n\t\t<LastModified>2024-03-05T00:03:00.000Z</LastModified>\n\
             \t\t<ETag>&quot;d41d&quot;</ETag>\n\t\t<Size>7</Size>\n\t\t<Owner>\n\t\t\t<ID>1250000000</ID>\n\
             \t\t\t<DisplayName>1250000000</DisplayName>\n\t\t</Owner>\n\t\t<StorageClass>STANDARD</StorageClass>\n\t</Contents>\n"
        )
    }

    #[test]
    fn a_page_is_read_with_its_keys_decoded_and_says_where_the_next_begins() {
        let page = |more: &str, keys: [&str; 2]| {
            let objects: String = keys.iter().map(|key| contents(key)).collect();
            match list(&format!("<Name>b</Name><Prefix/>{more}{objects}")) {
                Ok(Document::List(listing)) => listing,
                other => panic!("{other:?}"),
            }
        };
        let coded = "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>";
        let first = page(coded, ["calls/a%2Bb.aac", "calls/a%20c+d.aac"]);
        let keys: Vec<&str> = first.objects.iter().map(|o| o.key.as_str()).collect();
        assert_eq!(keys, ["calls/a+b.aac", "calls/a c+d.aac"]);
        assert_eq!(
            first.objects[0].modified,
            Timestamp::parse("2024-03-05T00:03:00Z")
        );
        // Nobody says where it goes on: behind the last key.
        assert_eq!(first.next.as_deref(), Some("calls/a c+d.aac"));
        let named = page(
            "<IsTruncated>true</IsTruncated><NextMarker>m&amp;n%20</NextMarker>",
            ["a%20b", "c&lt;d"],
        );
        assert_eq!(named.next.as_deref(), Some("m&n%20"));
        assert_eq!(
            (named.objects[0].key.as_str(), named.objects[1].key.as_str()),
            ("a%20b", "c<d")
        );
        let last = page(
            "<IsTruncated>false</IsTruncated><NextMarker>x</NextMarker>",
            ["a", "b"],
        );
        assert_eq!(last.next, None);
    }

    #[test]
    fn what_is_no_list_is_told_apart() {
        let error = "<Error>\n\t<Code>SlowDown</Code>\n\t<Resource>/</Resource>\n</Error>";
        assert_eq!(
            read(error.as_bytes()),
            Ok(Document::Error("SlowDown".to_owned()))
        );
        assert_eq!(list(""), Ok(Document::List(Listing::default())));
        for senseless in [
            "",
            "<html><body>busy</body></html>",
            "<ListBucketResult><Contents><Key>a</Key>",
            "{\"Response\":{}}",
            "<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult/>",
            "<ListBucketResult><Name>&who;</Name></ListBucketResult>",
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        ] {
            assert!(read(senseless.as_bytes()).is_err(), "{senseless}");
        }
        let deep = format!("{}{}", "<a>".repeat(99), "</a>".repeat(99));
        assert!(read(deep.as_bytes()).is_err());
    }
}
