//! The vendors over real sockets, with a customer who writes down what arrives.

mod aliyun;
mod aliyun_queue;
mod feiyu;
mod vcrtc;
mod yunxin;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;
use crate::domain::clock::{ManualClock, SystemClock, Timestamp};

const NOW: i64 = 1_712_346_600_000;

/// A notice as the customer saw it.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    path: String,
    /// Query and form fields.
    fields: BTreeMap<String, String>,
    body: String,
}

/// A customer who takes every notice, but for the first `refuses`.
#[derive(Clone, Default)]
struct Customer {
    seen: Arc<Mutex<Vec<Seen>>>,
    refuses: Arc<Mutex<u32>>,
}

impl Customer {
    async fn start(&self) -> String {
        async fn take(State(customer): State<Customer>, request: Request) -> (StatusCode, String) {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let body = String::from_utf8(body.to_vec()).unwrap();
            let form = head.uri.query().unwrap_or(&body);
            customer.seen.lock().unwrap().push(Seen {
                method: head.method,
                path: head.uri.path().to_owned(),
                fields: form_urlencoded::parse(form.as_bytes())
                    .into_owned()
                    .collect(),
                body,
            });
            let mut refuses = customer.refuses.lock().unwrap();
            if *refuses > 0 {
                *refuses -= 1;
                return (StatusCode::SERVICE_UNAVAILABLE, String::new());
            }
            (
                StatusCode::OK,
                "{\"resultCode\":0,\"code\":0,\"stored\":1}".to_owned(),
            )
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(take).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        url
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    /// None: the body broke off.
    body: Option<Bytes>,
}

impl Got {
    fn text(&self) -> String {
        String::from_utf8_lossy(self.body.as_deref().unwrap_or_default()).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(self.body.as_deref().unwrap()).unwrap()
    }
}

async fn ask(request: http::Request<Full<Bytes>>) -> Got {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.unwrap();
    let (head, body) = response.into_parts();
    Got {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.ok().map(|body| body.to_bytes()),
    }
}

async fn get(url: &str, headers: &[(&str, &str)]) -> Got {
    let mut request = http::Request::get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(request.body(Full::default()).unwrap()).await
}

async fn post(url: &str, fields: &[(&str, &str)]) -> Got {
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let request =
        http::Request::post(url).header("Content-Type", "application/x-www-form-urlencoded");
    ask(request.body(Full::from(form)).unwrap()).await
}

struct World {
    vendor: Vendor,
    customer: Customer,
    clock: Arc<ManualClock>,
    config: toml::Table,
}

/// A vendor a million times as fast as a real one, whose calls are over.
async fn played(kind: VendorKind, change: impl FnOnce(&mut Options)) -> World {
    let customer = Customer::default();
    let mut options = Options {
        push_to: Some(customer.start().await),
        speed: 1e6,
        mishaps: Mishaps::None,
        calls: 1,
        call_interval: Duration::ZERO,
        ..Options::new("the-source")
    };
    change(&mut options);
    let clock = ManualClock::at(Timestamp::from_ms(NOW));
    let vendor = Vendor::start(kind, options, clock.clone()).await.unwrap();
    vendor.make_calls().await.unwrap();
    let config: toml::Table = vendor.config_block().parse().unwrap();
    let config = config["sources"]["the-source"].as_table().unwrap().clone();
    World {
        vendor,
        customer,
        clock,
        config,
    }
}

impl World {
    fn setting(&self, name: &str) -> &str {
        self.config[name].as_str().unwrap()
    }

    fn line(&self, index: usize) -> LedgerLine {
        self.vendor.ledger()[index].clone()
    }

    /// Asks Feiyu v2 for an address, signed as the manual says, at `ti`.
    async fn record_url(&self, id: &str, ti: i64) -> Got {
        let ti = ti.to_string();
        let au = sign::feiyu_v2(self.setting("app_id"), self.setting("app_token"), &ti);
        self.question("getRecordDownUrl", id, &ti, &au).await
    }

    async fn question(&self, page: &str, id: &str, ti: &str, au: &str) -> Got {
        let url = format!("{}/api/{page}", self.setting("base_url"));
        let app_id = self.setting("app_id");
        post(
            &url,
            &[
                ("appId", app_id),
                ("fyCallId", id),
                ("ti", ti),
                ("ver", "2.1.0"),
                ("au", au),
            ],
        )
        .await
    }

    async fn address(&self, id: &str) -> String {
        let got = self.record_url(id, self.clock_ms()).await;
        got.json()["result"]
            .as_str()
            .unwrap_or_else(|| panic!("{}", got.text()))
            .to_owned()
    }

    /// The first `record_file` that Alibaba pushed.
    fn record_file(&self) -> String {
        let seen = self.customer.seen();
        let push = seen
            .iter()
            .find(|seen| seen.path.ends_with("/VoiceRecordReport"))
            .unwrap();
        let body: Value = serde_json::from_str(&push.body).unwrap();
        let first = if body.is_array() { &body[0] } else { &body };
        first["record_file"].as_str().unwrap().to_owned()
    }

    fn clock_ms(&self) -> i64 {
        use crate::domain::clock::Clock;
        self.clock.now().ms()
    }
}

fn code(got: &Got) -> String {
    let code = got.json()["resultCode"].clone();
    code.as_str()
        .map_or_else(|| code.to_string(), str::to_owned)
}

fn assert_is(line: &LedgerLine, got: &Got) {
    let body = got.body.as_ref().unwrap();
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(line.bytes, Some(body.len() as u64));
    assert_eq!(line.sha256, Some(hex::encode(Sha256::digest(body))));
}

#[tokio::test]
async fn a_later_run_goes_on_and_still_serves_what_the_earlier_one_made() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("served.ndjson");
    let change = |options: &mut Options| {
        options.ledger = Some(ledger.clone());
        options.calls = 3;
    };
    let first = played(VendorKind::Feiyu, change).await;
    first.vendor.stop().await;
    let second = played(VendorKind::Feiyu, change).await;
    second.clock.advance_ms(1);
    let lines: Vec<LedgerLine> = std::fs::read_to_string(&ledger)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines,
        [first.vendor.ledger(), second.vendor.ledger()].concat()
    );
    let hashes: std::collections::BTreeSet<_> =
        lines.iter().map(|line| line.sha256.clone()).collect();
    assert_eq!(hashes.len(), 6);
    for line in lines {
        assert_is(
            &line,
            &get(&second.address(&line.provider_call_id).await, &[]).await,
        );
    }
}

