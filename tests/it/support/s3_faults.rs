//! A proxy before an S3 server that does to chosen requests what networks and stores do.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use callvault::domain::digest::Sha256;
use futures::StreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::s3::S3TestServer;

/// What happens to one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The store does it, the answer is lost.
    LoseAnswer,
    /// The store never sees it; this status and S3 code are the answer.
    AnswerInstead(u16, &'static str),
    /// The store does it, and this is the answer.
    AnswerAfter(u16, &'static str),
    /// The head promises everything, the body ends after so many bytes.
    CutBody(usize),
    /// The body stops after so many bytes and nothing more ever comes.
    StallBody(usize),
    /// Neither answer nor end.
    Stall,
    /// One bit of the answer's body is another.
    FlipBit,
    /// One bit of the request's body is another when it comes to the store.
    FlipSentBit,
}

type Rule = (Method, &'static str, Fault);

#[derive(Debug, Default)]
struct State {
    rules: Mutex<Vec<Rule>>,
    always: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<String>>,
    sums: Mutex<Vec<(String, bool)>>,
}

pub struct FaultyS3 {
    pub server: S3TestServer,
    state: Arc<State>,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// `server` behind a proxy; the returned server's endpoint is the proxy's.
pub async fn faulty(mut server: S3TestServer) -> FaultyS3 {
    let state = Arc::new(State::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let upstream = std::mem::replace(&mut server.endpoint, endpoint);
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let shared = state.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (state, client, upstream) = (shared.clone(), client.clone(), upstream.clone());
            let service = service_fn(move |request| {
                handle(state.clone(), client.clone(), upstream.clone(), request)
            });
            tokio::spawn(async move {
                let socket = TokioIo::new(socket);
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(socket, service)
                    .await;
            });
        }
    });
    FaultyS3 { server, state }
}

impl FaultyS3 {
    /// The next request with this method whose target contains `part` meets `fault`. Rules wait in order.
    pub fn once(&self, method: Method, part: &'static str, fault: Fault) {
        self.state.rules.lock().unwrap().push((method, part, fault));
    }

    /// Every such request.
    pub fn always(&self, method: Method, part: &'static str, fault: Fault) {
        self.state
            .always
            .lock()
            .unwrap()
            .push((method, part, fault));
    }

    /// How many requests with this method and part in the target came so far.
    pub fn count(&self, method: &Method, part: &str) -> usize {
        let seen = self.state.seen.lock().unwrap();
        seen.iter()
            .filter(|line| line.starts_with(method.as_str()) && line.contains(part))
            .count()
    }

    /// Puts with this part in the target, and whether each carried the true SHA-256 of its body.
    pub fn sums(&self, part: &str) -> Vec<bool> {
        let sums = self.state.sums.lock().unwrap();
        let of_part = sums.iter().filter(|(target, _)| target.contains(part));
        of_part.map(|(_, is_true)| *is_true).collect()
    }

    /// Rules that no request has met: a test that leaves one did not test what it says.
    pub fn unmet(&self) -> usize {
        self.state.rules.lock().unwrap().len()
    }
}

fn fault_for(state: &State, method: &Method, target: &str) -> Option<Fault> {
    let matches = |rule: &Rule| rule.0 == *method && target.contains(rule.1);
    let mut rules = state.rules.lock().unwrap();
    if let Some(i) = rules.iter().position(matches) {
        return Some(rules.remove(i).2);
    }
    let always = state.always.lock().unwrap();
    always
        .iter()
        .find(|rule| matches(rule))
        .map(|rule| rule.2.clone())
}

async fn handle(
    state: Arc<State>,
    client: Client<HttpConnector, Full<Bytes>>,
    upstream: String,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let target = request.uri().path_and_query().unwrap().to_string();
    let line = format!("{} {target}", request.method());
    state.seen.lock().unwrap().push(line);
    let fault = fault_for(&state, request.method(), &target);
    let lost = || std::io::Error::other("cut by the test");
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| lost())?.to_bytes();
    if parts.method == Method::PUT {
        let sent = parts.headers.get("x-amz-checksum-sha256");
        let truth = BASE64_STANDARD.encode(Sha256::of(&body).as_bytes());
        let is_true = sent.is_some_and(|sent| sent.as_bytes() == truth.as_bytes());
        state.sums.lock().unwrap().push((target.clone(), is_true));
    }
    let body = match fault {
        Some(Fault::FlipSentBit) => {
            let mut bytes = body.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes.into()
        }
        _ => body,
    };
    match fault {
        Some(Fault::Stall) => std::future::pending::<()>().await,
        Some(Fault::AnswerInstead(status, code)) => return Ok(refusal(status, code)),
        _ => {}
    }
    // The host stays the proxy's: it is part of what the client signed.
    let mut forwarded = Request::builder()
        .method(parts.method)
        .uri(format!("{upstream}{target}"))
        .body(Full::new(body))
        .unwrap();
    *forwarded.headers_mut() = parts.headers;
    let answer = client.request(forwarded).await.map_err(|_| lost())?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| lost())?.to_bytes();
    let whole = |body: Bytes| Full::new(body).map_err(never).boxed_unsync();
    match fault {
        Some(Fault::LoseAnswer) => Err(lost()),
        Some(Fault::AnswerAfter(status, code)) => Ok(refusal(status, code)),
        Some(Fault::CutBody(n)) => Ok(promised(head.status, head.headers, body, n, false)),
        Some(Fault::StallBody(n)) => Ok(promised(head.status, head.headers, body, n, true)),
        Some(Fault::FlipBit) => {
            let mut bytes = body.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Ok(Response::from_parts(head, whole(bytes.into())))
        }
        _ => Ok(Response::from_parts(head, whole(body))),
    }
}

fn never(e: Infallible) -> std::io::Error {
    match e {}
}

fn refusal(status: u16, code: &str) -> Response<Body> {
    let xml = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    let body = if code.is_empty() { String::new() } else { xml };
    Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .header("retry-after", "7")
        .body(Full::new(Bytes::from(body)).map_err(never).boxed_unsync())
        .unwrap()
}

fn promised(
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    n: usize,
    stall: bool,
) -> Response<Body> {
    let first = Ok(Frame::data(body.slice(..n.min(body.len()))));
    let rest = async move {
        if stall {
            std::future::pending::<()>().await;
        }
        // Until the head and the first piece have left; an error at once would drop them too.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        Err(std::io::Error::other("cut by the test"))
    };
    let frames = futures::stream::iter([first]).chain(futures::stream::once(rest));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
