//! One connection for one request: resolve, check every answer, connect to a checked address, speak HTTP/1.1.
//!
//! There is no pool on purpose: a kept connection would have been checked under another source's
//! rules, or before a name began to point elsewhere. There is no proxy either, whatever the environment says.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::ConfigBuilderExt;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::address::{Host, Scheme, WebAddress};
use super::guard::{Reach, needed_reach};
use super::{FetchError, FetchErrorKind};

/// The two things asked of the network, so that tests can stand in for it. The guard decides between
/// the two: `connect` sees only addresses that were checked.
#[async_trait]
pub trait Network: Send + Sync + fmt::Debug {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<IpAddr>>;
    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream>;
}

/// The machine's resolver and its network.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemNetwork;

#[async_trait]
impl Network for SystemNetwork {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, port)).await?;
        Ok(found.map(|at| at.ip()).collect())
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(to).await
    }
}

/// How to speak TLS, or why it cannot be spoken.
pub(super) type Trust = Result<Arc<ClientConfig>, String>;

/// Trust in what the machine trusts (`SSL_CERT_FILE` included); an error text when it trusts nobody.
fn system_tls() -> Trust {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_native_roots()
        .map_err(|e| format!("no certificate authorities on this machine: {e}"))?
        .with_no_client_auth();
    Ok(Arc::new(config))
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What one exchange may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For name, connection and TLS together.
    pub connect: Duration,
    /// From the request to the answer's head.
    pub first_byte: Duration,
}

/// An answer whose body still has to come, and the task that drives its connection.
pub(super) struct Exchange {
    pub response: Response<Incoming>,
    pub connection: AbortOnDropHandle<()>,
}

/// Puts the true target in place of the `/` that hyper was given, because hyper's type for targets
/// refuses bytes that signed addresses hold (`"` in a query).
struct RawTarget<S> {
    inner: S,
    /// Bytes of hyper's own `METHOD /` that are still to be swallowed.
    swallow: usize,
    /// What goes out in their place, and how much of it went.
    instead: Bytes,
}

impl<S: AsyncWrite + Unpin> RawTarget<S> {
    fn new(inner: S, method: &http::Method, target: &str) -> Self {
        let instead = format!("{method} {target}");
        Self {
            inner,
            swallow: method.as_str().len() + " /".len(),
            instead: instead.into(),
        }
    }

    fn send_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let _ = self.instead.split_to(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RawTarget<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.swallow > 0 {
            let swallowed = this.swallow.min(bytes.len());
            this.swallow -= swallowed;
            return Poll::Ready(Ok(swallowed));
        }
        ready!(this.send_instead(cx))?;
        Pin::new(&mut this.inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.swallow == 0 {
            ready!(this.send_instead(cx))?;
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RawTarget<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, into)
    }
}

/// Sends `request` (whose own target is `/`) to `to` over a new connection to an address within `reach`.
pub(super) async fn exchange(
    network: &dyn Network,
    tls: &OnceLock<Trust>,
    to: &WebAddress,
    reach: Reach,
    request: Request<Full<Bytes>>,
    patience: Patience,
) -> Result<Exchange, FetchError> {
    let error = |kind, detail: String| FetchError::at(kind, to, detail);
    let until = Instant::now() + patience.connect;
    let tcp = connect(network, to, reach, until).await?;
    let stream: Box<dyn Stream> = match to.scheme {
        Scheme::Http => Box::new(tcp),
        Scheme::Https => {
            let config = tls
                .get_or_init(system_tls)
                .clone()
                .map_err(|why| error(FetchErrorKind::Tls, why))?;
            let name = match &to.host {
                Host::Ip(ip) => ServerName::from(*ip),
                Host::Name(name) => ServerName::try_from(name.clone())
                    .map_err(|_| error(FetchErrorKind::BadAddress, "no name for TLS".into()))?,
            };
            let connector = tokio_rustls::TlsConnector::from(config);
            let shaken = tokio::time::timeout_at(until, connector.connect(name, tcp))
                .await
                .map_err(|_| error(FetchErrorKind::TimedOut, "no TLS handshake in time".into()))?
                .map_err(|e| error(FetchErrorKind::Tls, e.to_string()))?;
            Box::new(shaken)
        }
    };
    let stream = RawTarget::new(stream, request.method(), &to.target);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| FetchError::from_hyper(to, &e))?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // Its errors arrive at the response or at its body.
        let _ = connection.await;
    }));
    let response = timeout(patience.first_byte, sender.send_request(request))
        .await
        .map_err(|_| error(FetchErrorKind::TimedOut, "no answer in time".into()))?
        .map_err(|e| FetchError::from_hyper(to, &e))?;
    Ok(Exchange {
        response,
        connection,
    })
}

/// Connects to the first address behind `to` that is within `reach` and answers.
async fn connect(
    network: &dyn Network,
    to: &WebAddress,
    reach: Reach,
    until: Instant,
) -> Result<TcpStream, FetchError> {
    let error = |kind, detail: String| FetchError::at(kind, to, detail);
    let found = match &to.host {
        Host::Ip(ip) => vec![*ip],
        Host::Name(name) => tokio::time::timeout_at(until, network.resolve(name, to.port))
            .await
            .map_err(|_| {
                error(
                    FetchErrorKind::Dns,
                    "the name was not resolved in time".into(),
                )
            })?
            .map_err(|e| error(FetchErrorKind::Dns, e.to_string()))?,
    };
    if found.is_empty() {
        return Err(error(FetchErrorKind::Dns, "the name has no address".into()));
    }
    let permitted: Vec<IpAddr> = found
        .iter()
        .copied()
        .filter(|ip| needed_reach(*ip) <= reach)
        .collect();
    if permitted.is_empty() {
        return Err(error(
            FetchErrorKind::AddressForbidden,
            "the host leads to no address that may be connected to".into(),
        ));
    }
    let mut last = None;
    for (tried, ip) in permitted.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(permitted.len() - tried).unwrap_or(u32::MAX);
        match timeout(share, network.connect(SocketAddr::new(*ip, to.port))).await {
            Ok(Ok(stream)) => {
                // Requests are small and go out whole; a failure here costs latency, nothing else.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(e)) => last = Some(error(FetchErrorKind::Connect, e.to_string())),
            Err(_) => {
                last = Some(error(
                    FetchErrorKind::TimedOut,
                    "no connection in time".into(),
                ));
            }
        }
    }
    Err(last.unwrap_or_else(|| error(FetchErrorKind::Connect, "no address answered".into())))
}