#[tokio::test]
async fn the_same_seed_makes_the_same_ledger_and_an_outage_answers_503() {
    let storm = |options: &mut Options| {
        options.calls = 20;
        options.mishaps = Mishaps::Storm;
    };
    let (one, two) = tokio::join!(
        played(VendorKind::Aliyun, storm),
        played(VendorKind::Aliyun, storm)
    );
    assert_eq!(one.vendor.ledger(), two.vendor.ledger());
    let url = one.record_file();
    one.vendor.set_outage(true);
    assert_eq!(get(&url, &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    one.vendor.set_outage(false);
    assert_ne!(get(&url, &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    one.vendor.stop().await;
    assert!(
        tokio::net::TcpStream::connect(one.vendor.addr())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_wrong_option_is_told_before_anything_starts() {
    let start = |options| Vendor::start(VendorKind::Feiyu, options, Arc::new(SystemClock));
    let slow = Options {
        speed: 0.0,
        ..Options::new("x")
    };
    assert!(matches!(start(slow).await, Err(Error::Speed(_))));
    let odd = Options {
        only: vec!["flood".to_owned()],
        ..Options::new("x")
    };
    assert!(matches!(start(odd).await, Err(Error::UnknownMishap(_))));
    let mute = start(Options::new("x")).await.unwrap();
    assert!(matches!(mute.make_calls().await, Err(Error::NowhereToPush)));
    assert!(matches!(
        "genesys".parse::<VendorKind>(),
        Err(Error::UnknownVendor(_))
    ));
    assert!("storm".parse::<Mishaps>().is_ok() && "hail".parse::<Mishaps>().is_err());
}
