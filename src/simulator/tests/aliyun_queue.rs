//! Alibaba's queue service and gateway, asked byte by byte: signatures in every habit of the vendor's clients,
//! visibility, handles, and refusals.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use md5::Md5;

use super::*;

const DATE: &str = "Fri, 05 Apr 2024 19:50:00 GMT";

async fn queue_world() -> World {
    played(VendorKind::Aliyun, |options| {
        options.profile = Profile::Queue;
        options.calls = 0;
        options.speed = 1.0;
    })
    .await
}

#[derive(Clone)]
struct Token {
    id: String,
    secret: String,
    security: String,
}

impl World {
    fn queue(&self) -> String {
        self.config["queues"]["VoiceRecordReport"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A question in signature version 1, as one JSON answer.
    async fn gateway(&self, fields: &[(&str, &str)], spoil: impl FnOnce(&mut String)) -> Got {
        let mut all: Vec<(String, String)> = [
            ("AccessKeyId", self.setting("access_key_id")),
            ("Format", "JSON"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2024-04-05T19:50:00Z"),
            ("Version", "2017-05-25"),
        ]
        .iter()
        .filter(|(name, _)| fields.iter().all(|(field, _)| field != name))
        .chain(fields)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
        all.sort();
        let query = sign::pop_query(&all);
        let (_, mut signature) = sign::pop_v1(self.setting("access_key_secret"), "POST", &query);
        spoil(&mut signature);
        let url = format!(
            "http://{}/?{query}&Signature={}",
            self.vendor.addr(),
            sign::pop_encoded(&signature)
        );
        ask(http::Request::post(url).body(Full::default()).unwrap()).await
    }

    async fn token(&self, nonce: &str) -> Token {
        let asked = [
            ("Action", "QueryTokenForMnsQueue"),
            ("MessageType", "VoiceRecordReport"),
            ("SignatureNonce", nonce),
        ];
        let got = self.gateway(&asked, |_| ()).await;
        let dto = got.json()["MessageTokenDTO"].clone();
        let text = |name: &str| dto[name].as_str().unwrap().to_owned();
        Token {
            id: text("AccessKeyId"),
            secret: text("AccessKeySecret"),
            security: text("SecurityToken"),
        }
    }

    /// A request as the vendor's Python client makes it.
    async fn mns(&self, token: &Token, method: &str, target: &str, body: &str) -> Got {
        let mime = if body.is_empty() {
            ""
        } else {
            "text/xml;charset=UTF-8"
        };
        self.mns_as(token, method, target, body, mime, "", |_| ())
            .await
    }

    #[allow(clippy::too_many_arguments)]
    async fn mns_as(
        &self,
        token: &Token,
        method: &str,
        target: &str,
        body: &str,
        mime: &str,
        md5: &str,
        spoil: impl FnOnce(&mut Vec<(String, String)>),
    ) -> Got {
        let own = [("x-mns-version".to_owned(), "2015-06-06".to_owned())];
        let signature = sign::mns(&token.secret, [method, md5, mime, DATE], &own, target);
        let mut headers = vec![
            ("Date".to_owned(), DATE.to_owned()),
            ("x-mns-version".to_owned(), "2015-06-06".to_owned()),
            (
                "Authorization".to_owned(),
                format!("MNS {}:{signature}", token.id),
            ),
            ("security-token".to_owned(), token.security.clone()),
        ];
        for (name, value) in [("Content-Type", mime), ("Content-MD5", md5)] {
            if !value.is_empty() {
                headers.push((name.to_owned(), value.to_owned()));
            }
        }
        spoil(&mut headers);
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{target}", self.vendor.addr()));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        ask(request
            .body(Full::from(Bytes::from(body.to_owned())))
            .unwrap())
        .await
    }

    async fn send(&self, token: &Token, bodies: usize) {
        for n in 0..bodies {
            let body = format!("<Message><MessageBody>{{\"n\":{n}}}</MessageBody></Message>");
            let target = format!("/queues/{}/messages", self.queue());
            let got = self.mns(token, "POST", &target, &body).await;
            assert_eq!(got.status, StatusCode::CREATED, "{}", got.text());
        }
    }
}

fn between<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open)
        .skip(1)
        .map(|rest| rest.split(&close).next().unwrap())
        .collect()
}

