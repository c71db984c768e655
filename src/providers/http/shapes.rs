//! What the client takes and what it gives: limits, requests and answers.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::{MAX_API_BYTES, MediaBody, WebAddress};

/// How long and how much one fetch may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Name, connection and TLS of one hop.
    pub connect: Duration,
    /// From the request to the head of the answer, one hop.
    pub first_byte: Duration,
    /// Between two pieces of the body.
    pub idle: Duration,
    /// The whole fetch may take this long plus one second for every `floor_bytes_per_s` bytes that
    /// came: a slow but steady line is let through, a drip is not.
    pub total: Duration,
    /// 0: `total` is the end whatever came.
    pub floor_bytes_per_s: u64,
    /// Largest file, in bytes, what was there before a resume included.
    pub max_bytes: u64,
}

impl Limits {
    /// For recordings: 10 s to connect, 30 s to the first byte, 30 s of silence, and 60 s plus what
    /// 4 KiB/s take.
    pub fn media(max_bytes: u64) -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(60),
            floor_bytes_per_s: 4096,
            max_bytes,
        }
    }

    /// For vendor APIs: 10 s to connect, `timeout` for the answer and again for all of it.
    pub(super) fn api(timeout: Duration, max_bytes: u64) -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: timeout,
            idle: timeout,
            total: timeout + Duration::from_secs(10),
            floor_bytes_per_s: 0,
            max_bytes,
        }
    }
}

/// Go on behind what is here already. An answer 206 continues; 200 starts again from the beginning
/// (the file changed, or the server cannot); 416 has nothing behind `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeFrom {
    pub offset: u64,
    /// A strong entity tag, or the exact `Last-Modified` text; sent as `If-Range`.
    pub validator: String,
}

/// An answer, whatever its status, with its body still to come.
#[derive(Debug)]
pub struct Fetched {
    pub status: u16,
    /// Bytes that this answer announces; of the rest only, when it is a 206.
    pub content_length: Option<u64>,
    /// First byte and, where told, the length of the whole file, of a 206.
    pub content_range: Option<(u64, Option<u64>)>,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub content_type: Option<String>,
    /// Set when the server coded the bytes although it was asked not to.
    pub content_encoding: Option<String>,
    pub accept_ranges: bool,
    pub retry_after: Option<Duration>,
    /// The bytes come over plain http although https was tried first: note `fetched_plain_http`.
    pub plain_http: bool,
    pub redirects: usize,
    /// Where the body comes from, after all redirects: what a playlist's own addresses are relative to.
    pub at: WebAddress,
    pub body: MediaBody,
}

impl Fetched {
    /// What `If-Range` takes later: a strong tag, else the modification date.
    pub fn validator(&self) -> Option<String> {
        let strong = self.etag.as_ref().filter(|tag| tag.starts_with('"'));
        strong.or(self.last_modified.as_ref()).cloned()
    }
}

/// A small request to a vendor's API.
#[derive(Clone)]
pub struct ApiRequest {
    pub method: Method,
    /// Behind the base address, beginning with `/`; sent byte for byte.
    pub path_and_query: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// How long the vendor may take to answer; 20 s unless it is a long poll.
    pub timeout: Duration,
    /// Largest answer, in bytes.
    pub max_bytes: u64,
}

impl ApiRequest {
    pub fn new(method: Method, path_and_query: impl Into<String>) -> Self {
        Self {
            method,
            path_and_query: path_and_query.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(20),
            max_bytes: MAX_API_BYTES,
        }
    }

    pub fn get(path_and_query: impl Into<String>) -> Self {
        Self::new(Method::GET, path_and_query)
    }

    /// A POST of form fields that are already encoded.
    pub fn form(path_and_query: impl Into<String>, fields: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, path_and_query)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(fields)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// For answers that may be larger than usual.
    #[must_use]
    pub fn at_most(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// Shows neither query nor body: both carry signatures.
impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        write!(f, "ApiRequest({} {path})", self.method)
    }
}

/// A vendor's answer, whatever its status. Redirects of APIs are answers like any other.
#[derive(Clone, Debug)]
pub struct ApiAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}
