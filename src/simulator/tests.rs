//! The vendors over real sockets, with a customer who writes down what arrives.

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
            (StatusCode::OK, "{\"resultCode\":0,\"code\":0}".to_owned())
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
async fn a_feiyu_call_goes_from_notice_to_sound() {
    let world = played(VendorKind::Feiyu, |options| options.calls = 6).await;
    assert_eq!(world.vendor.ledger().len(), 6);
    let token = world.vendor.hook_token();
    let hooks = format!("/hooks/the-source/{token}");
    for line in world.vendor.ledger() {
        let of_call = |seen: &&Seen| seen.fields.get("fyCallId") == Some(&line.provider_call_id);
        let seen = world.customer.seen();
        let notices: Vec<_> = seen.iter().filter(of_call).collect();
        let actions: Vec<_> = notices
            .iter()
            .filter_map(|n| n.fields.get("action").map(String::as_str))
            .collect();
        assert!(
            actions.contains(&"callhangup") && actions.contains(&"recordEnd"),
            "{actions:?}"
        );
        for notice in &notices {
            assert!(notice.path.starts_with(&hooks), "{}", notice.path);
            assert!(notice.method == Method::GET || !notice.body.is_empty());
            let au = sign::feiyu_v2(
                &notice.fields["appId"],
                world.setting("app_token"),
                &notice.fields["ti"],
            );
            assert_eq!(notice.fields["au"].to_uppercase(), au);
        }
        // Ready not before 15 minutes (here a millisecond) after the call.
        assert_eq!(
            code(&world.record_url(&line.provider_call_id, NOW).await),
            "100023"
        );
    }
    world.clock.advance_ms(1);
    for line in world.vendor.ledger() {
        assert_is(
            &line,
            &get(&world.address(&line.provider_call_id).await, &[]).await,
        );
    }
    assert_eq!(world.vendor.progress().downloads_served, 6);
    assert_eq!(world.vendor.requests()["/api/getRecordDownUrl"], 12);
}

