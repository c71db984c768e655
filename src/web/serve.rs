//! Listeners and connections: limits on heads, bodies, idle time and numbers, and an end that does not wait for ever.
//!
//! What a newcomer gets wrong: a connection is a cost before it has said anything. Half a head is cut
//! after `HEAD_WITHIN`, a reader that stopped reading after `STALLED_AFTER`. A listener has `MOST_CONNECTIONS` places,
//! and one address half of them; who gets none within `PLACE_WITHIN` is told to come again.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::access::Wire;
use super::patience::Patient;
use super::places::{self, Places};
use super::problem::ApiError;
use super::router;
use super::settings::Settings;
use super::state::WebState;

/// From the connection's opening, or the last answer, to the end of the next request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// A write that makes no progress for so long ends the connection; players come back with a range.
const STALLED_AFTER: Duration = Duration::from_secs(120);
const MOST_CONNECTIONS: usize = 512;
/// Connections that are accepted and have no place; more wait in the kernel's queue.
const MOST_WAITING: usize = 2048;
/// A burst is over by then, and the sender that hangs up first (after 700 ms) still hears an answer.
const PLACE_WITHIN: Duration = Duration::from_millis(400);
const MOST_HEADERS: usize = 64;
/// Head and read buffer of one connection.
const MOST_HEAD_BYTES: usize = 32 * 1024;
/// How long answers that are on their way may take after the word to stop.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// The bound listeners; `hooks` serves `/hooks` and `/healthz` alone.
#[derive(Debug)]
pub struct Listeners {
    pub main: TcpListener,
    pub hooks: Option<TcpListener>,
}

impl Listeners {
    /// Binds what the settings name; the error says which address could not be had. With `any_port` a
    /// taken port of the first listener is replaced by a free one.
    pub async fn bind(settings: &Settings, any_port: bool) -> Result<Self, BindError> {
        let mut main = bind(settings.listen).await;
        if let Err(error) = &main
            && any_port
            && error.source.kind() == std::io::ErrorKind::AddrInUse
        {
            main = bind(SocketAddr::new(settings.listen.ip(), 0)).await;
        }
        Ok(Self {
            main: main?,
            hooks: match settings.hooks_listen {
                Some(address) => Some(bind(address).await?),
                None => None,
            },
        })
    }

    /// Where they really listen, free ports resolved.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            main: self.main.local_addr().ok(),
            hooks: self
                .hooks
                .as_ref()
                .and_then(|hooks| hooks.local_addr().ok()),
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| BindError { address, source })
}

/// Where a running server can be reached from this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub main: Option<SocketAddr>,
    pub hooks: Option<SocketAddr>,
}

impl Addresses {
    /// The page's address, without a trailing slash.
    pub fn page(&self) -> Option<String> {
        self.main.map(from_here)
    }

    /// One line for each listener, for people.
    pub fn lines(&self) -> Vec<String> {
        let page = self
            .main
            .map(|main| format!("pages and API at {}/", from_here(main)));
        let hooks = self
            .hooks
            .map(|hooks| format!("notices also at {}/hooks/", from_here(hooks)));
        page.into_iter().chain(hooks).collect()
    }
}

/// A listener on all addresses is reached on loopback.
fn from_here(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    format!("http://{address}")
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    pub address: SocketAddr,
    pub source: std::io::Error,
}

/// Serves until `stop` is cancelled, then lets answers finish for ten seconds at most.
pub async fn serve(listeners: Listeners, state: WebState, stop: CancellationToken) {
    let all = router::whole(state.clone());
    let main = door(listeners.main, all, stop.clone());
    match listeners.hooks {
        Some(listener) => {
            let hooks = door(listener, router::hooks_only(state), stop);
            tokio::join!(main, hooks);
        }
        None => main.await,
    }
}

async fn door(listener: TcpListener, router: Router, stop: CancellationToken) {
    let bound = match listener.local_addr() {
        Ok(bound) => bound,
        Err(error) => {
            tracing::error!(%error, "a listener has no address");
            return;
        }
    };
    let places = Places::new(MOST_CONNECTIONS);
    let accepted = Arc::new(Semaphore::new(MOST_CONNECTIONS + MOST_WAITING));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepting = async {
            // The permit comes first: who is not accepted costs a place in the kernel's queue only.
            let permit = accepted.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = stop.cancelled() => break,
            // Ended connections are reaped as they end.
            Some(_) = connections.join_next() => {}
            (permit, accepted) = accepting => match accepted {
                Ok((stream, peer)) => {
                    let wire = Wire { listener: bound, peer };
                    let (places, router) = (places.clone(), router.clone());
                    let watcher = graceful.watcher();
                    connections.spawn(async move {
                        let taking = places.take(peer.ip());
                        let Ok(place) = tokio::time::timeout(PLACE_WITHIN, taking).await else {
                            places::turn_away(stream).await;
                            return;
                        };
                        // Resets, time-outs and half requests are the weather, not news.
                        let connection = connection(stream, wire, router);
                        if let Err(error) = watcher.watch(connection).await {
                            tracing::debug!(%error, "a connection ended early");
                        }
                        drop((place, permit));
                    });
                }
                // Out of descriptors, most likely: without a pause this would spin.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    if tokio::time::timeout(FINISH_WITHIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(
            open = connections.len(),
            "cutting connections that did not finish"
        );
    }
    connections.shutdown().await;
}

type Io = TokioIo<Patient<TcpStream>>;

fn connection(
    stream: TcpStream,
    wire: Wire,
    router: Router,
) -> http1::Connection<
    Io,
    impl hyper::service::HttpService<
        hyper::body::Incoming,
        ResBody = Body,
        Error = Infallible,
        Future: Send,
    > + Send,
> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection without TCP_NODELAY");
    }
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(wire);
            let answered = AssertUnwindSafe(router.oneshot(request))
                .catch_unwind()
                .await;
            Ok::<Response, Infallible>(match answered {
                Ok(Ok(response)) => response,
                Ok(Err(impossible)) => match impossible {},
                // The panic itself is in the log with its place; the caller gets a plain answer.
                Err(_) => ApiError::internal("panic").into_response(),
            })
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(MOST_HEADERS)
        .max_buf_size(MOST_HEAD_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream, STALLED_AFTER)), service)
}