#[test]
fn the_simulators_own_signatures_are_the_vendors_too() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/providers/aliyun/vectors.json"
    );
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let pairs = |value: &Value| -> Vec<(String, String)> {
        let members = value.as_object().unwrap().iter();
        members
            .map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned()))
            .collect()
    };
    let text = |case: &Value, name: &str| case[name].as_str().unwrap_or_default().to_owned();
    for case in vectors["pop_rpc_hmac_sha1"].as_array().unwrap() {
        let mut fields = pairs(&case["query_params"]);
        fields.extend(pairs(&case["form_params"]));
        let query = sign::pop_query(&fields);
        let secret = text(case, "access_key_secret");
        let signed = sign::pop_v1(&secret, &text(case, "method"), &query);
        assert_eq!(
            signed,
            (text(case, "string_to_sign"), text(case, "signature"))
        );
    }
    for case in vectors["acs3_hmac_sha256"].as_array().unwrap() {
        let query = sign::pop_query(&pairs(&case["query_params"]));
        let mut lines = pairs(&case["headers"]);
        lines.sort();
        let (string, signature) = sign::pop_acs3(
            &text(case, "access_key_secret"),
            "POST",
            &query,
            &lines,
            b"",
        );
        assert_eq!(string, text(case, "string_to_sign"));
        assert_eq!(signature, text(case, "signature"));
    }
    for case in vectors["mns_hmac_sha1"].as_array().unwrap() {
        let headers = pairs(&case["headers"]);
        let value = |name: &str| {
            let found = headers.iter().find(|(header, _)| header == name);
            found.map_or(String::new(), |(_, value)| value.clone())
        };
        let (md5, mime, date) = (value("content-md5"), value("content-type"), value("date"));
        let own: Vec<_> = headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-mns-"))
            .cloned()
            .collect();
        let method = text(case, "method");
        let signed = sign::mns(
            &text(case, "access_key_secret"),
            [&method, &md5, &mime, &date],
            &own,
            &text(case, "request_target"),
        );
        assert_eq!(signed, text(case, "signature"), "{}", case["name"]);
    }
}

#[tokio::test]
async fn messages_hide_come_again_and_die_by_their_handles() {
    let world = queue_world().await;
    let token = world.token("n1").await;
    let messages = format!("/queues/{}/messages", world.queue());
    let empty = world.mns(&token, "GET", &messages, "").await;
    assert_eq!(empty.status, StatusCode::NOT_FOUND);
    assert!(empty.text().contains("<Code>MessageNotExist</Code>"));
    assert_eq!(empty.headers["server"], "AliyunMNS");
    assert!(empty.headers.contains_key("x-mns-request-id"));
    world.send(&token, 20).await;
    let batch = format!("{messages}?numOfMessages=16");
    let first = world.mns(&token, "GET", &batch, "").await.text();
    assert_eq!(between(&first, "MessageId").len(), 16, "{first}");
    assert!(between(&first, "DequeueCount").iter().all(|n| *n == "1"));
    let rest = world.mns(&token, "GET", &batch, "").await.text();
    assert_eq!(between(&rest, "MessageId").len(), 4);
    let handles = between(&first, "ReceiptHandle");
    // Raw signs in the target: a plus is a plus.
    let special = handles.iter().find(|handle| handle.contains('+')).unwrap();
    let one = format!("{messages}?ReceiptHandle={special}");
    assert_eq!(world.mns(&token, "DELETE", &one, "").await.status, 204);
    assert_eq!(world.mns(&token, "DELETE", &one, "").await.status, 404);
    let others: Vec<_> = handles.iter().filter(|handle| *handle != special).collect();
    let hide = format!(
        "{messages}?receiptHandle={}&visibilityTimeout=60",
        others[0]
    );
    let hidden = world.mns(&token, "PUT", &hide, "").await.text();
    let new = between(&hidden, "ReceiptHandle")[0];
    assert!(new != *others[0]);
    assert_eq!(
        between(&hidden, "NextVisibleTime"),
        [(NOW + 60_000).to_string()]
    );
    // The old handle is dead, the others go: partly done.
    let list: String = others
        .iter()
        .map(|handle| format!("<ReceiptHandle>{handle}</ReceiptHandle>"))
        .collect();
    let list = format!("<ReceiptHandles>{list}</ReceiptHandles>");
    let partly = world.mns(&token, "DELETE", &messages, &list).await;
    assert_eq!(partly.status, StatusCode::NOT_FOUND);
    assert_eq!(between(&partly.text(), "ReceiptHandle"), [*others[0]]);
    assert_eq!(between(&partly.text(), "ErrorCode"), ["MessageNotExist"]);
    // Thirty seconds later the four that nobody deleted are there again, and the one of the PUT is not.
    world.clock.advance_ms(30_000);
    let again = world.mns(&token, "GET", &batch, "").await.text();
    assert_eq!(between(&again, "DequeueCount"), ["2"; 4]);
    let late = format!(
        "{messages}?ReceiptHandle={}",
        between(&rest, "ReceiptHandle")[0]
    );
    assert_eq!(world.mns(&token, "DELETE", &late, "").await.status, 404);
    let bad = format!("{messages}?ReceiptHandle=what");
    let bad = world.mns(&token, "DELETE", &bad, "").await;
    assert!(bad.text().contains("ReceiptHandleError") && bad.status == 400);
    for wrong in ["?numOfMessages=17", "?numOfMessages=0", "?waitseconds=31"] {
        let got = world
            .mns(&token, "GET", &format!("{messages}{wrong}"), "")
            .await;
        assert_eq!((got.status.as_u16(), wrong), (400, wrong));
    }
    let many = "<ReceiptHandle>1-YQ==</ReceiptHandle>".repeat(17);
    let got = world.mns(&token, "DELETE", &messages, &many).await;
    assert!(got.text().contains("InvalidArgument"), "{}", got.text());
}

