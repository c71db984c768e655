//! A small HTTP client and raw sockets, for tests that look at every byte of an answer.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for a loaded machine; only a hang gets there.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("header text"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    /// The code of a problem, `not_found` and the like.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        let kind = problem["type"].as_str().expect("a type");
        kind.strip_prefix("urn:callvault:")
            .expect("our own type")
            .to_owned()
    }
}

/// Asks with exactly the headers given; `host` is `localhost` unless they hold one.
pub async fn ask(
    to: SocketAddr,
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let asked = async {
        let stream = TcpStream::connect(to).await.expect("a listener");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("a handshake");
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target);
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("the whole body").to_bytes();
        drop(sender);
        driver.abort();
        Answer {
            status: head.status,
            headers: head.headers,
            body,
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .expect("an answer in time")
}

pub async fn get(to: SocketAddr, target: &str) -> Answer {
    ask(to, Method::GET, target, &[], Bytes::new()).await
}

pub async fn get_with(to: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Answer {
    ask(to, Method::GET, target, headers, Bytes::new()).await
}

pub async fn post(to: SocketAddr, target: &str, body: impl Into<Bytes>) -> Answer {
    let json = [("content-type", "application/json")];
    ask(to, Method::POST, target, &json, body).await
}

/// Sends bytes as they are and reads until the other side is done.
pub async fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let talked = async {
        let mut stream = TcpStream::connect(to).await.expect("a listener");
        stream.write_all(bytes).await.expect("sent");
        let mut answer = Vec::new();
        // A reset after the answer is an end like another.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(PATIENCE, talked)
        .await
        .expect("an end in time")
}
