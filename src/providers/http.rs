//! The only client for foreign addresses: checks host and resolved address at connect time, on every hop.
//!
//! Recordings are fetched with [`GuardedClient::fetch`] under their source's [`GuardPolicy`]; vendor
//! APIs that the operator configured are asked with [`GuardedClient::call`]. What a newcomer gets wrong:
//! the address is never rewritten, because a signature covers its very bytes.

mod address;
mod body;
mod error;
mod guard;
mod shapes;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::Full;
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::domain::clock::{SharedClock, Timestamp};

use super::settings::{BaseUrl, HttpLinks};

pub use address::{Host, Scheme, Unusable, WebAddress, read_host};
pub use body::MediaBody;
pub use error::{FetchError, FetchErrorKind};
pub use guard::{GuardPolicy, Reach, needed_reach};
pub use shapes::{ApiAnswer, ApiRequest, Fetched, Limits, ResumeFrom};
pub use wire::{Network, SystemNetwork};

/// Most redirects that are followed for one recording.
pub const MAX_REDIRECTS: usize = 5;
/// Largest answer of a vendor's API, in bytes, unless the request says otherwise.
pub const MAX_API_BYTES: u64 = 1024 * 1024;
/// How long a host that did not speak https is asked by plain http at once (`try_https`).
const HTTPS_MEMORY: Duration = Duration::from_secs(600);
const USER_AGENT: &str = concat!("callvault/", env!("CARGO_PKG_VERSION"));

/// Fetches foreign addresses, and nothing else does. Cheap to share; keeps no connection.
pub struct GuardedClient {
    network: Arc<dyn Network>,
    /// Made at the first https connection: reading the machine's authorities takes its time.
    tls: OnceLock<wire::Trust>,
    clock: SharedClock,
    /// Hosts (with port) that did not speak https, and since when.
    plain_hosts: Mutex<HashMap<String, Instant>>,
}