#[tokio::test]
async fn a_long_poll_ends_when_a_message_comes() {
    let world = queue_world().await;
    let token = world.token("n1").await;
    let target = format!("/queues/{}/messages?waitseconds=20", world.queue());
    let begun = std::time::Instant::now();
    let (got, ()) = tokio::join!(world.mns(&token, "GET", &target, ""), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.send(&token, 1).await;
    });
    assert_eq!(got.status, StatusCode::OK);
    assert!(got.text().contains("{&quot;n&quot;:0}"), "{}", got.text());
    assert!(begun.elapsed() < Duration::from_secs(10));
    let short = format!("/queues/{}/messages?waitseconds=1", world.queue());
    let begun = std::time::Instant::now();
    assert_eq!(world.mns(&token, "GET", &short, "").await.status, 404);
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn every_habit_of_signing_is_right_and_nothing_else_is() {
    let world = queue_world().await;
    let token = world.token("n1").await;
    world.send(&token, 1).await;
    let messages = format!("/queues/{}/messages", world.queue());
    let peek = format!("{messages}?peekonly=true&numOfMessages=16");
    // Java signs a Content-Type on a GET, Go another one and the MD5 of nothing, as hexadecimal text in base64.
    let nothing = STANDARD.encode(hex::encode(Md5::digest(b"")));
    let raw = STANDARD.encode(Md5::digest(b""));
    for (mime, md5) in [
        ("", ""),
        ("text/xml;charset=UTF-8", ""),
        ("application/xml", nothing.as_str()),
        ("application/xml", raw.as_str()),
    ] {
        let got = world
            .mns_as(&token, "GET", &peek, "", mime, md5, |_| ())
            .await;
        assert_eq!(got.status, StatusCode::OK, "{mime} {md5} {}", got.text());
        assert!(
            !got.text().contains("ReceiptHandle"),
            "a peek has no handle"
        );
    }
    // Go escapes the handle and signs it so.
    let got = world.mns(&token, "GET", &messages, "").await.text();
    let handle = sign::pop_encoded(between(&got, "ReceiptHandle")[0]);
    let escaped = format!("{messages}?ReceiptHandle={handle}");
    assert_eq!(world.mns(&token, "DELETE", &escaped, "").await.status, 204);

    let refused = async |spoil: fn(&mut Vec<(String, String)>)| {
        let got = world.mns_as(&token, "GET", &peek, "", "", "", spoil).await;
        let code = between(&got.text(), "Code")
            .first()
            .map(|c| (*c).to_owned());
        (got.status.as_u16(), code.unwrap_or_default())
    };
    fn set(headers: &mut Vec<(String, String)>, name: &str, value: &str) {
        headers.retain(|(header, _)| header != name);
        if !value.is_empty() {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    let case = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(
        refused(|h| set(h, "Authorization", "")).await,
        case(400, "MissingAuthorizationHeader")
    );
    assert_eq!(
        refused(|h| set(h, "Authorization", "AWS a:b")).await,
        case(400, "InvalidAuthorizationHeader")
    );
    assert_eq!(
        refused(|h| set(h, "Date", "")).await,
        case(400, "MissingDateHeader")
    );
    assert_eq!(
        refused(|h| set(h, "Date", "yesterday")).await,
        case(400, "InvalidDateHeader")
    );
    assert_eq!(
        refused(|h| set(h, "Date", "Fri, 05 Apr 2024 20:50:00 GMT")).await,
        case(408, "TimeExpired")
    );
    assert_eq!(
        refused(|h| set(h, "Date", "Fri, 05 Apr 2024 19:50:01 GMT")).await,
        case(403, "SignatureDoesNotMatch")
    );
    assert_eq!(
        refused(|h| set(h, "x-mns-version", "2015-06-07")).await,
        case(403, "SignatureDoesNotMatch")
    );
    assert_eq!(
        refused(|h| set(h, "security-token", "CAIS")).await,
        case(403, "AccessDenied")
    );
    let other = messages.replace("VoiceRecordReport", "ArtcCdrReport");
    let got = world.mns(&token, "GET", &other, "").await;
    assert!(got.text().contains("AccessDenied") && got.status == 403);
    let nowhere = world
        .mns(&token, "GET", "/queues/nowhere/messages", "")
        .await;
    assert!(nowhere.text().contains("QueueNotExist") && nowhere.status == 404);
    // A right signature over another body.
    let body = "<Message><MessageBody>a</MessageBody></Message>";
    let md5 = STANDARD.encode(Md5::digest(b"another"));
    let got = world
        .mns_as(&token, "POST", &messages, body, "text/xml", &md5, |_| ())
        .await;
    assert!(got.text().contains("InvalidDegist"), "{}", got.text());
    for malformed in ["<Message><MessageBody>a</Message>", "<!DOCTYPE a><a/>"] {
        let got = world.mns(&token, "POST", &messages, malformed).await;
        assert!(got.text().contains("MalformedXML"), "{}", got.text());
    }
    // Half an hour later the token is over.
    world.clock.advance_ms(1_801_000);
    let late = |h: &mut Vec<(String, String)>| h.retain(|_| true);
    let got = world.mns_as(&token, "GET", &peek, "", "", "", late).await;
    assert_eq!(
        got.status,
        StatusCode::REQUEST_TIMEOUT,
        "our date is old too"
    );
}

#[tokio::test]
async fn a_request_line_with_scheme_and_host_is_held_against_its_target() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = queue_world().await;
    let token = world.token("n1").await;
    world.send(&token, 1).await;
    let target = format!("/queues/{}/messages?numOfMessages=16", world.queue());
    let own = [("x-mns-version".to_owned(), "2015-06-06".to_owned())];
    let signature = sign::mns(&token.secret, ["GET", "", "", DATE], &own, &target);
    let mut line = tokio::net::TcpStream::connect(world.vendor.addr())
        .await
        .unwrap();
    let head = format!(
        "GET http://{}{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nDate: {DATE}\r\nx-mns-version: 2015-06-06\r\n\
         security-token: {}\r\nAuthorization: MNS {}:{signature}\r\n\r\n",
        world.vendor.addr(),
        token.security,
        token.id
    );
    line.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    line.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn the_gateway_refuses_what_the_real_one_refuses() {
    let world = queue_world().await;
    let asked = |nonce: &'static str| {
        vec![
            ("Action", "QueryTokenForMnsQueue"),
            ("MessageType", "VoiceRecordReport"),
            ("SignatureNonce", nonce),
        ]
    };
    let code = |got: &Got| {
        let code = got.json()["Code"].as_str().unwrap().to_owned();
        (got.status.as_u16(), code)
    };
    let case = |status: u16, code: &str| (status, code.to_owned());
    let fine = world.gateway(&asked("a"), |_| ()).await;
    assert_eq!(code(&fine), case(200, "OK"));
    let expires = &fine.json()["MessageTokenDTO"]["ExpireTime"];
    assert_eq!(expires, "2024-04-06 04:20:00", "of UTC+8");
    let again = world.gateway(&asked("a"), |_| ()).await;
    assert_eq!(code(&again), case(400, "SignatureNonceUsed"));
    let wrong = world.gateway(&asked("b"), |s| s.push('x')).await;
    assert_eq!(code(&wrong), case(400, "SignatureDoesNotMatch"));
    assert!(wrong.text().contains("server string to sign is:POST&%2F&"));
    let with = |name: &'static str, value: &'static str| {
        let mut fields = asked(name);
        fields.push((name, value));
        fields
    };
    for (fields, expected) in [
        (
            with("Timestamp", "2024-04-05T20:50:00Z"),
            case(400, "InvalidTimeStamp.Expired"),
        ),
        (
            with("Timestamp", "now"),
            case(400, "InvalidTimeStamp.Format"),
        ),
        (
            with("AccessKeyId", "LTAIx"),
            case(404, "InvalidAccessKeyId.NotFound"),
        ),
        (with("Version", "2019-10-15"), case(404, "InvalidVersion")),
        (
            with("SignatureMethod", "HMAC-MD5"),
            case(400, "IncompleteSignature"),
        ),
        (
            vec![("Action", "DeleteEverything"), ("SignatureNonce", "c")],
            case(404, "InvalidAction.NotFound"),
        ),
        (
            vec![("Action", "QueryTokenForMnsQueue"), ("SignatureNonce", "d")],
            case(200, "isv.INVALID_PARAMETERS"),
        ),
        (
            vec![
                ("Action", "QueryRecordFileDownloadUrl"),
                ("SignatureNonce", "e"),
                ("CallTime", "1709611441000"),
            ],
            case(400, "InvalidParameter.date"),
        ),
    ] {
        let got = world.gateway(&fields, |_| ()).await;
        assert_eq!(code(&got), expected, "{fields:?}");
    }
}

#[tokio::test]
async fn a_protected_recording_is_there_a_quarter_of_an_hour_after_its_call() {
    let world = played(VendorKind::Aliyun, |options| {
        options.profile = Profile::Protection;
        options.speed = 1e5;
        options.calls = 3;
        options.announce = false;
    })
    .await;
    let line = world.line(0);
    let pool = world.vendor.0.house.call(&line.provider_call_id).unwrap();
    assert_eq!(pool.audio.mime, "audio/mpeg");
    let started = text::shanghai(pool.started_ms);
    let asked = |nonce: &'static str, time: &str, pool_key: &str| {
        vec![
            ("Action", "QueryRecordFileDownloadUrl".to_owned()),
            ("SignatureNonce", nonce.to_owned()),
            ("CallId", line.provider_call_id.clone()),
            ("CallTime", time.to_owned()),
            ("PoolKey", pool_key.to_owned()),
        ]
    };
    let ask_for = async |fields: Vec<(&'static str, String)>| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        world.gateway(&fields, |_| ()).await
    };
    // The pool's key is told by the messages alone; a product's name serves as well.
    let by_product = |nonce| {
        let mut fields = asked(nonce, &started, "");
        fields.push(("ProductType", "AXB_170".to_owned()));
        fields
    };
    let early = ask_for(by_product("a")).await;
    assert_eq!(
        (early.status.as_u16(), &early.json()["Code"]),
        (400, &Value::from("100008"))
    );
    world.clock.advance_ms(20);
    let ready = ask_for(by_product("b")).await.json();
    let url = ready["DownloadUrl"].as_str().unwrap();
    assert_is(&line, &get(url, &[]).await);
    let other = ask_for(asked("c", &started, "FC0")).await.json();
    assert_eq!(other["Code"], "isv.INVALID_PARAMETERS");
    let mut wrong = by_product("d");
    wrong[3].1 = "2001-01-01 00:00:00".to_owned();
    assert_eq!(ask_for(wrong).await.json()["Code"], "100008");
    // Two hours are 72 ms here, rounded up to a second.
    world.clock.advance_ms(1_100);
    assert_eq!(get(url, &[]).await.status, StatusCode::FORBIDDEN);
}
