//! Listeners and connections: limits on heads, bodies, idle time and numbers, and an end that does not wait for ever.
//!
//! What a newcomer gets wrong: a connection is a cost before it has said anything. Half a head is cut
//! after [`HEAD_WITHIN`], a reader that stopped reading after [`STALLED_AFTER`], and beyond
//! [`MOST_CONNECTIONS`] per listener new ones wait in the kernel's queue.

use std::convert::Infallible;
use std::future::Future;
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
use tower::ServiceExt;

use super::access::Wire;
use super::patience::Patient;
use super::problem::ApiError;
use super::router;
use super::state::WebState;

/// From the connection's opening, or the last answer, to the end of the next request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// A write that makes no progress for so long ends the connection; players come back with a range.
const STALLED_AFTER: Duration = Duration::from_secs(120);
const MOST_CONNECTIONS: usize = 512;
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
    /// Binds what the settings name; the error says which address could not be had.
    pub async fn bind(settings: &super::settings::Settings) -> Result<Self, BindError> {
        let bind = |address: SocketAddr| async move {
            TcpListener::bind(address)
                .await
                .map_err(|source| BindError { address, source })
        };
        Ok(Self {
            main: bind(settings.listen).await?,
            hooks: match settings.hooks_listen {
                Some(address) => Some(bind(address).await?),
                None => None,
            },
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    pub address: SocketAddr,
    pub source: std::io::Error,
}

/// Serves until `shutdown` resolves, then lets answers finish for ten seconds at most.
pub async fn serve(
    listeners: Listeners,
    state: WebState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let shutdown = shutdown.shared();
    let all = router::whole(state.clone());
    let main = door(listeners.main, all, shutdown.clone());
    match listeners.hooks {
        Some(listener) => {
            let hooks = door(listener, router::hooks_only(state), shutdown);
            tokio::join!(main, hooks);
        }
        None => main.await,
    }
}

async fn door(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let bound = match listener.local_addr() {
        Ok(bound) => bound,
        Err(error) => {
            tracing::error!(%error, "a listener has no address");
            return;
        }
    };
    let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            // The permit comes first: who is not accepted costs a place in the kernel's queue only.
            let permit = permits.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            // Ended connections are reaped as they end.
            Some(_) = connections.join_next() => {}
            (permit, accepted) = accepted => match accepted {
                Ok((stream, peer)) => {
                    let wire = Wire { listener: bound, peer };
                    let connection = connection(stream, wire, router.clone());
                    let watched = graceful.watch(connection);
                    connections.spawn(async move {
                        // Resets, time-outs and half requests are the weather, not news.
                        if let Err(error) = watched.await {
                            tracing::debug!(%error, "a connection ended early");
                        }
                        drop(permit);
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