impl fmt::Debug for GuardedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedClient")
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl GuardedClient {
    pub fn new(clock: SharedClock) -> Self {
        Self::with_network(clock, Arc::new(SystemNetwork))
    }

    /// With another resolver and another way to connect; the guard stays the same.
    pub fn with_network(clock: SharedClock, network: Arc<dyn Network>) -> Self {
        Self {
            network,
            tls: OnceLock::new(),
            clock,
            plain_hosts: Mutex::default(),
        }
    }

    /// Trusts `config` in place of the machine's certificate authorities.
    #[must_use]
    pub fn with_tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = OnceLock::from(Ok(config));
        self
    }

    /// Fetches `url` as `policy` allows, following redirects, up to the head of the final answer.
    ///
    /// Any status is an answer. `headers` go to the first host only.
    pub async fn fetch(
        &self,
        policy: &GuardPolicy,
        url: &str,
        headers: &[(String, String)],
        resume: Option<&ResumeFrom>,
        limits: &Limits,
    ) -> Result<Fetched, FetchError> {
        let started = Instant::now();
        let first = WebAddress::parse(url).map_err(|why| FetchError::unusable(url, why))?;
        let mut own = header_map(&first, headers)?;
        let mut shared = HeaderMap::new();
        if let Some(resume) = resume {
            let range = format!("bytes={}-", resume.offset);
            put(&mut shared, &first, header::RANGE, &range)?;
            put(&mut shared, &first, header::IF_RANGE, &resume.validator)?;
        }
        let mut address = first.clone();
        for redirects in 0..=MAX_REDIRECTS {
            if redirects > 0 && !address.same_host(&first) {
                own.clear(); // once away, they do not come back even if the path does
            }
            let mut all = own.clone();
            all.extend(shared.clone());
            let hop = self.hop(policy, &address, &all, limits).await?;
            if let Some(next) = redirect_of(&hop.at, &hop.exchange.response)? {
                address = next;
                continue;
            }
            return self.fetched(hop, redirects, resume, limits, started);
        }
        Err(FetchError::at(
            FetchErrorKind::TooManyRedirects,
            &first,
            format!("more than {MAX_REDIRECTS} redirects"),
        ))
    }

    /// Asks a vendor's API. The host of `base` may be anywhere, private too: the operator wrote it.
    pub async fn call(&self, base: &BaseUrl, request: ApiRequest) -> Result<ApiAnswer, FetchError> {
        let target = format!("{}{}", base.as_str(), request.path_and_query);
        let to = WebAddress::parse(&target).map_err(|why| FetchError::unusable(&target, why))?;
        self.call_at(to, Reach::Anything, request).await
    }

    /// Asks an address that another answer told, as far as `policy` lets us; `path_and_query` of the request is not
    /// looked at. Redirects are answers like any other.
    pub async fn call_told(
        &self,
        policy: &GuardPolicy,
        url: &str,
        request: ApiRequest,
    ) -> Result<ApiAnswer, FetchError> {
        let to = WebAddress::parse(url).map_err(|why| FetchError::unusable(url, why))?;
        if to.scheme == Scheme::Http && policy.http_links == HttpLinks::Refuse {
            let detail = "only https is allowed here";
            return Err(FetchError::at(
                FetchErrorKind::PlainHttpRefused,
                &to,
                detail,
            ));
        }
        if !policy.allows_host(&to) {
            let host = to.authority();
            let detail = format!("{host} is not allowed");
            return Err(FetchError::at(
                FetchErrorKind::HostNotAllowed { host },
                &to,
                detail,
            ));
        }
        let reach = policy.reach(&to);
        self.call_at(to, reach, request).await
    }

    async fn call_at(
        &self,
        to: WebAddress,
        reach: Reach,
        request: ApiRequest,
    ) -> Result<ApiAnswer, FetchError> {
        let started = Instant::now();
        let limits = Limits::api(request.timeout, request.max_bytes);
        let headers = header_map(&to, &request.headers)?;
        let out = build(&to, request.method, headers, request.body)?;
        let exchange = wire::exchange(
            &*self.network,
            &self.tls,
            &to,
            reach,
            out,
            patience(&limits),
        )
        .await?;
        let (head, incoming) = exchange.response.into_parts();
        let body = MediaBody::new(
            incoming,
            exchange.connection,
            to,
            started,
            &limits,
            limits.max_bytes,
        );
        Ok(ApiAnswer {
            status: head.status.as_u16(),
            retry_after: self.retry_after(&head.headers),
            headers: head.headers,
            body: body.collect().await?,
        })
    }

    /// One hop, by https first where the address says http and the policy wants it so.
    async fn hop(
        &self,
        policy: &GuardPolicy,
        address: &WebAddress,
        headers: &HeaderMap,
        limits: &Limits,
    ) -> Result<Hop, FetchError> {
        if address.scheme == Scheme::Https {
            return self.ask(policy, address, headers, limits).await;
        }
        match policy.http_links {
            HttpLinks::Refuse => Err(FetchError::at(
                FetchErrorKind::PlainHttpRefused,
                address,
                "http_links = \"refuse\" allows https only",
            )),
            HttpLinks::Allow => self.ask(policy, address, headers, limits).await,
            HttpLinks::TryHttps => {
                let secure = address.by_https();
                if policy.allows_host(&secure) && !self.is_known_plain(&secure) {
                    match self.ask(policy, &secure, headers, limits).await {
                        // A server for another site may answer by https: its "no" proves nothing
                        // about an address that was given as http.
                        Ok(hop) if !is_no(hop.exchange.response.status().as_u16()) => {
                            return Ok(hop);
                        }
                        Ok(_) => {}
                        Err(e) if e.kind == FetchErrorKind::AddressForbidden => return Err(e),
                        Err(_) => self.remember_plain(&secure),
                    }
                }
                let mut hop = self.ask(policy, address, headers, limits).await?;
                hop.fell_back = true;
                Ok(hop)
            }
        }
    }

    async fn ask(
        &self,
        policy: &GuardPolicy,
        address: &WebAddress,
        headers: &HeaderMap,
        limits: &Limits,
    ) -> Result<Hop, FetchError> {
        if !policy.allows_host(address) {
            let host = address.authority();
            let detail = format!("allow_hosts does not name {host}");
            return Err(FetchError::at(
                FetchErrorKind::HostNotAllowed { host },
                address,
                detail,
            ));
        }
        let request = build(address, Method::GET, headers.clone(), Bytes::new())?;
        let exchange = wire::exchange(
            &*self.network,
            &self.tls,
            address,
            policy.reach(address),
            request,
            patience(limits),
        )
        .await?;
        Ok(Hop {
            at: address.clone(),
            exchange,
            fell_back: false,
        })
    }

    fn fetched(
        &self,
        hop: Hop,
        redirects: usize,
        resume: Option<&ResumeFrom>,
        limits: &Limits,
        started: Instant,
    ) -> Result<Fetched, FetchError> {
        let (head, incoming) = hop.exchange.response.into_parts();
        let text = |name: HeaderName| {
            let value = head.headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let status = head.status.as_u16();
        let content_length = text(header::CONTENT_LENGTH).and_then(|n| n.trim().parse().ok());
        let content_range = (status == 206)
            .then(|| text(header::CONTENT_RANGE))
            .flatten()
            .and_then(|range| read_content_range(&range));
        let before = match (resume, status) {
            (Some(resume), 206) => resume.offset,
            _ => 0,
        };
        let left = limits.max_bytes.saturating_sub(before);
        if let Some(announced) = content_length.filter(|&announced: &u64| announced > left) {
            return Err(FetchError::at(
                FetchErrorKind::TooLarge,
                &hop.at,
                format!(
                    "{announced} bytes announced behind {before}, at most {} taken",
                    limits.max_bytes
                ),
            ));
        }
        Ok(Fetched {
            status,
            content_length,
            content_range,
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
            content_type: text(header::CONTENT_TYPE),
            content_encoding: text(header::CONTENT_ENCODING)
                .filter(|coding| !coding.eq_ignore_ascii_case("identity")),
            accept_ranges: text(header::ACCEPT_RANGES)
                .is_some_and(|unit| unit.eq_ignore_ascii_case("bytes")),
            retry_after: self.retry_after(&head.headers),
            plain_http: hop.fell_back,
            redirects,
            at: hop.at.clone(),
            body: MediaBody::new(
                incoming,
                hop.exchange.connection,
                hop.at,
                started,
                limits,
                left,
            ),
        })
    }

    /// Seconds, or a date that is compared with our clock; never negative, at most a day.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        let seconds = match text.parse::<u64>() {
            Ok(seconds) => seconds,
            Err(_) => {
                let at = chrono::DateTime::parse_from_rfc2822(text).ok()?;
                let at = Timestamp::from_ms(at.timestamp_millis());
                u64::try_from(at.since_ms(self.clock.now()).max(0)).ok()? / 1000
            }
        };
        Some(Duration::from_secs(seconds.min(24 * 3600)))
    }

    fn is_known_plain(&self, secure: &WebAddress) -> bool {
        let hosts = self.plain_hosts.lock();
        hosts
            .unwrap_or_else(PoisonError::into_inner)
            .get(&secure.authority())
            .is_some_and(|since| since.elapsed() < HTTPS_MEMORY)
    }

    fn remember_plain(&self, secure: &WebAddress) {
        let hosts = self.plain_hosts.lock();
        let mut hosts = hosts.unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, since| since.elapsed() < HTTPS_MEMORY);
        hosts.insert(secure.authority(), Instant::now());
    }
}

