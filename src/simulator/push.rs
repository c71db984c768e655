//! How the simulated vendors send their notices: plain HTTP(S) with the patience that each manual describes.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// One request to the customer's address.
#[derive(Clone, Debug)]
pub struct Push {
    pub method: Method,
    pub url: String,
    pub mime: &'static str,
    /// Beside content type and user agent.
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

/// What the customer answered, in time.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Answered {
    /// The number (or text) under `key` in a JSON answer with status 200.
    pub fn code(&self, key: &str) -> Option<serde_json::Value> {
        if self.status != StatusCode::OK {
            return None;
        }
        let answer: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        answer.get(key).cloned()
    }
}

#[derive(Clone, Debug)]
pub struct Pusher {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Pusher {
    pub fn new() -> Self {
        let provider = rustls::crypto::ring::default_provider();
        let connector = match HttpsConnectorBuilder::new().with_provider_and_native_roots(provider)
        {
            Ok(builder) => builder.https_or_http().enable_http1().build(),
            // A machine without any trusted root can still push to http addresses.
            Err(_) => HttpsConnectorBuilder::new()
                .with_tls_config(rootless())
                .https_or_http()
                .enable_http1()
                .build(),
        };
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// One try: none when the address cannot be reached or does not answer whole within `patience`.
    pub async fn send(&self, push: &Push, patience: Duration) -> Option<Answered> {
        let mut request = Request::builder()
            .method(push.method.clone())
            .uri(&push.url)
            .header(header::CONTENT_TYPE, push.mime)
            .header(header::USER_AGENT, "Java/1.8.0_202");
        for (name, value) in &push.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(push.body.clone())).ok()?;
        let talk = async {
            let response = self.client.request(request).await.ok()?;
            let status = response.status();
            let body = Limited::new(response.into_body(), 64 << 10)
                .collect()
                .await
                .ok()?
                .to_bytes();
            Some(Answered { status, body })
        };
        tokio::time::timeout(patience, talk).await.ok()?
    }
}

fn rootless() -> rustls::ClientConfig {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        // Unwrap safety: ring supports the default protocol versions.
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}
