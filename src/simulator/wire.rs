//! The simulated vendors' own web server: one that can also cut a body short and reset a connection.
//!
//! A vendor answers with a [`Reply`]; how the bytes leave (whole, too few, broken off) is part of the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::vendor::Simulated;

/// What a client sent, read whole.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    /// Path and query as they came, byte for byte (with scheme and host when the client sent them): what
    /// signatures cover.
    pub target: String,
    /// Percent-decoded path.
    pub path: String,
    /// Fields of the query, then those of a form body; the first of a name counts.
    pub fields: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    /// A header as text; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The first value of a field; empty when it is missing.
    pub fn field(&self, name: &str) -> &str {
        self.fields
            .iter()
            .find(|(field, _)| field == name)
            .map_or("", |(_, value)| value)
    }
}

/// How a body leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    /// About half of the announced bytes, then an orderly end of the connection.
    Half,
    /// About half of the announced bytes, then a reset.
    Reset,
    /// All bytes, while the announced length is this much more.
    Overstated(u64),
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: Vec<(header::HeaderName, String)>,
    pub body: Bytes,
    pub delivery: Delivery,
}

impl Reply {
    pub fn new(status: StatusCode, mime: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![(header::CONTENT_TYPE, mime.to_owned())],
            body: body.into(),
            delivery: Delivery::Whole,
        }
    }

    pub fn json(body: &serde_json::Value) -> Self {
        Self::new(
            StatusCode::OK,
            "application/json;charset=UTF-8",
            body.to_string(),
        )
    }

    pub fn text(status: StatusCode, body: &str) -> Self {
        Self::new(status, "text/plain", body.to_owned())
    }

    pub fn with(mut self, name: header::HeaderName, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// Serves until `stop` turns true, then lets answers on their way finish for at most two seconds.
pub async fn serve(
    listener: TcpListener,
    who: Arc<dyn Simulated>,
    after: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut lines = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while lines.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                lines.spawn(talk(stream, Arc::clone(&who), after, stop.clone()));
            }
            // Out of descriptors, or a peer that left before it was accepted: neither ends the server.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    drop(listener);
    while lines.join_next().await.is_some() {}
}

async fn talk(
    stream: TcpStream,
    who: Arc<dyn Simulated>,
    after: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let reset = Arc::new(AtomicBool::new(false));
    let line = Line {
        stream,
        reset: Arc::clone(&reset),
    };
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (who, reset) = (Arc::clone(&who), Arc::clone(&reset));
        async move {
            let reply = match read(request).await {
                Some(request) => {
                    tokio::time::sleep(after).await;
                    who.answer(&request).await
                }
                None => Reply::text(StatusCode::BAD_REQUEST, "unreadable request"),
            };
            Ok::<_, std::convert::Infallible>(response(reply, reset))
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(line), service);
    tokio::pin!(connection);
    // An error here is a client that left or a break that was asked for; neither is news.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), connection).await;
}

async fn read(request: http::Request<Incoming>) -> Option<Request> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, 1 << 20).collect().await.ok()?.to_bytes();
    let mut fields: Vec<(String, String)> = head
        .uri
        .query()
        .map(|query| {
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect()
        })
        .unwrap_or_default();
    let form = head
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|mime| mime.to_str().ok())
        .is_some_and(|mime| mime.starts_with("application/x-www-form-urlencoded"));
    if form {
        fields.extend(form_urlencoded::parse(&body).into_owned());
    }
    let path = percent_encoding::percent_decode_str(head.uri.path());
    Some(Request {
        target: head.uri.to_string(),
        method: head.method,
        path: path.decode_utf8_lossy().into_owned(),
        fields,
        headers: head.headers,
        body,
    })
}

fn response(reply: Reply, reset: Arc<AtomicBool>) -> Response<BoxBody<Bytes, io::Error>> {
    let whole = reply.body.len() as u64;
    let sent = match reply.delivery {
        Delivery::Whole | Delivery::Overstated(_) => reply.body.clone(),
        Delivery::Half | Delivery::Reset => reply.body.slice(..reply.body.len() / 2),
    };
    let body = match reply.delivery {
        Delivery::Whole => Full::new(sent).map_err(|never| match never {}).boxed(),
        delivery => broken(sent, delivery, reset),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    let announced = match reply.delivery {
        Delivery::Overstated(more) => whole + more,
        _ => whole,
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, announced.into());
    for (name, value) in reply.headers {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    response
}

/// A body that ends before its announced length: by the end of the stream, or by a reset.
fn broken(sent: Bytes, delivery: Delivery, reset: Arc<AtomicBool>) -> BoxBody<Bytes, io::Error> {
    let frames = futures::stream::unfold(Some(sent), move |sent| {
        let reset = Arc::clone(&reset);
        async move {
            if let Some(sent) = sent {
                return Some((Ok(Frame::data(sent)), None));
            }
            // The bytes must have left before the line breaks, or the client would see none of them.
            tokio::time::sleep(Duration::from_millis(60)).await;
            if delivery != Delivery::Reset {
                return None;
            }
            reset.store(true, Ordering::SeqCst);
            Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), None))
        }
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// A connection that ends with a reset instead of a farewell once `reset` is set.
struct Line {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.reset.load(Ordering::SeqCst) {
            // With no time to linger the kernel sends RST on close. Without it the client sees a short body.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