struct Hop {
    at: WebAddress,
    exchange: wire::Exchange,
    fell_back: bool,
}

fn patience(limits: &Limits) -> wire::Patience {
    wire::Patience {
        connect: limits.connect,
        first_byte: limits.first_byte,
    }
}

fn put(
    map: &mut HeaderMap,
    at: &WebAddress,
    name: HeaderName,
    value: &str,
) -> Result<(), FetchError> {
    let value = HeaderValue::from_str(value).map_err(|_| {
        FetchError::at(
            FetchErrorKind::BadAddress,
            at,
            format!("a value for {name} that cannot be sent"),
        )
    })?;
    map.append(name, value);
    Ok(())
}

fn header_map(at: &WebAddress, headers: &[(String, String)]) -> Result<HeaderMap, FetchError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::try_from(name.as_str()).map_err(|_| {
            FetchError::at(
                FetchErrorKind::BadAddress,
                at,
                "a header name that cannot be sent",
            )
        })?;
        put(&mut map, at, name, value)?;
    }
    Ok(map)
}

fn build(
    to: &WebAddress,
    method: Method,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, FetchError> {
    let mut put_own = |name: HeaderName, value: &str| {
        headers.remove(&name);
        put(&mut headers, to, name, value)
    };
    put_own(header::HOST, &to.authority())?;
    // One request for one connection; and the bytes as they are, never packed.
    put_own(header::CONNECTION, "close")?;
    put_own(header::ACCEPT_ENCODING, "identity")?;
    headers
        .entry(header::ACCEPT)
        .or_insert(HeaderValue::from_static("*/*"));
    headers
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static(USER_AGENT));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    // The true target is put in on the wire, byte for byte.
    *request.uri_mut() = Uri::from_static("/");
    *request.headers_mut() = headers;
    Ok(request)
}

/// A refusal of this address; being told to slow down is none.
const fn is_no(status: u16) -> bool {
    matches!(status, 400..=428 | 430..=499)
}

/// Where a redirect leads; `None` when the answer is none.
fn redirect_of<B>(
    at: &WebAddress,
    response: &http::Response<B>,
) -> Result<Option<WebAddress>, FetchError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(header::LOCATION) else {
        return Ok(None);
    };
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| {
        FetchError::at(
            FetchErrorKind::BadAddress,
            at,
            "a redirect whose target is not text",
        )
    })?;
    let next = at
        .join(location)
        .map_err(|why| FetchError::unusable(location, why))?;
    Ok(Some(next))
}

/// `bytes 100-199/1000` as (100, Some(1000)).
fn read_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        digits => Some(digits.parse().ok()?),
    };
    Some((first.trim().parse().ok()?, total))
}

#[cfg(test)]
mod tests;