#[tokio::test]
async fn feiyu_refuses_what_the_manual_forbids() {
    let world = played(VendorKind::Feiyu, |_| ()).await;
    world.clock.advance_ms(1);
    let (id, now) = (world.line(0).provider_call_id, NOW + 1);
    assert_eq!(code(&world.record_url(&id, now).await), "0");
    assert_eq!(code(&world.record_url("0000@fy", now).await), "100022");
    for stale in [now - 1_800_001, now + 1_800_001] {
        assert_eq!(code(&world.record_url(&id, stale).await), "100001");
    }
    assert_eq!(code(&world.record_url(&id, now - 1_799_000).await), "0");
    let au = sign::feiyu_v2(
        world.setting("app_id"),
        world.setting("app_token"),
        &now.to_string(),
    );
    for wrong in [
        au.to_lowercase(),
        au.replace(|c: char| c.is_ascii_digit(), "0"),
        String::new(),
    ] {
        let got = world
            .question("getRecordDownUrl", &id, &now.to_string(), &wrong)
            .await;
        assert_eq!(code(&got), "100001");
    }
    let history = world
        .question("fetchCallHistory", &id, &now.to_string(), &au)
        .await
        .json();
    assert_eq!(history["result"]["callEndTime"], NOW);
    assert_eq!(history["result"]["trueIfRecord"], 1);
    let url = format!("{}/api/getRecordDownUrl", world.setting("base_url"));
    assert_eq!(get(&url, &[]).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_feiyu_address_dies_and_another_one_lives() {
    let world = played(VendorKind::Feiyu, |options| {
        options.only = vec!["link_expired".to_owned()]
    })
    .await;
    world.clock.advance_ms(1);
    let line = world.line(0);
    let mut tries = 0;
    let lived = loop {
        let address = world.address(&line.provider_call_id).await;
        let got = get(&address, &[]).await;
        if got.status == StatusCode::OK {
            assert_is(&line, &got);
            break address;
        }
        assert_eq!(got.status, StatusCode::FORBIDDEN);
        tries += 1;
    };
    assert!((1..=2).contains(&tries));
    // 30 minutes are 2 ms here.
    world.clock.advance_ms(3);
    assert_eq!(get(&lived, &[]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(
        get(&lived.replace("k=", "k=0"), &[]).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn what_feiyu_lost_or_never_made_ends_as_planned() {
    let world = played(VendorKind::Feiyu, |options| {
        options.calls = 3;
        options.only = ["gone", "never_recorded", "unannounced"]
            .map(str::to_owned)
            .to_vec();
    })
    .await;
    world.clock.advance_ms(1);
    let lines = world.vendor.ledger();
    let ends: Vec<_> = lines.iter().map(|line| line.expect.as_str()).collect();
    assert_eq!(ends, ["lost", "absent", "none"]);
    assert!(
        lines
            .iter()
            .all(|line| line.sha256.is_none() && line.bytes.is_none())
    );
    let mut confirmed = 0;
    let last = loop {
        let got = world.record_url(&lines[0].provider_call_id, NOW).await;
        let Some(address) = got.json()["result"].as_str().map(str::to_owned) else {
            break code(&got);
        };
        confirmed += 1;
        let status = get(&address, &[]).await.status;
        assert!(status == StatusCode::GONE || status == StatusCode::NOT_FOUND);
    };
    assert_eq!(last, "100024");
    assert!(confirmed >= 1);
    for _ in 0..4 {
        assert_eq!(
            code(&world.record_url(&lines[1].provider_call_id, NOW).await),
            "100023"
        );
    }
    assert!(world.customer.seen().iter().all(|seen| {
        !seen
            .fields
            .values()
            .any(|v| *v == lines[2].provider_call_id)
    }));
}

#[tokio::test]
async fn feiyu_v3_announces_two_legs_and_knows_one_recording() {
    let world = played(VendorKind::Feiyu, |options| options.profile = Profile::V3).await;
    world.clock.advance_ms(1);
    let seen = world.customer.seen();
    let legs: Vec<_> = seen
        .iter()
        .filter(|seen| seen.fields.contains_key("dialBackId"))
        .collect();
    assert_eq!(legs.len(), 2);
    assert_eq!(legs[0].fields["dialBackId"], legs[1].fields["dialBackId"]);
    assert_ne!(legs[0].fields["callId"], legs[1].fields["callId"]);
    assert!(
        legs.iter()
            .all(|leg| leg.path.ends_with("/cdr") && !leg.fields.contains_key("action"))
    );
    let signature = sign::feiyu_v3(world.setting("app_id"), world.setting("app_token"));
    let line = world.line(0);
    for leg in legs {
        assert_eq!(leg.fields["signature"].to_uppercase(), signature);
        let url = format!("{}/api/getRecordDownUrl", world.setting("base_url"));
        let id = leg.fields["callId"].as_str();
        let fields = [
            ("appId", world.setting("app_id")),
            ("callId", id),
            ("curTime", "1"),
            ("signature", &signature),
        ];
        let got = post(&url, &fields).await.json();
        if leg.fields["isRecorded"] == "Y" {
            assert_eq!(got["resultCode"], 0);
            assert_eq!(line.provider_call_id, id);
            assert_is(&line, &get(got["result"].as_str().unwrap(), &[]).await);
        } else {
            assert_eq!(got["resultCode"], 100_022);
        }
    }
}

#[tokio::test]
async fn every_broken_download_heals_and_is_the_ledgers() {
    for mishap in [
        "429",
        "500",
        "reset",
        "truncated",
        "html200",
        "wrong_length",
        "not_ready",
    ] {
        let world = played(VendorKind::Aliyun, |options| {
            options.only = vec![mishap.to_owned()]
        })
        .await;
        let (line, url) = (world.line(0), world.record_file());
        assert_eq!(
            (line.expect.as_str(), &line.mishaps[..]),
            ("archived", &[mishap.to_owned()][..])
        );
        let mut tries = 0;
        loop {
            let got = get(&url, &[]).await;
            let length = got.headers[http::header::CONTENT_LENGTH]
                .to_str()
                .unwrap()
                .parse::<u64>()
                .unwrap();
            let healthy = got.status == StatusCode::OK
                && got.body.as_ref().is_some_and(|b| b.starts_with(b"RIFF"));
            if healthy {
                assert_is(&line, &got);
                break;
            }
            match mishap {
                "429" => assert_eq!(got.status, StatusCode::TOO_MANY_REQUESTS),
                "500" => assert_eq!(got.status, StatusCode::INTERNAL_SERVER_ERROR),
                "html200" => assert!(
                    got.status == StatusCode::OK && got.text().starts_with("<!DOCTYPE html>")
                ),
                "not_ready" => assert_eq!(got.status, StatusCode::NOT_FOUND),
                "wrong_length" => {
                    assert_eq!((got.body, length), (None, line.bytes.unwrap() + 1000))
                }
                _ => assert_eq!((got.body, length), (None, line.bytes.unwrap())),
            }
            tries += 1;
        }
        assert!((1..=2).contains(&tries), "{mishap}: {tries}");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_truncation_is_an_orderly_end() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for (mishap, reset) in [("reset", true), ("truncated", false)] {
        let world = played(VendorKind::Aliyun, |options| {
            options.only = vec![mishap.to_owned()]
        })
        .await;
        let url: http::Uri = world.record_file().parse().unwrap();
        let mut line = tokio::net::TcpStream::connect(world.vendor.addr())
            .await
            .unwrap();
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            url.path_and_query().unwrap()
        );
        line.write_all(head.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let ended = line.read_to_end(&mut bytes).await;
        let broke = ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        assert_eq!(broke, reset, "{mishap}");
        assert!(bytes.len() > 10_000, "{mishap}: {} bytes came", bytes.len());
    }
}

#[tokio::test]
async fn the_bucket_honours_ranges_and_refuses_dead_or_forged_addresses() {
    let world = played(VendorKind::Aliyun, |options| options.speed = 604_800.0).await;
    let (line, url) = (world.line(0), world.record_file());
    let whole = get(&url, &[]).await;
    assert_is(&line, &whole);
    let body = whole.body.unwrap();
    let etag = whole.headers[http::header::ETAG]
        .to_str()
        .unwrap()
        .to_owned();
    let part = get(&url, &[("Range", "bytes=100-"), ("If-Range", &etag)]).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.body.unwrap(), body.slice(100..));
    assert_eq!(
        part.headers[http::header::CONTENT_RANGE],
        format!("bytes 100-{}/{}", body.len() - 1, body.len())
    );
    let other = get(
        &url,
        &[("Range", "bytes=100-"), ("If-Range", "\"another\"")],
    )
    .await;
    assert_eq!(
        (other.status, other.body.unwrap()),
        (StatusCode::OK, body.clone())
    );
    let beyond = get(&url, &[("Range", &format!("bytes={}-", body.len()))]).await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let forged = get(&url.replace("_record.wav", "_record.wav%20"), &[]).await;
    assert_eq!(forged.status, StatusCode::NOT_FOUND);
    let (start, rest) = url.split_once("Expires=").unwrap();
    let (expires, rest) = rest.split_once('&').unwrap();
    let later = format!(
        "{start}Expires={}&{rest}",
        expires.parse::<i64>().unwrap() + 1
    );
    assert!(
        get(&later, &[])
            .await
            .text()
            .contains("<Code>SignatureDoesNotMatch</Code>")
    );
    // Seven days are a second here, and the address says so.
    assert_eq!(expires.parse::<i64>().unwrap(), NOW / 1000 + 1);
    world.clock.advance_ms(1000);
    let dead = get(&url, &[]).await;
    assert_eq!(dead.status, StatusCode::FORBIDDEN);
    assert!(dead.text().contains("Request has expired."));
}

#[tokio::test]
async fn alibaba_pushes_arrays_and_objects_and_repeats_what_was_not_taken() {
    let world = played(VendorKind::Aliyun, |options| options.calls = 12).await;
    let mut announced = Vec::new();
    let (mut arrays, mut several, mut bare) = (0, 0, 0);
    for seen in world.customer.seen() {
        let body: Value = serde_json::from_str(&seen.body).unwrap();
        let elements = match body.as_array() {
            Some(elements) => {
                arrays += 1;
                several += u32::from(elements.len() > 1);
                elements.clone()
            }
            None => {
                bare += 1;
                vec![body]
            }
        };
        match seen.path.rsplit_once('/').unwrap().1 {
            "VoiceRecordReport" => announced.extend(
                elements
                    .iter()
                    .map(|e| e["call_id"].as_str().unwrap().to_owned()),
            ),
            "VoiceReport" => assert!(
                elements
                    .iter()
                    .all(|e| e["end_time"] == "2024-04-06 03:50:00")
            ),
            topic => assert_eq!(topic, "ArtcCdrReport"),
        }
    }
    assert!(
        arrays > 0 && several > 0 && bare > 0,
        "{arrays} {several} {bare}"
    );
    announced.sort();
    let mut made: Vec<_> = world
        .vendor
        .ledger()
        .into_iter()
        .map(|line| line.provider_call_id)
        .collect();
    made.sort();
    assert_eq!(announced, made);

    let world = played(VendorKind::Aliyun, |_| ()).await;
    let before = world.customer.seen().len();
    *world.customer.refuses.lock().unwrap() = 1;
    world.vendor.make_calls().await.unwrap();
    let seen = world.customer.seen().split_off(before);
    let repeats = seen
        .iter()
        .filter(|one| seen.iter().filter(|two| two.body == one.body).count() == 2)
        .count();
    assert_eq!(repeats, 2, "the refused message came again, word for word");
    assert_eq!(world.vendor.progress().pushes_given_up, 0);
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
